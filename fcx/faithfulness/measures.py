"""What a measure of faithfulness is given: some faces as one model sees them, one method, and ways to ask again.

A measure is one function with one decorator, in any module that `fcx.faithfulness.measurement` imports:

    @measure("completeness", unit="output", best="zero")
    def completeness(trial):
        return {"completeness": trial.maps.sum((2, 3)) - trial.output}  # each (target, sample)

A control is a method that knows nothing of the model: what it scores is what chance or contrast score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from fcx.attribution.face_reader import Gallery
from fcx.attribution.registry import Batch, Subject
from fcx.core.seeds import worded_generator
from fcx.core.store import digest
from fcx.networks.checkpoints import weights_hash

BEST = ("high", "low", "zero")


@dataclass(frozen=True)
class MeasureOptions:
    """How the measures measure; `faithfulness` says what each means."""

    fills: tuple[str, ...] = ("mean", "blur")
    steps: int = 16
    orders: int = 4
    percentages: tuple[float, ...] = (10, 30, 50, 70, 90)
    radius: float = 0.05
    perturbations: int = 8
    stages: int = 5
    bins: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Measure:
    """A measure: the function and, for each name it returns, what a number means and which is best."""

    name: str
    function: Callable
    unit: str
    best: str


MEASURES: dict[str, Measure] = {}
CONTROLS: dict[str, Callable] = {}


def measure(name: str, *, unit: str, best: str):
    """Register a function trial -> {name: (target, sample)} as the measure `name`; `best` is high, low or zero."""

    def register(function):
        MEASURES[name] = Measure(name, function, unit, best)
        return function

    return register


def control(name: str):
    """Register a function (batch, *, seed) -> maps (target, sample, y, x) as the control `name`."""

    def register(function):
        CONTROLS[name] = function
        return function

    return register


@dataclass
class Scene:
    """Some faces of one condition as one model sees them; what methods share is computed once.

    `images` (sample, y, x) float in [0, 1]; `names` the ids of the faces; `weights` (target, output) and
    `reference` (target,) of the targets;
    `shuffled`: the same model trained on shuffled labels, where there is one.
    """

    subject: Subject
    images: torch.Tensor
    names: list[str]
    position: torch.Tensor
    weights: torch.Tensor
    reference: torch.Tensor
    gallery: Gallery
    condition: str
    settings: MeasureOptions
    shuffled: Subject | None = None
    _shared: dict = field(default_factory=dict)

    def batch(self, images: torch.Tensor | None = None, subject: Subject | None = None) -> Batch:
        """Return what an attribution method takes, for other images or another model where they are given."""
        pixels = (self.images if images is None else images)[:, None]
        return Batch(subject or self.subject, pixels, self.position, self.weights, self.reference,
                     gallery=self.gallery, condition=self.condition)  # fmt: skip

    def answer(self, images: torch.Tensor) -> torch.Tensor:
        """Return the explained outputs (target, sample) of images (sample, y, x), before the activation of a head."""
        with torch.no_grad():
            return self.asker.values(self.asker.explained(images[:, None])).T

    @cached_property
    def asker(self) -> Batch:
        """The faces as they are."""
        return self.batch()

    @cached_property
    def output(self) -> torch.Tensor:
        """The explained outputs of the faces as they are, (target, sample)."""
        return self.answer(self.images)

    @property
    def size(self) -> int:
        """The number of pixels of a face."""
        return self.images[0].numel()

    def rng(self, sample: int, *words) -> np.random.Generator:
        """Return the random generator of one face for one purpose."""
        return worded_generator(self.settings.seed, self.names[sample], *words)

    def draw(self, purpose: str, function: Callable[[np.random.Generator], np.ndarray]) -> torch.Tensor:
        """Return function(rng) of each face, (sample, ...), in the precision of the images where it is floating."""
        drawn = torch.from_numpy(np.stack([function(self.rng(i, purpose)) for i in range(len(self.names))]))
        return drawn.to(self.images) if drawn.is_floating_point() else drawn.to(self.images.device)

    def once(self, key, function: Callable[[], Any]):
        """Return function(), computed for the first method and kept for the others."""
        if key not in self._shared:
            self._shared[key] = function()
        return self._shared[key]


@dataclass
class Trial:
    """One method on one `Scene`; its attributes are those of the scene, and the maps."""

    scene: Scene
    function: Callable
    options: Mapping
    _kept: dict = field(default_factory=dict)

    def __getattr__(self, name: str):
        return getattr(self.scene, name)

    def once(self, key, function: Callable[[], Any]):
        """Return function(), computed for the first measure and kept for the others."""
        if key not in self._kept:
            self._kept[key] = function()
        return self._kept[key]

    def explain(self, images: torch.Tensor | None = None, subject: Subject | None = None) -> torch.Tensor:
        """Return maps (target, sample, y, x), of other images or by another model where they are given."""
        return self.function(self.scene.batch(images, subject), **self.options).detach()

    @cached_property
    def explained(self) -> tuple[torch.Tensor, dict]:
        """The maps, and what the method recorded beside them."""
        batch = self.scene.batch()
        return self.function(batch, **self.options).detach(), batch.recorded

    @property
    def maps(self) -> torch.Tensor:
        """The maps of the faces as they are, (target, sample, y, x)."""
        return self.explained[0]


@control("random")
def random_map(batch: Batch, *, seed: int = 0) -> torch.Tensor:
    """Return normal noise, drawn anew for each face, target and model: (target, sample, y, x)."""
    weights = batch.subject.once(_hash)
    pictures = batch.images.float().cpu().numpy()
    maps = [
        [worded_generator(seed, weights, target.tolist(), digest(picture)).standard_normal(picture.shape[1:])
         for picture in pictures]
        for target in batch.weights
    ]  # fmt: skip
    return torch.from_numpy(np.array(maps)).to(batch.images)


@control("edges")
def sobel(batch: Batch, *, seed: int = 0) -> torch.Tensor:
    """Return the magnitude of the picture's Sobel gradient, the same for every target: (target, sample, y, x)."""
    kernel = batch.images.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded = nn.functional.pad(batch.images.detach(), (1, 1, 1, 1), mode="replicate")
    slopes = nn.functional.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    return slopes.square().sum(1).sqrt().expand(len(batch.weights), -1, -1, -1)


def _hash(model: nn.Module) -> str:
    return weights_hash(model.state_dict())
