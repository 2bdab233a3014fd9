"""A CSV: path, valence, arousal, and optionally expression, subject, split, source."""

from __future__ import annotations

import csv
import os
import posixpath
from functools import partial
from pathlib import Path

from fcx.core.checks import read_number
from fcx.core.errors import InputError, UnknownNameError
from fcx.datasets.pictures import read_picture
from fcx.datasets.records import UNKNOWN, Record, adapter, expression_name, label

REQUIRED = ("path", "valence", "arousal")
OPTIONAL = ("expression", "subject", "split", "source")


@adapter("csv", takes=lambda path: path.suffix.lower() == ".csv" and not path.is_dir())
def open_csv(path: Path) -> list[Record]:
    """Return a record for each row; paths are relative to the CSV, an empty or NaN label is unknown.

    Ids are the paths, without what leads nowhere (`./a.jpg` is `a.jpg`).
    A picture that is missing or damaged shows when it is read; other columns are passed over.

    Raises: InputError naming the row for a label out of [-1, 1], a path that stands twice, a row of
    another length; or naming the column that is missing.
    """
    records, seen = [], {}
    for line, row in _rows(path):
        row["path"] = row["path"].replace("\\", "/")  # written on Windows
        where = f"{path}, line {line} ({row['path'] or 'no path'})"
        if not row["path"]:
            raise InputError(f"{where}: the cell 'path' is empty")
        file = os.path.abspath(path.parent / row["path"])  # a.jpg and ./a.jpg are one
        if file in seen:
            raise InputError(f"{where}: this picture stands in line {seen[file]} too; a picture is one sample")
        seen[file] = line
        records.append(_record(path, row, where))
    if not records:
        raise InputError(f"{path} has a header and no rows")
    return records


def _record(path: Path, row: dict[str, str], where: str) -> Record:
    try:
        expression = expression_name(row.get("expression", ""))
    except UnknownNameError as error:
        raise InputError(f"{where}: {error}") from error
    return Record(
        id=posixpath.normpath(row["path"]),
        read=partial(read_picture, path.parent / row["path"]),
        valence=_number(row["valence"], "valence", where),
        arousal=_number(row["arousal"], "arousal", where),
        expression=expression,
        subject=row.get("subject", ""),
        split=row.get("split", ""),
        source=row.get("source", "") or path.stem,
    )


def _number(text: str, name: str, where: str) -> float:
    if not text:
        return UNKNOWN
    try:
        value = read_number(text)
    except ValueError as error:
        raise InputError(
            f"{where}: {name} is {text!r}; allowed: a number from -1 to 1, or empty where unknown"
        ) from error
    return label(value, name, where)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with their line numbers, cells stripped, column names in lower case."""
    if path.exists() and not path.is_file():  # reading a pipe may never end
        raise InputError(f"{path} cannot be read as a CSV: it is not a file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(path, header)
            rows = []
            for cells in reader:
                if any("\0" in cell for cell in cells):
                    raise InputError(
                        f"{path}, line {reader.line_num}: a cell holds a NUL character, which no text does"
                    )
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, the header names {len(header)} columns"
                    )
                rows.append((reader.line_num, {k: v.strip() for k, v in zip(header, cells, strict=True)}))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save the table as CSV in UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}") from error
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, missing))}: "
            f"its first line names {', '.join(header) or 'nothing'}; "
            f"required, with commas between: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
        )
    twice = {name for name in header if header.count(name) > 1 and name in REQUIRED + OPTIONAL}
    if twice:
        raise InputError(f"{path} names the column {', '.join(sorted(twice))} more than once")
