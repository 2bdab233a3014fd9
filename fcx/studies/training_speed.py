"""How long the experiment takes on this machine: its plan, by the speed at which each scheme learns here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from fcx.core.arguments import Count, Threads, Words, checked
from fcx.core.checks import choose
from fcx.core.contract import TARGETS
from fcx.core.recipes import RECIPES, Recipe
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.inference import usable_device
from fcx.networks.sharing import Group
from fcx.networks.training import using_threads
from fcx.networks.training_loop import Run
from fcx.studies.training_plan import Scale, Seeds, trainings_of

WARM = 2  # batches before time is taken


def images_a_second(config: Config, scheme: str, recipe: Recipe, device: str | torch.device, batches: int = 8,
                    clock: Callable[[], float] = time.perf_counter) -> float:  # fmt: skip
    """Return how many faces a second a network learns by a scheme and a recipe, as `train` does it.

    Some batches of random pictures; maps of what is frozen are computed anew each time. Validation is not counted.
    """
    count = (WARM + batches) * recipe.batch_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data = SimpleNamespace(
            images=torch.randint(256, (count, config.size, config.size), dtype=torch.uint8),
            labels=2 * torch.rand(len(TARGETS), count) - 1, names=np.arange(count).astype(str),
        )  # fmt: skip
        model = FaceChannel(config).to(device, memory_format=torch.channels_last)
        torch.nn.init.zeros_(model.head.weight)  # random labels teach nothing, and must not make the loss explode
        recipe = recipe.changed(epochs=1, steps=WARM + batches, learning_rate=1e-6, fine_rate=1e-6)
        run = Run(model, scheme, recipe, data, {"seed": 0}, Path("speed"), Group(torch.device(device)))
        run.frozen, run.steps = None, WARM
        run.learn(progress=False)
        run.steps, start = WARM + batches, clock()
        run.learn(progress=False)
        return batches * recipe.batch_size / (clock() - start)


@checked
def training_hours(faces: Count, *, parts: Words = ("table2",), seeds: Seeds = 3, width: Count = 64,
                   recipe: str = "modern", epochs: Count | None = None, batch_size: Count | None = None,
                   precision: str | None = None, threads: Threads | None = None,
                   device: str | torch.device = "cpu") -> pd.DataFrame:  # fmt: skip
    """Return how long the trainings of an experiment take on `faces` training faces, one after the other, by family.

    The arguments are those of `experiment`; speeds are measured now, on this machine, for each scheme and width:
    columns family, scheme, width, trainings, epochs, images_a_second, hours.

    Raises: InputError for options that cannot be used; UnknownNameError for a part or a recipe that does not exist.

    >>> training_hours(287_651, device="cuda").hours.sum()  # doctest: +SKIP
    """
    device, taught = usable_device(device), RECIPES[choose(recipe, RECIPES, "recipe")]
    changes = {"epochs": epochs, "batch_size": batch_size, "precision": precision}
    taught = taught.changed(**{name: value for name, value in changes.items() if value is not None})
    trainings = trainings_of(parts, Scale(seeds, width, taught.epochs, faces, taught.batch_size))
    widths = {row.name: row.options["width"] for row in trainings if not row.start}
    speeds, rows = {}, []
    with using_threads(threads):
        for row in trainings:
            kind = widths[row.start or row.name], row.scheme
            if kind not in speeds:
                config = Config("paper", width=kind[0], batch_norm=True, dropout=taught.dropout)  # as `train` makes
                speeds[kind] = images_a_second(config, row.scheme, taught, device, 8 if device.type == "cpu" else 100)
            rows.append({"family": row.family, "scheme": row.scheme, "width": kind[0], "trainings": 1,
                         "epochs": row.options["epochs"], "images_a_second": speeds[kind],
                         "hours": row.passes / speeds[kind] / 3600})  # fmt: skip
    same = ["family", "scheme", "width", "epochs", "images_a_second"]
    table = pd.DataFrame(rows).groupby(same, sort=False, as_index=False).sum()
    return table[[*same[:3], "trainings", *same[3:], "hours"]]
