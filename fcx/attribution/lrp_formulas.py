"""Operations of torch that are written as others on a tape, so that they need no rule of their own."""

from __future__ import annotations

from collections.abc import Callable

import torch

FORMULAS: dict[str, Callable[..., torch.Tensor]] = {}  # name in `torch.ops.aten` -> the same by others


def formula(function: Callable) -> Callable:
    """Register a function as what an operation of its name is written as; NotImplemented where it stays."""
    FORMULAS[function.__name__] = function
    return function


@formula
def addcmul(x, one, other, *, value=1):
    """Return x + value * one * other."""
    return x + one * other * value if value != 1 else x + one * other


@formula
def addcdiv(x, one, other, *, value=1):
    """Return x + value * one / other."""
    return x + one / other * value if value != 1 else x + one / other


@formula
def lerp(start, end, weight):
    """Return start + weight * (end - start)."""
    return start * (1 - weight) + end * weight


@formula
def baddbmm(x, one, other, *, beta=1, alpha=1):
    """Return beta * x + alpha * one @ other."""
    return (x if beta == 1 else x * beta) + (torch.bmm(one, other) if alpha == 1 else torch.bmm(one, other) * alpha)


@formula
def native_batch_norm(x, weight, bias, mean, variance, training, momentum, eps):
    """Return the group norm that an instance norm is, in which the samples lie beside the channels."""
    if not training or len(x) > 1:
        return NotImplemented
    count = x.shape[1]
    return torch.native_group_norm(x.contiguous(), weight, bias, 1, count, x[0, 0].numel(), count, eps)


@formula
def glu(x, dim=-1):
    """Return one half of x times the sigmoid of the other."""
    value, gate = x.split(x.shape[dim] // 2, dim)
    return value * gate.sigmoid()
