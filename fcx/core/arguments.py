"""What public functions are given, checked in one place: their annotations say what each parameter takes."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, ParamSpec, TypeVar, get_args

from fcx.core.checks import check_memory, choose, described, parts_of, real_number, whole_number
from fcx.core.errors import InputError

WORKER = 3e8  # bytes of a process with its libraries
Given, Returned = ParamSpec("Given"), TypeVar("Returned")


def checked(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Check what `function` is given before it runs: a kind (value, name) -> value stands in the annotation.

    A default is not checked; parameters without a kind check themselves.

    Raises: InputError where arguments are missing or too many; UnknownNameError for one that does not exist.

    >>> @checked
    ... def twice(count: Count):
    ...     return 2 * count
    >>> twice(0)
    Traceback (most recent call last):
    fcx.core.errors.InputError: count is 0; allowed: whole numbers from 1 to 1000000000000
    """

    @functools.cache
    def signature() -> tuple[inspect.Signature, dict[str, Callable]]:  # at the first call, when all names are known
        known = inspect.signature(function, eval_str=True)
        kinds = {name: _kind(parameter.annotation) for name, parameter in known.parameters.items()}
        return known, {name: kind for name, kind in kinds.items() if kind is not None}

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        known, kinds = signature()
        try:
            bound = known.bind(*args, **kwargs)
        except TypeError as error:
            taken = [name for name in known.parameters if name != "options"]
            for name in kwargs:
                choose(name, taken, f"argument of {function.__name__}")
            raise InputError(f"{function.__name__}: {error}; its arguments are {', '.join(taken)}") from None
        for name, kind in kinds.items():
            if name in bound.arguments and bound.arguments[name] is not known.parameters[name].default:
                bound.arguments[name] = kind(bound.arguments[name], name)
        return function(*bound.args, **bound.kwargs)

    return call


def _kind(annotation) -> Callable | None:
    """Return what checks a value of this annotation."""
    parts = (annotation, *get_args(annotation))
    kind = next((part.__metadata__[0] for part in parts if hasattr(part, "__metadata__")), None)
    if kind and type(None) in parts:
        return lambda value, name: None if value is None else kind(value, name)
    return kind


def word(value, name: str) -> str:
    """Return a text.

    Raises: InputError for anything else.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} is {described(value)}; allowed: a text")
    return str(value)


def words(value, name: str, allowed: str = "names") -> list[str]:
    """Return the texts of a list, or of one text with commas between.

    Raises: InputError for anything else.
    """
    if isinstance(value, str):
        return parts_of(value)
    try:
        return [str(os.fspath(part)) for part in ([value] if isinstance(value, os.PathLike) else value)]
    except TypeError:
        raise InputError(
            f"{name} is {described(value)}; allowed: {allowed}, as a list or with commas between"
        ) from None


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


def count(value, name: str) -> int:
    """Return a whole number from 1.

    Raises: InputError for anything else.
    """
    return whole_number(value, name, 1, 10**12)  # more, and products of two no longer fit into 64 bits


def worker_count(value, name: str) -> int:
    """Return a number of processes.

    Raises: InputError for anything else, or for more than the memory holds.
    """
    check_memory(count(value, name) * WORKER, f"{name}={value}")
    return int(value)


def seed(value, name: str) -> int:
    """Return a seed that numpy and torch both take.

    Raises: InputError for anything else.
    """
    return whole_number(value, name, 0, 2**63 - 1)


def mapping(value, name: str) -> dict:
    """Return a dict whose keys are texts.

    Raises: InputError for anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name} is {described(value)}; allowed: a dict from names to values")
    return dict(value)


Count = Annotated[int, count]
Workers = Annotated[int, worker_count]
Threads = Annotated[int, functools.partial(whole_number, least=1, most=1024)]  # of more, not all can start
Seed = Annotated[int, seed]
Number = Annotated[float, real_number]
Word = Annotated[str, word]
Words = Annotated[str | Iterable[str], words]
Switch = Annotated[bool, switch]
FilePath = Annotated[str | os.PathLike, file_path]
Names = Annotated[Mapping, mapping]
