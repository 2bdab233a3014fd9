"""Statements composed from the numbers of one run.

A difference is "higher" or "lower" only where its interval leaves out 0. What compares nothing (a share, a range)
is said as numbers with their intervals, without a verdict. Each statement says on how many faces it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fcx.core.contract import column, usable
from fcx.figures.agreement_charts import differences
from fcx.figures.tables import Finding, Findings
from fcx.figures.wording import TAKEN_BACK, how_many, listed, plain_name
from fcx.statistics.bootstrap import FEW, clusters


def comparison_findings(faces: xr.Dataset, evaluation: xr.Dataset, comparisons: xr.Dataset,
                        first: Sequence[str] = ()) -> Findings:  # fmt: skip
    """Return what the agreement with the labels is: statements, each with its numbers.

    `evaluation` is from `fcx.evaluate` and `comparisons` from `compare_all` on the CCC, for the targets that are
    rated. A difference is called lower or higher where its 95 % interval leaves out 0, else not clearly different;
    where Holm's correction over all tests of the table takes that back, the statement says so. `first` names
    families of which `evaluation` has one training of several.
    """
    findings = [_counted(faces, evaluation, first)]
    for target in evaluation["target"].values.tolist():
        findings += [*_masking(comparisons, target), *_training(comparisons, target), *_within(evaluation, target)]
    return Findings(findings)


def _counted(faces, evaluation, first) -> Finding:
    given = f"{int(usable(faces).sum())} of {faces.sizes['sample']} faces given can be used plain and masked"
    used = f"{how_many(evaluation['n'])} of them carry labels; agreement is measured on these pairs."
    if first:
        used += (f" Of {listed([plain_name(name) for name in first])} the first training is measured here; the "
                 "report 02_training has the mean of all, on masks of its own.")  # fmt: skip
    subjects = column(faces, "subject")[usable(faces)]
    if (people := len(set(clusters(subjects)))) < FEW:
        who = f"They are of {people} {'person' if people == 1 else 'people'}"
        if (subjects == "").all():
            who = "Who they are of is not known, so that each counts as a person"
        elif (subjects == "").any():
            who += ", where each face of somebody unknown counts as one"
        used += f" {who}; intervals from fewer than {FEW} people hold less often than they say."
    return Finding(f"{given}.", used)


def _masking(comparisons, target: str) -> list[Finding]:
    """Say what the mask does to the CCC of each model."""
    rows = differences(comparisons, "condition")
    if not len(rows):
        return []
    parts = [(_verdict(r), plain_name(r.model), _numbers(r, r.estimate_b, "to", r.estimate_a))
             for r in rows[rows.target == target].itertuples()]  # fmt: skip
    return [_finding(f"{_agreed(target, comparisons)}: from plain to masked faces the CCC is", parts)]


def _training(comparisons, target: str) -> list[Finding]:
    """Say, for each condition, how every model differs from the first."""
    rows = differences(comparisons, "model")
    if not len(rows):
        return []
    first = rows.b.iloc[0]
    findings = []
    for condition, part in rows[(rows.target == target) & (rows.b == first)].groupby("condition", sort=False):
        parts = [(_verdict(r), plain_name(r.a), _numbers(r, r.estimate_a, "against", r.estimate_b))
                 for r in part.itertuples()]  # fmt: skip
        start = f"{_agreed(target, comparisons)}: on {condition} faces, compared with {plain_name(first)}, the CCC is"
        findings.append(_finding(start, parts, "every other model"))
    return findings


def _within(evaluation, target: str) -> list[Finding]:
    """Say how much agreement there is within expression."""
    of_target = evaluation.sel(target=target)
    if not np.isfinite(of_target["within_ccc"]).any() or not np.isfinite(of_target["oracle_ccc"]):
        return []
    within, whole, oracle = (
        _range(*(of_target[f"{name}ccc{end}"] for end in ("", "_low", "_high"))) for name in ("within_", "", "oracle_")
    )
    return [Finding(
        f"{_agreed(target, evaluation)}: within expression the CCC lies {within}, over the whole set {whole}.",
        f"An oracle that knows only the expression would lie {oracle} over the whole set, and at 0 within.",
    )]  # fmt: skip


def _agreed(target: str, table) -> str:
    """Return 'Valence, 412 faces', from n of `evaluate` or `compare_all`."""
    return f"{target.capitalize()}, {how_many(table['n'].sel(target=target))} faces"


def _finding(start: str, parts, everyone: str = "every model") -> Finding:
    """Return a statement from (verdict, model, numbers)."""
    statement = _grouped([(verdict, model) for verdict, model, _ in parts], everyone)
    return Finding(f"{start} {statement}.", f"{'; '.join(f'{model}: {numbers}' for _, model, numbers in parts)}.")


def _grouped(parts, everyone: str = "every model") -> str:
    """Return (verdict, name) pairs as 'lower for a and b; higher for c', or 'lower for every model'."""
    groups: dict[str, list[str]] = {}
    for verdict, name in parts:
        groups.setdefault(verdict, []).append(name)
    if len(groups) == 1 < len(parts):
        return f"{parts[0][0]} for {everyone}"
    return "; ".join(f"{verdict} for {listed(names)}" for verdict, names in groups.items())


def _verdict(row) -> str:
    """Say the sign of a difference whose interval leaves out 0, and whether Holm's correction takes it back."""
    if not (row.low > 0 or row.high < 0):
        return "not clearly different"
    sign = "higher" if row.low > 0 else "lower"
    return sign if row.p_holm < 0.05 else f"{sign} ({TAKEN_BACK})"


def _numbers(row, first: float, word: str, second: float) -> str:
    """Return '0.72 to 0.41, difference -0.31 [-0.35, -0.27]'."""
    return f"{first:z.2f} {word} {second:z.2f}, difference {row.difference:+z.2f} [{row.low:+z.2f}, {row.high:+z.2f}]"


def _range(value, low, high, form: str = "z.2f") -> str:
    """Return 'between 0.04 [0.01, 0.06] and 0.24 [0.15, 0.32]', the lowest and the highest, or 'at' the only value."""
    value, low, high = (np.ravel(each) for each in (value, low, high))
    if not np.isfinite(value).any():
        return "nowhere"
    ends = dict.fromkeys((int(np.nanargmin(value)), int(np.nanargmax(value))))
    words = list(dict.fromkeys(f"{value[i]:{form}} [{low[i]:{form}}, {high[i]:{form}}]" for i in ends))
    return f"between {' and '.join(words)}" if len(words) > 1 else f"at {words[0]}"
