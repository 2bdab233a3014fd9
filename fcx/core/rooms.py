"""What registers itself in a room is known once its modules are loaded."""

from __future__ import annotations

import importlib
import pkgutil


def load_modules(room: str, path) -> None:
    """Import every module of the package `room`, which lies at `path`: a new file is found by being there."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{room}.{module.name}")
