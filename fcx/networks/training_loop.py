"""One training run: what an epoch does, and the state that survives an interruption."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.std import tqdm

from fcx.core.checks import memory
from fcx.core.contract import TARGETS
from fcx.core.errors import CheckpointError, FcxError, InputError
from fcx.core.files import replacing
from fcx.networks.augmentation import augment, random_changes
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inputs import as_pixels
from fcx.networks.losses import loss_of
from fcx.networks.run_settings import same_settings
from fcx.networks.sharing import Group
from fcx.networks.tensor_files import read_tensors, write_tensors
from fcx.statistics.concordance import ccc, parts_of_moments

LOG = logging.getLogger(__name__)
SCHEMES = {  # the parts that are not changed
    "scratch": (), "all_layers": (), "last_conv": ("trunk",), "head": ("trunk", "conv10", "inhibitory", "shunt"),
}  # fmt: skip
SAVE_EVERY = 300  # seconds within an epoch
EXPLODED = 1e3  # a loss that labels in [-1, 1] never give while a network learns
PLACE = ("epoch", "step", "history", "kept", "seconds")  # what a state says of how far a run is
OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def trained_modules(model: FaceChannel, scheme: str) -> list[str]:
    """Return the names of the parts that `scheme` changes (the rest is frozen)."""
    with_weights = [name for name, part in model.named_children() if any(True for _ in part.parameters())]
    return [name for name in with_weights if name not in SCHEMES[scheme]]


class Run:
    """One training: what is in the state file, and how it moves on by a batch and by an epoch."""

    def __init__(self, model, scheme, recipe, data, settings, out: Path, group: Group):
        self.model, self.scheme, self.recipe, self.data, self.settings = model, scheme, recipe, data, settings
        self.out, self.state_path, self.group = out, out.with_name(out.name + ".state"), group
        # What does not fill a batch waits for the next epoch.
        self.steps = recipe.steps or max(1, len(data.images) // recipe.batch_size)
        self.parts = trained_modules(model, scheme)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.parts)
        self.optimiser, self.scheduler = self._optimiser(
            recipe.learning_rate if scheme == "scratch" else recipe.fine_rate
        )
        if SCHEMES[scheme]:  # the layers of a FaceChannel that are frozen, and the others
            inhibited = self.model.inhibited if scheme == "last_conv" else torch.nn.Identity()
            self.first = self.model.trunk if scheme == "last_conv" else self.model.features
            self.rest = lambda maps: self.model.activation(self.model.tail(inhibited(maps)))
        precision, kind = recipe.precision, group.device.type
        if (precision, kind) == ("float16", "cpu"):
            raise InputError("precision is 'float16', in which a CPU does not train: give bfloat16 or float32, or a "
                             "GPU as device")  # fmt: skip
        self.autocast = torch.autocast(kind, getattr(torch, precision), enabled=precision != "float32")
        self.scaler = torch.amp.GradScaler(kind, enabled=precision == "float16")  # whose small gradients would be 0
        self.images = _on_device(data.images, group.device)
        self.epoch, self.step, self.sums = 0, 0, np.zeros(2 + 5 * len(TARGETS))
        self.history, self.best, self.kept, self.seconds = [], {}, 0, 0.0

    def _optimiser(self, rate):
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # Biases, batch norm and the decay of the shunt are not pulled towards zero.
        groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
                  {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
        optimiser = OPTIMISERS[self.recipe.optimiser](groups, lr=rate)
        if self.recipe.schedule == "one_cycle":
            total = self.steps * self.recipe.epochs
            return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total, cycle_momentum=False)
        return optimiser, torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.2, patience=5, min_lr=1e-4)

    def go(self, progress, overwrite, frozen=None, report=None):
        """Train until the last epoch, saving the state as it goes, and end with the weights of the kept one.

        `frozen` is what `frozen_maps` returned for a network whose frozen part is the same; `report` is called with
        the run after each epoch, and may end it by raising.
        """
        if self.state_path.exists():
            try:
                self._load()
            except CheckpointError:
                if not overwrite:
                    raise
        self.group.wait()  # until all have read it
        self._save()  # a folder that cannot be written to is found now, not after an epoch
        self.model.eval()
        self.frozen = self.frozen_maps(progress) if frozen is None else frozen
        while self.epoch < self.recipe.epochs:
            loss = self.learn(progress)
            self.epoch, self.step, self.sums = self.epoch + 1, 0, np.zeros_like(self.sums)
            values = {name: ccc(self._predict(name), self.data.truth).tolist() for name in self.data.conditions}
            scored = {name: dict(zip(TARGETS, pair, strict=True)) for name, pair in values.items()}
            self.history.append({"epoch": self.epoch, "loss": loss, "ccc": scored})
            mean = [np.mean([*past["ccc"][self.settings["condition"]].values()]) for past in self.history]
            if self.recipe.keep == "last" or not self.best or mean[-1] >= max(mean):
                self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                self.kept = self.epoch
            self._save()
            if self.group.main:
                _write_log(self.out.with_name(self.out.stem + ".log.csv"), self.history)
            if progress:
                LOG.info(_line(self.out.stem, self.history[-1], self.recipe.epochs))
            if report is not None:
                report(self)
        self.model.load_state_dict(self.best)

    def learn(self, progress) -> float:
        """Pass once over the training faces in random order, and return the mean loss."""
        self.model.train()
        for name, part in self.model.named_children():
            if name in SCHEMES[self.scheme]:
                part.eval()  # no dropout, and batch norm keeps its statistics
        order, batch_size = self._order(), self.recipe.batch_size
        bar = tqdm(total=self.steps, initial=self.step, desc=f"{self.out.stem} {self.epoch + 1}/{self.recipe.epochs}",
                   file=sys.stderr, leave=False, disable=not progress,
                   mininterval=0.5 if sys.stderr.isatty() else 30)  # fmt: skip
        begun = saved = time.monotonic()
        while self.step < self.steps:
            rows = order[self.step * batch_size : (self.step + 1) * batch_size]
            # Each batch has a seed of its own, so that a resumed run needs no generator's state.
            torch.manual_seed(self._seed(self.step + 1))
            truth = self.data.labels[:, rows].T.to(self.group.device)
            with self.autocast:
                answer = self._answer(rows).float()
            answer = self.group.whole(answer, len(rows))
            loss = loss_of(answer, truth, self.recipe.ccc_loss)
            self._check(value := loss.item(), rows)
            self.optimiser.zero_grad()
            self.scaler.scale(loss).backward()
            self.group.sum_gradients(self.model.parameters())
            self.scaler.step(self.optimiser)
            self.scaler.update()
            if self.recipe.schedule == "one_cycle":
                self.scheduler.step()
            self.step += 1
            self.sums += _sums(value, answer.detach(), truth)
            bar.set_postfix_str(self._so_far(), refresh=False)
            bar.update()
            if time.monotonic() - saved > SAVE_EVERY:
                self.seconds, begun = self.seconds + time.monotonic() - begun, time.monotonic()
                self._save()
                saved = time.monotonic()
        bar.close()
        self.seconds += time.monotonic() - begun
        loss = self.sums[0] / self.steps
        if self.recipe.schedule == "plateau":
            self.scheduler.step(loss)
        return loss

    def _answer(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what the network answers to this process's share of some training faces, (sample, target)."""
        share, device = self.group.share(len(rows)), self.group.device
        if self.frozen is not None:
            return self.rest(self.frozen[""][rows[share]].to(device))
        images = as_pixels(self.model, self.images[rows[share].to(self.images.device)], device)
        if self.recipe.augmented:
            images = augment(images, tuple(part[share] for part in random_changes(len(rows), images.shape[-1])))
        return self.model(images)

    def frozen_maps(self, progress) -> dict[str, torch.Tensor] | None:
        """Return the maps (sample, channel, y/8, x/8) that the frozen part answers with, where they are always the same
        and the machine can hold them: "" of the training faces, and by condition of the validation faces."""
        if not SCHEMES[self.scheme] or self.recipe.augmented:
            return None
        config, faces = self.model.config, {"": self.data.images, **self.data.validation}
        count = sum(map(len, faces.values()))
        if 4 * count * config.width * (config.size // 8) ** 2 > memory() / 2:
            return None
        with tqdm(total=count, desc=f"{self.out.stem} frozen part", file=sys.stderr, leave=False,
                  disable=not progress) as bar:  # fmt: skip
            return {name: in_parts(self.first, images, self.group.device, bar) for name, images in faces.items()}

    def _seed(self, step: int) -> int:
        return int(np.random.SeedSequence([self.settings["seed"], self.epoch, step]).generate_state(1)[0])

    def _order(self) -> torch.Tensor:
        """Return the rows of the batches of an epoch: each face once, then again where more are asked for."""
        torch.manual_seed(self._seed(0))
        count, wanted = len(self.data.images), self.steps * self.recipe.batch_size
        return torch.cat([torch.randperm(count) for _ in range(-(-wanted // count))])

    def _check(self, loss: float, rows: torch.Tensor) -> None:
        """Stop where a loss is not finite or explodes.

        Raises: FcxError naming the batch.
        """
        if loss < EXPLODED:  # which NaN is not
            return
        faces = [str(self.data.names[row]) for row in rows[:3].tolist()]
        rate = "learning_rate" if self.scheme == "scratch" else "fine_rate"
        raise FcxError(
            f"the loss is {loss:g} in epoch {self.epoch + 1}, batch {self.step + 1} (faces {', '.join(faces)} and "
            f"{len(rows) - len(faces)} more), at a learning rate of {self.optimiser.param_groups[0]['lr']:g}: "
            f"train with a lower one ({rate})"
        )

    def _so_far(self) -> str:
        """Return the loss and the CCC of this epoch's batches, before the weights moved on."""
        p, t, pp, tt, pt = self.sums[2:].reshape(5, len(TARGETS)) / self.sums[1]
        with np.errstate(invalid="ignore"):  # outputs that do not vary yet
            parts = parts_of_moments(p - t, np.maximum(pp - p**2, 0), np.maximum(tt - t**2, 0), pt - p * t)
        values = " ".join(f"{name} {value:.2f}" for name, value in zip(TARGETS, parts["ccc"], strict=True))
        return f"loss {self.sums[0] / self.step:.3f}, CCC {values}"

    def _predict(self, condition) -> np.ndarray:
        self.model.eval()
        layers, inputs = (self.model, self.data.validation) if self.frozen is None else (self.rest, self.frozen)
        mine = in_parts(layers, inputs[condition][self.group.share(len(inputs[condition]))], self.group.device)
        whole = self.group.whole(mine.to(self.group.device), len(inputs[condition]))
        return whole.T.double().cpu().numpy()

    def _save(self):
        """Write model, optimiser, schedule and history to the state file: all of it, or nothing."""
        if not self.group.main:
            return
        state = self.optimiser.state_dict()
        moments = {f"{i}.{name}": value for i, of in state["state"].items() for name, value in of.items()}
        parts = {"model": self.model.state_dict(), "best": self.best, "moments": moments}
        write_tensors(
            self.state_path,
            {f"{part} {name}": v for part, of in parts.items() for name, v in of.items() if v is not None},
            {**{name: getattr(self, name) for name in PLACE}, "settings": self.settings, "sums": self.sums.tolist(),
             "groups": state["param_groups"], "scheduler": self.scheduler.state_dict(),
             "scaler": self.scaler.state_dict()},
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
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(texts["scaler"])
        self.best, self.sums = parts["best"], np.array(texts["sums"])
        for name in PLACE:
            setattr(self, name, texts[name])


def _on_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return pictures in the memory of a GPU, if half of what is free there holds them, else as they are."""
    fits = device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] / 2
    return images.to(device) if fits else images


def in_parts(layers, inputs, device, bar=None) -> torch.Tensor:
    """Return what layers answer to maps, or to pictures (sample, y, x) uint8, 256 at a time and without a graph."""
    parts, inputs = [], torch.as_tensor(inputs)
    with torch.inference_mode():
        for some in inputs.split(256):
            parts.append(layers(as_pixels(None, some, device) if some.dtype == torch.uint8 else some.to(device)).cpu())
            if bar is not None:
                bar.update(len(some))
    return torch.cat(parts)


def _sums(loss: float, answer: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Return a batch's loss, its number of faces, and sums over them of p, t, pp, tt and pt, each for every target."""
    p, t = (side.double().cpu().numpy() for side in (answer, truth))
    return np.concatenate([[loss, len(p)], *(part.sum(0) for part in (p, t, p * p, t * t, p * t))])


def _write_log(path: Path, history: list[dict]) -> None:
    """Write loss and validation CCC of every epoch as a CSV."""
    with replacing(path) as temporary:
        pd.json_normalize(history, sep="_").to_csv(temporary, index=False)


def _line(name: str, entry: dict, epochs: int) -> str:
    scores = ", ".join(
        f"{condition} " + " ".join(f"{target} {value:.3f}" for target, value in values.items())
        for condition, values in entry["ccc"].items()
    )
    return f"{name} epoch {entry['epoch']}/{epochs}: loss {entry['loss']:.4f}; validation CCC {scores}"
