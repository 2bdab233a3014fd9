"""Checks of what was given: names that a registry knows, and numbers; and fields of dataclasses that are options."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import math
import os
import re
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

from fcx.core.errors import InputError, UnknownNameError

Names = TypeVar("Names", bound=Iterable[str])
LONG = 80  # characters of what was given that an error repeats
# What other libraries call a method, letters only -> its name here.
ELSEWHERE = {
    "gradientshap": "expected_gradients", "saliency": "gradient", "vanillagradient": "gradient",
    "gradientxinput": "input_x_gradient", "ig": "integrated_gradients", "guidedbackpropagation": "guided_backprop",
    "featureablation": "region_ablation", "kernelshap": "region_shapley", "shapleyvalues": "region_shapley",
    "shapleyvaluesampling": "region_shapley", "slidingwindow": "occlusion", "epsilonplus": "zennit",
    "epsilongammabox": "zennit", "epsilonplusflat": "zennit", "xgradcam": "gradcam",
}  # fmt: skip


def described(value) -> str:
    """Return how an error names what was given: as Python writes it, or its kind where that is long.

    >>> described("x" * 100), described([1, 2])
    ("'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx ...'", '[1, 2]')
    """
    if shape := getattr(value, "shape", ()):
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    text = repr(value)
    if isinstance(value, str) and len(text) > LONG:
        return f"{text[: LONG - 16]} ...'"
    return text if len(text) <= LONG and "\n" not in text else f"a {type(value).__name__}"


def parts_of(text: str) -> list[str]:
    """Return the parts of a text with commas between, which may stand in brackets and quotation marks.

    >>> parts_of("lrp, gradcam"), parts_of("['lrp', 'gradcam']")
    (['lrp', 'gradcam'], ['lrp', 'gradcam'])
    """
    text = text.strip()
    if text[:1] + text[-1:] in ("[]", "()"):
        return [part.strip(" '\"") for part in text[1:-1].split(",")]
    return [part.strip() for part in text.split(",")]


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return `name` if it is allowed, else raise an error that names the nearest allowed one.

    Raises: UnknownNameError, "unknown method 'gradcma': did you mean 'gradcam'? ...".

    >>> choose("gradcam", ["gradcam", "lrp"], "method")
    'gradcam'
    """
    allowed = list(allowed)
    if isinstance(name, str) and name in allowed:
        return name
    other = ELSEWHERE.get(re.sub("[^a-z]", "", str(name).lower()))
    near = [other] if other in allowed else difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"unknown {what} {described(name)}: {hint}allowed: {', '.join(allowed) or 'none'}")


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


def whole_number(value, name: str, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int.

    Raises: InputError where it is no whole number, less than `least` or more than `most`.

    >>> whole_number(2, "batch_size")
    2
    """
    ok = isinstance(value, Integral) and not isinstance(value, bool) and value >= least
    if not ok or (most is not None and value > most):
        to = "" if most is None else f" to {most}"
        raise InputError(f"{name} is {described(value)}; allowed: whole numbers from {least}{to}")
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
        raise InputError(f"{name} is {described(value)}; allowed: numbers{words}{unit and f', {unit}'}")
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


@functools.cache
def memory() -> int:
    """Return how many bytes this process can hold: those of the machine, or of the container it runs in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def check_memory(needed: float, what: str) -> None:
    """Refuse what cannot work here, instead of being killed by it.

    Raises: InputError where `what` needs more bytes than there are.

    >>> check_memory(1e18, "width 100000000")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fcx.core.errors.InputError: width 100000000 needs about 1,000,000,000 GB of memory, this machine has ...
    """
    if needed > memory():
        raise InputError(
            f"{what} needs about {needed / 1e9:,.0f} GB of memory, this machine has {memory() / 1e9:,.1f}: give less"
        )
