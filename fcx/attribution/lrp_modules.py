"""Layer-wise relevance propagation through any convolutional module, with zennit.

Slower than the engine, for modules that are not a FaceChannel. Every layer that is called needs a rule, and what
is not a layer (a function in `forward`) must hand on what it gets: both are checked before anything is explained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcx.attribution.lrp_rules import SHUNT_RULES, Rule
from fcx.core.errors import InputError
from fcx.networks import torchvision_operators  # noqa: F401  zennit imports torchvision
from fcx.networks.facechannel import Shunt

# isort: split
from zennit.core import Composite, Hook
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, ZBox, ZPlus

STABILISER = 1e-12  # of rules that have no epsilon of their own
HAND_ON = (nn.MaxPool2d, nn.Flatten, nn.Unflatten, nn.BatchNorm2d)  # as a gradient; batch norm is fused
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
ELEMENTWISE = (nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout2d)


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


def zennit_composite(rule: Rule, first: nn.Module | None) -> Composite:
    """Return the zennit composite of a rule; `first` is the convolution that reads the pixels."""
    zero = ["bias"] if rule.biases == "share" else None
    convolutions = {
        "zplus": lambda: ZPlus(STABILISER, zero_params=zero),
        "epsilon": lambda: Epsilon(rule.epsilon, zero_params=zero),
        "gamma": lambda: Gamma(rule.gamma, STABILISER, zero_params=zero),
        "alpha_beta": lambda: AlphaBeta(rule.alpha, rule.alpha - 1, STABILISER, zero_params=zero),
    }
    firsts = {"flat": lambda: Flat(stabilizer=STABILISER), "zbox": lambda: ZBox(0.0, 1.0, STABILISER), "rule": None}
    for name, known in ((rule.convolution, convolutions), (rule.first, firsts)):
        if name not in known:
            words = f"explains a FaceChannel; for other modules there is {', '.join(known)}"
            raise InputError(f"the LRP rule {name!r} {words}")
    convolution = convolutions[rule.convolution]()
    pixels = convolution if rule.first == "rule" else firsts[rule.first]()
    rules = {
        Shunt: ShuntRule(SHUNT_RULES[rule.shunt]),
        nn.Conv2d: convolution,
        nn.Linear: Epsilon(rule.epsilon, zero_params=zero),
        **dict.fromkeys(ELEMENTWISE, Pass()),
        **dict.fromkeys(AVERAGES, Norm(STABILISER)),
    }
    return Composite(lambda _, __, module: pixels if module is first else rules.get(type(module)))


class Explainable:
    """A copy of a module that LRP can explain, batch norm fused, made when the first images are known."""

    def __init__(self, model: nn.Module):
        self.model, self.ready = copy.deepcopy(model).eval(), False

    def relevance(self, images: torch.Tensor, weights: torch.Tensor, rule: Rule) -> torch.Tensor:
        """Return the relevance (target, sample, y, x) of images (sample, 1, y, x) for targets (target, output).

        Raises: InputError where a layer has no rule or is called twice, where batch norm cannot be fused into
        the layer before it, or where what is not a layer creates or loses relevance.
        """
        if not self.ready:
            self._prepare(images[:1])
        return _propagate(self.model, images, weights, rule, self.first)[0]

    def _prepare(self, image: torch.Tensor) -> None:
        called = _called(self.model, image)
        _fuse(self.model, called, image)
        self.first = next((module for module in _called(self.model, image) if isinstance(module, nn.Conv2d)), None)
        _check_slopes(copy.deepcopy(self).model.double(), image.double())
        bare = copy.deepcopy(self)
        for module in bare.model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        maps, outputs = _propagate(bare.model, image, torch.eye(2).to(image), Rule(first="rule"), bare.first)
        _refuse_unless_small((maps.sum((-2, -1)) - outputs.T).abs(), maps.abs().sum((-2, -1)), outputs.abs().max())
        self.ready = True


def _check_slopes(model: nn.Module, image: torch.Tensor) -> None:
    """Refuse a module in which LRP epsilon is not the input times the gradient, both with every inhibition held fixed.

    They are the same through layers and through sums and products by constants that are written as layers: a
    mean that is written as a function gives each of its inputs the same relevance, whatever it holds.
    """
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0), dtype=image.dtype).to(image)
    images, weights = torch.cat([image, noise]), torch.eye(2).to(image)
    maps, _ = _propagate(model, images, weights, Rule("epsilon", "rule", "signal_take_all"), None)
    held = [m.register_forward_pre_hook(lambda _, given: (given[0], given[1].detach()))
            for m in model.modules() if isinstance(m, Shunt)]  # fmt: skip
    try:
        outputs = model(images.requires_grad_())
    finally:
        for hook in held:
            hook.remove()
    slopes = torch.stack([torch.autograd.grad(value.sum(), images, retain_graph=True)[0] for value in outputs.T])
    error = (maps - (images * slopes).sum(2)).abs().detach().sum((-2, -1))
    _refuse_unless_small(error, maps.abs().sum((-2, -1)), outputs.detach().abs().max())


def _refuse_unless_small(error: torch.Tensor, mass: torch.Tensor, output: torch.Tensor) -> None:
    if not (error <= 1e-3 * mass + 1e-6 * output).all():
        raise InputError(
            "LRP cannot explain this module: what it does beside its layers creates, loses or misplaces relevance "
            f"({float(error.max()):.3g} of {float(output):.3g}); "
            "write sums, means and products as layers that have a rule, or use another method"
        )


def _propagate(model, images, weights, rule: Rule, first) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps (target, sample, y, x) and outputs (sample, output)."""
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad(), zennit_composite(rule, first).context(model):
        outputs = model(images)
        starts = [outputs.detach() * w for w in weights]  # a linear target sums what its outputs receive
        maps = [torch.autograd.grad(outputs, images, start, retain_graph=True)[0] for start in starts]
    return torch.stack(maps).sum(2), outputs.detach()  # over the channels of the picture, of which there is one


def _called(model: nn.Module, image: torch.Tensor) -> list[nn.Module]:
    """Return the layers in the order in which they are called, once each of them is known to have a rule."""
    called: list[nn.Module] = []
    leaves = [module for module in model.modules() if isinstance(module, Shunt) or not any(module.children())]
    hooks = [leaf.register_forward_hook(lambda module, *_: called.append(module)) for leaf in leaves]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    allowed = (nn.Conv2d, nn.Linear, Shunt, *HAND_ON, *AVERAGES, *ELEMENTWISE)
    for module in called:
        if type(module) not in allowed:
            names = ", ".join(kind.__name__ for kind in allowed)
            raise InputError(f"LRP has no rule for the layer {type(module).__name__}; it has for {names}")
        if isinstance(module, (nn.Conv2d, nn.Linear, Shunt, *AVERAGES)) and called.count(module) > 1:
            raise InputError(f"LRP cannot explain a module that calls the same {type(module).__name__} twice")
    return called


def _fuse(model: nn.Module, called: list[nn.Module], image: torch.Tensor) -> None:
    """Make batch norm part of the layer that is called before it."""
    names = {module: name for name, module in model.named_modules()}
    with torch.no_grad():
        before = model(image)
        for layer, norm in pairwise(called):
            if isinstance(norm, nn.BatchNorm2d) and isinstance(layer, nn.Conv2d):
                model.set_submodule(names[layer], fuse_conv_bn_eval(layer, norm))
                model.set_submodule(names[norm], nn.Identity())
        left = any(isinstance(module, nn.BatchNorm2d) for module in called if module in set(model.modules()))
        if left or not torch.allclose(before, model(image), rtol=1e-3, atol=1e-5):
            raise InputError("LRP cannot explain this module: a batch norm does not follow a convolution")
