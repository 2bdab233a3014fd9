"""What a tape holds: values, the operations that made them, and the weights that these read.

`Value` is a tensor that a picture reached, `Node` an operation that made some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain
from typing import Any

import torch
from torch import nn

DENSE = ("addmm", "mm")
# What looks at the shape of a tensor only, so that no picture reaches it.
SHAPED = ("new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like", "full_like",
          "rand_like", "randn_like", "randint_like")  # fmt: skip
VIEWS = frozenset((
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "slice", "select",
    "split", "split_with_sizes", "unbind", "cat", "stack", "repeat", "clone", "alias", "detach", "_to_copy", "flip",
    "roll", "narrow", "pixel_shuffle", "unfold", "index", "index_select", "unsafe_split",
    "unsafe_split_with_sizes", "unsafe_chunk",
))  # fmt: skip
POSITIVE = ("relu", "sigmoid", "hardsigmoid", "_softmax", "_safe_softmax", "exp", "softplus", "abs")
KEEPS_SIGN = VIEWS | {
    "add", "mul", "div", "mean", "sum", "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "amax",
    "maximum",
}  # fmt: skip
PIXELWISE = VIEWS | {"written", "add", "sub", "rsub", "mul", "div", "neg", "native_batch_norm", "constant_pad_nd"}
GATES = ("sigmoid", "hardsigmoid", "_softmax", "_safe_softmax", "hardtanh", "sign")


@dataclass(eq=False)
class Value:
    """A tensor that a picture reached, and what is known of it from how it was made.

    `rows`: its first dimension is that of the samples. `pixels`: pictures, each pixel by itself changed by constants at
    most. `gate`: it opens and closes, such as a sigmoid. `readers`: the operations that read it.
    """

    tensor: torch.Tensor
    node: Node | None = None
    nonnegative: bool = False
    pixels: bool = False
    gate: bool = False
    rows: bool = True
    readers: list[Node] = field(default_factory=list)

    @property
    def rectified(self) -> bool:
        """Whether all that read it drop what is negative."""
        return bool(self.readers) and all(node.name == "relu" for node in self.readers)


@dataclass(eq=False)
class Node:
    """An operation: its `name` in `torch.ops.aten`, what it was given (a `Value` where a picture reached it), what it
    made."""

    name: str
    call: Callable
    args: tuple
    kwargs: dict[str, Any]  # never a value
    values: list[Value] = field(default_factory=list)

    @cached_property
    def read(self) -> list[Value]:
        """The values that it read, each once."""
        return list(dict.fromkeys(one for one in flat((*self.args, *self.kwargs.values())) if isinstance(one, Value)))

    @cached_property
    def constants(self) -> list:
        """What it was given beside them."""
        return [one for one in flat((*self.args, *self.kwargs.values())) if not isinstance(one, Value)]

    @property
    def value(self) -> Value:
        """What it made, or the first of that."""
        return self.values[0]

    def again(self, tensor_of: Callable[[Value], torch.Tensor]) -> list[torch.Tensor]:
        """Return what it makes where it reads `tensor_of(value)` in the place of each value."""
        wide = self.value.tensor.dtype == torch.float64

        def given(a):
            a = tensor_of(a) if isinstance(a, Value) else a
            return a.double() if wide and isinstance(a, torch.Tensor) and a.is_floating_point() else a

        made = self.call(*each(given, self.args), **self.kwargs)
        return [one for one in flat([made]) if isinstance(one, torch.Tensor)]


def flat(args: Iterable) -> list:
    """Return the arguments of an operation, those in lists one by one."""
    return [one for a in args for one in (a if isinstance(a, (list, tuple)) else (a,))]


def each(function: Callable, args: Iterable) -> tuple:
    """Return function(argument) of every argument, also of those in lists."""
    return tuple([type(a)(map(function, a)) if isinstance(a, (list, tuple)) else function(a) for a in args])


@cache
def as_named(operation) -> tuple[str, Callable]:
    """Return the name of an operation, and what does it again: not in place, and to tensors of any layout."""
    name, call = operation.overloadpacket.__name__, operation.overloadpacket
    if operation.namespace != "aten":
        return operation.name(), call
    if name.endswith("_") and operation._schema.is_mutable:
        name, call = name[:-1], getattr(torch.ops.aten, name[:-1], call)
    return name, torch.ops.aten.reshape if name in ("view", "_unsafe_view") else call


class Constants:
    """The weights of a model by name, and what was worked out from them, once."""

    def __init__(self, model: nn.Module):
        named = chain(model.named_parameters(), model.named_buffers())
        self.names = {place_of(tensor): name.rpartition(".")[0] or name for name, tensor in named}
        self.recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
        self._derived: dict[tuple, Any] = {}
        self._places = set(self.names)  # of weights, and of what was worked out from them

    def name(self, tensor, otherwise: str) -> str:
        """Return the name of the layer that a tensor is a weight of."""
        return self.names.get(place_of(tensor), otherwise) if isinstance(tensor, torch.Tensor) else otherwise

    def derive(self, function: Callable, *given) -> Any:
        """Return function(*given), kept where all tensors given are weights of the model or worked out from them."""
        tensors = [one for one in given if isinstance(one, torch.Tensor)]
        if not all(place_of(tensor) in self._places for tensor in tensors):
            return function(*given)
        key = (function, *(_identity(one) if isinstance(one, torch.Tensor) else one for one in given))
        if key not in self._derived:
            self._derived[key] = result = function(*given)
            self._places.update(place_of(one) for one in [result] if isinstance(one, torch.Tensor))
        return self._derived[key]


def place_of(tensor: torch.Tensor) -> int:
    """Return where the memory of a tensor begins, which its views share."""
    return tensor.untyped_storage().data_ptr()


def _identity(tensor: torch.Tensor) -> tuple:
    version = 0 if tensor.is_inference() else tensor._version
    return place_of(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype, version
