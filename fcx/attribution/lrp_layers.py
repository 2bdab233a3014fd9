"""LRP through layers with weights: convolutions, by the rule that names the method, and dense layers by epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch

from fcx.attribution.convolving import convolve, transpose
from fcx.attribution.lrp_rules import FIRST_RULES, Part, first_rule, operation
from fcx.attribution.lrp_sweep import Multiplier, Sweep
from fcx.attribution.lrp_values import VIEWS, Node, Value
from fcx.core.errors import InputError


@dataclass
class Layer:
    """A convolution y of x, with what batch norm behind it does to its weight and bias."""

    name: str
    sweep: Sweep
    x: Value
    y: Value
    weight: torch.Tensor
    bias: torch.Tensor | None
    geometry: tuple  # stride, padding, dilation, transposed, output padding, groups

    @classmethod
    def of(cls, sweep: Sweep, node: Node) -> Layer:
        """Return the layer of a convolution.

        Raises: InputError where its weights depend on the picture.
        """
        x, weight, bias, *geometry = node.args
        if isinstance(weight, Value) or isinstance(bias, Value):
            raise InputError("LRP cannot explain this network: the weights of a convolution depend on the picture")
        return cls(sweep.name(node), sweep, x, node.value, weight, bias, tuple(geometry))

    @property
    def activation(self) -> torch.Tensor:
        """What relevance is that times m: y, or its positive part where that alone is read."""
        return self.y.readers[0].value.tensor if self.y.rectified else self.y.tensor

    def kernel(self, part: Part) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return p w + n w and p b + n b, the positive and the negative ones weighed apart."""
        derive = self.sweep.tape.constants.derive
        return tuple(
            None if v is None else derive(_weigh, v, part.positive, part.negative) for v in (self.weight, self.bias)
        )

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the convolution makes of x with these weights."""
        return convolve(self.sweep.tape.constants, x, weight, bias, *self.geometry)

    def sums(self, part: Part) -> torch.Tensor:
        """Return the sum of contributions to each output, those of either sign weighed by a part of a rule."""
        weight, bias = self.kernel(part)
        bias = bias if self.sweep.rule.biases == "absorb" else None
        x = self.x.tensor
        if self.x.nonnegative or part.positive == part.negative:
            return self(x, weight, bias)
        return self(x.clamp(min=0), weight, bias) + self(x.clamp(max=0), self.kernel(part.mirrored)[0])

    def adjoint(self, s: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the transpose of the convolution of s (target, sample, ...)."""
        stride, padding, dilation, transposed, _, groups = self.geometry
        sizes = zip(self.x.tensor.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        more = [0 if transposed else (n + 2 * p - d * (k - 1) - 1) % step for n, k, step, p, d in sizes]  # left over
        constants, flat = self.sweep.tape.constants, s.flatten(0, 1)
        if transposed:
            flat = convolve(constants, flat, weight, None, stride, padding, dilation, False, more, groups)
        else:
            flat = transpose(constants, flat, weight, stride, padding, dilation, more, groups)
        return flat.unflatten(0, s.shape[:2])

    def source(self, share: torch.Tensor, z: torch.Tensor, m: Multiplier, epsilon: float = 0.0) -> torch.Tensor:
        """Return R / z for R = share times m; what has no denominator goes to the stabilisers."""
        if epsilon and z is share and self.y.rectified:  # 0 or more
            sign, below = None, share + epsilon
        else:
            sign = stabiliser(z, epsilon) if epsilon else None
            below = z if sign is None else z + sign
        gate = torch.div(share, below, out=None if below is z else below)
        # With an epsilon that is no 0 in this precision there is always a denominator.
        if epsilon <= torch.finfo(z.dtype).tiny and not gate.sum().isfinite():
            dead = gate.nan_to_num_(0.0, math.inf, -math.inf).isinf()  # 0 / 0: nothing
            self.absorb("stabiliser", torch.where(dead, share, 0) * m.whole)
            gate = gate.masked_fill(dead, 0)
        s = m.times(gate).whole
        if sign is not None:
            self.absorb("stabiliser", s * sign)
        return s

    def absorb(self, bucket: str, amounts: torch.Tensor) -> None:
        """Book amounts (target, sample, ...)."""
        self.sweep.absorb(bucket, self.name, self.y, amounts)

    def descend(self, m: Multiplier) -> torch.Tensor:
        """Return the multiplier of x by the rule of convolutions."""
        rule, y = self.sweep.rule, self.activation
        plain = all(part.positive == part.negative for part in rule.parts)
        of_positive, of_negative = [], []  # multipliers of x > 0 and of x < 0
        for sign in (1,) if self.y.rectified else (0,) if plain else (1, -1):
            share = y if sign == 0 or self.y.rectified else y.clamp(min=0) if sign > 0 else y.clamp(max=0)
            for part in rule.parts:
                part = part if sign >= 0 else part.mirrored
                z = share if plain and (rule.biases == "absorb" or self.bias is None) else self.sums(part)
                s = self.source(share if part.share == 1 else part.share * share, z, m, rule.stabiliser)
                weight, bias = self.kernel(part)
                units = s.sum(tuple(range(3, s.ndim))).double()
                if bias is not None and rule.biases == "absorb":
                    self.absorb("bias", units @ bias.double())
                if rule.stabiliser and z is share and self.y.rectified:
                    self.absorb("stabiliser", rule.stabiliser * units.sum(-1))
                of_positive.append(self.adjoint(s, weight))
                if not (self.x.nonnegative or plain):
                    of_negative.append(self.adjoint(s, self.kernel(part.mirrored)[0]))
        of_positive, of_negative = (reduce(torch.add, of) if of else None for of in (of_positive, of_negative))
        return of_positive if of_negative is None else torch.where(self.x.tensor < 0, of_negative, of_positive)

    def propagate(self, m: Multiplier) -> None:
        """Hand the multiplier of y to x, or its relevance to pixels."""
        FIRST_RULES[self.sweep.rule.first if self.x.pixels else "rule"](self.sweep, self, m)


def stabiliser(z: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return epsilon with the sign of z."""
    return torch.copysign(z.new_tensor(epsilon), z)


def _weigh(v: torch.Tensor, positive: float, negative: float) -> torch.Tensor:
    return v if positive == negative == 1 else positive * v.clamp(min=0) + negative * v.clamp(max=0)


@operation("convolution")
def convolution(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Go by the rule of the method."""
    Layer.of(sweep, node).propagate(m)


@operation("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def batch_norm(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Be part of the convolution before it, or else a scale and a shift, which is a bias.

    Raises: InputError where it takes mean and variance from the faces beside a face.
    """
    x, weight, bias, mean, variance, *more = node.args
    if mean is None or (len(more) > 2 and more[0]):
        raise InputError("LRP cannot explain this network: a batch norm takes its mean from the faces beside a face")
    derive, below = sweep.tape.constants.derive, x.node
    scale, shift = derive(_scale, weight, variance, more[-1]), None
    shift = derive(_shift, scale, weight, bias, mean, variance, more[-1])
    fits = below is not None and below.name == "convolution" and len(x.readers) == 1 and not below.args[6]
    if fits:
        layer = Layer.of(sweep, below)
        layer.name, layer.y = sweep.name(below), node.value
        layer.weight = derive(_scaled, layer.weight, weight, variance, more[-1])
        layer.bias = derive(_shifted, layer.bias, weight, bias, mean, variance, more[-1])
        sweep.done.add(below)
        layer.propagate(m)
        return
    m, dims = m.whole, [1] * (x.tensor.ndim - 2)
    sweep.absorb("bias", sweep.name(node), node.value, m * shift.view(-1, *dims))
    sweep.give(x, m * scale.view(-1, *dims))


def _scale(weight, variance, epsilon: float) -> torch.Tensor:
    return (1 if weight is None else weight) / (variance + epsilon).sqrt()


def _shift(scale, weight, bias, mean, variance, epsilon: float) -> torch.Tensor:
    return (0 if bias is None else bias) - mean * scale


def _scaled(kernel, weight, variance, epsilon: float) -> torch.Tensor:
    return kernel * _scale(weight, variance, epsilon).view(-1, *[1] * (kernel.ndim - 1))


def _shifted(offset, weight, bias, mean, variance, epsilon: float) -> torch.Tensor:
    scale = _scale(weight, variance, epsilon)
    return _shift(scale, weight, bias, mean, variance, epsilon) + (0 if offset is None else offset * scale)


@operation("addmm", "mm")
def dense(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Go by the epsilon rule, in the precision of the sums (Bach et al. 2015, equation 58)."""
    bias, x, weight = node.args if node.name == "addmm" else (None, *node.args)
    if node.kwargs or isinstance(weight, Value) or not isinstance(x, Value) or isinstance(bias, Value):
        from fcx.attribution.lrp_operations import product

        if node.name == "mm":
            return product(sweep, node, m)
        raise InputError("LRP cannot explain this network: the weights of a dense layer depend on the picture")
    y, rule, name = node.value.tensor, sweep.rule, sweep.name(node)
    if y.dtype == torch.float64:
        weight, bias = (None if v is None else sweep.tape.constants.derive(torch.Tensor.double, v)
                        for v in (weight, bias))  # fmt: skip
    z = y if bias is None or rule.biases == "absorb" else y - bias
    sign = stabiliser(z, rule.epsilon)
    s = m.times(y / (z + sign)).whole
    sweep.absorb("stabiliser", name, node.value, s * sign)
    if bias is not None and rule.biases == "absorb":
        sweep.absorb("bias", name, node.value, s * bias)
    sweep.give(x, s @ weight.T)


# --- the convolution that reads the pixels ----------------------------------------------------


@first_rule
def flat(sweep: Sweep, layer: Layer, m: Multiplier) -> None:
    """Hand the relevance of a unit to all pixels that it reads alike (Lapuschkin et al. 2019, 1902.10178).

    What was put around a picture is no pixel; of a unit that reads nothing else it is a bias.
    """
    total = m.times(layer.activation).whole
    box = torch.ones_like(layer.weight)
    if layer.geometry[-1] == 1 and not layer.geometry[3]:  # the same of every unit of a place
        total, box = total.sum(2, keepdim=True), box[:1]
    live = _live(layer.x)
    pixels = layer(live, box)
    layer.absorb("bias", torch.where(pixels > 0, 0, total).flatten(2).sum(2))
    sweep.carry(layer.x, layer.adjoint(torch.where(pixels > 0, total / pixels, 0), box) * live)


@first_rule
def zbox(sweep: Sweep, layer: Layer, m: Multiplier) -> None:
    """R_j = sum_k (x_j w - l w+ - h w-) / z_k R_k for pixels between l and h, black and white; biases cancel."""
    x, weight = layer.x.tensor, layer.weight
    (up, _), (down, _) = layer.kernel(Part(1, 0, 1)), layer.kernel(Part(0, 1, 1))
    ends = [_box(layer.x, shade) for shade in (0.0, 1.0)]
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    z = layer(x, weight) - layer(low, up) - layer(high, down)
    s = layer.source(layer.activation, z, m)
    relevance = x * layer.adjoint(s, weight) - high * layer.adjoint(s, down)
    sweep.carry(layer.x, relevance - low * layer.adjoint(s, up) if low.any() else relevance)


@first_rule
def rule(sweep: Sweep, layer: Layer, m: Multiplier) -> None:
    """Go by the rule of the other convolutions."""
    sweep.give(layer.x, layer.descend(m))


def _live(value: Value) -> torch.Tensor:
    """Return what is a pixel of one picture, 1, and what was put around it, 0."""
    node = value.node
    if node is None:
        return torch.ones_like(value.tensor[:1])
    if node.name == "constant_pad_nd":
        return node.call(_live(node.args[0]), node.args[1], 0)
    if node.name == "written":
        constant, *where = (_live(a).expand_as(a.tensor) if isinstance(a, Value) else a for a in node.args)
        return node.call(torch.zeros_like(constant), *where)[:1]
    if node.name in VIEWS:
        return node.again(lambda v: _live(v).expand_as(v.tensor))[node.values.index(value)][:1]
    return _live(node.read[0]).expand_as(value.tensor[:1])


def _box(value: Value, shade: float) -> torch.Tensor:
    """Return what a value would be of one picture that is all black or all white."""
    if value.node is None:
        return torch.full_like(value.tensor[:1], shade)
    return value.node.again(lambda v: _box(v, shade).expand_as(v.tensor))[value.node.values.index(value)][:1]
