"""LRP through operations without weights: what is linear, activations, sums, products, quotients and normalisation.

Of a product with a gate, the gate takes nothing (signal-take-all, Arras et al. 2017, 1706.07206): a gate is what a
sigmoid, a softmax or a clipped ramp made, or what is spread over the other factor. Factors without a gate among them
take a half each. Activations hand on y / x, normalisations with their deviation fixed, as do quotients that are no
shunt.
"""

from __future__ import annotations

import torch

from fcx.attribution.lrp_rules import SHUNT_RULES, operation
from fcx.attribution.lrp_sweep import Multiplier, Sweep
from fcx.attribution.lrp_values import VIEWS, Node, Value, flat
from fcx.core.errors import InputError

LINEAR = (
    *(VIEWS - {"cat", "stack"}), "mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d", "neg", "as_strided",
    "reflection_pad2d", "replication_pad2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    "amax", "max", "maximum", "minimum", "adaptive_max_pool2d", "leaky_relu", "prelu", "_prelu_kernel", "abs",
    "gather", "cumsum", "avg_pool1d",
    "max_pool3d_with_indices", "avg_pool3d", "im2col", "pixel_unshuffle", "channel_shuffle", "tril", "triu",
    "col2im", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d", "topk", "sort",
    "max_unpool2d", "grid_sampler_2d", "std", "linalg_vector_norm",
)  # fmt: skip
AFFINE = (
    "cat", "stack", "constant_pad_nd", "masked_fill", "where", "rsub", "written", "index_put", "index_add",
    "index_copy", "scatter", "scatter_add", "slice_scatter", "select_scatter",
)  # fmt: skip
ACTIVATIONS = (
    "silu", "gelu", "hardswish", "mish", "elu", "celu", "selu", "tanh", "sigmoid", "hardsigmoid", "hardtanh", "clamp",
    "clamp_min", "clamp_max", "softplus", "erf", "sin", "exp", "expm1", "log1p", "square", "log_sigmoid_forward",
    "pow", "sqrt",
)  # fmt: skip


@operation("relu")
def relu(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on what is active."""
    x, y = node.args[0], node.value.tensor
    if sweep.drops_negative(x):
        sweep.give(x, *m)
    else:
        sweep.give(x, m.raw, m.times((y > 0).to(y.dtype)).gate)


@operation("max_pool2d_with_indices")
def max_pool(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand everything to the winner, of equal ones to the first in reading order."""
    x, *how = node.args
    kernel, stride, padding, dilation, ceil = [*how, *([], 0, 1, False)[len(how) - 1 :]]
    m, index = m.whole, node.values[1].tensor
    layout = {"memory_format": torch.channels_last} if x.tensor.is_contiguous(memory_format=torch.channels_last) else {}
    out = torch.empty(m.shape[0] * m.shape[1], *x.tensor.shape[1:], dtype=m.dtype, device=m.device, **layout)
    for of_target, place in zip(m, out.split(m.shape[1]), strict=True):
        torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
            of_target, x.tensor, kernel, stride, padding, dilation, ceil, index, grad_input=place
        )
    sweep.give(x, out.unflatten(0, m.shape[:2]))


@operation(*LINEAR)
def linear(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on the gradient: these are linear, or piecewise linear through zero, or else homogeneous of degree 1."""
    ms = [m.whole, *(sweep.take(v).whole for v in node.values[1:] if v.tensor.is_floating_point())]
    for value, of_value in sweep.adjoint(node, ms):
        sweep.give(value, of_value)


@operation(*AFFINE)
def affine(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on the gradient; what there is where values are zero is a bias."""
    if node.name in ("cat", "stack") and len(node.read) == len(flat(node.args[:1])):
        return linear(sweep, node, m)
    shift = node.again(lambda v: torch.zeros_like(v.tensor) if v.tensor.is_floating_point() else v.tensor)[0]
    sweep.absorb("bias", node.name, node.value, m.times(shift).whole)
    return linear(sweep, node, m)


@operation(*ACTIVATIONS)
def activation(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on (f(x) - f(0)) / x; f(0) is a bias.

    Raises: as `at_zero`.
    """
    x = node.args[0]
    start, slope = at_zero(node)
    y, given = node.value.tensor, x.tensor
    if start:
        sweep.absorb("bias", node.name, node.value, m.times(torch.full_like(y, start)).whole)
        given = given.double()  # f(x) - f(0) is a small difference where x is small
        (y,) = node.again(lambda _: given)
    ratio = torch.where(given == 0, slope, (y - start) / given)
    sweep.give(x, m.raw, m.times(ratio.to(x.tensor.dtype)).gate)


def at_zero(node: Node) -> tuple[float, float]:
    """Return value and slope of an activation at 0.

    Raises: InputError for parameters that depend on the picture, or differ from place to place.
    """
    if (
        len(node.read) > 1
        or not isinstance(node.args[0], Value)
        or any(isinstance(one, torch.Tensor) and one.numel() > 1 for one in node.constants)
    ):
        raise InputError(f"LRP cannot explain this network: what {node.name!r} is told is no number")
    point = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        start = _of_number(node, point)
    (slope,) = torch.autograd.grad(start, point)
    if not start.isfinite():
        raise InputError(f"LRP cannot explain this network: {node.name!r} has no value at 0, where nothing is active")
    return float(start.detach()), float(slope.nan_to_num(0, 0, 0))


def _of_number(node: Node, number: torch.Tensor) -> torch.Tensor:
    out = node.call(number, *node.args[1:], **node.kwargs)
    return out[0] if isinstance(out, tuple) else out


# --- sums -------------------------------------------------------------------------------------


@operation("add", "sub")
def add(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on in proportion, or in proportion to what is absolute; a constant is a bias."""
    a, b = node.args[:2]
    scale = node.kwargs.get("alpha", 1) * (-1 if node.name == "sub" else 1)
    live = isinstance(a, Value) and isinstance(b, Value)
    if not live:
        constant = scale * b if isinstance(a, Value) else a
        constant = torch.as_tensor(constant, dtype=node.value.tensor.dtype, device=node.value.tensor.device)
        sweep.absorb("bias", sweep.name(node), node.value, m.times(constant.expand_as(node.value.tensor)).whole)
    elif sweep.rule.sums == "absolute":
        x, y = a.tensor, scale * b.tensor
        over = m.times(node.value.tensor / (x.abs() + y.abs()).clamp(min=torch.finfo(x.dtype).tiny))
        lost = m.times(torch.where((x == 0) & (y == 0), node.value.tensor, 0))
        sweep.absorb("stabiliser", node.name, node.value, lost.whole)
        _give_factor(sweep, a, over, x.sign())
        _give_factor(sweep, b, over, y.sign() * scale)
        return
    if live and a is not b and a.tensor.shape == b.tensor.shape and scale == 1:
        m = Multiplier(m.whole)
    for value, factor in ((a, 1), (b, scale)):
        if isinstance(value, Value) and value.tensor.shape == node.value.tensor.shape and factor == 1:
            sweep.give(value, *m)
        else:
            _give_factor(sweep, value, m, factor)


def _give_factor(sweep: Sweep, value, m: Multiplier, factor) -> None:
    """Give a value m times a factor, summed over the dimensions along which it was spread."""
    if isinstance(value, Value):
        whole = m.whole * factor
        spare = whole.ndim - 1 - value.tensor.ndim
        whole = whole.sum(tuple(range(1, 1 + spare))) if spare else whole
        along = [d + 1 for d, size in enumerate(value.tensor.shape) if size == 1 and whole.shape[d + 1] > 1]
        sweep.give(value, whole.sum(along, keepdim=True) if along else whole)


# --- products and quotients -------------------------------------------------------------------


def shares(a, b) -> tuple[float, float]:
    """Return the shares of two factors: 0 and 1 where one is a gate or a constant, else a half each."""
    for one, other, answer in ((a, b, (0, 1)), (b, a, (1, 0))):
        if not isinstance(one, Value):
            return answer
        if isinstance(other, Value) and one.tensor.numel() < other.tensor.numel():
            return answer
    if a.gate != b.gate and a.tensor.numel() == b.tensor.numel():
        return (0, 1) if a.gate else (1, 0)
    return 0.5, 0.5


@operation("mul")
def multiply(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Give a gate nothing."""
    a, b = node.args
    for value, other, share in zip((a, b), (b, a), shares(a, b), strict=True):
        if share:
            other = other.tensor if isinstance(other, Value) else other
            _give_factor(sweep, value, m, other if share == 1 else share * other)


@operation("bmm", "matmul")
def product(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Give a gate, such as attention, nothing."""
    a, b = node.args
    of_a, of_b = (1.0 * isinstance(a, Value), 1.0 * isinstance(b, Value))
    if of_a and of_b:
        of_a, of_b = (0, 1) if a.gate > b.gate else (1, 0) if b.gate > a.gate else (0.5, 0.5)
    x, y = (v.tensor if isinstance(v, Value) else v for v in (a, b))
    if of_a:
        sweep.give(a, m.whole @ (of_a * y).mT)
    if of_b:
        sweep.give(b, (of_b * x).mT @ m.whole)


@operation("div")
def divide(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Go by the rule of the shunt where u is divided by a > 0 and I >= 0; what else divides takes nothing.

    Raises: InputError for a constant that is divided.
    """
    u, below = node.args[:2]
    if node.kwargs.get("rounding_mode") or not isinstance(u, Value):
        raise InputError("LRP cannot explain this network: it divides a constant by what depends on the picture, or "
                         "rounds what it divides")  # fmt: skip
    if not isinstance(below, Value):
        _give_factor(sweep, u, m, 1 / below)
        return
    shunt = as_shunt(below)
    if shunt is None:
        _give_factor(sweep, u, m, 1 / below.tensor)
        return
    decay, inhibition = shunt
    i = inhibition.tensor
    k = SHUNT_RULES[sweep.rule.shunt](i / decay)
    over = (1 + k) / below.tensor
    if k.any():
        m = Multiplier(m.whole)
        sweep.give(inhibition, m.raw, torch.where(i > 0, -k * node.value.tensor / i, 0))
    sweep.give(u, m.raw, m.times(over).gate)


def as_shunt(below: Value) -> tuple[torch.Tensor, Value] | None:
    """Return a and I of what divides, where it is a + I with constants a > 0 and I >= 0, else None."""
    node = below.node
    if node is None or node.name != "add" or len(node.read) != 1 or node.kwargs:
        return None
    inhibition, decay = node.args if isinstance(node.args[0], Value) else node.args[::-1]
    decay = torch.as_tensor(decay, dtype=below.tensor.dtype, device=below.tensor.device)
    fits = inhibition.nonnegative and inhibition.tensor.shape == below.tensor.shape and bool((decay > 0).all())
    return (decay, inhibition) if fits else None


# --- normalisation ----------------------------------------------------------------------------


@operation("native_layer_norm")
def layer_norm(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on with the deviation fixed; the shift is a bias."""
    x, shape, weight, bias, _ = node.args
    _normalised(sweep, node, m, weight, bias)
    dims = tuple(range(-len(shape), 0))
    whole = _weighed(m, weight)
    sweep.give(x, (whole - whole.mean(dims, keepdim=True)) * node.values[2].tensor)


@operation("native_group_norm")
def group_norm(sweep: Sweep, node: Node, m: Multiplier) -> None:
    """Hand on with the deviation fixed; the shift is a bias."""
    x, weight, bias, _, _, _, groups, _ = node.args
    rest = [1] * (x.tensor.ndim - 2)
    weight, bias = (None if v is None else v.view(-1, *rest) for v in (weight, bias))
    _normalised(sweep, node, m, weight, bias)
    whole = _weighed(m, weight).unflatten(2, (groups, -1)).flatten(3)
    whole = (whole - whole.mean(-1, keepdim=True)) * node.values[2].tensor[..., None]
    sweep.give(x, whole.reshape(m.raw.shape))


def _weighed(m: Multiplier, weight) -> torch.Tensor:
    return m.whole if weight is None else m.whole * weight


def _normalised(sweep: Sweep, node: Node, m: Multiplier, weight, bias) -> None:
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise InputError("LRP cannot explain this network: the weights of a normalisation depend on the picture")
    if bias is not None:
        sweep.absorb("bias", sweep.name(node), node.value, m.whole * bias)
