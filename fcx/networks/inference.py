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
from fcx.core.contract import TARGETS, Faces, family_and_seed
from fcx.core.errors import InputError
from fcx.core.provenance import flat_attrs, nested_attr, run_provenance
from fcx.networks.checkpoints import Models, check_crop, check_size, resolve_models, weights_hash
from fcx.networks.facechannel import Config, FaceChannel

# Faces that go through a FaceChannel at once, whatever a batch holds: convolutions of another number of faces round
# otherwise, which decides where activations are equal. Fewer are slower, more are not faster on a CPU.
PIECE = 8
LONG = 5000  # faces, from which on a bar is shown


@checked
def predict(models: Models, faces: Faces, *, batch_size: Count = 256, device: str | torch.device = "cpu") -> xr.Dataset:
    """Return a results Dataset with `prediction (model, condition, target, sample)`, NaN for unusable faces.

    `models` is what `fcx.networks.checkpoints.resolve_models` takes. float32, or float64 where a model is.
    The models that are given stay as they are: copies are run, in eval mode.

    Raises: InputError where a model was trained with another crop rule, or reads another size;
    ContractError for a Dataset that holds no faces.

    >>> predict("plain_scratch", faces)["prediction"].sel(target="valence")  # doctest: +SKIP
    """
    device = usable_device(device)
    resolved = resolve_models(models)
    for name, model in resolved.items():
        check_crop(getattr(model, "metadata", {}), faces, f"the model {name!r}")
        check_size(model, faces)
        if isinstance(config := getattr(model, "config", None), Config):
            at_once = min(batch_size, faces.sizes["sample"])
            check_memory(4 * config.activations() * at_once, f"batch_size {batch_size} at width {config.width}")
    good = faces["status"].values == "ok"  # (condition, sample)
    kinds = {parameter.dtype for model in resolved.values() for parameter in model.parameters()}
    out = np.full(
        (len(resolved), len(good), len(TARGETS), good.shape[1]), np.nan, "f8" if torch.float64 in kinds else "f4"
    )
    rounds = [(m, c) for m in range(len(resolved)) for c in range(len(good))]
    with tqdm(total=len(resolved) * int(good.sum()), desc="predict", unit="face", file=sys.stderr,
              disable=len(resolved) * good.sum() < LONG) as bar:  # fmt: skip
        copies = [private_copy(model, name, device) for name, model in resolved.items()]
        for m, c in rounds:
            rows = np.flatnonzero(good[c])
            for first in range(0, len(rows), batch_size):
                some = rows[first : first + batch_size]
                images = faces["image"].isel(condition=c, sample=some).values
                size = piece_size(copies[m], batch_size)
                for piece, count in pieces(len(some), size):
                    answers = forward(copies[m], images[piece], size, device)[:, :count]
                    out[m, c][:, some[piece[:count]]] = answers
                    if not np.isfinite(answers).all():
                        words = "answers with NaN or infinity: its weights cannot be used"
                        raise InputError(f"model {list(resolved)[m]!r} {words}")
                bar.update(len(some))
    families = zip(*(family_of(name, model) for name, model in resolved.items()), strict=True)
    return xr.Dataset(
        {"prediction": (("model", "condition", "target", "sample"), out)},
        coords={
            **{name: coord for name, coord in faces.coords.items() if coord.dims == ("sample",)},
            "model": list(resolved),
            **{name: ("model", list(values)) for name, values in zip(("family", "seed"), families, strict=True)},
            "condition": faces["condition"].values,
            "target": list(TARGETS),
        },
        attrs=flat_attrs(
            {
                **{name: faces.attrs[name] for name in faces.attrs if name == "crop" or name.startswith("mask")},
                "checkpoints": {name: weights_hash(model.state_dict()) for name, model in resolved.items()},
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
    return PIECE if isinstance(model, FaceChannel) else min(batch_size, PIECE)


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
    try:
        private = copy.deepcopy(model).to(device=device, dtype=dtype).eval().requires_grad_(False)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"model {name!r} cannot be copied: {error}") from error
    private.zero_grad()
    return private


def forward(model: nn.Module, images: np.ndarray, batch_size: int, device="cpu") -> np.ndarray:
    """Return (target, sample) for pictures (sample, y, x) uint8, computed in the precision of the model's weights.

    Raises: InputError for a module whose output is not (sample, 2).
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    parts = []
    with torch.inference_mode():
        for first in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(images[first : first + batch_size]))
            pixels = batch.to(device)[:, None].to(dtype) / 255
            try:
                answer = model(pixels)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise InputError(f"a model cannot read faces of shape {tuple(pixels.shape)}: {error}") from error
            if not isinstance(answer, torch.Tensor) or answer.shape != (len(batch), len(TARGETS)):
                given = str(tuple(answer.shape)) if isinstance(answer, torch.Tensor) else f"a {type(answer).__name__}"
                given = given.replace(f"({len(batch)},", "(sample,")  # which pieces there are is no news to the caller
                raise InputError(f"a model must return (sample, {len(TARGETS)}): {', '.join(TARGETS)}; not {given}")
            parts.append((answer if answer.dtype == torch.float64 else answer.float()).cpu())
    return torch.cat(parts).T.numpy() if parts else np.empty((len(TARGETS), 0), "f4")


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
