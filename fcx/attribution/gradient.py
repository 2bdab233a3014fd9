"""Methods that follow the gradient from a target to the pixels; every target shares one pass forward."""

from __future__ import annotations

import numpy as np
import torch

from fcx.attribution.batch import Batch
from fcx.attribution.fills import draws, filled, passes
from fcx.attribution.lrp_tape import Tape
from fcx.attribution.registry import method
from fcx.core.checks import real_number, whole_number
from fcx.core.errors import InputError

MOST_SAMPLES = 100_000  # of a face: more would take days
SLOPE = "output units per unit of grey in [0, 1]"
DRAWN = (
    "it depends on the seed: maps of two seeds correlate by {} with 100 samples (medians over faces, shipped networks; "
    "with 25, {}); raise `samples` where single maps matter"
)


def gradients(batch: Batch, images: torch.Tensor) -> torch.Tensor:
    """Return d target / d pixel at `images` (picture, channel, y, x), as (target, picture, channel, y, x).

    By the engine for a FaceChannel, by autograd for other modules, and by the engine where autograd does not go back:
    through a part that runs without gradients, through operations in place that it would have to undo.
    """
    if not batch.shares_a_pass and (slopes := autograd(batch, images)) is not None:
        return slopes
    tapes = batch.tapes if images is batch.images else batch.engine.tapes(images.detach())
    return batch.engine.gradient(tapes, batch.weights, len(images))


def autograd(batch: Batch, images: torch.Tensor) -> torch.Tensor | None:
    """Return what `gradients` does, by autograd; None where that does not go back."""
    images, last = images.detach().requires_grad_(), len(batch.weights) - 1
    try:
        values = batch.values(batch.explained(images))  # (picture, target)
        slopes = [torch.autograd.grad(v.sum(), images, retain_graph=t < last)[0] for t, v in enumerate(values.T)]
    except RuntimeError:
        return None
    return torch.stack(slopes)


def gap(batch: Batch, maps: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
    """Return (target, sample): the sum of a map less the change of the target from `baseline` to the face."""
    with torch.no_grad():
        ends = [batch.values(batch.explained(images)) for images in (batch.images, baseline)]
    return maps.sum((-2, -1)) - (ends[0] - ends[1]).T


@method("gradient", signed=True, conserves=False, resolution=1, units=SLOPE, shows="where {} is sensitive to a change")
def saliency(batch: Batch) -> torch.Tensor:
    """Return d target / d pixel, signed, as (target, sample, y, x) in output units per unit of grey in [0, 1].

    Of a network that reads colour it is the sum over the channels: a change of grey is one of all three.
    Source: Simonyan, Vedaldi and Zisserman 2013 (1312.6034), section 3; there the absolute value is drawn.
    """
    return gradients(batch, batch.images).sum(2)


@method("input_x_gradient", signed=True, conserves=False, resolution=1)
def input_x_gradient(batch: Batch) -> torch.Tensor:
    """Return pixel times d target / d pixel, (target, sample, y, x), in output units.

    Black pixels get nothing, whatever they tell. The sum is the target only for networks that are homogeneous
    of degree 1; a shunt is of degree 0.
    Source: Shrikumar et al. 2016 (1605.01713), section 2.
    """
    return (batch.images * gradients(batch, batch.images)).sum(2)


@method("integrated_gradients", signed=True, conserves=False, resolution=1, extras=("completeness_gap",))
def integrated_gradients(batch: Batch, *, baseline: str = "black", steps: int = 50) -> torch.Tensor:
    """Return the gradient integrated from a baseline to the face, times their difference, (target, sample, y, x).

    A map sums to f(face) - f(baseline), in output units, but for an error of the quadrature (Gauss-Legendre,
    `steps` points), which is recorded as `completeness_gap`. `baseline` is a name in `fcx.attribution.FILLS`.

    Raises: UnknownNameError for another baseline; InputError where steps is no positive whole number.
    Source: Sundararajan, Taly and Yan 2017 (1703.01365), equation (1).
    """
    start = filled(batch, baseline)
    change = batch.images - start
    points, weights = np.polynomial.legendre.leggauss(whole_number(steps, "steps", 1, 1000))
    points, weights = (torch.from_numpy(v).to(start) for v in ((1 + points) / 2, weights / 2))
    total = 0
    for some in passes(steps, len(start)):
        path = start + points[some, None, None, None, None] * change  # (step, sample, channel, y, x)
        slopes = gradients(batch, path.flatten(0, 1)).unflatten(1, path.shape[:2])
        total = total + torch.einsum("k,tkscyx->tscyx", weights[some], slopes)
    maps = (total * change).sum(2)
    batch.record("completeness_gap", gap(batch, maps, start))
    return maps


@method("expected_gradients", signed=True, conserves=False, resolution=1, extras=("completeness_gap",),
        caution=DRAWN.format("0.81 to 0.86", "0.56 to 0.67"))  # fmt: skip
def expected_gradients(batch: Batch, *, samples: int = 100, background: int = 32, seed: int = 0) -> torch.Tensor:
    """Return the gradient times the difference, on average over ways from other faces, (target, sample, y, x).

    Also known as GradientSHAP. Each of `samples` pictures lies at random on the straight way from a face of the
    background (`background` usable faces of the Dataset in this condition, drawn by `seed`) to the face, one in each
    of as many equal parts of the way. A map sums on average to f(face) less the mean of f over the faces it started
    from, in output units; how far it is off is recorded as `completeness_gap`.

    Raises: InputError where samples or background is no positive whole number, or the batch comes from no Dataset.
    Source: Erion et al. 2021 (1906.10670), equation (3); Lundberg and Lee 2017 (1705.07874).
    """
    others = batch.background(whole_number(background, "background"), seed)
    count, images, total = whole_number(samples, "samples", 1, MOST_SAMPLES), batch.images, 0
    generators = draws(batch, seed, "expected_gradients")
    chosen = np.stack([generator.integers(0, len(others), count) for generator in generators], axis=1)
    place = np.stack([(np.arange(count) + generator.random(count)) / count for generator in generators], axis=1)
    chosen, place = torch.from_numpy(chosen).to(images.device), torch.from_numpy(place).to(images)  # (path, sample)
    for some in passes(count, len(images)):
        start = others[chosen[some]]  # (path, sample, channel, y, x)
        change = images - start
        path = start + place[some, :, None, None, None] * change
        slopes = gradients(batch, path.flatten(0, 1)).unflatten(1, path.shape[:2])
        total = total + (slopes * change).sum((1, 3))
    maps = total / count
    with torch.no_grad():
        ends = batch.values(batch.explained(images)) - batch.values(batch.explained(others))[chosen].mean(0)
    batch.record("completeness_gap", maps.sum((-2, -1)) - ends.T)
    return maps


@method("smoothgrad", title="SmoothGrad", signed=True, conserves=False, resolution=1, units=SLOPE,
        shows="where {} is sensitive to a change, over noisy copies",
        caution=DRAWN.format("0.74 to 0.83", "0.40 to 0.58; with 400, 0.92 to 0.96"))  # fmt: skip
def smoothgrad(batch: Batch, *, samples: int = 100, noise: float = 0.15, seed: int = 0) -> torch.Tensor:
    """Return the mean gradient over noisy copies of a face, (target, sample, y, x), in output units per unit of grey.

    The noise is Gaussian; its standard deviation is `noise` times the range of grey in the picture. It depends
    on the id of the face and on `seed` alone.

    Raises: InputError where samples is no positive whole number, or noise is negative.
    Source: Smilkov et al. 2017 (1706.03825), section 3.
    """
    whole_number(samples, "samples", 1, MOST_SAMPLES)
    noise = real_number(noise, "noise", 0, unit="in units of the range of grey in the picture")
    images, total = batch.images, 0
    width = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    generators = draws(batch, seed, "smoothgrad")
    for some in passes(samples, len(images)):
        shape = (some.stop - some.start, *images.shape[1:])
        drawn = np.stack([generator.standard_normal(shape) for generator in generators], axis=1)
        noisy = images + width * torch.from_numpy(drawn).to(images)
        total = total + gradients(batch, noisy.flatten(0, 1)).unflatten(1, noisy.shape[:2]).sum((1, 3))
    return total / samples


@method("guided_backprop", title="Guided backpropagation", signed=True, conserves=False, resolution=1, units=SLOPE,
        caution="not faithful: it restores edges of the picture, nearly whatever the network has learned",
        shows="edges of the picture, whatever {} comes from")  # fmt: skip
def guided_backprop(batch: Batch) -> torch.Tensor:
    """Return guided backpropagation, (target, sample, y, x): what a gradient is when ReLUs drop negative gradients.

    WARNING: not an explanation of the model. Its maps hardly change when weights are replaced by random ones
    (Adebayo et al. 2018, 1810.03292), because it converges to a picture of edges (Sixt, Granz and Landgraf
    2020, 1912.09818). It is here to be compared with. ReLUs are changed, as modules, as functions or in place; the
    gradient through a shunt, or through other activations, is the usual one.

    Raises: InputError for a model without a ReLU.
    Source: Springenberg et al. 2014 (1412.6806), section 3.4.
    """
    maps = torch.cat([_guided(batch, tape) for tape in batch.tapes], 1)[:, : len(batch.images)]
    return maps.to(batch.images.dtype)


def _guided(batch: Batch, tape: Tape) -> torch.Tensor:
    """Return guided backpropagation of the pictures of a tape, (target, sample, y, x)."""
    if not any(node.name == "relu" for node in tape.nodes):
        raise InputError(f"model {batch.subject.name!r} has no ReLU, which 'guided_backprop' changes")
    images = tape.images.tensor.detach().requires_grad_()
    tensors = {tape.images: images}
    for node in tape.nodes:
        made = node.again(tensors.__getitem__)
        if node.name == "relu":
            made[0].register_hook(torch.relu)
        tensors.update(zip(node.values, made, strict=False))
    values = batch.values(tensors[tape.outputs])
    return torch.stack([torch.autograd.grad(v.sum(), images, retain_graph=True)[0].sum(1) for v in values.T])
