"""One training run: what an epoch does, and the state that survives an interruption."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm.std import tqdm

from fcx.core.checks import choose
from fcx.core.contract import TARGETS
from fcx.core.errors import CheckpointError, FcxError
from fcx.networks.checkpoints import read_tensors, write_tensors
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import forward
from fcx.networks.recipes import augment, loss_of
from fcx.statistics.concordance import ccc

LOG = logging.getLogger(__name__)


def trained_modules(model: FaceChannel, scheme: str) -> list[str]:
    """Return the names of the parts that `scheme` changes (the rest is frozen)."""
    parts = ("trunk", "conv10", "inhibitory", "shunt", "hidden", "head")
    return [name for name in parts if hasattr(model, name) and not (name == "trunk" and scheme == "last_conv")]


class Run:
    """One training: what is in the state file, and how it moves on by an epoch."""

    def __init__(self, model, scheme, recipe, data, settings, out: Path):
        self.model, self.recipe, self.data, self.settings, self.out = model, recipe, data, settings, out
        self.state_path = out.with_name(out.name + ".state")
        self.steps = max(1, len(data.images) // recipe.batch_size)  # the rest of an epoch waits for the next
        self.parts = trained_modules(model, scheme)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.parts)
        self.optimiser, self.scheduler = self._optimiser(recipe.rate if scheme == "scratch" else recipe.fine_rate)
        self.epoch, self.history, self.best, self.kept = 0, [], {}, 0

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
        """Train until the last epoch, saving the state after each, and end with the weights of the kept one."""
        if self.state_path.exists():
            try:
                self._load()
            except CheckpointError:
                if not overwrite:
                    raise
        self._save()  # a folder that cannot be written to is found now, not after an epoch
        while self.epoch < self.recipe.epochs:
            # Each epoch has a seed of its own, so a resumed run needs no generator's state.
            torch.manual_seed(int(np.random.SeedSequence([seed, self.epoch]).generate_state(1)[0]))
            loss = self._learn(device, progress)
            self.epoch += 1
            values = {name: ccc(self._predict(name, device), self.data.truth).tolist() for name in self.data.conditions}
            scored = {name: dict(zip(TARGETS, pair, strict=True)) for name, pair in values.items()}
            self.history.append({"epoch": self.epoch, "loss": loss, "ccc": scored})
            mean = [np.mean([*past["ccc"][self.settings["condition"]].values()]) for past in self.history]
            if self.recipe.keep == "last" or not self.best or mean[-1] >= max(mean):
                self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                self.kept = self.epoch
            self._save()
            if progress:
                LOG.info(_line(self.out.stem, self.history[-1], self.recipe.epochs))
        self.model.load_state_dict(self.best)

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

    def _save(self):
        """Write model, optimiser, schedule and history to the state file: all of it, or nothing."""
        state = self.optimiser.state_dict()
        moments = {f"{i}.{name}": value for i, of in state["state"].items() for name, value in of.items()}
        parts = {"model": self.model.state_dict(), "best": self.best, "moments": moments}
        write_tensors(
            self.state_path,
            {f"{part} {name}": v for part, of in parts.items() for name, v in of.items() if v is not None},
            {"settings": self.settings, "epoch": self.epoch, "history": self.history, "kept": self.kept,
             "groups": state["param_groups"], "scheduler": self.scheduler.state_dict()},
        )  # fmt: skip

    def _load(self):
        tensors, texts = read_tensors(self.state_path)
        same_settings(self.state_path, texts.get("settings", {}), self.settings)
        try:
            self._restore(tensors, texts)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError is torch's
            raise CheckpointError(
                f"{self.state_path} is damaged: remove it, or pass overwrite (--overwrite)"
            ) from error

    def _restore(self, tensors, texts):
        parts, moments = {"model": {}, "best": {}, "moments": {}}, {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(" ")
            parts[part][rest] = tensor
        for name, tensor in parts["moments"].items():
            number, _, rest = name.partition(".")
            moments.setdefault(int(number), {})[rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.optimiser.load_state_dict({"state": moments, "param_groups": texts["groups"]})
        self.scheduler.load_state_dict(texts["scheduler"])
        self.best, self.epoch, self.history, self.kept = parts["best"], texts["epoch"], texts["history"], texts["kept"]


def same_settings(path: Path, found: dict, wanted: dict) -> None:
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


def _line(name: str, entry: dict, epochs: int) -> str:
    scores = ", ".join(
        f"{condition} " + " ".join(f"{target} {value:.3f}" for target, value in values.items())
        for condition, values in entry["ccc"].items()
    )
    return f"{name} epoch {entry['epoch']}/{epochs}: loss {entry['loss']:.4f}; validation CCC {scores}"
