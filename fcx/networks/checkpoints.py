"""Checkpoints: weights as safetensors, with everything that is known about them in the header.

No pickle is ever opened: a pickle can run any code. The header holds, each as JSON, `format`,
`config`, `sha256` of the weights, and the training record: crop rule, data, recipe, scores; that of a network that is
no FaceChannel names its `architecture`, and declares what it reads and answers (`network`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fcx.core.arguments import FilePath, Names, checked
from fcx.core.errors import CheckpointError, InputError
from fcx.networks.architectures import network_of
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.inputs import UNKNOWN, Network
from fcx.networks.shipped_networks import find
from fcx.networks.tensor_files import FORMAT, OTHER, check_name, read_tensors, weights_hash, write_tensors

PRECISIONS = ("float32", "float64", "float16", "bfloat16")


@checked
def save_model(model: FaceChannel, path: FilePath, metadata: Names | None = None) -> Path:
    """Write `model` and `metadata` (anything JSON can hold) to `path`, whole or not at all.

    Raises: InputError "... end in .safetensors" for another name, or for a model that is no FaceChannel.

    >>> from fcx import FaceChannel
    >>> save_model(FaceChannel.preset("paper", width=4), "small.safetensors", {"crop": "face"})  # doctest: +SKIP
    PosixPath('small.safetensors')
    """
    path = check_name(path)
    if not isinstance(model, FaceChannel):
        raise InputError(f"a checkpoint holds a FaceChannel, not a {type(model).__name__}")
    tensors = model.state_dict()
    _check_weights(tensors, "the model")
    header = {**(metadata or {}), "format": FORMAT, "config": model.config.as_dict(), "sha256": weights_hash(tensors)}
    write_tensors(path, tensors, header)
    return path


@checked
def load_model(name_or_path: FilePath) -> FaceChannel | Network:
    """Return the network of a shipped name or a file, in eval mode, its header as `model.metadata`.

    A file is a checkpoint, or an ONNX file that says what it reads and answers, as `fcx onnx` writes it.

    Raises: CheckpointError for a file that is missing, damaged, of another shape, or not of fcx; InputError for an
    ONNX file that says nothing of itself; UnknownNameError for a name that does not ship.

    >>> load_model("plain_scratch").config.width
    64
    """
    path = find(name_or_path)
    if path.suffix == ".onnx":
        from fcx.networks.onnx_import import read_onnx  # which reads this module

        return read_onnx(path)
    tensors, metadata = read_tensors(path)
    _check_format(path, metadata)
    if metadata.get("sha256") != weights_hash(tensors):
        raise CheckpointError(f"{path} is damaged: its weights do not have the hash that its header records")
    _check_weights(tensors, path)
    if metadata["format"] == OTHER:
        network = network_of(path, metadata)
        check_shapes(path, tensors, network.module)
        network.module.load_state_dict(tensors)
        return network.eval()
    try:
        config = Config(**metadata["config"])
        with torch.device("meta"):  # shapes first: a wrong config must not fill the memory
            described = FaceChannel(config)
    except (TypeError, KeyError, InputError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not describe a FaceChannel: {error}") from error
    check_shapes(path, tensors, described)
    with torch.random.fork_rng(devices=[]):  # the first random weights must not move the caller's generator
        model = FaceChannel(config).to(tensors["head.weight"].dtype)
    model.load_state_dict(tensors)
    model.metadata = metadata
    return model.eval()


def load_facechannel(name_or_path) -> FaceChannel:
    """Return the FaceChannel of a shipped name or a file, as `load_model` does.

    Raises: CheckpointError for a network of another kind; else as `load_model`.
    """
    if not isinstance(model := load_model(name_or_path), FaceChannel):
        outputs = ", ".join(model.outputs)
        raise CheckpointError(f"{name_or_path} is no FaceChannel (it answers {outputs}): it can be predicted with and "
                              "explained, but not taught or set into the tables of the experiment")  # fmt: skip
    return model


def check_shapes(path: Path, tensors: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    """Refuse weights that are not those of a network.

    Raises: CheckpointError naming the first that differs.
    """
    wanted, found = ({name: value.shape for name, value in state.items()} for state in (model.state_dict(), tensors))
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            have, want = (list(shapes.get(name, ())) or "nothing" for shapes in (found, wanted))
            raise CheckpointError(f"{path} is of another shape: {name} is {have}, its config asks for {want}")


def _check_weights(tensors: Mapping[str, torch.Tensor], what) -> None:
    """Refuse weights that a network cannot use as they are.

    Raises: CheckpointError for several types, one that is not allowed, and values that are not finite.
    """
    weights = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    kinds = {str(value.dtype).removeprefix("torch.") for value in weights.values()}
    if len(kinds) != 1 or not kinds <= set(PRECISIONS):
        raise CheckpointError(f"{what} holds weights of the types {', '.join(sorted(kinds)) or 'none'}: allowed: one "
                              f"of {', '.join(PRECISIONS)} for all, as model.float() gives")  # fmt: skip
    for name, value in weights.items():
        if value.is_meta:
            raise CheckpointError(f"{what} has no weights (they are on the device 'meta'): load them first")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{what} cannot be used: {name} holds NaN or infinity, as a training that diverged "
                                  "leaves them: train again with a lower learning rate")  # fmt: skip


@checked
def read_metadata(path: FilePath) -> dict:
    """Return the header of a checkpoint as a dict, without reading its weights.

    Raises: CheckpointError for a file that is missing, damaged, or not of fcx.
    """
    path = find(path)
    _, metadata = read_tensors(path, header_only=True)
    _check_format(path, metadata)
    return metadata


def _check_format(path: Path, metadata: Mapping) -> None:
    if metadata.get("format") not in (FORMAT, OTHER):
        raise CheckpointError(f"{path} is not a checkpoint of fcx: its header lacks the format {FORMAT!r}")


def network_hash(model: nn.Module) -> str:
    """Return the SHA-256 by which results know a network: of a FaceChannel that of its weights.

    Of others that of weights, layers and declaration: the same weights normalised otherwise are another network.
    """
    weights = weights_hash(model.state_dict())
    if isinstance(model, FaceChannel):
        return weights
    layers = re.sub("0x[0-9a-f]+", "", repr(model))  # without addresses
    declaration = model.words if isinstance(model, Network) else {}
    return hashlib.sha256(json.dumps([weights, layers, declaration]).encode()).hexdigest()


def check_crop(metadata: Mapping, faces, what: str) -> None:
    """Refuse faces cut by another crop rule than the one a model was trained on, where both are known.

    Raises: InputError naming both rules.
    """
    trained, given = metadata.get("crop"), faces.attrs.get("crop")
    if trained and given and trained not in (given, UNKNOWN):
        raise InputError(f"{what} was trained on faces with the crop {trained!r}, these have {given!r}: "
                         f"prepare the faces with crop={trained!r}")  # fmt: skip
