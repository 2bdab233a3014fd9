"""A CSV: path, valence, arousal, and optionally expression, subject, split, source, a face box, 68 landmarks."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from fcx.core.checks import read_number
from fcx.core.errors import InputError, UnknownNameError
from fcx.datasets.pictures import read_picture
from fcx.datasets.records import UNKNOWN, Record, adapter, expression_name, fault, label

REQUIRED = ("path", "valence", "arousal")
BOX = ("face_x", "face_y", "face_width", "face_height")
LANDMARKS = ("landmarks", "facial_landmarks")  # x;y;x;y;... of 68 points
POINTS = tuple(f"{axis}_{number}" for number in range(68) for axis in "xy")  # or a column for each number
OPTIONAL = ("expression", "subject", "split", "source", *BOX, *LANDMARKS)
NUMBERS = frozenset(("valence", "arousal", *BOX, *LANDMARKS, *POINTS))
SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"


def _is_table(path: Path) -> bool:
    """Return whether the first line of a file names the columns that are required."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file, contextlib.suppress(InputError):
        return set(REQUIRED) <= set(_header(path, [file.readline(1 << 16)])[0])
    return False


@adapter("csv", takes=lambda path: path.suffix.lower() in SUFFIXES and not path.is_dir(), evident=_is_table)
def open_csv(path: Path, strict: bool = False) -> list[Record]:
    """Return a record for each row; paths are relative to the CSV, an empty or NaN label is unknown.

    Between cells stand commas, tabs or semicolons (with which numbers may have decimal commas). Ids are the paths,
    without what leads nowhere (`./a.jpg` is `a.jpg`). `face_x, face_y, face_width, face_height` are the box of the
    face, `landmarks` its 68 points (`x;y;x;y;...`, or columns x_0, y_0 to x_67, y_67), in picture pixels. A picture
    that is missing or damaged shows when it is read; other columns are passed over. A row with a label out of [-1, 1],
    a path that stands twice, or another number of cells than the header has a record with line, column and reason.

    Raises: InputError naming the column that is missing; where `strict`, file, line and column of a faulty row.
    """
    records = records_of(_rows(path), path.parent, path.stem, strict)
    if not records:
        raise InputError(f"{path} has a header and no rows")
    return records


def records_of(rows: Iterable[tuple], folder: str | os.PathLike, source: str, strict: bool) -> list[Record]:
    """Return a record for each of `rows`: where it stands, its cells by column, and what is wrong with it or ''.

    Paths are relative to `folder`; rows that name no source are of `source`.

    Raises: InputError, where `strict`, for a faulty row.
    """
    records, seen = [], {}
    for where, cells, wrong in rows:
        path = cells.get("path", "").replace("\\", "/")  # written on Windows
        file = os.path.join(folder, path) if path else ""
        common = {"read": partial(read_picture, file), "split": cells.get("split", ""),
                  "source": cells.get("source", "") or source}  # fmt: skip
        place = os.path.abspath(file)  # a.jpg and ./a.jpg are one
        try:
            if wrong or posixpath.normpath(path) == ".":
                raise InputError(wrong or f"column 'path': it is {path!r}; allowed: the path of a picture")
            if (first := seen.setdefault(place, where)) is not where:
                raise InputError(f"column 'path': {path} stands in {first} too; a picture is one sample")
            known = {"subject": cells.get("subject", ""), **_labels(cells), "box": _box(cells),
                     "points": _points(cells)}  # fmt: skip
        except InputError as error:
            known = {"reason": fault(f"{where}, {error}", strict)}
            if seen.get(place) is not where:  # the id is another row's, or there is none
                path = os.path.basename(where)
        records.append(Record(id=posixpath.normpath(path), **common, **known))
    return records


def _labels(cells: dict[str, str]) -> dict:
    try:
        expression = expression_name(cells.get("expression", ""))
    except UnknownNameError as error:
        raise InputError(f"column 'expression': {error}") from error
    numbers = {
        name: _number(cells[name], name, "from -1 to 1, or empty where unknown") for name in ("valence", "arousal")
    }
    return {
        "expression": expression,
        **{name: label(value, name, f"column {name!r}") for name, value in numbers.items()},
    }


def _box(cells: dict[str, str]) -> tuple[float, float, float, float] | None:
    if not any(cells.get(name) for name in BOX):
        return None
    box = tuple(_number(cells[name], name, "of pixels") for name in BOX)
    for name, value in zip(BOX, box, strict=True):
        if not math.isfinite(value) or (name in BOX[2:] and value <= 0):
            raise InputError(f"column {name!r}: {cells[name] or 'empty'}; allowed: numbers of pixels, sizes above 0")
    return box


def _points(cells: dict[str, str]) -> np.ndarray | None:
    """Return the 68 landmarks (point, xy) float32, None where a row has none."""
    name = next((name for name in LANDMARKS if cells.get(name)), POINTS[0])
    if not cells.get(name):
        return None
    texts = (
        [cells.get(each, "") for each in POINTS] if name == POINTS[0] else re.split(r"[;\s]+", cells[name].strip("; "))
    )
    values = np.array([_number(text, name, "of pixels") for text in texts], dtype="f4")
    if len(values) != 136 or not np.isfinite(values).all():
        raise InputError(f"column {name!r}: {np.isfinite(values).sum()} numbers; allowed: 136, x;y of 68 points")
    return values.reshape(68, 2)


def _number(text: str, name: str, allowed: str) -> float:
    if not text:
        return UNKNOWN
    try:
        return read_number(text)
    except ValueError as error:
        raise InputError(f"column {name!r}: {name} is {text!r}; allowed: a number {allowed}") from error


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the rows: place, cells (stripped, by column in lower case), and what is wrong or ''."""
    lines = _lines(path)
    header, delimiter = _header(path, lines)
    check_header(path, header)
    commas = [i for i, name in enumerate(header) if name in NUMBERS] if delimiter != "," else []
    for line, cells, wrong in _parsed(lines, delimiter):
        where = f"{path}, line {line}"
        if not wrong and len(cells) != len(header):
            wrong = (
                f"column {min(len(cells), len(header)) + 1}: the row has {len(cells)} cells, the header {len(header)}"
            )
        if wrong:
            yield where, {}, wrong
            continue
        cells = [cell.strip() for cell in cells]
        for i in commas:
            cells[i] = cells[i].replace(",", ".")
        yield where, dict(zip(header, cells, strict=True)), ""


def _parsed(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield the line number, the cells, and what is wrong or '', of each row below the first that is not empty.

    A quotation mark that nobody closed takes no further line with it.
    """
    start = 1
    while start < len(lines):
        reader = csv.reader(islice(lines, start, None), delimiter=delimiter, strict=True)
        done = start
        try:
            for cells in reader:
                row, done = done + 1, start + reader.line_num
                if any("\0" in cell for cell in cells):
                    number = next(i for i, cell in enumerate(cells, 1) if "\0" in cell)
                    yield row, [], f"column {number}: the cell holds a NUL character, which no text does"
                elif any(cell.strip() for cell in cells):
                    yield row, cells, ""
            return
        except csv.Error as error:
            cells = next(csv.reader([lines[done]], delimiter=delimiter), [])
            yield done + 1, [], f"column {max(len(cells), 1)}: {error}"
            start = done + 1


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file, with their ends."""
    if path.exists() and not path.is_file():  # reading a pipe may never end
        raise InputError(f"{path} cannot be read as a CSV: it is not a file")
    try:
        content = path.read_bytes()
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # what spreadsheets call Unicode text
        return list(io.StringIO(content.decode("utf-16" if wide else "utf-8-sig"), newline=""))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save the table as CSV in UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}") from error


def _header(path: Path, lines: list[str]) -> tuple[list[str], str]:
    """Return the names of the columns in lower case, and the delimiter with which most of them are known."""
    try:
        headers = {delimiter: [name.strip().lower() for name in next(csv.reader(lines[:1], delimiter=delimiter), [])]
                   for delimiter in DELIMITERS}  # fmt: skip
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV: {error}") from error
    best = max(headers, key=lambda delimiter: len({*REQUIRED, *OPTIONAL} & set(headers[delimiter])))
    return headers[best], best


def check_header(path, header: list[str]) -> None:
    """Refuse a table that lacks a required column, or names one twice.

    Raises: InputError, which begins with `path`.
    """
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, missing))}: "
            f"its first line names {', '.join(header) or 'nothing'}; "
            f"required, with commas, semicolons or tabs between: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
        )
    twice = {name for name in header if header.count(name) > 1 and name in REQUIRED + OPTIONAL}
    if twice:
        raise InputError(f"{path} names the column {', '.join(sorted(twice))} more than once")
    if 0 < len(set(BOX) & set(header)) < len(BOX):
        raise InputError(f"{path} has no column {', '.join(sorted(set(BOX) - set(header)))}: a face box needs "
                         f"all of {', '.join(BOX)}, or none")  # fmt: skip
