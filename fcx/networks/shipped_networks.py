"""The networks that come with fcx, and the file that a name stands for."""

from __future__ import annotations

from pathlib import Path

from fcx.core.checks import choose
from fcx.core.contract import FAMILIES, family_and_seed
from fcx.core.errors import CheckpointError
from fcx.core.paths import shipped_folder
from fcx.networks.tensor_files import SUFFIX


def shipped() -> dict[str, Path]:
    """Return the trainings that come with fcx, name -> file: the families in their order, then controls."""
    order = {family: number for number, family in enumerate(FAMILIES)}
    files = {path.stem: path for path in shipped_folder("checkpoints").glob(f"*-[1-9]*{SUFFIX}")}
    ranks = {name: (order.get(family_and_seed(name)[0], len(order)), *family_and_seed(name)) for name in files}
    return {name: files[name] for name in sorted(files, key=ranks.get)}


def shipped_others() -> dict[str, Path]:
    """Return the networks that come with fcx and are not its own, name -> file."""
    ours = shipped()
    files = sorted(shipped_folder("checkpoints").glob(f"*{SUFFIX}"))
    return {path.stem: path for path in files if path.stem not in ours}


def first_seeds() -> list[str]:
    """Return the families that ship; the name of a family stands for its first training."""
    there = {family_and_seed(name)[0] for name in shipped()}
    return [family for family in FAMILIES if family in there]


def all_seeds() -> list[str]:
    """Return the names of every training of the families that ship."""
    return [name for name in shipped() if family_and_seed(name)[0] in FAMILIES]


def find(name_or_path) -> Path:
    """Return the file of a shipped name or a path; a family is its first training.

    Raises: CheckpointError where there is no such file; UnknownNameError for an unknown name.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if path.is_file():
        return path
    files = shipped() | shipped_others()
    if name in files or f"{name}-1" in files:
        return files.get(name) or files[f"{name}-1"]
    allowed = [*first_seeds(), *files]
    if path.suffix or len(path.parts) != 1:
        raise CheckpointError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a checkpoint's "
                              f"file, or one of {', '.join(allowed)}")  # fmt: skip
    if name in FAMILIES:
        raise CheckpointError(f"the checkpoint {name!r} is not in this copy of fcx: train it, or give a file")
    choose(name, allowed, "checkpoint")
    raise AssertionError("unreachable")
