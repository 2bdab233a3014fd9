"""Training of the small residual network, by the loop and the recipes of FaceChannels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from fcx.core.arguments import FilePath, Seed, Threads, checked
from fcx.core.contract import GRID, TARGETS, Faces
from fcx.core.provenance import run_provenance
from fcx.core.recipes import Recipe
from fcx.networks.checkpoints import load_model, read_metadata
from fcx.networks.inputs import Network, as_network
from fcx.networks.residual import SmallResNet
from fcx.networks.run_settings import same_settings
from fcx.networks.sharing import Group
from fcx.networks.tensor_files import OTHER, check_name, weights_hash, write_tensors
from fcx.networks.training import Data, using_threads
from fcx.networks.training_loop import Run


@checked
def train_residual(faces: Faces, out: FilePath, *, condition: str = "plain", recipe: Recipe = Recipe(),  # noqa: B008
                   seed: Seed = 0, threads: Threads | None = None) -> Network:  # fmt: skip
    """Train a `SmallResNet` on one condition as `fcx.train` trains a FaceChannel, and write it to `out` (.safetensors).

    Where it is there already, trained with these settings, it is read; where a training was interrupted, it goes on.

    Raises: InputError for faces that cannot be used; CheckpointError where `out` was made with other settings.

    >>> train_residual(synthetic_faces("mouth"), "mouth.safetensors")  # doctest: +SKIP
    """
    out, faces = check_name(Path(out)), faces.sel(condition=[condition])
    data = Data(faces, condition, seed)
    with using_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = as_network(SmallResNet(), size=GRID, outputs=list(TARGETS), crop=faces.attrs["crop"])
        if recipe.zero_head:
            torch.nn.init.zeros_(network.module.head.weight)
        settings = {
            "architecture": "small_resnet", "network": json.loads(json.dumps(network.words)),
            "crop": faces.attrs["crop"], "condition": condition, "seed": seed,
            "recipe": json.loads(json.dumps(asdict(recipe))), "data": data.described(),
        }  # fmt: skip
        if out.exists():
            same_settings(out, read_metadata(out), settings)
            return load_model(out)
        network = network.to(memory_format=torch.channels_last)
        run = Run(network, "scratch", recipe, data, settings, out, Group(torch.device("cpu")))
        run.go(progress=False, overwrite=False)
        weights = network.module.state_dict()
        write_tensors(out, weights, {**settings, "format": OTHER, "sha256": weights_hash(weights), "name": out.stem,
                                     "history": run.history, "provenance": run_provenance(step="train")})  # fmt: skip
        run.state_path.unlink(missing_ok=True)
    return load_model(out)
