"""What a training was made with, so that another one does not go on with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fcx.core.errors import CheckpointError
from fcx.core.recipes import Recipe
from fcx.networks.facechannel import Config


def same_settings(path: Path, found: dict, wanted: dict) -> None:
    """Refuse to go on with what other settings made, and name those that differ."""
    found = {name: found.get(name) for name in wanted}
    for name, defaults in (("config", Config()), ("recipe", Recipe())):
        if isinstance(found.get(name), dict):  # what an earlier fcx could not choose has its default
            found[name] = asdict(defaults) | found[name]
    found, wanted = _flat(found), _flat(wanted)
    differing = [
        f"{name} ({found.get(name, 'none')} there, {wanted.get(name, 'none')} here)"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"{path} was made with other settings: {'; '.join(differing)}. "
            "Choose another output, repeat its settings, or pass overwrite (--overwrite)"
        )


def _flat(settings: dict) -> dict:
    """Return one level: {"recipe": {"epochs": 3}} as {"recipe.epochs": 3}."""
    flat = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{key}".rstrip("."): item for key, item in inner.items() if key != "filled_in"}  # a comment
    return flat
