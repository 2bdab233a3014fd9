"""The layers of a network that give maps: where they lie on its tape, and which is the last of its trunk.

The trunk is what everything goes through on its way from the pictures to the outputs, so that no shortcut, no branch
and no squeeze belongs to it. Which dimension of a value holds its channels follows from the operations that made it.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from fcx.attribution.lrp_tape import Tape
from fcx.attribution.lrp_values import DENSE, PIXELWISE, VIEWS, Constants, Node, Value

AVERAGES = ("mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d")  # of cells: the head's
MIXERS = ("bmm", "matmul", "baddbmm")
# What may lie between the pixels and tokens without that its map says more than the pixels.
EMBEDDING = PIXELWISE | {"native_layer_norm", "upsample_bilinear2d", "upsample_bicubic2d", *AVERAGES}


class Layers:
    """What the layers of a network gave in one pass: `runs` how often each ran, `values` of those that gave one value,
    `axes` the dimension of each value that holds its channels, where it is known."""

    def __init__(self, answer: Callable, images: torch.Tensor, constants: Constants, modules: Mapping[str, nn.Module]):
        self.runs = Counter()

        def pass_of(pictures, tape):
            with contextlib.ExitStack() as hooks:
                for name, module in modules.items():
                    hooks.callback(module.register_forward_hook(self._notes(name, tape)).remove)
                return answer(pictures)

        self.tape = Tape(pass_of, images, constants)
        marks = self.tape.marks
        self.values = {name: marks[name] for name in modules if name in marks and self.runs[name] == 1}
        self.axes: dict[Value, int | None] = {self.tape.images: 1}
        for node in self.tape.nodes:
            self.axes.update(dict.fromkeys(node.values, self._axis(node)))

    def _notes(self, name: str, tape: Tape) -> Callable:
        def note(module, inputs, output):
            self.runs[name] += 1
            if isinstance(output, torch.Tensor):
                tape.mark(name, output)

        return note

    def _axis(self, node: Node) -> int | None:
        """Return the dimension that holds the channels of what a node made."""
        [x, *_], shape = node.read, node.value.tensor.shape
        axis, dims = self.axes[x], x.tensor.ndim
        if node.name == "convolution" or node.name in DENSE:
            return 1
        if node.name == "native_layer_norm" and len(node.args[1]) == 1:
            return dims - 1
        if node.name in ("view", "_unsafe_view", "reshape"):
            return self._viewed(x, shape)
        if axis is not None and node.name in ("permute", "transpose"):
            order = [d % dims for d in node.args[1]] if node.name == "permute" else list(range(dims))
            if node.name == "transpose":
                a, b = (d % dims for d in node.args[1:3])
                order[a], order[b] = b, a
            return order.index(axis)
        if node.name in MIXERS:
            return None
        known = (self.axes[v] for v in node.read if v.tensor.ndim == len(shape) and self.axes[v] is not None)
        return next(known, None)

    def _viewed(self, x: Value, shape: torch.Size) -> int | None:
        before, axis = x.tensor.shape, self.axes[x]
        if axis is not None and axis == len(before) - 1 and shape[-1:] == before[-1:]:
            return len(shape) - 1
        if axis == 1 and shape[:2] == before[:2]:
            return 1
        while x.node is not None and x.node.name in VIEWS and x.tensor.shape != shape:
            x = x.node.read[0]  # parts are put together again: a shuffle of channels, windows of a picture
        return self.axes[x] if x.tensor.shape == shape else None

    def maps(self, tokens: bool) -> Iterator[tuple[str, Value]]:
        """Yield the layers of the trunk that give a map of several cells, and what they gave, the last one first."""
        names, order = {}, {node: place for place, node in enumerate(self.tape.nodes)}
        for name, value in self.values.items():
            shape, axis = value.tensor.shape, self.axes[value]
            if axis and len(shape) in ((3, 4) if tokens else (4,)) and self.tape.owners.has_rows(value):
                cells = math.prod(shape[1:]) // shape[axis]
                if cells > 1 and value.node is not None and value.node.name not in AVERAGES and not _embeds(value):
                    names.setdefault(value, name)  # of modules inside each other the outermost comes first
        found = sorted(names, key=lambda value: -order[value.node])
        return ((names[value], value) for value in found if self._all_through(value))

    def _all_through(self, value: Value) -> bool:
        """Return whether nothing goes from the pictures to the outputs but through a value."""
        reached = {self.tape.images}
        for node in self.tape.nodes:
            if any(read in reached for read in node.read):
                reached.update(made for made in node.values if made is not value)
        return self.tape.outputs not in reached

    def slopes(self, value: Value, weights: torch.Tensor) -> torch.Tensor | None:
        """Return d target / d value, (target, ...), of the targets `weights` (target, output); None where there is no
        way from it to the outputs."""
        start = value.tensor.detach().requires_grad_()
        tensors = {value: start}
        with torch.enable_grad():
            for node in self.tape.nodes:
                if value not in node.values and any(read in tensors for read in node.read):
                    tensors.update(zip(node.values, node.again(lambda v: tensors.get(v, v.tensor)), strict=False))
            outputs = tensors.get(self.tape.outputs)
            if outputs is None or not outputs.requires_grad:
                return None
            values = (outputs[:, None] * weights.to(outputs)).sum(-1)
        return torch.stack([torch.autograd.grad(v.sum(), start, retain_graph=True)[0] for v in values.T])


def _embeds(value: Value) -> bool:
    """Return whether a map is that of pixels, cut into patches at most."""
    pending, known = [value], {value}
    while pending:
        if (node := pending.pop().node) is None:
            continue
        if node.name == "convolution":
            kernel, strides = node.args[1].shape[2:], node.args[3]
            if any(side > stride or side == 1 for side, stride in zip(kernel, strides, strict=True)):
                return False
        elif node.name not in EMBEDDING:
            return False
        pending += [one for one in node.read if one not in known]
        known.update(node.read)
    return True


def laid_out(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Return values (..., of which `axis` holds channels) as (sample, channel, row, column).

    Tokens are laid out on a square; those before it, such as a class token, are left out.

    >>> laid_out(torch.zeros(2, 197, 8), 2).shape
    torch.Size([2, 8, 14, 14])
    """
    values = values.movedim(axis, 1)
    if values.ndim == 4:
        return values
    side = math.isqrt(values.shape[2])
    return values[:, :, -(side**2) :].unflatten(2, (side, side))


def last_map(model: nn.Module, shape: Iterable[int], dtype: torch.dtype, device: torch.device, tokens: bool) -> str:
    """Return the name of the last layer of the trunk of which several cells speak for the outputs; "" for none.

    Without `tokens` there is none either where tokens come after it that look at each other: it is an early layer then.
    Tried on two pictures of noise, of the shape (channel, y, x): behind the last attention only a class token speaks.
    """
    draws = torch.Generator().manual_seed(0)
    noise = torch.rand(2, *shape, generator=draws, dtype=torch.float64).to(device, dtype)
    layers = Layers(model, noise, Constants(model), {name: module for name, module in model.named_modules() if name})
    mixed = torch.randn(1, layers.tape.outputs.tensor.shape[1], generator=draws)  # of all outputs

    def speaks(value: Value) -> bool:
        if (slopes := layers.slopes(value, mixed)) is None:
            return False
        speaking = (laid_out(slopes[0], layers.axes[value]) != 0).any(1)
        return bool(speaking.flatten(1).sum(1).max() > 1 or not slopes.any())

    name, value = next((pair for pair in layers.maps(tokens) if speaks(pair[1])), ("", None))
    if value is not None and not tokens:
        nodes = layers.tape.nodes
        later = next((other for _, other in layers.maps(True) if speaks(other)), value)
        if any(node.name in MIXERS for node in nodes[nodes.index(value.node) : nodes.index(later.node)]):
            return ""
    return name
