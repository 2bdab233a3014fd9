"""Means over faces and differences between models and conditions, with intervals and corrections.

What a single map yields is in `fcx.statistics.region_mass`, the CCC in `fcx.statistics.agreement`. One draw of
the bootstrap serves every model, condition, method and region, so that differences are paired; subjects are drawn,
not samples, where subjects are known.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from fcx.core.checks import choose
from fcx.core.contract import check, match
from fcx.core.errors import ContractError, InputError
from fcx.statistics.agreement import moments, scope_parts
from fcx.statistics.bootstrap import RATIOS, interval, mean_draws
from fcx.statistics.concordance import PARTS
from fcx.statistics.corrections import corrected
from fcx.statistics.map_scores import QUANTITIES
from fcx.statistics.region_mass import sample_statistics

AGREEMENT = [*PARTS, "within_ccc", "within_pearson", *(f"expression_{part}" for part in PARTS)]
KEYS = ("model", "condition", "method")


def compare(results, faces, a: Mapping, b: Mapping, *, quantity: str = "ccc",
            draws: int = 20_000, seed: int = 0) -> xr.Dataset:  # fmt: skip
    """Return the difference a - b between two models, conditions or methods, paired, with interval and p-values.

    `a` and `b` name what is compared by the same keys (`model`, `condition`, `method`), such as
    {"model": "x", "condition": "masked"}; the other dimensions stay, and each of their cells is a test.
    `quantity` is a part of the CCC (`ccc`, `within_ccc`, `expression_ccc`, `pearson`, ...) or one of
    `QUANTITIES`, by region. `results` may be the Dataset that `region_statistics` or `sample_statistics`
    returned, which saves reading the maps again. Only samples count that have a value on both sides.

    Variables: estimate_a, estimate_b, difference, low, high (95 % percentile interval), p (two-sided: twice
    the smaller share of draws on either side of 0, at least 2 / (draws + 1)), p_holm, over every test of the
    table with the same method, and n. The attribute `family` counts these tests: no p_holm can be smaller
    than family * 2 / (draws + 1).

    Raises: UnknownNameError for a key, name or quantity that does not exist; InputError where the keys of
    `a` and `b` differ; ContractError where results and faces do not match.
    Source: Davison and Hinkley 1997, sections 4.2.5 and 5.3; Holm, Scandinavian Journal of Statistics 6, 1979.

    >>> compare(results, faces, {"model": "x"}, {"model": "y"}, quantity="ccc")["difference"]  # doctest: +SKIP
    """
    drawn, n = _cells(results, faces, [dict(a), dict(b)], quantity, draws, seed)
    table = corrected(_difference(drawn.isel(cell=0), drawn.isel(cell=1)).assign(n=n))
    return table.assign_attrs(a=dict(a), b=dict(b), quantity=quantity, draws=draws, seed=seed)


def compare_all(results, faces, *, quantity: str = "ccc", draws: int = 20_000, seed: int = 0) -> xr.Dataset:
    """Return `compare` for all pairs of models within a condition and of conditions within a model, as one table.

    Dimension `comparison`, with coordinates model_a, condition_a, model_b, condition_b; a is the later of the
    two, so that differences are masked - plain. p_holm corrects over the whole table, for each method apart.
    In each pair the samples count that have a value on both sides: n (comparison, ...).

    Raises: InputError where there is nothing to compare; else as in `compare`.
    """
    names = [(m, c) for m in _names(results, "model") for c in _names(results, "condition")]
    pairs = [
        (i, j) for j, b in enumerate(names) for i, a in enumerate(names) if i > j and (a[0] == b[0]) != (a[1] == b[1])
    ]
    if not pairs:
        raise InputError("there is one model and one condition: nothing to compare; give at least two of either")
    if quantity in QUANTITIES:
        results = _table(results, faces, quantity)
    # Pair by pair: an empty map of one model must not cost another model's comparison that face.
    rows = xr.concat([_pair(results, faces, names[i], names[j], quantity, draws, seed) for i, j in pairs], "comparison")
    for side, end in enumerate("ab"):
        for key, dim in enumerate(("model", "condition")):
            rows = rows.assign_coords({f"{dim}_{end}": ("comparison", [names[pair[side]][key] for pair in pairs])})
    return corrected(rows).assign_attrs(quantity=quantity, draws=draws, seed=seed)


def _table(results, faces, quantity: str) -> xr.Dataset:
    """Return statistics of single maps: those given, or those of the maps of results."""
    return results if quantity in results and "prediction" not in results else sample_statistics(results, faces)


def _pair(results, faces, a: tuple, b: tuple, quantity: str, draws: int, seed: int) -> xr.Dataset:
    cells = [{"model": model, "condition": condition} for model, condition in (a, b)]
    drawn, n = _cells(results, faces, cells, quantity, draws, seed)
    return _difference(drawn.isel(cell=0), drawn.isel(cell=1)).assign(n=n)


def _names(results, dim: str) -> list[str]:
    if dim not in results.indexes:
        raise ContractError(
            f"results have no dimension {dim!r} with names: select with lists, which keep it, not with single names"
        )
    return [str(name) for name in results[dim].values]


def _cells(results, faces, cells: list[dict], quantity: str, draws: int, seed: int) -> tuple:
    """Return the draws of `quantity` (draw, cell, ...) and the number of samples that count in every cell."""
    choose(quantity, [*AGREEMENT, *QUANTITIES], "quantity")
    regional = quantity in QUANTITIES
    if {tuple(sorted(cell)) for cell in cells} != {tuple(sorted(cells[0]))} or not cells[0]:
        raise InputError(
            f"a has the keys {sorted(cells[0])} and b {sorted(cells[1])}: give both the same, at least one"
        )
    for cell in cells:
        for key, name in cell.items():
            choose(key, KEYS if regional else KEYS[:2], "key of a comparison")
            choose(name, _names(results, key), key)
    if not regional:
        check(results, "results")
        check(faces, "faces")
        chosen = xr.concat([results["prediction"].sel(cell, drop=True) for cell in cells], "cell")
        sums = moments(chosen.assign_attrs(results.attrs), faces, draws=draws, seed=seed)
        scope = next((s for s in ("expression_", "within_") if quantity.startswith(s)), "")
        made = scope_parts(sums, scope)[quantity.removeprefix(scope)].transpose("draw", "cell", ...)
        counted = sums["n"].isel(draw=0).astype(int)
        counted = counted.sel(expression=counted["expression"] != "") if scope else counted
        return made, counted if scope == "expression_" else counted.sum("expression")
    needed = {key: [n for n in results[key].values if n in {cell[key] for cell in cells}] for key in cells[0]}
    results = _table(results.sel(needed), faces, quantity)
    match(results, faces)
    base = "share" if quantity in RATIOS else quantity
    values = xr.concat([results[base].sel(cell, drop=True) for cell in cells], "cell")
    table, valid = xr.Dataset({base: values, "area": results["area"]}), values.notnull().all("cell")
    return mean_draws(table, quantity, valid, draws, seed).transpose("draw", "cell", ...), valid.sum("sample")


def _difference(a: xr.DataArray, b: xr.DataArray) -> xr.Dataset:
    """Return estimates, interval and p-value of a - b from their draws, of which the first are the data."""
    with np.errstate(invalid="ignore"):
        apart = (a - b).drop_vars("cell", errors="ignore")
    drawn = apart.isel(draw=slice(1, None))
    low, high = interval(drawn.values)
    count = drawn.notnull().sum("draw")
    least = np.minimum((drawn <= 0).sum("draw"), (drawn >= 0).sum("draw"))
    p = np.minimum(2 * (least + 1) / (count + 1), 1).where((count > 0) & apart.isel(draw=0).notnull())
    made = {"estimate_a": a.isel(draw=0), "estimate_b": b.isel(draw=0), "difference": apart.isel(draw=0), "p": p}
    return xr.Dataset(made).assign(low=(drawn.dims[1:], low), high=(drawn.dims[1:], high))
