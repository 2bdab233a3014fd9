"""FER+ as its authors publish it: FER2013's table and theirs, or the folders of pictures that their script makes."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from fcx.core.checks import whole_number
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.datasets.ferplus import ENLARGED, SPLITS, UNUSABLE, voted
from fcx.datasets.layouts import first_cells, folders_below, names_in, table_rows, text_lines
from fcx.datasets.pictures import SUFFIXES, enlarge, read_picture
from fcx.datasets.records import EXCLUDED, Record, adapter, expression_name, fault

FACES, VOTES, LABELS = "fer2013.csv", "fer2013new.csv", "label.csv"
FACE_COLUMNS = ("emotion", "pixels", "usage")
VOTE_COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", *UNUSABLE)
LABEL_COLUMNS = ("image name", "box", *(name.casefold() for name in VOTE_COLUMNS))
FOLDERS = {"FER2013Train": "Training", "FER2013Valid": "PublicTest", "FER2013Test": "PrivateTest"}
EMOTIONS = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # the numbers of FER2013
ENOUGH, AGREE = 500, 0.4  # rows, and the least share whose label is that of most votes: two of three in truth
DISORDER = 0.001  # share of names that may be out of order in the table as published


def _place(path: Path, depth: int) -> Path | None:
    """Return the folder at a path that holds the tables or the folders of pictures."""
    if path.name.lower() in (FACES, VOTES) and path.is_file():
        return path.parent
    if path.name == LABELS and path.parent.name in FOLDERS:
        return path.parent.parent
    below = folders_below(path, depth) if path.is_dir() else ()
    return next((folder for folder in below if _is_faces(folder / FACES) or _sets(folder)), None) or next(
        (folder for folder in ([path] if path.is_dir() else []) if _is_votes(folder / VOTES)), None)  # fmt: skip


def _is_faces(file: Path) -> bool:
    return set(FACE_COLUMNS) <= set(first_cells(file))


def _is_votes(file: Path) -> bool:
    return "image name" in first_cells(file)


def _sets(folder: Path) -> list[Path]:
    return [folder / name for name in FOLDERS if (folder / name).is_dir()]


@adapter("ferplus_files", takes=lambda path: _place(path, 1) is not None,
         evident=lambda path: _place(path, 0) is not None)  # fmt: skip
def open_ferplus_files(path: Path, strict: bool = False, minimum_votes: int = 5) -> list[Record]:
    """Return a record for each face of FER+, labelled as those of the array are (`open_ferplus`).

    `path` holds `fer2013.csv` (or, failing that, the folders FER2013Train, FER2013Valid, FER2013Test of pictures) and
    `fer2013new.csv` (or a `label.csv` in each folder). Votes belong to a face by its image name. The same picture in
    two splits is known by its pixels. Faces that have no name, which the authors set aside, are 'excluded'.

    Raises: InputError where a file is missing or two do not belong together; where `strict`, for a faulty row.
    """
    whole_number(minimum_votes, "minimum_votes", 0)
    place = _place(path, 1)
    votes = next((file for file in (place / VOTES, place.parent / VOTES) if file.is_file()), None)
    if (place / FACES).is_file():
        if votes is None:
            raise InputError(
                f"{place / FACES} holds the faces; the votes of FER+ are missing: expected {place / VOTES}"
            )
        return _records(_joined(place / FACES, votes), strict, minimum_votes)
    if not _sets(place):
        raise InputError(f"{place / VOTES} holds the votes; the faces are missing: expected {place / FACES}, or the "
                         f"folders {', '.join(FOLDERS)} of pictures")  # fmt: skip
    if votes is None and not any((folder / LABELS).is_file() for folder in _sets(place)):
        raise InputError(f"{place} holds the pictures; the votes of FER+ are missing: expected {place / VOTES}, or "
                         f"{LABELS} in each of {', '.join(folder.name for folder in _sets(place))}")  # fmt: skip
    return _records(_pictured(place, votes), strict, minimum_votes)


def _records(faces: Iterator[tuple], strict: bool, minimum: int) -> list[Record]:
    """Return the records of (where, name, usage, votes, face, wrong), the faulty ones too, in the order given."""
    records, good, seen = [], [], {}
    for where, name, usage, votes, face, wrong in faces:
        split = SPLITS.get(usage, "")
        try:
            if not name and not wrong:
                records.append(Record(_row(where), _unread, split=EXCLUDED, source="FER+ proxy",
                                      reason="it has no image name: the authors of FER+ set it aside"))  # fmt: skip
                continue
            if wrong or not split:
                raise InputError(wrong or f"column 'Usage': it is {usage!r}; allowed: {', '.join(SPLITS)}")
            counts = [_count(text, column) for text, column in zip(votes, VOTE_COLUMNS, strict=True)]
            if name in seen:
                raise InputError(f"column 'Image name': {name} stands in {seen[name]} too")
            read, key = face()
        except InputError as error:
            text = fault(f"{where}, {error}", strict)
            id = name if name and name not in seen else _row(where)
            records.append(Record(id, _unread, split=split, source="FER+ proxy", reason=text))
        else:
            good.append((len(records), name, read, counts, split, key))
            records.append(None)
        seen.setdefault(name, where)
    if good:
        rows, names, reads, counts, splits, keys = map(list, zip(*good, strict=True))
        groups = np.unique(keys, return_inverse=True)[1]
        tested = np.isin(groups, groups[[split == "test" for split in splits]])
        columns = list(VOTE_COLUMNS)
        for row, record in zip(rows, voted(names, reads, np.array(counts), columns, splits, groups, tested, minimum),
                               strict=True):  # fmt: skip
            records[row] = record
    return records


def _row(where: str) -> str:
    return "/".join(Path(where).parts[-1:])


def _unread():
    raise InputError("a faulty row has no picture")


def _count(text: str, column: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text := text.strip()):
        raise InputError(f"column {column!r}: it is {text!r}; allowed: a number of votes")
    return int(text)


def _cells(file: Path, columns: tuple[str, ...], header: bool) -> list[tuple[str, dict[str, str], str]]:
    """Return place, cells and what is wrong of the rows of a table."""
    lines = text_lines(file)
    if header:
        found = first_cells(file)
        if missing := [name for name in columns if name.casefold() not in found]:
            raise InputError(f"{file} has no column {', '.join(map(repr, missing))}: it has {', '.join(found)}")
        next(lines)
        columns = tuple(found)
    return table_rows(lines, file, columns)


def _votes(cells: dict[str, str]) -> list[str]:
    return [cells.get(name.casefold(), "") for name in VOTE_COLUMNS]


def _joined(faces: Path, votes: Path) -> Iterator[tuple]:
    """Yield what the two tables say of each face."""
    voters = list(_cells(votes, ("Usage", "Image name", *VOTE_COLUMNS), header=True))
    rows, numbered = _face_rows(faces), "image name" in first_cells(faces)
    order = _order(voters, rows, numbered, faces, votes)
    agree = [_majority_is(cells, rows[row][3]) for (_, cells, wrong), row in zip(voters, order, strict=True)
             if row is not None and not wrong]  # fmt: skip
    agree = [value for value in agree if value is not None]
    if len(agree) >= ENOUGH and np.mean(agree) < AGREE:
        raise InputError(f"{votes} and {faces} do not belong together: the votes are for FER2013's own label in "
                         f"{np.mean(agree):.0%} of the faces; are rows of one of them missing or moved?")  # fmt: skip
    for (where, cells, wrong), row in zip(voters, order, strict=True):
        name = cells.get("image name", "").strip()
        if row is None and name and not wrong:
            wrong = f"column 'Image name': {faces.name} has no face for {name!r}"
        usage = cells.get("usage", "").strip()
        if row is None or wrong:
            yield where, name, usage, _votes(cells), None, wrong
            continue
        place, pixels, error, _, told = rows[row]
        if usage != told:
            error = f"column 'Usage': it is {usage!r}, that of the face in {place} is {told!r}"
        yield where, name, usage, _votes(cells), partial(_stored, pixels), error
    used = {row for row in order if row is not None}
    for row, (place, _, _, _, usage) in enumerate(rows):
        if row not in used:
            yield place, "", usage, [], None, f"column 1: {votes.name} has no votes for this face"


def _stored(pixels: np.ndarray) -> tuple[Callable, str]:
    return partial(enlarge, pixels, ENLARGED), digest(pixels)


def _face_rows(file: Path) -> list[tuple]:
    """Return place (and name), pixels, what is wrong, label and usage of the rows of FER2013's table."""
    rows = []
    for where, cells, wrong in _cells(file, FACE_COLUMNS, header=True):
        pixels = None
        if not wrong:
            pixels, wrong = _parsed(cells["pixels"], where)
        rows.append((f"{where}, {cells['image name']}" if "image name" in cells else where, pixels, wrong,
                     cells.get("emotion", "").strip(), cells.get("usage", "").strip()))  # fmt: skip
    return rows


def _parsed(text: str, where: str) -> tuple[np.ndarray | None, str]:
    """Return the pixels (row, column) that a cell stands for, and what is wrong with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns of what is no number
        try:
            values = np.fromstring(text, int, sep=" ")
        except (DeprecationWarning, ValueError):
            values = np.zeros(0, int)
    if values.size != 48 * 48 or values.min() < 0 or values.max() > 255:
        return None, f"({where}) column 'pixels': allowed: 2304 whole numbers from 0 to 255, 48x48 pixels"
    return values.astype(np.uint8).reshape(48, 48), ""


def _order(voters: list, rows: list[tuple], named: bool, faces: Path, votes: Path) -> list[int | None]:
    """Return the row of the face of each row of votes, None where it has none.

    FER2013's table has no image names: as published, row by row, the table of votes gives them, in ascending order. A
    table in which rows are missing or moved is told by that; then the number in a name is that of the face, which only
    holds where both say the same of every usage.

    Raises: InputError where neither holds.
    """
    names = [cells.get("image name", "").strip() for _, cells, _ in voters]
    if named:
        known = {place.rpartition(", ")[2]: row for row, (place, *_) in enumerate(rows)}
        return [known.get(name) if name else None for name in names]
    numbers = [int(digits.group()) if (digits := re.search(r"\d+", name)) else None for name in names]
    listed = [number for number in numbers if number is not None]
    descents = sum(later <= before for before, later in pairwise(listed))
    usages = [cells.get("usage", "").strip() for _, cells, _ in voters]
    told = [row[4] for row in rows]
    if usages == told and descents <= DISORDER * len(listed):
        return list(range(len(rows)))
    fit = [number is None or (number < len(rows) and usages[i] == told[number]) for i, number in enumerate(numbers)]
    if all(fit):
        return numbers
    raise InputError(f"{votes} ({len(voters)} rows) and {faces} ({len(rows)} rows) do not belong together: neither "
                     "their rows in order nor the numbers in image names have the same Usage; the first that has not: "
                     f"{voters[fit.index(False)][0]}")  # fmt: skip


def _majority_is(cells: dict[str, str], label: str) -> bool | None:
    """Return whether most votes are for FER2013's label, None where that cannot be said."""
    try:
        counts = [int(text) for text in _votes(cells)]
        return expression_name(VOTE_COLUMNS[int(np.argmax(counts[:-2]))]) == EMOTIONS[int(label)]
    except (ValueError, IndexError):
        return None


def _pictured(place: Path, votes: Path | None) -> Iterator[tuple]:
    """Yield what the folders of pictures and their votes say of each face."""
    tables = {folder: folder / LABELS for folder in _sets(place) if (folder / LABELS).is_file()}
    if tables:
        told = chain.from_iterable(
            ((where, cells, wrong, FOLDERS[folder.name]) for where, cells, wrong in _cells(file, LABEL_COLUMNS, False))
            for folder, file in tables.items())  # fmt: skip
    else:
        told = ((where, cells, wrong, cells.get("usage", "").strip())
                for where, cells, wrong in _cells(votes, ("Usage", "Image name", *VOTE_COLUMNS), True))  # fmt: skip
    usages = {usage: name for name, usage in FOLDERS.items()}
    pictures = {usage: names_in(place / name) for usage, name in usages.items()}
    spoken = set()
    for where, cells, wrong, usage in told:
        name = cells.get("image name", "").strip().replace("\\", "/").rpartition("/")[2]
        spoken.add((usage, name))
        if name and not wrong and usage in usages and name not in pictures[usage]:
            wrong = f"column 'Image name': the picture {place / usages[usage] / name} is missing"
        yield where, name, usage, _votes(cells), partial(_read, place / usages.get(usage, "") / name), wrong
    for usage, names in pictures.items():
        for name in sorted(name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES):
            if (usage, name) not in spoken:
                yield str(place / usages[usage] / name), name, usage, [], None, "it has no votes"


def _read(path: Path) -> tuple[Callable, str]:
    """Return what reads a picture, and a digest of its pixels (of its path, where it cannot be read)."""
    try:
        return partial(_enlarged, path), digest(read_picture(path))
    except InputError:
        return partial(_enlarged, path), str(path)


def _enlarged(path: Path) -> np.ndarray:
    """Return a small picture enlarged as the faces of the array are."""
    picture = read_picture(path)
    if max(picture.shape[:2]) >= ENLARGED:
        return picture
    return enlarge(np.asarray(Image.fromarray(picture).convert("L")), ENLARGED)
