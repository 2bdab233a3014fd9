"""Measures that need no removal: completeness, sensitivity to noise, and what is left of a map in a ruined model."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.stats import entropy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fcx.attribution.batch import Subject
from fcx.core.seeds import worded_generator
from fcx.faithfulness.measures import Trial, measure
from fcx.faithfulness.removal import spearman

GAP = "completeness_gap"  # what a method records that explains f - f(baseline) rather than f


@measure("completeness", unit="output", best="zero")
def completeness(trial: Trial) -> dict[str, torch.Tensor]:
    """Return the sum of the map less what it should sum to: f less the target's reference, or f - f(baseline).

    In output units, signed, never a yes or no. Source: Bach et al. 2015, equation (1); Sundararajan et al.
    2017 (1703.01365), proposition 1.
    """
    maps, recorded = trial.explained
    whole = trial.output - trial.batch.reference[:, None]
    return {"completeness": recorded.get(GAP, maps.sum((2, 3)) - whole)}


def _sensitivity(trial: Trial) -> torch.Tensor:
    """Return the largest distance (target, sample) between the maps of a face and of the face with noise."""

    def compute():
        radius, far = trial.settings.radius, torch.zeros_like(trial.output)
        for number in range(trial.settings.perturbations):
            shape = trial.images.shape[1:]
            noise = trial.draw(f"noise {number}", lambda rng: rng.uniform(-radius, radius, shape))  # noqa: B023
            moved = trial.explain((trial.images + noise).clamp(0, 1)) - trial.maps
            far = torch.maximum(far, moved.square().sum((2, 3)).sqrt())
        return far

    return trial.once("sensitivity", compute)


@measure("sensitivity", unit="map", best="low")
def max_sensitivity(trial: Trial) -> dict[str, torch.Tensor]:
    """Return the largest change of the map under uniform noise of `radius`, Frobenius norm, in units of the map.

    Methods whose maps have different units do not compare. Source: Yeh et al. 2019 (1901.09392), definition 2.
    """
    return {"max_sensitivity": _sensitivity(trial)}


@measure("relative_sensitivity", unit="norm of the map", best="low")
def relative_sensitivity(trial: Trial) -> dict[str, torch.Tensor]:
    """Return `max_sensitivity` over the norm of the face's own map, NaN for a map of zeros: methods compare."""
    norm = trial.maps.square().sum((2, 3)).sqrt()
    return {"relative_sensitivity": torch.where(norm > 0, _sensitivity(trial) / norm, torch.nan)}


def weighted_layers(model: nn.Module) -> list[list[tuple[str, nn.Module]]]:
    """Return the layers that have parameters, last first; a batch norm belongs to the layer before it."""
    layers, waiting = [], []
    for name, module in reversed(list(model.named_modules())):
        if any(True for _ in module.parameters(recurse=False)):
            waiting.append((name, module))
            if not isinstance(module, _BatchNorm):
                layers.append(waiting)
                waiting = []
    return [*layers, waiting] if waiting else layers


def randomise(name: str, module: nn.Module, seed: int) -> None:
    """Draw the parameters of one layer anew: its own initialisation, or, where it has none, a random order.

    Each layer has a seed of its own: two layers of one shape would else become equal, and an inhibitory twin
    would cancel its excitatory one.
    """
    rng = worded_generator(seed, "randomise", name)
    if hasattr(module, "reset_parameters"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            module.reset_parameters()
        return
    with torch.no_grad():
        for parameter in module.parameters(recurse=False):
            mixed = torch.from_numpy(rng.permutation(parameter.numel()))
            parameter.copy_(parameter.ravel()[mixed].reshape(parameter.shape))


def cascade(model: nn.Module, stages: int, seed: int) -> list[tuple[str, Subject]]:
    """Return (layer, model) with more and more layers random, from the output to the input; the last is all random.

    Of all layers at most `stages` are returned, evenly spaced. The model that is given stays as it is.
    Source: Adebayo et al. 2018 (1810.03292), section 3.1.
    """
    device, ruined, ruins = next(model.parameters()).device, copy.deepcopy(model).cpu(), []
    layers = weighted_layers(ruined)
    shown = set(np.ceil(np.linspace(len(layers), 1, min(stages, len(layers)))).astype(int))
    for number, layer in enumerate(layers, start=1):
        for name, module in layer:
            randomise(name, module, seed)
        if number in shown:
            ruins.append((layer[-1][0], Subject(f"from {layer[-1][0]}", copy.deepcopy(ruined).to(device))))
    return ruins


def _ruined_maps(trial: Trial) -> torch.Tensor:
    """Return the maps (stage, target, sample, y, x) of the same faces by models of the cascade."""
    ruins = trial.batch.subject.once(cascade, trial.settings.stages, trial.settings.seed)
    return trial.once("ruined", lambda: torch.stack([trial.explain(subject=ruined) for _, ruined in ruins]))


def similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Spearman's rank correlation over the pixels of maps (..., y, x)."""
    return spearman(a.flatten(-2), b.flatten(-2))


@measure("randomisation", unit="rank correlation", best="low")
def randomisation(trial: Trial) -> dict[str, torch.Tensor]:
    """Return how much a map resembles that of the same model with random weights: mean of the cascade, and its end.

    A map that stays the same explains the picture, not the model; the control "edges" is 1, "random" near 0.
    Absolute: of |R|, because a sign may flip as a whole. Source: Adebayo et al. 2018 (1810.03292), section 3.
    """
    maps, ruined = trial.maps, _ruined_maps(trial)
    scores = {}
    for suffix, one, other in (("", maps, ruined), ("_absolute", maps.abs(), ruined.abs())):
        alike = torch.stack([similarity(one, stage) for stage in other])
        scores |= {f"randomisation{suffix}": alike.mean(0), f"randomisation_all{suffix}": alike[-1]}
    return scores


@measure("efficient_randomisation", unit="relative rise of entropy", best="high")
def efficient_randomisation(trial: Trial) -> dict[str, torch.Tensor]:
    """Return (H(ruined) - H(R)) / H(R) with all weights random, H the entropy of a map's histogram.

    NaN where H(R) is 0: a constant map. Source: Hedström et al. 2024 (2401.06465).
    """
    before, after = (histogram_entropy(m, trial.settings.bins) for m in (trial.maps, _ruined_maps(trial)[-1]))
    return {"efficient_randomisation": torch.where(before > 0, (after - before) / before, torch.nan)}


def histogram_entropy(maps: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the entropy in nats of each map's values, in `bins` equal bins between its extremes, (target, sample)."""
    flat = maps.flatten(2).double().cpu().numpy()
    values = [[entropy(np.histogram(one, bins=bins)[0]) for one in row] for row in flat]
    return torch.tensor(values, dtype=maps.dtype, device=maps.device).reshape(maps.shape[:2])


@measure("shuffled_labels", unit="rank correlation", best="low")
def shuffled_labels(trial: Trial) -> dict[str, torch.Tensor]:
    """Return how much a map resembles that of the same model trained on shuffled labels; NaN where none was given.

    Source: Adebayo et al. 2018 (1810.03292), section 3.3, the data randomisation test.
    """
    if trial.shuffled is None:
        nothing = torch.full_like(trial.output, torch.nan)
        return {"shuffled_labels": nothing, "shuffled_labels_absolute": nothing}
    maps, other = trial.maps, trial.once("shuffled", lambda: trial.explain(subject=trial.shuffled))
    return {"shuffled_labels": similarity(maps, other), "shuffled_labels_absolute": similarity(maps.abs(), other.abs())}
