"""Training: schemes scratch, last_conv and all_layers; recipes `modern` and `paper`; every run can be resumed.

Barros and Sciutti, "I Only Have Eyes for You", 2021, sections 2 and 3. The network learns one
condition of a faces Dataset; both are scored after every epoch, over the whole validation set.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from fcx.core.arguments import Count, FilePath, Number, Seed, Switch, Threads, checked
from fcx.core.checks import check_memory, choose, real_number, whole_number
from fcx.core.contract import TARGETS, Faces, usable
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.core.provenance import run_provenance
from fcx.networks.checkpoints import check_crop, check_name, check_size, load_model, read_metadata, save_model
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import predict, usable_device
from fcx.networks.recipes import RECIPES, Recipe
from fcx.networks.training_loop import Run, same_settings
from fcx.statistics.agreement import evaluate

LOG = logging.getLogger(__name__)
SCHEMES = ("scratch", "last_conv", "all_layers")


@checked
def train(faces: Faces, out: FilePath, *, condition: str = "plain", scheme: str = "scratch",
          start: FilePath | None = None, recipe: str | Recipe = "modern", preset: str | None = None,
          width: Count | None = None, hidden: Count | None = None, batch_norm: Switch | None = None,
          dropout: float | None = None, epochs: Count | None = None, batch_size: Count | None = None,
          learning_rate: Number | None = None, seed: Seed = 0, threads: Threads | None = None, device="cpu",
          progress: Switch = True, overwrite: Switch = False) -> FaceChannel:  # fmt: skip
    """Train a FaceChannel on the rows of `faces` whose split is "train", and write it to `out` (.safetensors).

    Rows that are usable in every condition and have both labels are used. `scheme` "last_conv"
    changes conv10, its inhibitory twin, their decay, the hidden layer and the outputs, and
    freezes the trunk with its batch-norm statistics; it and "all_layers" need `start`, a
    checkpoint, whose shape they keep. Otherwise the network is `preset`, or where none is named
    `paper`, 64 wide, with batch norm. Dropout and what else is None come from the recipe. State goes
    to `out`.state after each epoch:
    the same call after an interruption goes on there and ends in the same bits on as many
    threads; after the end it returns at once.

    Raises: InputError for faces or options that cannot be used, "... no labelled faces ...";
    CheckpointError for a state made with other settings; FcxError where the loss is not finite.

    >>> train(faces, "plain.safetensors", epochs=10)                                  # doctest: +SKIP
    >>> train(faces, "masked.safetensors", condition="masked", scheme="last_conv",
    ...       start="plain.safetensors")                                              # doctest: +SKIP
    """
    out, recipe_name = check_name(out), recipe if isinstance(recipe, str) else "own"
    recipe = recipe if isinstance(recipe, Recipe) else RECIPES[choose(recipe, RECIPES, "recipe")]
    choose(scheme, SCHEMES, "scheme")
    if (scheme == "scratch") != (start is None):
        raise InputError(f"scheme {scheme!r} {'takes no' if start is not None else 'needs a'} start checkpoint")
    changed = {"epochs": epochs, "batch_size": batch_size}
    changed["rate" if start is None else "fine_rate"] = learning_rate
    recipe = replace(recipe, **{name: value for name, value in changed.items() if value is not None})
    whole_number(recipe.batch_size, "batch_size", 2)
    real_number(min(recipe.rate, recipe.fine_rate), "learning_rate", above=0)
    device = usable_device(device)
    data = Data(faces, condition)
    given = {"preset": preset, "width": width, "hidden": hidden, "batch_norm": batch_norm, "dropout": dropout}
    with _threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(start, {name: value for name, value in given.items() if value is not None}, recipe)
        check_crop(getattr(model, "metadata", {}), faces, "the start checkpoint")
        check_size(model, faces)
        settings = {
            "condition": condition, "scheme": scheme, "seed": seed, "config": model.config.as_dict(),
            "start": {"name": _name_of(start), "sha256": getattr(model, "metadata", {}).get("sha256", "")},
            "recipe": {"name": recipe_name, **json.loads(json.dumps(asdict(recipe)))},
            "crop": faces.attrs.get("crop", ""), "mask": _mask_of(faces), "data": data.described(),
        }  # fmt: skip
        if out.exists() and not overwrite:
            return _finished(out, settings, progress)
        faces_a_step = min(recipe.batch_size, len(data.images))
        # Weights, gradients, moments and the best so far; maps before and after batch norm and ReLU.
        check_memory(24 * model.config.weights() + 12 * faces_a_step * model.config.activations(),
                     f"training at width {model.config.width}, hidden {model.config.hidden} and batch_size "
                     f"{recipe.batch_size}")  # fmt: skip
        run = Run(model.to(device, memory_format=torch.channels_last), scheme, recipe, data, settings, out)
        run.go(seed, device, progress, overwrite)
        scores = _scores(model, faces, data.rows["validation"], device)
        save_model(model, out, {
            **settings, "name": out.stem, "epochs": recipe.epochs, "kept_epoch": run.kept, "kept_because": (
                f"highest mean validation CCC on {condition} faces" if recipe.keep == "best" else "the last epoch"),
            "scores": {"validation": scores}, "history": run.history, "threads": torch.get_num_threads(),
            "provenance": run_provenance(step="train"),
        })  # fmt: skip
    run.state_path.unlink(missing_ok=True)
    return load_model(out)


class Data:
    """Pictures (sample, y, x) uint8 in memory, and labels (target, sample) float32, by split."""

    def __init__(self, faces, condition: str):
        self.conditions = [str(name) for name in faces["condition"].values]
        choose(condition, self.conditions, "condition of these faces")
        if "split" not in faces.coords:
            raise InputError("these faces have no 'split': training needs rows marked 'train' and 'validation'")
        labels = np.stack([faces[target].values for target in TARGETS]).astype("f4")
        wanted = usable(faces) & np.isfinite(labels).all(axis=0)
        if not wanted.any():
            raise InputError("no labelled faces: training needs usable rows with both valence and arousal")
        split = faces["split"].values.astype(str)
        self.rows = {name: np.flatnonzero(wanted & (split == name)) for name in ("train", "validation")}
        for name, chosen in self.rows.items():
            if len(chosen) < 2:
                raise InputError(
                    f"{len(chosen)} usable labelled faces have the split {name!r}, training needs at least 2: "
                    f"the splits here are {', '.join(sorted(set(split))) or 'empty'}"
                )
            if (np.ptp(labels[:, chosen], axis=1) == 0).any():
                raise InputError(f"the labels of the split {name!r} do not vary: a CCC needs labels that do")
        images = {name: faces["image"].sel(condition=name).values for name in self.conditions}
        self.images = torch.from_numpy(images[condition][self.rows["train"]])
        self.labels = torch.from_numpy(labels[:, self.rows["train"]])
        self.validation = {name: pictures[self.rows["validation"]] for name, pictures in images.items()}
        self.truth = labels[:, self.rows["validation"]].astype("f8")
        self.sources = sorted(set(faces["source"].values.astype(str))) if "source" in faces.coords else []

    def described(self) -> dict:
        """Return what identifies the data: sources, counts and a hash of pictures and labels."""
        arrays = (self.images.numpy(), self.labels.numpy(), *self.validation.values(), self.truth)
        return {
            "sources": self.sources, "train": len(self.images), "validation": self.truth.shape[1],
            "conditions": self.conditions, "digest": digest("".join(map(digest, arrays)).encode()),
        }  # fmt: skip


def _scores(model, faces, rows, device) -> dict:
    """Return the CCC of a model on some rows of `faces`, with 95 % intervals, by condition and target."""
    chosen = faces.isel(sample=rows)
    found = evaluate(predict({"trained": model}, chosen, device=device), chosen).sel(model="trained")
    names = {"ccc": "ccc", "low": "ccc_low", "high": "ccc_high", "within_expression": "within_ccc"}
    return {
        str(condition): {
            target: {
                **{name: float(found[of].sel(condition=condition, target=target)) for name, of in names.items()},
                "n": int(found["n"].sel(target=target)),
            }
            for target in TARGETS
        }
        for condition in faces["condition"].values
    }


def _network(start, given: dict, recipe) -> FaceChannel:
    """Return the start checkpoint's model, or a new one of the shape that is `given`."""
    if start is None:
        # A preset that is named is built as it is; left open, the network is the small one that ships.
        own = {} if "preset" in given else {"preset": "paper", "width": 64, "batch_norm": True}
        shape = {**own, "dropout": recipe.dropout, **given}
        model = FaceChannel.preset(shape.pop("preset"), **shape)
        if recipe.zero_head:
            torch.nn.init.zeros_(model.head.weight)
        return model
    model = load_model(start)
    have = model.config.as_dict()
    for name, value in given.items():
        if have[name] != value:
            raise InputError(f"{name} is {value!r}, but the start checkpoint {start} has {have[name]!r}: leave it out")
    return model


def _finished(out: Path, settings: dict, progress: bool) -> FaceChannel:
    """Return the model that an equal run has already written."""
    same_settings(out, read_metadata(out), settings)
    out.with_name(out.name + ".state").unlink(missing_ok=True)
    if progress:
        LOG.info("%s is there already, trained with these settings: nothing to do", out)
    return load_model(out)


def _mask_of(faces) -> dict:
    return {name[5:]: value for name, value in faces.attrs.items() if name.startswith("mask_")}


def _name_of(start) -> str:
    return "" if start is None else Path(start).stem


@contextlib.contextmanager
def _threads(count: int | None):
    """Use `count` threads for a while, and let the allocator of glibc keep what it is given back.

    The activations of a batch are tens of megabytes each; returned to the system and cleared
    again at every step they cost a third of the time of training.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(parameter, value)
    try:
        yield
    finally:
        torch.set_num_threads(before)
