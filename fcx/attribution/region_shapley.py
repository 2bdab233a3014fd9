"""Shapley values of the regions of a face: what each adds, on average over every order in which regions may come.

Ablation asks what a face loses without one region, while all others are there: what two regions tell alike is lost
with neither of them, and what two tell together is lost twice. Shapley values ask every coalition of regions and
share the whole difference to the fill among them. Eight regions and a mask make at most 512 coalitions, so that
nothing is sampled.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import comb

import numpy as np
import torch
import xarray as xr

from fcx.attribution.batch import Batch
from fcx.attribution.coalitions import coalition_values
from fcx.attribution.fills import filled
from fcx.attribution.perturbation import AREAS
from fcx.attribution.registry import method
from fcx.core.arguments import checked, switch
from fcx.core.checks import choose
from fcx.core.contract import Results
from fcx.core.errors import ContractError

VALUES = {f"shapley_{area}": area for area in AREAS}
PAIRS = {f"interaction_{one}_{other}": (one, other) for one, other in combinations(AREAS, 2)}
MASK_PLAYS = ("worn", "always", "never")


def extras(options: dict) -> tuple[str, ...]:
    """Return the names of what `region_shapley` records with these options."""
    return (*VALUES, "filled_output", "completeness_gap", *(PAIRS if options["interactions"] else ()))


def players(batch: Batch, mask: str) -> torch.Tensor:
    """Return what each player covers of the grid, (sample, player, y, x) float64, which sum to 1 in each pixel.

    Raises: UnknownNameError for a word that is not in `MASK_PLAYS`.
    """
    choose(mask, MASK_PLAYS, "word for when the mask plays")
    worn = {"worn": batch.worn, "always": batch.alpha, "never": 0 * batch.alpha}[mask].double()[:, None]
    return torch.cat([batch.regions.double() * (1 - worn), worn], 1)


@cache
def coalition_weights(count: int, order: int) -> torch.Tensor:
    """Return the weight of each coalition of `count` players in the interaction index of each group of `order`.

    (group, coalition) float64. Groups are in the order of `itertools.combinations`; player i is in coalition c where
    bit i of c is 1. The index of a group T of t among n players is the sum over the coalitions S of the others of
    s! (n - s - t)! / (n - t + 1)! times the t-th difference of the value at S: of one player, its Shapley value.

    Source: Shapley 1953; Grabisch and Roubens, International Journal of Game Theory 28(4), 1999, equation (4).

    >>> coalition_weights(2, 1).tolist(), coalition_weights(2, 2).tolist()
    ([[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]], [[1.0, -1.0, -1.0, 1.0]])
    """
    member = np.arange(2**count)[:, None] >> np.arange(count) & 1  # (coalition, player)
    weights = np.empty((comb(count, order), 2**count))
    share = np.array([1 / ((count - order + 1) * comb(count - order, s)) for s in range(count - order + 1)])
    for row, group in zip(weights, combinations(range(count), order), strict=True):
        inside = member[:, group].sum(1)
        row[:] = (-1.0) ** (order - inside) * share[member.sum(1) - inside]
    return torch.from_numpy(weights)


def indices(batch: Batch, face, instead, cover: torch.Tensor, orders: tuple[int, ...]) -> list[torch.Tensor]:
    """Return the interaction indices (target, group) of each order, of the players of one face."""
    plays = (cover * (face != instead).any(0)).flatten(1).any(1)  # who changes nothing need not be asked
    values, each = coalition_values(batch, face, instead, cover[plays]), []
    for order in orders:
        weights = coalition_weights(int(plays.sum()), order).to(values)
        playing = [all(group) for group in combinations(plays.tolist(), order)]
        each.append(values.new_zeros(len(values), len(playing)))
        # One by one, so that a target is the same alone.
        each[-1][:, playing] = torch.stack([weights @ of_target for of_target in values])
    return each


@method("region_shapley", title="Shapley values of regions", signed=True, conserves=False, resolution=1, extras=extras)
@torch.no_grad()
def region_shapley(batch: Batch, *, fill: str = "mean", mask: str = "worn", interactions: bool = False) -> torch.Tensor:
    """Return the Shapley value of each region, spread over its area, (target, sample, y, x), in output units.

    The players are the eight regions, and the mask where the face wears one: what lies under it is the mask's, and the
    rest of each region is the region's, so that together they are the picture. With `mask="always"` the mask plays in
    every condition (what the masked twin covers), with "never" the eight regions play alone. The value of a coalition
    is f of the face with all else replaced by the fill. A value is the mean over all orders of what f gains when the
    player comes, exact; a map, and the values, sum to f(face) - f(fill). A player whose pixels the fill leaves as they
    are has the value 0.

    Values are recorded as `shapley_<region>`, f(fill) as `filled_output`, and what the map lacks of the difference, by
    rounding, as `completeness_gap`. `shapley_values` gathers the values, and `shapley_interactions` those of pairs,
    which are recorded with `interactions=True`. The map is the smallest one in which the pixels of each player sum to
    its value: density is even within a region, and evens out where two share a pixel. In the `net` of a region's
    statistics the mask's share of what it covers there is included.

    Raises: UnknownNameError for another fill, or another word for `mask`.
    Source: Shapley 1953; Lundberg and Lee 2017 (1705.07874), equation (4), by all coalitions.
    """
    cover, instead = players(batch, mask), filled(batch, fill)
    orders = (1, 2) if switch(interactions, "interactions") else (1,)
    given, faces = (batch.images, instead, batch.at_input(cover)), []
    for sample, one in enumerate(zip(*given, strict=True)):  # each by itself, so that it depends on no other face
        repeated = sample and all(torch.equal(each[sample], each[sample - 1]) for each in given)  # to fill a batch
        faces.append(faces[-1] if repeated else indices(batch, *one, orders))
    index = [torch.stack(of_order, 1) for of_order in zip(*faces, strict=True)]  # (target, sample, group)
    for names, of_order in zip((VALUES, PAIRS), index, strict=False):
        for number, name in enumerate(names):
            batch.record(name, of_order[..., number])
    maps = smallest_maps(index[0], cover).to(batch.images)
    ends = [batch.values(batch.explained(pictures)).T for pictures in (batch.images, instead)]
    batch.record("filled_output", ends[1])
    batch.record("completeness_gap", maps.sum((-2, -1)) - (ends[0] - ends[1]))
    return maps


def smallest_maps(values: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Return the smallest maps (target, sample, y, x) whose sum over each player's pixels is its value.

    `values` (target, sample, player); `cover` (sample, player, y, x). Where covers are 0 or 1 it is value / area.
    """
    flat = cover.flatten(2)
    inverse = torch.linalg.pinv(flat @ flat.mT, hermitian=True)  # (sample, player, player)
    density = (inverse * values[:, :, None]).sum(-1)  # summed one by one: a target is the same alone
    return (density[..., None, None] * cover).sum(2)


def _gathered(results: xr.Dataset, names: dict, dim: str, title: str) -> xr.DataArray:
    if missing := [name for name in names if name not in results]:
        how = " and interactions=True" if "interaction" in missing[0] else ""
        raise ContractError(f"results hold no {missing[0]!r}: make them with the method 'region_shapley'{how}")
    gathered = xr.concat([results[name].sel({"method": "region_shapley"}) for name in names], dim).drop_vars("method")
    return gathered.rename(title.replace(" ", "_")).assign_attrs(long_name=title)


@checked
def shapley_values(results: Results) -> xr.DataArray:
    """Return the values of `region_shapley`, (model, condition, target, sample, region), in output units.

    Raises: ContractError where results hold none.

    >>> shapley_values(attribute("plain_scratch", faces, "region_shapley"))  # doctest: +SKIP
    """
    values = _gathered(results, VALUES, "region", "shapley value")
    return values.assign_coords(region=list(AREAS)).transpose(..., "region")


@checked
def shapley_interactions(results: Results) -> xr.DataArray:
    """Return how regions act together, (model, condition, target, sample, region, region_other), in output units.

    The pairwise Shapley interaction index: what f gains when both come less what it gains by each, on average over the
    coalitions of the others. Positive where two tell more together than each by itself, negative where they tell the
    same. Symmetric; NaN on the diagonal.

    Raises: ContractError where results hold none.
    Source: Grabisch and Roubens 1999, equation (4).

    >>> results = attribute("plain_scratch", faces, "region_shapley", interactions=True)  # doctest: +SKIP
    >>> shapley_interactions(results).sel(region="mouth", region_other="jaw").mean("sample")  # doctest: +SKIP
    """
    pairs = _gathered(results, PAIRS, "pair", "shapley interaction")
    # The place of each pair of regions; that of a region with itself is after the last.
    place = np.full((len(AREAS), len(AREAS)), len(PAIRS))
    above = np.triu_indices(len(AREAS), 1)
    place[above] = place.T[above] = np.arange(len(PAIRS))
    names = ("region", "region_other")
    matrix = pairs.pad(pair=(0, 1)).isel(pair=xr.DataArray(place, {name: list(AREAS) for name in names}, names))
    return matrix.transpose(..., *names)
