"""What a network reads and answers, declared: size, channels, mean and deviation of pixels, names of outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fcx.core.arguments import Word, Words, checked
from fcx.core.checks import choose, described, real_number, whole_number
from fcx.core.contract import CROPS, GRID, TARGETS
from fcx.core.errors import InputError
from fcx.networks.facechannel import FaceChannel

NAME = re.compile(r"[^\W\d]\w*")  # that an expression over outputs can hold
KINDS = ("rating", "logit")
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, of red, green and blue
UNKNOWN = "unknown"  # the crop rule of a network from elsewhere


class Network(nn.Module):
    """A network that says what it reads and answers: pixels in [0, 1] (sample, channel, y, x) in, its outputs out.

    `size`, `channels`, `outputs` and `kind` are what `as_network` was told; `metadata` holds the crop rule, and what a
    checkpoint says. What normalises pixels are operations of torch, which LRP sees.
    """

    def __init__(self, module: nn.Module, *, size: int, channels: int, mean, std, outputs: list[str], kind: str,
                 metadata: dict):  # fmt: skip
        super().__init__()
        self.module, self.metadata = module, metadata
        self.size, self.channels, self.outputs, self.kind = size, channels, outputs, kind
        normal = {"mean": mean, "std": std}
        numbers = {name: values[0] if len(set(values)) == 1 else values for name, values in normal.items()}
        # What is declared, as plain words, which a checkpoint stores.
        self.words = {"size": size, "channels": channels, **numbers, "outputs": outputs, "kind": kind}
        for name, values in normal.items():
            weight = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
            tensor = torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1).to(weight)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (sample, channel, y, x) in [0, 1] to (sample, output); a module may answer one output as (sample,)."""
        answer = self.module(self.normalised(pixels))
        single = len(self.outputs) == 1 and isinstance(answer, torch.Tensor) and answer.ndim == 1
        return answer[:, None] if single else answer

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels as the module reads them."""
        return (pixels - self.mean) / self.std


@checked
def as_network(module: nn.Module, *, outputs: Words, size: int = GRID, channels: int = 1,
               mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0, kind: Word = "rating",
               crop: Word = UNKNOWN) -> Network:  # fmt: skip
    """Return a torch module with what it reads and answers declared, as every room of fcx takes it.

    `size`: pixels of a side. `channels`: 1 (grey) or 3 (RGB). `mean`, `std`: of pixels in [0, 1], one number or one a
    channel, by which pixels are normalised before the module reads them. `outputs`: names, in the order in which the
    module answers them, "rating" or "logit" by `kind`; a softmax is never explained. `crop`: the crop rule of the faces
    that it learnt from. The module is not changed.

    Raises: InputError for a module that is none, and for numbers and names that cannot be used.

    >>> as_network(torch.nn.Flatten(), size=2, outputs=["a", "b", "c", "d"])(torch.zeros(1, 1, 2, 2)).shape
    torch.Size([1, 4])
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module is {described(module)}; allowed: a torch module")
    size = whole_number(size, "size", 1, 4096)
    if (channels := whole_number(channels, "channels", 1, 3)) == 2:
        raise InputError("channels is 2; allowed: 1 (grey) or 3 (RGB)")
    choose(kind, KINDS, "kind of output"), choose(crop, [*CROPS, UNKNOWN], "crop rule")
    if not outputs or len(set(outputs)) < len(outputs) or not all(map(NAME.fullmatch, outputs)):
        raise InputError(f"outputs is {described(outputs)}; allowed: names of letters, digits and _, each once")
    mean, std = _numbers(mean, "mean", channels), _numbers(std, "std", channels, above=0)
    return Network(module, size=size, channels=channels, mean=mean, std=std, outputs=list(outputs), kind=kind,
                   metadata={"crop": crop})  # fmt: skip


def _numbers(value, name: str, channels: int, **bounds) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value]
    if len(values) not in (1, channels):
        raise InputError(f"{name} is {described(value)}; allowed: one number, or one for each of {channels} channels")
    return [real_number(each, name, **bounds) for each in values]


# --- what any network reads and answers -------------------------------------------------------


def outputs_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of what a network answers; one that declares nothing answers arousal and valence."""
    return tuple(model.outputs) if isinstance(model, Network) else TARGETS


def kind_of(model: nn.Module) -> str:
    """Return whether a network answers ratings or logits."""
    return model.kind if isinstance(model, Network) else "rating"


def all_outputs(models: Iterable[nn.Module]) -> tuple[str, ...]:
    """Return the outputs of all networks, each once: arousal and valence first, then as they come."""
    names = dict.fromkeys(name for model in models for name in outputs_of(model))
    return (*(name for name in TARGETS if name in names), *(name for name in names if name not in TARGETS))


def declarations(models: Mapping[str, nn.Module]) -> dict[str, dict]:
    """Return what each network declares, for the attributes of results: name -> outputs, kind, crop, what it reads."""
    return {name: {**words_of(model), "crop": crop_of(model)} for name, model in models.items()}


def words_of(model: nn.Module) -> dict:
    """Return what a network says of what it reads and answers; nothing of its size where it declares none."""
    if isinstance(model, Network):
        return model.words
    read = {"size": model.config.size, "channels": 1} if isinstance(model, FaceChannel) else {}
    return {**read, "outputs": list(TARGETS), "kind": "rating"}


def crop_of(model: nn.Module) -> str:
    """Return the crop rule of the faces that a network learnt from, or "unknown"."""
    return getattr(model, "metadata", {}).get("crop") or UNKNOWN


def read_variable(model: nn.Module, faces) -> str:
    """Return which variable of faces a network reads: "image", the grey grid, or the colour "picture".

    Grey networks read the grid where they are no larger than it.

    Raises: InputError where faces have no pictures that a network could read.
    """
    grid = faces["image"].shape[-2:]
    if not isinstance(model, Network):
        size = words_of(model).get("size")
        if size is not None and grid != (size, size):
            raise InputError(f"the model reads {size}x{size} pixels, these faces have {grid[0]}x{grid[1]}")
        return "image"
    if model.channels == 1 and model.size <= min(grid):
        return "image"
    if "picture" not in faces:
        what = "colour" if model.channels == 3 else "grey"
        raise InputError(f"a network reads {what} pictures of {model.size}x{model.size} pixels, these faces hold the "
                         f"grey grid of {grid[0]}x{grid[1]} only: prepare them with pictures")  # fmt: skip
    return "picture"


def as_pixels(model: nn.Module | None, pictures, device="cpu", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return what a network reads, (sample, channel, y, x) in [0, 1], made from what faces hold.

    `pictures` are those of the variable that `read_variable` names, grey (sample, y, x) or colour (sample, row,
    column, channel), as uint8 or as numbers in [0, 1], an array or a tensor. Resized by area-weighted linear
    interpolation to what a model declares.
    """
    pixels = pictures if isinstance(pictures, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(pictures))
    pixels = pixels.to(device)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.movedim(-1, 1)
    pixels = pixels.to(dtype) / 255 if pixels.dtype == torch.uint8 else pixels.to(dtype)
    if not isinstance(model, Network):
        return pixels
    if model.channels < pixels.shape[1]:
        pixels = (pixels * pixels.new_tensor(LUMA).view(1, -1, 1, 1)).sum(1, keepdim=True)
    if pixels.shape[-2:] != (model.size, model.size):
        pixels = F.interpolate(pixels, (model.size, model.size), mode="bilinear", antialias=True)
    return pixels


def checked_answer(model: nn.Module, answer, count: int, name: str = "") -> torch.Tensor:
    """Return the answer of a network to `count` faces, if it is (sample, output) and can be used.

    Raises: InputError for another shape, for NaN or infinity, and for probabilities where logits are declared.
    """
    outputs, who = outputs_of(model), f"model {name!r}" if name else "a model"
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (count, len(outputs)):
        given = str(tuple(answer.shape)) if isinstance(answer, torch.Tensor) else f"a {type(answer).__name__}"
        given = given.replace(f"({count},", "(sample,")  # how many faces a piece has is no news to the caller
        raise InputError(f"{who} must return (sample, {len(outputs)}): {', '.join(outputs)}; not {given}. Declare "
                         "one with other outputs by fcx.as_network(module, outputs=[...])")  # fmt: skip
    if not answer.is_floating_point():
        raise InputError(f"{who} answers {str(answer.dtype).removeprefix('torch.')} numbers: allowed are real ones")
    if not torch.isfinite(answer).all():
        raise InputError(f"{who} answers with NaN or infinity: its weights cannot be used")
    if kind_of(model) == "logit" and len(outputs) > 1:
        values = answer.detach().double()
        for what, each in {"probabilities": values, "logarithms of probabilities": values.exp()}.items():
            if (each >= 0).all() and ((each.sum(1) - 1).abs() < 1e-4).all():
                raise InputError(f"{who} answers {what}, which sum to 1: a softmax is never explained, let it answer "
                                 "its logits, the values before it")  # fmt: skip
    return answer
