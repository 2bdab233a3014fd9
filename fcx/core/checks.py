"""Checks of what was given: names that a registry knows, and whole numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np

from fcx.core.errors import InputError, UnknownNameError


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
    raise UnknownNameError(f"unknown {what} {name!r}: {hint}allowed: {', '.join(allowed)}")


def whole_number(value, name: str, least: int = 1) -> int:
    """Return `value` as an int.

    Raises: InputError where it is no whole number, or less than `least`.

    >>> whole_number(np.int64(2), "batch_size")
    2
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is {value!r}; allowed: whole numbers from {least}")
    return int(value)
