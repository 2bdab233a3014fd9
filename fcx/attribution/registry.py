"""The registry of attribution methods.

A new method is one function with one decorator, in any module of this room:

    @method("gradient_x_input", signed=True, conserves=False, resolution=1)
    def gradient_x_input(batch, *, power=1):
        ...
        return maps  # (target, sample, y, x)

Its keyword-only arguments are options of `attribute`, which checks their names and records their values.
A target is a linear operator on the outputs: a method explains each column of `batch.values(outputs)`. With
`extras=("name",)` it may hand over numbers for each face beside its maps, by `batch.record("name", values)`; where
these depend on its options, `extras` is a function of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Method:
    """A method and what is known about its maps.

    `signed`: values may be negative. `conserves`: a map sums to the output that it explains, less what
    biases and stabilisers absorb. `resolution`: side in pixels of the blocks in which a map is constant, with the
    options' defaults and a FaceChannel of 64 pixels; what a run had stands in the attributes of its results.
    `needs`: the type of module it works on. `options`: its keyword-only arguments and their defaults.
    `relative`: the maps change with the reference value of a target; a gradient does not, nor does any method
    that compares two outputs. `extras`: names of what it records for each face beside its maps, or a function of its
    options that returns them. `caution`: what a reader of its maps must be told, "" where there is nothing. `title`:
    its name for people; `shows`: what a map says of a target, `{}`.
    """

    name: str
    function: Callable[..., torch.Tensor]
    options: dict[str, Any]
    signed: bool
    conserves: bool
    resolution: int
    needs: type[nn.Module] = nn.Module
    relative: bool = False
    extras: tuple[str, ...] | Callable[[Mapping], tuple[str, ...]] = ()
    caution: str = ""
    units: str = "output units"
    title: str = ""
    shows: str = "where {} comes from"

    def records(self, options: Mapping) -> tuple[str, ...]:
        """Return the names of what it records for each face beside its maps, with these options."""
        return self.extras(options) if callable(self.extras) else self.extras

    def properties(self) -> dict:
        """Return the declared properties (what a store records beside the maps)."""
        names = ("signed", "conserves", "resolution", "relative", "units", "caution", "title", "shows")
        return {name: getattr(self, name) for name in names}


METHODS: dict[str, Method] = {}


def method(name: str, **properties: object) -> Callable:
    """Register a function (batch, *, options) -> maps (target, sample, y, x) as the method `name`.

    `properties` are those of `Method`; `signed`, `conserves` and `resolution` must be given. Without a `title` it is
    called by its name ("input_x_gradient" -> "Input x gradient").
    """
    words = name.replace("_", " ")
    properties = {"title": words[:1].upper() + words[1:], **properties}

    def register(function: Callable) -> Callable:
        parameters = inspect.signature(function).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        METHODS[name] = Method(name, function, options, **properties)
        return function

    return register
