"""The folder of a search: a study that several processes share, the lock of each training, and the tables of both.

The study is an SQLite file of Optuna's, which survives processes that are killed. Each trial is a ticket, 0 to N - 1,
and whoever holds its lock works on it; the lock of a process that is killed is free, and its trial is taken up again
with the same choice, at the epoch where it stopped.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from fcx.core.contract import TARGETS
from fcx.core.errors import InputError
from fcx.core.files import replacing
from fcx.core.seeds import worded_generator
from fcx.networks.run_settings import same_settings
from fcx.networks.search_trials import Choice

LAYERS, LOG2_UNITS, RATES, OPTIMISERS = (1, 3), (4, 10), (5e-4, 0.9), ("adam", "sgd")  # Table 1 of the paper
PAPER = Choice()
UNPRUNED = 8  # trials that come to their end before any is pruned
CHECKS = 3  # trainings of the best choice, and of the paper's, with seeds that no trial had
COLUMNS = ["trial", "state", *asdict(PAPER), "ccc", *TARGETS, "epochs", "kept_epoch", "seconds", "restarts", "choice",
           "reason"]  # fmt: skip
TABLES = ("trials", "importance", "checks")


def optuna():
    """Return the library Optuna.

    Raises: InputError where it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("a search needs Optuna, which is not installed: pip install 'fcx-faces[search]', or in a "
                         f"checkout pip install -c constraints.txt -e '.[search]' ({error})") from error  # fmt: skip
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Folder:
    """What lies in the folder of a search, as any of its processes sees it."""

    path: Path
    seed: int

    def begin(self, settings: dict) -> None:
        """Make the study where there is none.

        Raises: CheckpointError where it is one of other settings.
        """
        (self.path / "trials").mkdir(parents=True, exist_ok=True)
        with self.claimed("study", wait=True):
            library = optuna()
            study = library.create_study(storage=_storage(self.path), study_name="search", direction="maximize",
                                         load_if_exists=True)  # fmt: skip
            if "settings" not in study.user_attrs:
                study.set_user_attr("settings", settings)
            same_settings(self.path / "study.db", study.user_attrs["settings"], settings)

    def study(self, sampler=None, pruner=None):
        """Return the study, with a sampler and a pruner where it is asked."""
        return optuna().load_study(study_name="search", storage=_storage(self.path), sampler=sampler, pruner=pruner)

    @contextlib.contextmanager
    def claimed(self, name: str, wait: bool = False) -> Iterator[bool]:
        """Hold the lock of a piece of work; False where another process holds it and this one does not `wait`."""
        lock = FileLock(self.path / "trials" / f"{name}.lock")
        try:
            lock.acquire(blocking=wait)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def tickets(self) -> dict[int, list]:
        """Return ticket -> its trials, of which the last counts: those before it were left by killed processes."""
        tickets: dict[int, list] = {}
        for trial in self.study().get_trials(deepcopy=False):
            if "ticket" in trial.user_attrs:
                tickets.setdefault(trial.user_attrs["ticket"], []).append(trial)
        return dict(sorted(tickets.items()))

    def unfinished(self, trials: int) -> list[int]:
        """Return the tickets below `trials` that have not come to an end."""
        tickets = self.tickets()
        return [n for n in range(trials) if n not in tickets or _state(tickets[n][-1]) == "unfinished"]

    def ask(self, ticket: int, epochs: int):
        """Return study, trial and choice of a ticket whose lock is held: what a killed process left, or a new one."""
        library, words = optuna(), ("search", ticket)
        number = int(worded_generator(self.seed, *words).integers(2**31))
        study = self.study(
            library.samplers.TPESampler(seed=number),
            library.pruners.MedianPruner(UNPRUNED, n_warmup_steps=epochs // 3),
        )
        before = self.tickets().get(ticket, [])
        params = before[-1].params if before else {} if ticket else _params(PAPER)
        with self.claimed("ask", wait=True):
            if before:
                study.tell(before[-1].number, state=library.trial.TrialState.FAIL, skip_if_finished=True)
            study.enqueue_trial(params, user_attrs={"ticket": ticket})
            while (trial := study.ask()).user_attrs.get("ticket") != ticket:  # which was killed before it began
                study.tell(trial, state=library.trial.TrialState.FAIL)
            return study, trial, _choice(trial)

    def best(self) -> Choice | None:
        """Return the choice of the trial with the highest score of those that came to their end."""
        table = self.trials_table()
        chosen = table[table.choice.str.contains("best")]
        return next((Choice(r.layers, r.hidden, r.learning_rate, r.optimiser) for r in chosen.itertuples()), None)

    def write(self, *names: str) -> None:
        """Write some of the tables as CSV."""
        for name in names:
            with replacing(self.path / f"{name}.csv") as temporary:
                getattr(self, f"{name}_table")().to_csv(temporary, index=False, lineterminator="\n")

    def trials_table(self) -> pd.DataFrame:
        """Return a row for each trial: its choice, how it ended, and its scores on the faces that choose."""
        rows = []
        for ticket, trials in self.tickets().items():
            last, attrs = trials[-1], trials[-1].user_attrs
            state = _state(last)
            if len(last.params) < len(asdict(PAPER)):  # it is being drawn
                continue
            rows.append({"trial": ticket, "state": state, **asdict(_known(last.params)),
                         "ccc": last.value if last.values else math.nan,
                         **{name: attrs.get(name, math.nan) for name in (*TARGETS, "epochs", "kept_epoch", "seconds")},
                         "restarts": len(trials) - 1, "choice": "" if ticket else "paper",
                         "reason": attrs.get("reason", "")})  # fmt: skip
        table = pd.DataFrame(rows, columns=COLUMNS)
        ended = table[table.state == "complete"]
        if len(ended):
            best = ended.ccc.idxmax()
            table.loc[best, "choice"] = f"{table.loc[best, 'choice']} best".strip()
        return table

    def importance_table(self) -> pd.DataFrame:
        """Return how much of the variance of the scores each parameter explains, by Optuna's fANOVA; empty where the
        trials that came to their end are too few, or equal.

        Source: Hutter, Hoos and Leyton-Brown, ICML 2014.
        """
        library, study = optuna(), self.study()
        values = [trial.value for trial in study.get_trials(deepcopy=False) if _state(trial) == "complete"]
        if len(set(values)) < 2:
            return pd.DataFrame(columns=["parameter", "importance", "trials"])
        evaluator = library.importance.FanovaImportanceEvaluator(seed=self.seed % 2**32)
        shares = library.importance.get_param_importances(study, evaluator=evaluator)
        rows = [{"parameter": name.removeprefix("log2_"), "importance": float(value), "trials": len(values)}
                for name, value in shares.items()]  # fmt: skip
        return pd.DataFrame(rows)

    def checks_table(self) -> pd.DataFrame:
        """Return the scores on the split validation of each training of the best and of the paper's choice."""
        attrs, rows, best = self.study().user_attrs, [], self.best()
        for role, choice in (("best", best), ("paper", PAPER)):
            for k in range(CHECKS):
                if choice is not None and (key := name_of_check(choice, k)) in attrs:
                    rows.append({"choice": role, **asdict(choice), "training": k + 1, **attrs[key]})
        return pd.DataFrame(rows, columns=["choice", *asdict(PAPER), "training", "seed", *TARGETS, "seconds", "reason"])


def name_of_check(choice: Choice, k: int) -> str:
    """Return what the k-th check of a choice is called."""
    return f"check-{choice.layers}-{choice.hidden}-{choice.optimiser}-{choice.learning_rate!r}-{k}"


@cache
def _storage(path: Path):
    file = (path / "study.db").absolute()
    return optuna().storages.RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 100}})


def _state(trial) -> str:
    """Return "complete", "pruned", "diverged" or "unfinished"."""
    if trial.state.name == "PRUNED":
        return "diverged" if "reason" in trial.user_attrs else "pruned"
    return "complete" if trial.state.name == "COMPLETE" else "unfinished"


def _choice(trial) -> Choice:
    trial.suggest_int("layers", *LAYERS)
    trial.suggest_int("log2_hidden", *LOG2_UNITS)
    trial.suggest_float("learning_rate", *RATES, log=True)
    trial.suggest_categorical("optimiser", OPTIMISERS)
    return _known(trial.params)


def _known(params: dict) -> Choice:
    return Choice(params["layers"], 2 ** params["log2_hidden"], params["learning_rate"], params["optimiser"])


def _params(choice: Choice) -> dict:
    return {"layers": choice.layers, "log2_hidden": int(math.log2(choice.hidden)),
            "learning_rate": choice.learning_rate, "optimiser": choice.optimiser}  # fmt: skip
