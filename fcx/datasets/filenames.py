"""Pictures whose names end in their labels, `..__arousal__valence.ext`, as the paper's authors keep them."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

from fcx.core.errors import InputError
from fcx.datasets.folder import pictures_below
from fcx.datasets.layouts import folders_below, number
from fcx.datasets.pictures import SUFFIXES
from fcx.datasets.records import Record, adapter, fault

MARKER = -2  # of AffectNet, whose faces the authors named so
SPLITS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "test": "test"}
SAMPLES = 50  # pictures whose names are looked at


def _labels(name: str) -> dict:
    """Return the labels in a name.

    Raises: InputError where there are none.
    """
    parts = os.path.splitext(os.path.basename(name))[0].rsplit("__", 2)
    if len(parts) < 3:
        raise InputError("its name lacks labels; allowed: NAME__AROUSAL__VALENCE with its suffix")
    return {column: number(text or "empty", column, marker=MARKER)
            for column, text in zip(("arousal", "valence"), parts[1:], strict=True)}  # fmt: skip


def _named(path: Path, depth: int) -> bool:
    """Return whether most of the first pictures in a folder, or below it, have labels in their names."""
    folders = folders_below(path, depth) if path.is_dir() else ()
    names = itertools.islice((name for folder in folders for name in _pictures(folder)), SAMPLES)
    labelled = [_is_labelled(name) for name in names]
    return sum(labelled) * 2 > len(labelled)


def _pictures(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in itertools.islice(entries, 10 * SAMPLES))
            return [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    except OSError:
        return []


def _is_labelled(name: str) -> bool:
    try:
        return bool(_labels(name))
    except InputError:
        return False


@adapter("filenames", takes=lambda path: _named(path, 2), evident=lambda path: _named(path, 0))
def open_filenames(path: Path, strict: bool = False) -> list[Record]:
    """Return a record for each picture below a folder, labelled by its name: `face1__0.25__-0.5.jpg`.

    Arousal stands before valence, each from -1 to 1, or -2 where unknown. A folder below that is called train,
    training, val, validation or test is the split. A picture without such a name has the reason.

    Raises: InputError where there is no picture; where `strict`, for a faulty name.
    """
    records = []
    for record in pictures_below(path):
        split = next((SPLITS[part.lower()] for part in Path(record.id).parts[:-1] if part.lower() in SPLITS), "")
        try:
            known = {} if record.reason else _labels(record.id)
        except InputError as error:
            known = {"reason": fault(f"{path / record.id}, {error}", strict)}
        records.append(dataclasses.replace(record, split=split, **known))
    return records
