"""The networks that a command or a call is given: names, files, functions, or modules in a dict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from fcx.core.arguments import mapping, words
from fcx.core.errors import InputError
from fcx.networks.checkpoints import load_model
from fcx.networks.functions import imported
from fcx.networks.shipped_networks import all_seeds, first_seeds, shipped

# That `resolve_models` takes.
MODELS = "a dict from a name to a torch module, or names or files of checkpoints, or package.module:function"
Models = str | os.PathLike | Iterable[str | os.PathLike] | Mapping[str, nn.Module] | None


def resolve_models(models: Models = None) -> dict[str, nn.Module]:
    """Return name -> module for a name, a path, several of them, or a dict of modules.

    Several may be a list or a comma-separated string. A file is called by its stem. None is the first training of
    each family that ships, "all" is every one. A name may also be "package.module:function", of a function without
    arguments that returns a network, and "package.module:function@weights.safetensors" with weights for it.

    Raises: InputError for nothing, for two of one name, or for something that is not a model or has no weights.

    >>> list(resolve_models("plain_scratch, masked_scratch"))
    ['plain_scratch', 'masked_scratch']
    """
    if models is None or (isinstance(models, str) and models == "all"):
        models = first_seeds() if models is None else all_seeds()
    if isinstance(models, Mapping):
        for name, model in mapping(models, "models").items():
            if not isinstance(model, nn.Module):
                raise InputError(f"model {name!r} is a {type(model).__name__}, not a torch module")
            if any(tensor.is_meta for tensor in model.state_dict().values()):
                raise InputError(f"model {name!r} has no weights (they are on the device 'meta'): load them first")
        resolved = dict(models)
    else:
        if isinstance(models, nn.Module):
            raise InputError(f"models is a {type(models).__name__}; allowed: {MODELS}")
        resolved = {}
        for model in [models] if isinstance(models, str) and _is_file(models) else words(models, "models", MODELS):
            if not model:
                continue
            name, network = (Path(model).stem, None) if _is_file(model) else imported(model)
            if name in resolved:
                raise InputError(f"two models are called {name!r}: give a dict with a name for each")
            resolved[name] = load_model(model) if network is None else network
    if not resolved:
        raise InputError(f"no model was given; these ship with fcx: {', '.join(shipped()) or 'none'}")
    return resolved


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # many names in a row are too long for one; ValueError: a NUL
        return False
