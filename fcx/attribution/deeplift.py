"""DeepLift: of a FaceChannel through max-pooling and the shunt, of other networks by captum.

captum's DeepLift has no rule for a division, and takes its gradient; its rule for max-pooling loses part of the
difference. Its maps of a FaceChannel do not add up (the tests show by how much). Here every layer is replaced by
a linear one with the same outputs at the face and at its baseline, so that the usual gradient of the whole is
DeepLift's multiplier, and all targets share one pass.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fcx.attribution.batch import Batch
from fcx.attribution.fills import filled
from fcx.attribution.gradient import gap
from fcx.attribution.peers import check_sums, deeplift_maps
from fcx.attribution.registry import method
from fcx.core.checks import whole_number
from fcx.networks.facechannel import FaceChannel, Shunt

Pair = tuple[torch.Tensor, torch.Tensor]  # of a face, with a graph, and of its baseline, without


def _with_slopes(value: torch.Tensor, *linear: torch.Tensor) -> torch.Tensor:
    """Return `value` without its graph, with the graph of the sum of `linear` in its place."""
    total = sum(linear)
    return value.detach() + total - total.detach()


def _ratio(change: torch.Tensor, by: torch.Tensor, otherwise: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Return change / by, and `otherwise` where `by` is zero."""
    return torch.where(by == 0, otherwise, change / torch.where(by == 0, 1, by))


def relu(x: torch.Tensor, x0: torch.Tensor) -> Pair:
    """Rescale rule: the slope is that of the line through both points; the gradient where they are one."""
    y, y0, fixed = x.relu(), x0.relu(), x.detach()
    slope = _ratio(y.detach() - y0, fixed - x0, (fixed > 0).to(x))
    return _with_slopes(y, slope * x), y0


def max_pool(x: torch.Tensor, x0: torch.Tensor, pool: nn.MaxPool2d) -> Pair:
    """A rise is due to the winner of the face, a fall to that of the baseline."""
    shape, (x, x0) = x.shape, (v.contiguous() for v in (x, x0))
    place, place0 = (
        F.max_pool2d(v.detach(), pool.kernel_size, pool.stride, pool.padding, return_indices=True)[1] for v in (x, x0)
    )

    def at(values, index):
        return values.flatten(2).gather(2, index.flatten(2)).view(*shape[:2], *index.shape[2:])

    y, y0, fixed = at(x, place), at(x0, place0), x.detach()
    change = y.detach() - y0
    rise = _ratio(change.clamp(min=0), at(fixed, place) - at(x0, place))
    fall = _ratio(change.clamp(max=0), at(fixed, place0) - at(x0, place0))
    return _with_slopes(y, rise * y, fall * at(x, place0)), y0


def shunting(u: Pair, inhibition: Pair, shunt: Shunt) -> Pair:
    """The Shapley values of u and I: y = u v, v = 1 / (a + I), changes by (u - u0) (v + v0)/2 + (v - v0) (u + u0)/2.

    v - v0 = -(I - I0) v v0, so that no multiplier divides by a difference.
    Source: Lundberg and Lee 2017 (1705.07874), section 2.3, for a game of two.
    """
    a = shunt.decay[:, None, None]
    v, v0 = (1 / (a + i.detach()) for i in inhibition)
    of_u, of_i = (v + v0) / 2, -(u[0].detach() + u[1]) / 2 * v * v0
    return _with_slopes(u[0].detach() * v, of_u * u[0], of_i * inhibition[0]), u[1] * v0


def through(layer: nn.Module, x: torch.Tensor, x0: torch.Tensor) -> Pair:
    """Return what a layer makes of both; layers that are linear once trained are as they are."""
    if isinstance(layer, nn.ReLU):
        return relu(x, x0)
    if isinstance(layer, nn.MaxPool2d):
        return max_pool(x, x0, layer)
    return layer(x), layer(x0)


def facechannel_maps(batch: Batch, start: torch.Tensor) -> torch.Tensor:
    """Return DeepLift of a FaceChannel from the pictures `start`, (target, sample, y, x)."""
    model, images = batch.model, batch.images.detach().clone().requires_grad_()
    x, x0 = images, start
    for layer in model.trunk:
        x, x0 = through(layer, x, x0)
    features = through(model.relu10, model.conv10(x), model.conv10(x0))
    if model.config.shunt != "none":
        inhibition = through(model.relu_inhibitory, model.inhibitory(x), model.inhibitory(x0))
        features = shunting(features, inhibition, model.shunt)
    x, x0 = features
    for layer in model.tail_layers():
        x, x0 = through(layer, x, x0)
    slopes = [torch.autograd.grad(value.sum(), images, retain_graph=True)[0] for value in batch.values(x).T]
    return (torch.stack(slopes) * (images.detach() - start))[:, :, 0]


def maps_from(batch: Batch, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return DeepLift from the pictures `start`, (target, sample, y, x), and what it lacks, (target, sample).

    Raises: InputError for a network that is no FaceChannel and of which captum's do not add up.
    """
    own = isinstance(batch.model, FaceChannel)
    maps = (facechannel_maps if own else deeplift_maps)(batch, start)
    gaps = gap(batch, maps, start)
    if not own:
        check_sums(batch, maps, gaps)
    return maps, gaps


@method("deeplift", title="DeepLift", signed=True, conserves=False, resolution=1, extras=("completeness_gap",))
def deeplift(batch: Batch, *, baseline: str = "black") -> torch.Tensor:
    """Return DeepLift (rescale rule) of the face against a baseline, (target, sample, y, x), in output units.

    A map sums to f(face) - f(baseline), but for rounding, which is recorded as `completeness_gap`. The shunt of a
    FaceChannel hands on Shapley values (`shunting`); other networks are explained by captum.

    Raises: UnknownNameError for a baseline that is not in `fcx.attribution.FILLS`; InputError for a network of which
    captum's maps do not add up.
    Source: Shrikumar, Greenside and Kundaje 2017 (1704.02685), section 3.5.1; Lundberg and Lee 2017.
    """
    maps, gaps = maps_from(batch, filled(batch, baseline))
    batch.record("completeness_gap", gaps)
    return maps


@method("deeplift_shap", title="DeepLiftSHAP", signed=True, conserves=False, resolution=1, extras=("completeness_gap",))
def deeplift_shap(batch: Batch, *, background: int = 32, seed: int = 0) -> torch.Tensor:
    """Return the mean of DeepLift over other faces as baselines, (target, sample, y, x), in output units.

    `background` usable faces of the Dataset in this condition are drawn by `seed`, the same for every face. A map sums
    to f(face) less the mean of f over them, but for rounding, which is recorded as `completeness_gap`.

    Raises: InputError where background is no positive whole number, the batch comes from no Dataset, or as `deeplift`.
    Source: Lundberg and Lee 2017 (1705.07874), section 4.2, Deep SHAP.
    """
    others = batch.background(whole_number(background, "background"), seed)
    parts = [maps_from(batch, other.expand_as(batch.images)) for other in others]
    maps, gaps = (sum(each) / len(others) for each in zip(*parts, strict=True))
    batch.record("completeness_gap", gaps)
    return maps
