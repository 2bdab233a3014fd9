"""What crosses a room's threshold: dimension names, validation, stores and errors.

Every step of fcx takes and returns an xarray Dataset. This module names the
dimensions, says which variables a *faces* and a *results* Dataset hold, refuses
what breaks that contract, and writes and reads Datasets as Zarr stores that
survive an interruption.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

TARGETS = ("arousal", "valence")
CONDITIONS = ("plain", "masked")
REGIONS = ("eyes", "brows", "nose", "mouth", "cheeks", "forehead", "jaw", "background")
CROPS = ("face", "upright", "whole")
ANGLES = ("yaw", "pitch", "roll")  # degrees, as `fcx.pose.Pose.angles` counts them
GRID = 64  # pixels: the grid that image, regions and attribution share
PICTURE = 224  # pixels: the display picture

# name: (dimensions in order, allowed dtype kinds, required)
FACES = {
    "image": (("condition", "sample", "y", "x"), "u", True),
    "alpha": (("condition", "sample", "y", "x"), "u", True),
    "regions": (("sample", "region", "y", "x"), "u", True),  # a variable cannot share its name with a dimension
    "landmarks": (("sample", "point", "xy"), "f", True),
    "mesh": (("sample", "vertex", "xyz"), "f", True),
    "valence": (("sample",), "f", True),
    "arousal": (("sample",), "f", True),
    "status": (("condition", "sample"), "UOT", True),
    "picture": (("condition", "sample", "row", "column", "channel"), "u", False),
    "detector_score": (("sample",), "f", False),
    "faces_found": (("sample",), "i", False),
    "pose": (("sample", "angle"), "f", False),
    "worn": (("sample",), "UOT", False),  # the look of the mask, as JSON
    "picture_hash": (("sample",), "UOT", False),
    "image_hash": (("condition", "sample"), "UOT", False),
}
RESULTS = {
    "prediction": (("model", "condition", "target", "sample"), "f", True),
    "attribution": (("model", "condition", "method", "target", "sample", "y", "x"), "fi", False),
    # Beside compressed maps: what a step of each stands for, and its largest error.
    "attribution_scale": (("model", "condition", "method", "target", "sample"), "f", False),
    "attribution_error": (("model", "condition", "method", "target", "sample"), "f", False),
    # `fcx.localisation.QUANTITIES` of each map, from before it was compressed, and the area of each region.
    **{
        name: (("model", "condition", "method", "target", "sample", "region"), "f", False)
        for name in ("share", "net", "positive", "negative", "density", "enrichment", "auc")
    },
    "area": (("sample", "region"), "f", False),
}
UNFINISHED = "being laid out"  # the fingerprint of a store whose arrays are not all there yet
CONTRACTS = {"faces": FACES, "results": RESULTS}
SIZES = {"point": 68, "xy": 2, "vertex": 468, "xyz": 3, "channel": 3, "angle": 3}


class FcxError(Exception):
    """Every error that fcx raises on purpose."""


class InputError(FcxError, ValueError):
    """Something that was given cannot be used; the text says what is allowed."""


class UnknownNameError(InputError):
    """A name that no registry knows."""


class ImageError(InputError):
    """A file that cannot be read as a picture."""


class FaceError(InputError):
    """A picture in which the wanted face cannot be found."""


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged or of another shape."""


class StoreError(InputError):
    """A store that is missing, unfinished, or holds something else."""


class ContractError(FcxError, ValueError):
    """A Dataset that breaks the contract."""


class MissingWeightsError(FcxError, FileNotFoundError):
    """Weights that a backend needs are not on this machine."""

    def __str__(self) -> str:
        return str(self.args[0])


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return `name` if it is allowed, else raise an error that names the nearest allowed one.

    Raises: UnknownNameError, "unknown method 'gradcma': did you mean 'gradcam'? ...".

    >>> choose("gradcam", ["gradcam", "lrp"], "method")
    'gradcam'
    """
    allowed = list(allowed)
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"unknown {what} {name!r}: {hint}allowed: {', '.join(allowed)}")


def check(dataset, kind: str):
    """Return `dataset` if it keeps the contract of `kind` ('faces' or 'results').

    Raises: ContractError naming the variable, what it is and what it should be.
    """
    contract = CONTRACTS[choose(kind, CONTRACTS, "kind of Dataset")]
    for name, (dims, kinds, required) in contract.items():
        if name not in dataset:
            if required:
                have = ", ".join(map(str, dataset.data_vars)) or "nothing"
                raise ContractError(f"{kind}: variable {name!r} is missing; the Dataset has {have}")
            continue
        variable = dataset[name]
        if variable.dims != dims:
            raise ContractError(f"{kind}: {name!r} has dimensions {variable.dims}, should be {dims}")
        if variable.dtype.kind not in kinds:
            raise ContractError(f"{kind}: {name!r} is {variable.dtype}, should be of kind {kinds!r}")
    for dim, size in SIZES.items():
        if dim in dataset.sizes and dataset.sizes[dim] != size:
            raise ContractError(f"{kind}: {dim!r} has size {dataset.sizes[dim]}, should be {size}")
    for dim, allowed in (("region", REGIONS), ("target", TARGETS), ("angle", ANGLES)):
        if dim in dataset.sizes and dim not in dataset.coords:
            raise ContractError(f"{kind}: dimension {dim!r} has no names; allowed: {', '.join(allowed)}")
    if kind == "faces":
        for name in TARGETS:
            values = dataset[name].values
            if np.nanmax(np.abs(values), initial=0.0) > 1:
                raise ContractError(f"faces: {name!r} reaches {np.nanmax(np.abs(values)):g}; allowed: -1 to 1")
    return dataset


def usable(faces) -> np.ndarray:
    """Return (sample,) bool: True where the face is 'ok' in every condition."""
    return (faces["status"].values == "ok").all(axis=0)


def provenance(**extra) -> dict:
    """Return what is needed to repeat a run: versions, commit, and what is passed in."""
    names = ("fcx", "torch", "numpy", "opencv-python", "captum", "zennit", "xarray", "zarr", "plotly")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"versions": versions, "commit": commit(), **extra}


def commit() -> str:
    """Return the commit of the source that runs ('unknown' outside a checkout, '+' where changed)."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown"  # installed below somebody else's checkout
        return git("describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@contextlib.contextmanager
def replacing(path: str | os.PathLike):
    """Yield a temporary name beside `path`; on success it becomes `path`, on failure it is gone.

    The temporary name keeps the suffix, so that writers that look at it still work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, because the name itself may be as long as the file system allows.
    temporary = path.with_name(
        f".{digest(path.name.encode(errors='surrogateescape'))}.{os.getpid()}.partial{path.suffix}"
    )
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Store:
    """A Zarr store that is written block by block, by one process or several.

    A block is whatever the caller calls one (here: some faces of one model and
    condition). Blocks that are done are remembered in the store, so the same call
    after an interruption goes on where it stopped; `open_store` refuses a store
    that is not finished. Works on a local folder and on any fsspec URL.

    Parameters: `variables` maps a name to (dims, dtype); `coords` maps a name to
    (dims, values); `attrs` holds provenance; `settings` is what must be equal for a
    run to go on; `blocks` counts the blocks; `chunks` maps a dimension to its chunk.

    Raises: StoreError where `path` holds a store made with other settings.
    """

    def __init__(self, path, variables: Mapping, coords: Mapping, *, kind: str, blocks: int,
                 settings: Mapping, attrs: Mapping, chunks: Mapping, overwrite: bool = False):  # fmt: skip
        import zarr

        self.path = _expanded(path)
        mark = _fingerprint(kind, variables, coords, settings, blocks)
        found = _read_attrs(self.path)
        if found is None or overwrite or found["fingerprint"] == UNFINISHED:
            there = Path(self.path)
            if found is not None and found.get("kind") != kind:
                raise StoreError(
                    f"{self.path} holds {found.get('kind')}, which {kind} may not replace: choose another path"
                )
            if found is None and there.exists() and not (there.is_dir() and not any(there.iterdir())):
                raise StoreError(f"{self.path} exists and is not a store of fcx: choose another path")
            self.group = zarr.open_group(self.path, mode="w", zarr_format=2)
            # Whoever finds this mark knows that the store is ours, and was interrupted while being laid out.
            self.group.attrs.update({"kind": kind, "complete": False, "fingerprint": UNFINISHED})
            self._lay_out(variables, coords, blocks, chunks)
            # `coordinates` is how xarray knows, when it reads, what is a coordinate beside the dimensions' own.
            beside = " ".join(name for name, (dims, _) in coords.items() if dims != (name,))
            layout = {"kind": kind, "complete": False, "coordinates": beside, "fingerprint": mark}
            self.group.attrs.update({**attrs, **layout})
        elif found.get("fingerprint") != mark:
            raise StoreError(
                f"{self.path} holds {found.get('kind', 'something')} made with other settings or inputs: "
                "choose another path, or pass overwrite (--overwrite) to replace it"
            )
        else:
            self.group = zarr.open_group(self.path, mode="r+", zarr_format=2)

    def _lay_out(self, variables, coords, blocks, chunks):
        sizes = {dims[0]: len(values) for dims, values in coords.values() if len(dims) == 1}
        for name, (dims, values) in coords.items():
            values = np.asarray(values)
            array = self._array(name, dims, values.shape, values.dtype, values.shape)
            if values.size:
                array[...] = values
        for name, (dims, dtype) in variables.items():
            shape = tuple(sizes[d] if d in sizes else SIZES[d] for d in dims)
            chunk = tuple(max(1, min(chunks.get(d, n), n)) for d, n in zip(dims, shape, strict=True))
            self._array(name, dims, shape, np.dtype(dtype), chunk)
        self._array("_done", ("_block",), (blocks,), np.dtype("u1"), (1,))

    def _array(self, name, dims, shape, dtype, chunks):
        # Integers and strings get no fill value: xarray would turn it into NaN and the array into floats.
        fill = np.nan if dtype.kind == "f" else None
        array = self.group.create_array(
            name, shape=shape, dtype=dtype, chunks=tuple(max(1, c) for c in chunks), fill_value=fill
        )
        array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
        return array

    def pending(self) -> list[int]:
        """Return the numbers of the blocks that are not yet written."""
        return [int(i) for i in np.flatnonzero(self.group["_done"][:] != 1)]

    def write(self, block: int, values: Mapping[str, tuple]) -> None:
        """Write `values` (name -> (index, array)), then mark `block` as done."""
        for name, (index, array) in values.items():
            self.group[name][index] = array
        self.group["_done"][block] = 1

    def finish(self):
        """Mark the store as complete and return it opened."""
        if missing := self.pending():
            raise StoreError(f"{self.path}: {len(missing)} blocks are not written yet")
        self.group.attrs["complete"] = True
        return open_store(self.path, self.group.attrs["kind"])


def open_store(path, kind: str):
    """Open a finished store of `kind` ('faces' or 'results') lazily as an xarray Dataset.

    Raises: StoreError where there is none, where it was interrupted, or is of another kind.
    """
    import xarray

    path = _expanded(path)
    attrs = _read_attrs(path)
    if attrs is None:
        raise StoreError(f"{path} is not a store of fcx: expected {kind} that fcx wrote (a .zarr folder)")
    if attrs.get("kind") != kind:
        raise StoreError(f"{path} holds {attrs.get('kind')}, not {kind}")
    if not attrs.get("complete"):
        raise StoreError(f"{path} is unfinished: run the command that writes it again, it goes on where it stopped")
    opened = xarray.open_zarr(path, chunks=None, consolidated=False, zarr_format=2)
    return check(opened.drop_vars("_done", errors="ignore"), kind)


def _expanded(path) -> str:
    """Return a path or URL as text, with a leading ~ as the home folder."""
    return str(path) if "://" in str(path) else str(Path(path).expanduser())


def _read_attrs(path: str) -> dict | None:
    """Return the attributes of an fcx store, or None where there is no usable one."""
    import zarr

    try:
        attrs = dict(zarr.open_group(path, mode="r", zarr_format=2).attrs)
    except (OSError, ValueError, KeyError, zarr.errors.GroupNotFoundError):
        return None
    return attrs if "fingerprint" in attrs else None


def _fingerprint(kind, variables, coords, settings, blocks) -> str:
    described = {
        "kind": kind,
        "blocks": blocks,
        "settings": dict(settings),
        "variables": {k: [list(dims), str(np.dtype(dtype))] for k, (dims, dtype) in variables.items()},
        "coords": {k: digest(np.asarray(values)) for k, (_, values) in coords.items()},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def digest(values) -> str:
    """Return a short hash of an array's values (or of bytes)."""
    if isinstance(values, bytes):
        return hashlib.sha256(values).hexdigest()[:16]
    values = np.ascontiguousarray(values)
    data = values.astype(str).tobytes() if values.dtype.kind in "OT" else values.tobytes()
    return hashlib.sha256(f"{values.shape}{values.dtype.kind}".encode() + data).hexdigest()[:16]
