"""AffectNet as handed out since 2021: folders `train_set` and `val_set` of cropped faces, and arrays of labels."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.errors import InputError
from fcx.datasets.affectnet import EXPRESSIONS, MARKER, OUTSIDE
from fcx.datasets.layouts import Rows, category, names_in, number, points_of
from fcx.datasets.pictures import SUFFIXES, read_picture
from fcx.datasets.records import EXCLUDED, Record, adapter

SPLITS = {"train_set": "train", "val_set": "validation"}
LABELS, LANDMARKS = ("exp", "val", "aro"), "lnd"
READERS, CHUNK = 8, 512  # threads that wait for the disk; faces that one reads at a time


def _sets(path: Path) -> list[Path]:
    """Return the folders of the splits at a path: those in it, or itself."""
    below = [path / name for name in SPLITS]
    return [place for place in (below if path.name not in SPLITS else [path]) if _is_set(place)]


def _is_set(folder: Path) -> bool:
    named = folder.name in SPLITS and ((folder / "images").is_dir() or (folder / "annotations").is_dir())
    return named and not any((folder / "images" / name).is_dir() for name in EXPRESSIONS.values())


@adapter("affectnet_folders", takes=lambda path: path.is_dir() and bool(_sets(path)))
def open_affectnet_folders(path: Path, strict: bool = False) -> list[Record]:
    """Return a record for each face of AffectNet's `train_set` and `val_set`, or of the one that is given.

    `images/N.jpg` belongs to `annotations/N_exp.npy`, `N_val.npy`, `N_aro.npy` and, where there is one, `N_lnd.npy`
    (68 landmarks); they may hold numbers or texts. Ids begin with the folder of the split, since numbers repeat. Values
    of -2 are NaN. A face that lacks its picture or an annotation, or whose annotation is faulty, has the reason.

    Raises: InputError where a split lacks a folder; where `strict`, for a faulty face.
    """
    rows = Rows("AffectNet", strict)
    for folder in _sets(path):
        for part in ("images", "annotations"):
            if not names_in(folder / part):
                raise InputError(f"{folder} looks like a split of AffectNet, but {folder / part} is missing or empty: "
                                 "expected images/N.jpg and annotations/N_exp.npy, N_val.npy, N_aro.npy")  # fmt: skip
        pictures = {os.path.splitext(name)[0]: name for name in sorted(names_in(folder / "images"))
                    if os.path.splitext(name)[1].lower() in SUFFIXES}  # fmt: skip
        numbers = {name.rpartition("_")[0] for name in names_in(folder / "annotations") if name.endswith(".npy")}
        faces = sorted({*pictures, *numbers}, key=lambda name: (len(name), name))
        for name, known in _annotations(folder, faces):
            file = f"{folder.name}/images/{pictures.get(name, f'{name}.jpg')}"
            rows.add(str(folder / "annotations" / name), file, partial(read_picture, str(folder.parent / file)),
                     partial(_known, name, known, name in pictures), split=SPLITS[folder.name])  # fmt: skip
    return rows.records


def _annotations(folder: Path, faces: list[str]) -> Iterator[tuple[str, dict]]:
    """Yield the number and the arrays (or what is wrong with them, as text) of each face, with a progress bar."""
    from tqdm.std import tqdm

    work = partial(_read_some, f"{folder}/annotations")
    chunks = [faces[i : i + CHUNK] for i in range(0, len(faces), CHUNK)]
    bar = tqdm(total=len(faces), desc=f"{folder.name} annotations", unit="face", file=sys.stderr, delay=2)
    with bar, ThreadPoolExecutor(READERS) as team:
        for chunk, arrays in zip(chunks, team.map(work, chunks), strict=True):
            yield from zip(chunk, arrays, strict=True)
            bar.update(len(chunk))


def _read_some(folder: str, faces: list[str]) -> list[dict]:
    return [{part: _read_array(f"{folder}/{face}_{part}.npy") for part in (*LABELS, LANDMARKS)} for face in faces]


def _read_array(path: str) -> np.ndarray | str | None:
    """Return the array in a file, None where there is no file, a text where it is damaged.

    `np.load` takes five times as long, and there are a million of these files.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
        start = 10 + int.from_bytes(data[8:10], "little")
        dtype, shape = _header(data[:start])
        return np.frombuffer(data, dtype, int(np.prod(shape)), start).reshape(shape)
    except FileNotFoundError:
        return None
    except Exception as error:  # OSError, or whatever numpy raises at a damaged header
        return f"{os.path.basename(path)} cannot be read: {error}"


@functools.lru_cache(256)
def _header(data: bytes) -> tuple[np.dtype, tuple]:
    """Return kind and shape of the array behind the beginning of a file, which few differ in."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return dtype, shape


def _known(face: str, arrays: dict, pictured: bool) -> dict:
    """Return what the annotations of a face say."""
    for part in LABELS:
        if arrays[part] is None:
            raise InputError(f"{face}_{part}.npy is missing")
    if not pictured:
        raise InputError(f"its picture images/{face}.jpg is missing")
    if wrong := next((text for text in arrays.values() if isinstance(text, str)), ""):
        raise InputError(wrong)
    expression, valence, arousal = (_single(arrays[part], f"{face}_{part}.npy") for part in LABELS)
    name = category(expression, f"{face}_exp.npy", EXPRESSIONS | OUTSIDE)
    known = {"valence": number(valence, f"{face}_val.npy", marker=MARKER),
             "arousal": number(arousal, f"{face}_aro.npy", marker=MARKER)}  # fmt: skip
    if name in OUTSIDE.values():
        return known | {"split": EXCLUDED, "reason": f"expression {expression}: {name}"}
    points = arrays[LANDMARKS]
    return known | {"expression": name,
                    "points": None if points is None else points_of(points, f"{face}_{LANDMARKS}.npy")}  # fmt: skip


def _single(array: np.ndarray, file: str):
    """Return the one value of an array."""
    if array.size != 1:
        raise InputError(f"{file} holds {array.size} values, not one")
    value = array.item()
    return value.decode(errors="replace") if isinstance(value, bytes) else value
