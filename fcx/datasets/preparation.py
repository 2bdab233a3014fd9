"""Faces from pictures: detect, crop, wear a mask, grey, resize, store; one row for every input.

`prepare` turns any source (`fcx.datasets.open_source`) into a faces Dataset with the conditions `plain` and
`masked` of the same samples, or with several masks, each worn on the same crop.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from fcx.core.arguments import Count, FilePath, Seed, Switch, Workers, checked
from fcx.core.checks import choose, choose_all
from fcx.core.contract import ANGLES, GRID, PICTURE, REGIONS, Faces, check
from fcx.core.errors import ContractError, InputError
from fcx.core.files import digest
from fcx.core.parallel import in_order
from fcx.core.provenance import flat_attrs, run_provenance
from fcx.core.store import Store
from fcx.datasets import open_source
from fcx.datasets.records import counts_of, source_options
from fcx.datasets.splits import Shares
from fcx.datasets.wearing import (
    MASKED,
    PLAIN,
    FaceOptions,
    begin_workers,
    donors_of,
    landmarks_of,
    masked_face,
    masks_worn,
)  # fmt: skip
from fcx.geometry.crops import crop_face, scaled
from fcx.geometry.landmarks import GIVEN, SEVERAL, ready
from fcx.geometry.pose import find_pose
from fcx.geometry.regions import region_maps
from fcx.masks import MASK_OPTIONS, STYLES

FACES_A_BLOCK = 32  # faces that are written together, at most
BLOCKS, LEAST = 16, 8  # blocks that workers can share, unless they would have fewer faces than that
MOST_BLOCKS = 2048  # of a large data set: each costs a file for each variable, and a millisecond when one is read whole


@checked
def prepare(source: str | os.PathLike | Iterable, out: FilePath | None = None, *, crop: str = "face",
            backend: str = "mesh", several: str = "largest", pictures: Switch = True, strict: Switch = False,
            split: Shares | None = None, split_seed: Seed = 0, workers: Workers = 1, limit: Count | None = None,
            masks: Mapping | str | os.PathLike | None = None, overwrite: Switch = False, progress: Switch = True,
            **options: object) -> Faces:  # fmt: skip
    """Return a faces Dataset made from `source`, in memory or, with `out`, in a Zarr store.

    `source` is 'demo', a folder of pictures, a CSV, a FER+ array or one picture; a DataFrame with the columns of a
    CSV, or a list of paths, PIL images or arrays; `options` are the fields of `fcx.masks.MaskOptions`, and what the
    format of the source takes besides. Every input has a row: `status (condition, sample)` is "ok" or says why it
    could not be used; with `strict`, a faulty row of the source stops. `split` "0.8,0.2" (train, validation; or
    with a third, test) makes splits where the source has none, by subject where one is known, the same picture
    always in one, by hash with `split_seed`: rows that are added change nothing. Landmarks, mesh and regions come
    from the unmasked picture; `pose` (degrees) is that of the head in it, `worn` the look of the mask as JSON, and
    hashes tell whether two people made the same. The fit `donor` takes the outline of another face of the source,
    drawn by hash of the sample and the seed. `masks` gives several conditions in which a mask is worn on the same
    crop, as a dict from their names to `MaskOptions` or its fields, or as a JSON file of that; then `worn` is JSON
    by condition, the attribute `masks` says how each is worn, and the coordinate `twin (condition)` whose alpha the
    region `mask` of `plain` is: the first one's. With `pictures`, the colour crop is kept at 224x224 for display.
    An interrupted run with `out` goes on where it stopped. The result does not depend on `workers`.

    Raises: InputError for a source or a setting that cannot be used; StoreError where `out` holds
    something else; MissingWeightsError where a landmark backend lacks its weights.

    >>> faces = prepare("demo", limit=4, progress=False)
    >>> dict(faces["image"].sizes)
    {'condition': 2, 'sample': 4, 'y': 64, 'x': 64}
    >>> several = {"rigid": {"style": "mixed"}, "jaw": {"style": "mixed", "fit": "jaw"}}
    >>> prepare("demo", masks=several, limit=4, progress=False)["condition"].values.tolist()
    ['plain', 'rigid', 'jaw']
    """
    choose(several, SEVERAL, "policy for several faces in a picture, which is one sample")
    choose_all(options, [*MASK_OPTIONS, *source_options(source)], "option of prepare")
    worn = masks_worn(masks, **{name: options.pop(name) for name in MASK_OPTIONS if name in options})
    settings = FaceOptions(worn, crop, backend, several, pictures)
    found = open_source(source, strict=strict, split=split, split_seed=split_seed, **options)
    records = found.records if limit is None else found.records[:limit]
    if backend == GIVEN and all(record.box is None and record.points is None for record in records):
        raise InputError(f"{found.path} gives neither boxes nor landmarks of faces, which the landmark backend "
                         f"{GIVEN!r} needs: use 'mesh', which finds faces itself")  # fmt: skip
    attrs = {
        **settings.attrs(), "source": found.path, "adapter": found.adapter, "options": found.options,
        "counts": counts_of(records), "provenance": run_provenance(step="prepare"),
    }  # fmt: skip
    if split is not None:
        attrs["shares"] = f"{','.join(map(str, split))} by seed {split_seed}"
    variables, coords = _layout(records, settings)
    donors = zip(*(donors_of(records, found.records, mask) for mask in worn.values()), strict=True)
    jobs = list(zip(records, donors, strict=True))
    size = max(min(FACES_A_BLOCK, max(LEAST, -(-len(jobs) // BLOCKS))), -(-len(jobs) // MOST_BLOCKS))
    blocks = [FaceBlock(i, jobs[i : i + size]) for i in range(0, len(jobs), size)]
    work = partial(_make_block, variables=variables, settings=settings)
    start = begin_workers(worn.values()) if workers > 1 else None
    if out is None:
        return _in_memory(variables, coords, attrs, in_order(work, blocks, workers, progress, "faces", start))
    same = {name: value for name, value in attrs.items() if name not in ("provenance", "source", "counts")}
    same |= {"inputs": found.fingerprint(), "style": settings.drawn_from()}
    ready(backend)  # before anything is laid out
    store = Store(out, variables, coords, kind="faces", blocks=("sample",), settings=same, attrs=attrs,
                  chunks={"sample": size, "condition": 1}, overwrite=overwrite)  # fmt: skip
    # Each process writes what it makes: sending pictures from one to another takes longer than storing them.
    work = partial(_write_block, store=store, size=size, variables=variables, settings=settings)
    for _ in in_order(work, [blocks[number] for number in store.pending()], workers, progress, "faces", start):
        pass
    return store.finish()


@checked
def open_faces(path: FilePath) -> Faces:
    """Open the faces Dataset that `prepare` wrote to `path`, lazily.

    Raises: StoreError where there is none, or it is unfinished.
    """
    from fcx.core.reading import open_store

    return open_store(path, "faces")


def make_face(record, settings: FaceOptions, donors) -> dict:
    """Return what the store holds of one record, as name -> array; `status` says what went wrong, if anything."""
    if record.reason:
        return {"status": _shortened(record.reason)}
    face = {}
    try:
        picture = record.read()
        face["picture_hash"] = digest(picture)
        found = landmarks_of(record, picture, settings)
        face |= {"detector_score": found.score, "faces_found": found.faces, "pose": find_pose(found.mesh).angles}
        crop, mesh, points = crop_face(picture, found.mesh, found.points, settings.crop)
    except InputError as error:
        return face | {"status": _shortened(str(error))}
    parts, alphas, status, worn = [crop], [np.zeros(crop.shape[:2], np.uint8)], ["ok"], {}
    for name, others in zip(settings.masks, donors, strict=True):
        try:
            masked, alpha, worn[name] = masked_face(crop, mesh, record, name, settings, others)
            reason = "ok"
        except InputError as error:  # the face itself is good
            masked, alpha, reason = np.zeros_like(crop), alphas[0], _shortened(str(error))
        parts.append(masked), alphas.append(alpha), status.append(reason)
    look = worn.get(MASKED) if settings.only else worn
    scale = GRID / len(crop)
    images = [resize_to(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), GRID) for part in parts]
    grid = scaled(mesh, scale)
    face |= {
        "status": np.array(status),
        "worn": json.dumps(look, ensure_ascii=False) if look else "",
        "image": np.stack(images),
        "image_hash": np.array([digest(image) for image in images]),
        "alpha": np.stack([resize_to(alpha, GRID) for alpha in alphas]),
        "regions": region_maps(grid),
        "mesh": grid,
        "landmarks": scaled(points, scale),
    }
    if settings.pictures:
        face["picture"] = np.stack([resize_to(part, PICTURE) for part in parts])
    return face


def _shortened(text: str, limit: int = 240) -> str:
    """Return a reason that fits into the store: a long path loses its middle, never the reason at the end."""
    return text if len(text) <= limit else f"{text[: limit - 171]} ... {text[-166:]}"


def resize_to(picture: np.ndarray, size: int) -> np.ndarray:
    """Return a square picture of another size."""
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
        "valence_spread": (per_face, "f4"),
        "arousal_spread": (per_face, "f4"),
        "detector_score": (per_face, "f4"),
        "faces_found": (per_face, "i2"),
        "pose": (("sample", "angle"), "f4"),
        "worn": (per_face, f"U{_widest(records, settings)}"),
        "picture_hash": (per_face, "U16"),
        "image_hash": (("condition", "sample"), "U16"),
        "status": (("condition", "sample"), "U240"),
    }
    if settings.pictures:
        variables["picture"] = (("condition", "sample", "row", "column", "channel"), "u1")
    ids = [record.id for record in records]
    text = {name: (per_face, _text([getattr(record, name) for record in records]))
            for name in ("expression", "subject", "split", "source")}  # fmt: skip
    coords = {
        "condition": (("condition",), _text([PLAIN, *settings.masks])),
        "sample": (per_face, _text(ids)),
        "region": (("region",), _text(REGIONS)),
        "angle": (("angle",), _text(ANGLES)),
        "y": (("y",), np.arange(GRID)),
        "x": (("x",), np.arange(GRID)),
        **text,
    }
    if not settings.only:  # the condition whose alpha is the region `mask`, where none is worn: the first mask's
        coords["twin"] = (("condition",), _text([next(iter(settings.masks)), *settings.masks]))
    if settings.pictures:
        coords |= {"row": (("row",), np.arange(PICTURE)), "column": (("column",), np.arange(PICTURE))}
    return variables, coords


def _widest(records, settings) -> int:
    """Return a width that the JSON of every look fits into: its numbers, a style's name, a donor's id."""
    width = 0
    for condition, mask in settings.masks.items():
        styles = STYLES if mask.style == "mixed" else [mask.style]
        ids = [record.id for record in records] if mask.fit == "donor" else [""]
        width += 400 + sum(max(len(json.dumps(name, ensure_ascii=False)) for name in names) for names in (styles, ids))
        width += 0 if settings.only else len(condition) + 6
    return width


def _text(values) -> np.ndarray:
    array = np.array(list(values), dtype=np.str_)
    return array if array.dtype.itemsize else array.astype("U1")


def _index(dims, rows) -> tuple:
    return tuple(rows if dim == "sample" else slice(None) for dim in dims)


@dataclass(frozen=True)
class FaceBlock:
    """Some (record, donors) that are made together, and the row of the first."""

    first: int
    jobs: list

    def __len__(self) -> int:
        return len(self.jobs)


def _write_block(block: FaceBlock, store: Store, size: int, variables, settings) -> None:
    if store.done(block.first // size):  # by another process
        return
    rows = slice(block.first, block.first + len(block))
    values = _make_block(block, variables, settings)
    store.write({name: (_index(variables[name][0], rows), values[name]) for name in values})


def _make_block(block: FaceBlock, variables, settings) -> dict[str, np.ndarray]:
    """Return the arrays of some faces, dimensions as in the store."""
    jobs = block.jobs
    sizes = {"condition": 1 + len(settings.masks), "sample": len(jobs), "region": len(REGIONS), "y": GRID, "x": GRID,
             "point": 68, "xy": 2, "vertex": 468, "xyz": 3, "angle": 3, "row": PICTURE, "column": PICTURE,
             "channel": 3}  # fmt: skip
    block = {}
    for name, (dims, dtype) in variables.items():
        missing = np.nan if np.dtype(dtype).kind == "f" else np.zeros((), dtype)[()]
        block[name] = np.full([sizes[dim] for dim in dims], missing, dtype)
    for row, (record, donors) in enumerate(jobs):
        for name in ("valence", "arousal", "valence_spread", "arousal_spread"):
            block[name][row] = getattr(record, name)
        for name, value in make_face(record, settings, donors).items():
            place = _index(variables[name][0], row)
            block[name][place] = value
            if block[name].dtype.kind == "U" and np.any(block[name][place] != value):
                raise ContractError(f"{name} of {record.id!r} has no room in {block[name].dtype}: {value}")
    return block


def _in_memory(variables, coords, attrs, made):
    import xarray

    from fcx.core.reading import savable

    made = [values for _, values in made]
    joined = {
        name: (dims, np.concatenate([values[name] for values in made], axis=dims.index("sample")))
        for name, (dims, _) in variables.items()
    }
    attrs = flat_attrs({**attrs, "kind": "faces"})
    return savable(check(xarray.Dataset(joined, coords=coords, attrs=attrs), "faces"))
