"""Zarr stores that are written block by block, by one process or several, and survive an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fcx.core.contract import SIZES, check
from fcx.core.errors import StoreError

UNFINISHED = "being laid out"  # the fingerprint of a store whose arrays are not all there yet


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
        found = read_attrs(self.path)
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
    attrs = read_attrs(path)
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


def read_attrs(path: str) -> dict | None:
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
