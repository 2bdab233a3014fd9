"""What a method is given: some faces of one condition as one model sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from fcx.attribution.face_reader import FaceReader
from fcx.attribution.lrp_engine import Engine
from fcx.attribution.lrp_tape import Tape
from fcx.core.contract import REGIONS, twin
from fcx.core.errors import FcxError, InputError
from fcx.networks.facechannel import FaceChannel, check_input
from fcx.networks.inference import private_copy
from fcx.networks.inputs import as_pixels, checked_answer, outputs_of
from fcx.statistics.overlays import OVERLAYS


@contextlib.contextmanager
def own_mode(device: torch.device):
    """Compute gradients in full precision, whatever mode the caller is in."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        # A GPU's default for convolutions, TF32, keeps three digits: too few for relevance to be conserved.
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    ):
        yield


class Subject:
    """A model as the methods see it: a private copy in evaluation mode, and what was derived from it."""

    def __init__(self, name: str, model: nn.Module):
        self.name, self.model = name, model
        self._derived: dict[Callable, Any] = {}

    @classmethod
    def of(cls, name: str, model: nn.Module, device: torch.device, dtype: torch.dtype) -> Subject:
        """Return a private copy of a model as a subject, whatever state the caller's is in.

        Raises: InputError for a module that cannot be copied.
        """
        with own_mode(device):
            private = private_copy(model, name, device, dtype)
            for module in private.modules():
                if getattr(module, "inplace", False) and not isinstance(module, torch.jit.ScriptModule):
                    module.inplace = False  # what a method hooks to a layer must find its input and output
            if isinstance(private, FaceChannel):
                private.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        return cls(name, private)

    def once(self, derive: Callable[..., Any], *words) -> Any:
        """Return derive(model, *words), computed at the first call and kept while this model is explained."""
        if (derive, *words) not in self._derived:
            self._derived[derive, *words] = derive(self.model, *words)
        return self._derived[derive, *words]


class Batch:
    """Some faces of one condition seen by one model.

    `images` (sample, channel, y, x) in [0, 1], as the model reads them; `position` (sample,) the place of each face
    along `sample` in the whole Dataset; `weights` (target, output), of which each row is a target; `reference`
    (target,) the value of each target from which it is explained, 0 unless the target names one. Of the Dataset, where
    there is one: `names`, `condition`, `regions`, `alpha`, `pictures`, `mean` and `background`. `grid` (y, x) is that
    of the regions and of results: what a method returns on it stays, maps of other sizes are summed into it.
    """

    def __init__(self, subject: Subject, images: torch.Tensor, position: torch.Tensor | None = None,
                 weights: torch.Tensor | None = None, reference: torch.Tensor | None = None, *,
                 reader: FaceReader | None = None, condition: str = ""):  # fmt: skip
        self.subject, self.model, self.images = subject, subject.model, images
        self.position = torch.arange(len(images), device=images.device) if position is None else position
        self.weights = torch.eye(len(outputs_of(self.model))).to(images) if weights is None else weights
        self.reference = self.weights.new_zeros(len(self.weights)) if reference is None else reference
        self.reader, self.condition = reader, condition
        self.grid = tuple((images if reader is None else reader.faces["image"]).shape[-2:])
        self.recorded: dict[str, torch.Tensor] = {}
        self.resolution = 1  # of the maps, which a method may set where it follows from its options or the model
        self.layer = ""  # whose channels a method weighs, which it sets
        if isinstance(self.model, FaceChannel):
            check_input(images, self.model.config.size)

    def again(self, images: torch.Tensor | None = None, subject: Subject | None = None) -> Batch:
        """Return the same faces for another method, as other `images` or for another model where they are given."""
        pixels = self.images if images is None else images
        return Batch(subject or self.subject, pixels, self.position, self.weights, self.reference,
                     reader=self.reader, condition=self.condition)  # fmt: skip

    def values(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the targets (sample, target) of outputs (sample, output); their reference is not subtracted.

        Summed one by one, so that equal outputs have equal values in a batch of any size.
        """
        return (outputs[:, None] * self.weights).sum(-1)

    def record(self, name: str, values: torch.Tensor) -> None:
        """Hand over `values` (target, sample), which the results keep as the variable `name`.

        Raises: FcxError for another shape.
        """
        expected = (len(self.weights), len(self.images))
        if tuple(values.shape) != expected:
            raise FcxError(f"{name!r} was recorded as {tuple(values.shape)}, should be (target, sample): {expected}")
        self.recorded[name] = values.detach().double()

    @cached_property
    def names(self) -> list[str]:
        """The id of each face: what a random number should depend on, rather than on the batch."""
        return [str(name) for name in self._faces("names").faces["sample"].values[self._rows]]

    @cached_property
    def _cover(self) -> torch.Tensor:
        return torch.tensor(self._faces("regions").cover(self._rows)).to(self.images)  # a copy of what is used again

    @property
    def regions(self) -> torch.Tensor:
        """Coverage (sample, region, y, x) in [0, 1] of `fcx.core.contract.REGIONS`, which partition the grid."""
        return self._cover[:, : len(REGIONS)]

    @property
    def alpha(self) -> torch.Tensor:
        """Coverage (sample, y, x) in [0, 1] by the mask that the masked twin of each face wears."""
        return self._cover[:, len(REGIONS) + list(OVERLAYS).index("mask")]

    def at_input(self, cover: torch.Tensor) -> torch.Tensor:
        """Return coverage (..., y, x) of the grid as that of the pixels that the model reads: means over each."""
        (rows, columns), sides = cover.shape[-2:], self.images.shape[-2:]
        if (rows, columns) == sides:
            return cover
        return spread(cover, sides) * (sides[0] * sides[1] / (rows * columns))

    @property
    def worn(self) -> torch.Tensor:
        """Coverage (sample, y, x) in [0, 1] by the mask that each face wears in the condition that is explained."""
        if self.condition == self.twin:
            return self.alpha  # a mask that is being moved is there
        return torch.from_numpy(self._faces("worn").alpha(self.condition, self._rows)).to(self.images)

    @property
    def twin(self) -> str:
        """The condition in which the faces wear a mask."""
        return twin(self._faces("twin").faces)

    @property
    def other(self) -> str:
        """The condition that the explained one is compared with: that with a mask, or for it the first without.

        Raises: InputError for faces in one condition.
        """
        others = [name for name in self._faces("other").conditions if name != self.condition]
        if not others:
            raise InputError(f"these faces are there in one condition, {self.condition!r}: another is needed beside it")
        return self.twin if self.twin in others else others[0]

    def pictures(self, condition: str) -> torch.Tensor:
        """Return the same faces in another condition, as `images` are; zeros where one is unusable.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        return self._faces("pictures").pixels(condition, self._rows, self.model, self.images)

    def usable(self, condition: str) -> torch.Tensor:
        """Return which of the same faces are usable in another condition, (sample,) bool."""
        reader = self._faces("usable")
        return torch.from_numpy(reader.good[reader.conditions.index(condition), self._rows]).to(self.images.device)

    def mean(self, condition: str = "") -> torch.Tensor:
        """Return the mean (channel, y, x) of all usable faces in a condition; default: that of the batch.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        return self._as_pixels(self._faces("mean").mean(condition or self.condition, self.model))[0]

    def background(self, count: int, seed: int) -> torch.Tensor:
        """Return at most `count` usable faces of the Dataset in this condition, (face, channel, y, x), drawn by
        `seed`."""
        return self._as_pixels(self._faces("background").background(self.condition, count, seed, self.model))

    def _as_pixels(self, pictures: np.ndarray) -> torch.Tensor:
        return as_pixels(self.model, pictures, self.images.device, self.images.dtype)

    @property
    def _rows(self) -> np.ndarray:
        return self.position.cpu().numpy()

    def _faces(self, what: str) -> FaceReader:
        if self.reader is None:
            raise InputError(f"{what!r} was asked of a batch without a faces Dataset: use fcx.attribute")
        return self.reader

    def explained(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs that are explained, (sample, output): before the activation of a tanh head."""
        if isinstance(self.model, FaceChannel):
            return self.model.tail(self.model.features(images))
        return self.model(images)

    @cached_property
    def features(self) -> torch.Tensor:
        """The last convolutional map of a FaceChannel, (sample, channel, row, column), without a graph."""
        return torch.cat([tape.marks["features"].tensor for tape in self.tapes])[: len(self.images)]

    @property
    def engine(self) -> Engine:
        """The model as LRP sees it."""
        return self.subject.once(Engine)

    @property
    def shares_a_pass(self) -> bool:
        """Whether gradients, channels and LRP go back over one pass: for a FaceChannel, which is known to allow it."""
        return isinstance(self.model, FaceChannel) and self.subject.once(answers_by_its_layers)

    @cached_property
    def tapes(self) -> list[Tape]:
        """The one pass of these faces that methods share, a few faces to a tape."""
        return list(self.engine.tapes(self.images))

    @cached_property
    def prediction(self) -> torch.Tensor:
        """What the model answers, (sample, output), from the pass that the methods share where there is one.

        float64 from that pass, whose dense layers are, so that it is exactly what LRP sums to.

        Raises: InputError where a module cannot read faces, gives another shape, or is not finite.
        """
        with torch.no_grad():
            if self.shares_a_pass:
                outputs = torch.cat([tape.outputs.tensor.double() for tape in self.tapes])[: len(self.images)]
                answer = self.model.activation(outputs)
            else:
                answer = self._ask_module()
        return checked_answer(self.model, answer, len(self.images), self.subject.name)

    def _ask_module(self) -> torch.Tensor:
        try:
            return self.model(self.images)
        except Exception as error:  # whatever code of others does
            shape = tuple(self.images.shape)
            raise InputError(
                f"model {self.subject.name!r} cannot read faces (sample, channel, y, x) of shape {shape}: {error}"
            ) from error


def spread(cells: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
    """Spread (..., row, column) evenly over `sides` pixels, finer or coarser; every sum stays the same.

    A pixel that lies in two cells gets its part of both, a cell that lies in two pixels gives each its part.

    >>> spread(torch.tensor([[4.0]]), (2, 2))
    tensor([[1., 1.],
            [1., 1.]])
    """
    down, across = (_overlap(n, size).to(cells) for n, size in zip(cells.shape[-2:], sides, strict=True))
    return down @ cells @ across.T


def _overlap(count: int, size: int) -> torch.Tensor:
    """Return (pixel, cell): the part of each of `count` cells that lies in each of `size` pixels."""
    edges = torch.arange(size + 1, dtype=torch.float64) * count / size  # of pixels, in cells
    cell = torch.arange(count, dtype=torch.float64)
    inside = torch.minimum(edges[1:, None], cell + 1) - torch.maximum(edges[:-1, None], cell)
    return inside.clamp(min=0)


def check_alone(subject: Subject, images: torch.Tensor) -> None:
    """Refuse a network that answers a face otherwise beside another one, or from call to call.

    Raises: InputError.
    """
    alone, beside = (
        Batch(subject, some).prediction[0] for some in (images[:1], torch.cat([images[:1], 1 - images[:1]]))
    )
    if not torch.allclose(alone, beside, rtol=1e-3, atol=1e-3 * float(beside.abs().max())):
        raise InputError(
            f"model {subject.name!r} answers a face otherwise beside another one, or from call to call (as noise, or "
            "statistics of a batch, do): such an answer cannot be explained"
        )


def answers_by_its_layers(model: FaceChannel) -> bool:
    """Return True for a FaceChannel that answers what its layers give.

    Raises: InputError for one that answers something else than its `features`, `tail` and `activation`.
    """
    size, like = model.config.size, model.head.weight
    probe = torch.linspace(0, 1, size**2, dtype=like.dtype, device=like.device).view(1, 1, size, size)
    with torch.no_grad():
        answer, layers = model(probe), model.activation(model.tail(model.features(probe)))
    if not (isinstance(answer, torch.Tensor) and answer.shape == layers.shape
            and torch.allclose(answer, layers, rtol=1e-4, atol=1e-6, equal_nan=True)):  # fmt: skip
        raise InputError(
            f"this {type(model).__name__} answers something else than its features, tail and activation give: put "
            "what it does beside them into one of them, or into a module of its own that calls a FaceChannel"
        )
    return True
