"""Faces by the name of a source: opened where a store is given or kept, else prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcx.core.contract import TARGETS
from fcx.core.paths import run_path
from fcx.core.provenance import STEP_VERSIONS
from fcx.core.store import FORMAT, URL
from fcx.datasets import open_source
from fcx.datasets.preparation import open_faces, prepare


def stored_faces(source: str, runs: str = "", **settings):
    """Return a faces Dataset: a store that `prepare` wrote, or any source of `prepare`, kept in the folder `runs`.

    `settings` go to `fcx.prepare`; a source with its settings has a store of its own, found at the second call.

    Raises: what `fcx.prepare` and `fcx.open_faces` raise.
    """
    if is_store(source):
        return open_faces(source)
    parts = open_source(source).fingerprint(), settings, FORMAT, STEP_VERSIONS["faces"]
    return prepare(source, run_path(runs, "faces", Path(source).stem, *parts), **settings)


def has_ratings(source: str) -> bool:
    """Return whether any face of a source, or of a store, has a rating.

    Raises: what `fcx.datasets.open_source` and `fcx.open_faces` raise.
    """
    if is_store(source):
        return bool(open_faces(source)[list(TARGETS)].notnull().any().to_array().any())
    records = open_source(source).records
    return bool(np.isfinite([(record.valence, record.arousal) for record in records]).any())


def is_store(path: str) -> bool:
    """Return whether a path is that of a store: a folder that Zarr or xarray wrote, or a URL."""
    return bool(URL.match(str(path))) or any((Path(path) / file).is_file() for file in (".zgroup", "zarr.json"))
