"""Zarr stores in a local folder, written block by block, by one process or several, that survive an interruption.

A store is laid out in a hidden folder beside its place and put there in one step: a half laid out one never stands
there, and of several processes that begin at once one lays out and the others share its work. Every chunk is written
whole and with a checksum, also one that holds nothing but fill values: what is not there is lost, or not yet made.
What a store is stands in `RECORD`, beside the descriptions of its arrays that readers of Zarr find there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from fcx.core.contract import SIZES
from fcx.core.errors import StoreError
from fcx.core.files import digest, read_json, sweep, temporary_name, write_whole
from fcx.core.provenance import STEP_VERSIONS, flat_attrs

LOG = logging.getLogger(__name__)
RECORD = ".zmetadata"  # the one file of a group to which something may be added
FORMAT = 2  # of stores; the first kept no record, and left out chunks of fill values
URL = re.compile(r"[A-Za-z][\w+.-]+:/")


@dataclass(frozen=True)
class _Array:
    """What an array of a store is; `values`, which are written with it, if it is a coordinate."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    attrs: Mapping
    values: np.ndarray | None = None


class Store:
    """A Zarr store that is written block by block, by one process or several.

    A block is one chunk along each of the dimensions `blocks` (here: some faces of one model and
    condition), numbered in that order; a variable that lacks one of them is written with the first
    along it. A block is done when all its chunks are there, so the same call after an interruption,
    a loss or a damage makes what is not there whole; `open_store` refuses a store that is not finished.

    Parameters: `variables` maps a name to (dims, dtype) or (dims, dtype, attributes); `coords` maps
    a name to (dims, values); `attrs` holds provenance; `settings` is what must be equal for a run to
    go on; `chunks` maps a dimension to its chunk.

    Raises: StoreError where `path` is a URL or cannot be written, or holds anything but a store of
    the same kind, version and settings.
    """

    def __init__(self, path, variables: Mapping, coords: Mapping, *, kind: str, blocks: tuple[str, ...],
                 settings: Mapping, attrs: Mapping, chunks: Mapping, overwrite: bool = False):  # fmt: skip
        import zarr

        from fcx.core.chunks import WholeFiles

        self.name, self.path = str(path), _writable(path)
        sizes = SIZES | {dims[0]: len(values) for dims, values in coords.values() if len(dims) == 1}
        chunks = {dim: max(1, min(chunks.get(dim, size), size)) for dim, size in sizes.items()}
        self.blocks, self.counts = blocks, {dim: -(-size // chunks[dim]) for dim, size in sizes.items()}
        self.dims = {name: tuple(dims) for name, (dims, *_) in variables.items()}
        arrays = {}
        for name, (dims, values) in coords.items():
            values = np.asarray(values)
            arrays[name] = _Array(tuple(dims), values.shape, values.shape, values.dtype, {}, values)
        for name, (dims, dtype, *attributes) in variables.items():
            shape, chunk = (tuple(lengths[dim] for dim in dims) for lengths in (sizes, chunks))
            arrays[name] = _Array(tuple(dims), shape, chunk, np.dtype(dtype), *(attributes or [{}]))
        record = {
            "format": FORMAT, "kind": kind, "step": STEP_VERSIONS[kind], "complete": False, "arrays": [*arrays],
            "fingerprint": _fingerprint(kind, settings, [blocks, chunks], arrays), "layout": uuid.uuid4().hex,
        }  # fmt: skip
        sweep(self.path.parent)
        self.record = stored_record(self.path, self.name)
        files = _laid_out(arrays, {**flat_attrs(attrs), "kind": kind})
        if self.record is None or overwrite:
            self._lay_out(record, files)
        _check_same(self.name, self.record, record)
        self.joined = self.record["layout"] != record["layout"]  # another process laid it out, now or before
        if self.joined:
            self._mend(files)
        self.group = zarr.open_group(WholeFiles(self.path), mode="r+", zarr_format=2)

    def _lay_out(self, record: dict, files: dict[str, bytes]) -> None:
        """Put an empty store in place, or in the place of the one that is there, and read its record."""
        if self.record is not None:
            _check_replaceable(self.name, self.path, self.record, record["kind"])
        described = {file: json.loads(content) for file, content in files.items() if Path(file).name.startswith(".z")}
        files = files | {RECORD: _json({"zarr_consolidated_format": 1, "metadata": described, "fcx": record})}
        new, old = temporary_name(self.path), temporary_name(self.path)
        try:
            for file, content in files.items():
                (new / file).parent.mkdir(parents=True, exist_ok=True)
                (new / file).write_bytes(content)
            if self.record is not None:
                os.rename(self.path, old)
            os.rename(new, self.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # of those, another process was faster
                raise StoreError(f"{self.name} cannot be written: {error.strerror or error}") from error
        finally:
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)
        self.record = stored_record(self.path, self.name)
        if self.record is None:
            raise StoreError(f"{self.name} is being replaced by another process: wait for it, or choose another path")

    def _mend(self, files: dict[str, bytes]) -> None:
        """Write again what was lost of descriptions and coordinates since the store was laid out."""
        described = read_json(self.path / RECORD)["metadata"]
        for file, content in files.items():
            place = self.path / file
            if file in described and read_json(place) != described[file]:
                write_whole(place, _json(described[file]))
            elif file not in described and not (place.is_file() and place.read_bytes() == content):
                write_whole(place, content)

    def pending(self) -> list[int]:
        """Return the numbers of the blocks that are not there, from the end where another process began it.

        So two that help each other meet in one block. A damaged chunk of what was there is removed first.
        """
        if self.joined:
            self._remove_damaged()
        missing = self._missing()
        return missing[::-1] if self.joined else missing

    def _remove_damaged(self) -> None:
        """Remove the chunks whose checksum or size is wrong, so that they are made again."""
        from numcodecs import Zstd

        for name in self.dims:
            array, folder = self.group[name], self.path / name
            size = math.prod(array.chunks) * array.dtype.itemsize
            for key in sweep(folder) if folder.is_dir() else ():
                with contextlib.suppress(FileNotFoundError):  # another process removed it
                    if key[:1].isdigit() and not _whole(Zstd(), (folder / key).read_bytes(), size):
                        LOG.info("%s: the chunk %s of %r was damaged and is made again", self.name, key, name)
                        (folder / key).unlink()

    def _missing(self) -> list[int]:
        there = {name: set(sweep(self.path / name)) for name in (".", *self.record["arrays"])}
        count = math.prod(self.counts[dim] for dim in self.blocks)
        return [block for block in range(count) if any(key not in there[name] for name, key in self._chunks(block))]

    def done(self, block: int) -> bool:
        """Return whether a block is there, by whatever process."""
        return all((self.path / name / key).exists() for name, key in self._chunks(block))

    def _chunks(self, block: int) -> Iterator[tuple[str, str]]:
        """Yield the chunks of a block as (variable, key)."""
        place = dict(zip(self.blocks, np.unravel_index(block, [self.counts[dim] for dim in self.blocks]), strict=True))
        for name, dims in self.dims.items():
            if not any(number for dim, number in place.items() if dim not in dims):
                for index in product(*([place[dim]] if dim in place else range(self.counts[dim]) for dim in dims)):
                    yield name, ".".join(map(str, index))

    def write(self, values: Mapping[str, tuple]) -> None:
        """Write the `values` of a block (name -> (index, array)).

        Raises: StoreError where somebody took the store away or replaced it meanwhile.
        """
        self._check_mine()
        for name, (index, array) in values.items():
            self.group[name].with_config({"write_empty_chunks": True})[index] = array

    def _check_mine(self) -> dict:
        """Return what stands in `RECORD`."""
        there = read_json(self.path / RECORD)
        if (record_in(there) or {}).get("layout") != self.record["layout"]:
            raise StoreError(f"{self.name} was removed or replaced while it was being written: run the command again")
        return there

    def finish(self):
        """Mark the store as complete and return it opened.

        Raises: StoreError where blocks are not there.
        """
        from fcx.core.reading import open_store

        if missing := [block for block in self._missing() if not self.done(block)]:
            raise StoreError(f"{self.name}: {len(missing)} blocks are not written yet: run the command again")
        write_whole(self.path / RECORD, _json(self._check_mine() | {"fcx": self.record | {"complete": True}}))
        return open_store(self.path, self.record["kind"])


def _laid_out(arrays: Mapping[str, _Array], attrs: dict) -> dict[str, bytes]:
    """Return the files of an empty store: descriptions, and the values of coordinates."""
    import numcodecs
    import zarr

    files = {}
    for name, array in arrays.items():
        made = zarr.create_array(
            files, name=name, shape=array.shape, chunks=tuple(max(1, n) for n in array.chunks), dtype=array.dtype,
            # Integers and strings get no fill value: xarray would turn it into NaN and the array into floats.
            fill_value=np.nan if array.dtype.kind == "f" else None, compressors=numcodecs.Zstd(1, checksum=True),
            attributes={"_ARRAY_DIMENSIONS": list(array.dims), **array.attrs}, zarr_format=2,
            config={"write_empty_chunks": True},
        )  # fmt: skip
        if array.values is not None and array.values.size:
            made[...] = array.values
    # How xarray knows, when it reads, what is a coordinate beside the dimensions' own.
    beside = [name for name, array in arrays.items() if array.values is not None and array.dims != (name,)]
    group = {".zgroup": {"zarr_format": 2}, ".zattrs": {**attrs, "coordinates": " ".join(beside)}}
    written = {file: content.to_bytes() for file, content in files.items()}
    return written | {file: _json(content) for file, content in group.items()}


def _whole(codec, content: bytes, size: int) -> bool:
    """Return whether a chunk is one of `size` bytes with the right checksum."""
    try:
        return len(codec.decode(content)) == size
    except RuntimeError:
        return False


def _json(content) -> bytes:
    return json.dumps(content, indent=1).encode()


def stored_record(path: Path, name: str) -> dict | None:
    """Return what the store in a local folder says of itself, or None where nothing is there.

    Raises: StoreError where something else is there; `name` is what the text calls it.
    """
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return None
    except OSError as error:
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
    if record := record_in(read_json(path / RECORD)):
        return record
    attrs = read_json(path / ".zattrs")
    if isinstance(attrs, dict) and {"kind", "fingerprint"} <= attrs.keys():  # as the first format kept it
        return {"format": 1, "kind": attrs["kind"], "arrays": [file.parent.name for file in path.glob("*/.zarray")]}
    raise StoreError(f"{name} exists and is not a store of fcx: choose another path, or remove it first")


def record_in(content) -> dict | None:
    """Return what a store says of itself in what `RECORD` holds, None where that is the `RECORD` of no store."""
    described = isinstance(content, dict) and isinstance(content.get("metadata"), dict)
    record = content.get("fcx") if described else None
    names = {"format", "kind", "step", "complete", "arrays", "fingerprint", "layout"}
    return record if isinstance(record, dict) and names <= record.keys() else None


def _check_same(name: str, there: dict, wanted: dict) -> None:
    """Refuse to go on with a store that is not the one that is wanted."""
    again = "choose another path, or pass overwrite (--overwrite) to replace it"
    if there["kind"] != wanted["kind"]:
        raise StoreError(f"{name} holds {there['kind']}, not {wanted['kind']}: choose another path")
    if (made := [there["format"], there.get("step")]) != (now := [wanted["format"], wanted["step"]]):
        raise StoreError(
            f"{name} was made by another version of fcx (format and version of the {wanted['kind']} {made}, now "
            f"{now}), whose numbers may differ: {again}"
        )
    if there["fingerprint"] != wanted["fingerprint"]:
        raise StoreError(f"{name} holds {wanted['kind']} made with other settings or inputs: {again}")


def _check_replaceable(name: str, path: Path, there: dict, kind: str) -> None:
    """Refuse to replace a store of another kind, or one in which something lies that fcx did not write."""
    if there["kind"] != kind:
        raise StoreError(f"{name} holds {there['kind']}, which {kind} may not replace: choose another path")
    own = {".zgroup", ".zattrs", ".zmetadata", *there["arrays"]}
    if strange := sorted(set(os.listdir(path)) - own):
        raise StoreError(f"{name} holds {strange[0]!r}, which fcx did not write: move it away, or choose another path")


def _writable(path) -> Path:
    """Return the folder that a store is written to, whatever becomes of the working directory.

    Raises: StoreError for a URL, for no name, and for a place inside another store.
    """
    if URL.match(str(path)):
        raise StoreError(f"{path} is a URL: stores are written to a local folder (and read from URLs too)")
    if not str(path):
        raise StoreError("the path of the store is empty: give a folder, such as faces.zarr")
    folder = Path(os.path.realpath(os.path.expanduser(path)))
    for above in folder.parents:
        if any((above / file).exists() for file in (".zgroup", ".zarray", "zarr.json")):
            raise StoreError(f"{path} lies inside the store {above}: choose a path outside it")
    return folder


def _fingerprint(kind, settings, blocks, arrays: Mapping[str, _Array]) -> str:
    described = {
        "kind": kind, "settings": dict(settings), "blocks": blocks,
        "arrays": {name: [array.dims, str(array.dtype)] for name, array in arrays.items()},
        "values": {name: digest(array.values) for name, array in arrays.items() if array.values is not None},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]
