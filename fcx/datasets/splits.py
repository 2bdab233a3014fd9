"""Splits for a data set that has none: by subject where one is known, the same for a face whatever stands beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np

from fcx.core.checks import described, parts_of, read_number
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.datasets.records import EXCLUDED, Record

NAMES = ("train", "validation", "test")
KEPT = (EXCLUDED, "unlabelled")  # splits of rows that none of these is for
EXAMPLE = "0.8,0.2 or 0.7,0.15,0.15"


def with_splits(records: list[Record], shares, seed: int, name: str) -> list[Record]:
    """Return the records of a data set with splits train, validation and, where there is a third of `shares`, test.

    The split is drawn by hash of the seed and the subject, or of the picture where the subject is not known: faces
    that are added change none of it. Subjects who share a picture are together. What is excluded, unlabelled or
    faulty stays as it is; a split 'test' is drawn anew where it is the only one, as in the demo set.

    Raises: InputError where `shares` are no two or three numbers above 0 whose sum is 1, or the data set has splits.
    """
    bounds = np.cumsum(read_shares(shares))
    own = sorted({record.split for record in records} - {"", "test", *KEPT})
    if own:
        raise InputError(f"{name} has splits of its own ({', '.join(own)}): splits are made only where there are none")
    chosen = [i for i, record in enumerate(records) if not record.reason and record.split not in KEPT]
    groups = _groups([records[i] for i in chosen])
    records = list(records)
    for i, group in zip(chosen, groups, strict=True):
        drawn = int(digest(f"{seed}:{group}".encode(errors="surrogateescape")), 16) / 16**16
        records[i] = replace(records[i], split=NAMES[int(np.searchsorted(bounds[:-1], drawn, side="right"))])
    return records


def read_shares(shares, name: str = "split") -> list[float]:
    """Return the shares of train, validation and perhaps test, given as numbers or as a text with commas between.

    Raises: InputError for others than two or three numbers above 0 whose sum is 1.

    >>> read_shares("0.8,0.2")
    [0.8, 0.2]
    """
    try:
        numbers = [read_number(part) for part in parts_of(shares)] if isinstance(shares, str) else [*map(float, shares)]
    except (TypeError, ValueError, RuntimeError):  # torch raises the last
        numbers = []
    if len(numbers) not in (2, 3) or not all(n > 0 for n in numbers) or not abs(sum(numbers) - 1) < 1e-6:
        raise InputError(f"{name} is {described(shares)}; allowed: the shares of train, validation and, if wanted, "
                         f"test, above 0 and together 1, such as {EXAMPLE}")  # fmt: skip
    return numbers


Shares = Annotated[str | Iterable[float], read_shares]


def _groups(records: list[Record]) -> list[str]:
    """Return for each record the name of its group: a subject's, or a picture's where the subject is not known.

    Who shares a picture is one group, named by the subject who comes first in the alphabet.
    """
    pictures = [_content(record.read, record.id) for record in records]
    of = {}  # a picture or subject -> another of its group, or itself

    def first(node: tuple) -> tuple:
        while of.setdefault(node, node) != node:
            of[node] = node = of[of[node]]
        return node

    nodes = [((0, record.subject) if record.subject else (1, picture), (1, picture))
             for record, picture in zip(records, pictures, strict=True)]  # fmt: skip
    for subject, picture in nodes:
        low, high = sorted((first(subject), first(picture)))  # subjects before pictures
        of[high] = low
    return ["{}:{}".format(*first(subject)) for subject, _ in nodes]


def _content(read: Callable, name: str) -> str:
    """Return what tells the picture behind `read` from others: a hash of the file or of the pixels, else the name."""
    origin = read.args[0] if isinstance(read, partial) and read.args else None
    try:
        if isinstance(origin, str | os.PathLike):
            with open(origin, "rb") as file:
                return digest(file.read())
        return digest(read() if origin is None else origin)
    except (OSError, InputError):  # it will have a row that says why
        return name
