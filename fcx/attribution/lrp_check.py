"""What a network and a rule must satisfy before their maps are believed, tried on two pictures in double precision.

That the pictures reach the outputs only by ways that the tape sees (what does not depend on them is the same in two
passes); that relevance by the epsilon rule is the input times the gradient, where gates, deviations and the slopes of
activations are held fixed; and that the ledger closes. Later, for every face, that double precision closes what single
precision leaves open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fcx.attribution.lrp_operations import ACTIVATIONS, at_zero, shares
from fcx.attribution.lrp_rules import Rule
from fcx.attribution.lrp_sweep import Reference, Sweep
from fcx.attribution.lrp_tape import Tape
from fcx.attribution.lrp_values import Node, Value
from fcx.core.errors import InputError

if TYPE_CHECKING:
    from fcx.attribution.lrp_engine import Relevance

CLOSED = 5e-6  # of sum |R|: half of what the ledger promises
EPS = torch.finfo(torch.float64).eps
ROUNDING = 1e-12  # of all that is booked, in double precision
HELD = (*ACTIVATIONS, "mul", "div", "bmm", "native_layer_norm", "native_group_norm")
CANNOT = "LRP cannot explain this network: "


def check_tapes(tape: Tape, other: Tape, weights: torch.Tensor) -> None:
    """Refuse a network that the tape does not see whole, or in which a rule of an operation is wrong.

    The second picture of the other tape is the first one of the tape.

    Raises: InputError.
    """
    _same_constants(tape, other)
    if not torch.allclose(other.outputs.tensor[1], tape.outputs.tensor[0], rtol=1e-9, atol=1e-12):
        raise InputError(CANNOT + "what it answers to a face depends on the faces beside it")
    rule = Rule("epsilon", "rule", "signal_take_all", epsilon=1e-60)  # nothing beside activations however small
    maps = Sweep(tape, weights, rule).start().run().maps()
    images = tape.images.tensor.detach().clone().requires_grad_()
    with torch.enable_grad():
        values = held(tape, images) @ weights.to(images).T
    if not torch.allclose(values.detach(), tape.outputs.tensor @ weights.to(images).T, rtol=1e-9, atol=1e-12):
        raise InputError(CANNOT + "it answers something else than the operations that the pictures reach")
    slopes = torch.stack([torch.autograd.grad(value.sum(), images, retain_graph=True)[0] for value in values.T])
    error, mass = (v.abs().sum() for v in (maps - slopes * images.detach(), maps))
    if not error <= 1e-6 * mass + 1e-9:
        raise InputError(CANNOT + f"by epsilon it is not the input times the gradient ({float(error):.3g} of "
                         f"{float(mass):.3g}): the rule of one of its operations misplaces relevance")  # fmt: skip


def check_rule(tape: Tape, weights: torch.Tensor, rule: Rule) -> None:
    """Refuse a rule whose ledger does not close to 1e-12 of what it books and hands on.

    Raises: InputError.
    """
    sweep = Sweep(tape, weights, rule).start().run()
    maps = sweep.maps()
    whole = [maps.flatten(2).sum(-1), *(amounts.sum(0) for amounts in sweep.ledger.values())]
    mass = maps.abs().flatten(2).sum(-1) + sum((a.abs().sum(0) for a in sweep.ledger.values()), sweep.value.abs())
    if not ((sum(whole) - sweep.value).abs() <= ROUNDING * mass + 1e-30).all():
        gap = float(((sum(whole) - sweep.value).abs() / mass).max())
        raise InputError(CANNOT + f"a rule creates or loses relevance ({gap:.2g} of what there is)")


def check_closed(whole: Relevance, reference: Reference | None) -> None:
    """Refuse relevance in double precision whose ledger stays open; a map that is rounding alone becomes one of zeros.

    Of a map of zeros, and of a face that is its own reference, rounding may be left.

    Raises: InputError that says how much is lost.
    """
    if not (still := whole.open).any():
        return
    left, mass, booked = (amounts[still] for amounts in (whole.left.abs(), whole.mass, whole.booked))
    if reference is not None:  # the output, of which little is left, rounds too
        booked = booked + reference.values.abs()[:, None].expand_as(still)[still]
    if not (left <= CLOSED * mass + ROUNDING * booked).all():
        raise InputError(CANNOT + f"a rule creates or loses relevance of a face ({float((left / mass).max()):.2g} of "
                         "what its pixels have, also in double precision)")  # fmt: skip
    if reference is None:  # nothing of the answer is the face's, but for rounding
        whole.maps[still] = 0


def _same_constants(tape: Tape, other: Tape) -> None:
    pairs = list(zip(tape.nodes, other.nodes, strict=False))
    for one, two in pairs:
        if one.name != two.name or len(one.constants) != len(two.constants):
            raise InputError(CANNOT + f"what it does depends on the picture ({one.name!r} here, {two.name!r} there)")
        for a, b in zip(one.constants, two.constants, strict=True):
            if not (torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b):
                raise InputError(CANNOT + f"what {one.name!r} takes for a constant depends on the picture, by a way "
                                 "that torch does not see, such as NumPy, or is drawn at random, or changes from call "
                                 "to call")  # fmt: skip
    if len(tape.nodes) != len(other.nodes):
        raise InputError(CANNOT + "what it does depends on the picture")


def held(tape: Tape, images: torch.Tensor) -> torch.Tensor:
    """Return the outputs of a tape anew, in which gates, deviations and slopes of activations have no gradient."""
    tensors = {tape.images: images}
    for node in tape.nodes:
        made = [_held(node, tensors)] if node.name in HELD else node.again(tensors.__getitem__)
        tensors.update(zip(node.values, made, strict=False))
        for value in node.values[len(made) :]:
            tensors[value] = value.tensor
    return tensors[tape.outputs]


def _held(node: Node, tensors: dict[Value, torch.Tensor]) -> torch.Tensor:
    a, b = (tensors.get(v, v) if isinstance(v, Value) else v for v in (*node.args, None)[:2])
    y = node.value.tensor
    if node.name in ACTIVATIONS:
        ratio = torch.where(a == 0, 0, (y - at_zero(node)[0]) / a).detach()
        return a * ratio + (y - a * ratio).detach()
    if node.name == "div":
        return a / b.detach() if isinstance(b, torch.Tensor) else a / b
    if node.name in ("mul", "bmm"):
        times = torch.mul if node.name == "mul" else torch.bmm
        if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
            return a * b
        x, z = node.args
        whole = node.name == "bmm" and isinstance(x, Value) and isinstance(z, Value)
        of_a, of_b = (
            ((0, 1) if x.gate > z.gate else (1, 0) if z.gate > x.gate else (0.5, 0.5)) if whole else shares(x, z)
        )
        return of_a * times(a, b.detach()) + of_b * times(a.detach(), b)
    return _normalised(node, a)


def _normalised(node: Node, x: torch.Tensor) -> torch.Tensor:
    deviation = node.values[2].tensor
    if node.name == "native_layer_norm":
        _, shape, weight, bias, _ = node.args
        y = (x - x.mean(tuple(range(-len(shape), 0)), keepdim=True)) * deviation
    else:
        _, weight, bias, _, _, _, groups, _ = node.args
        weight, bias = (None if v is None else v.view(-1, *[1] * (x.ndim - 2)) for v in (weight, bias))
        parts = x.unflatten(1, (groups, -1)).flatten(2)
        y = ((parts - parts.mean(-1, keepdim=True)) * deviation[..., None]).reshape(x.shape)
    return (y if weight is None else y * weight) + (0 if bias is None else bias)
