"""Intervals over faces and trainings at once: two random factors, crossed, since all seeds see the same faces.

Three or five seeds cannot be drawn with replacement (percentiles of three hold at most 3 times in 4). What faces
contribute is therefore taken from the bootstrap over subjects, and what seeds contribute from their spread.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

from fcx.statistics.bootstrap import interval, p_values

CROSSED = (
    "95 % over faces and seeds: bootstrap over subjects, and Student's t of what sets seeds apart beyond the faces"
)
FACES_ONLY = "95 % over faces only: one seed, so that nothing is known of other trainings"


def crossed(drawn: xr.DataArray, count: xr.DataArray) -> xr.Dataset:
    """Return the mean over seeds with a 95 % interval over faces and seeds, from draws (1 + draw, seed, ...).

    `drawn` holds the data first, then bootstrap draws of faces that all seeds share; `count` (...) is the number of
    clusters. se_faces is the standard error of the bootstrap of the mean over seeds. On the same faces, seeds lie
    apart by what sets them apart on any faces and by what each makes of these faces alone; the bootstrap shows the
    second, and se_seeds is the standard error that the rest gives the mean. Where an end of the interval over faces
    lies d away from the estimate, the end lies sqrt(d^2 + (t se_seeds)^2) away, t of seeds - 1 degrees of freedom.
    p, two-sided for 0, is the level whose interval touches 0.

    Variables (...): estimate, low, high, p, se_faces, se_seeds, share_seeds (of the variance of the mean), dof
    (Satterthwaite's, of the whole standard error: it describes, the interval takes the degrees of each source) and
    seeds. With one seed the interval and p are those over faces, and se_seeds and share_seeds are NaN; the attribute
    `sources` says so.

    Source: Owen, The Annals of Applied Statistics 1(2), 2007 (crossed factors); Zou and Donner, Statistics in
    Medicine 27(10), 2008 (the ends). How often they hold: docs/statistics.md.
    """
    drawn, seeds = drawn.transpose("draw", "seed", ...), drawn.sizes["seed"]
    mean, others = drawn.mean("seed", skipna=False), max(seeds - 1, 1)
    data, draws = mean.isel(draw=0), mean.isel(draw=slice(1, None))
    count = count.broadcast_like(data).transpose(*data.dims)
    count = count.where(count > 1)
    lack = count / (count - 1)  # what the variance of draws of `count` clusters lacks
    apart = drawn - mean
    with np.errstate(invalid="ignore", divide="ignore"):
        faces = lack * draws.var("draw")
        alone = lack * apart.isel(draw=slice(1, None)).var("draw").sum("seed", skipna=False) / others
        spread = (apart.isel(draw=0) ** 2).sum("seed", skipna=False) / others
        between = (spread - alone).clip(0) / seeds
        dof = (faces + between) ** 2 / (faces**2 / (count - 1) + between**2 / others)
        low, high = interval(draws.values, count.values)
        if seeds > 1:
            low, high, p = _moved_out(data.values, low, high, between.values, count.values, seeds)
        else:
            p, between = p_values(mean.values, count.values), between * np.nan
        share = between / (faces + between)
    made = {name: data.copy(data=values) for name, values in (("low", low), ("high", high), ("p", p))}
    made |= {"se_faces": np.sqrt(faces), "se_seeds": np.sqrt(between), "share_seeds": share, "dof": dof}
    return xr.Dataset(
        {"estimate": data, **made, "seeds": seeds}, attrs={"sources": CROSSED if seeds > 1 else FACES_ONLY}
    )


def _moved_out(data, low, high, between, count, seeds: int) -> tuple:
    """Return low, high and p: an interval over faces whose ends are moved out by the variance `between` seeds."""
    below, above = np.maximum(data - low, 0), np.maximum(high - data, 0)  # a bootstrap may lie to one side
    reach = [np.sqrt(side**2 + stdtrit(seeds - 1, 0.975) ** 2 * between) for side in (below, above)]
    error = np.where(data > 0, below, above) / stdtrit(count - 1, 0.975)  # on the side where 0 lies
    smaller, larger = np.full(data.shape, -700.0), np.zeros(data.shape)  # log p, by halving what lies between
    for _ in range(60):
        middle = (smaller + larger) / 2
        of_faces = stdtrit(count - 1, np.exp(middle) / 2) * error
        of_seeds = stdtrit(seeds - 1, np.exp(middle) / 2) * np.sqrt(between)  # of two seeds t has no square
        touches = np.hypot(of_faces, of_seeds) >= np.abs(data)
        smaller, larger = np.where(touches, middle, smaller), np.where(touches, larger, middle)
    known = np.isfinite(data) & np.isfinite(between)
    return data - reach[0], data + reach[1], np.where(known, np.exp(larger), np.nan)
