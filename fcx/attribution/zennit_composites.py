"""LRP by composites of zennit, for networks of which its hooks see all; others are refused.

zennit hooks rules to modules, and takes the gradient of what is none: a sum of two branches, a product, an average or
an activation that is a function counts twice or not at all. So two pictures are tried first, by the epsilon rule
without biases, whose relevance must sum to the outputs. `fcx.attribution.lrp` explains what is refused, with a ledger.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from fcx.attribution.batch import Batch, Subject
from fcx.attribution.lrp_rules import SHUNT_RULES
from fcx.attribution.peers import MISSES
from fcx.attribution.registry import method
from fcx.core.checks import choose, real_number
from fcx.core.errors import InputError
from fcx.networks.facechannel import Shunt
from fcx.networks.inputs import Network

EXACT = 1e-3  # of an output: what the sum of its relevance may lack, for rounding alone
OTHER_LRP = "use lrp, lrp_epsilon or lrp_gamma"
COMPOSITES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat",
              "epsilon_gamma_box")  # fmt: skip


class HandsOn(nn.Module):
    """A shunt whose gradient hands on relevance: (1 + k) R to what excites, -k R to what inhibits."""

    def __init__(self, shunt: Shunt, rule: str):
        super().__init__()
        self.shunt, self.rule = shunt, rule

    def forward(self, u: torch.Tensor, inhibition: torch.Tensor) -> torch.Tensor:
        """Return what the shunt gives, (sample, channel, row, column)."""
        k = SHUNT_RULES[self.rule](inhibition.detach() / self.shunt.decay[:, None, None])
        slopes = (1 + k) * (u - u.detach()) - k * (inhibition - inhibition.detach())
        return self.shunt(u, inhibition).detach() + slopes


def prepared(model: nn.Module, shunt_rule: str) -> nn.Module:
    """Return a copy for zennit's hooks: batch norm fused, a shunt that hands on relevance, and no normalisation of
    pixels, which are normalised before.

    Raises: InputError for TorchScript, and for batch norm that follows no layer.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError("zennit cannot explain TorchScript, which hides its layers: " + OTHER_LRP)
    peer = copy.deepcopy(model)
    leaves = [(name, module) for name, module in peer.named_modules() if not any(module.children())]
    for (name, layer), (after, norm) in pairwise(leaves):
        fuse = {nn.Conv2d: fuse_conv_bn_eval, nn.Linear: fuse_linear_bn_eval}.get(type(layer))
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and fuse and len(layer.weight) == norm.num_features:
            peer.set_submodule(name, fuse(layer, norm))
            peer.set_submodule(after, nn.Identity())
    for name, module in list(peer.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            raise InputError(f"zennit has no rule for batch norm that follows no layer, such as {name!r}: {OTHER_LRP}")
        if isinstance(module, Shunt):
            peer.set_submodule(name, HandsOn(module, shunt_rule))
    if isinstance(peer, Network):
        peer.mean, peer.std = torch.zeros_like(peer.mean), torch.ones_like(peer.std)
    return peer


def normalised(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return pictures (sample, channel, y, x) as what a network wraps reads them."""
    return model.normalised(images) if isinstance(model, Network) else images


def relevance(peer: nn.Module, images: torch.Tensor, weights: torch.Tensor, composite) -> torch.Tensor:
    """Return the relevance (target, sample, y, x) that a composite of zennit gives the targets (target, output)."""
    images = images.detach().clone().requires_grad_()
    with composite.context(peer):
        outputs = Batch(Subject("", peer), images).explained(images)
        starts = [outputs.detach() * weight for weight in weights]
        maps = [torch.autograd.grad(outputs, images, start, retain_graph=True)[0] for start in starts]
    return torch.stack(maps).sum(2)


def check_relevance(model: nn.Module, shape: torch.Size) -> bool:
    """Return True for a network of which zennit's hooks see all: relevance without biases sums to the outputs.

    Tried on two pictures of noise of a `shape` (channel, y, x), in float64.

    Raises: InputError.
    """
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    model = copy.deepcopy(model).double()
    noise = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = noise.to(next(model.parameters(), noise).device)
    rules = [*layer_map_base(1e-30), (Linear, Epsilon(1e-30, zero_params=["bias"]))]
    composite = LayerMapComposite(rules, residual_sums())
    try:
        peer, images = prepared(model, "aumann_shapley"), normalised(model, noise)
        with torch.no_grad():
            answers = [Batch(Subject("", one), x).explained(x) for one, x in ((model, noise), (peer, images))]
        maps = relevance(peer, images, torch.eye(answers[0].shape[1]).to(images), composite)
    except InputError:  # which says why
        raise
    except MISSES as error:  # of layers that run twice, read several values, or know float32 only
        raise InputError(f"zennit cannot go back through this network ({error}): {OTHER_LRP}") from error
    # Beside the outputs, not beside what is distributed: relevance that explodes hides what a sum lacks.
    lacking = ((maps.sum((-2, -1)) - answers[0].T).abs() - 1e-12) / answers[0].abs().max()
    if not torch.allclose(*answers, rtol=1e-6, atol=1e-12):
        raise InputError(f"zennit needs batch norm that follows the layer before it among its modules: {OTHER_LRP}")
    if not (lacking <= EXACT).all():
        raise InputError(
            f"zennit's hooks do not see all that this network does: relevance differs from the output by "
            f"{float(lacking.max()):.1g} of it. Sums, products, averages and activations have to be "
            f"modules that zennit knows: {OTHER_LRP}"
        )
    return True


def residual_sums() -> list:
    """Return zennit's canonizers of the sums of torchvision's ResNets."""
    from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer

    return [ResNetBasicBlockCanonizer(), ResNetBottleneckCanonizer()]


@method("zennit", title="LRP by zennit", signed=True, conserves=False, resolution=1)
def zennit(batch: Batch, *, composite: str = "epsilon_plus_flat", shunt_rule: str = "aumann_shapley",
           epsilon: float = 1e-6) -> torch.Tensor:  # fmt: skip
    """Return LRP by a composite of zennit, (target, sample, y, x), in output units.

    `composite` is a name in `COMPOSITES`: epsilon in dense layers, and z+, alpha-beta or gamma in convolutions. Batch
    norm is fused, and a shunt hands on relevance by `shunt_rule`, a name in `SHUNT_RULES`. `epsilon` is that of dense
    layers, in units of their outputs. What biases absorb is in no ledger.

    Raises: UnknownNameError for a composite or rule that does not exist; InputError where epsilon is not positive, or
    for a network of which zennit's hooks do not see all.
    Source: Anders et al. 2021 (2106.13200).
    """
    from fcx.networks import torchvision_operators  # noqa: F401  zennit imports torchvision

    # isort: split
    from zennit.composites import COMPOSITES as NAMED

    choose(composite, COMPOSITES, "composite")
    choose(shunt_rule, SHUNT_RULES, "shunt rule")
    rules = {"epsilon": real_number(epsilon, "epsilon", above=0), "canonizers": residual_sums()}
    batch.subject.once(check_relevance, batch.images.shape[1:])
    peer = batch.subject.once(prepared, shunt_rule)
    if composite == "epsilon_gamma_box":
        ends = (normalised(batch.model, torch.full_like(batch.images, value)) for value in (0, 1))
        rules |= dict(zip(("low", "high"), ends, strict=True))
    return relevance(peer, normalised(batch.model, batch.images), batch.weights, NAMED[composite](**rules))
