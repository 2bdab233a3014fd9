"""Where the files that ship lie: data, checkpoints and notebooks, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PROJECT = PACKAGE.parent  # of a checkout
DATA = PACKAGE / "data"


def shipped_folder(name: str) -> Path:
    """Return the folder `checkpoints` or `notebooks`: inside the package where installed, beside it in a checkout."""
    inside = DATA / name
    return inside if inside.is_dir() else PROJECT / name
