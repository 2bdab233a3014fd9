"""Rules of layer-wise relevance propagation: how a layer hands relevance down to what it reads.

A convolution that reads x >= 0 and ends in a ReLU hands on, with w = w+ + w- its positive and negative weights,

    R_j = sum over parts of c x_j W_jk / (sum_j x_j W_jk + B_k) R_k,    W = p w+ + n w-,  B = p b+ + n b-

so that a rule is a few numbers (p, n, c). The shunt y = u / (a + I) is homogeneous of degree 0 in (u, I, a), so
that gradient times input does not conserve. Every rule for it is R_u = (1 + k) R, R_I = -k R with t = I / a,
elementwise conservative; `SHUNT_RULES` holds k(t).

What is said of positive outputs holds for negative ones with the signs of weights and offsets exchanged, and of
negative x as well: what counts are the signs of contributions, and of their sum (Andeol et al. 2021, 2112.05267).

A new rule is one function below `@convolution_rule`, `@first_rule` (the convolution that reads the pixels),
`@shunt_rule`, or `@operation` for what else a network does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from fcx.core.checks import choose, real_number


class Part(NamedTuple):
    """One term of a rule: weights p w+ + n w-, and the share c of the relevance that goes through them."""

    positive: float
    negative: float
    share: float

    @property
    def mirrored(self) -> Part:
        """The same with the signs exchanged."""
        return Part(self.negative, self.positive, self.share)


BIASES = ("absorb", "share")
SUMS = ("proportional", "absolute")
CONVOLUTION_RULES: dict[str, Callable[[float, float], tuple[Part, ...]]] = {}
FIRST_RULES: dict[str, Callable] = {}  # in `lrp_layers`, whose sums they need
SHUNT_RULES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
OPERATIONS: dict[str, Callable] = {}  # in `lrp_layers` and `lrp_operations`


def convolution_rule(function):
    """Register a function (gamma, alpha) -> terms as the rule of convolutions that has its name."""
    CONVOLUTION_RULES[function.__name__] = function
    return function


def first_rule(function):
    """Register a function (sweep, layer, m) as the first rule that has its name: the relevance of the layer is
    `layer.activation` times m, and what becomes of it, (target, sample, channel, y, x) of what the layer reads, goes to
    the pixels (`sweep.carry`)."""
    FIRST_RULES[function.__name__] = function
    return function


def operation(*names: str):
    """Register a function (sweep, node, m) as the rule of the operations `names` of `torch.ops.aten`.

    The relevance of a value is value times m, m (target, ...) a `Multiplier`; the function gives each value that the
    node read its own (`sweep.give`), and books what biases and stabilisers absorb (`sweep.absorb`).
    """

    def register(function):
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return register


def shunt_rule(function):
    """Register a function t -> k as the rule of the shunt that has its name."""
    SHUNT_RULES[function.__name__] = function
    return function


@convolution_rule
def zplus(gamma: float, alpha: float) -> tuple[Part, ...]:
    """Return z+: what excites (Montavon et al. 2017, 1512.02479)."""
    return (Part(1, 0, 1),)


@convolution_rule
def epsilon(gamma: float, alpha: float) -> tuple[Part, ...]:
    """Return epsilon: the weights as they are (Bach et al. 2015)."""
    return (Part(1, 1, 1),)


@convolution_rule
def gamma(gamma: float, alpha: float) -> tuple[Part, ...]:
    """Return gamma: w + gamma w+ (Montavon et al. 2019)."""
    return (Part(1 + gamma, 1, 1),)


@convolution_rule
def alpha_beta(gamma: float, alpha: float) -> tuple[Part, ...]:
    """Return alpha-beta, beta = alpha - 1 (Bach et al. 2015)."""
    return (Part(1, 0, alpha), Part(0, 1, 1 - alpha))


@shunt_rule
def signal_take_all(t: torch.Tensor) -> torch.Tensor:
    """Return k = 0: inhibition is a gate and gets no relevance (Arras et al. 2017, 1706.07206)."""
    return torch.zeros_like(t)


@shunt_rule
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


@shunt_rule
def normalised_taylor(t: torch.Tensor) -> torch.Tensor:
    """Return k = t / (1 + t + t^2) <= 1/3, from first-order terms around I = 0, normalised to the whole.

    The terms are u df/du at (u, 0) and I df/dI at (u, I). Source: after Binder et al. 2016 (1604.00825).

    >>> normalised_taylor(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.3333])
    """
    return 1 / (1 + t + 1 / t)  # 1/t is infinite at t = 0, and k is 0 there


@dataclass(frozen=True)
class Rule:
    """What LRP does in each kind of layer, by name.

    `convolution`: "zplus" (Montavon et al. 2017, 1512.02479), "epsilon", "gamma" (Montavon et al. 2019,
    https://doi.org/10.1007/978-3-030-28954-6_10) or "alpha_beta" (Bach et al. 2015, with beta = alpha - 1).
    `first`, of the convolution that reads the pixels: "flat" (Lapuschkin et al. 2019, 1902.10178), "zbox" for
    pixels in [0, 1] (Montavon et al. 2017), or "rule", as the others. `shunt`: a name in `SHUNT_RULES`. Dense
    layers take the epsilon rule. `biases`: "absorb" their share (Bach et al. 2015), or "share": left out of
    the denominators, so that their relevance goes to the inputs in the proportion of the others. `sums`, of two
    signals: "proportional", or in proportion to what is "absolute" (Otsuki et al. 2024, 2407.09115).

    Raises: UnknownNameError for a name that does not exist; InputError for a number out of its range.
    """

    convolution: str = "zplus"
    first: str = "flat"
    shunt: str = "aumann_shapley"
    biases: str = "absorb"
    sums: str = "proportional"
    epsilon: float = 1e-12
    gamma: float = 0.03
    alpha: float = 2.0

    def __post_init__(self):
        choose(self.convolution, CONVOLUTION_RULES, "rule of convolutions")
        choose(self.first, FIRST_RULES, "rule of the first convolution")
        choose(self.shunt, SHUNT_RULES, "shunt rule")
        choose(self.biases, BIASES, "treatment of biases")
        choose(self.sums, SUMS, "treatment of sums")
        numbers = {
            "epsilon": real_number(self.epsilon, "epsilon", above=0, unit="in output units of a layer"),
            "gamma": real_number(self.gamma, "gamma", 0),
            "alpha": real_number(self.alpha, "alpha", 1, unit="beta is alpha - 1"),
        }
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms of the rule of convolutions; of those with a share of 0 there are none."""
        return tuple(part for part in CONVOLUTION_RULES[self.convolution](self.gamma, self.alpha) if part.share)

    @property
    def stabiliser(self) -> float:
        """What convolutions add to their denominators: epsilon in the rule of that name, else 0."""
        return self.epsilon if self.convolution == "epsilon" else 0.0
