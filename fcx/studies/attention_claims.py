"""What the paper claims of where its networks look, asked of families of networks by every method that is given.

    @attention_claim("h")
    def a_mask_draws_from_the_nose(ask):
        '''On masked faces the plain network's share of the nose is at least 1.25 times that on plain faces.'''
        return [ask("nose", ("plain_scratch", MASKED), over=("plain_scratch", PLAIN))]

`ask` returns a row for each method and target: how many times the share of absolute attribution that the one cell
(family, condition) gives to the regions the other gives to them, with its interval over faces and seeds. The margin
was fixed before any network was asked. Barros and Sciutti, "I Only Have Eyes for You", 2021, section 5.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pandas as pd
import xarray as xr

from fcx.core.contract import CONDITIONS
from fcx.core.errors import InputError
from fcx.statistics.share_ratios import share_ratio
from fcx.studies.claims import FAILS, HOLDS, OPEN, UNASKED, overall
from fcx.studies.contrasts import Cell
from fcx.studies.training_plan import family_title

PLAIN, MASKED = CONDITIONS
TIMES = 1.25  # how many times the other's share, at least
DISPUTED = "depends on the method"
ATTENTION_CLAIMS: dict[str, Callable] = {}


def attention_claim(name: str) -> Callable:
    """Register the function below, whose first line of documentation is the statement, as a claim."""

    def register(function: Callable) -> Callable:
        ATTENTION_CLAIMS[name] = function
        return function

    return register


@attention_claim("e")
def the_plain_network_reads_the_mouth(ask) -> list[pd.DataFrame]:
    """On plain faces the plain network's share of mouth and jaw is at least 1.25 times that of masked scratch."""
    return [ask("mouth,jaw", ("plain_scratch", PLAIN), over=("masked_scratch", PLAIN))]


@attention_claim("f")
def last_conv_shifts_to_what_is_open(ask) -> list[pd.DataFrame]:
    """On masked faces last conv's share of eyes, brows, forehead and open cheeks is at least 1.25 times plain's."""
    return [ask("uncovered", ("masked_last_conv", MASKED), over=("plain_scratch", MASKED))]


@attention_claim("g")
def the_mask_becomes_a_feature(ask) -> list[pd.DataFrame]:
    """On masked faces the mask's share of masked scratch, and of all layers, is at least 1.25 times plain's."""
    tuned = ("masked_scratch", "masked_all_layers")
    return [ask("mask", (family, MASKED), over=("plain_scratch", MASKED)) for family in tuned]


def attention_claim_table(statistics: xr.Dataset, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return what families of networks say of every claim, a row for each number, method and target.

    `statistics` is what `fcx.statistics.share_ratios.share_ratio` takes. Columns: claim, statement, measured, method,
    target, estimate (how many times), low, high, margin, verdict, and what that function says of the interval. A claim
    about families or conditions that are not there is "not asked".
    """
    rows = []
    for name, function in ATTENTION_CLAIMS.items():
        about = {"claim": name, "statement": inspect.getdoc(function).split("\n")[0]}
        try:
            answers = function(lambda *given, **cell: _asked(statistics, draws, seed, *given, **cell))
        except InputError:
            answers = [pd.DataFrame({"verdict": [UNASKED]})]
        rows += [answer.assign(**about) for answer in answers]
    table = pd.concat(rows, ignore_index=True)
    first = ["claim", "statement", "measured", "method", "target", "estimate", "low", "high", "margin", "verdict"]
    return table.reindex(columns=[*first, *(name for name in table if name not in first)])


def _asked(statistics, draws: int, seed: int, regions: str, cell: Cell, *, over: Cell) -> pd.DataFrame:
    """Return the ratio of two cells as rows, one a method and target, with a verdict: is it at least the margin?"""
    rows = share_ratio(statistics, cell, over, regions, draws=draws, seed=seed)
    rows = rows.drop_vars("p").to_dataframe(dim_order=["method", "target"]).reset_index()
    ends = zip(rows["low"], rows["high"], strict=True)
    verdicts = [HOLDS if low >= TIMES else FAILS if high < TIMES else OPEN for low, high in ends]
    where = regions.replace(",", " and ").replace("uncovered", "eyes, brows, forehead and open cheeks")
    measured = f"share of {where}, {family_title(cell[0])} on {cell[1]} faces over {family_title(over[0])}"
    measured += "" if over[1] == cell[1] else f" on {over[1]} faces"
    return rows.assign(measured=measured, margin=f"at least {TIMES:g} times", verdict=verdicts)


def attention_verdicts(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return claim -> method -> verdict: it holds where all of its numbers say so, and does not where one says so."""
    verdicts: dict[str, dict[str, str]] = {}
    for name, part in table.groupby("claim", sort=False):
        of_method = part.dropna(subset="method").groupby("method", sort=False)
        verdicts[name] = {method: overall(rows)[name] for method, rows in of_method}
    return verdicts


def by_all_methods(verdicts: dict[str, str]) -> str:
    """Return the verdict of a claim that all methods share, or that methods contradict each other, or leave it open.

    >>> by_all_methods({"gradient": "holds", "lrp_gamma": "holds"}), by_all_methods({})
    ('holds', 'not asked')
    >>> by_all_methods({"gradient": "holds", "lrp_gamma": "does not hold"})
    'depends on the method'
    """
    said = set(verdicts.values()) or {UNASKED}
    if len(said) == 1:
        return said.pop()
    return DISPUTED if {HOLDS, FAILS} <= said else OPEN
