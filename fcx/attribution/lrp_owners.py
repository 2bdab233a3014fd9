"""Whose each element of a value is: the sample that it came from, where samples are not the first dimension."""

from __future__ import annotations

import torch

from fcx.attribution.lrp_values import VIEWS, Value
from fcx.attribution.lrp_writes import put_together
from fcx.core.errors import InputError

OVER = ("mean", "sum", "amax", "amin", "max", "min")  # dimensions
NOBODY = -1.0  # whose a constant is


class Owners:
    """The numbers of the samples that the elements of the values of one tape came from, each worked out once."""

    def __init__(self, samples: int):
        self.samples = samples
        self._known: dict[Value, torch.Tensor] = {}

    def has_rows(self, value: Value) -> bool:
        """Return whether the first dimension of a value is that of the samples, element by element."""
        shape = value.tensor.shape
        if value.rows or not shape or len(value.tensor) != self.samples:
            return value.rows
        rows = torch.arange(self.samples, device=value.tensor.device).view(-1, *[1] * (len(shape) - 1))
        owner = self.of(value)
        return bool(((owner == rows) | (owner == NOBODY)).all())

    def of(self, value: Value) -> torch.Tensor:
        """Return the number of the sample that each element belongs to, of the shape of a value."""
        pending = [value]
        while pending:
            one = pending[-1]
            missing = [] if one.rows else [v for v in one.node.read if v.tensor.ndim and v not in self._known]
            pending += missing
            if not missing:
                if one not in self._known:
                    self._known[one] = _small(self._owner(one))
                pending.pop()
        return self._known[value].expand(value.tensor.shape)

    def _owner(self, value: Value) -> torch.Tensor:
        shape, node = value.tensor.shape, value.node
        if value.rows:
            rows = torch.arange(self.samples, device=value.tensor.device, dtype=torch.float64)
            return rows.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        if node.name == "written":
            constant, *where = (self.of(a) if isinstance(a, Value) else a for a in node.args)
            return put_together(torch.full_like(constant, NOBODY, dtype=torch.float64), *where)
        if node.name in VIEWS:
            made = node.again(lambda v: self.of(v) if v.tensor.is_floating_point() else v.tensor)
            return made[node.values.index(value)].double()
        if node.name in OVER and len(node.args) < 2:
            raise InputError("LRP cannot explain this network: what it does with a face depends on those beside it")
        owner = max((self.of(v) for v in node.read if v.tensor.ndim), key=torch.Tensor.numel)
        if node.name in OVER:
            return owner.amax(node.args[1], *node.args[2:3])
        if owner.shape == shape:
            return owner
        if owner.shape[:-1] == shape[:-1]:  # products of matrices
            return owner[..., :1].expand(shape)
        rows = owner.flatten(1)[:, :1]
        if len(owner) != shape[0] or not (owner.flatten(1) == rows).all():
            raise InputError(f"LRP cannot explain this network: whose samples {node.name!r} mixes cannot be told")
        return rows.view(-1, *[1] * (len(shape) - 1)).expand(shape)


def _small(owner: torch.Tensor) -> torch.Tensor:
    """Return the numbers of samples along those dimensions alone in which they change."""
    for dim in range(owner.ndim):
        first = owner.narrow(dim, 0, 1)
        if (owner == first).all():
            owner = first
    return owner.clone()
