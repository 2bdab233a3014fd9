"""A tape of what a network does with some pictures: every operation of torch that a picture reaches, in order.

Recorded below autograd, where functions, operators, methods and modules have all become the same few `aten`
operations; what depends on no picture is a constant and left out. Nothing of the network is changed, and nothing
but its forward pass has to work.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from fcx.attribution.lrp_values import (
    DENSE,
    GATES,
    KEEPS_SIGN,
    PIXELWISE,
    POSITIVE,
    SHAPED,
    VIEWS,
    Constants,
    Node,
    Value,
    as_named,
    each,
    flat,
    place_of,
)  # fmt: skip
from fcx.core.errors import InputError


class Tape:
    """What one forward pass leaves behind, for any number of targets and rules.

    `images`, `outputs` and `marks` are values; `marks` are those of the tensors that the pass names.

    With `widens`, layers whose rows are the samples ("dense", at the end of a FaceChannel) are computed in double
    precision: that costs little, and an output is a small difference of many terms.

    Raises: InputError where the pass writes into a part of a tensor, or gives something else than one tensor.
    """

    def __init__(self, answer: Callable, images: torch.Tensor, constants: Constants, widens: bool = False):
        self.constants, self.nodes, self.tainted, self.widens = constants, [], {}, widens
        self.samples, self.dtype, self._kept = len(images), images.dtype, []
        self.images = Value(_in_memory(images), pixels=True, nonnegative=bool((images >= 0).all()))
        images = self.images.tensor
        self._values = {id(images): self.images}
        self.marks: dict[str, Value] = {}
        with torch.no_grad(), _plain_operations(), _Recorder(self):
            outputs = answer(images, self)
        self.outputs = self._values.get(id(outputs))
        if self.outputs is not None and len(self.outputs.tensor) == self.samples and not self.outputs.rows:
            rows = torch.arange(self.samples, device=images.device).view(-1, *[1] * (outputs.ndim - 1))
            self.outputs.rows = bool((self.owner(self.outputs) == rows).all())
        if self.outputs is None or self.outputs.tensor.ndim != 2 or not self.outputs.rows:
            shape = f"of shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise InputError(f"LRP explains outputs (sample, output) that depend on the picture, not a result {shape}")
        for node in self.nodes:
            for value in node.read:
                value.readers.append(node)
        del self._values, self._kept

    def pattern(self) -> Tape:
        """Return what was done, without a tensor that a picture reached."""
        return self._anew(None)

    def of(self, images: torch.Tensor) -> Tape:
        """Return the tape of other pictures, as many and of the same sign, to which the network does the same.

        What was done is done again, which is sooner done than recorded; that it is the same, the caller has to know.
        """
        with torch.no_grad():
            return self._anew(_in_memory(images))

    def _anew(self, images: torch.Tensor | None) -> Tape:
        tape, values = copy.copy(self), {}

        def value_like(value, tensor, node=None):
            values[value] = Value(tensor, node, value.nonnegative, value.pixels, value.gate, value.rows)
            return values[value]

        tape.images, tape.nodes = value_like(self.images, images), []
        for old in self.nodes:
            args = each(lambda a: values[a] if isinstance(a, Value) else a, old.args)
            node, results = Node(old.name, old.call, args, old.kwargs), [None] * len(old.values)
            if images is not None:
                given = each(lambda a: a.tensor if isinstance(a, Value) else a, args)
                results = flat([node.call(*self._wide(node, given), **node.kwargs)])
            node.values = [value_like(*pair, node) for pair in zip(old.values, results, strict=True)]
            for value in node.read:
                value.readers.append(node)
            tape.nodes.append(node)
        tape.outputs = values[self.outputs]
        tape.marks = {name: values[value] for name, value in self.marks.items()}
        return tape

    def mark(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Call the value of a tensor by a name, and return the tensor."""
        self.marks[name] = self._values[id(tensor)]
        return tensor

    def _record(self, operation, args, kwargs):
        """Do an operation, and note it where a picture reaches it."""
        if kwargs and any(isinstance(one, torch.Tensor) for one in kwargs.values()):
            raise InputError("LRP cannot explain this network: it writes into a tensor that it has (out=)")
        if self.tainted and any(self._is_tainted(one) for one in flat(args)):
            _, where = next(self.tainted[place_of(one)] for one in flat(args) if self._is_tainted(one))
            raise InputError(f"LRP cannot explain this network: {where} writes into a part of a tensor in place, as "
                             "circular padding and recurrent layers such as LSTM do, and where relevance goes from "
                             "there cannot be told")  # fmt: skip
        if operation is torch.ops.aten._convolution.default:  # what torch.jit.trace keeps of a convolution
            operation, args = torch.ops.aten.convolution.default, args[:9]
        if self.dtype == torch.float64:
            args, kwargs = self._double(args, kwargs)
        node = Node(*as_named(operation), each(self._known, args), kwargs)
        if not node.read or node.name in SHAPED:
            return operation(*args, **kwargs)
        if operation._schema.is_mutable and operation._schema.name.endswith("_"):
            self._keep(args[0], node.name)
        results = operation(*self._wide(node, args), **kwargs)
        for tensor in flat([results]):
            if isinstance(tensor, torch.Tensor):
                node.values.append(self._value(node, tensor))
                self._values[id(tensor)] = node.values[-1]
                self._kept.append(tensor)
        if node.values:  # or else it asked for a number, such as that of a check of values
            self.nodes.append(node)
        return results

    def _double(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Return arguments of a pass in double precision, in which no constant and no cast is in single."""
        if not any(id(one) in self._values for one in flat(args)):
            return args, kwargs

        def double(one):
            if isinstance(one, torch.Tensor):
                return one.double() if one.is_floating_point() and id(one) not in self._values else one
            return torch.float64 if isinstance(one, torch.dtype) and one.is_floating_point else one

        return each(double, args), {name: double(one) for name, one in kwargs.items()}

    def _wide(self, node: Node, args: tuple) -> tuple:
        """Return arguments in double precision where a layer is dense, or follows one that is."""
        read = [value for value in node.read if value.tensor.is_floating_point()]
        dense = node.name in DENSE and any(value.rows and value.tensor.ndim == 2 for value in read)
        wide = dense or any(value.tensor.dtype == torch.float64 for value in read)
        if not (wide and self.widens) or self.dtype == torch.float64 or node.name == "_to_copy":
            return args
        derive = self.constants.derive
        return each(
            lambda a: derive(torch.Tensor.double, a) if isinstance(a, torch.Tensor) and a.is_floating_point() else a,
            args,
        )

    def _is_tainted(self, one) -> bool:
        return isinstance(one, torch.Tensor) and place_of(one) in self.tainted and id(one) not in self._values

    def _known(self, one):
        """Return the value of a tensor that a picture reached, anything else as it is."""
        return self._values.get(id(one), one)

    def _keep(self, target: torch.Tensor, name: str) -> None:
        """Copy what an operation in place is about to change, where values share its memory."""
        place = place_of(target)
        for key, value in list(self._values.items()):
            if place_of(value.tensor) == place:
                value.tensor = value.tensor.clone()
                if key != id(target):
                    del self._values[key]
        self.tainted[place] = target, _Writer(name, _running_layer())

    def _value(self, node: Node, tensor: torch.Tensor) -> Value:
        """Return a value with what is known of it."""
        read, name = node.read, node.name
        constants = any(isinstance(a, torch.Tensor) for a in node.constants)
        keeps = name in KEEPS_SIGN and not constants and all(value.nonnegative for value in read)
        numbers = name in ("mul", "div", "mean", *VIEWS)
        return Value(
            tensor,
            node,
            nonnegative=name in POSITIVE or (keeps and (name not in ("add", "mul", "div") or len(read) > 1)),
            pixels=name in PIXELWISE and all(v.pixels for v in read) and (len(read) == 1 or name in ("cat", "stack")),
            gate=name in GATES or (numbers and len(read) == 1 and read[0].gate),
            rows=self._has_rows(node, tensor),
        )

    def _has_rows(self, node: Node, tensor: torch.Tensor) -> bool:
        """Return whether the first dimension is sure to be that of the samples."""
        lead = [value for value in node.read if value.rows and value.tensor.ndim and len(value.tensor) == self.samples]
        if not lead or not tensor.ndim or len(tensor) != self.samples:
            return False
        dims = [a for a in flat(node.args) if isinstance(a, int)]
        if node.name == "permute":
            return dims[0] == 0
        if node.name in ("transpose", "cat", "stack", "unbind", "select", "flip"):
            return 0 not in (dims[:1] if node.name in ("select", "unbind") else [d % tensor.ndim for d in dims])
        return node.name not in ("t", "roll", "index")

    def owner(self, value: Value) -> torch.Tensor:
        """Return the number of the sample that each element belongs to, of the shape of a value."""
        shape = value.tensor.shape
        if value.rows:
            rows = torch.arange(self.samples, device=value.tensor.device, dtype=torch.float64)
            return rows.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        node = value.node
        if node.name in VIEWS:
            return node.again(self.owner)[node.values.index(value)].double()
        if node.name in ("mean", "sum", "amax") and len(node.args) < 2:
            raise InputError("LRP cannot explain this network: what it does with a face depends on those beside it")
        owner = max((self.owner(v) for v in node.read if v.tensor.ndim), key=torch.Tensor.numel)
        if node.name in ("mean", "sum", "amax"):
            return owner.amax(node.args[1], *node.args[2:3])
        if owner.shape == shape:
            return owner
        if owner.shape[:-1] == shape[:-1]:  # products of matrices
            return owner[..., :1].expand(shape)
        rows = owner.flatten(1)[:, :1]
        if len(owner) != shape[0] or not (owner.flatten(1) == rows).all():
            raise InputError(f"LRP cannot explain this network: whose samples {node.name!r} mixes cannot be told")
        return rows.view(-1, *[1] * (len(shape) - 1)).expand(shape)


def _in_memory(images: torch.Tensor) -> torch.Tensor:
    """Return pictures with their channels last, which convolutions read twice as fast."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


class _Writer(NamedTuple):
    """An operation in place, and the module that did it."""

    name: str
    module: nn.Module | None

    def __str__(self) -> str:
        if self.module is None:
            return f"the operation {self.name!r}"
        return type(self.module).__name__ if any(self.module.children()) else repr(self.module)


def _running_layer() -> nn.Module | None:
    """Return the innermost module whose method is running."""
    frame = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), nn.Module):
        frame = frame.f_back
    return None if frame is None else frame.f_locals["self"]


class _Recorder(TorchDispatchMode):
    def __init__(self, tape: Tape):
        super().__init__()
        self.tape = tape

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and what torch would load for that takes seconds and 60 MB."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.tape._record(func, args, kwargs or {})


@contextlib.contextmanager
def _plain_operations() -> Iterator[None]:
    """Let attention be the products and the softmax that it is written as."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
