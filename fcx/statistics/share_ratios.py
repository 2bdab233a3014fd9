"""How many times the share of attribution that one family gives to some regions another gives to them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.arguments import Count, Seed, Words, checked
from fcx.core.checks import choose, choose_all
from fcx.core.contract import ResultsOrStatistics, column
from fcx.core.errors import ContractError, InputError
from fcx.statistics.bootstrap import means
from fcx.statistics.comparison import names_of
from fcx.statistics.families import family_members
from fcx.statistics.variance_components import crossed


@checked
def share_ratio(statistics: ResultsOrStatistics, a: Words, b: Words, regions: Words, *, draws: Count = 2000,
                seed: Seed = 0) -> xr.Dataset:  # fmt: skip
    """Return the ratio of shares of absolute attribution, a over b, with a 95 % interval over faces and seeds.

    `statistics` hold `share` (model, condition, method, target, sample, region), as `fcx.region_statistics`,
    `sample_statistics` or `fcx.attribute(statistics=True)` return. `a` and `b` are a family and a condition each, and
    `regions` names whose shares add up; the regions must not overlap. A share of a family is the mean over faces; the
    ratio is the geometric mean over the seeds that both families have, of faces that have a map in all of them.

    Variables (method, target): estimate, low, high, p (of the ratio 1), se_faces, se_seeds and share_seeds (of its
    log2) and the like as `fcx.statistics.variance_components.crossed` says, and n.

    Raises: ContractError where there are no shares; UnknownNameError for another family, condition or region;
    InputError where the families share no seed.

    >>> mouth = "mouth,jaw"
    >>> share_ratio(table, ("plain_scratch", "plain"), ("masked_scratch", "plain"), mouth)  # doctest: +SKIP
    """
    if "share" not in statistics:
        raise ContractError("statistics hold no 'share': give what fcx.region_statistics returns")
    choose_all(regions, [str(name) for name in statistics["region"].values], "region")
    for _, condition in (a, b):
        choose(condition, names_of(statistics, "condition"), "condition")
    members = family_members(statistics)
    sides = [members[choose(family, members, "family")] for family, _ in (a, b)]
    seeds = [number for number in sides[0] if number in sides[1]]
    if not seeds:
        raise InputError(f"{a[0]!r} has the seeds {list(sides[0])} and {b[0]!r} {list(sides[1])}: families are paired "
                         "by seed, and these share none")  # fmt: skip
    share = statistics["share"].reset_coords(drop=True).astype(np.float64)
    share = share.sel(region=list(regions)).sum("region", min_count=1)  # NaN: an empty map, an unusable face
    cells = [share.sel(model=models[number], condition=condition, drop=True)
             for models, (_, condition) in zip(sides, (a, b), strict=True) for number in seeds]  # fmt: skip
    cells = xr.concat(cells, "cell")
    valid = cells.notnull().all("cell")
    drawn, count = means(cells.where(valid), column(statistics, "subject"), draws, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.log2(drawn)
        one, other = (drawn.isel(cell=part).rename(cell="seed") for part in
                      (slice(len(seeds)), slice(len(seeds), None)))  # fmt: skip
        table = crossed(one - other, count.isel(cell=0))
    return table.assign(n=valid.sum("sample"), **{name: 2 ** table[name] for name in ("estimate", "low", "high")})
