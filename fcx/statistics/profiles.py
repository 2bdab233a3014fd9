"""Where a network looks, whatever its outputs are: region statistics of all of them taken together."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.arguments import Count, Seed, checked
from fcx.core.contract import Faces, Results
from fcx.statistics.map_scores import QUANTITIES
from fcx.statistics.region_mass import region_statistics, sample_statistics

ALL = "all outputs"


@checked
def region_profiles(results: Results, faces: Faces, *, draws: Count = 2000, seed: Seed = 0) -> xr.Dataset:
    """Return `region_statistics` with one target: the statistics of each face are means over the network's outputs.

    Networks with other outputs can so be set side by side. What a network lacks is left out for it.

    Raises: ContractError as in `region_statistics`.

    >>> region_profiles(results, faces)["enrichment_mean"].sel(region="mouth")  # doctest: +SKIP
    """
    each = sample_statistics(results, faces)
    own = each[[*QUANTITIES]].mean("target", keep_attrs=True).expand_dims(target=[ALL])
    own = own.transpose(*each["share"].dims).assign(area=each["area"])
    shape = {name: results.sizes[name] for name in ("model", "condition")}
    nothing = np.full((*shape.values(), 1, results.sizes["sample"]), np.nan)
    own["prediction"] = ("model", "condition", "target", "sample"), nothing
    return region_statistics(own.assign_attrs(results.attrs), faces, draws=draws, seed=seed)


def side_by_side(one: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Return the region profiles of two sets of networks on the same faces as one Dataset, by the methods of both."""
    methods = [name for name in one["method"].values.tolist() if name in other["method"].values]
    means = [name for name in one if name == "n" or name.endswith(("_mean", "_low", "_high"))]
    parts = [each[means].reset_coords(drop=True).sel({"method": methods}) for each in (one, other)]
    return xr.concat(parts, "model", data_vars="all", join="exact", combine_attrs="override")
