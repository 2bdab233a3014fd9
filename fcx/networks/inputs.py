"""What a network reads and answers, declared: size, channels, mean and deviation of pixels, names of outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fcx.core.arguments import Word, Words, checked
from fcx.core.checks import choose, described, real_number, whole_number
from fcx.core.contract import GRID
from fcx.core.errors import InputError

KINDS = ("rating", "logit")
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
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
            weight = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
            self.register_buffer(name, numbers.to(weight), persistent=False)

    @property
    def words(self) -> dict:
        """What is declared, as plain words (what a checkpoint stores)."""
        numbers = {name: getattr(self, name).double().flatten().tolist() for name in ("mean", "std")}
        numbers = {name: values[0] if len(set(values)) == 1 else values for name, values in numbers.items()}
        return {"size": self.size, "channels": self.channels, **numbers, "outputs": self.outputs, "kind": self.kind}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (sample, channel, y, x) in [0, 1] to (sample, output)."""
        return self.module((pixels - self.mean) / self.std)


@checked
def as_network(module: nn.Module, *, outputs: Words, size: int = GRID, channels: int = 1,
               mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0, kind: Word = "rating",
               crop: Word = UNKNOWN) -> Network:  # fmt: skip
    """Return a torch module with what it reads and answers declared, as every room of fcx takes it.

    `size`: pixels of a side. `channels`: 1 (grey) or 3 (RGB). `mean`, `std`: of pixels in [0, 1], one number or one a
    channel, by which pixels are normalised before the module reads them. `outputs`: names, in the order in which the
    module answers them, "rating" or "logit" by `kind`; a softmax is never explained. The module is not changed.

    Raises: InputError for a module that is none, and for numbers and names that cannot be used.

    >>> as_network(torch.nn.Flatten(), size=2, outputs=["a", "b", "c", "d"])(torch.zeros(1, 1, 2, 2)).shape
    torch.Size([1, 4])
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module is {described(module)}; allowed: a torch module")
    size = whole_number(size, "size", 1, 4096)
    if (channels := whole_number(channels, "channels", 1, 3)) == 2:
        raise InputError("channels is 2; allowed: 1 (grey) or 3 (RGB)")
    choose(kind, KINDS, "kind of output")
    if not outputs or len(set(outputs)) < len(outputs) or not all(outputs):
        raise InputError(f"outputs is {described(outputs)}; allowed: names, each once")
    mean, std = _numbers(mean, "mean", channels), _numbers(std, "std", channels, above=0)
    return Network(module, size=size, channels=channels, mean=mean, std=std, outputs=list(outputs), kind=kind,
                   metadata={"crop": crop})  # fmt: skip


def _numbers(value, name: str, channels: int, **bounds) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value]
    if len(values) not in (1, channels):
        raise InputError(f"{name} is {described(value)}; allowed: one number, or one for each of {channels} channels")
    return [real_number(each, name, **bounds) for each in values]
