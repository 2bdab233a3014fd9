"""Search for the shape of the dense layers and how they are taught: Table 1 of the paper, by Optuna.

Barros and Sciutti, "I Only Have Eyes for You", 2021, Table 1. Trials are drawn by tree-structured Parzen estimators
(Bergstra et al. 2011) and pruned where they lie below the median of the others at the same epoch.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fcx.core.arguments import Count, FilePath, Seed, Switch, Workers, checked
from fcx.core.checks import choose, choose_all
from fcx.core.contract import TARGETS, Faces
from fcx.core.errors import FcxError, InputError
from fcx.core.parallel import in_order
from fcx.core.recipes import RECIPE_OPTIONS, RECIPES
from fcx.networks.checkpoints import check_crop, load_facechannel
from fcx.networks.facechannel import Config
from fcx.networks.inference import usable_device
from fcx.networks.inputs import read_variable
from fcx.networks.search_folder import CHECKS, PAPER, TABLES, Folder, name_of_check, optuna
from fcx.networks.search_trials import Choice, Task

LOG = logging.getLogger(__name__)
SEARCHED = ("optimiser", "learning_rate", "fine_rate", "keep")  # what the recipe of a trial has of its own


@dataclass
class Search:
    """What a search leaves: a row for each trial; for each parameter how much it matters; and for each training of the
    best and of the paper's choice with fresh seeds."""

    trials: pd.DataFrame
    importance: pd.DataFrame
    checks: pd.DataFrame


@checked
def search(faces: Faces, out: FilePath, *, trials: Count = 40, condition: str = "plain",
           features: FilePath | None = None, scheme: str = "last_conv", width: Count | None = None,
           recipe: str = "modern", train_faces: Count | None = None, seed: Seed = 0, workers: Workers = 1,
           device="cpu", progress: Switch = True, **changes) -> Search:  # fmt: skip
    """Search hidden layers, their units, learning rate and optimiser in the space of the paper's Table 1.

    Each trial trains a network of `width` (32) on faces of the split "train"; with `features`, a checkpoint, only what
    `scheme` ("last_conv" or "head") changes of it, on maps of what is frozen that are computed once. A fifth of the
    split, by hash, is not learnt: the mean CCC on these faces is what is maximised. The first trial is the paper's
    choice. At the end the best and the paper's are trained three times more with fresh seeds, and scored on the
    split "validation", which has chosen nothing. `recipe` and `changes`, fields of `Recipe`, say the rest; weight decay
    is 0 where it is not given, and pictures are changed at random only where the whole network is trained.

    The same call goes on where it stopped, or takes more trials; calls in several processes, as `workers`, share
    the work. `out` then holds trials.csv, importance.csv, checks.csv, and study.db, a study of Optuna's.

    Raises: InputError where Optuna is not installed, or for faces or options that cannot be used; CheckpointError for a
    folder in which something else was searched; FcxError where no trial comes to its end.
    Source: Barros and Sciutti 2021, Table 1; Akiba et al. 2019 (1907.10902).

    >>> search(faces, "searched", features="plain_scratch", trials=40).checks  # doctest: +SKIP
    """
    optuna()
    choose_all(changes, [name for name in RECIPE_OPTIONS if name not in SEARCHED], "argument of search")
    changes = {"weight_decay": 0.0} | {name: value for name, value in changes.items() if value is not None}
    chosen = RECIPES[choose(recipe, RECIPES, "recipe")].changed(**changes, keep="best")
    device, start = usable_device(device), None if features is None else load_facechannel(features)
    if start is None:
        scheme, config = "scratch", Config(width=width or 32, batch_norm=True, dropout=chosen.dropout)
    else:
        if width is not None:
            raise InputError(
                f"width is {width}, but a search on the features of a checkpoint has its width: leave it out"
            )
        choose(scheme, ("last_conv", "head"), "scheme of a search on features")
        check_crop(start.metadata, faces, "the checkpoint of the features")
        config, chosen = replace(start.config, dropout=chosen.dropout), chosen.changed(augmented=False)
        read_variable(start, faces)
    task = Task(faces, condition, scheme, config, chosen, seed, train_faces, start, device, progress)
    folder = Folder(Path(out), seed)
    folder.begin({
        "condition": condition, "scheme": scheme, "seed": seed, "config": config.as_dict(),
        "features": start.metadata["sha256"] if start else "", "recipe": json.loads(json.dumps(asdict(chosen))),
        "crop": faces.attrs.get("crop", ""), "data": task.data.described(),
    })  # fmt: skip
    for wait in (False, True):  # first what nobody works on, then what another process has not brought to an end
        left = [(ticket,) for ticket in folder.unfinished(trials)]
        for (ticket,), _ in in_order(Ticket(folder, task, wait), left, workers, progress, "search", unit="trial"):
            folder.write("trials")
            if progress:
                LOG.info(_line(folder.trials_table(), ticket))
    if (best := folder.best()) is None:
        reasons = "; ".join(folder.trials_table().reason.unique())
        raise FcxError(f"no trial came to its end ({reasons}): allow more trials, or give more epochs or faces")
    checks = [((choice, k),) for choice in dict.fromkeys((best, PAPER)) for k in range(CHECKS)]
    for _ in in_order(Check(folder, task), checks, workers, progress, "checks", unit="training"):
        pass
    folder.write(*TABLES)
    return read_search(out)


def read_search(folder: FilePath) -> Search:
    """Return what `search` left in a folder.

    Raises: InputError where nothing is there.

    >>> read_search("searched").trials  # doctest: +SKIP
    """
    files = [Path(folder) / f"{name}.csv" for name in TABLES]
    if missing := [file.name for file in files if not file.is_file()]:
        raise InputError(f"{folder} lacks {', '.join(missing)}: give the folder that fcx search wrote")
    words = {"reason": "", "choice": ""}
    return Search(*(pd.read_csv(file, dtype=dict.fromkeys(words, str)).fillna(words) for file in files))


@dataclass(frozen=True)
class Ticket:
    """The work on one ticket: what it learns is pruned by what others reached, and what explodes has its reason."""

    folder: Folder
    task: Task
    wait: bool

    def __call__(self, block: tuple[int]) -> None:
        """Bring the trial of a ticket to its end, unless another process is at it."""
        (ticket,) = block
        with self.folder.claimed(f"trial-{ticket}", self.wait) as mine:
            if mine and ticket in self.folder.unfinished(ticket + 1):
                self._work(ticket)

    def _work(self, ticket: int) -> None:
        library, task = optuna(), self.task
        study, trial, choice = self.folder.ask(ticket, task.recipe.epochs)
        pruned, told = False, 0

        def report(run) -> None:
            nonlocal told, pruned
            scores = task.mean_ccc(run)
            for epoch in range(told, len(scores)):
                trial.report(scores[epoch], epoch + 1)
            told = len(scores)
            if ticket and told < task.recipe.epochs and trial.should_prune():  # the paper's own choice comes to its end
                raise library.TrialPruned

        run, state = None, library.trial.TrialState
        try:
            run = task.run(choice, task.seed, self.folder.path / "trials" / f"trial-{ticket}.safetensors")
            task.teach(run, report)
        except library.TrialPruned:
            pruned = True
        except FcxError as error:
            trial.set_user_attr("reason", str(error))
            pruned = True
        if run is not None:
            for name, value in _facts(run, task).items():
                trial.set_user_attr(name, value)
            run.state_path.unlink(missing_ok=True)
        if pruned:
            study.tell(trial, state=state.PRUNED)
        else:
            study.tell(trial, max(task.mean_ccc(run)))


def _facts(run, task: Task) -> dict:
    """Return how a run went: the scores of its best epoch, epochs, the kept one and seconds."""
    if not run.history:
        return {"epochs": 0, "seconds": round(run.seconds, 2)}
    best = int(np.argmax(task.mean_ccc(run)))
    scores = run.history[best]["ccc"][task.condition]
    return {**{name: float(scores[name]) for name in TARGETS}, "epochs": run.epoch, "kept_epoch": best + 1,
            "seconds": round(run.seconds, 2)}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """The work on one training with a fresh seed, scored on the split validation."""

    folder: Folder
    task: Task

    def __call__(self, block: tuple[tuple[Choice, int]]) -> None:
        """Train a choice with a seed that no trial had, unless that is done, and keep its score."""
        ((choice, k),) = block
        name = name_of_check(choice, k)
        with self.folder.claimed(name, wait=True):
            study = self.folder.study()
            if name in study.user_attrs:
                return
            seed = self.task.seed + 1 + k
            run = self.task.run(choice, seed, self.folder.path / "trials" / f"{name}.safetensors")
            try:
                self.task.teach(run)
                scores = {**self.task.score(run), "reason": ""}
            except FcxError as error:
                scores = {"reason": str(error)}
            study.set_user_attr(name, {**scores, "seed": seed, "seconds": round(run.seconds, 2)})
            run.state_path.unlink(missing_ok=True)


def _line(table: pd.DataFrame, ticket: int) -> str:
    """Say how a trial ended, and which is best."""
    row = table.set_index("trial").loc[ticket]
    words = (
        f"trial {ticket}: {row.layers} x {row.hidden} units, {row.optimiser} at {row.learning_rate:.4g}: {row.state}"
    )
    best = table[table.choice.str.contains("best")]
    beside = "" if best.empty else f"; best {best.ccc.iloc[0]:.3f} in trial {best.trial.iloc[0]}"
    return f"{words}, CCC {row.ccc:.3f} after {row.epochs:.0f} epochs{beside}"


def choices_table(searched: Search) -> pd.DataFrame:
    """Return the best and the paper's choice with mean, lowest and highest CCC of their trainings with fresh seeds.

    >>> choices_table(read_search("searched"))[["choice", "ccc"]]  # doctest: +SKIP
    """
    checks = searched.checks.assign(ccc=searched.checks[list(TARGETS)].mean(axis=1, skipna=False))
    names = ["choice", "layers", "hidden", "learning_rate", "optimiser"]
    means = {name: (name, "mean") for name in (*TARGETS, "ccc")}
    table = checks.groupby(names, sort=False).agg(
        **means, lowest=("ccc", "min"), highest=("ccc", "max"), trainings=("ccc", "count")
    )
    return table.reset_index()
