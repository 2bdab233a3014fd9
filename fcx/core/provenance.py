"""What is needed to repeat a run: versions, commit, parameters."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from fcx.core.paths import PROJECT

# Raised when a step gives other numbers than before, so that its stores are made again; a comment voids none.
STEP_VERSIONS = {"faces": 2, "results": 1}


def run_provenance(**extra) -> dict:
    """Return what is needed to repeat a run: versions, commit, and what is passed in."""
    names = ("fcx-faces", "torch", "numpy", "opencv-python", "captum", "zennit", "xarray", "zarr", "plotly")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"versions": versions, "commit": commit(), **extra}


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
