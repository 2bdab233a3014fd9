"""The registry of attribution methods, and what a method is given: a batch of faces and one model.

A new method is one function with one decorator, in any module that this package imports:

    @method("gradient_x_input", signed=True, conserves=False, resolution=1)
    def gradient_x_input(batch, *, power=1):
        ...
        return maps  # (target, sample, y, x)

Its keyword-only arguments are options of `attribute`, which checks their names and records their values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from fcx.contract import TARGETS, InputError
from fcx.model import FaceChannel, check_input


@dataclass(frozen=True)
class Method:
    """A method and what is known about its maps.

    `signed`: values may be negative. `conserves`: a map sums to the output that it explains, less what
    biases and stabilisers absorb. `resolution`: side in pixels of the blocks in which a map is constant.
    `needs`: the type of module it works on. `options`: its keyword-only arguments and their defaults.
    """

    name: str
    function: Callable[..., torch.Tensor]
    signed: bool
    conserves: bool
    resolution: int
    needs: type[nn.Module]
    options: dict[str, Any]

    def properties(self) -> dict:
        """Return the declared properties (what a store records beside the maps)."""
        return {"signed": self.signed, "conserves": self.conserves, "resolution": self.resolution}


METHODS: dict[str, Method] = {}


def method(name: str, *, signed: bool, conserves: bool, resolution: int, needs: type[nn.Module] = nn.Module):
    """Register a function (batch, *, options) -> maps (target, sample, y, x) as the method `name`."""

    def register(function):
        parameters = inspect.signature(function).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        METHODS[name] = Method(name, function, signed, conserves, resolution, needs, options)
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
    whole Dataset; `targets` the columns of the output to explain.
    """

    def __init__(self, subject: Subject, images: torch.Tensor, position: torch.Tensor, targets: list[int]):
        self.subject, self.model = subject, subject.model
        self.images, self.position, self.targets = images, position, targets
        if isinstance(self.model, FaceChannel):
            check_input(images, self.model.config.size)

    def explained(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs that are explained, (sample, output): before the activation of a tanh head."""
        if isinstance(self.model, FaceChannel):
            return self.model.tail(self.model.features(images))
        return self.model(images)

    @cached_property
    def features(self) -> torch.Tensor:
        """The last convolutional map (sample, channel, row, column), without a graph."""
        with torch.no_grad():
            return self.model.features(self.images)

    @cached_property
    def prediction(self) -> torch.Tensor:
        """What the model answers, (sample, output); a FaceChannel computes its features only once for it.

        Raises: InputError where a module cannot read faces, gives another shape, or is not finite.
        """
        with torch.no_grad():
            if isinstance(self.model, FaceChannel):
                answer = self.model.activation(self.model.tail(self.features))
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
