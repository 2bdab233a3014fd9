"""What trainings cost and how they went: parameters changed, multiply-adds counted from the layers, curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from fcx.core.checks import choose
from fcx.core.contract import family_and_seed
from fcx.networks.checkpoints import read_metadata
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.training import SCHEMES
from fcx.networks.training_loop import trained_modules

# Parts one after the other; parts of one rank read the same maps.
RANK = {"trunk": 0, "conv10": 1, "inhibitory": 1, "shunt": 2, "hidden": 3, "hidden2": 4, "hidden3": 5, "head": 6}


def multiply_adds(config: Config, scheme: str = "") -> dict[str, int]:
    """Return the multiply-adds of one face: `forward`, and where a scheme is named `backward`.

    Those of convolutions and linear layers are counted, at padded borders too. Backward, a layer that is trained
    costs its forward multiply-adds for the gradient of its weights, and any layer as many again for the gradient of
    what it reads, where something that is trained lies before it.

    Raises: UnknownNameError for a scheme that does not exist.

    >>> multiply_adds(Config())["forward"]
    626262528
    """
    with torch.device("meta"):
        model = FaceChannel(config)
    forward = _layer_counts(model)
    counts = {"forward": sum(forward.values()), "backward": 0}
    if not scheme:
        return counts
    parts = trained_modules(model, choose(scheme, SCHEMES, "scheme"))
    first = min(RANK[name] for name in parts)
    begun = set()  # ranks and layers of the trunk behind the first trained layer
    for name, count in forward.items():
        part = name.split(".")[0]
        trained = part in parts
        behind = RANK[part] > first or (part == "trunk" and "trunk" in parts and "trunk" in begun)
        counts["backward"] += count * (trained + behind)
        begun.add(part)
    return counts


def _layer_counts(model: nn.Module) -> dict[str, int]:
    """Return the multiply-adds of each convolution and linear layer for one face, in the order they run."""
    counts, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            each = module.weight[0].numel()  # for one value of the output
            handles.append(module.register_forward_hook(
                lambda _, __, out, name=name, each=each: counts.__setitem__(name, out.numel() * each)))  # fmt: skip
    size = model.config.size
    model(torch.zeros(1, 1, size, size, device="meta"))
    return counts


def trained_parameters(config: Config, scheme: str) -> int:
    """Return how many parameters a scheme changes."""
    with torch.device("meta"):
        model = FaceChannel(config)
    parts = trained_modules(model, choose(scheme, SCHEMES, "scheme"))
    return sum(p.numel() for name, p in model.named_parameters() if name.split(".")[0] in parts)


def training_records(files: Mapping[str, Path]) -> pd.DataFrame:
    """Return what the checkpoints say of their trainings, a row for each, and what each cost.

    `forward` and `backward` are multiply-adds of one face, `passes` how many faces the training passed through. What a
    checkpoint does not say is empty.
    """
    return pd.DataFrame([_record(name, read_metadata(file)) for name, file in files.items()])


def _record(name: str, there: Mapping) -> dict:
    family, seed = family_and_seed(name)
    config, scheme, recipe = Config(**there["config"]), there.get("scheme", ""), there.get("recipe", {})
    data = {"train": np.nan, "labels": "", **there.get("data", {})}
    epochs, batch_size = (recipe.get(key, np.nan) for key in ("epochs", "batch_size"))
    steps = recipe.get("steps") or max(1, data["train"] // batch_size)
    return {
        "name": name, "family": family, "seed": seed, "condition": there.get("condition", ""), "scheme": scheme,
        "start": there.get("start", {}).get("name", ""), "recipe": recipe.get("name", ""), "width": config.width,
        "hidden": config.hidden, "epochs": epochs, "kept epoch": there.get("kept_epoch", np.nan),
        "train": data["train"], "passes": epochs * steps * batch_size,
        "seconds": there.get("seconds", np.nan), "labels": data["labels"],
        "parameters trained": trained_parameters(config, scheme) if scheme else np.nan,
        **multiply_adds(config, scheme), "sha256": there["sha256"],
    }  # fmt: skip


def learning_curves(files: Mapping[str, Path]) -> pd.DataFrame:
    """Return loss and validation CCC of every epoch: name, family, seed, epoch, loss, condition, target, ccc."""
    rows = []
    for name, file in files.items():
        family, seed = family_and_seed(name)
        for entry in read_metadata(file).get("history", ()):
            for condition, scores in entry["ccc"].items():
                row = {"name": name, "family": family, "seed": seed, "epoch": entry["epoch"], "loss": entry["loss"]}
                rows += [{**row, "condition": condition, "target": t, "ccc": value} for t, value in scores.items()]
    return pd.DataFrame(rows, columns=["name", "family", "seed", "epoch", "loss", "condition", "target", "ccc"])
