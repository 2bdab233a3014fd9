"""Training: what is taught, by which scheme and recipe; every run can be resumed.

Barros and Sciutti, "I Only Have Eyes for You", 2021, sections 2 and 3. The network learns one
condition of a faces Dataset; all are scored after every epoch, over the whole validation set.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from fcx.core.arguments import Count, FilePath, Seed, Switch, Threads, checked
from fcx.core.checks import check_memory, choose, choose_all
from fcx.core.contract import TARGETS, Faces, usable
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.core.provenance import nested_attr, run_provenance
from fcx.core.recipes import RECIPE_OPTIONS, RECIPES, Recipe
from fcx.networks.checkpoints import check_crop, load_facechannel, load_model, read_metadata, save_model
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import predict
from fcx.networks.inputs import read_variable
from fcx.networks.run_settings import same_settings
from fcx.networks.sharing import join, share_layers
from fcx.networks.tensor_files import check_name
from fcx.networks.training_loop import SCHEMES, Run
from fcx.statistics.agreement import evaluate

LOG = logging.getLogger(__name__)

SPLIT = "fcx prepare --split 0.8,0.2 makes splits where the data set has none"


@checked
def train(faces: Faces, out: FilePath, *, condition: str = "plain", scheme: str = "scratch",
          start: FilePath | None = None, recipe: str | Recipe = "modern", preset: str | None = None,
          width: Count | None = None, hidden: Count | None = None, layers: Count | None = None,
          batch_norm: Switch | None = None, shuffled_labels: Switch = False, train_faces: Count | None = None,
          seed: Seed = 0, threads: Threads | None = None, device: str | torch.device = "cpu", progress: Switch = True,
          overwrite: Switch = False, **changes: object) -> FaceChannel:  # fmt: skip
    """Train a FaceChannel on the rows of `faces` whose split is "train", and write it to `out` (.safetensors).

    Rows that are usable in every condition and have both labels are used; with `train_faces` so many of
    them, drawn by `seed` (fewer are part of more). `scheme` says what is changed: "scratch" and
    "all_layers" everything; "last_conv" conv10, its inhibitory twin, their decay, the hidden layers
    and the outputs; "head" hidden layers and outputs. What is frozen keeps its batch-norm statistics. All but
    "scratch" need `start`, a checkpoint, whose shape they keep. Otherwise the network is `preset`, or
    where none is named `paper`, 64 wide, with batch norm. `changes` are fields of `Recipe`.
    `shuffled_labels` gives each training face the labels of another, as a control.

    State goes to `out`.state after each epoch and every five minutes: the same call after an
    interruption goes on there and ends in the same bits on as many threads; after the end it returns at
    once. Processes that were launched together (`accelerate launch`) share every batch. Beside `out` lies
    a CSV (.log.csv) with loss and CCC of every epoch.

    Raises: InputError for faces or options that cannot be used, "... no labelled faces ...";
    CheckpointError for a state made with other settings; FcxError where the loss is not finite or explodes.

    >>> train(faces, "plain.safetensors", epochs=10)                                  # doctest: +SKIP
    >>> train(faces, "masked.safetensors", condition="masked", scheme="last_conv",
    ...       start="plain.safetensors")                                              # doctest: +SKIP
    """
    out, recipe_name = check_name(out), recipe if isinstance(recipe, str) else "own"
    recipe = recipe if isinstance(recipe, Recipe) else RECIPES[choose(recipe, RECIPES, "recipe")]
    choose(scheme, SCHEMES, "scheme")
    if (scheme == "scratch") != (start is None):
        raise InputError(f"scheme {scheme!r} {'takes no' if start is not None else 'needs a'} start checkpoint")
    choose_all(changes, RECIPE_OPTIONS, "argument of train")
    if start is not None and "learning_rate" in changes:
        raise InputError("a checkpoint that is trained further learns at fine_rate: give that, not learning_rate")
    given = {"preset": preset, "width": width, "hidden": hidden, "layers": layers, "batch_norm": batch_norm,
             "dropout": changes.get("dropout")}  # fmt: skip
    recipe = recipe.changed(**{name: value for name, value in changes.items() if value is not None})
    group = join(device)
    progress = progress and group.main
    data = Data(faces, condition, seed, train_faces, shuffled_labels)
    with using_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(start, {name: value for name, value in given.items() if value is not None}, recipe)
        check_crop(getattr(model, "metadata", {}), faces, "the start checkpoint")
        read_variable(model, faces)
        settings = {
            "condition": condition, "scheme": scheme, "seed": seed, "config": model.config.as_dict(),
            "start": {"name": _name_of(start), "sha256": getattr(model, "metadata", {}).get("sha256", "")},
            "recipe": {"name": recipe_name, **json.loads(json.dumps(asdict(recipe)))},
            "crop": faces.attrs.get("crop", ""), "mask": _mask_of(faces, condition), "data": data.described(),
        }  # fmt: skip
        if out.exists() and not overwrite:
            return _finished(out, settings, progress)
        if group.count > recipe.batch_size:
            raise InputError(f"batch_size is {recipe.batch_size}; allowed: from {group.count}, as many as processes "
                             "share a batch")  # fmt: skip
        faces_a_step = -(-min(recipe.batch_size, len(data.images)) // group.count)
        # Weights, gradients, moments and the best so far; maps before and after batch norm and ReLU.
        check_memory(24 * model.config.weights() + 12 * faces_a_step * model.config.activations(),
                     f"training at width {model.config.width}, hidden {model.config.hidden} and batch_size "
                     f"{recipe.batch_size}")  # fmt: skip
        model = share_layers(model.to(group.device, memory_format=torch.channels_last), group, recipe.batch_size)
        run = Run(model, scheme, recipe, data, settings, out, group)
        run.go(progress, overwrite)
        if group.main:
            scores = _scores(model, faces, data.rows["validation"], group.device)
            save_model(model, out, {
                **settings, "name": out.stem, "epochs": recipe.epochs, "kept_epoch": run.kept, "kept_because": (
                    f"highest mean validation CCC on {condition} faces" if recipe.keep == "best" else "the last epoch"),
                "scores": {"validation": scores}, "history": run.history, "seconds": round(run.seconds, 1),
                "threads": torch.get_num_threads(), "processes": group.count,
                "provenance": run_provenance(step="train"),
            })  # fmt: skip
            run.state_path.unlink(missing_ok=True)
    group.wait()
    return load_model(out)


class Data:
    """Pictures (sample, y, x) uint8 in memory, labels (target, sample) float32 and names of faces, by split."""

    def __init__(self, faces, condition: str, seed: int = 0, train_faces: int | None = None, shuffled: bool = False):
        self.conditions = [str(name) for name in faces["condition"].values]
        choose(condition, self.conditions, "condition of these faces")
        if "split" not in faces.coords:
            raise InputError(
                f"these faces have no 'split': training needs rows marked 'train' and 'validation': {SPLIT}"
            )
        labels = np.stack([faces[target].values for target in TARGETS]).astype("f4")
        wanted = usable(faces) & np.isfinite(labels).all(axis=0)
        if not wanted.any():
            raise InputError("no labelled faces: training needs usable rows with both valence and arousal")
        split = faces["split"].values.astype(str)
        self.rows = {name: np.flatnonzero(wanted & (split == name)) for name in ("train", "validation")}
        random = np.random.default_rng(seed)
        if train_faces is not None:
            if train_faces > len(self.rows["train"]):
                raise InputError(f"train_faces is {train_faces}; allowed: up to {len(self.rows['train'])}, the usable "
                                 "labelled faces of the split 'train'")  # fmt: skip
            self.rows["train"] = np.sort(random.permutation(self.rows["train"])[:train_faces])
        for name, chosen in self.rows.items():
            if len(chosen) < 2:
                raise InputError(
                    f"{len(chosen)} usable labelled faces have the split {name!r}, training needs at least 2: "
                    f"the splits here are {', '.join(sorted(set(split) - {''})) or 'empty'}: {SPLIT}"
                )
            if (np.ptp(labels[:, chosen], axis=1) == 0).any():
                raise InputError(f"the labels of the split {name!r} do not vary: a CCC needs labels that do")
        # Of each condition only the rows that are needed: a data set of 300,000 faces is 1.2 GB a condition.
        images = {name: faces["image"].sel(condition=name) for name in self.conditions}
        self.images = torch.from_numpy(images[condition].isel(sample=self.rows["train"]).values)
        self.labels = torch.from_numpy(labels[:, self.rows["train"]])
        self.shuffled = shuffled
        if shuffled:
            self.labels = self.labels[:, random.permutation(len(self.images))]
        self.names = faces["sample"].values[self.rows["train"]].astype(str)
        self.validation = {name: each.isel(sample=self.rows["validation"]).values for name, each in images.items()}
        self.truth = labels[:, self.rows["validation"]].astype("f8")
        self.sources = sorted(set(faces["source"].values.astype(str))) if "source" in faces.coords else []

    def described(self) -> dict:
        """Return what identifies the data: sources, counts and a hash of pictures and labels."""
        arrays = (self.images.numpy(), self.labels.numpy(), *self.validation.values(), self.truth)
        return {
            "sources": self.sources, "train": len(self.images), "validation": self.truth.shape[1],
            "conditions": self.conditions, "digest": digest("".join(map(digest, arrays)).encode()),
            "labels": "shuffled between training faces" if self.shuffled else "as given",
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
    model = load_facechannel(start)
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


def _mask_of(faces, condition: str) -> dict:
    """Return how the mask is worn that is learned, or that of plain faces' masked twins; {} for several of these."""
    if "masks" in faces.attrs:
        return nested_attr(faces, "masks").get(condition, {})
    return {name[5:]: value for name, value in faces.attrs.items() if name.startswith("mask_")}


def _name_of(start) -> str:
    return "" if start is None else Path(start).stem


@contextlib.contextmanager
def using_threads(count: int | None):
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
