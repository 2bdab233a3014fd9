"""Means over faces and differences between models and conditions, with intervals and corrections.

What a single map yields is in `fcx.localisation`, the CCC in `fcx.evaluation`. One draw of the bootstrap
serves every model, condition, method and region, so that differences are paired; subjects are drawn,
not samples, where subjects are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from fcx.contract import ContractError, InputError, check, choose
from fcx.evaluation import PARTS, agreement, clusters, column, interval, match, moments, resample
from fcx.localisation import QUANTITIES, sample_statistics

RATIOS = ("density", "enrichment")
AGREEMENT = [*PARTS, "within_ccc", "within_pearson", *(f"expression_{part}" for part in PARTS)]
KEYS = ("model", "condition", "method")


def region_statistics(results, faces, *, draws: int = 2000, seed: int = 0) -> xr.Dataset:
    """Return region statistics of every map, and their means over faces with 95 % intervals.

    For each quantity of `QUANTITIES`: `<name>` (model, condition, method, target, sample, region), and
    `<name>_mean`, `<name>_low`, `<name>_high` (model, condition, method, target, region), percentile intervals
    of a bootstrap over subjects. The mean density is mean share over mean area share, and the mean enrichment
    its log2, in each draw: a mean of log2 values would be -inf as soon as one face has no mass in a region.
    n counts the maps that have a share.

    Raises: ContractError as in `sample_statistics`; InputError for draws or a seed that cannot be used.

    >>> region_statistics(results, faces)["enrichment_mean"].sel(region="mask")  # doctest: +SKIP
    """
    table = sample_statistics(results, faces)
    made = {"n": table["share"].notnull().sum("sample")}
    for name in QUANTITIES:
        if name == "enrichment":  # log2 keeps the order, and the ends of an interval are draws
            continue
        drawn = _mean_draws(table, name, table[name].notnull(), draws, seed)
        low, high = interval(drawn.values[1:])
        made[f"{name}_mean"] = drawn.isel(draw=0)
        made[f"{name}_low"], made[f"{name}_high"] = ((drawn.dims[1:], ends) for ends in (low, high))
    table = table.assign(made)
    with np.errstate(divide="ignore"):
        table = table.assign({f"enrichment_{end}": np.log2(table[f"density_{end}"]) for end in ("mean", "low", "high")})
    return table.assign_attrs(draws=draws, seed=seed, interval="95 % percentile bootstrap over subjects, paired")


def _mean_draws(table, quantity: str, valid, draws: int, seed: int) -> xr.DataArray:
    """Return means over the samples that are `valid`, (draw, ...): of the data first, then of each draw."""
    counts = valid.any([dim for dim in valid.dims if dim != "sample"]).values
    table, valid = table.isel(sample=counts), valid.isel(sample=counts)
    cluster = clusters(column(table, "subject"))
    ratio = quantity in RATIOS
    drawn = _means(table["share" if ratio else quantity].where(valid), cluster, draws, seed)
    if ratio:
        drawn = drawn / _means(table["area"].where(valid), cluster, draws, seed)
    with np.errstate(divide="ignore"):
        return np.log2(drawn) if quantity == "enrichment" else drawn


def _means(values: xr.DataArray, cluster, draws: int, seed: int) -> xr.DataArray:
    values = values.transpose("sample", ...)
    flat = values.values.reshape(len(cluster), math.prod(values.shape[1:]))  # (sample, feature)
    # Few columns differ in which samples they lack, so that the samples are counted once for each kind.
    kinds, kind = np.unique(np.isfinite(flat), axis=1, return_inverse=True)
    sums = resample(np.concatenate([np.nan_to_num(flat), kinds], axis=1), cluster, draws, seed)
    count = sums[:, flat.shape[1] :]
    means = sums[:, : flat.shape[1]] / np.where(count > 0, count, np.nan)[:, kind]
    coords = {name: values[name].values for name in values.dims[1:] if name in values.coords}
    return xr.DataArray(means.reshape(-1, *values.shape[1:]), coords, ("draw", *values.dims[1:]))


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
    table = _corrected(_difference(drawn.isel(cell=0), drawn.isel(cell=1)).assign(n=n))
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
    return _corrected(rows).assign_attrs(quantity=quantity, draws=draws, seed=seed)


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
        made = agreement(sums, scope)[quantity.removeprefix(scope)].transpose("draw", "cell", ...)
        counted = sums["n"].isel(draw=0).astype(int)
        counted = counted.sel(expression=counted["expression"] != "") if scope else counted
        return made, counted if scope == "expression_" else counted.sum("expression")
    needed = {key: [n for n in results[key].values if n in {cell[key] for cell in cells}] for key in cells[0]}
    results = _table(results.sel(needed), faces, quantity)
    match(results, faces)
    base = "share" if quantity in RATIOS else quantity
    values = xr.concat([results[base].sel(cell, drop=True) for cell in cells], "cell")
    table, valid = xr.Dataset({base: values, "area": results["area"]}), values.notnull().all("cell")
    return _mean_draws(table, quantity, valid, draws, seed).transpose("draw", "cell", ...), valid.sum("sample")


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


def _corrected(table: xr.Dataset) -> xr.Dataset:
    """Add p_holm, over all tests with the same method, and the size of that family."""
    p = table["p"].transpose("method", ...) if "method" in table["p"].dims else table["p"].expand_dims("method")
    corrected = p.copy(data=np.stack([holm(values) for values in p.values]))
    corrected = corrected if "method" in table["p"].dims else corrected.isel(method=0)
    family = int(p.isel(method=0).notnull().sum())
    return table.assign(p_holm=corrected.transpose(*table["p"].dims)).assign_attrs(family=family)


def holm(p) -> np.ndarray:
    """Return p-values of one family corrected by Holm's step-down procedure, in the shape given; NaN stays out.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p.ravel()[tested], kind="stable")]
    steps = p.ravel()[order] * np.arange(len(order), 0, -1)
    corrected.flat[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
