"""Means, sums and intervals of bootstrap draws over subjects, paired: one draw serves everything that is compared."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import sparse

from fcx.core.checks import whole_number
from fcx.core.contract import column

DRAWS_AT_ONCE = 2**22  # draws times clusters held at once: 32 MiB of float64


def clusters(subjects: np.ndarray) -> np.ndarray:
    """Return (sample,) int cluster numbers: one for each subject, one of its own for each unknown ("").

    >>> clusters(np.array(["ann", "", "ann", ""])).tolist()
    [2, 0, 2, 1]
    """
    own = np.array([f"\t{i:09d}" for i in range(len(subjects))], str)
    return np.unique(np.where(subjects == "", own, subjects), return_inverse=True)[1]


def resample(values: np.ndarray, cluster: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return sums over samples, (1 + draw, ...), of `values` (sample, ...): the data first, then each draw.

    A draw takes as many clusters as there are, with replacement; the same (`cluster`, `draws`, `seed`)
    give the same draws whatever the values are. Draws are NaN where there is only one cluster.

    Raises: InputError for draws or a seed that is not a whole number of at least 1 or 0.
    Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8 (clusters).

    >>> resample(np.array([1.0, 2.0]), np.array([0, 1]), 3, seed=0).tolist()
    [3.0, 4.0, 3.0, 2.0]
    """
    whole_number(draws, "draws"), whole_number(seed, "seed", 0)
    count = int(cluster.max(initial=-1)) + 1
    member = sparse.csr_array((np.ones(len(cluster)), (cluster, np.arange(len(cluster)))), (count, len(cluster)))
    totals = member @ values.reshape(len(values), math.prod(values.shape[1:]))  # (cluster, feature)
    sums = np.full((1 + draws, totals.shape[1]), np.nan)
    sums[0] = totals.sum(0)
    if count > 1:
        rng = np.random.default_rng(seed)
        for start in range(1, 1 + draws, step := max(1, DRAWS_AT_ONCE // count)):
            size = min(step, 1 + draws - start)
            picked = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
            times = np.bincount(picked.ravel(), minlength=size * count).reshape(size, count)
            sums[start : start + size] = times.astype(np.float64) @ totals
    return sums.reshape(1 + draws, *values.shape[1:])


def interval(draws, level: float = 0.95) -> np.ndarray:
    """Return (2, ...): the percentile interval of `draws` (draw, ...), of those that are not NaN.

    The ends are draws (the nearest order statistic), so that an infinite draw makes no NaN.
    """
    ordered = np.sort(np.asarray(draws, np.float64), axis=0)  # NaN last
    last = np.maximum((~np.isnan(ordered)).sum(0) - 1, 0)
    ends = [np.rint(last * share).astype(int) for share in ((1 - level) / 2, (1 + level) / 2)]
    return np.concatenate([np.take_along_axis(ordered, end[None], axis=0) for end in ends])


RATIOS = ("density", "enrichment")


def mean_draws(table, quantity: str, valid, draws: int, seed: int) -> xr.DataArray:
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
