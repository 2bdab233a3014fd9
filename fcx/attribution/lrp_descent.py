"""Layer-wise relevance propagation by the engine, with a ledger of what biases and stabilisers absorb."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from fcx.attribution.lrp_network import Convolution, Trace, times
from fcx.attribution.lrp_rules import FIRST_RULES, SHUNT_RULES, Rule, first_rule

CLOSED = 5e-6  # of sum |R|: half of what the ledger promises


class Reference(NamedTuple):
    """Values (target,) from which targets are explained, and activations (target, unit) of the last hidden layer that
    go with them."""

    values: torch.Tensor
    hidden: torch.Tensor


class Relevance(NamedTuple):
    """Where the relevance of each target went.

    `maps` (target, sample, y, x), in output units; `bias` and `stabiliser` (layer, target, sample) float64, what
    the biases and the stabilisers of each of `layers` absorbed. All three are summed on the way down, so that a
    map and its two columns add up to the output, less the reference value, up to rounding. Samples for which rounding
    would exceed `CLOSED` of sum |R| go down in double precision; a stabiliser is then also what separates an activation
    in single precision, as the denominator of its own relevance, from the sum that it stands for.
    """

    maps: torch.Tensor
    layers: tuple[str, ...]
    bias: torch.Tensor
    stabiliser: torch.Tensor


def relevance(traces: Iterable[Trace], weights: torch.Tensor, rule: Rule,
              reference: Reference | None = None) -> Relevance:  # fmt: skip
    """Return the relevance of the pixels that were traced, for the targets `weights` (target, output).

    >>> network = Network(FaceChannel.preset("paper", width=8))  # doctest: +SKIP
    >>> relevance(traces(network, torch.rand(3, 1, 64, 64)), torch.eye(2), Rule()).maps.shape  # doctest: +SKIP
    torch.Size([2, 3, 64, 64])
    """
    with torch.no_grad():
        parts = [_descend(trace, weights, rule, reference) for trace in traces]
    maps, layers, bias, stabiliser = zip(*parts, strict=True)
    return Relevance(torch.cat(maps, 1), layers[0], torch.cat(bias, 2), torch.cat(stabiliser, 2))


def _descend(trace: Trace, weights: torch.Tensor, rule: Rule, reference: Reference | None) -> Relevance:
    """Return what one trace hands down; in double precision for samples whose ledger rounding would leave open."""
    first = Descent(trace, weights, rule, reference).run()
    if trace.pooled.dtype != torch.float64:
        value = weights.double() @ trace.outputs.T - (0 if reference is None else reference.values[:, None])
        left = first.maps.sum((-2, -1), dtype=torch.float64) + first.bias.sum(0) + first.stabiliser.sum(0) - value
        # `not` less, so that NaN is open too.
        open_ones = ~(left.abs() <= CLOSED * first.maps.abs().sum((-2, -1))).all(0)
        if open_ones.any():
            again = Descent(trace.double(open_ones), weights, rule, reference).run()
            first.maps[:, open_ones] = again.maps.to(first.maps.dtype)
            first.bias[..., open_ones], first.stabiliser[..., open_ones] = again.bias, again.stabiliser
    return first


class Descent:
    """The way of relevance from the outputs of one trace down to its pixels.

    Between layers it holds c, (target sample, channel, row, column): the relevance of a unit is its activation
    times c.
    """

    def __init__(self, trace: Trace, weights: torch.Tensor, rule: Rule, reference: Reference | None = None):
        self.trace, self.network, self.weights, self.rule = trace, trace.network, weights.double(), rule
        self.reference = reference
        shape = (len(self.network.layers), len(weights), len(trace.outputs))
        self.bias, self.stabiliser = torch.zeros(2, *shape, dtype=torch.float64, device=weights.device)

    def run(self) -> Relevance:
        """Return the relevance of the pixels, and the ledger."""
        network, active = self.network, self.trace.active
        c = self._dense()
        c = self.convolutions(c, len(network.trunk), self._shunt())
        for level in reversed(range(len(network.trunk))):
            c = self.trace.up(c) if network.pooled[level] else c
            if level:
                c = self.convolutions(c, level, [active[level][0]])
        maps = FIRST_RULES[self.rule.first](self, c)
        return Relevance(maps.unflatten(0, self.bias.shape[1:]).squeeze(2), network.layers, self.bias, self.stabiliser)

    def map_relevance(self) -> torch.Tensor:
        """Return the relevance of the last convolutional map, (target, sample, channel, row, column)."""
        return times(self.trace.passed, self._dense()).unflatten(0, self.bias.shape[1:])

    def _absorb(self, bucket: torch.Tensor, layer: str, values: torch.Tensor, scale: float = 1.0) -> None:
        """Add scale times values (target sample, ...) or (target, sample, ...), summed over the rest."""
        lead = bucket.shape[1:]
        values = values if values.shape[:2] == lead else values.unflatten(0, lead)
        bucket[self.network.layers.index(layer)] += scale * values.sum(tuple(range(2, values.ndim))).double()

    # --- dense layers: the epsilon rule, in double precision ----------------------------------

    def _dense(self) -> torch.Tensor:
        """Return c of the last convolutional map, of every cell as if it had won its pooling."""
        trace = self.trace
        layers = list(zip(self.network.dense, trace.read, trace.dense_z, strict=True))
        if self.reference is None:
            relevance = self.weights[:, None] * trace.outputs  # (target, sample, output)
        else:
            *layers, (_, x, _), _ = layers
            c = self._from_reference()
            relevance = c * x
        for layer, x, z in reversed(layers):
            c = self._epsilon(layer, relevance, x, z)
            relevance = c * x
        return trace.up(c.to(trace.pooled.dtype).reshape(-1, *trace.pooled.shape[1:]))

    def _epsilon(self, layer: str, relevance: torch.Tensor, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return c (target, sample, unit) of x below a dense layer with outputs z."""
        weight, bias = self.network.dense[layer]
        if bias is not None and self.rule.biases == "share":
            z = F.linear(x, weight)
        stabiliser = torch.where(z < 0, -self.rule.epsilon, self.rule.epsilon)
        s = relevance / (z + stabiliser)
        self._absorb(self.stabiliser, layer, s * stabiliser)
        if bias is not None and self.rule.biases == "absorb":
            self._absorb(self.bias, layer, s * bias)
        return s @ weight

    def _from_reference(self) -> torch.Tensor:
        """Return c below the last hidden layer where outputs are explained from a reference value.

        f - y = sum_k w_k (h_k - g_k) + rest, g the mean activations of faces near y. h - g > 0 is a unit of
        its own, ReLU(z - g), and so is g - h > 0, ReLU(g - h), which reads with -w. Both hand on by z+, because
        the epsilon rule would undo the change but for a bias.
        """
        values, hidden = self.reference
        *_, x, activation = self.trace.read
        *_, (layer, (weight, bias)), (_, (head, head_bias)) = self.network.dense.items()
        above = (self.weights @ head)[:, None]  # (target, 1, unit)
        difference = activation - hidden[:, None]
        rest = (above * hidden[:, None]).sum(-1) - values[:, None]
        if head_bias is not None:
            rest = rest + (self.weights @ head_bias)[:, None]
        self._absorb(self.bias, "head", rest.expand(self.bias.shape[1:])[..., None])
        offset = (0 if bias is None else bias) - hidden[:, None]
        c = 0
        for sign in (1, -1):
            kernel, constant = (sign * weight).clamp(min=0), (sign * offset).clamp(min=0)
            z = F.linear(x, kernel) + constant
            mine = torch.where(sign * difference > 0, above * difference, 0)
            s = mine / torch.where(z > 0, z, math.inf)
            self._absorb(self.bias, layer, s * constant)
            c = c + s @ kernel
        return c

    # --- convolutions -------------------------------------------------------------------------

    def _shunt(self) -> list[torch.Tensor]:
        """Return the relevance of u and of I over c: what `map_relevance` becomes below the shunt."""
        passed = self.trace.passed
        if self.network.decay is None:
            return [passed]
        k = SHUNT_RULES[self.rule.shunt](self.trace.active[-1][1] / self.network.decay)
        return [(1 + k) * passed, -k * passed] if k.any() else [passed]

    def convolutions(self, c: torch.Tensor, level: int, shares: list[torch.Tensor]) -> torch.Tensor:
        """Return c below a level whose convolutions have the relevance `shares` (of each) times c."""
        sources, kernels = [], []
        for branch, share in enumerate(shares):
            conv = self.network.levels[level][branch]
            for part in self.rule.parts:
                z = self.trace.denominator(level, branch, part, self.rule.biases == "absorb")
                whole = share if part.share == 1 else part.share * share
                s = self.source(conv, whole, z, c, self.rule.stabiliser)
                weight, bias = conv.kernel(part)
                if bias is not None and self.rule.biases == "absorb":
                    self._absorb(self.bias, conv.name, s.permute(0, 2, 3, 1) @ bias)
                if self.trace.rounded and z is self.trace.active[level][branch]:  # not quite sum_j x_j W_jk + B_k
                    self._absorb(self.stabiliser, conv.name, times(self.trace.rounding(level, branch), s))
                sources.append(s)
                kernels.append(weight)
        source, kernel = (v[0] if len(v) == 1 else torch.cat(v, d) for v, d in ((sources, 1), (kernels, 0)))
        return F.conv_transpose2d(source, kernel, padding=1)

    def source(self, conv: Convolution, share: torch.Tensor, z: torch.Tensor, c: torch.Tensor,
                epsilon: float = 0.0) -> torch.Tensor:  # fmt: skip
        """Return R / z for R = share times c; what has no denominator goes to the stabilisers."""
        sign = None  # positive, behind a ReLU
        if epsilon:
            sign = torch.where(z < 0, -1.0, 1.0).to(z.dtype) if self.rule.biases == "share" else None
            z = z + (epsilon if sign is None else epsilon * sign)
        gate = (share / z).nan_to_num_(0.0, math.inf, -math.inf)  # 0 / 0: nothing to hand on
        if not gate.sum().isfinite():
            dead = gate.isinf()
            self._absorb(self.stabiliser, conv.name, times(torch.where(dead, share, 0), c))
            gate = gate.masked_fill(dead, 0)
        s = times(gate, c)
        if epsilon:
            self._absorb(self.stabiliser, conv.name, s if sign is None else times(sign, s), epsilon)
        return s


@first_rule
def flat(descent: Descent, c: torch.Tensor) -> torch.Tensor:
    """Hand the relevance of a unit to all the pixels that it reads alike (Lapuschkin et al. 2019, 1902.10178)."""
    total = times(descent.trace.active[0][0], c).sum(1, keepdim=True)
    box = c.new_ones(1, 1, 3, 3)
    pixels = F.conv2d(c.new_ones(1, 1, *c.shape[2:]), box, padding=1)
    return F.conv_transpose2d(total / pixels, box, padding=1)


@first_rule
def zbox(descent: Descent, c: torch.Tensor) -> torch.Tensor:
    """R_j = sum_k (x_j w - l w+ - h w-) / z_k R_k for pixels between l = 0 and h = 1; biases cancel."""
    conv, x = descent.network.trunk[0], descent.trace.inputs[0]
    negative = conv.weight.clamp(max=0)
    z = conv(x, biased=False) - F.conv2d(torch.ones_like(x[:1]), negative, padding=1)
    s = descent.source(conv, descent.trace.active[0][0], z, c)
    of_pixel, of_white = F.conv_transpose2d(s, torch.cat([conv.weight, negative], 1), padding=1).split(1, 1)
    return times(x, of_pixel) - of_white


@first_rule
def rule(descent: Descent, c: torch.Tensor) -> torch.Tensor:
    """Go by the rule of the other convolutions."""
    return times(descent.trace.inputs[0], descent.convolutions(c, 0, [descent.trace.active[0][0]]))
