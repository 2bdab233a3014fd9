"""What public functions are given, checked in one place: their annotations say what each parameter takes."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, ParamSpec, TypeVar, get_args

from fcx.core.checks import described, listed, real_number, whole_number
from fcx.core.errors import InputError

Given, Returned = ParamSpec("Given"), TypeVar("Returned")


def checked(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Check what `function` is given before it runs: a kind (value, name) -> value stands in the annotation.

    A parameter that may be None, or has its default, is not checked. Parameters without a kind check themselves.

    >>> @checked
    ... def twice(count: Count):
    ...     return 2 * count
    >>> twice(0)
    Traceback (most recent call last):
    fcx.core.errors.InputError: count is 0; allowed: whole numbers from 1
    """

    @functools.cache
    def signature() -> tuple[inspect.Signature, dict[str, Callable]]:  # at the first call, when all names are known
        known = inspect.signature(function, eval_str=True)
        kinds = {name: _kind(parameter.annotation) for name, parameter in known.parameters.items()}
        return known, {name: kind for name, kind in kinds.items() if kind is not None}

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        known, kinds = signature()
        bound = known.bind(*args, **kwargs)
        for name, kind in kinds.items():
            if name in bound.arguments and bound.arguments[name] is not known.parameters[name].default:
                bound.arguments[name] = kind(bound.arguments[name], name)
        return function(*bound.args, **bound.kwargs)

    return call


def _kind(annotation) -> Callable | None:
    """Return what checks a value of this annotation."""
    for part in (annotation, *get_args(annotation)):
        for kind in getattr(part, "__metadata__", ()):
            return (lambda value, name: None if value is None else kind(value, name)) if part != annotation else kind
    return None


def word(value, name: str) -> str:
    """Return a text.

    Raises: InputError for anything else.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} is {described(value)}; allowed: a text")
    return str(value)


def words(value, name: str) -> list[str]:
    """Return the texts of a list, or of one text with commas between.

    Raises: InputError for anything else.
    """
    if isinstance(value, str):
        return listed(value)
    try:
        parts = [str(part) if isinstance(part, str) else None for part in value]
    except TypeError:
        parts = [None]
    if None in parts or isinstance(value, bytes):
        raise InputError(f"{name} is {described(value)}; allowed: names, as a list or with commas between")
    return parts


def switch(value, name: str) -> bool:
    """Return True or False.

    Raises: InputError for anything else.
    """
    if type(value).__name__ not in ("bool", "bool_"):  # numpy's own too, which is not imported for this
        raise InputError(f"{name} is {described(value)}; allowed: True or False")
    return bool(value)


def file_path(value, name: str):
    """Return a path.

    Raises: InputError for what is none: another type, nothing, or a NUL, which no file's name can hold.
    """
    if not isinstance(value, str | os.PathLike) or not (text := os.fspath(value)) or isinstance(text, bytes):
        raise InputError(f"{name} is {described(value)}; allowed: the path of a file or folder")
    if "\0" in text:
        raise InputError(f"{name} is {text!r}; allowed: a path without NUL")
    return value


def mapping(value, name: str) -> dict:
    """Return a dict whose keys are texts.

    Raises: InputError for anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name} is {described(value)}; allowed: a dict from names to values")
    return dict(value)


Count = Annotated[int, whole_number]
Seed = Annotated[int, functools.partial(whole_number, least=0, most=2**63 - 1)]  # what torch and numpy both take
Number = Annotated[float, real_number]
Word = Annotated[str, word]
Words = Annotated[str | Iterable[str], words]
Switch = Annotated[bool, switch]
FilePath = Annotated[str | os.PathLike, file_path]
Names = Annotated[Mapping, mapping]
