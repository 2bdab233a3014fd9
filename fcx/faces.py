"""Faces from pictures: detect, crop, wear a mask, grey, resize, store; one row for every input.

`prepare` turns any source (`fcx.datasets.open_source`) into a faces Dataset with the two
conditions `plain` and `masked` of the same samples.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from fcx.contract import (
    CONDITIONS,
    CROPS,
    GRID,
    PICTURE,
    REGIONS,
    InputError,
    Store,
    check,
    choose,
    open_store,
    provenance,
)
from fcx.crops import crop_face, scaled
from fcx.datasets import open_source
from fcx.landmarks import BACKENDS, find_landmarks, ready
from fcx.masks import FITS, STYLES, wear_mask
from fcx.regions import region_maps

BLOCK = 32  # faces that are written together


@dataclass(frozen=True)
class Settings:
    """How faces are made; all of it is recorded in the store."""

    crop: str = "face"
    style: str = "surgical"
    fit: str = "rigid"
    seed: int = 0
    backend: str = "mesh"
    several: str = "largest"
    pictures: bool = True

    def __post_init__(self):
        choose(self.crop, CROPS, "crop rule")
        choose(self.style, STYLES, "mask style")
        choose(self.fit, FITS, "fit")
        choose(self.backend, BACKENDS, "landmark backend")
        choose(self.several, ("largest", "refuse"), "policy for several faces")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed is {self.seed!r}; allowed: whole numbers from 0")

    def attrs(self) -> dict:
        """Return the settings under the names that stores and checkpoints use."""
        return {
            "crop": self.crop, "mask_style": self.style, "mask_fit": self.fit, "mask_seed": self.seed,
            "landmarks": self.backend, "several": self.several,
        }  # fmt: skip


def prepare(source, out=None, *, crop="face", style="surgical", fit="rigid", seed=0, backend="mesh",
            several="largest", pictures=True, workers=1, limit=None, overwrite=False, progress=True,
            **options):  # fmt: skip
    """Return a faces Dataset made from `source`, in memory or, with `out`, in a Zarr store.

    `source` is 'demo', a folder of pictures, a CSV, a FER+ array or one picture; `options` are
    those of its adapter. Every input has a row: `status (condition, sample)` is "ok" or says why it
    could not be used. Landmarks, mesh and regions come from the unmasked picture. With
    `pictures`, the colour crop is kept at 224x224 for display. An interrupted run with `out` goes on
    where it stopped. The result does not depend on `workers`.

    Raises: InputError for a source or a setting that cannot be used; StoreError where `out` holds
    something else; MissingWeightsError where a landmark backend lacks its weights.

    >>> faces = prepare("demo", limit=4, progress=False)
    >>> dict(faces["image"].sizes)
    {'condition': 2, 'sample': 4, 'y': 64, 'x': 64}
    """
    settings = Settings(crop, style, fit, seed, backend, several, pictures)
    whole(workers, "workers", 1)
    found = open_source(source, **options)
    records = found.records if limit is None else found.records[: whole(limit, "limit", 1)]
    attrs = {
        **settings.attrs(), "source": found.path, "adapter": found.adapter, "options": found.options,
        "provenance": provenance(step="prepare"),
    }  # fmt: skip
    variables, coords = _layout(records, settings)
    blocks = [records[i : i + BLOCK] for i in range(0, len(records), BLOCK)]
    work = partial(_make_block, settings=settings)
    if out is None:
        return _in_memory(variables, coords, attrs, in_order(work, blocks, workers, progress, "faces"))
    same = {name: value for name, value in attrs.items() if name not in ("provenance", "source")}
    same["inputs"] = found.fingerprint()
    ready(backend)  # before anything is laid out
    store = Store(out, variables, coords, kind="faces", blocks=len(blocks), settings=same, attrs=attrs,
                  chunks={"sample": BLOCK, "condition": 1}, overwrite=overwrite)  # fmt: skip
    pending = store.pending()
    made = in_order(work, [blocks[number] for number in pending], workers, progress, "faces")
    for number, (block, values) in zip(pending, made, strict=True):
        rows = slice(number * BLOCK, number * BLOCK + len(block))
        store.write(number, {name: (_index(variables[name][0], rows), array) for name, array in values.items()})
    return store.finish()


def open_faces(path):
    """Open the faces Dataset that `prepare` wrote to `path`, lazily.

    Raises: StoreError where there is none, or it is unfinished.
    """
    return open_store(path, "faces")


def make_face(record, settings: Settings) -> dict:
    """Return what the store holds of one record, as name -> array; `status` says what went wrong, if anything."""
    if record.reason:
        return {"status": _shortened(record.reason)}
    try:
        picture = record.read()
        found = find_landmarks(picture, settings.backend, several=settings.several)
        crop, mesh, points = crop_face(picture, found.mesh, found.points, settings.crop)
    except InputError as error:
        return {"status": _shortened(str(error))}
    masked, alpha = wear_mask(crop, mesh, settings.style, fit=settings.fit, seed=settings.seed, sample=record.id)
    scale = GRID / len(crop)
    grey = [cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) for part in (crop, masked)]
    grid = scaled(mesh, scale)
    face = {
        "status": "ok",
        "image": np.stack([_resize(part, GRID) for part in grey]),
        "alpha": np.stack([np.zeros((GRID, GRID), np.uint8), _resize(alpha, GRID)]),
        "regions": region_maps(grid),
        "mesh": grid,
        "landmarks": scaled(points, scale),
        "detector_score": found.score,
        "faces_found": found.faces,
    }
    if settings.pictures:
        face["picture"] = np.stack([_resize(part, PICTURE) for part in (crop, masked)])
    return face


def _shortened(text: str, limit: int = 240) -> str:
    """Return a reason that fits into the store: a long path loses its middle, never the reason at the end."""
    return text if len(text) <= limit else f"{text[: limit - 171]} ... {text[-166:]}"


def _resize(picture: np.ndarray, size: int) -> np.ndarray:
    smaller = len(picture) > size
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _layout(records, settings) -> tuple[dict, dict]:
    """Return the variables (name -> dimensions, dtype) and the coordinates of a faces Dataset."""
    per_face = ("sample",)
    variables = {
        "image": (("condition", "sample", "y", "x"), "u1"),
        "alpha": (("condition", "sample", "y", "x"), "u1"),
        "regions": (("sample", "region", "y", "x"), "u1"),
        "landmarks": (("sample", "point", "xy"), "f4"),
        "mesh": (("sample", "vertex", "xyz"), "f4"),
        "valence": (per_face, "f4"),
        "arousal": (per_face, "f4"),
        "detector_score": (per_face, "f4"),
        "faces_found": (per_face, "i2"),
        "status": (("condition", "sample"), "U240"),
    }
    if settings.pictures:
        variables["picture"] = (("condition", "sample", "row", "column", "channel"), "u1")
    ids = [record.id for record in records]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"the id {twice!r} stands for more than one row: ids must be unique")
    text = {name: (per_face, _text([getattr(record, name) for record in records]))
            for name in ("expression", "subject", "split", "source")}  # fmt: skip
    coords = {
        "condition": (("condition",), _text(CONDITIONS)),
        "sample": (per_face, _text(ids)),
        "region": (("region",), _text(REGIONS)),
        "y": (("y",), np.arange(GRID)),
        "x": (("x",), np.arange(GRID)),
        **text,
    }
    if settings.pictures:
        coords |= {"row": (("row",), np.arange(PICTURE)), "column": (("column",), np.arange(PICTURE))}
    return variables, coords


def _text(values) -> np.ndarray:
    array = np.array(list(values), dtype=np.str_)
    return array if array.dtype.itemsize else array.astype("U1")


def _index(dims, rows) -> tuple:
    return tuple(rows if dim == "sample" else slice(None) for dim in dims)


def in_order(work: Callable, blocks: list, workers: int, progress: bool, name: str) -> Iterator[tuple[list, object]]:
    """Yield (block, work(block)) in order, with a progress bar, from one process or several."""
    from tqdm.std import tqdm

    bar = tqdm(total=sum(map(len, blocks)), desc=name, unit="face", file=sys.stderr, disable=not progress, delay=1)
    with bar:
        if workers == 1:
            made = map(work, blocks)
        else:
            # Fresh processes: OpenCV's networks do not survive a fork. They inherit that Ctrl-C is not for them.
            context = multiprocessing.get_context("spawn")
            with _deaf_to_interrupts():
                pool = ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,))
                made = pool.map(work, blocks)
        try:
            for block, result in zip(blocks, made, strict=True):
                yield block, result
                bar.update(len(block))
        finally:
            if workers > 1:
                with _deaf_to_interrupts():  # a second Ctrl-C in here would never end
                    pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _deaf_to_interrupts():
    """Ignore Ctrl-C for a moment, where this is the thread that hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _make_block(records, settings) -> dict[str, np.ndarray]:
    """Return the arrays of some records, dimensions as in the store."""
    variables, _ = _layout(records, settings)
    sizes = {"condition": 2, "sample": len(records), "region": len(REGIONS), "y": GRID, "x": GRID, "point": 68, "xy": 2,
             "vertex": 468, "xyz": 3, "row": PICTURE, "column": PICTURE, "channel": 3}  # fmt: skip
    block = {}
    for name, (dims, dtype) in variables.items():
        missing = np.nan if np.dtype(dtype).kind == "f" else np.zeros((), dtype)[()]
        block[name] = np.full([sizes[dim] for dim in dims], missing, dtype)
    for row, record in enumerate(records):
        block["valence"][row], block["arousal"][row] = record.valence, record.arousal
        for name, value in make_face(record, settings).items():
            block[name][_index(variables[name][0], row)] = value
    return block


def _in_memory(variables, coords, attrs, made):
    import xarray

    made = [values for _, values in made]
    joined = {
        name: (dims, np.concatenate([values[name] for values in made], axis=dims.index("sample")))
        for name, (dims, _) in variables.items()
    }
    return check(xarray.Dataset(joined, coords=coords, attrs={**attrs, "kind": "faces"}), "faces")


def whole(value, name: str, least: int) -> int:
    """Return `value` if it is a whole number of at least `least`, else refuse it by `name`."""
    if not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; allowed: whole numbers from {least}")
    return value
