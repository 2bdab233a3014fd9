"""Inference: predictions of models for faces, as a results Dataset."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm.std import tqdm

from fcx.core import selection as selection  # results.fcx.sel
from fcx.core.arguments import Count, checked
from fcx.core.checks import check_memory, described
from fcx.core.contract import Faces, family_and_seed
from fcx.core.errors import InputError
from fcx.core.provenance import flat_attrs, nested_attr, run_provenance
from fcx.networks.checkpoints import check_crop, network_hash
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.inputs import (
    all_outputs,
    as_pixels,
    checked_answer,
    declarations,
    outputs_of,
    read_variable,
    words_of,
)
from fcx.networks.resolving import Models, resolve_models

# Faces that go through a FaceChannel at once, whatever a batch holds: convolutions of another number of faces round
# otherwise, which decides where activations are equal. Fewer are slower, more are not faster on a CPU.
PIECE = 8
SMALL_PICTURE, MANY_WEIGHTS = 128, 4_000_000  # pixels of a side; weights, which are then most of what is read
LONG = 5000  # faces, from which on a bar is shown


@checked
def predict(models: Models, faces: Faces, *, batch_size: Count = 256, device: str | torch.device = "cpu") -> xr.Dataset:
    """Return a results Dataset with `prediction (model, condition, target, sample)`, NaN for unusable faces.

    `models` is what `fcx.networks.resolving.resolve_models` takes. float32, or float64 where a model is. Targets are
    the outputs of all models, NaN for a model that lacks one; the attribute `outputs` says which has which.
    The models that are given stay as they are: copies are run, in eval mode.

    Raises: InputError where a model was trained with another crop rule, or reads another size, or answers something
    else than it declares; ContractError for a Dataset that holds no faces.

    >>> predict("plain_scratch", faces)["prediction"].sel(target="valence")  # doctest: +SKIP
    """
    device = usable_device(device)
    resolved = resolve_models(models)
    for name, model in resolved.items():
        check_crop(getattr(model, "metadata", {}), faces, f"the model {name!r}")
        read_variable(model, faces)
        if isinstance(config := getattr(model, "config", None), Config):
            at_once = min(batch_size, faces.sizes["sample"])
            check_memory(4 * config.activations() * at_once, f"batch_size {batch_size} at width {config.width}")
    good = faces["status"].values == "ok"  # (condition, sample)
    kinds = {parameter.dtype for model in resolved.values() for parameter in model.parameters()}
    outputs = all_outputs(resolved.values())
    out = np.full(
        (len(resolved), len(good), len(outputs), good.shape[1]), np.nan, "f8" if torch.float64 in kinds else "f4"
    )
    rounds = [(m, c) for m in range(len(resolved)) for c in range(len(good))]
    with tqdm(total=len(resolved) * int(good.sum()), desc="predict", unit="face", file=sys.stderr,
              disable=len(resolved) * good.sum() < LONG) as bar:  # fmt: skip
        copies = [private_copy(model, name, device) for name, model in resolved.items()]
        for m, c in rounds:
            rows, name = np.flatnonzero(good[c]), list(resolved)[m]
            own, variable = [outputs.index(o) for o in outputs_of(copies[m])], read_variable(copies[m], faces)
            for first in range(0, len(rows), batch_size):
                some = rows[first : first + batch_size]
                pictures = faces[variable].isel(condition=c, sample=some).values
                size = piece_size(copies[m], batch_size)
                for piece, count in pieces(len(some), size):
                    answers = forward(copies[m], pictures[piece], size, device, name)[:, :count]
                    out[m, c][np.ix_(own, some[piece[:count]])] = answers
                bar.update(len(some))
    families = zip(*(family_of(name, model) for name, model in resolved.items()), strict=True)
    return xr.Dataset(
        {"prediction": (("model", "condition", "target", "sample"), out)},
        coords={
            **{name: coord for name, coord in faces.coords.items() if coord.dims == ("sample",)},
            "model": list(resolved),
            **{name: ("model", list(values)) for name, values in zip(("family", "seed"), families, strict=True)},
            "condition": faces["condition"].values,
            "target": list(outputs),
        },
        attrs=flat_attrs(
            {
                **{name: faces.attrs[name] for name in faces.attrs if name == "crop" or name.startswith("mask")},
                "outputs": declarations(resolved),
                "checkpoints": {name: network_hash(model) for name, model in resolved.items()},
                "provenance": run_provenance(step="predict", faces=nested_attr(faces, "provenance")),
            }
        ),
    )


def family_of(name: str, model: nn.Module) -> tuple[str, int]:
    """Return family and seed of a training of fcx whose name says so; another network, such as resnet-18, is alone."""
    family, seed = family_and_seed(name)
    return (family, seed) if getattr(model, "metadata", {}).get("seed") == seed else (name, 0)


def piece_size(model: nn.Module, batch_size: int) -> int:
    """Return how many faces go through a model at once, so that a FaceChannel's numbers depend on no batch."""
    return PIECE if isinstance(model, FaceChannel) else min(batch_size, piece_of(model))


def piece_of(model: nn.Module) -> int:
    """Return how many faces of a large batch go through a model at once."""
    small = not isinstance(model, FaceChannel) and words_of(model).get("size", 0) <= SMALL_PICTURE
    return 2 * PIECE if small and sum(p.numel() for p in model.parameters()) > MANY_WEIGHTS else PIECE


def pieces(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield `size` of `count` rows at a time, the last row repeated to fill the last piece, and how many are rows.

    >>> [(rows.tolist(), count) for rows, count in pieces(3, 2)]
    [([0, 1], 2), ([2, 2], 1)]
    """
    for first in range(0, count, size):
        yield np.minimum(np.arange(first, first + size), count - 1), min(size, count - first)


def private_copy(model: nn.Module, name: str, device="cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """Return a copy of a model in evaluation mode, without gradients, so that the caller's stays as it is.

    Raises: InputError for a module that cannot be copied.
    """
    if any(isinstance(one, torch.jit.ScriptModule) and not hasattr(one, "training") for one in model.modules()):
        raise InputError(f"model {name!r} is frozen TorchScript, whose weights are constants: give it as it was before")
    try:
        with torch.no_grad():
            private = copy.deepcopy(model).to(device=device, dtype=dtype).eval()
        for parameter in private.parameters():
            parameter.requires_grad_(False)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"model {name!r} cannot be copied: {error}") from error
    private.zero_grad()
    return private


def forward(model: nn.Module, pictures: np.ndarray, batch_size: int, device="cpu", name: str = "") -> np.ndarray:
    """Return (output, sample) for pictures as `as_pixels` takes them, computed in the precision of the model's weights.

    Raises: InputError for a module that cannot read them, or whose answer is not what it declares.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    parts = []
    with torch.inference_mode():
        for first in range(0, len(pictures), batch_size):
            pixels = as_pixels(model, pictures[first : first + batch_size], device, dtype)
            try:
                answer = model(pixels)
            except Exception as error:  # whatever code of others does
                who = f"model {name!r}" if name else "a model"
                raise InputError(f"{who} cannot read faces of shape {tuple(pixels.shape)}: {error}; what it reads is "
                                 "declared by fcx.as_network(module, size=..., channels=...)") from error  # fmt: skip
            checked_answer(model, answer, len(pixels), name)
            parts.append((answer if answer.dtype == torch.float64 else answer.float()).cpu())
    return torch.cat(parts).T.numpy() if parts else np.empty((len(outputs_of(model)), 0), "f4")


def usable_device(name) -> torch.device:
    """Return the torch device of a name ("cpu", "cuda", "cuda:1"), if it is there.

    Raises: InputError where this machine or this build of torch has no such device.
    """
    try:
        if (found := torch.zeros(1, device=name).device).type != "meta":  # which holds no values
            return found
        reason = "it computes nothing"
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
    raise InputError(f"device {described(name)} cannot be used here ({reason}): give cpu, or cuda where there is one")
