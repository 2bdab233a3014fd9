"""One forward pass, then gradients and relevance by hand, for every network of the FaceChannel family.

Behind a ReLU the relevance of a unit is its activation times a number c that comes from above, and what goes
into the transposed convolution is R / z = (activation / z) c. The factors activation / z ("gates") do not depend
on the target, and a gradient is the same pass with gates of 0 and 1. So all targets go down together, one
transposed convolution and one product for each layer.

Batch norm is fused into the convolutions. Max-pooling hands everything to the winner, of equal activations to the
first in reading order. Everything is laid out channels last, whatever the layout of the model, so that rounding,
which decides between activations that are nearly equal, does not depend on it. Faces go a few at a time, because
their maps then stay in the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcx.attribution.lrp_rules import PLAIN, Part
from fcx.core.errors import FcxError, InputError
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import PIECE


def fuse_batch_norm(model: FaceChannel) -> FaceChannel:
    """Return a copy whose batch norm is part of the convolutions before it, with equal outputs.

    Raises: FcxError where the outputs differ by more than rounding.
    """
    fused = copy.deepcopy(model).eval()
    for (name, layer), (next_name, following) in pairwise(list(fused.trunk.named_children())):
        if isinstance(following, nn.BatchNorm2d):
            fused.trunk.set_submodule(name, fuse_conv_bn_eval(layer, following))
            fused.trunk.set_submodule(next_name, nn.Identity())
    probe = _probe(model)
    with torch.no_grad():
        _same(model.features(probe), fused.features(probe), "fusing batch norm changed the features")
    return fused


def _probe(model: FaceChannel) -> torch.Tensor:
    size, like = model.config.size, model.head.weight
    return torch.linspace(0, 1, size**2, dtype=like.dtype, device=like.device).view(1, 1, size, size)


def _same(before: torch.Tensor, after: torch.Tensor, what: str) -> None:
    scale, error = before.abs().max(), (before - after).abs().max()
    if not error <= 1e4 * torch.finfo(before.dtype).eps * scale:
        raise FcxError(f"{what} by {error:g} of {scale:g}: report this model")


class Convolution:
    """A convolution 3x3 with a margin of 1, and its kernels for each part of a rule."""

    def __init__(self, name: str, layer: nn.Conv2d):
        # In this layout whatever the model's, so that rounding does not depend on it.
        self.name, self.weight = name, layer.weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self._kernels: dict[Part, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def double(self) -> Convolution:
        """Return the same in double precision."""
        wide = copy.copy(self)
        wide.weight, wide.bias, wide._kernels = _double(self.weight), _double(self.bias), {}
        return wide

    def kernel(self, part: Part) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return p w + n w and p b + n b, the positive and the negative ones weighed apart."""
        key = part._replace(share=1)
        if key not in self._kernels:
            positive, negative, _ = part
            self._kernels[key] = tuple(
                None if v is None else positive * v.clamp(min=0) + negative * v.clamp(max=0)
                for v in (self.weight, self.bias)
            )
        return self._kernels[key]

    def __call__(self, x: torch.Tensor, part: Part = PLAIN, biased: bool = True) -> torch.Tensor:
        """Return the map (sample, channel, row, column) that the convolution makes of x with one part's kernel."""
        weight, bias = self.kernel(part)
        return F.conv2d(x, weight, bias if biased else None, padding=1)


class Network:
    """The layers of a FaceChannel as the engine reads them, batch norm fused.

    Raises: FcxError for a FaceChannel whose outputs are not those of its layers.
    """

    def __init__(self, model: FaceChannel):
        fused = fuse_batch_norm(model)
        self.trunk: list[Convolution] = []
        self.pooled: list[bool] = []
        for name, layer in fused.trunk.named_children():
            if isinstance(layer, nn.Conv2d):
                self.trunk.append(Convolution(name, layer))
                self.pooled.append(False)
            elif isinstance(layer, nn.MaxPool2d):
                self.pooled[-1] = True
        self.top = [Convolution("conv10", fused.conv10)]
        self.memory: dict = {}  # what was worked out with this network and may be asked for again
        self.decay = None  # (channel, 1, 1)
        if fused.config.shunt != "none":
            self.top.append(Convolution("inhibitory", fused.inhibitory))
            self.decay = fused.shunt.decay.detach()[:, None, None]
        # In double precision: they cost little, and f is a small difference of many terms.
        self.dense = {
            name: (layer.weight.detach().double(), None if layer.bias is None else layer.bias.detach().double())
            for name, layer in ((name, fused.get_submodule(name)) for name in (*fused.config.hidden_layers(), "head"))
        }
        self.levels = [*([conv] for conv in self.trunk), self.top]  # convolutions that read the same map
        self.layers = (*(conv.name for level in self.levels for conv in level), *self.dense)
        probe = _probe(model)
        with torch.no_grad():
            outputs = Trace(self, probe).outputs.to(probe.dtype)
            _same(model.tail(model.features(probe)), outputs, "the model differs from its layers")

    @cached_property
    def wide(self) -> Network:
        """The same in double precision."""
        wide = copy.copy(self)
        for name in ("trunk", "top", "levels", "decay"):
            setattr(wide, name, _double(getattr(self, name)))
        return wide


def _double(value, rows=slice(None)):
    """Return a tensor, or what lists hold of tensors, in double precision; anything else as it is."""
    if isinstance(value, list):
        return [_double(one, rows) for one in value]
    if isinstance(value, torch.Tensor):
        return value[rows].double()
    return value.double() if isinstance(value, Convolution) else value


def network(model: nn.Module) -> Network | None:
    """Return the network of a FaceChannel, or None for a module that is none, or whose layers do more than they say.

    Raises: InputError for a FaceChannel that answers something else than its `features`, `tail` and `activation`.
    """
    if not isinstance(model, FaceChannel):
        return None
    with torch.no_grad():
        answer, layers = model(probe := _probe(model)), model.activation(model.tail(model.features(probe)))
    if not (isinstance(answer, torch.Tensor) and answer.shape == layers.shape
            and torch.allclose(answer, layers, rtol=1e-4, atol=1e-6, equal_nan=True)):  # fmt: skip
        raise InputError(
            f"this {type(model).__name__} answers something else than its features, tail and activation give: put "
            "what it does beside them into one of them, or into a module of its own that calls a FaceChannel"
        )
    try:
        return Network(model)
    except FcxError:
        return None


def pool(activation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maxima of the 2x2 blocks, and the map that holds each at its place and 0 elsewhere.

    Of equal activations the first in reading order wins, in this layout as in torch's other one.

    >>> pool(torch.ones(1, 1, 2, 2))[1]
    tensor([[[[1., 0.],
              [0., 0.]]]])
    """
    pooled, places = F.max_pool2d(activation, 2, return_indices=True)
    return pooled, F.max_unpool2d(pooled, places, 2)


class Trace:
    """What one forward pass through a network leaves behind, for any number of targets and rules.

    `outputs` (sample, output) float64 are those before the activation of a tanh head.
    """

    def __init__(self, network: Network, images: torch.Tensor):
        self.network = network
        self.inputs: list[torch.Tensor] = []  # of each level
        self.active: list[list[torch.Tensor]] = []  # of each level and branch: activations that are read above
        x = images.contiguous(memory_format=torch.channels_last)
        for conv, pooled in zip(network.trunk, network.pooled, strict=True):
            self.inputs.append(x)
            # One channel has no layout, so that the first convolution may answer in either.
            x = active = conv(x).relu_().contiguous(memory_format=torch.channels_last)
            if pooled:
                x, active = pool(active)
            self.active.append([active])
        self.inputs.append(x)
        self.active.append([conv(x).relu_() for conv in network.top])
        self.map = self.active[-1][0]  # u, or y where the network has an inhibition
        if network.decay is not None:
            self.over = 1 / (network.decay + self.active[-1][1])
            self.map = self.map * self.over
        self.pooled, self.passed = pool(self.map)
        self.read, self.dense_z = [self.pooled.flatten(1).double()], []  # of each dense layer: inputs, and sums
        for layer in network.dense.values():
            self.dense_z.append(F.linear(self.read[-1], *layer))
            self.read.append(self.dense_z[-1].relu())
        self.outputs = self.dense_z[-1]
        self.read.pop()
        self.denominators: dict[tuple, torch.Tensor] = {}  # of the rules that go down, to be shared and cleared
        self.rounded = False  # whether activations are those of a pass in lower precision

    def double(self, rows: torch.Tensor) -> Trace:
        """Return the same activations of some samples (sample,) bool in double precision."""
        wide = copy.copy(self)
        for name, value in vars(self).items():
            setattr(wide, name, _double(value, rows))
        wide.network, wide.denominators, wide.rounded = self.network.wide, {}, True
        return wide

    def denominator(self, level: int, branch: int, part: Part, biased: bool) -> torch.Tensor:
        """Return sum_j x_j W_jk + B_k of one of the convolutions `Network.levels[level]`, computed once."""
        if part[:2] == PLAIN[:2] and biased:
            return self.active[level][branch]  # only read where it is positive
        key = (level, branch, part[:2], biased)
        if key not in self.denominators:
            conv = self.network.levels[level][branch]
            self.denominators[key] = conv(self.inputs[level], part, biased)
        return self.denominators[key]

    def rounding(self, level: int, branch: int) -> torch.Tensor:
        """Return by how much the activations of one convolution exceed what it makes of its inputs, where positive."""
        active, conv = self.active[level][branch], self.network.levels[level][branch]
        return torch.where(active > 0, active - conv(self.inputs[level]), 0)

    def up(self, c: torch.Tensor) -> torch.Tensor:
        """Hand (..., row, column) of a pooled map to every cell of its 2x2 block; the gates pick the winner."""
        return F.interpolate(c, scale_factor=2, mode="nearest")

    def gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """Return d value / d pixel, (target, sample, y, x), of the targets `weights` (target, output)."""
        network, lead = self.network, (len(weights), len(self.outputs))
        *hidden, (head, _) = network.dense.values()
        c = (weights.double() @ head)[:, None]
        for (weight, _), z in zip(reversed(hidden), reversed(self.dense_z[:-1]), strict=True):
            c = (c * (z > 0)) @ weight
        c = self.up(c.to(self.pooled.dtype).reshape(-1, *self.pooled.shape[1:]))
        chosen = (self.passed > 0).to(c.dtype)
        gates = [chosen]
        if network.decay is not None:
            gates = [chosen * self.over, -chosen * self.over * self.map * (self.active[-1][1] > 0)]
        for level in reversed(range(len(network.levels))):
            if level < len(network.trunk):
                gates = [(self.active[level][0] > 0).to(c.dtype)]
            c = torch.cat([times(gate, c) for gate in gates], 1)
            c = F.conv_transpose2d(c, torch.cat([conv.weight for conv in network.levels[level]]), padding=1)
            if level and network.pooled[level - 1]:
                c = self.up(c)
        return c.sum(1).unflatten(0, lead)


def traces(network: Network, images: torch.Tensor) -> Iterator[Trace]:
    """Yield a trace for every few of the images (sample, 1, y, x)."""
    for some in images.split(PIECE):
        with torch.no_grad():  # not around the yield, which would turn gradients off for whoever reads
            trace = Trace(network, some)
        yield trace


def times(gate: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Return gate (sample, ...) times c (target sample, ...): the same gate for every target."""
    return (c.unflatten(0, (-1, len(gate))) * gate).flatten(0, 1)
