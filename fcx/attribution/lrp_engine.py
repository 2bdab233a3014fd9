"""LRP and gradients of any network: its tapes, the way back over them, and what float32 leaves open done again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcx.attribution.lrp_check import CLOSED, EPS, check_closed, check_rule, check_tapes
from fcx.attribution.lrp_rules import Rule
from fcx.attribution.lrp_sweep import Reference, Slopes, Sweep
from fcx.attribution.lrp_tape import Tape
from fcx.attribution.lrp_values import Constants
from fcx.core.contract import GRID
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import piece_of


class Relevance(NamedTuple):
    """Where the relevance of each target went.

    `maps` (target, sample, y, x), in output units; `value` (target, sample) float64, the output less the reference
    value; `ledger` layer -> (bias or stabiliser, target, sample) float64, what the biases and the stabilisers of each
    layer absorbed, summed on the way down, so that a map and its ledger add up to the value up to rounding. Samples for
    which rounding would exceed `CLOSED` of sum |R| are done again in double precision; "rounding" is then what
    separates their output from that in single precision.
    """

    maps: torch.Tensor
    value: torch.Tensor
    ledger: dict[str, torch.Tensor]

    @property
    def absorbed(self) -> torch.Tensor:
        """What all layers absorbed, (bias or stabiliser, target, sample)."""
        nothing = self.maps.new_zeros(2, *self.maps.shape[:2], dtype=torch.float64)
        return sum(self.ledger.values(), nothing)

    @property
    def left(self) -> torch.Tensor:
        """What the ledger lacks, (target, sample)."""
        return self.maps.sum((-2, -1), dtype=torch.float64) + self.absorbed.sum(0) - self.value

    @property
    def mass(self) -> torch.Tensor:
        """Sum |R|, (target, sample), of what is left where finer pixels than the grid's are summed into it."""
        maps = self.maps
        if min(maps.shape[-2:]) > GRID:
            maps = F.adaptive_avg_pool2d(maps, GRID) * (maps[0, 0].numel() / GRID**2)
        return maps.abs().sum((-2, -1), dtype=torch.float64)

    @property
    def booked(self) -> torch.Tensor:
        """The absolute amounts of the ledger and of the value together, (target, sample)."""
        return sum((amounts.abs().sum(0) for amounts in self.ledger.values()), self.value.abs())

    @property
    def open(self) -> torch.Tensor:
        """Whether the ledger lacks more than `CLOSED` of sum |R|, or would but for luck, (target, sample)."""
        hidden = (self.mass > 0) & (CLOSED * self.mass < EPS * self.booked)  # in the rounding of what is booked
        return ~(self.left.abs() <= CLOSED * self.mass) | hidden  # NaN is open too

    @classmethod
    def joined(cls, parts: Sequence[Relevance], count: int) -> Relevance:
        """Return the first `count` samples of all parts."""
        nothing = torch.zeros_like(parts[0].absorbed)  # of a part: each has as many samples
        names = dict.fromkeys(name for part in parts for name in part.ledger)
        ledger = {
            name: torch.cat([part.ledger.get(name, nothing) for part in parts], -1)[..., :count] for name in names
        }
        maps, value = (torch.cat([getattr(part, name) for part in parts], 1)[:, :count] for name in ("maps", "value"))
        return cls(maps, value, ledger)


class Engine:
    """A model as the engine sees it: a copy whose batch norm is fused where that is simple, and its constants."""

    def __init__(self, model: nn.Module):
        self.model = fuse_batch_norm(model) if isinstance(model, FaceChannel) else _with_gradients(model)
        self.constants = Constants(self.model)
        self.piece = piece_of(model)  # images of one pass
        self.memory: dict = {}  # what was worked out with this model and may be asked for again
        self._checked: set = set()
        self._patterns: dict[tuple, Tape] = {}
        self._same = type(self.model) is FaceChannel and all(_is_known(part) for part in self.model.modules())

    @cached_property
    def wide(self) -> Engine:
        """The same in double precision."""
        wide = copy.copy(self)
        wide.model = copy.deepcopy(self.model).double()
        wide.constants, wide._patterns = Constants(wide.model), {}
        return wide

    def answer(self, images: torch.Tensor, tape: Tape) -> torch.Tensor:
        """Return the outputs that are explained: before the activation of a tanh head."""
        if isinstance(self.model, FaceChannel):
            return self.model.tail(tape.mark("features", self.model.features(images)))
        return self.model(images)

    def tape(self, images: torch.Tensor) -> Tape:
        """Return the tape of one pass of images (sample, channel, y, x), all at once.

        A FaceChannel of known parts does the same to all pictures, so that its pass is recorded once and then followed.
        """
        if not self._same:
            return self.recorded(images)
        key = images.shape, images.device, bool((images >= 0).all())
        if key in self._patterns:
            return self._patterns[key].of(images)
        tape = self.recorded(images)
        self._patterns[key] = tape.pattern()
        return tape

    @torch.inference_mode(False)  # in which torch dispatches whole operations, for which there is no rule
    def recorded(self, images: torch.Tensor) -> Tape:
        """Return the tape of one pass of images (sample, channel, y, x), recorded."""
        images = images.clone() if images.is_inference() else images
        return Tape(self.answer, images, self.constants, widens=isinstance(self.model, FaceChannel))

    def tapes(self, images: torch.Tensor) -> Iterator[Tape]:
        """Yield the tape of every `piece` images, the last one repeated to fill the last piece.

        Convolutions of another number of images round otherwise.
        """
        for some in images.split(self.piece):
            yield self.tape(torch.cat([some, some[-1:].expand(self.piece - len(some), *some.shape[1:])]))

    @torch.inference_mode(False)
    def gradient(self, tapes: Iterable[Tape], weights: torch.Tensor, count: int) -> torch.Tensor:
        """Return d value / d pixel, (target, sample, channel, y, x), of the targets `weights` (target, output)."""
        return torch.cat([Slopes(tape, weights).gradient() for tape in tapes], 1)[:, :count]

    @torch.inference_mode(False)
    def relevance(self, images: torch.Tensor, weights: torch.Tensor, rule: Rule, reference: Reference | None = None,
                  tapes: Iterable[Tape] | None = None) -> Relevance:  # fmt: skip
        """Return the relevance of images (sample, channel, y, x) for the targets `weights` (target, output).

        Raises: InputError where the network, or a rule, cannot be trusted to explain it, or where a ledger stays open.

        >>> engine = Engine(FaceChannel.preset("paper", width=8))  # doctest: +SKIP
        >>> engine.relevance(torch.rand(3, 1, 64, 64), torch.eye(2), Rule()).maps.shape  # doctest: +SKIP
        torch.Size([2, 3, 64, 64])
        """
        images, weights = (one.clone() if one.is_inference() else one for one in (images, weights))
        self.check(images, weights, rule)
        whole = self._down(self.tapes(images) if tapes is None else tapes, len(images), weights, rule, reference)
        if images.dtype == torch.float64:
            check_closed(whole, reference)
            return whole
        rows = whole.open.any(0).nonzero()[:, 0]
        if len(rows):
            wide = self.wide
            again = wide._down(wide.tapes(images[rows].double()), len(rows), weights, rule, reference)
            check_closed(again, reference)
            rounding = whole.value[:, rows] - again.value
            again.ledger["rounding"] = torch.stack([torch.zeros_like(rounding), rounding])
            nothing = torch.zeros_like(whole.absorbed)
            whole.maps[:, rows] = again.maps.to(whole.maps.dtype)
            for name in {**whole.ledger, **again.ledger}:
                whole.ledger.setdefault(name, nothing.clone())[..., rows] = again.ledger.get(name, nothing[..., rows])
        return whole

    def _down(self, tapes: Iterable[Tape], count: int, weights: torch.Tensor, rule: Rule,
              reference: Reference | None) -> Relevance:  # fmt: skip
        """Return the relevance of the first `count` pictures of some tapes, as it comes."""
        parts = []
        for tape in tapes:
            sweep = Sweep(tape, weights, rule).start(reference).run()
            parts.append(Relevance(sweep.maps().sum(2), sweep.value, sweep.ledger))
            del tape, sweep  # before the next tape takes as much memory again
        return Relevance.joined(parts, count)

    @torch.enable_grad()
    def check(self, images: torch.Tensor, weights: torch.Tensor, rule: Rule) -> None:
        """Refuse a network, or a rule in it, whose maps would be wrong: once for each, on two pictures in float64.

        Raises: InputError that says what is wrong.
        """
        if rule in self._checked:
            return
        wide, some = self.wide, images[:1].double()
        noise = torch.rand(some.shape, generator=torch.Generator().manual_seed(0), dtype=some.dtype).to(some)
        tape = wide.recorded(torch.cat([some, noise]))
        if not self._checked:
            check_tapes(tape, wide.recorded(torch.cat([noise.flip(-1) ** 2, some])), weights)
        check_rule(tape, weights, rule)
        self._checked.add(rule)


def _is_known(part: nn.Module) -> bool:
    """Return whether a part of a network is torch's or fcx's and nobody hooked code of his own to it."""
    own = type(part).__module__.split(".")[0] in ("torch", "fcx")
    return own and not (part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


@torch.inference_mode(False)
def _with_gradients(model: nn.Module) -> nn.Module:
    """Return a model through whose weights gradients go: a copy where they were made in inference mode."""
    weights = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model) if any(one.is_inference() for one in weights) else model


@torch.inference_mode(False)
def fuse_batch_norm(model: FaceChannel) -> FaceChannel:
    """Return a copy whose batch norm is part of the convolutions before it."""
    fused = copy.deepcopy(model).eval()
    for (name, layer), (next_name, following) in pairwise(list(fused.trunk.named_children())):
        if isinstance(following, nn.BatchNorm2d):
            fused.trunk.set_submodule(name, fuse_conv_bn_eval(layer, following))
            fused.trunk.set_submodule(next_name, nn.Identity())
    return fused.to(memory_format=torch.channels_last).requires_grad_(False)
