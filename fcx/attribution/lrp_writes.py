"""What operations in place write into memory that several tensors share, and how such memory is put together again.

A write into a part of a tensor, such as that of circular padding or of a recurrent layer, changes what other tensors
see. Each memory keeps a list of what was written where, so that a tensor that is read afterwards becomes one operation
on these values: a copy of what was written into places of a constant.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fcx.attribution.lrp_values import Value, place_of


class Write(NamedTuple):
    """A tensor that was written, or was there before, and its value; None for a constant."""

    tensor: torch.Tensor
    value: Value | None


class WrittenMemory:
    """The memories that operations in place wrote into: where each begins -> what was written, the last one last."""

    def __init__(self):
        self.writes: dict[int, list[Write]] = {}

    def knows(self, tensor: torch.Tensor) -> bool:
        """Return whether something was written into the memory of a tensor."""
        return place_of(tensor) in self.writes

    def begin(self, target: torch.Tensor, beside: list[Write]) -> None:
        """Note what there is in the memory of a tensor that is about to be written: `beside`, the largest first."""
        whole = target.numel() * target.itemsize == target.untyped_storage().nbytes()
        if whole or not self.knows(target):
            self.writes[place_of(target)] = [] if whole else beside

    def end(self, target: torch.Tensor, value: Value | None) -> None:
        """Note that a tensor has been written."""
        self.writes[place_of(target)].append(Write(target, value))

    def parts(self, tensor: torch.Tensor) -> tuple | None:
        """Return what `put_together` needs to make a tensor, or None where its memory holds numbers of two kinds."""
        writes = self.writes[place_of(tensor)]
        if any(write.tensor.dtype != tensor.dtype for write in writes):
            return None
        holds = torch.full((_count(tensor),), -1, device=tensor.device)
        for number, write in enumerate(writes):
            holds[places(write.tensor)] = -1 if write.value is None else number
        live = [number for number in holds[places(tensor)].unique().tolist() if number >= 0]
        memory = tensor.new_zeros(_count(tensor)).as_strided_((_count(tensor),), (1,))
        memory.copy_(torch.as_strided(tensor.detach(), (_count(tensor),), (1,), 0))
        constant = torch.where(holds < 0, memory, 0)
        values = [writes[number].value for number in live]
        return constant, places(tensor), [places(writes[number].tensor) for number in live], *values


def put_together(constant, where, written, *values) -> torch.Tensor:
    """Return what memory (element,) holds at the places `where`, after each value was written at its own places.

    >>> put_together(torch.zeros(3), torch.tensor([[0, 1]]), [torch.tensor([1, 2])], torch.tensor([5.0, 6.0]))
    tensor([[0., 5.]])
    """
    memory = constant
    for at, value in zip(written, values, strict=True):
        memory = memory.index_put((at.flatten(),), value.to(memory.dtype).flatten())
    return memory[where]


def places(tensor: torch.Tensor) -> torch.Tensor:
    """Return the number of each element of a tensor in its memory, of the shape of the tensor."""
    every = torch.arange(_count(tensor), device=tensor.device)
    return every.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one memory share an element of it."""
    if one.dtype != other.dtype or max(one.numel(), other.numel()) == _count(one):
        return True
    taken = torch.zeros(_count(one), dtype=torch.bool, device=one.device)
    taken[places(one)] = True
    return bool(taken[places(other)].any())


def _count(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.itemsize
