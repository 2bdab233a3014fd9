"""Labels that lie beside pictures: what a folder that is read as plain pictures is really a part of."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from fcx.datasets.pictures import SUFFIXES
from fcx.datasets.records import ADAPTERS

ABOVE = 3  # levels above a folder at which a data set that it is part of may begin
LOOKED_AT = 200  # entries of a folder, at most and pictures aside, that are asked what they are


def labels_beside(folder: Path) -> str:
    """Return a sentence that names what to open instead of a folder of pictures, '' where no labels lie beside them.

    Every format is asked (`adapter(..., evident=...)`) whether what lies in the folder, or a folder above, is of it.
    """
    for place in _places(folder):
        for candidate in ADAPTERS.values():
            with contextlib.suppress(OSError):  # a place that may not be looked into
                if not candidate.last and candidate.evident and candidate.evident(place):
                    return (
                        f"{folder} is read as plain pictures, without labels, but {place} is of the format "
                        f"{candidate.name!r}: give that path to have the labels"
                    )
    return ""


def _places(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder, then the folders above it, each before the tables in it that speak of `folder`."""
    yield from _entries(folder)
    below = Path(os.path.abspath(folder))
    for above in itertools.islice(below.parents, ABOVE):
        yield above
        yield from (entry for entry in _entries(above) if entry.is_file() and _speaks_of(entry, below.name))
        below = above


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            others = (Path(entry.path) for entry in entries if not entry.name.startswith(".")
                      and os.path.splitext(entry.name)[1].lower() not in SUFFIXES)  # fmt: skip
            return sorted(itertools.islice(others, LOOKED_AT))
    except OSError:
        return []


def _speaks_of(table: Path, name: str) -> bool:
    """Return whether the beginning of a file names the folder `name`."""
    try:
        with table.open("rb") as file:
            return name.encode(errors="surrogateescape") in file.read(1 << 16)
    except OSError:
        return False
