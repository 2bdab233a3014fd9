"""A folder of pictures, or one picture: no labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fcx.contract import InputError
from fcx.datasets.pictures import SUFFIXES, read_picture
from fcx.datasets.registry import Record, adapter


@adapter("folder", takes=Path.is_dir)
def open_folder(path: Path) -> list[Record]:
    """Return a record for each picture below `path`, sorted; its id is the path inside the folder.

    Pictures are known by their suffix; hidden files and folders and all others are passed over.
    A linked folder is entered, each real folder once.

    Raises: InputError where there is none, or a folder cannot be listed.
    """
    found = sorted(_pictures(path))
    if not found:
        raise InputError(f"{path} holds no picture: looked in it and below for {', '.join(sorted(SUFFIXES))}")
    return [Record(id=_name(inside), read=partial(read_picture, path / inside), source=path.name) for inside in found]


@adapter("picture", takes=lambda path: path.is_file() or path.is_symlink())
def open_picture(path: Path) -> list[Record]:
    """Return the record of one picture file; whether it can be read shows when it is read."""
    return [Record(id=_name(path.name), read=partial(read_picture, path), source=path.parent.name)]


def _pictures(top: Path) -> Iterator[str]:
    """Yield the paths, relative to `top`, of the picture files below it."""
    entered = {os.path.realpath(top)}
    for folder, below, files in os.walk(top, followlinks=True, onerror=_refuse):
        below.sort()
        # Assigning in place tells os.walk where to go; a link back to a folder already entered is not followed.
        below[:] = [name for name in below if not name.startswith(".") and _first(os.path.join(folder, name), entered)]
        for name in files:
            whole = Path(folder, name)
            # A dangling link gets a row that says so; a pipe or a socket would block whoever reads it.
            if (
                not name.startswith(".")
                and whole.suffix.lower() in SUFFIXES
                and (whole.is_file() or whole.is_symlink())
            ):
                yield os.path.relpath(whole, top)


def _first(folder: str, entered: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in entered:
        return False
    entered.add(real)
    return True


def _refuse(error: OSError) -> None:
    raise InputError(f"the folder {error.filename} cannot be listed: {error.strerror}") from error


def _name(path: str) -> str:
    """Return `path` as an id: forward slashes, and bytes that are no UTF-8 written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")
