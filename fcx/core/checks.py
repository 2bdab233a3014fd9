"""Checks of what was given: names that a registry knows, and numbers; and fields of dataclasses that are options."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeVar

from fcx.core.errors import InputError, UnknownNameError

Names = TypeVar("Names", bound=Iterable[str])


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return `name` if it is allowed, else raise an error that names the nearest allowed one.

    Raises: UnknownNameError, "unknown method 'gradcma': did you mean 'gradcam'? ...".

    >>> choose("gradcam", ["gradcam", "lrp"], "method")
    'gradcam'
    """
    allowed = list(allowed)
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"unknown {what} {name!r}: {hint}allowed: {', '.join(allowed) or 'none'}")


def choose_all(names: Names, allowed: Iterable[str], what: str) -> Names:
    """Return `names` (a list, or a dict of options) if all are allowed.

    Raises: as `choose`.
    """
    for name in names:
        choose(name, allowed, what)
    return names


def option(default, help: str):
    """Return a field of a dataclass with the sentence that the command line shows of it."""
    return dataclasses.field(default=default, metadata={"help": help})


def whole_number(value, name: str, least: int = 1) -> int:
    """Return `value` as an int.

    Raises: InputError where it is no whole number, or less than `least`.

    >>> whole_number(2, "batch_size")
    2
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} is {value!r}; allowed: whole numbers from {least}")
    return int(value)


def real_number(value, name: str, low=None, high=None, *, above=None, below=None, unit="") -> float:
    """Return `value` as a float.

    Raises: InputError where it is no finite number, or out of its bounds (`above` and `below` do not belong to them).

    >>> real_number(0.5, "dropout", 0, below=1)
    0.5
    """
    ok = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    ok = ok and (low is None or value >= low) and (high is None or value <= high)
    if not ok or (above is not None and value <= above) or (below is not None and value >= below):
        bounds = {"from": low, "above": above, "to": high, "below": below}
        words = "".join(f" {word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        raise InputError(f"{name} is {value!r}; allowed: numbers{words}{unit and f', {unit}'}")
    return float(value)


def read_number(text: str) -> float:
    """Return the number that a text stands for; unlike `float`, reads neither `0_1` nor digits of other scripts.

    Raises: ValueError, as `float`.

    >>> read_number(" -0.5 ")
    -0.5
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"no number: {text!r}")
    return float(text)
