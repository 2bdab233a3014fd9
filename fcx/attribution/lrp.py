"""Layer-wise relevance propagation through a FaceChannel and its shunting inhibition, with zennit.

Relevance starts as the output f itself (before the activation of a tanh head; never |f| or 1), so that
positive relevance pushes toward +arousal or +valence and sums are in output units. Dense layers use the
epsilon rule (Bach et al. 2015), convolutions z+ (Montavon et al. 2017), the first convolution the flat rule
(Lapuschkin et al. 2019), max-pooling hands everything to the winner. Biases take part in the denominators
of z+ and epsilon and absorb their share; without biases the pixels sum to f.

The shunt y = u / (a + I) is homogeneous of degree 0 in (u, I, a), so gradient times input does not conserve.
Every rule here is R_u = (1 + k) R, R_I = -k R with t = I / a, elementwise conservative; `SHUNT_RULES` holds k(t).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcx.attribution import torchvision_operators  # noqa: F401  zennit imports torchvision
from fcx.attribution.methods import Batch, method
from fcx.contract import FcxError, InputError, choose
from fcx.model import FaceChannel, Shunt

# isort: split
from zennit.core import Composite, Hook
from zennit.rules import Epsilon, Flat, Pass


def signal_take_all(t: torch.Tensor) -> torch.Tensor:
    """Return k = 0: inhibition is a gate and gets no relevance (Arras et al. 2017, 1706.07206)."""
    return torch.zeros_like(t)


def aumann_shapley(t: torch.Tensor) -> torch.Tensor:
    """Return k = (1 + 1/t) ln(1 + t) - 1, from the gradient integrated along the straight path from (0, 0) to (u, I).

    Computed in float64, and below t = 1e-3 by its series, because the closed form loses digits there and is
    NaN at 0. Source: Sundararajan et al. 2017 (1703.01365), equation (1), solved for the shunt.

    >>> aumann_shapley(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.3863])
    """
    wide = t.double()
    small = wide < 1e-3
    safe = torch.where(small, 1, wide)
    series = wide * (1 / 2 - wide * (1 / 6 - wide * (1 / 12 - wide * (1 / 20 - wide / 30))))
    return torch.where(small, series, (1 + 1 / safe) * safe.log1p() - 1).to(t.dtype)


def normalised_taylor(t: torch.Tensor) -> torch.Tensor:
    """Return k = t / (1 + t + t^2) <= 1/3, from first-order terms around I = 0, normalised to the whole.

    The terms are u df/du at (u, 0) and I df/dI at (u, I). Source: after Binder et al. 2016 (1604.00825).

    >>> normalised_taylor(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.3333])
    """
    return 1 / (1 + t + 1 / t)  # 1/t is infinite at t = 0, and k is 0 there


SHUNT_RULES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "signal_take_all": signal_take_all,
    "aumann_shapley": aumann_shapley,
    "normalised_taylor": normalised_taylor,
}


class ShuntRule(Hook):
    """Hands the relevance of y = u / (a + I) to its two inputs: (1 + k) R and -k R."""

    def __init__(self, rule: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.rule = rule

    def copy(self) -> ShuntRule:
        """Return a hook of the same rule (zennit takes one for each module)."""
        return ShuntRule(self.rule)

    def forward(self, module: Shunt, input, output) -> None:
        """Remember t = I / a."""
        self.stored_tensors["t"] = input[1].detach() / module.decay.detach()[:, None, None]

    def backward(self, module: Shunt, grad_input, grad_output) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the relevance of u and of I, one for each input."""
        relevance = grad_output[0]
        k = self.rule(self.stored_tensors["t"])
        return (1 + k) * relevance, -k * relevance


class ZPlus(Hook):
    """R_j = sum_k x_j w+_jk / (sum_j x_j w+_jk + b+_k) R_k, for inputs that are never negative.

    zennit's rule of this name has a second term for negative inputs: behind a ReLU it is zero, and costs as
    much as the first. Here the denominator is computed once for all targets.
    """

    def copy(self) -> ZPlus:
        """Return another hook (zennit takes one for each module)."""
        return ZPlus()

    def forward(self, module: nn.Conv2d, input, output) -> None:
        """Remember x, w+ and the denominator z."""
        x, weight = input[0].detach(), module.weight.clamp(min=0)
        bias = None if module.bias is None else module.bias.clamp(min=0)
        z = F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)
        # Where z = 0 the unit is silent and hands nothing on; elsewhere no stabiliser is needed.
        self.stored_tensors.update(x=x, weight=weight, z=torch.where(z > 0, z, torch.inf))

    def backward(self, module: nn.Conv2d, grad_input, grad_output) -> tuple[torch.Tensor]:
        """Return the relevance of the inputs."""
        x, weight, z = (self.stored_tensors[name] for name in ("x", "weight", "z"))
        shares = conv2d_input(
            x.shape, weight, grad_output[0] / z, module.stride, module.padding, module.dilation, module.groups
        )
        return (x * shares,)


def composite(first: nn.Module, shunt_rule: str, epsilon: float) -> Composite:
    """Return the zennit composite; `first` is the convolution that reads the pixels.

    Raises: UnknownNameError for another shunt rule; InputError where epsilon is not positive.
    """
    choose(shunt_rule, SHUNT_RULES, "shunt rule")
    if not isinstance(epsilon, int | float) or not epsilon > 0:
        raise InputError(f"epsilon is {epsilon!r}; allowed: a positive number, in output units of a dense layer")
    rules = {
        Shunt: ShuntRule(SHUNT_RULES[shunt_rule]),
        nn.Conv2d: ZPlus(),
        nn.Linear: Epsilon(epsilon),
        nn.ReLU: Pass(),
    }
    flat = Flat(stabilizer=1e-12)  # its denominators count pixels
    return Composite(lambda context, name, module: flat if module is first else rules.get(type(module)))


def fuse_batch_norm(model: FaceChannel) -> FaceChannel:
    """Return a copy whose batch norm is part of the convolutions before it, with equal outputs.

    Raises: FcxError where the outputs differ by more than rounding.
    """
    fused = copy.deepcopy(model)
    for (name, layer), (next_name, following) in pairwise(list(fused.trunk.named_children())):
        if isinstance(following, nn.BatchNorm2d):
            fused.trunk.set_submodule(name, fuse_conv_bn_eval(layer, following))
            fused.trunk.set_submodule(next_name, nn.Identity())
    weight = fused.head.weight
    probe = torch.linspace(0, 1, model.config.size**2, dtype=weight.dtype, device=weight.device)
    probe = probe.view(1, 1, model.config.size, -1)
    with torch.no_grad():
        before, after = model.features(probe), fused.features(probe)
    scale, error = before.abs().max(), (before - after).abs().max()
    if error > 1e4 * torch.finfo(weight.dtype).eps * scale:
        raise FcxError(f"fusing batch norm changed the features by {error:g} of {scale:g}: report this model")
    return fused


@method("lrp", signed=True, conserves=True, resolution=1, needs=FaceChannel)
def relevance(batch: Batch, *, shunt_rule: str = "signal_take_all", epsilon: float = 1e-12) -> torch.Tensor:
    """Return the relevance of each pixel for each output, (target, sample, y, x), in output units.

    On a model without biases |sum R - f| <= 1e-5 sum|R|. `shunt_rule` is a name in `SHUNT_RULES`;
    `epsilon` is that of the dense layers.

    Raises: UnknownNameError for another shunt rule; InputError where epsilon is not positive.
    """
    model = batch.subject.once(fuse_batch_norm)
    images = batch.images.detach().clone().requires_grad_()
    with composite(model.trunk[0], shunt_rule, epsilon).context(model):
        outputs = model.tail(model.features(images))
        maps = []
        for target in batch.targets:
            start = torch.zeros_like(outputs)
            start[:, target] = outputs[:, target].detach()
            maps.append(torch.autograd.grad(outputs, images, start, retain_graph=True)[0])
    return torch.stack(maps).sum(2)  # over the channels of the picture, of which there is one
