"""One trial of a search: dense layers of some shape, taught in some way, and what they answer to faces held back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fcx.core.contract import TARGETS, usable
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.core.recipes import Recipe
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.sharing import Group
from fcx.networks.training import Data
from fcx.networks.training_loop import Run, in_parts
from fcx.statistics.concordance import ccc

CHOOSING = 0.2  # of the faces of the split train, that choose between trials
DENSE = ("hidden", "head")  # what the names of the parts that are searched begin with


@dataclass(frozen=True)
class Choice:
    """A point of the space of Table 1 of the paper; the default is what the paper chose."""

    layers: int = 1
    hidden: int = 256
    learning_rate: float = 0.05
    optimiser: str = "sgd"


class Task:
    """What every trial of a search has in common: faces, the rest of the recipe, and what of the network is given.

    A fifth of the faces of the split "train" is not learnt but chooses between trials (and between the epochs of
    one), by hash of the subject, or of the picture where the subject is not known. The split "validation" chooses
    nothing; `held_back` are its pictures and labels.
    """

    def __init__(self, faces, condition: str, scheme: str, config: Config, recipe: Recipe, seed: int,
                 train_faces: int | None, features: FaceChannel | None, device, progress: bool = False):  # fmt: skip
        if condition not in faces["condition"].values or "split" not in faces.coords:
            Data(faces, condition)  # which says so
        faces = faces.sel(condition=[condition])
        split, pictures = faces["split"].values.astype(str), faces["image"].isel(condition=0)
        rows = np.flatnonzero(usable(faces) & np.isfinite([faces[target].values for target in TARGETS]).all(axis=0))
        of = {name: rows[split[rows] == name] for name in ("train", "validation")}
        if min(map(len, of.values())) < 2:
            Data(faces, condition)  # which says so
        choosing = of["train"][_chosen(faces, pictures, of["train"], seed)]
        drawn = np.full(len(split), "", "U10")
        drawn[of["train"]], drawn[choosing] = "train", "validation"
        self.data = Data(faces.assign_coords(split=("sample", drawn)), condition, seed, train_faces)
        self.held_back = pictures.isel(sample=of["validation"]).values
        self.truth = np.stack([faces[target].values[of["validation"]] for target in TARGETS]).astype("f8")
        self.condition, self.scheme, self.config, self.recipe, self.seed = condition, scheme, config, recipe, seed
        self.given = {name: value for name, value in features.state_dict().items()
                      if not name.startswith(DENSE)} if features else {}  # fmt: skip
        self.device, self.frozen = device, None
        if features:
            run = self.run(Choice(), seed, Path("search"))
            run.model.eval()
            self.frozen = run.frozen_maps(progress)
            if self.frozen is not None:
                self.held_back = in_parts(run.first, self.held_back, device)

    def teach(self, run: Run, report=None) -> None:
        """Train to the end, or until `report` raises, and leave the network with the weights of the kept epoch."""
        with torch.random.fork_rng(devices=[]):
            run.go(progress=False, overwrite=True, frozen=self.frozen, report=report)

    def mean_ccc(self, run: Run) -> list[float]:
        """Return after each epoch the mean CCC over targets on the faces that choose, 0 where nothing varies."""
        return [float(np.nan_to_num(list(entry["ccc"][self.condition].values())).mean()) for entry in run.history]

    def score(self, run: Run) -> dict[str, float]:
        """Return the CCC of each target on the faces of the split validation."""
        run.model.eval()
        layers = run.model if self.frozen is None else run.rest
        answers = in_parts(layers, self.held_back, self.device).T.double().numpy()
        return dict(zip(TARGETS, np.nan_to_num(ccc(answers, self.truth)).tolist(), strict=True))

    def run(self, choice: Choice, seed: int, out: Path) -> Run:
        """Return the training of one choice; its state lies beside `out`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = FaceChannel(replace(self.config, layers=choice.layers, hidden=choice.hidden))
        model.load_state_dict(self.given, strict=False)
        if self.recipe.zero_head:
            torch.nn.init.zeros_(model.head.weight)
        rate = choice.learning_rate
        recipe = self.recipe.changed(optimiser=choice.optimiser, learning_rate=rate, fine_rate=rate)
        settings = {"condition": self.condition, "seed": seed, "config": model.config.as_dict(), "rate": rate,
                    "optimiser": choice.optimiser}  # fmt: skip
        return Run(model.to(self.device, memory_format=torch.channels_last), self.scheme, recipe, self.data, settings,
                   out, Group(self.device))  # fmt: skip


def _chosen(faces, pictures, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return which of the rows choose, (row,) bool.

    Raises: InputError where there are too few.
    """
    subjects = faces["subject"].values.astype(str) if "subject" in faces.coords else np.full(faces.sizes["sample"], "")
    names = {row: f"subject {subjects[row]}" for row in rows if subjects[row]}
    for some in np.array_split(rows, -(-len(rows) // 4096)):  # not a whole data set at once
        for row, picture in zip(some, pictures.isel(sample=some).values, strict=True):
            names.setdefault(row, digest(picture))
    drawn = np.array([int(digest(f"{seed}:{names[row]}".encode()), 16) / 16**16 for row in rows]) < CHOOSING
    if min(drawn.sum(), (~drawn).sum()) < 2:
        raise InputError(f"of {len(rows)} faces of the split 'train' {drawn.sum()} fall to those that choose between "
                         "trials: a search needs more faces, or another seed")  # fmt: skip
    return drawn
