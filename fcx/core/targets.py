"""Targets: what is explained, as linear operators on the outputs of networks.

A target is a text: an output ("valence", or "happy" of a network that answers it), a direction of the circumplex
("excitement"), a linear expression of these ("valence - arousal", "0.5*valence + arousal", "happy - sad"), and any of
them from a reference value ("valence @ 0.2" explains f - 0.2). Outputs are those before the activation of a tanh head,
for attributions; predictions and ratings take the same operator, without the reference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fcx.core.arguments import words
from fcx.core.checks import choose
from fcx.core.contract import TARGETS
from fcx.core.errors import InputError
from fcx.core.provenance import nested_attr

EXAMPLE = "such as 'valence', 'valence - arousal', '0.5*valence + arousal' or 'valence @ 0.2'"
TOKEN = re.compile(r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<mark>[-+*@]))")
HALF = math.sqrt(0.5)
LARGEST = 1e9  # number; maps in float32 would overflow from 1e38 on
# The quadrants of the circumplex as unit vectors (arousal, valence), at 45, 135, 225 and 315 degrees from pleasure.
# Source: Russell, "A circumplex model of affect", Journal of Personality and Social Psychology 39(6), 1980.
QUADRANTS = {
    "excitement": (HALF, HALF),
    "distress": (HALF, -HALF),
    "depression": (-HALF, -HALF),
    "relaxation": (-HALF, HALF),
}


@dataclass(frozen=True)
class Target:
    """A target: its text, the weight of each of `outputs`, and its reference value."""

    name: str
    weights: tuple[float, ...]
    reference: float = 0.0
    outputs: tuple[str, ...] = TARGETS

    @property
    def needs(self) -> dict[str, float]:
        """The outputs that it is made of, each with its weight."""
        return {name: weight for name, weight in zip(self.outputs, self.weights, strict=True) if weight}

    def of_outputs(self, outputs: Sequence[str]) -> bool:
        """Return whether a network with these outputs has all that it is made of."""
        return set(self.needs) <= set(outputs)

    def of(self, values) -> np.ndarray:
        """Return sum_o weight_o values_o of one array for each output; an output without weight does not count.

        >>> parse("valence - 0.5*arousal").of([np.array([0.2]), np.array([0.5])])
        array([0.4])
        """
        return sum(weight * value for weight, value in zip(self.weights, values, strict=True) if weight)


def parse(text: str, outputs: Sequence[str] = TARGETS) -> Target:
    """Return the target of networks with some outputs that a text names.

    Raises: UnknownNameError for a name that is none; InputError for a text that is no target, or is always 0.

    >>> parse("0.5*valence + arousal")
    Target(name='0.5*valence + arousal', weights=(1.0, 0.5), reference=0.0, outputs=('arousal', 'valence'))
    >>> parse("happy - sad", ["happy", "neutral", "sad"]).needs
    {'happy': 1.0, 'sad': -1.0}
    >>> parse("-valence @ -0.2").reference
    -0.2
    """
    tokens, known = _tokens(text), _directions(outputs)
    total, reference, first = np.zeros(len(outputs)), 0.0, True
    while tokens and tokens[0] != "@":
        total, first = total + _term(text, tokens, first, known), False
    if tokens:
        tokens.pop(0)
        sign = -1.0 if tokens[:1] == ["-"] else 1.0
        if tokens[:1] in (["-"], ["+"]):
            tokens.pop(0)
        if len(tokens) != 1 or not isinstance(tokens[0], float):
            raise _fault(text, "after '@' stands one number")
        reference = sign * tokens.pop()
    total[np.abs(total) < 1 / LARGEST] = 0  # what rounding leaves of 0.1 + 0.2 - 0.3
    if first or not total.any():
        raise _fault(text, "nothing is left of it: it is always 0" if not first else "it names no output")
    return Target(str(text).strip(), tuple(map(float, total)), reference, tuple(outputs))


def _directions(outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the weights (output,) of each name: of the outputs, and of the quadrants where they can be."""
    names = {name: np.array([float(name == other) for other in outputs]) for name in outputs}
    if all(target in names for target in TARGETS):
        sides = [names[target] for target in TARGETS]
        names |= {quadrant: np.dot(weights, sides) for quadrant, weights in QUADRANTS.items() if quadrant not in names}
    return names


def parse_all(given, outputs: Sequence[str] = TARGETS) -> list[Target]:
    """Return the targets of a comma-separated text or of a list.

    Raises: InputError where there is none, or where two are the same operator; else as in `parse`.
    """
    targets = [parse(text, outputs) for text in words(given, "targets")]
    if not targets or len({(target.weights, target.reference) for target in targets}) < len(targets):
        raise InputError(f"targets are {[target.name for target in targets]}: give at least one, each once; {EXAMPLE}")
    return targets


def ratings(faces, name: str, outputs: Sequence[str] = TARGETS) -> np.ndarray:
    """Return the ratings (sample,) of a target of `outputs`, NaN where an output that it needs is not rated.

    Raises: as in `parse`.
    """
    unknown = np.full(faces.sizes["sample"], np.nan)
    return parse(name, outputs).of([faces[output].values if output in TARGETS else unknown for output in outputs])


def answered(results) -> tuple[str, ...]:
    """Return the outputs of the networks of results, each once; older results know arousal and valence only."""
    declared = nested_attr(results, "outputs") or {}
    return tuple(dict.fromkeys((*TARGETS, *(name for of in declared.values() for name in of["outputs"]))))


def _tokens(text) -> list:
    """Return numbers as floats, and names and marks as text."""
    if not isinstance(text, str):
        raise _fault(text, "a target is a text")
    tokens, place, end = [], 0, len(text.rstrip())
    while place < end:
        found = TOKEN.match(text, place)
        if found is None:
            raise _fault(text, f"{text[place:].strip()[0]!r} cannot stand in it")
        number = found["number"]
        tokens.append(float(number) if number else found["name"] or found["mark"])
        if number and tokens[-1] > LARGEST:
            raise _fault(text, f"{number} is too large, allowed are numbers up to {LARGEST:g}")
        place = found.end()
    return tokens


def _term(text: str, tokens: list, first: bool, known: Mapping) -> np.ndarray:
    """Take [sign] [number *] name off the tokens, and return its weights."""
    sign = 1.0
    if tokens[0] in ("+", "-"):
        sign = -1.0 if tokens.pop(0) == "-" else 1.0
    elif not first:
        raise _fault(text, f"'+' or '-' is missing before {tokens[0]!r}")
    if tokens and isinstance(tokens[0], float):
        sign *= tokens.pop(0)
        if tokens[:1] != ["*"]:
            raise _fault(text, "a number stands before '*' and a name")
        tokens.pop(0)
    if not tokens or tokens[0] in ("+", "-", "*", "@") or isinstance(tokens[0], float):
        raise _fault(text, "a name is missing")
    return sign * known[choose(tokens.pop(0), known, "target")]


def _fault(text, why: str) -> InputError:
    return InputError(f"target {text!r} cannot be read: {why}; give names and numbers, {EXAMPLE}")
