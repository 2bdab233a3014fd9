"""Training: schemes scratch, last_conv and all_layers; recipes `modern` and `paper`; every run can be resumed.

Barros and Sciutti, "I Only Have Eyes for You", 2021, sections 2 and 3. The network learns one
condition of a faces Dataset; both are scored after every epoch, over the whole validation set.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.std import tqdm

from fcx.checkpoints import check_crop, check_size, load_model, read_metadata, save_model
from fcx.contract import (
    TARGETS,
    CheckpointError,
    FcxError,
    InputError,
    check,
    choose,
    digest,
    provenance,
    replacing,
    usable,
)
from fcx.evaluation import ccc
from fcx.inference import forward
from fcx.model import FaceChannel
from fcx.recipes import RECIPES, augment, loss_of

SCHEMES = ("scratch", "last_conv", "all_layers")


def train(faces, out, *, condition="plain", scheme="scratch", start=None, recipe="modern", preset=None, width=None,
          hidden=None, batch_norm=None, epochs=None, batch_size=None, learning_rate=None, seed=0, threads=None,
          device="cpu", progress=True, overwrite=False) -> FaceChannel:  # fmt: skip
    """Train a FaceChannel on the rows of `faces` whose split is "train", and write it to `out` (.safetensors).

    Rows that are usable in every condition and have both labels are used. `scheme` "last_conv"
    changes conv10, its inhibitory twin, their decay, the hidden layer and the outputs, and
    freezes the trunk with its batch-norm statistics; it and "all_layers" need `start`, a
    checkpoint, whose shape they keep. Otherwise the network is `preset` ("paper"), 64 wide, with
    batch norm. What is None comes from the recipe. State goes to `out`.state after each epoch:
    the same call after an interruption goes on there and ends in the same bits on as many
    threads; after the end it returns at once.

    Raises: InputError for faces or options that cannot be used, "... no labelled faces ...";
    CheckpointError for a state made with other settings; FcxError where the loss is not finite.

    >>> train(faces, "plain.safetensors", epochs=10)                                  # doctest: +SKIP
    >>> train(faces, "masked.safetensors", condition="masked", scheme="last_conv",
    ...       start="plain.safetensors")                                              # doctest: +SKIP
    """
    out, recipe_name = Path(out), recipe if isinstance(recipe, str) else "own"
    recipe = RECIPES[choose(recipe, RECIPES, "recipe")] if isinstance(recipe, str) else recipe
    choose(scheme, SCHEMES, "scheme")
    if (scheme == "scratch") != (start is None):
        raise InputError(f"scheme {scheme!r} {'takes no' if start is not None else 'needs a'} start checkpoint")
    changed = {"epochs": epochs, "batch_size": batch_size}
    changed["rate" if start is None else "fine_rate"] = learning_rate
    recipe = replace(recipe, **{name: value for name, value in changed.items() if value is not None})
    _check_positive(epochs=recipe.epochs, batch_size=recipe.batch_size, rate=recipe.rate, fine_rate=recipe.fine_rate)
    data = _Data(faces, condition)
    given = {"preset": preset, "width": width, "hidden": hidden, "batch_norm": batch_norm}
    with _threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(start, {name: value for name, value in given.items() if value is not None})
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
        run = _Run(model.to(device, memory_format=torch.channels_last), scheme, recipe, data, settings, out)
        run.go(seed, device, progress, overwrite)
        scores, kept = run.scores(device)
        save_model(model, out, {
            **settings, "name": out.stem, "epochs": recipe.epochs, "kept_epoch": kept, "kept_because": (
                f"highest mean validation CCC on {condition} faces" if recipe.keep == "best" else "the last epoch"),
            "scores": {"validation": scores}, "history": run.history, "threads": torch.get_num_threads(),
            "provenance": provenance(step="train"),
        })  # fmt: skip
    run.state_path.unlink(missing_ok=True)
    return load_model(out)


def trained_modules(model: FaceChannel, scheme: str) -> list[str]:
    """Return the names of the parts that `scheme` changes (the rest is frozen)."""
    parts = ("trunk", "conv10", "inhibitory", "shunt", "hidden", "head")
    return [name for name in parts if hasattr(model, name) and not (name == "trunk" and scheme == "last_conv")]


class _Data:
    """Pictures (sample, y, x) uint8 in memory, and labels (target, sample) float32, by split."""

    def __init__(self, faces, condition: str):
        check(faces, "faces")
        self.conditions = [str(name) for name in faces["condition"].values]
        choose(condition, self.conditions, "condition of these faces")
        if "split" not in faces.coords:
            raise InputError("these faces have no 'split': training needs rows marked 'train' and 'validation'")
        labels = np.stack([faces[target].values for target in TARGETS]).astype("f4")
        wanted = usable(faces) & np.isfinite(labels).all(axis=0)
        if not wanted.any():
            raise InputError("no labelled faces: training needs usable rows with both valence and arousal")
        split = faces["split"].values.astype(str)
        rows = {name: np.flatnonzero(wanted & (split == name)) for name in ("train", "validation")}
        for name, chosen in rows.items():
            if len(chosen) < 2:
                raise InputError(
                    f"{len(chosen)} usable labelled faces have the split {name!r}, training needs at least 2: "
                    f"the splits here are {', '.join(sorted(set(split))) or 'empty'}"
                )
        images = {name: faces["image"].sel(condition=name).values for name in self.conditions}
        self.images = torch.from_numpy(images[condition][rows["train"]])
        self.labels = torch.from_numpy(labels[:, rows["train"]])
        self.validation = {name: pictures[rows["validation"]] for name, pictures in images.items()}
        self.truth = labels[:, rows["validation"]].astype("f8")
        self.sources = sorted(set(faces["source"].values.astype(str))) if "source" in faces.coords else []

    def described(self) -> dict:
        """Return what identifies the data: sources, counts and a hash of pictures and labels."""
        arrays = (self.images.numpy(), self.labels.numpy(), *self.validation.values(), self.truth)
        return {
            "sources": self.sources, "train": len(self.images), "validation": self.truth.shape[1],
            "conditions": self.conditions, "digest": digest("".join(map(digest, arrays)).encode()),
        }  # fmt: skip


class _Run:
    """One training: what is in the state file, and how it moves on by an epoch."""

    def __init__(self, model, scheme, recipe, data, settings, out: Path):
        self.model, self.recipe, self.data, self.settings, self.out = model, recipe, data, settings, out
        self.state_path = out.with_name(out.name + ".state")
        self.steps = max(1, len(data.images) // recipe.batch_size)  # the rest of an epoch waits for the next
        self.parts = trained_modules(model, scheme)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.parts)
        self.optimiser, self.scheduler = self._optimiser(recipe.rate if scheme == "scratch" else recipe.fine_rate)
        self.epoch, self.history, self.best = 0, [], {}

    def _optimiser(self, rate):
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # Biases, batch norm and the decay of the shunt are not pulled towards zero.
        groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
                  {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
        optimisers = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        optimiser = optimisers[choose(self.recipe.optimiser, optimisers, "optimiser")](groups, lr=rate)
        if choose(self.recipe.schedule, ("one_cycle", "plateau"), "schedule") == "one_cycle":
            total = self.steps * self.recipe.epochs
            return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total, cycle_momentum=False)
        return optimiser, torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.2, patience=5, min_lr=1e-4)

    def go(self, seed, device, progress, overwrite):
        """Train until the last epoch; the state is saved after each."""
        if overwrite:
            self.state_path.unlink(missing_ok=True)
        if self.state_path.exists():
            self._load()
        while self.epoch < self.recipe.epochs:
            # Each epoch has a seed of its own, so a resumed run needs no generator's state.
            torch.manual_seed(int(np.random.SeedSequence([seed, self.epoch]).generate_state(1)[0]))
            loss = self._learn(device, progress)
            self.epoch += 1
            scored = {name: ccc(self._predict(name, device), self.data.truth).tolist() for name in self.data.conditions}
            self.history.append({"epoch": self.epoch, "loss": loss, "ccc": scored})
            mean = [np.mean(past["ccc"][self.settings["condition"]]) for past in self.history]
            if self.recipe.keep == "last" or mean[-1] >= max(mean):
                self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                self.kept = self.epoch
            self._save()
            if progress:
                tqdm.write(_line(self.out.stem, self.history[-1], self.recipe.epochs), file=sys.stderr)

    def _learn(self, device, progress) -> float:
        """Pass once over the training faces in random order, and return the mean loss."""
        self.model.train()
        for name, part in self.model.named_children():
            if name == "trunk" and name not in self.parts:
                part.eval()  # frozen whole: no dropout, and batch norm keeps its statistics
        order = torch.randperm(len(self.data.images))
        total = 0.0
        bar = tqdm(range(self.steps), f"{self.out.stem} {self.epoch + 1}/{self.recipe.epochs}", file=sys.stderr,
                   leave=False, disable=not progress, mininterval=0.5 if sys.stderr.isatty() else 30)  # fmt: skip
        for step in bar:
            rows = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
            images = self.data.images[rows].to(device)[:, None].float() / 255
            images = augment(images) if self.recipe.augmented else images
            loss = loss_of(self.model(images), self.data.labels[:, rows].T.to(device), self.recipe.ccc_loss)
            total += (value := loss.item())
            if not math.isfinite(value):
                raise FcxError(
                    f"the loss is {value} in epoch {self.epoch + 1}, batch {step + 1}, at a learning rate of "
                    f"{self.optimiser.param_groups[0]['lr']:g}: train with a lower one (learning_rate)"
                )
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if self.recipe.schedule == "one_cycle":
                self.scheduler.step()
            bar.set_postfix(loss=f"{total / (step + 1):.3f}", refresh=False)
        if self.recipe.schedule == "plateau":
            self.scheduler.step(total / self.steps)
        return total / self.steps

    def _predict(self, condition, device) -> np.ndarray:
        self.model.eval()
        return forward(self.model, self.data.validation[condition], 256, device).astype("f8")

    def scores(self, device, draws=2000):
        """Load the kept epoch, and return its validation scores with bootstrapped 95 % intervals."""
        self.model.load_state_dict(self.best)
        rng, found = np.random.default_rng(0), {}
        n = self.data.truth.shape[1]
        samples = [rng.integers(0, n, n) for _ in range(draws)]
        for name in self.data.conditions:
            prediction = self._predict(name, device)
            drawn = np.stack([ccc(prediction[:, rows], self.data.truth[:, rows]) for rows in samples])
            low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
            values = ccc(prediction, self.data.truth)
            found[name] = {
                target: {"ccc": float(values[i]), "low": float(low[i]), "high": float(high[i]), "n": n}
                for i, target in enumerate(TARGETS)
            }
        return found, self.kept

    def _save(self):
        """Write model, optimiser, schedule and history to the state file: all of it, or nothing."""
        state = self.optimiser.state_dict()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {
            f"optimiser.{i}.{name}": value
            for i, moments in state["state"].items()
            for name, value in moments.items()
            if value is not None
        }
        texts = {"settings": self.settings, "epoch": self.epoch, "history": self.history, "kept": self.kept,
                 "groups": state["param_groups"], "scheduler": self.scheduler.state_dict()}  # fmt: skip
        with replacing(self.state_path) as temporary:
            save_file(
                {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
                temporary,
                {name: json.dumps(value) for name, value in texts.items()},
            )

    def _load(self):
        try:
            with safe_open(self.state_path, "pt") as file:
                texts = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{self.state_path} is damaged: delete it to start again ({error})") from error
        _same_settings(self.state_path, texts.get("settings", {}), self.settings)
        parts = {"model": {}, "best": {}, "optimiser": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        moments = {}
        for name, tensor in parts["optimiser"].items():
            number, _, rest = name.partition(".")
            moments.setdefault(int(number), {})[rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.optimiser.load_state_dict({"state": moments, "param_groups": texts["groups"]})
        self.scheduler.load_state_dict(texts["scheduler"])
        self.best, self.epoch, self.history, self.kept = parts["best"], texts["epoch"], texts["history"], texts["kept"]


def _network(start, given: dict) -> FaceChannel:
    """Return the start checkpoint's model, or a new one of the shape that is `given`."""
    if start is None:
        return FaceChannel.preset(given.pop("preset", "paper"), **{"width": 64, "batch_norm": True, **given})
    model = load_model(start)
    have = model.config.as_dict()
    for name, value in given.items():
        if have[name] != value:
            raise InputError(f"{name} is {value!r}, but the start checkpoint {start} has {have[name]!r}: leave it out")
    return model


def _finished(out: Path, settings: dict, progress: bool) -> FaceChannel:
    """Return the model that an equal run has already written."""
    _same_settings(out, read_metadata(out), settings)
    out.with_name(out.name + ".state").unlink(missing_ok=True)
    if progress:
        tqdm.write(f"{out} is there already, trained with these settings: nothing to do", file=sys.stderr)
    return load_model(out)


def _same_settings(path: Path, found: dict, wanted: dict) -> None:
    """Refuse to go on with what other settings made, and name those that differ."""
    found, wanted = _flat({name: found.get(name) for name in wanted}), _flat(wanted)
    differing = [
        f"{name} ({found.get(name, 'none')} there, {wanted.get(name, 'none')} here)"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"{path} was made with other settings: {'; '.join(differing)}. "
            "Choose another output, repeat its settings, or pass overwrite (--overwrite)"
        )


def _flat(settings: dict) -> dict:
    """Return one level: {"recipe": {"epochs": 3}} as {"recipe.epochs": 3}."""
    flat = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{key}".rstrip("."): item for key, item in inner.items()}
    return flat


def _check_positive(**values) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} is {value!r}; allowed: more than 0")


def _mask_of(faces) -> dict:
    return {name: value for name, value in faces.attrs.items() if name.startswith("mask")}


def _name_of(start) -> str:
    return "" if start is None else Path(start).stem


def _line(name: str, entry: dict, epochs: int) -> str:
    scores = ", ".join(
        f"{condition} " + " ".join(f"{target} {value:.3f}" for target, value in zip(TARGETS, values, strict=True))
        for condition, values in entry["ccc"].items()
    )
    return f"{name} epoch {entry['epoch']}/{epochs}: loss {entry['loss']:.4f}; validation CCC {scores}"


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
