"""Means over faces and differences between models and conditions, with intervals and corrections.

What a single map yields is in `fcx.statistics.region_mass`, the CCC in `fcx.statistics.agreement`. One draw of
the bootstrap serves every model, condition, method and region, so that differences are paired; subjects are drawn,
not samples, where subjects are known.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.arguments import Count, Names, Seed, checked
from fcx.core.checks import choose
from fcx.core.contract import Faces, ResultsOrStatistics, check, match, ordered
from fcx.core.errors import ContractError, InputError
from fcx.core.provenance import flat_attrs
from fcx.statistics.agreement import moments, scope_parts, scope_sizes
from fcx.statistics.bootstrap import INTERVAL, estimates, p_values
from fcx.statistics.concordance import PARTS
from fcx.statistics.corrections import corrected
from fcx.statistics.map_scores import QUANTITIES
from fcx.statistics.region_mass import RATIOS, region_draws, sample_statistics

SAMPLE_PARTS = (*PARTS, "sign_agreement")
AGREEMENT = [*SAMPLE_PARTS, "within_ccc", "within_pearson", *(f"expression_{part}" for part in SAMPLE_PARTS)]
KEYS = ("model", "condition", "method")


@checked
def compare(results: ResultsOrStatistics, faces: Faces, a: Names, b: Names, *, quantity: str = "ccc",
            draws: Count = 20_000, seed: Seed = 0) -> xr.Dataset:  # fmt: skip
    """Return the difference a - b between two models, conditions or methods, paired, with interval and p-values.

    `a` and `b` name what is compared by the same keys (`model`, `condition`, `method`), such as
    {"model": "x", "condition": "masked"}; the other dimensions stay, and each of their cells is a test.
    `quantity` is a part of the CCC (`ccc`, `within_ccc`, `expression_ccc`, `pearson`, ...) or one of
    `QUANTITIES`, by region. `results` may be the Dataset that `region_statistics` or `sample_statistics`
    returned, which saves reading the maps again. Only samples count that have a value on both sides.

    Variables: estimate_a, estimate_b, difference, low, high (95 % interval, `fcx.statistics.bootstrap.interval`), p
    (two-sided, below .05 where the interval leaves out 0, `fcx.statistics.bootstrap.p_values`), p_holm, over every
    test of the table with the same method, and n. The attribute `tests` counts these.

    Raises: UnknownNameError for a key, name or quantity that does not exist; InputError where the keys of
    `a` and `b` differ; ContractError where results and faces do not match.
    Source: Davison and Hinkley 1997, section 5.3; Holm, Scandinavian Journal of Statistics 6, 1979.

    >>> compare(results, faces, {"model": "x"}, {"model": "y"}, quantity="ccc")["difference"]  # doctest: +SKIP
    """
    table = corrected(_difference(results, faces, dict(a), dict(b), quantity, draws, seed))
    attrs = {"a": dict(a), "b": dict(b), "quantity": quantity, "draws": draws, "seed": seed, "interval": INTERVAL}
    return table.assign_attrs(flat_attrs(attrs))


@checked
def compare_all(
    results: ResultsOrStatistics, faces: Faces, *, quantity: str = "ccc", draws: Count = 20_000, seed: Seed = 0
) -> xr.Dataset:
    """Return `compare` for all pairs of models within a condition and of conditions within a model, as one table.

    Dimension `comparison`, with coordinates model_a, condition_a, model_b, condition_b; a is the later of the
    two, so that differences are masked - plain. p_holm corrects over the whole table, for each method apart.
    In each pair the samples count that have a value on both sides: n (comparison, ...).

    Raises: InputError where there is nothing to compare; else as in `compare`.
    """
    dims = ("model", "condition")
    cells = [{"model": m, "condition": c} for m in names_of(results, "model") for c in names_of(results, "condition")]
    pairs = [(a, b) for j, b in enumerate(cells) for a in cells[j + 1 :] if sum(a[dim] == b[dim] for dim in dims) == 1]
    if not pairs:
        raise InputError("there is one model and one condition: nothing to compare; give at least two of either")
    if quantity in QUANTITIES:
        results = statistics_table(results, faces, quantity)
    # Pair by pair: an empty map of one model must not cost another model's comparison that face.
    rows = xr.concat([_difference(results, faces, *pair, quantity, draws, seed) for pair in pairs], "comparison")
    for side, end in enumerate("ab"):
        for dim in dims:
            rows = rows.assign_coords({f"{dim}_{end}": ("comparison", [pair[side][dim] for pair in pairs])})
    return corrected(rows).assign_attrs(quantity=quantity, draws=draws, seed=seed, interval=INTERVAL)


def statistics_table(results, faces, quantity: str) -> xr.Dataset:
    """Return statistics of single maps: those given, or those of the maps of results."""
    return results if quantity in results and "prediction" not in results else sample_statistics(results, faces)


def names_of(results, dim: str) -> list[str]:
    """Return the names along a dimension.

    Raises: ContractError where there is no such dimension.
    """
    if dim not in results.indexes:
        raise ContractError(
            f"results have no dimension {dim!r} with names: select with lists, which keep it, not with single names"
        )
    return [str(name) for name in results[dim].values]


def cell_draws(results, faces, cells: list[dict], quantity: str, draws: int, seed: int) -> tuple:
    """Return draws of `quantity` (draw, cell, ...), and how many samples and clusters count in every cell."""
    choose(quantity, [*AGREEMENT, *QUANTITIES], "quantity")
    regional = quantity in QUANTITIES
    if {tuple(sorted(cell)) for cell in cells} != {tuple(sorted(cells[0]))} or not cells[0]:
        raise InputError(
            f"a has the keys {sorted(cells[0])} and b {sorted(cells[1])}: give both the same, at least one"
        )
    for cell in cells:
        for key, name in cell.items():
            choose(key, KEYS if regional else KEYS[:2], "key of a comparison")
            choose(name, names_of(results, key), key)
    if not regional:
        check(results, "results")
        check(faces, "faces")
        chosen = xr.concat([results["prediction"].sel(cell, drop=True) for cell in cells], "cell")
        sums = moments(chosen.assign_attrs(results.attrs), faces, draws=draws, seed=seed)
        scope = next((s for s in ("expression_", "within_") if quantity.startswith(s)), "")
        return scope_parts(sums, scope)[quantity.removeprefix(scope)], *scope_sizes(sums, scope)
    needed = {key: [n for n in results[key].values if n in {cell[key] for cell in cells}] for key in cells[0]}
    results = statistics_table(results.sel(needed), faces, quantity)
    match(results, faces)
    base = "share" if quantity in RATIOS else quantity
    each = results[base].reset_coords(drop=True)  # what is known of a model is no name of a cell
    values = xr.concat([each.sel(cell, drop=True) for cell in cells], "cell")
    table, valid = xr.Dataset({base: values, "area": results["area"]}), values.notnull().all("cell")
    drawn, count = region_draws(table, quantity, valid, draws, seed)
    return drawn, valid.sum("sample"), count.isel(cell=0)


def _difference(results, faces, a: dict, b: dict, quantity: str, draws: int, seed: int) -> xr.Dataset:
    """Return estimates, interval, p-value and n of the difference between two cells."""
    drawn, n, count = cell_draws(results, faces, [a, b], quantity, draws, seed)
    one, other = (ordered(drawn).isel(cell=cell) for cell in (0, 1))
    with np.errstate(invalid="ignore"):
        made = estimates(apart := one - other, count, "difference", "low", "high")
    sizes = count.broadcast_like(made["low"]).transpose(*made["low"].dims)
    made["p"] = made["low"].copy(data=p_values(apart.values, sizes))
    return xr.Dataset({"estimate_a": one.isel(draw=0), "estimate_b": other.isel(draw=0), **made, "n": n})
