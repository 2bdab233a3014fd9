"""Where files lie: those that ship (in a checkout or an installed wheel), and the stores of a folder of runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fcx.core.files import digest

PACKAGE = Path(__file__).parents[1]
PROJECT = PACKAGE.parent  # of a checkout
DATA = PACKAGE / "data"


def shipped_folder(name: str) -> Path:
    """Return the folder `checkpoints` or `notebooks`: inside the package where installed, beside it in a checkout."""
    inside = DATA / name
    return inside if inside.is_dir() else PROJECT / name


def runs_folder(runs: str | os.PathLike = "") -> Path:
    """Return the folder of runs: the one that is given, else `runs` of the checkout, or of the working directory."""
    if str(runs):
        return Path(runs)
    return (PROJECT if (PROJECT / "pyproject.toml").is_file() else Path.cwd()) / "runs"


def run_path(runs: str | os.PathLike, kind: str, name: str, *parts) -> Path:
    """Return the path in the folder `runs` (`runs_folder`) of the store that holds what `parts` describe."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:40]
    return runs_folder(runs) / f"{kind}-{stem}-{digest(repr(parts).encode())[:8]}.zarr"
