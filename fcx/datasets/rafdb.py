"""RAF-DB, its basic expressions: a list of labels, pictures as taken or aligned, boxes of faces.

Li, Deng and Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild",
CVPR 2017.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from fcx.core.checks import choose
from fcx.core.errors import InputError
from fcx.datasets.layouts import Rows, category, folders_below, names_in, number, pictures_folder, text_lines
from fcx.datasets.pictures import read_picture
from fcx.datasets.records import Record, adapter

LIST = "list_patition_label.txt"  # as its authors spell it
EXPRESSIONS = dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"), 1))
SPLITS = {"train": "train", "test": "test"}
PICTURES = {"aligned": "_aligned.jpg", "original": ".jpg"}


def _list(path: Path, depth: int) -> Path | None:
    """Return the list of labels at a path."""
    if path.name == LIST and path.is_file():
        return path
    places = (folder / inside / LIST for folder in folders_below(path, depth) for inside in ("", "EmoLabel"))
    return next((place for place in places if place.is_file() and "compound" not in place.parts[-3:]), None)


@adapter("rafdb", takes=lambda path: _list(path, 1) is not None, evident=lambda path: _list(path, 0) is not None)
def open_rafdb(path: Path, strict: bool = False, images: str = "") -> list[Record]:
    """Return a record for each line of RAF-DB's list of basic expressions, which has neither valence nor arousal.

    `path` is the list, or a folder in or below which it lies (`basic`, `basic/EmoLabel`). `images` is 'aligned'
    (100x100 pixels) or 'original', which have the boxes of faces in `Annotation/boundingbox`; unless told, aligned ones
    where they are there. Splits are those in the names, 'train' and 'test'. A faulty line has the reason.

    Raises: InputError where the pictures are missing; where `strict`, for a faulty line.
    """
    labels = _list(path, 1).absolute()
    tops = [labels.parent, labels.parent.parent]
    lines = [(f"{labels}, line {count}", line.split()) for count, line in text_lines(labels) if line.strip()]
    names = [cells[0] for _, cells in lines[:100]]
    kinds = [choose(images, PICTURES, "kind of images of RAF-DB")] if images else list(PICTURES)
    places = {top / "Image" / kind: kind for kind in kinds for top in tops} | {
        top / kind: kind for kind in kinds for top in tops
    }
    samples = [f"{os.path.splitext(name)[0]}{PICTURES[kind]}" for kind in kinds for name in names]
    folder = pictures_folder("", places, samples, str(labels))
    kind = places[folder]
    boxes = next((top / "Annotation" / "boundingbox" for top in tops if (top / "Annotation").is_dir()), None)
    boxed = names_in(boxes) if kind == "original" and boxes else set()
    rows = Rows("RAF-DB", strict)
    for where, cells in lines:
        stem = os.path.splitext(cells[0])[0]
        box = f"{stem}_boundingbox.txt"
        rows.add(where, cells[0], partial(read_picture, f"{folder}/{stem}{PICTURES[kind]}"),
                 partial(_known, cells, boxes / box if box in boxed else None),
                 split=SPLITS.get(stem.partition("_")[0], ""))  # fmt: skip
    return rows.records


def _known(cells: list[str], box: Path | None) -> dict:
    """Return what a line says of its face."""
    if len(cells) != 2:
        raise InputError(
            f"column {min(len(cells), 2) + 1}: the line has {len(cells)} words, not 2: a name and a number"
        )
    if cells[0].partition("_")[0] not in SPLITS:
        raise InputError(f"column 1: the name is {cells[0]!r}; allowed: train_... and test_..., which is the split")
    return {"expression": category(cells[1], "label", EXPRESSIONS), "box": _box(box) if box else None}


def _box(path: Path) -> tuple[float, float, float, float]:
    """Return the box (left, top, width, height) in a file of left, top, right and bottom."""
    cells = " ".join(line for _, line in text_lines(path)).replace(",", " ").split()
    corners = [number(cell, path.name, -1e6, 1e6) for cell in cells]
    if len(corners) != 4 or not (corners[2] > corners[0] and corners[3] > corners[1]):
        raise InputError(f"{path.name} holds {' '.join(cells)!r}; allowed: left, top, right and bottom of a box")
    left, top, right, bottom = corners
    return (left, top, right - left, bottom - top)
