"""Sentences composed from the numbers of one run: "higher" and "lower" only where an interval leaves out 0."""

from __future__ import annotations

import numpy as np

from fcx.contract import usable
from fcx.figures.agreement import differences
from fcx.figures.style import plain_name
from fcx.figures.tables import Findings


def findings(faces, evaluation, comparisons, statistics, shifts, *, method: str) -> Findings:
    """Return what the numbers of this run say, a sentence a question.

    `evaluation` is from `fcx.evaluate`; `comparisons` from `compare_all` on the CCC; `statistics` from
    `region_statistics`; `shifts` from `compare_all` on enrichment. A difference is called lower or higher
    where its 95 % interval leaves out 0, else not clearly different; where Holm's correction over all tests
    of the table takes that back, the sentence says so.
    """
    said = [_counted(faces, evaluation)]
    for target in (str(t) for t in evaluation["target"].values):
        said.append(_masking(comparisons, target))
        said += _training(comparisons, target)
        said.append(_within(evaluation, target))
        said.append(_places(statistics, method, target))
        if "mask" in statistics["region"].values and "masked" in statistics["condition"].values:
            said += [_mask_share(statistics, method, target), _mask_shift(shifts, method, target)]
    return Findings([sentence for sentence in said if sentence])


def _counted(faces, evaluation) -> str:
    n = evaluation["n"].values
    used = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    return (
        f"{used} faces carry human ratings and are usable both plain and masked; agreement is measured on these "
        f"pairs. {int(usable(faces).sum())} of {faces.sizes['sample']} faces given can be used at all."
    )


def _masking(comparisons, target: str) -> str:
    """Say what the mask does to the CCC of each model."""
    rows = differences(comparisons, "condition")
    rows = rows[rows.target == target] if len(rows) else rows
    if not len(rows):
        return ""
    groups = _grouped((_verdict(r), f"{plain_name(r.model)} ({_numbers(r, 'to')})") for r in rows.itertuples())
    return f"{target.capitalize()}, from plain to masked faces: the CCC is {groups}."


def _training(comparisons, target: str) -> list[str]:
    """Say, for each condition, how every model differs from the first."""
    rows = differences(comparisons, "model")
    if not len(rows):
        return []
    first = rows.b.iloc[0]
    said = []
    for condition, part in rows[(rows.target == target) & (rows.b == first)].groupby("condition", sort=False):
        groups = _grouped((_verdict(r), f"{plain_name(r.a)} ({_numbers(r, 'against')})") for r in part.itertuples())
        said.append(f"{target.capitalize()}, {condition} faces: against {plain_name(first)}, the CCC is {groups}.")
    return said


def _within(evaluation, target: str) -> str:
    """Say how much agreement is left within expression."""
    whole, within, oracle = (evaluation[n].sel(target=target) for n in ("ccc", "within_ccc", "oracle_ccc"))
    if not np.isfinite(within).any() or not np.isfinite(oracle):
        return ""
    text = (
        f"{target.capitalize()}: within expression the CCC lies between {_range(within)}, over the whole set between "
        f"{_range(whole)}; an oracle that knows only the expression would reach {_two(oracle)}"
    )
    lower = ", so part of the whole-set agreement is agreement on the expression"
    return f"{text}{lower if (within < whole).all() else ''}."


def _places(statistics, method: str, target: str) -> str:
    """Say in which region of the face each model's attribution is densest, plain and masked."""
    density = statistics["density_mean"].sel({"method": method, "target": target})
    density = density.sel(region=[r for r in density["region"].values if r != "mask"])
    parts = []
    for model in density["model"].values:
        tops = [_densest(density.sel(model=model, condition=c)) for c in density["condition"].values]
        parts.append(f"{plain_name(model)}: {', '.join(tops)}")
    return f"{target.capitalize()}, {plain_name(method)}: attribution is densest in these regions. {'; '.join(parts)}."


def _densest(density) -> str:
    condition = density["condition"].item()
    if not np.isfinite(density).any():
        return f"{condition} nowhere (the maps are empty)"
    top = density.isel(region=int(np.nanargmax(density.values)))
    return f"{condition} {top['region'].item()} ({float(top):.1f} times its area)"


def _mask_share(statistics, method: str, target: str) -> str:
    """Say whether attribution on the mask is above the mask's share of the area."""
    worn = statistics.sel({"method": method, "target": target, "region": "mask", "condition": "masked"})
    parts = []
    for model in worn["model"].values:
        density, low, high = (float(worn[f"density_{end}"].sel(model=model)) for end in ("mean", "low", "high"))
        verdict = "more than" if low > 1 else "less than" if high < 1 else "not clearly other than"
        parts.append((verdict, f"{plain_name(model)} ({density:.2f} times [{low:.2f}, {high:.2f}])"))
    return (
        f"{target.capitalize()}, {plain_name(method)}: the share of attribution that falls on the mask, on masked faces, "
        f"against the mask's share of the area, is {_grouped(parts)}."
    )


def _mask_shift(shifts, method: str, target: str) -> str:
    """Say whether the mask draws more attribution than the same place does on the unmasked face."""
    where = {"method": method, "target": target, "region": "mask"}
    same = (shifts["model_a"] == shifts["model_b"]) & (shifts["condition_a"] == "masked")
    parts = []
    for number in np.flatnonzero(same & (shifts["condition_b"] == "plain")):
        row = shifts.isel(comparison=number).sel(where)
        verdict = "more than" if row["low"] > 0 else "less than" if row["high"] < 0 else "not clearly other than"
        times, low, high = (2 ** float(row[name]) for name in ("difference", "low", "high"))
        parts.append((verdict, f"{plain_name(row['model_a'].item())} ({times:.2f} times [{low:.2f}, {high:.2f}])"))
    start = (
        f"{target.capitalize()}, {plain_name(method)}: against the same place of the same faces without a mask, that"
    )
    return f"{start} share is {_grouped(parts)}." if parts else ""


def _grouped(parts) -> str:
    """Return (verdict, item) pairs as 'lower for a and b; higher for c'."""
    groups: dict[str, list[str]] = {}
    for verdict, item in parts:
        groups.setdefault(verdict, []).append(item)
    return "; ".join(f"{verdict} for {_listed(items)}" for verdict, items in groups.items())


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _verdict(row) -> str:
    return "higher" if row.low > 0 else "lower" if row.high < 0 else "not clearly different"


def _numbers(row, word: str) -> str:
    """Return '0.72 to 0.41, difference -0.31 [-0.35, -0.27]'; `row` is a - b, and b comes first for 'to'."""
    pair = (row.estimate_b, row.estimate_a) if word == "to" else (row.estimate_a, row.estimate_b)
    text = f"{_two(pair[0])} {word} {_two(pair[1])}, difference {row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
    lost = (row.low > 0 or row.high < 0) and not row.p_holm < 0.05
    return text + (f", lost on correction for all comparisons, p = {row.p_holm:.2g}" if lost else "")


def _range(values) -> str:
    return f"{_two(values.min())} and {_two(values.max())}"


def _two(value) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}"  # never -0.00
