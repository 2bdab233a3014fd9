"""Networks that a function of the user's makes: `package.module:function`, with weights from a file where given."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from fcx.core.checks import described
from fcx.core.errors import CheckpointError, InputError
from fcx.networks.checkpoints import check_shapes
from fcx.networks.inputs import Network
from fcx.networks.tensor_files import read_tensors


def imported(name: str) -> tuple[str, nn.Module | None]:
    """Return what a network is called, and the network that a function "package.module:function[@weights]" returns.

    None stands for it where the name has no colon. Code of the folder that the caller is in is found too.

    Raises: InputError where there is no such function, or it returns no network; CheckpointError for weights that are
    missing, or those of another network.
    """
    place, _, weights = name.partition("@")
    module_name, colon, function_name = place.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        return Path(name).stem, None
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)  # and it stays: other processes that work on the network look there too
    try:
        network = getattr(importlib.import_module(module_name), function_name)()
    except (Exception, SystemExit) as error:  # whatever code of others does
        raise InputError(f"model {name!r} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"model {name!r} is {described(network)}; allowed: a function without arguments that returns "
                         "a torch module")  # fmt: skip
    if weights:
        path = Path(weights)
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist: give the weights of {place!r} as safetensors")
        tensors = read_tensors(path)[0]
        of_all = not isinstance(network, Network) or tensors.keys() <= network.state_dict().keys()
        target = network if of_all else network.module  # whichever of the two was saved
        tensors = _with_tied(tensors, target)
        check_shapes(path, tensors, target)
        target.load_state_dict(tensors)
    return Path(weights).stem if weights else function_name, network.eval()


def _with_tied(tensors: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return tensors with those of weights that share their memory with one of them, which safetensors writes once."""
    state = network.state_dict()
    known = {_view(state[name]): v for name, v in tensors.items() if name in state and state[name].data_ptr()}
    return tensors | {name: known[_view(weight)] for name, weight in state.items()
                      if name not in tensors and _view(weight) in known}  # fmt: skip


def _view(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tensor.shape, tensor.stride()
