"""What the paper claims, asked of networks that were trained anew: each claim is one function with one decorator.

    @claim("e")
    def masks_cost_less_valence(ask):
        '''On masks the plain network loses less of valence than of arousal.'''
        return [ask("what is measured", {("plain_scratch", "masked"): 1, ...}, above=0)]

`ask` returns a row for each target: the number, its interval over faces and seeds, and what it says of the claim. The
margins were fixed before any network was trained. Barros and Sciutti, "I Only Have Eyes for You", 2021, sections 4, 5.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import pandas as pd
import xarray as xr

from fcx.core.contract import CONDITIONS
from fcx.core.errors import InputError
from fcx.studies.contrasts import Cell, contrast

PLAIN, MASKED = CONDITIONS
HOLDS, FAILS, OPEN, UNASKED = "holds", "does not hold", "undecided", "not asked"
CLAIMS: dict[str, Callable] = {}


def claim(name: str) -> Callable:
    """Register the function below, whose first line of documentation is the statement, as a claim."""

    def register(function: Callable) -> Callable:
        CLAIMS[name] = function
        return function

    return register


@claim("a")
def masks_blind_the_plain_network(ask) -> list[pd.DataFrame]:
    """The plain network's CCC on masked faces is lower than on plain faces by more than .10."""
    lost = {("plain_scratch", PLAIN): 1, ("plain_scratch", MASKED): -1}
    return [ask("CCC lost from plain to masked faces", lost, above=0.10)]


@claim("b")
def masked_training_carries_over(ask) -> list[pd.DataFrame]:
    """From masked to plain faces the masked network loses less than half of what the plain one loses the other way."""
    spared = {("plain_scratch", PLAIN): 0.5, ("plain_scratch", MASKED): -0.5,
              ("masked_scratch", MASKED): -1, ("masked_scratch", PLAIN): 1}  # fmt: skip
    return [ask("half of what the plain network loses, less what the masked one loses", spared, above=0)]


@claim("c")
def all_layers_are_best_on_masks(ask) -> list[pd.DataFrame]:
    """On masked faces tuning all layers exceeds tuning the last convolution, and training on masks from scratch."""
    rows = []
    for family, words in (("masked_last_conv", "the last convolution"), ("masked_scratch", "masked from scratch")):
        gained = {("masked_all_layers", MASKED): 1, (family, MASKED): -1}
        rows.append(ask(f"CCC of all layers less that of {words}", gained, above=0))
    return rows


@claim("d")
def tuning_forgets_alike(ask) -> list[pd.DataFrame]:
    """On plain faces tuning the last convolution and tuning all layers differ by less than .05."""
    apart = {("masked_last_conv", PLAIN): 1, ("masked_all_layers", PLAIN): -1}
    return [ask("CCC of last convolution less that of all layers", apart, within=0.05)]


def claim_table(drawn: xr.DataArray) -> pd.DataFrame:
    """Return what the networks say of every claim, a row for each number and target.

    `drawn` is from `fcx.studies.drawn_scores`. Columns: claim, statement, measured, target, estimate, low, high,
    margin, verdict, and what `contrast` says of the interval. A claim about families that are not there is "not asked".
    """
    rows = []
    for name, function in CLAIMS.items():
        about = {"claim": name, "statement": inspect.getdoc(function).split("\n")[0]}
        try:
            answers = function(lambda *given, **margin: _asked(drawn, *given, **margin))
        except InputError:
            answers = [pd.DataFrame({"verdict": [UNASKED]})]
        rows += [answer.assign(**about) for answer in answers]
    table = pd.concat(rows, ignore_index=True)
    first = ["claim", "statement", "measured", "target", "estimate", "low", "high", "margin", "verdict"]
    return table[[name for name in first if name in table] + [name for name in table if name not in first]]


def _asked(drawn: xr.DataArray, measured: str, weights: Mapping[Cell, float], *, above: float | None = None,
           within: float | None = None) -> pd.DataFrame:  # fmt: skip
    """Return a contrast as rows, one a target, with a verdict: is it above a margin, or within it on both sides?"""
    rows = contrast(drawn, weights).drop_vars("p").to_dataframe().reset_index()
    ends = zip(rows["low"], rows["high"], strict=True)
    if within is None:
        verdicts = [HOLDS if low > above else FAILS if high <= above else OPEN for low, high in ends]
        margin = f"above {above:g}"
    else:
        verdicts = [HOLDS if -within < low and high < within else FAILS if low >= within or high <= -within else OPEN
                    for low, high in ends]  # fmt: skip
        margin = f"within ±{within:g}"
    return rows.assign(measured=measured, margin=margin, verdict=verdicts)


def overall(table: pd.DataFrame) -> dict[str, str]:
    """Return claim -> verdict: it holds where all of its numbers say so, and does not where one says so.

    >>> overall(pd.DataFrame({"claim": ["a", "a"], "verdict": ["holds", "undecided"]}))
    {'a': 'undecided'}
    """
    verdicts = {}
    for name, part in table.groupby("claim", sort=False):
        said = set(part["verdict"])
        verdicts[name] = said.pop() if len(said) == 1 else FAILS if FAILS in said else OPEN
    return verdicts
