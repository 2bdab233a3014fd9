"""Which networks are trained: a table, of which each part of the experiment gives some rows.

A part is one function with one decorator:

    @part("twice")
    def twice(scale):
        return [row for k in scale.each for row in (Training("plain_scratch", k), Training("masked_scratch", k, ...))]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import pandas as pd

from fcx.core.checks import choose, whole_number
from fcx.core.errors import InputError

Seeds = Annotated[int, partial(whole_number, least=1, most=100)]
FINE_SHARE = 0.6  # of the epochs of a training from scratch, for one that goes on from a checkpoint
COUNTS = (500, 1500, 5000)  # faces to tune with, beside all, in the study of data efficiency
# Conditions of the occluder ladder, and what is worn in each: `masks` of `prepare`.
LADDER_MASKS = {
    "rigid": {"style": "mixed"}, "jaw": {"style": "mixed", "fit": "jaw"}, "published": {"style": "published"},
    "patch": {"style": "fixed_patch"},
}  # fmt: skip
LADDER = ("plain", *LADDER_MASKS)


@dataclass(frozen=True)
class Training:
    """One training: `family`-`number` learns `condition` by `scheme`, from `start`; `options` are those of `train`.

    `passes` is how many faces it passes through, by which a progress bar counts.
    """

    family: str
    number: int
    condition: str = "plain"
    scheme: str = "scratch"
    start: str = ""
    options: Mapping = field(default_factory=dict)
    passes: int = 0

    @property
    def name(self) -> str:
        """The name of the checkpoint: FAMILY-K, whose seed is K - 1."""
        return f"{self.family}-{self.number}"

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.number - 1

    def __len__(self) -> int:
        return self.passes


@dataclass(frozen=True)
class Scale:
    """How large an experiment is: seeds, width of the networks, epochs from scratch, faces to train on, batch size."""

    seeds: int = 3
    width: int = 64
    epochs: int = 10
    faces: int = 0
    batch_size: int = 64

    @property
    def each(self) -> range:
        """The numbers of the trainings of a family, from 1."""
        return range(1, self.seeds + 1)

    @property
    def fine_epochs(self) -> int:
        """The epochs of a training that goes on from a checkpoint."""
        return max(1, round(FINE_SHARE * self.epochs))

    def training(self, family: str, number: int, epochs: int | None = None, faces: int | None = None,
                 **row: object) -> Training:  # fmt: skip
        """Return a row of the plan; `epochs` and the `faces` of one default to those of the whole experiment."""
        start, epochs = row.get("start"), epochs or (self.fine_epochs if row.get("start") else self.epochs)
        options = {"epochs": epochs, **({} if start else {"width": self.width}), **row.pop("options", {})}
        return Training(family, number, options=options, passes=epochs * (faces or self.faces), **row)


PARTS: dict[str, Callable[[Scale], list[Training]]] = {}


def part(name: str) -> Callable:
    """Register the function below (scale -> trainings) as a part of the experiment."""

    def register(function: Callable) -> Callable:
        PARTS[name] = function
        return function

    return register


@part("table2")
def table2(scale: Scale) -> list[Training]:
    """The rows of the paper's Table 2, longer trainings beside the fine-tuned ones, and a control.

    What is tuned in all layers has seen the epochs of both trainings; `masked_scratch_N` and `plain_scratch_N` see as
    many, on masks or on plain faces.
    `shuffled` is the first plain training once more, taught each face's labels of another.
    """
    rows = []
    longer = scale.epochs + scale.fine_epochs
    for k in scale.each:
        tuned = {"condition": "masked", "start": f"plain_scratch-{k}"}
        rows += [
            scale.training("plain_scratch", k),
            scale.training("masked_scratch", k, condition="masked"),
            scale.training("masked_last_conv", k, scheme="last_conv", **tuned),
            scale.training("masked_all_layers", k, scheme="all_layers", **tuned),
            scale.training(f"masked_scratch_{longer}", k, longer, condition="masked"),
            scale.training(f"plain_scratch_{longer}", k, longer),
        ]
    return [*rows, scale.training("shuffled", 1, options={"shuffled_labels": True})]


@part("ladder")
def ladder(scale: Scale) -> list[Training]:
    """One network of half the width for each condition of the occluder ladder, from scratch."""
    half = _half(scale)
    return [half.training(f"small_{condition}", k, condition=condition) for k in scale.each for condition in LADDER]


@part("efficiency")
def efficiency(scale: Scale) -> list[Training]:
    """A small network of plain faces, tuned on few and on many masked faces in an equal number of steps."""
    half, rows = _half(scale), []
    steps = max(1, scale.faces // scale.batch_size)
    counts = [count for count in COUNTS if count < scale.faces]
    for k in scale.each:
        rows.append(half.training("small_plain", k))
        for scheme in ("last_conv", "all_layers"):
            tuned = {"condition": "masked", "scheme": scheme, "start": f"small_plain-{k}"}
            for count in counts:
                few = {"train_faces": count, "steps": steps}
                rows.append(half.training(f"small_{scheme}_{count}", k, options=few, **tuned))
            rows.append(half.training(f"small_{scheme}_all", k, **tuned))
    return rows


def _half(scale: Scale) -> Scale:
    return Scale(scale.seeds, max(4, scale.width // 8 * 4), scale.epochs, scale.faces, scale.batch_size)


def trainings_of(parts: Iterable[str], scale: Scale) -> list[Training]:
    """Return the trainings of some parts of the experiment, each once, every start before what goes on from it.

    Raises: UnknownNameError for a part that does not exist.
    """
    rows = {row.name: row for name in parts for row in PARTS[choose(name, PARTS, "part of the experiment")](scale)}
    if not rows:
        raise InputError(f"no part of the experiment is named; allowed: {', '.join(PARTS)}")
    return sorted(rows.values(), key=lambda row: bool(row.start))


def plan_table(trainings: Iterable[Training]) -> pd.DataFrame:
    """Return the plan as people read it, a row for each training."""
    return pd.DataFrame([
        {"name": row.name, "family": row.family, "seed": row.seed, "condition": row.condition, "scheme": row.scheme,
         "start": row.start, **row.options} for row in trainings])  # fmt: skip


def family_title(family: str) -> str:
    """Return what people call a family; one that is not of the plan keeps its name.

    >>> family_title("small_last_conv_500"), family_title("my_net")
    ('small last conv 500', 'my_net')
    """
    own = re.match(r"(plain_scratch|masked_|shuffled|small_)", family)
    return family.replace("_", " ") if own else family
