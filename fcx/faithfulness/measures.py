"""What a measure of faithfulness is given: some faces as one model sees them, one method, and ways to ask again.

A measure is one function with one decorator, in any module of this room:

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

from fcx.attribution.batch import Batch, Subject, spread
from fcx.attribution.registry import METHODS
from fcx.attribution.request import chosen_names
from fcx.core.checks import choose
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.core.seeds import worded_generator
from fcx.networks.tensor_files import weights_hash


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


def labelled_methods(methods) -> dict[str, tuple[str, dict]]:
    """Return label -> (name, options) of methods given by name, or as a dict from a label to (name, options).

    Raises: UnknownNameError for a method or an option that does not exist; InputError where there is no method, or
    one is called as a control is.
    """
    if not isinstance(methods, Mapping) or not methods:
        methods = {name: name for name in chosen_names(methods, METHODS, "method")}
    labelled = {str(label): (one, {}) if isinstance(one, str) else tuple(one) for label, one in methods.items()}
    for label, (name, options) in labelled.items():
        known = METHODS[choose(name, METHODS, "method")].options
        for option in options:
            choose(option, known, f"option of {name}")
        if label in CONTROLS:
            raise InputError(f"a method is called {label!r}, as a control is: choose another label")
    return labelled


def described_methods(labelled: Mapping) -> dict[str, dict]:
    """Return label -> what scores say of their methods: name, options, and the title of one that kept its name."""
    titles = {name: METHODS[name].title for name in METHODS}
    return {label: {"method": name, "options": options, "title": titles.get(name, name) if label == name else label}
            for label, (name, options) in labelled.items()}  # fmt: skip


def control(name: str):
    """Register a function (batch, *, seed) -> maps (target, sample, y, x) as the control `name`."""

    def register(function):
        CONTROLS[name] = function
        return function

    return register


@dataclass
class Scene:
    """Some faces of one condition as one model sees them (`batch`); what methods share is computed once.

    `shuffled`: the same model trained on shuffled labels, where there is one.
    """

    batch: Batch
    settings: MeasureOptions
    shuffled: Subject | None = None
    _shared: dict = field(default_factory=dict)

    @property
    def images(self) -> torch.Tensor:
        """The faces as the model reads them, (sample, channel, y, x) in [0, 1]."""
        return self.batch.images

    def answer(self, images: torch.Tensor) -> torch.Tensor:
        """Return the explained outputs (target, sample) of images as `images` are, before the activation of a head."""
        with torch.no_grad():
            return self.batch.values(self.batch.explained(images)).T

    @cached_property
    def output(self) -> torch.Tensor:
        """The explained outputs of the faces as they are, (target, sample)."""
        return self.answer(self.images)

    @property
    def size(self) -> int:
        """The number of pixels of a face."""
        return self.images[0, 0].numel()

    def rng(self, sample: int, *words) -> np.random.Generator:
        """Return the random generator of one face for one purpose."""
        return worded_generator(self.settings.seed, self.batch.names[sample], *words)

    def draw(self, purpose: str, function: Callable[[np.random.Generator], np.ndarray]) -> torch.Tensor:
        """Return function(rng) of each face, (sample, ...), in the precision of the images where it is floating."""
        drawn = torch.from_numpy(np.stack([function(self.rng(i, purpose)) for i in range(len(self.images))]))
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
        return self._map(self.scene.batch.again(images, subject))

    def _map(self, batch: Batch) -> torch.Tensor:
        """Return maps of the pixels that the model reads; some methods make them on the grid of the faces."""
        maps, sides = self.function(batch, **self.options).detach(), self.images.shape[-2:]
        return maps if maps.shape[-2:] == sides else spread(maps, sides)

    @cached_property
    def explained(self) -> tuple[torch.Tensor, dict]:
        """The maps, and what the method recorded beside them."""
        batch = self.scene.batch.again()
        return self._map(batch), batch.recorded

    @property
    def maps(self) -> torch.Tensor:
        """The maps of the faces as they are, (target, sample, y, x) of the pixels that the model reads."""
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
    """Return the magnitude of the picture's Sobel gradient, the same for every target: (target, sample, y, x).

    Of a colour picture that of the mean of its channels.
    """
    kernel = batch.images.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded = nn.functional.pad(batch.images.detach().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    slopes = nn.functional.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    return slopes.square().sum(1).sqrt().expand(len(batch.weights), -1, -1, -1)


def _hash(model: nn.Module) -> str:
    return weights_hash(model.state_dict())
