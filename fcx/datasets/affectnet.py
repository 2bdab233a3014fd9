"""AffectNet as published in 2017: tables `training.csv` and `validation.csv` beside a folder of pictures.

Mollahosseini et al., "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in the Wild", IEEE
Transactions on Affective Computing 2019.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from functools import partial
from pathlib import Path

from fcx.core.errors import InputError
from fcx.datasets.layouts import (
    Rows,
    box_of,
    category,
    first_cells,
    folders_below,
    number,
    pictures_folder,
    points_of,
    table_rows,
    text_lines,
)
from fcx.datasets.pictures import read_picture
from fcx.datasets.records import EXCLUDED, Record, adapter

COLUMNS = ("subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
           "valence", "arousal")  # fmt: skip
EXPRESSIONS = dict(enumerate(("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")))
OUTSIDE = {8: "none of the expressions", 9: "uncertain", 10: "no face"}  # numbers of no expression
MARKER = -2  # a valence or arousal that is unknown
TABLES = {"training.csv": "train", "validation.csv": "validation"}
PICTURES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images")
SAMPLES = 100  # rows whose pictures are looked for, to find their folder


def _is_table(path: Path) -> bool:
    """Return whether a file begins as AffectNet's tables do, which may lack the line with the names."""
    if path.suffix.lower() != ".csv":
        return False
    cells = first_cells(path)
    return cells[:1] == [COLUMNS[0]] or COLUMNS[0] in cells or _is_row(cells)


def _is_row(cells: list[str]) -> bool:
    return len(cells) == len(COLUMNS) and bool(re.fullmatch(r".*\d[/\\][^/\\]+\.\w{2,5}", cells[0]))


def _tables(path: Path, depth: int) -> list[Path]:
    """Return the tables of AffectNet at a path, in one folder."""
    if not path.is_dir():
        return [path] if _is_table(path) else []
    folders = ([folder / name for name in TABLES if _is_table(folder / name)] for folder in folders_below(path, depth))
    return next(filter(None, folders), [])


@adapter("affectnet", takes=lambda path: bool(_tables(path, 2)), evident=lambda path: bool(_tables(path, 1)))
def open_affectnet(path: Path, strict: bool = False, images: str = "") -> list[Record]:
    """Return a record for each row of a table of AffectNet 2017, or of both tables that lie in or below a folder.

    The folder of pictures is looked for beside the tables, or named by `images`. `training.csv` is the split
    'train', `validation.csv` 'validation'. Rows of the numbers 8 to 10, which are no expressions, have the split
    'excluded'; values of -2 are NaN. Face box and 68 landmarks are kept. A faulty row has a record with its reason.

    Raises: InputError where columns or the pictures are missing; where `strict`, for a faulty row.
    """
    rows = Rows("AffectNet", strict)
    for table in _tables(path, 2):
        split = next((split for name, split in TABLES.items() if Path(name).stem in table.stem.lower()), "")
        folder = _pictures(table, images)
        for where, cells, wrong in _cells(table):
            name = cells[COLUMNS[0]].strip().replace("\\", "/")  # written on Windows
            rows.add(where, posixpath.normpath(name), partial(read_picture, f"{folder}/{name}"),
                     partial(_known, cells, wrong), split=split)  # fmt: skip
    return rows.records


def _known(cells: dict[str, str], wrong: str) -> dict:
    """Return what a row says of its face."""
    if wrong:
        raise InputError(wrong)
    name = category(cells["expression"], "expression", EXPRESSIONS | OUTSIDE)
    known = {column: number(cells[column], column, marker=MARKER) for column in ("valence", "arousal")}
    if name in OUTSIDE.values():
        place = f"expression {cells['expression'].strip()}: {name}"
        return known | {"split": EXCLUDED, "reason": place}
    return known | {"expression": name, "box": box_of(*(cells.get(column, "") for column in COLUMNS[1:5])),
                    "points": points_of(cells.get("facial_landmarks", ""), "facial_landmarks")}  # fmt: skip


def _cells(table: Path):
    """Yield place, cells and what is wrong of the rows of a table, whether or not its first line names the columns."""
    lines, columns = text_lines(table), first_cells(table)
    if COLUMNS[0] in columns:
        next(lines)
    else:
        columns = list(COLUMNS)
    if missing := [name for name in (COLUMNS[0], *COLUMNS[6:]) if name not in columns]:
        raise InputError(f"{table} has no column {', '.join(map(repr, missing))}: its first line names "
                         f"{', '.join(columns)}; AffectNet's tables have {', '.join(COLUMNS)}")  # fmt: skip
    return table_rows(lines, table, columns)


def _pictures(table: Path, given: str) -> Path:
    """Return the folder that the paths of a table begin in."""
    rows = itertools.islice(_cells(table), SAMPLES)
    samples = [cells[COLUMNS[0]].strip().replace("\\", "/") for _, cells, wrong in rows
               if not wrong and cells[COLUMNS[0]].strip()]  # fmt: skip
    above = [table.absolute().parent, table.absolute().parent.parent]
    named = [place / name for place in above for name in PICTURES]
    return pictures_folder(given, [*named, *above, *folders_below(above[0], 1), *folders_below(above[1], 2)],
                           samples, str(table))  # fmt: skip
