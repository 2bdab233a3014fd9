"""The registry of attribution methods, and what a method is given: a batch of faces and one model.

A new method is one function with one decorator, in any module that this package imports:

    @method("gradient_x_input", signed=True, conserves=False, resolution=1)
    def gradient_x_input(batch, *, power=1):
        ...
        return maps  # (target, sample, y, x)

Its keyword-only arguments are options of `attribute`, which checks their names and records their values.
A target is a linear operator on the outputs: a method explains each column of `batch.values(outputs)`. With
`extras=("name",)` it may hand over numbers for each face beside its maps, by `batch.record("name", values)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from fcx.attribution.face_reader import Gallery
from fcx.attribution.lrp_network import Network, Trace, network, traces
from fcx.core.contract import TARGETS
from fcx.core.errors import FcxError, InputError
from fcx.networks.facechannel import FaceChannel, check_input


@dataclass(frozen=True)
class Method:
    """A method and what is known about its maps.

    `signed`: values may be negative. `conserves`: a map sums to the output that it explains, less what
    biases and stabilisers absorb. `resolution`: side in pixels of the blocks in which a map is constant, with the
    options' defaults and a FaceChannel of 64 pixels; what a run had stands in the attributes of its results.
    `needs`: the type of module it works on. `options`: its keyword-only arguments and their defaults.
    `relative`: the maps change with the reference value of a target; a gradient does not, nor does any method
    that compares two outputs. `extras`: names of what it records for each face beside its maps. `caution`: what
    a reader of its maps must be told, "" where there is nothing.
    """

    name: str
    function: Callable[..., torch.Tensor]
    signed: bool
    conserves: bool
    resolution: int
    needs: type[nn.Module]
    options: dict[str, Any]
    relative: bool = False
    extras: tuple[str, ...] = ()
    caution: str = ""
    units: str = "output units"

    def properties(self) -> dict:
        """Return the declared properties (what a store records beside the maps)."""
        names = ("signed", "conserves", "resolution", "relative", "units", "caution")
        return {name: getattr(self, name) for name in names}


METHODS: dict[str, Method] = {}


def method(name: str, *, signed: bool, conserves: bool, resolution: int, needs: type[nn.Module] = nn.Module,
           relative: bool = False, extras: tuple[str, ...] = (), caution: str = "",
           units: str = "output units"):  # fmt: skip
    """Register a function (batch, *, options) -> maps (target, sample, y, x) as the method `name`."""

    def register(function):
        parameters = inspect.signature(function).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        METHODS[name] = Method(
            name, function, signed, conserves, resolution, needs, options, relative, tuple(extras), caution, units
        )
        return function

    return register


class Subject:
    """A model as the methods see it: a private copy in evaluation mode, and what was derived from it."""

    def __init__(self, name: str, model: nn.Module):
        self.name, self.model = name, model
        self._derived: dict[Callable, Any] = {}

    def once(self, derive: Callable[[nn.Module], Any]) -> Any:
        """Return derive(model), computed at the first call and kept while this model is explained."""
        if derive not in self._derived:
            self._derived[derive] = derive(self.model)
        return self._derived[derive]


class Batch:
    """Some faces of one condition seen by one model.

    `images` (sample, 1, y, x) in [0, 1]; `position` (sample,) the place of each face along `sample` in the
    whole Dataset; `weights` (target, output), of which each row is a target; `reference` (target,) the value
    of each target from which it is explained, 0 unless the target names one. Of the Dataset, where there is
    one: `names`, `condition`, `regions`, `alpha`, `pictures`, `mean` and `background`.
    """

    def __init__(self, subject: Subject, images: torch.Tensor, position: torch.Tensor | None = None,
                 weights: torch.Tensor | None = None, reference: torch.Tensor | None = None, *,
                 gallery: Gallery | None = None, condition: str = ""):  # fmt: skip
        self.subject, self.model, self.images = subject, subject.model, images
        self.position = torch.arange(len(images), device=images.device) if position is None else position
        self.weights = torch.eye(len(TARGETS)).to(images) if weights is None else weights
        self.reference = self.weights.new_zeros(len(self.weights)) if reference is None else reference
        self.gallery, self.condition = gallery, condition
        self.recorded: dict[str, torch.Tensor] = {}
        self.resolution = 1  # of the maps, which a method may set where it follows from its options or the model
        if isinstance(self.model, FaceChannel):
            check_input(images, self.model.config.size)

    def values(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the targets (sample, target) of outputs (sample, output); their reference is not subtracted.

        Summed one by one, so that equal outputs have equal values in a batch of any size.
        """
        return (outputs[:, None] * self.weights).sum(-1)

    def record(self, name: str, values: torch.Tensor) -> None:
        """Hand over `values` (target, sample), which the results keep as the variable `name`.

        Raises: FcxError for another shape.
        """
        expected = (len(self.weights), len(self.images))
        if tuple(values.shape) != expected:
            raise FcxError(f"{name!r} was recorded as {tuple(values.shape)}, should be (target, sample): {expected}")
        self.recorded[name] = values.detach().double()

    @cached_property
    def names(self) -> list[str]:
        """The id of each face: what a random number should depend on, rather than on the batch."""
        return [str(name) for name in self._faces("names").faces["sample"].values[self._rows]]

    @cached_property
    def _cover(self) -> torch.Tensor:
        return torch.tensor(self._faces("regions").cover(self._rows)).to(self.images)  # a copy of what is used again

    @property
    def regions(self) -> torch.Tensor:
        """Coverage (sample, region, y, x) in [0, 1] of `fcx.core.contract.REGIONS`, which partition the grid."""
        return self._cover[:, :-1]

    @property
    def alpha(self) -> torch.Tensor:
        """Coverage (sample, y, x) in [0, 1] by the mask that the masked twin of each face wears."""
        return self._cover[:, -1]

    def pictures(self, condition: str) -> torch.Tensor:
        """Return the same faces in another condition, (sample, 1, y, x) in [0, 1]; zeros where one is unusable.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        images = torch.from_numpy(self._faces("pictures").images(condition, self._rows))
        return images.to(self.images.device)[:, None].to(self.images.dtype) / 255

    def mean(self, condition: str = "") -> torch.Tensor:
        """Return the mean (1, y, x) of all usable faces of the Dataset in a condition; default: that of the batch.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        mean = self._faces("mean").mean(condition or self.condition)
        return torch.from_numpy(mean)[None].to(self.images)

    def background(self, count: int, seed: int) -> torch.Tensor:
        """Return at most `count` usable faces of the Dataset in this condition, (face, 1, y, x), drawn by `seed`."""
        pictures = self._faces("background").background(self.condition, count, seed)
        return torch.from_numpy(pictures)[:, None].to(self.images) / 255

    @property
    def _rows(self) -> np.ndarray:
        return self.position.cpu().numpy()

    def _faces(self, what: str) -> Gallery:
        if self.gallery is None:
            raise InputError(f"{what!r} was asked of a batch without a faces Dataset: use fcx.attribute")
        return self.gallery

    def explained(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs that are explained, (sample, output): before the activation of a tanh head."""
        if isinstance(self.model, FaceChannel):
            return self.model.tail(self.model.features(images))
        return self.model(images)

    @cached_property
    def features(self) -> torch.Tensor:
        """The last convolutional map of a FaceChannel, (sample, channel, row, column), without a graph."""
        if self.network:
            return torch.cat([trace.map for trace in self.traces])
        with torch.no_grad():
            return self.model.features(self.images)

    @property
    def network(self) -> Network | None:
        """The model as the engine reads it, None where it cannot: then torch, captum and zennit do the work."""
        return self.subject.once(network)

    @cached_property
    def traces(self) -> list[Trace]:
        """The one pass of these faces through `network` that all methods share, a few faces to a trace."""
        return list(traces(self.network, self.images))

    @cached_property
    def prediction(self) -> torch.Tensor:
        """What the model answers, (sample, output), from the pass that the methods share where there is one.

        float64 from that pass, whose dense layers are, so that it is exactly what LRP sums to.

        Raises: InputError where a module cannot read faces, gives another shape, or is not finite.
        """
        with torch.no_grad():
            if self.network:
                answer = self.model.activation(torch.cat([trace.outputs for trace in self.traces]))
            else:
                answer = self._ask_module()
        expected, name = (len(self.images), len(TARGETS)), self.subject.name
        if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != expected:
            given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
            raise InputError(
                f"model {name!r} gives {given} for {len(self.images)} faces, should give {expected}: {TARGETS}"
            )
        if not torch.isfinite(answer).all():
            raise InputError(f"model {name!r} answers with NaN or infinity: its weights cannot be used")
        return answer

    def _ask_module(self) -> torch.Tensor:
        try:
            return self.model(self.images)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shape = tuple(self.images.shape)
            raise InputError(
                f"model {self.subject.name!r} cannot read faces (sample, 1, y, x) of shape {shape}: {error}"
            ) from error
