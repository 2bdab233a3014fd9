"""The way back over a tape: layer-wise relevance propagation with a ledger, and gradients.

Relevance of a value is the value times a multiplier m (target, ...); of an output it is the output times the weight
that a target gives it. Each operation has one rule (`OPERATIONS`), which hands on the multipliers of what it made to
what it read. Behind piecewise linear operations m is the gradient, and what the rules change is what they add to that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from fcx.attribution.lrp_rules import OPERATIONS, Rule
from fcx.attribution.lrp_tape import Tape
from fcx.attribution.lrp_values import DENSE, Node, Value
from fcx.core.errors import InputError

# What changes pixels where they are, so that their relevance stays there.
IN_PLACE = ("add", "sub", "rsub", "mul", "div", "neg", "native_batch_norm", "clone", "alias", "detach", "_to_copy")
REASONS = {
    "_softmax": "a softmax is never explained: let the network answer its logits",
    "_log_softmax": "a softmax is never explained: let the network answer its logits",
    "reciprocal": "a constant that is divided by what depends on the picture has no part that is the picture's",
}


class Multiplier(NamedTuple):
    """m = raw (target, ...) times gate (...), which waits until it is known what else it is multiplied by."""

    raw: torch.Tensor
    gate: torch.Tensor | None = None

    @property
    def whole(self) -> torch.Tensor:
        """The product, (target, ...)."""
        return self.raw if self.gate is None else self.raw * self.gate

    def times(self, gate: torch.Tensor) -> Multiplier:
        """Return the same times a gate (...), the same for every target."""
        return Multiplier(self.raw, gate if self.gate is None else self.gate * gate)


class Reference(NamedTuple):
    """Values (target,) from which targets are explained, and activations (target, unit) of the last hidden layer that
    go with them."""

    values: torch.Tensor
    hidden: torch.Tensor


class Sweep:
    """The way of multipliers from the outputs of one tape down to its pictures, by one rule."""

    def __init__(self, tape: Tape, weights: torch.Tensor, rule: Rule):
        self.tape, self.rule, self.done = tape, rule, set()
        self.weights = weights.to(tape.outputs.tensor)
        self.multipliers: dict[Value, Multiplier] = {}
        self.relevance: dict[Value, torch.Tensor] = {}  # of pixels, where a rule hands it on as it is
        self.ledger: dict[str, torch.Tensor] = {}  # layer -> (bias or stabiliser, target, sample)

    def start(self, reference: Reference | None = None) -> Sweep:
        """Begin at the outputs, or below them where they are explained from a reference value."""
        outputs = self.tape.outputs
        self.value = self.weights.double() @ outputs.tensor.double().T
        if reference is None:
            self.give(outputs, self.weights[:, None].expand(-1, *outputs.tensor.shape))
        else:
            self.value = self.value - reference.values[:, None]
            with torch.no_grad():
                self._from_reference(reference)
        return self

    def _from_reference(self, reference: Reference) -> None:
        """Give the last hidden layer's inputs theirs where outputs are explained from a reference value.

        f - y = sum_k w_k (h_k - g_k) + rest, g the mean activations of faces near y. h - g > 0 is a unit of
        its own, ReLU(z - g), and so is g - h > 0, ReLU(g - h), which reads with -w. Both hand on by z+, because
        the epsilon rule would undo the change but for a bias.
        """
        values, hidden = reference
        head, layer = last_layers(self.tape)
        wide = self.tape.constants.derive
        (below, weight, bias), (activation, top, offset) = (
            (node.args[-2], wide(torch.Tensor.double, node.args[-1]),
             wide(torch.Tensor.double, node.args[0]) if node.name == "addmm" else 0) for node in (layer, head)
        )  # fmt: skip
        x, activation, weights = below.tensor.double(), activation.tensor.double(), self.weights.double()
        above = (weights @ top.T)[:, None]  # (target, 1, unit)
        difference = activation - hidden[:, None]
        rest = (
            (above * hidden[:, None]).sum(-1)
            - values[:, None]
            + (weights @ (offset + top.new_zeros(top.shape[1])))[:, None]
        )
        self.absorb("bias", self.name(head), head.value, rest.expand_as(self.value))
        constant, m = bias - hidden[:, None], 0
        for sign in (1, -1):
            kernel, shift = (sign * weight).clamp(min=0), (sign * constant).clamp(min=0)
            z = x @ kernel + shift
            s = torch.where(sign * difference > 0, above * difference, 0) / torch.where(z > 0, z, math.inf)
            self.absorb("bias", self.name(layer), layer.value, s * shift)
            m = m + s @ kernel.T
        self.give(below, m)

    def run(self, until: Value | None = None) -> Sweep:
        """Go down to the pictures, or to where the multiplier of a value is known.

        Raises: InputError where relevance reaches an operation without a rule.
        """
        with torch.no_grad():
            for node in reversed(self.tape.nodes):
                if until is not None and node is until.node:
                    break
                if node in self.done:
                    continue
                if any(value in self.multipliers for value in node.values):
                    self.step(node)
                if node.value in self.relevance:
                    self._carry(node, self.relevance.pop(node.value))
        return self

    def step(self, node: Node) -> None:
        """Hand the multipliers of what a node made to what it read."""
        if node.name not in OPERATIONS:
            reason = REASONS.get(node.name, f"there are rules for {', '.join(sorted(OPERATIONS))}")
            raise InputError(
                f"LRP cannot explain this network: it has no rule for the operation {node.name!r} ({reason})"
            )
        OPERATIONS[node.name](self, node, self.take(node.value))

    def maps(self) -> torch.Tensor:
        """Return the relevance of the pictures, (target, sample, channel, y, x)."""
        images = self.tape.images
        nothing = images.tensor.new_zeros(len(self.weights), *images.tensor.shape)
        total = self.relevance.get(images, nothing)
        return total + self.take(images).whole * images.tensor if images in self.multipliers else total

    # --- what rules do ------------------------------------------------------------------------

    def give(self, value, m: torch.Tensor, gate: torch.Tensor | None = None) -> None:
        """Add m times gate to the multiplier of a value; give a constant nothing."""
        if not isinstance(value, Value):
            return
        one = Multiplier(m.to(value.tensor.dtype), gate)
        if value in self.multipliers:
            one = Multiplier(self.multipliers[value].whole + one.whole)
        self.multipliers[value] = one

    def take(self, value: Value) -> Multiplier:
        """Return the multiplier of a value, which is then forgotten; zeros where it has none."""
        if value in self.multipliers:
            return self.multipliers.pop(value)
        return Multiplier(value.tensor.new_zeros(len(self.weights), *value.tensor.shape))

    def drops_negative(self, value: Value) -> bool:
        """Return whether the rule of what made a value hands on nothing where it is negative, as its readers ask."""
        return value.node is not None and value.node.name == "convolution" and value.rectified

    def absorb(self, bucket: str, layer: str, value: Value, amounts: torch.Tensor) -> None:
        """Book amounts (target, ...), of which there is one for each element of a value or of its first dimensions."""
        samples = self.tape.samples
        entry = self.ledger.setdefault(
            layer, torch.zeros(2, len(self.weights), samples, dtype=torch.float64, device=amounts.device)
        )[("bias", "stabiliser").index(bucket)]
        if value.rows:
            entry += amounts.sum(tuple(range(2, amounts.ndim))).double() if amounts.ndim > 2 else amounts.double()
            return
        owner = self.tape.owners.of(value)
        owner = owner[(..., *[0] * (owner.ndim - amounts.ndim + 1))]
        entry.index_add_(1, owner.flatten().long(), amounts.double().flatten(1))

    def name(self, node: Node) -> str:
        """Return what the ledger calls a node: the layer whose weights it reads, or else the operation."""
        names = (self.tape.constants.name(constant, "") for constant in node.constants)
        return next(filter(None, names), node.name)

    def adjoint(self, node: Node, ms: list[torch.Tensor]) -> list[tuple[Value, torch.Tensor]]:
        """Return each value that a node read with the gradient of its results, ms (target, ...) being theirs."""
        read = [value for value in node.read if value.tensor.is_floating_point()]
        with torch.enable_grad():
            ends = {value: value.tensor.detach().requires_grad_() for value in read}
            made = node.again(lambda value: ends.get(value, value.tensor))
            pairs = [(one, m.to(one.dtype)) for one, m in zip(_real(made), ms, strict=True) if one.requires_grad]
        if not pairs:
            raise InputError(f"LRP cannot explain this network: no gradient goes through its operation {node.name!r}")
        made, ms = zip(*pairs, strict=True)
        slopes = [
            torch.autograd.grad(made, list(ends.values()), of_target, retain_graph=True, allow_unused=True)
            for of_target in zip(*ms, strict=True)
        ]
        return [
            (value, torch.stack(of_value))
            for value, of_value in zip(read, zip(*slopes, strict=True), strict=True)
            if of_value[0] is not None
        ]

    def results(self, node: Node) -> list[torch.Tensor]:
        """Return the multipliers of all that a node made of real numbers."""
        return [self.take(value).whole for value in node.values if value.tensor.is_floating_point()]

    def carry(self, value: Value, relevance: torch.Tensor) -> None:
        """Add relevance (target, ...) of pixels, which goes to the pictures as it is."""
        self.relevance[value] = self.relevance[value] + relevance if value in self.relevance else relevance

    def _carry(self, node: Node, relevance: torch.Tensor) -> None:
        [*read] = node.read
        if len(read) == 1 and node.name in IN_PLACE and read[0].tensor.shape == node.value.tensor.shape:
            self.carry(read[0], relevance)
        else:
            for value, part in self.adjoint(node, [relevance]):
                self.carry(value, part)


def _real(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def last_layers(tape: Tape) -> tuple[Node, Node]:
    """Return the layer of the outputs and the hidden one below it, with a ReLU between them.

    Raises: InputError where a network does not end like that.
    """
    head = tape.outputs.node
    relu = head.args[-2].node if head.name in DENSE and isinstance(head.args[-2], Value) else None
    layer = relu.args[0].node if relu is not None and relu.name == "relu" else None
    if layer is None or layer.name not in DENSE or not isinstance(layer.args[-2], Value):
        raise InputError("LRP from a reference value needs a network that ends in a dense layer, a ReLU and the layer "
                         "of the outputs: leave the reference out")  # fmt: skip
    return head, layer


class Slopes(Sweep):
    """The same way by the chain rule alone: multipliers are gradients."""

    def __init__(self, tape: Tape, weights: torch.Tensor):
        super().__init__(tape, weights, Rule("epsilon", "rule"))

    FAST = ("relu", "max_pool2d_with_indices")

    def drops_negative(self, value: Value) -> bool:
        """Return that nothing does."""
        return False

    def step(self, node: Node) -> None:
        """Hand on gradients."""
        if node.name in self.FAST:
            super().step(node)
        elif node.name == "convolution":
            from fcx.attribution.lrp_layers import Layer

            layer = Layer.of(self, node)
            self.give(layer.x, layer.adjoint(self.take(node.value).whole, layer.weight))
        else:
            for value, m in self.adjoint(node, self.results(node)):
                self.give(value, m)

    def gradient(self) -> torch.Tensor:
        """Return d value / d pixel, (target, sample, channel, y, x)."""
        return self.start().run().take(self.tape.images).whole
