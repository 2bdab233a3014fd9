"""Checkpoints: weights as safetensors, with everything that is known about them in the header.

No pickle is ever opened: a pickle can run any code. The header holds, each as JSON, `format`,
`config`, `sha256` of the weights, and the training record: crop rule, data, recipe, scores; that of a network that is
no FaceChannel names its `architecture`, and declares what it reads and answers (`network`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from fcx.core.arguments import FilePath, Names, checked, mapping, words
from fcx.core.checks import choose
from fcx.core.contract import FAMILIES, family_and_seed
from fcx.core.errors import CheckpointError, InputError
from fcx.core.files import replacing
from fcx.core.paths import shipped_folder
from fcx.networks.architectures import network_of
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.inputs import UNKNOWN, Network

FORMAT = "fcx-facechannel-1"
OTHER = "fcx-network-1"  # of an architecture that the header names
SUFFIX = ".safetensors"
PRECISIONS = ("float32", "float64", "float16", "bfloat16")
# That `resolve_models` takes.
MODELS = "a dict from a name to a torch module, or names or files of checkpoints, or package.module:function"
Models = str | os.PathLike | Iterable[str | os.PathLike] | Mapping[str, nn.Module] | None


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
        from fcx.networks.functions import imported  # which reads this module

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


def check_name(path) -> Path:
    """Return `path` if a checkpoint can be written there.

    Raises: InputError for a name that does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for a checkpoint: it must end in {SUFFIX}")
    return path


def weights_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        # As bytes before numpy, which has no bfloat16.
        values = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        total.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode() + values)
    return total.hexdigest()


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


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping) -> None:
    """Write tensors and a header (name -> anything JSON can hold) as safetensors, whole or not at all.

    Raises: InputError where the header is not JSON, or the file cannot be written.
    """
    try:
        texts = {name: json.dumps(value) for name, value in header.items()}
    except (TypeError, ValueError, RecursionError) as error:  # the last for what holds itself, or is nested too deeply
        raise InputError(f"the metadata of {path} must be what JSON can hold: {error}") from error
    # Copies: safetensors refuses tensors that share memory or are not contiguous.
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    try:
        with replacing(path) as temporary:
            save_file(copies, temporary, texts)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path, header_only: bool = False) -> tuple[dict[str, torch.Tensor], dict]:
    """Return the tensors ({} with `header_only`) and the header that `write_tensors` wrote.

    Raises: CheckpointError for a pickle, and for a file that is damaged.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start in (b"PK", b"\x80\x02") or path.suffix in (".pt", ".pth", ".pkl", ".bin", ".ckpt"):
            raise CheckpointError(
                f"{path} is a pickle of PyTorch, which fcx never opens because it can run code: "
                "load it where you trust it, and write it again: a FaceChannel with fcx.save_model, the state of "
                "another network with safetensors.torch.save_file"
            )
        with safe_open(path, "pt") as file:
            header = _header(path, file.metadata() or {})
            names = () if header_only else file.keys()
            return {name: file.get_tensor(name) for name in names}, header
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged or truncated ({error})") from error


def _header(path: Path, texts: Mapping[str, str]) -> dict:
    """Return what a header holds, {} where it is another program's.

    Raises: CheckpointError naming the field that cannot be read.
    """
    header, faults = {}, {}
    for name, text in texts.items():
        try:
            header[name] = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            faults[name] = error
    if faults and header.get("format") not in (FORMAT, OTHER):
        return {}
    for name, error in faults.items():
        raise CheckpointError(f"{path} is damaged: the field {name!r} of its header is no JSON ({error})")
    return header
