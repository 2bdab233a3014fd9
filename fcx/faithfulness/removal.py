"""Measures that remove pixels or regions and watch the output: deletion, insertion, ROAD, necessity, sufficiency.

Everything is in units of the explained output f, signed, and nothing is divided by f: for a regression a fall
and a rise are both informative, and f may be zero. A signed map claims where f is pushed up; pixels are removed
in its order (highest first), which should lower f, and in the reverse, which should raise it. Names that end in
`_absolute` take |R| and |change of f| instead: what a map claims that has no sign.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.stats import rankdata

from fcx.attribution.fills import filled
from fcx.attribution.perturbation import effects
from fcx.faithfulness.measures import Scene, Trial, measure

NOISE = 0.01  # of ROAD's imputation, in units of grey in [0, 1], as in its published code


def filling(scene: Scene, name: str) -> torch.Tensor:
    """Return the fill `name` of the scene's faces, (sample, channel, y, x)."""
    return scene.once(("fill", name), lambda: filled(scene.batch, name))


def removal_order(scene: Scene, values: torch.Tensor) -> torch.Tensor:
    """Return when each pixel goes, (..., sample, pixel) int from 0, the highest of `values` (..., sample, y, x) first.

    Pixels of equal value go in a random order, drawn for each face: raster order would walk down the picture.
    """
    flat = values.flatten(-2).cpu().numpy()
    ties = scene.draw("ties", lambda rng: rng.permutation(scene.size)).cpu().numpy()
    first = np.lexsort((np.broadcast_to(ties, flat.shape), -flat), axis=-1)
    order = np.empty_like(first)
    np.put_along_axis(order, first, np.broadcast_to(np.arange(scene.size), flat.shape), axis=-1)
    return torch.from_numpy(order).to(scene.images.device)


def fractions(steps: int, size: int) -> np.ndarray:
    """Return the numbers of pixels that are gone at each point of a curve, from none to all.

    >>> fractions(4, 10).tolist()
    [0, 2, 5, 8, 10]
    """
    return np.rint(np.linspace(0, size, steps + 1)).astype(int)


def removal_curve(scene: Scene, order: torch.Tensor, name: str) -> torch.Tensor:
    """Return f as pixels are replaced by the fill `name`, (target, sample, step), for `order` (target or 1, ...)."""
    instead = filling(scene, name)
    points = [scene.output]
    for count in fractions(scene.settings.steps, scene.size)[1:-1]:
        gone = _as_pictures(order < count, scene)
        points.append(_own(scene, [torch.where(g, instead, scene.images) for g in gone]))
    return torch.stack([*points, scene.once(("filled", name), lambda: scene.answer(instead))], -1)


def _as_pictures(pixels: torch.Tensor, scene: Scene) -> torch.Tensor:
    """Return what is said of flat pixels (..., sample, pixel) as pictures, (..., sample, 1, y, x)."""
    return pixels.reshape(*pixels.shape[:-1], 1, *scene.images.shape[2:])


def _own(scene: Scene, images: list[torch.Tensor]) -> torch.Tensor:
    """Return the outputs (target, sample) where each target has images of its own, or all have the same."""
    if len(images) == 1:
        return scene.answer(images[0])
    return torch.stack([scene.answer(one)[t] for t, one in enumerate(images)])


def area(curve: torch.Tensor) -> torch.Tensor:
    """Return the mean height of curves (..., step), by the trapezoidal rule: the area over the share removed."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), dim=-1)


def chance_curves(scene: Scene, name: str) -> torch.Tensor:
    """Return the curves of random orders, (order, target, sample, step)."""

    def compute():
        orders = scene.settings.orders
        drawn = scene.draw("orders", lambda rng: rng.permuted(np.tile(np.arange(scene.size), (orders, 1)), axis=1))
        return torch.stack([removal_curve(scene, drawn[None, :, i], name) for i in range(orders)])

    return scene.once(("chance", name), compute)


def map_curves(trial: Trial, name: str, absolute: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return f with the highest of the map removed first, and with the lowest first, each (target, sample, step)."""
    return _both_ends(trial, name, absolute, lambda order: removal_curve(trial.scene, order, name))


def _both_ends(trial: Trial, key: str, absolute: bool, function) -> tuple[torch.Tensor, torch.Tensor]:
    """Return function(order) and function(the reverse order) for the order of the map, or of its absolute value."""
    absolute = absolute and bool((trial.maps < 0).any())  # a map without negatives is its own absolute

    def compute():
        order = removal_order(trial.scene, trial.maps.abs() if absolute else trial.maps)
        return function(order), function(trial.size - 1 - order)

    return trial.once(("ends", key, absolute), compute)


@measure("deletion", unit="output", best="high")
def deletion(trial: Trial) -> dict[str, torch.Tensor]:
    """Return what f loses, and keeps, by the map's order more than by random orders, as areas between curves.

    deletion_<fill> = area(random) - area(highest removed first); insertion_<fill> = area(highest inserted
    first) - area(random), which is the curve of removing the lowest first, read backwards. Absolute: the mean
    |f - f(x)| that deletion causes beyond chance, and that insertion leaves below chance.
    Source: Petsiuk et al. 2018 (1806.07421), section 3.3, with f in the place of a probability; Samek et al. 2017.
    """
    scores, f = {}, trial.output[..., None]
    for name in trial.settings.fills:
        chance = chance_curves(trial.scene, name)
        first, last = map_curves(trial, name, absolute=False)
        middle = area(chance).mean(0)
        scores |= {f"deletion_{name}": middle - area(first), f"insertion_{name}": area(last) - middle}
        first, last = map_curves(trial, name, absolute=True)
        middle = area((chance - f).abs()).mean(0)
        scores[f"deletion_absolute_{name}"] = area((first - f).abs()) - middle
        scores[f"insertion_absolute_{name}"] = middle - area((last - f).abs())
    return scores


@lru_cache
def neighbours(height: int, width: int) -> sparse.csr_array:
    """Return (pixel, pixel) the weights of each pixel's neighbours: 1/6 beside it, 1/12 across a corner."""

    def line(n):
        return sparse.diags_array([np.ones(n - 1)] * 2, offsets=[-1, 1])

    beside = sparse.kron(line(height), sparse.eye_array(width)) + sparse.kron(sparse.eye_array(height), line(width))
    return sparse.csr_array(beside / 6 + sparse.kron(line(height), line(width)) / 12)


def linear_imputation(picture: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Return `picture` (y, x) with each pixel that is `gone` equal to the weighted mean of its neighbours.

    All equations are solved at once. Source: Rong et al. 2022 (2202.00449).
    """
    weights = neighbours(*picture.shape)
    out, kept, flat = np.flatnonzero(gone), np.flatnonzero(~gone), picture.ravel().astype(np.float64)
    if not len(out):
        return flat.reshape(picture.shape)
    rows = weights[out]
    system = sparse.diags_array(rows.sum(1)) - rows[:, out]
    # The system is symmetric and diagonally dominant: no pivoting is needed, and with it this takes far longer.
    solver = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    flat[out] = solver.solve(rows[:, kept] @ flat[kept])
    return flat.reshape(picture.shape)


def imputed(scene: Scene, gone: torch.Tensor) -> torch.Tensor:
    """Return the faces with the pixels that are `gone` (sample, 1, y, x) imputed, and a little noise of grey."""
    noise = scene.draw("road", lambda rng: NOISE * rng.standard_normal(scene.images.shape[2:]))[:, None]
    pairs = zip(scene.images.double().cpu().numpy(), gone[:, 0].cpu().numpy(), strict=True)
    solved = np.stack([[linear_imputation(channel, out) for channel in picture] for picture, out in pairs])
    return torch.where(gone, torch.from_numpy(solved).to(scene.images) + noise, scene.images)


@measure("road", unit="output", best="high")
def road(trial: Trial) -> dict[str, torch.Tensor]:
    """Return half of f(lowest removed) - f(highest removed), mean over shares removed, with noisy linear imputation.

    Imputed pixels say little about which were removed, so that a change of f is not that of a foreign edge.
    Absolute: half of |change of f| by removing the highest less that by removing the lowest of |R|.
    Source: Rong et al. 2022 (2202.00449), with f in the place of accuracy, which a regression does not have.
    """
    f = trial.output
    first, last = _road_answers(trial, absolute=False)
    scores = {"road": (last - first).mean(0) / 2}
    first, last = _road_answers(trial, absolute=True)
    return scores | {"road_absolute": ((first - f).abs() - (last - f).abs()).mean(0) / 2}


def _road_answers(trial: Trial, absolute: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return f after imputing the highest pixels of the map, and the lowest, each (percentage, target, sample)."""
    counts = [int(trial.size * p / 100) for p in trial.settings.percentages]

    def answers(order):
        ranks = _as_pictures(order, trial.scene)
        return torch.stack([_own(trial.scene, [imputed(trial.scene, r < count) for r in ranks]) for count in counts])

    return _both_ends(trial, "road", absolute, answers)


def effects_of_filling(scene: Scene, name: str) -> dict[str, torch.Tensor]:
    """Return what each region does, (target, sample, region) in output units, NaN where it covers nothing.

    necessity: f(x) - f(x without the region); sufficiency: f(only the region) - f(nothing but fill).
    """

    def compute():
        face, instead = scene.images, filling(scene, name)
        cover = scene.batch.regions.movedim(1, 0)  # (region, sample, y, x)
        need, less = effects(scene.batch, face, instead, cover), effects(scene.batch, instead, face, cover)
        both = {"necessity": need.movedim(1, -1), "sufficiency": -less.movedim(1, -1)}
        missing = ~cover.any((-2, -1)).T  # (sample, region)
        return {kind: effect.masked_fill(missing, torch.nan) for kind, effect in both.items()}

    return scene.once(("regions", name), compute)


def _region_pairs(trial: Trial):
    """Yield (measure, score of the map, effect), both (target, sample, region): net mass, then absolute mass."""
    cover = trial.batch.at_input(trial.batch.regions)
    for name in trial.settings.fills:
        for kind, effect in effects_of_filling(trial.scene, name).items():
            for suffix, maps, change in (("", trial.maps, effect), ("_absolute", trial.maps.abs(), effect.abs())):
                score = torch.einsum("tsyx,sryx->tsr", maps, cover).masked_fill(effect.isnan(), torch.nan)
                yield kind, suffix, name, score, change


@measure("regions", unit="output", best="high")
def region_gain(trial: Trial) -> dict[str, torch.Tensor]:
    """Return the effect of the region that has most of the map, less the mean effect of all regions.

    Source: necessity and sufficiency after Covert et al. 2021 (2011.14878), for the regions of `fcx.geometry.regions`.
    """
    scores = {}
    for kind, suffix, name, score, effect in _region_pairs(trial):
        best = torch.where(score.isnan(), -torch.inf, score).amax(-1, keepdim=True)
        top = torch.where(score == best, effect, torch.nan).nanmean(-1)  # several where they tie
        scores[f"{kind}{suffix}_{name}"] = top - effect.nanmean(-1)
    return scores


@measure("region_ranks", unit="rank correlation", best="high")
def region_ranks(trial: Trial) -> dict[str, torch.Tensor]:
    """Return Spearman's correlation over regions between the map's mass in a region and the region's effect.

    Large regions have more of any map and more effect: compare with the controls, never with 0.
    """
    return {
        f"{kind}_rank{suffix}_{name}": spearman(score, effect)
        for kind, suffix, name, score, effect in _region_pairs(trial)
    }


def spearman(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Spearman's rank correlation along the last axis, ties averaged; NaN where a side does not vary.

    >>> float(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 5.0, 7.0])))
    1.0
    """
    missing = (a.isnan() | b.isnan()).cpu().numpy()
    ranks = [
        rankdata(np.where(missing, np.nan, side.double().cpu().numpy()), axis=-1, nan_policy="omit") for side in (a, b)
    ]
    left, right = (np.where(missing, 0, r - _mean(r, missing)) for r in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (left * right).sum(-1) / np.sqrt((left**2).sum(-1) * (right**2).sum(-1))
    return torch.from_numpy(np.asarray(correlation)).to(a)


def _mean(ranks: np.ndarray, missing: np.ndarray) -> np.ndarray:
    count = np.maximum((~missing).sum(-1, keepdims=True), 1)
    return np.where(missing, 0, ranks).sum(-1, keepdims=True) / count
