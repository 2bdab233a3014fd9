"""What is needed to repeat a run: versions, commit, parameters."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from numbers import Real
from pathlib import Path

from fcx.core.paths import PROJECT

# Raised when a step gives other numbers than before, so that its stores are made again; a comment voids none.
STEP_VERSIONS = {"faces": 3, "results": 3}


def run_provenance(**extra) -> dict:
    """Return what is needed to repeat a run: versions, commit, and what is passed in."""
    names = ("fcx-faces", "torch", "numpy", "opencv-python", "captum", "zennit", "xarray", "zarr", "plotly")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"versions": versions, "commit": commit(), **extra}


def flat_attrs(attrs: Mapping) -> dict:
    """Return attributes as every format holds them: text, numbers and lists of numbers; all else as JSON text.

    >>> flat_attrs({"crop": "face", "shift": (0.5, -1.0), "options": {}, "drawn": True})
    {'crop': 'face', 'shift': [0.5, -1.0], 'options': '{}', 'drawn': 'true'}
    """

    def flat(value):
        if isinstance(value, list | tuple) and value and all(map(plain, value)):
            return list(value)
        return value if isinstance(value, str) or plain(value) else json.dumps(value, default=str, ensure_ascii=False)

    def plain(value) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool)

    return {name: flat(value) for name, value in attrs.items()}


def nested_attr(labelled, name: str) -> dict:
    """Return an attribute that `flat_attrs` made text of, {} where a Dataset or DataArray has none of that name.

    >>> nested_attr(results, "methods")["lrp"]["units"]  # doctest: +SKIP
    """
    value = labelled.attrs.get(name, {})
    return json.loads(value) if isinstance(value, str) else value


def commit() -> str:
    """Return the commit of the source that runs ('unknown' outside a checkout, '+' where changed)."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != PROJECT.resolve():
            return "unknown"  # installed below somebody else's checkout
        return git("describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
