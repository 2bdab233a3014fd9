"""A folder of pictures, or one picture: no labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fcx.core.errors import InputError
from fcx.datasets.pictures import SUFFIXES, read_picture
from fcx.datasets.records import Record, adapter


@adapter("folder", takes=Path.is_dir)
def open_folder(path: Path) -> list[Record]:
    """Return a record for each picture below `path`, sorted; its id is the path inside the folder.

    Pictures are known by their suffix; hidden files and folders and all others are passed over.
    A linked folder is entered, each real folder once. What is named like a picture and is none, and
    a folder below that cannot be listed, has a row with the reason.

    Raises: InputError where there is none, or `path` itself cannot be listed.
    """
    closed = {}

    def note(error: OSError) -> None:
        if Path(error.filename) == path:
            raise InputError(f"the folder {path} cannot be listed: {error.strerror}") from error
        closed[os.path.relpath(error.filename, path)] = f"the folder cannot be listed: {error.strerror}"

    found = sorted({*_pictures(path, note), *closed})
    if not found:
        raise InputError(f"{path} holds no picture: looked in it and below for {', '.join(sorted(SUFFIXES))}")
    return [Record(id=_name(inside), read=partial(read_picture, path / inside), source=path.name,
                   reason=closed.get(inside, "")) for inside in found]  # fmt: skip


@adapter("picture", takes=lambda path: path.is_file() or path.is_symlink())
def open_picture(path: Path) -> list[Record]:
    """Return the record of one picture file; whether it can be read shows when it is read."""
    return [Record(id=_name(path.name), read=partial(read_picture, path), source=path.parent.name)]


def _pictures(top: Path, note: Callable) -> Iterator[str]:
    """Yield the paths, relative to `top`, of what is named like a picture; `note` gets what cannot be listed."""
    entered = {os.path.realpath(top)}
    for folder, below, files in os.walk(top, followlinks=True, onerror=note):
        below.sort()
        # A folder named like a picture has a row that says so, as have a dangling link, a pipe and a socket.
        names = [*files, *below]
        # Assigning in place tells os.walk where to go; a link back to a folder already entered is not followed.
        below[:] = [name for name in below if not name.startswith(".") and _first(os.path.join(folder, name), entered)]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield os.path.relpath(Path(folder, name), top)


def _first(folder: str, entered: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in entered:
        return False
    entered.add(real)
    return True


def _name(path: str) -> str:
    """Return `path` as an id: forward slashes, and bytes that are no UTF-8 written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")
