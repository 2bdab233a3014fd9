"""What registers itself in a room is known once its modules are loaded."""

from __future__ import annotations

import importlib
import pkgutil


def load_modules(room: str, path, decorator: str = "") -> None:
    """Import every module of the package `room`, which lies at `path`: a new file is found by being there.

    With `decorator`, only those that register something by it, so that the others load on first use.
    """
    for module in pkgutil.iter_modules(path):
        name = f"{room}.{module.name}"
        if not decorator or f"\n@{decorator}(" in module.module_finder.find_spec(name).loader.get_source(name):
            importlib.import_module(name)
