"""Aff-Wild2: a text file of ratings for each video, and its frames as folders of cropped faces.

Kollias and Zafeiriou, "Aff-Wild2: Extending the Aff-Wild Database for Affect Recognition", 2018.
"""

from __future__ import annotations

import itertools
import os
from functools import partial
from pathlib import Path

from fcx.core.checks import whole_number
from fcx.core.errors import InputError
from fcx.datasets.layouts import Rows, first_cells, folders_below, names_in, number, table_rows, text_lines
from fcx.datasets.pictures import read_picture
from fcx.datasets.records import EXCLUDED, Record, adapter

COLUMNS = ["valence", "arousal"]
SPLITS = {"Train_Set": "train", "Validation_Set": "validation"}
PICTURES = "cropped_aligned"  # also the beginning of the names of later parts
MARKER = -5  # a rating that is invalid


def _sets(path: Path, depth: int) -> list[Path]:
    """Return the folders of ratings at a path; those of expressions and action units have the same names."""
    return [folder for folder in folders_below(path, depth) if folder.name in SPLITS and _is_set(folder)]


def _is_near(path: Path) -> bool:
    """Return whether ratings lie where the archives of Aff-Wild2 put them, without looking further."""
    tops = [path / inside for path in folders_below(path, 1) for inside in ("", "VA_Estimation_Challenge")]
    return any(_is_set(top / split) for top in tops for split in SPLITS)


def _is_set(folder: Path) -> bool:
    return any(first_cells(file) == COLUMNS for file in itertools.islice(sorted(folder.glob("*.txt")), 5))


@adapter("affwild2", takes=lambda path: path.is_dir() and bool(_sets(path, 3)),
         evident=lambda path: path.is_dir() and _is_near(path))  # fmt: skip
def open_affwild2(path: Path, strict: bool = False, images: str = "", every: int = 1) -> list[Record]:
    """Return a record for each rated frame of the videos in `Train_Set` and `Validation_Set`, in or below a folder.

    Line k+1 of `VIDEO.txt`, below the line `valence,arousal`, is about `cropped_aligned/VIDEO/0000k.jpg`; that folder
    is looked for beside the ratings and above, or named by `images`. The video is the subject of its frames. -5 is
    NaN. Frames without a picture, in which no face was seen, and pictures without a rating have the split 'excluded'.
    `every` takes every so manieth frame: there are more than two million.

    Raises: InputError where the pictures are missing; where `strict`, for a faulty line.
    """
    whole_number(every, "every")
    sets = _sets(path, 3)
    places = [Path(os.path.expanduser(images))] if images else _places(path.absolute(), sets)
    if not places:
        raise InputError(f"{path} holds ratings of Aff-Wild2, but no folder {PICTURES} lies in it, beside it or above: "
                         f"expected {PICTURES}/VIDEO/00001.jpg; or name the folder by the option images")  # fmt: skip
    rows = Rows("Aff-Wild2", strict)
    for folder in sets:
        for file in sorted(folder.glob("*.txt")):
            _add_video(rows, file, places, every, SPLITS[folder.name])
    return rows.records


def _places(path: Path, sets: list[Path]) -> list[Path]:
    """Return the folders of pictures in a folder, in those above it, and in those above its ratings."""
    tops = dict.fromkeys(
        [path, *list(path.parents)[:3], *(above for folder in sets for above in list(folder.parents)[:3])]
    )
    return [top / name for top in tops for name in sorted(names_in(top))
            if name.startswith(PICTURES) and (top / name).is_dir()]  # fmt: skip


def _add_video(rows: Rows, file: Path, places: list[Path], every: int, split: str) -> None:
    """Add the frames of one video."""
    video = file.stem
    fixed = {"subject": video, "split": split}
    place = next((place for place in places if (place / video).is_dir()), None)
    if first_cells(file) != COLUMNS:
        text = f"column 1: it begins with {','.join(first_cells(file))!r}; allowed: {','.join(COLUMNS)}"
        return rows.refuse(f"{file}, line 1", video, _no_picture, text, **fixed)
    if place is None:
        text = f"its frames are missing: expected {', '.join(str(place / video / '00001.jpg') for place in places[:3])}"
        return rows.refuse(str(file), video, _no_picture, text, **fixed)
    pictures = names_in(place / video)
    frame = 0
    for frame, (where, cells, wrong) in enumerate(table_rows(_lines(file), file, COLUMNS), 1):
        if (frame - 1) % every:
            continue
        name = f"{frame:05d}.jpg"
        rows.add(where, f"{video}/{name}", partial(read_picture, f"{place}/{video}/{name}"),
                 partial(_known, cells, wrong, name in pictures), **fixed)  # fmt: skip
    known = {f"{number:05d}.jpg" for number in range(1, frame + 1)}
    for name in sorted(name for name in pictures - known if name[:1].isdigit()):
        extra = {"split": EXCLUDED, "reason": f"{file.name} has {frame} ratings, none of this frame"}
        rows.add(
            str(file), f"{video}/{name}", partial(read_picture, f"{place}/{video}/{name}"), extra.copy, subject=video
        )
    return None


def _lines(file: Path):
    """Yield the lines below the first; an empty one among them is a frame without numbers."""
    lines = [(count, line or ",") for count, line in text_lines(file)][1:]
    while lines and not lines[-1][1].strip(", "):
        lines.pop()
    return lines


def _known(cells: dict[str, str], wrong: str, pictured: bool) -> dict:
    """Return what a line says of its frame."""
    if wrong:
        raise InputError(wrong)
    known = {name: number(cells[name] or "empty", name, marker=MARKER) for name in COLUMNS}
    return known if pictured else known | {"split": EXCLUDED, "reason": "no picture: no face was seen in this frame"}


def _no_picture():
    raise InputError("there is no picture")
