"""Sources in memory: a pandas DataFrame with the columns of a CSV; a list of paths, PIL images or arrays."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
from PIL import Image

from fcx.core.checks import described
from fcx.core.errors import ImageError, InputError
from fcx.datasets.pictures import pixels_of, read_picture, reason_of
from fcx.datasets.records import Record, adapter, fault
from fcx.datasets.table import check_header, records_of

FRAME = "the DataFrame"


def _is_frame(source) -> bool:
    pandas = sys.modules.get("pandas")  # who has a DataFrame has imported it
    return pandas is not None and isinstance(source, pandas.DataFrame)


@adapter("frame", takes=_is_frame, objects=True)
def open_frame(frame, strict: bool = False) -> list[Record]:
    """Return a record for each row of a DataFrame with the columns of a CSV.

    Paths are relative to the working directory, missing values are unknown labels; landmarks may be arrays (68, 2).
    Faulty rows are as in a CSV, and are named by their place, from 0.

    Raises: as `fcx.datasets.table.open_csv`.
    """
    header = [str(name).strip().lower() for name in frame.columns]
    check_header(FRAME, header)
    if not len(frame):
        raise InputError(f"{FRAME} has no rows")
    return records_of(_rows(frame, header), os.getcwd(), "DataFrame", strict)


def _rows(frame, header: list[str]) -> Iterator[tuple[str, dict[str, str], str]]:
    for number, values in enumerate(frame.itertuples(index=False, name=None)):
        cells = {name: _text(value) for name, value in zip(header, values, strict=True)}
        nul = next((name for name, text in cells.items() if "\0" in text), "")
        yield f"{FRAME}, row {number}", cells, nul and f"column {nul!r}: the cell holds a NUL character"


def _text(value) -> str:
    """Return a cell as a CSV would hold it."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list | tuple | np.ndarray):
        return ";".join(map(str, np.ravel(value).tolist()))
    missing = value is None or value is sys.modules["pandas"].NA or value != value
    return "" if missing else str(value)


@adapter("list", takes=lambda source: isinstance(source, list | tuple), objects=True)
def open_list(pictures, strict: bool = False) -> list[Record]:
    """Return a record, without labels, for each of some paths, PIL images or arrays (row, column[, channel]) uint8.

    The id of a path is the path, that of another picture its place: picture-0.png is the first.

    Raises: InputError where there is nothing, or something that is no picture; where `strict`, for an array or image
    that cannot be used, which else has a record that says why.
    """
    if not pictures:
        raise InputError("the list of pictures is empty")
    return [_record(picture, number, strict) for number, picture in enumerate(pictures)]


def _record(picture, number: int, strict: bool) -> Record:
    where = f"picture {number} of the list"
    if isinstance(picture, str | os.PathLike) and (path := os.fspath(picture)):
        path = os.fsdecode(path)
        return Record(id=posixpath.normpath(path.replace("\\", "/")), source="list",
                      read=partial(read_picture, os.path.abspath(path)))  # fmt: skip
    if not isinstance(picture, np.ndarray | Image.Image):
        raise InputError(f"{where} is {described(picture)}; allowed: paths, PIL images, arrays")
    pixels, reason = np.zeros((0, 0, 3), np.uint8), ""
    try:
        pixels = pixels_of(picture if isinstance(picture, Image.Image) else _image(picture))
    except Exception as error:  # as files: decoders of PIL raise whatever they like
        reason = fault(f"{where} cannot be used: {reason_of(error)}", strict)
    return Record(id=f"picture-{number}.png", read=partial(np.array, pixels), source="list", reason=reason)


def _image(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)) or not array.size:
        raise ImageError(
            f"it is {array.dtype} {array.shape}; allowed: uint8 (row, column), or with 3 or 4 channels behind"
        )
    return Image.fromarray(np.ascontiguousarray(array))
