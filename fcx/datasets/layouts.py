"""What adapters of published data sets share: rows and their faults, numbers and their markers, where folders lie."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from fcx.core.checks import read_number
from fcx.core.errors import InputError
from fcx.datasets.records import UNKNOWN, Record, fault

ENTRIES, FOLDERS = 1000, 50  # of a folder, at most, among which a part of a data set is looked for
EMPTY = frozenset(("", "null", "none", "nan"))  # cells without a value


class Rows:
    """The records of a data set, one for each row; what is wrong with a row is the reason of its record."""

    def __init__(self, source: str, strict: bool):
        self.records: list[Record] = []
        self._source, self._strict, self._places = source, strict, {}

    def add(self, where: str, id: str, read: Callable, known: Callable[[], dict], **fixed) -> None:
        """Add the record of the row that stands at `where`.

        `known` returns further fields of it, or raises InputError; `fixed` are fields that hold even then.

        Raises: InputError for a faulty row where all must be good.
        """
        named = id not in ("", ".") and "\0" not in id
        first = self._places.setdefault(id, where) if named else where
        try:
            if not named:
                raise InputError(f"column 1: it is {id!r}; allowed: the name of a picture")
            if first is not where:
                raise InputError(f"column 1: {id} stands in {first} too; a picture is one sample")
            fields = known()
        except InputError as error:
            fields = {"reason": fault(f"{where}, {error}", self._strict)}
            id = id if named and first is where else "/".join(Path(where).parts[-2:])
        self.records.append(Record(id=id, read=read, **{"source": self._source, **fixed, **fields}))

    def refuse(self, where: str, id: str, read: Callable, text: str, **fixed) -> None:
        """Add the record of a row, or of a picture without one, that is faulty."""

        def known() -> dict:
            raise InputError(text)

        self.add(where, id, read, known, **fixed)


def number(text, column: str, low: float = -1, high: float = 1, marker: float | None = None) -> float:
    """Return the number in a cell, NaN where it is empty or the `marker` of the data set for an unknown one.

    Raises: InputError where it is none, or out of bounds.

    >>> number("0.5", "valence"), number("-2", "valence", marker=-2)
    (0.5, nan)
    """
    text = str(text).strip()
    if text.casefold() in EMPTY:
        return UNKNOWN
    with contextlib.suppress(ValueError):
        value = read_number(text)
        if value == marker:
            return UNKNOWN
        if low <= value <= high:
            return value
    also = "" if marker is None else f", or {marker:g} where unknown"
    raise InputError(f"column {column!r}: it is {text!r}; allowed: a number from {low:g} to {high:g}{also}")


def category(text, column: str, names: dict[int, str]) -> str:
    """Return the name of a number of a data set's own, which may be written as 3 or 3.0.

    Raises: InputError where the data set has no such number.
    """
    with contextlib.suppress(ValueError):
        if (value := read_number(str(text).strip())) in names:
            return names[int(value)]
    raise InputError(f"column {column!r}: it is {str(text).strip()!r}; allowed: {min(names)} to {max(names)}")


def box_of(left, top, width, height) -> tuple[float, float, float, float] | None:
    """Return a face box from cells, in picture pixels; None where it is empty or has no area.

    Raises: InputError where a cell is no number.
    """
    columns = ("face_x", "face_y", "face_width", "face_height")
    values = [number(text, name, -1e6, 1e6) for text, name in zip((left, top, width, height), columns, strict=True)]
    return tuple(values) if np.isfinite(values).all() and min(values[2:]) > 0 else None


def points_of(values, column: str) -> np.ndarray | None:
    """Return 68 landmarks (point, xy) float32 in picture pixels from `x;y;x;y;...`, or from numbers.

    None where a row has none. Raises: InputError where they are not 136 finite numbers.
    """
    if isinstance(values, str):
        if values.strip().casefold() in EMPTY:
            return None
        values = values.strip().strip(";").split(";")
    try:
        points = np.array(values, dtype="f4").ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column {column!r}: it holds what is no number; allowed: 136, x;y of 68 points") from error
    if points.size != 136 or not np.isfinite(points).all():
        raise InputError(f"column {column!r}: {np.isfinite(points).sum()} numbers; allowed: 136, x;y of 68 points")
    return points.reshape(68, 2)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line of a UTF-8 file, without its end; a byte order mark is no part of it.

    Raises: InputError where it cannot be read.
    """
    if path.exists() and not path.is_file():  # reading a pipe may never end
        raise InputError(f"{path} cannot be read: it is not a file")
    try:
        with path.open(encoding="utf-8-sig") as file:
            for count, line in enumerate(file, 1):
                yield count, line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}") from error


def table_rows(lines: Iterable[tuple[int, str]], path: Path, columns: Iterable[str]) -> Iterator[tuple]:
    """Yield place, cells by column (in lower case), and what is wrong or '', of the lines of a table that hold text.

    A row is a line, so that a quotation mark that nobody closed takes no other row with it.
    """
    columns = list(columns)
    for count, line in lines:
        if not line.strip():
            continue
        where, wrong = f"{path}, line {count}", ""
        try:
            cells = next(csv.reader([line], strict=True), [])
            if len(cells) != len(columns):
                wrong = (
                    f"column {min(len(cells), len(columns)) + 1}: the row has {len(cells)} cells, not {len(columns)}"
                )
        except csv.Error as error:
            cells, wrong = line.split(","), f"column 1: {error}"
        yield where, dict(zip(columns, cells, strict=False)), wrong


def first_cells(path: Path) -> list[str]:
    """Return the cells of the first line of a file in lower case, none where it cannot be read."""
    with contextlib.suppress(OSError, csv.Error):
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                return [cell.strip().lower() for cell in next(csv.reader([file.readline(1 << 16)]), [])]
    return []


def names_in(folder: str | os.PathLike) -> set[str]:
    """Return the names in a folder, none where there is no such folder: one look for all its files."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def folders_below(top: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and those below it, the nearer first; of many only the first ones are looked at."""
    level = [top]
    for _ in range(depth + 1):
        yield from level
        level = [below for folder in level[:FOLDERS] for below in _folders_in(folder)]


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            some = itertools.islice(entries, ENTRIES)
            return sorted(Path(entry.path) for entry in some if not entry.name.startswith(".") and entry.is_dir())[
                :FOLDERS
            ]
    except OSError:
        return []


def pictures_folder(given: str, places: Iterable[Path], samples: list[str], what: str) -> Path:
    """Return the folder that holds at least one of the `samples`: the one `given`, or the first of `places`.

    Raises: InputError that says which file was expected where.
    """
    places = [Path(os.path.expanduser(given))] if given else list(dict.fromkeys(places))
    for place in places:
        if any((place / sample).exists() for sample in samples):
            return place
    looked = ", ".join(map(str, places[:6])) + (", ..." if len(places) > 6 else "")
    raise InputError(f"{what}: none of its first pictures, such as {samples[0] if samples else '?'}, lies in {looked}: "
                     "put the folder of pictures there, or name it by the option images")  # fmt: skip
