"""fcx's LRP rules as composites of zennit, which the engine is held against."""

from fcx.attribution.lrp_rules import SHUNT_RULES
from fcx.networks import torchvision_operators  # noqa: F401  zennit imports torchvision
from fcx.networks.facechannel import Shunt

# isort: split
from torch import nn
from zennit.core import Composite, Hook
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, ZBox, ZPlus

STABILISER = 1e-12  # of rules that have no epsilon of their own


class ShuntRule(Hook):
    """Hands the relevance of y = u / (a + I) to its two inputs: (1 + k) R and -k R."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def copy(self):
        return ShuntRule(self.rule)

    def forward(self, module, input, output):
        self.stored_tensors["t"] = input[1].detach() / module.decay.detach()[:, None, None]

    def backward(self, module, grad_input, grad_output):
        relevance = grad_output[0]
        k = self.rule(self.stored_tensors["t"])
        return (1 + k) * relevance, -k * relevance


def zennit_composite(rule, first):
    """Return the zennit composite of a rule; `first` is the convolution that reads the pixels."""
    zero = ["bias"] if rule.biases == "share" else None
    convolution = {
        "zplus": lambda: ZPlus(STABILISER, zero_params=zero),
        "epsilon": lambda: Epsilon(rule.epsilon, zero_params=zero),
        "gamma": lambda: Gamma(rule.gamma, STABILISER, zero_params=zero),
        "alpha_beta": lambda: AlphaBeta(rule.alpha, rule.alpha - 1, STABILISER, zero_params=zero),
    }[rule.convolution]()
    pixels = {"flat": Flat(stabilizer=STABILISER), "zbox": ZBox(0.0, 1.0, STABILISER)}.get(rule.first, convolution)
    rules = {
        Shunt: ShuntRule(SHUNT_RULES[rule.shunt]),
        nn.Conv2d: convolution,
        nn.Linear: Epsilon(rule.epsilon, zero_params=zero),
        **dict.fromkeys((nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout2d), Pass()),
        **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d), Norm(STABILISER)),
    }
    return Composite(lambda _, __, module: pixels if module is first else rules.get(type(module)))
