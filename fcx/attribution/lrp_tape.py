"""A tape of what a network does with some pictures: every operation of torch that a picture reaches, in order.

Recorded below autograd, where functions, operators, methods and modules have all become the same few `aten`
operations; what depends on no picture is a constant and left out. Nothing of the network is changed, and nothing
but its forward pass has to work.
"""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fcx.attribution.convolving import convolve
from fcx.attribution.lrp_formulas import FORMULAS
from fcx.attribution.lrp_owners import Owners
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
from fcx.attribution.lrp_writes import Write, WrittenMemory, overlap, put_together
from fcx.core.errors import InputError

JOINS = ("cat", "stack", "written")
FORGETS = ("fill", "zero", "copy")  # what in place leaves nothing of what was there


class Tape:
    """What one forward pass leaves behind, for any number of targets and rules.

    `images`, `outputs` and `marks` are values; `marks` are those of the tensors that the pass names.

    With `widens`, layers whose rows are the samples ("dense", at the end of a FaceChannel) are computed in double
    precision: that costs little, and an output is a small difference of many terms.

    Raises: InputError where the pass gives something else than one tensor (sample, output).
    """

    def __init__(self, answer: Callable, images: torch.Tensor, constants: Constants, widens: bool = False):
        self.constants, self.nodes, self.widens = constants, [], widens
        self.samples, self.dtype, self.owners = len(images), images.dtype, Owners(len(images))
        self.images = Value(_in_memory(images), pixels=True, nonnegative=bool((images >= 0).all()))
        images = self.images.tensor
        self._values, self._at = {}, defaultdict(list)  # id of a tensor -> its value; where memory begins -> tensors
        self._note(images, self.images)
        self.marks: dict[str, Value] = {}
        self._memory, self._recorder = WrittenMemory(), _Recorder(self)
        with torch.no_grad(), _plain_operations(constants.recurrent), precision(self.dtype), self._recorder:
            outputs = answer(images, self)
        self.outputs = self._known(outputs)
        if isinstance(self.outputs, Value) and len(self.outputs.tensor) == self.samples and not self.outputs.rows:
            self.outputs.rows = self.owners.has_rows(self.outputs)
        if not isinstance(self.outputs, Value) or self.outputs.tensor.ndim != 2 or not self.outputs.rows:
            shape = f"of shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise InputError("what is explained are outputs (sample, output) that depend on the picture by operations "
                             f"of torch, not a result {shape}")  # fmt: skip
        self._tidy()
        del self._values, self._at, self._memory, self._recorder

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
        tape.owners = Owners(self.samples)

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

    def _tidy(self) -> None:
        """Leave out what leads to no output and to nothing that is marked, and tell values who reads them."""
        wanted, nodes = {self.outputs, *self.marks.values()}, []
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.values):
                wanted.update(node.read)
                nodes.append(node)
        self.nodes = nodes[::-1]
        for node in self.nodes:
            for value in node.read:
                value.readers.append(node)

    def mark(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Call the value of a tensor by a name, where a picture reached it, and return the tensor."""
        if isinstance(value := self._known(tensor), Value):
            self.marks[name] = value
        return tensor

    def _record(self, operation, args, kwargs):
        """Do an operation, and note it where a picture reaches it."""
        if kwargs and any(isinstance(one, torch.Tensor) for one in kwargs.values()):
            raise InputError("LRP cannot explain this network: it writes into a tensor that it has (out=)")
        if operation is torch.ops.aten._convolution.default:  # what torch.jit.trace keeps of a convolution
            operation, args = torch.ops.aten.convolution.default, args[:9]
        in_place = operation._schema.is_mutable and operation._schema.name.endswith("_")
        if self.dtype == torch.float64:
            args, kwargs = self._double(args, kwargs, in_place)
        node = Node(*as_named(operation), each(self._known, args), kwargs)
        if not node.read or node.name in SHAPED:
            if in_place and self._memory.knows(args[0]):
                self._memory.end(args[0], None)
            made = operation(*args, **kwargs)
            return made.zero_() if "empty" in node.name and isinstance(made, torch.Tensor) else made  # in every pass
        if node.name in FORMULAS:
            with self._recorder:
                if (result := FORMULAS[node.name](*args, **kwargs)) is not NotImplemented:
                    return args[0].copy_(result) if in_place else result
        if in_place:
            if node.args[0] is args[0]:  # a constant until now
                node.args = (args[0].clone(), *node.args[1:])
            self._keep(args[0])
        if node.name == "convolution" and not kwargs and not self.widens:  # a FaceChannel answers bit by bit as it does
            with _disable_current_modes():
                results = convolve(self.constants, *args)
        else:
            results = operation(*self._wide(node, args), **kwargs)
        if in_place and node.name in FORGETS:
            node = self._copied(args, node)
        for tensor in flat([results]):
            if isinstance(tensor, torch.Tensor) and node is not None:
                node.values.append(self._value(node, tensor))
                self._note(tensor, node.values[-1])
        if in_place:
            self._memory.end(args[0], self._values.get(id(args[0])))
        if node is not None and node.values:  # or else it asked for a number, such as that of a check of values
            self.nodes.append(node)
        return results

    def _copied(self, args: tuple, node: Node) -> Node | None:
        """Return what writes a value into a tensor, as a node that reads the value alone; None for a constant."""
        self._values.pop(id(args[0]), None)
        value, like = next((a for a in node.args[1:] if isinstance(a, Value)), None), args[0]
        return value and Node("expand", lambda a: a.to(like.dtype).expand(like.shape), (value,), {})

    def _double(self, args: tuple, kwargs: dict, in_place: bool) -> tuple[tuple, dict]:
        """Return arguments of a pass in double precision, in which no constant and no cast is in single."""
        if not any(id(one) in self._values for one in flat(args)):
            return args, kwargs

        def double(one):
            if isinstance(one, torch.Tensor):
                return one.double() if one.is_floating_point() and id(one) not in self._values else one
            return torch.float64 if isinstance(one, torch.dtype) and one.is_floating_point else one

        first = int(in_place)  # what is written into stays
        return args[:first] + each(double, args[first:]), {name: double(one) for name, one in kwargs.items()}

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

    def _note(self, tensor: torch.Tensor, value: Value) -> None:
        """Remember the value of a tensor, which lives until the end of the pass, so that no other has its id."""
        self._values[id(tensor)] = value
        if not any(one is tensor for one in self._at[place_of(tensor)]):
            self._at[place_of(tensor)].append(tensor)

    def _known(self, one):
        """Return the value of a tensor that a picture reached, anything else as it is."""
        if id(one) in self._values or not isinstance(one, torch.Tensor) or not self._memory.knows(one):
            return self._values.get(id(one), one)
        with _disable_current_modes():
            if (parts := self._memory.parts(one)) is None:
                raise InputError("LRP cannot explain this network: it writes numbers of two kinds into one memory")
            node = Node("written", put_together, parts, {})
            if not node.read:
                return one
            value = self._value(node, one)
            node.values.append(value), self._note(one, value), self.nodes.append(node)
            value.rows = self.owners.has_rows(value)
        return value

    def _keep(self, target: torch.Tensor) -> None:
        """Copy what an operation in place is about to change, where values share its memory."""
        shared = [Write(one, self._values[id(one)]) for one in self._at[place_of(target)] if id(one) in self._values]
        self._memory.begin(target, sorted(shared, key=lambda write: -write.tensor.numel()))
        for tensor, value in shared:
            if value.tensor is tensor:
                value.tensor = tensor.clone()
            if tensor is not target and overlap(target, tensor):
                del self._values[id(tensor)]

    def _value(self, node: Node, tensor: torch.Tensor) -> Value:
        """Return a value with what is known of it."""
        read, name = node.read, node.name
        constants = any(isinstance(a, torch.Tensor) for a in node.constants)
        keeps = name in KEEPS_SIGN and not constants and all(value.nonnegative for value in read)
        if name == "written":
            keeps = bool((node.args[0] >= 0).all()) and all(value.nonnegative for value in read)
        numbers = name in ("mul", "div", "mean", *VIEWS)
        return Value(
            tensor,
            node,
            nonnegative=name in POSITIVE or (keeps and (name not in ("add", "mul", "div") or len(read) > 1)),
            pixels=name in PIXELWISE and all(v.pixels for v in read) and (len(read) == 1 or name in JOINS),
            gate=name in GATES or (numbers and len(read) == 1 and read[0].gate),
            rows=name != "written" and self._has_rows(node, tensor),
        )

    def _has_rows(self, node: Node, tensor: torch.Tensor) -> bool:
        """Return whether the first dimension is sure to be that of the samples."""
        lead = [value for value in node.read if value.rows and value.tensor.ndim and len(value.tensor) == self.samples]
        if not lead or not tensor.ndim or len(tensor) != self.samples:
            return False
        if node.name == "expand":
            return tensor.ndim == lead[0].tensor.ndim
        dims = [a for a in flat(node.args) if isinstance(a, int)]
        if node.name == "permute":
            return dims[0] == 0
        if node.name in ("transpose", "cat", "stack", "unbind", "select", "flip"):
            return 0 not in (dims[:1] if node.name in ("select", "unbind") else [d % tensor.ndim for d in dims])
        return node.name not in ("t", "roll", "index")


def _in_memory(images: torch.Tensor) -> torch.Tensor:
    """Return pictures with their channels last, which convolutions read twice as fast."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


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
def _plain_operations(recurrent: bool) -> Iterator[None]:
    """Let attention be the products and the softmax that it is written as, and recurrent layers their steps."""
    fast, mkldnn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(mkldnn and not recurrent)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(mkldnn)


@contextlib.contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Make what a network makes anew, such as zeros, as precise as its pictures."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)
