"""Means, sums and intervals of bootstrap draws over subjects, paired: one draw serves everything that is compared."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import sparse
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # not scipy.stats, which takes a second to import

from fcx.core import selection as selection  # results.fcx.sel
from fcx.core.checks import check_memory, whole_number

DRAWS_AT_ONCE = 2**22  # draws times clusters held at once: 32 MiB of float64
INTERVAL = "95 % bootstrap over subjects, paired: percentiles widened for the number of subjects"
FEW = 20  # clusters; from fewer, intervals and p-values are not to be trusted (docs/statistics.md)


def clusters(subjects: np.ndarray) -> np.ndarray:
    """Return (sample,) int cluster numbers: one for each subject, one of its own for each unknown ("").

    >>> clusters(np.array(["ann", "", "ann", ""])).tolist()
    [2, 0, 2, 1]
    """
    own = np.array([f"\t{i:09d}" for i in range(len(subjects))], str)
    return np.unique(np.where(subjects == "", own, subjects), return_inverse=True)[1]


def resample(values: np.ndarray, cluster: np.ndarray, draws: int, seed: int,
             tick: Callable[[int], object] = lambda draws: None) -> np.ndarray:  # fmt: skip
    """Return sums over samples, (1 + draw, ...), of `values` (sample, ...): the data first, then each draw.

    A draw takes as many clusters as there are, with replacement; the same (`cluster`, `draws`, `seed`)
    give the same draws whatever the values are. Draws are NaN where there is only one cluster. `tick` is told how many
    draws are done since it was told last.

    Raises: InputError for draws or a seed that is not a whole number of at least 1 or 0.
    Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8 (clusters).

    >>> resample(np.array([1.0, 2.0]), np.array([0, 1]), 3, seed=0).tolist()
    [3.0, 4.0, 3.0, 2.0]
    """
    whole_number(draws, "draws"), whole_number(seed, "seed", 0)
    totals = cluster_totals(values, cluster)
    if (count := len(totals)) < FEW:
        # At this line, whoever asks: Python shows it once.
        warnings.warn(f"there are {count} subjects (faces, where subjects are not known): intervals and p-values from "
                      f"fewer than {FEW} hold less often than they say", stacklevel=1)  # fmt: skip
    check_memory(8 * (1 + draws) * totals.shape[1], f"{draws} draws")
    sums = np.full((1 + draws, totals.shape[1]), np.nan)
    sums[0] = totals.sum(0)
    if count > 1:
        rng = np.random.default_rng(seed)
        for start in range(1, 1 + draws, step := max(1, DRAWS_AT_ONCE // count)):
            size = min(step, 1 + draws - start)
            picked = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
            times = np.bincount(picked.ravel(), minlength=size * count).reshape(size, count)
            sums[start : start + size] = times.astype(np.float64) @ totals
            tick(size)
    return sums.reshape(1 + draws, *values.shape[1:])


def cluster_totals(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return sums of `values` (sample, ...) over the samples of each cluster, (cluster, feature)."""
    shape = int(cluster.max(initial=-1)) + 1, len(cluster)
    member = sparse.csr_array((np.ones(len(cluster)), (cluster, np.arange(len(cluster)))), shape)
    return member @ values.reshape(len(values), math.prod(values.shape[1:]))


def interval(draws, count) -> np.ndarray:
    """Return (2, ...): the 95 % interval of `draws` (draw, ...) of `count` clusters, of the draws that are not NaN.

    A mean of `count` values lies within t standard errors, but their bootstrap within normal quantiles of errors that
    are too small by sqrt(1 - 1 / count). The ends are therefore the percentiles Phi(-+t / sqrt(1 - 1 / count)), with
    t the .975 quantile of count - 1 degrees of freedom. `count` broadcasts to (...); for np.inf they are .025 and
    .975, for less than 2 NaN. The ends are draws (the nearest order statistic): an infinite draw makes no NaN.

    Source: the expanded percentile interval, Hesterberg, The American Statistician 69(4), 2015 (1411.5279).

    >>> interval(np.arange(1001.0), np.inf).tolist(), interval(np.arange(1001.0), 10).tolist()
    ([25.0, 975.0], [9.0, 991.0])
    """
    ordered = np.sort(np.asarray(draws, np.float64), axis=0)  # NaN last
    last = np.maximum((~np.isnan(ordered)).sum(0) - 1, 0)
    count = np.where(np.greater(count, 1), count, np.nan)
    reach = np.broadcast_to(stdtrit(count - 1, 0.975) / np.sqrt(1 - 1 / count), last.shape)
    ranks = [np.rint(last * np.nan_to_num(ndtr(side * reach))).astype(int) for side in (-1, 1)]
    ends = np.concatenate([np.take_along_axis(ordered, rank[None], axis=0) for rank in ranks])
    return np.where(np.isnan(reach), np.nan, ends)


def p_values(draws, count) -> np.ndarray:
    """Return two-sided p-values (...) of a difference of 0, of `draws` (1 + draw, ...), the data first.

    They agree with `interval`: the smaller share of draws on either side of 0 is a normal quantile z, and p that of
    Student's t = z sqrt(1 - 1 / count). Where no draw passes 0, z is at least the difference over the root mean square
    of the draws about it, so that p has no floor that Holm's correction of many tests could never pass.

    >>> draws = np.append(1, np.linspace(-0.02, 2.02, 1001))  # a difference of 1; nine draws are below 0
    >>> p_values(draws, np.inf).round(3).tolist(), p_values(draws, 10).round(3).tolist()
    (0.022, 0.058)
    """
    data, drawn = np.asarray(draws[0]), np.asarray(draws[1:])
    valid = (~np.isnan(drawn)).sum(0)
    least = np.minimum((drawn <= 0).sum(0), (drawn >= 0).sum(0))
    count = np.where(np.greater(count, 1), count, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = -ndtri((least + 1) / (valid + 1))
        far = np.abs(data) / np.sqrt(np.nansum((drawn - data) ** 2, axis=0) / valid)
        z = np.where(least == 0, np.fmax(z, far), z)
        p = np.minimum(2 * stdtr(count - 1, -z * np.sqrt(1 - 1 / count)), 1)
    return np.where((valid > 0) & ~np.isnan(data), p, np.nan)


def estimates(drawn: xr.DataArray, count: xr.DataArray, value: str, low: str, high: str) -> dict[str, xr.DataArray]:
    """Return what draws (1 + draw, ...) of `count` clusters say: the data's value and the ends, by the names given."""
    data = drawn.isel(draw=0)
    ends = interval(drawn.values[1:], count.broadcast_like(data).transpose(*data.dims))
    return {value: data, low: data.copy(data=ends[0]), high: data.copy(data=ends[1])}


def means(values: xr.DataArray, subjects: np.ndarray, draws: int, seed: int,
          tick: Callable[[int], object] = lambda draws: None) -> tuple[xr.DataArray, xr.DataArray]:  # fmt: skip
    """Return means over samples (1 + draw, ...), the data first, and how many clusters have a value (...).

    `values` (sample, ...) may lack some (NaN); `subjects` is (sample,) str, "" where not known; `tick` is
    that of `resample`.

    Raises: InputError as in `resample`.
    """
    values, cluster = values.transpose("sample", ...), clusters(subjects)
    flat = values.values.reshape(len(cluster), math.prod(values.shape[1:]))  # (sample, feature)
    # Few columns differ in which samples they lack, so that the samples are counted once for each kind.
    kinds, kind = np.unique(known := np.isfinite(flat), axis=1, return_inverse=True)
    sums = resample(np.concatenate([np.where(known, flat, 0), kinds], axis=1), cluster, draws, seed, tick)
    total, number = np.split(sums, [flat.shape[1]], axis=1)
    drawn = total / np.where(number > 0, number, np.nan)[:, kind]
    count = (cluster_totals(kinds, cluster) > 0).sum(0)
    coords = {name: one for name, one in values.coords.items() if "sample" not in one.dims}
    made = xr.DataArray(drawn.reshape(-1, *values.shape[1:]), coords, ("draw", *values.dims[1:]))
    return made, made.isel(draw=0).copy(data=count[kind].reshape(values.shape[1:]))
