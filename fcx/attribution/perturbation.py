"""Methods that change a face and watch the targets: windows, regions of the face, and the smallest part that does.

They need no gradient but for `extremal_perturbation`, and they say something true of the model: this change
had this effect. What replaces pixels is a name in `fcx.attribution.FILLS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from torch.nn import functional as F

from fcx.attribution.batch import Batch
from fcx.attribution.fills import AT_ONCE, draws, filled, passes
from fcx.attribution.registry import method
from fcx.core.checks import choose, real_number, whole_number
from fcx.core.contract import REGIONS
from fcx.core.errors import ContractError, InputError

AREAS = (*REGIONS, "mask")  # what is ablated: the partition, and the mask that overlays it
EFFECTS = tuple(f"effect_{area}" for area in AREAS)
COARSE_CELL = 4  # pixels: the side of a cell of the mask that `extremal_perturbation` learns
RATE, MOMENTUM, PULL = 0.05, 0.5, 4.0  # of its ascent; the pull on the area grows to `PULL`


def effects(batch: Batch, before: torch.Tensor, after: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Return f(before) - f(before with a part replaced by that of `after`), (target, part, sample), in output units.

    `before` and `after` are pictures (sample, channel, y, x); `cover` (part, sample or 1, y, x) in [0, 1] says how much
    of each pixel of the grid each part takes. All faces and targets share the passes. A part that covers nothing has
    the effect 0, though the same face may be answered otherwise at another place of a batch, by how a convolution
    rounds there.
    """
    with torch.no_grad():
        values = []
        for some in passes(len(cover), len(after)):
            mixed = before + batch.at_input(cover[some])[:, :, None] * (after - before)  # (part, sample, channel, y, x)
            values.append(batch.values(batch.explained(mixed.flatten(0, 1))).unflatten(0, mixed.shape[:2]))
        change = batch.values(batch.explained(before)) - torch.cat(values)  # (part, sample, target)
        return change.masked_fill(~cover.flatten(2).any(-1)[..., None], 0).movedim(-1, 0)


def _windows(size: int, window: int, stride: int) -> torch.Tensor:
    """Return (window, pixel) bool along one side: windows begin every `stride`, the last may reach beyond the edge."""
    first = torch.arange(0, max(size - window, 0) + stride, stride)[:, None]
    pixel = torch.arange(size)
    return (pixel >= first) & (pixel < first + window)


@method("occlusion", signed=True, conserves=False, resolution=COARSE_CELL)
def occlusion(batch: Batch, *, window: int = 8, stride: int = 4, fill: str = "mean") -> torch.Tensor:
    """Return the mean effect of the windows that cover a pixel, (target, sample, y, x), in output units.

    A square of `window` pixels of the grid moves by `stride` pixels; its effect is f(face) - f(face with the
    square filled).

    Raises: InputError where window or stride is no positive whole number, the stride is larger than the window,
    or the window larger than the picture; UnknownNameError for another fill.
    Source: Zeiler and Fergus 2014 (1311.2901), section 2; overlapping windows are averaged as in captum.
    """
    size = batch.grid[-1]
    if whole_number(stride, "stride") > whole_number(window, "window") or window > size:
        raise InputError(f"window is {window}, stride {stride}; allowed: stride <= window <= {size} pixels")
    batch.resolution = math.gcd(window, stride)
    line = _windows(size, window, stride)
    cover = (line[:, None, :, None] & line[None, :, None, :]).flatten(0, 1).to(batch.images)  # (window, y, x)
    change = effects(batch, batch.images, filled(batch, fill), cover[:, None])
    return torch.einsum("tws,wyx->tsyx", change, cover) / cover.sum(0)


def _patch(cover: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a round patch (y, x) of exactly the area of `cover`, around a random point, cut by the border."""
    height, width = cover.shape
    y, x = random.uniform(0, height), random.uniform(0, width)
    distance = np.hypot(np.arange(height)[:, None] - y, np.arange(width) - x)
    rank = np.argsort(np.argsort(distance, axis=None, kind="stable"), kind="stable")
    return np.clip(cover.sum() - rank, 0, 1).reshape(cover.shape)


def _shift(cover: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return `cover` (y, x) shifted in a circle by a random number of pixels, in both directions."""
    return np.roll(cover, random.integers(0, cover.shape), (0, 1))


REGION_CONTROLS: dict[str, Callable | None] = {"none": None, "patch": _patch, "shift": _shift}


def ablated_areas(batch: Batch, control: str = "none", seed: int = 0) -> torch.Tensor:
    """Return what `region_ablation` removes, (area, sample, y, x) in [0, 1], for `AREAS`.

    Raises: UnknownNameError for a control that is not in `CONTROLS`.
    """
    cover = torch.cat([batch.regions, batch.alpha[:, None]], dim=1).movedim(1, 0)
    if (move := REGION_CONTROLS[choose(control, REGION_CONTROLS, "control")]) is None:
        return cover
    moved = np.empty(cover.shape)
    for area, name in enumerate(AREAS):
        for sample, random in enumerate(draws(batch, seed, control, name)):
            moved[area, sample] = move(cover[area, sample].double().cpu().numpy(), random)
    return torch.from_numpy(moved).to(cover)


@method("region_ablation", signed=True, conserves=False, resolution=1, extras=EFFECTS)
def region_ablation(batch: Batch, *, fill: str = "mean", control: str = "none", seed: int = 0) -> torch.Tensor:
    """Return the effect of each region, spread evenly over its area, (target, sample, y, x), in output units.

    An effect is f(face) - f(face with the region replaced); a map sums to the sum of the effects of the eight
    regions. They are recorded as `effect_<region>`, with that of the `mask`, which overlays the others and is
    in no map; `region_effects` gathers them. A region that covers nothing has the effect 0.

    `control` removes something else of the same area instead: "patch", a round patch at a random place;
    "shift", the same shape shifted in a circle by a random distance. An effect that a region does not have
    beyond its controls is an effect of its size or shape.

    Raises: UnknownNameError for another fill or control.
    Source: region-wise occlusion, Zeiler and Fergus 2014 (1311.2901); the controls are fcx's own.
    """
    cover = ablated_areas(batch, control, seed)
    change = effects(batch, batch.images, filled(batch, fill), cover)  # (target, area, sample)
    for area, name in enumerate(EFFECTS):
        batch.record(name, change[:, area])
    parts = cover[: len(REGIONS)]
    area = parts.sum((-2, -1))
    density = change[:, : len(REGIONS)] / torch.where(area > 0, area, 1)  # nothing removed, nothing changed
    return torch.einsum("trs,rsyx->tsyx", density, parts)


def region_effects(results: xr.Dataset) -> xr.DataArray:
    """Return the effects that `region_ablation` recorded, (model, condition, target, sample, region), in output units.

    Raises: ContractError where results hold none.

    >>> region_effects(attribute("plain_scratch", faces, "region_ablation"))  # doctest: +SKIP
    """
    if missing := [name for name in EFFECTS if name not in results]:
        raise ContractError(f"results hold no {missing[0]!r}: make them with the method 'region_ablation'")
    gathered = xr.concat([results[name].sel({"method": "region_ablation"}) for name in EFFECTS], "region")
    gathered = gathered.assign_coords(region=list(AREAS)).drop_vars("method").rename("effect")
    return gathered.transpose(..., "region")


@method("extremal_perturbation", signed=False, conserves=False, resolution=1,
        shows="the part of the face that alone moves {} furthest")  # fmt: skip
def extremal_perturbation(
    batch: Batch, *, area: float = 0.1, descent_steps: int = 40, fill: str = "blur"
) -> torch.Tensor:
    """Return the part of a face, a share of its area, that alone moves a target furthest, (target, sample, y, x).

    The map is a mask m in [0, 1], without unit, that maximises s (f(m x + (1 - m) fill) - f(fill)), with s the
    sign of f(x) - f(fill), under a penalty on the sorted m that pulls `area` of them to 1 and the rest to 0.
    m is smooth: cells of 4 pixels are interpolated. The gradient of each face is divided by its largest value,
    so that the scale of the output does not matter.

    Raises: InputError for an area outside (0, 1] or steps that are no positive whole number; UnknownNameError
    for another fill.
    Source: Fong, Patrick and Vedaldi 2019 (1910.08485), equations (3) and (4), for a target of either sign.
    """
    real_number(area, "area", high=1, above=0, unit="as a share of the picture")
    whole_number(descent_steps, "descent_steps", 1, 100_000)
    instead = filled(batch, fill)
    rows = torch.arange(len(instead)).split(max(1, AT_ONCE // len(batch.weights)))
    return torch.cat([_extremal(batch, batch.images[r], instead[r], area, descent_steps) for r in rows], 1)


def _extremal(batch: Batch, images, instead, area: float, descent_steps: int) -> torch.Tensor:
    """Return the masks (target, sample, y, x) of some images, by projected ascent with momentum."""
    targets, side = len(batch.weights), -(-batch.grid[-1] // COARSE_CELL)

    def smooth(masks, sides):  # (target, sample, 1, cell, cell) -> (target, sample, 1, y, x)
        return F.interpolate(masks.flatten(0, 1), sides, mode="bilinear").unflatten(0, masks.shape[:2])

    def answers(masks):  # (target, sample, 1, cell, cell) -> (target, sample), each target with its own mask
        kept = smooth(masks, images.shape[-2:])
        values = batch.values(batch.explained((instead + kept * (images - instead)).flatten(0, 1)))
        return values.unflatten(0, masks.shape[:2]).diagonal(dim1=0, dim2=2).T

    with torch.no_grad():
        ends = [batch.values(batch.explained(end)).T for end in (images, instead)]
        sign = (ends[0] - ends[1]).sign()
    masks = images.new_full((targets, len(images), 1, side, side), 0.5)
    # The template of equation (4): sorted, the largest `area` of the cells should be 1 and the others 0.
    template = torch.arange(side**2, device=images.device) >= round((1 - area) * side**2)
    speed = torch.zeros_like(masks)
    for step in range(descent_steps):
        leaf = masks.detach().requires_grad_()
        (slope,) = torch.autograd.grad((sign * answers(leaf)).sum(), leaf)
        slope = slope / slope.abs().amax((2, 3, 4), keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
        rank = masks.flatten(2).argsort(dim=-1, stable=True).argsort(dim=-1)
        wanted = template[rank].to(masks).view_as(masks)
        pull = PULL * (step + 1) / descent_steps
        speed = MOMENTUM * speed + slope - pull * (masks - wanted)
        masks = (masks + RATE * speed).clamp(0, 1)
    return smooth(masks, batch.grid)[:, :, 0]
