"""Tensors and a header as safetensors: written whole or not at all, and known by the hash of their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fcx.core.errors import CheckpointError, InputError
from fcx.core.files import replacing

FORMAT = "fcx-facechannel-1"
OTHER = "fcx-network-1"  # of an architecture that the header names
SUFFIX = ".safetensors"


def check_name(path) -> Path:
    """Return `path` if a checkpoint can be written there.

    Raises: InputError for a name that does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for a checkpoint: it must end in {SUFFIX}")
    return path


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
                "another network with safetensors.torch.save_file (save_model where weights are shared)"
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


def weights_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        # As bytes before numpy, which has no bfloat16.
        values = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        total.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode() + values)
    return total.hexdigest()
