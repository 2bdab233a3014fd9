"""Finished stores are opened lazily, from a folder or a URL; what is lost or damaged is refused in words."""

from __future__ import annotations

import contextlib
import json
import math
import os
from itertools import product
from pathlib import Path

import fsspec
import numpy as np
import xarray as xr
import zarr
from fsspec.implementations.local import LocalFileSystem
from xarray.backends import BackendArray
from xarray.core import indexing

from fcx.core import selection as selection  # results.fcx.sel
from fcx.core.chunks import AbsentChunkError, AllThere
from fcx.core.contract import check
from fcx.core.errors import FcxError, StoreError
from fcx.core.store import FORMAT, RECORD, URL, record_in

AGAIN = "run the command that wrote it once more, which makes what is lost or damaged"


def open_store(path, kind: str) -> xr.Dataset:
    """Open a finished store of `kind` ('faces' or 'results') lazily, from a folder or any fsspec URL.

    What xarray saved of one opens too, as it is: which of its chunks were lost since cannot be known.

    Raises: StoreError where there is none, where it is unfinished, of another kind or an earlier format, or has lost
    something; later, where values are read that are damaged.
    """
    name = str(path)
    where = name if URL.match(name) else os.path.abspath(os.path.expanduser(path))
    with _in_words(name):
        record = _record(where)
        if record is None:
            raise StoreError(f"{name} is not a store of fcx: expected {kind} that fcx wrote (a .zarr folder)")
        if record["kind"] != kind:
            raise StoreError(f"{name} holds {record['kind']}, not {kind}")
        if record["format"] != FORMAT:
            raise StoreError(
                f"{name} was written by another version of fcx (format {record['format']}, now {FORMAT}), and what it "
                "may have lost cannot be known: write it again, to another path or with --overwrite"
            )
        if not record["complete"]:
            raise StoreError(f"{name} is unfinished: run the command that writes it again, it goes on where it stopped")
        files = zarr.open_group(where, mode="r").store
        whole = AllThere(files) if record["arrays"] else files
        opened = xr.open_dataset(whole, engine="zarr", chunks=None, cache=False, consolidated=bool(record["arrays"]))
        if gone := [array for array in record["arrays"] if array not in opened.variables]:
            raise StoreError(f"{name} has lost the array {gone[0]!r}: {AGAIN}")
        for array in record["arrays"] if not URL.match(where) else ():
            _check_chunks(Path(where, array), opened[array].variable, name)
        lazy = {array: _guarded(variable, array, name)
                for array, variable in opened.variables.items() if array not in opened.indexes}  # fmt: skip
        opened = opened.drop_encoding().assign({array: lazy[array] for array in opened.data_vars})
        opened = opened.assign_coords({array: lazy[array] for array in lazy if array in opened.coords})
        return savable(check(opened, kind))


def savable(dataset: xr.Dataset) -> xr.Dataset:
    """Return a Dataset that can be saved as netCDF 3 too, which knows no unsigned bytes but by a convention."""
    for variable in dataset.variables.values():
        if variable.dtype.kind == "u":
            variable.attrs["_Unsigned"] = "true"
            variable.encoding["dtype"] = f"int{8 * variable.dtype.itemsize}"
    return dataset


def _record(where: str) -> dict | None:
    """Return what a store says of itself, or is seen to be; None where it is none of fcx."""
    if record := record_in(_json(where, RECORD)):
        return record
    attrs = _json(where, ".zattrs") or (_json(where, "zarr.json") or {}).get("attributes")
    if not isinstance(attrs, dict) or "kind" not in attrs:
        return None
    return {"kind": attrs["kind"], "format": 1 if "fingerprint" in attrs else FORMAT, "complete": True, "arrays": []}


def _json(where: str, file: str):
    """Return what a JSON file of a store holds, or None where it is not there."""
    files, root = fsspec.core.url_to_fs(where) if URL.match(where) else (LocalFileSystem(), where)
    try:
        return json.loads(files.cat_file(f"{root}/{file}"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_chunks(folder: Path, variable: xr.Variable, name: str) -> None:
    """Refuse an array that has fewer chunks than it should."""
    counts = [math.ceil(size / chunk) for size, chunk in zip(variable.shape, variable.encoding["chunks"], strict=True)]
    if not folder.is_dir():
        raise StoreError(f"{name} has lost the array {folder.name!r}: {AGAIN}")
    there = {file for file in os.listdir(folder) if file[0].isdigit()}
    if len(there) < math.prod(counts):
        lost = next(key for index in product(*map(range, counts)) if (key := ".".join(map(str, index))) not in there)
        raise StoreError(f"{name} has lost the chunk {lost} of {folder.name!r}: {AGAIN}")


def _guarded(variable: xr.Variable, array: str, name: str) -> xr.Variable:
    """Return a lazy variable that says in words what it cannot read, and keeps what it read whole."""
    lazy = indexing.LazilyIndexedArray(_Guarded(variable, array, name))
    kept = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))
    hint = {key: value for key, value in variable.encoding.items() if key == "preferred_chunks"}
    return xr.Variable(variable.dims, kept, variable.attrs, hint)


class _Guarded(BackendArray):
    """A variable of a store, whose damaged chunks are refused in words."""

    def __init__(self, variable: xr.Variable, array: str, name: str):
        self.variable, self.array, self.name = variable, array, name
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple) -> np.ndarray:
        with _in_words(self.name):
            try:
                return self.variable[key].values
            except (AbsentChunkError, MemoryError):
                raise
            except Exception as error:
                raise StoreError(
                    f"{self.name}: the chunk {self._damaged(key)} of {self.array!r} cannot be read ({error}): {AGAIN}"
                ) from error

    def _damaged(self, key: tuple) -> str:
        """Return the first chunk of those that `key` asks for which cannot be read."""
        chunks = self.variable.encoding["chunks"]
        wanted = [np.unique(np.arange(n)[k] // c) for n, k, c in zip(self.shape, key, chunks, strict=True)]
        for index in product(*wanted):
            try:
                self.variable[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))].to_numpy()
            except Exception:  # whatever a damaged chunk makes a reader raise
                return ".".join(map(str, index))
        return "?"


@contextlib.contextmanager
def _in_words(name: str):
    """Turn what readers of files raise into a StoreError."""
    try:
        yield
    except ImportError as error:
        raise StoreError(f"{name} cannot be read, because a package is missing: {error}") from error
    except AbsentChunkError as error:
        raise StoreError(f"{name} has lost {error}: {AGAIN}") from error
    except (FcxError, MemoryError):
        raise
    except Exception as error:
        raise StoreError(f"{name} is damaged or cannot be read ({error}): {AGAIN}, or with --overwrite") from error
