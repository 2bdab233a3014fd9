"""The search: its space, its split, its study among several processes that may be killed, and what its tables say."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from conftest import at_once
from test_training import teachable
from typer.testing import CliRunner

from fcx import figures
from fcx.cli import app
from fcx.core.errors import CheckpointError, FcxError, InputError, UnknownNameError
from fcx.core.files import digest
from fcx.core.recipes import RECIPES
from fcx.networks import search_folder
from fcx.networks.checkpoints import load_model, save_model
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.search import Check, Search, choices_table, read_search, search
from fcx.networks.search_folder import Folder
from fcx.networks.search_trials import CHOOSING, Choice, Task
from fcx.networks.training import train
from fcx.networks.training_loop import Run
from fcx.statistics.concordance import ccc

SMALL = {"width": 4, "epochs": 2, "batch_size": 8, "progress": False}
COUNT, TRIALS = 60, 8


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Return the folder of a small search and what it returned."""
    folder = tmp_path_factory.mktemp("search")
    return folder, search(teachable(COUNT), folder, trials=TRIALS, **SMALL)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)
    model = FaceChannel.preset("paper", width=4, hidden=4, batch_norm=True)
    return save_model(model, tmp_path_factory.mktemp("start") / "start.safetensors", {"crop": "face"})


def task(faces=None, features=None, scheme="scratch", **changes):
    recipe = RECIPES["modern"].changed(**{"epochs": 2, "batch_size": 8, "augmented": False, "keep": "best"} | changes)
    config = features.config if features else Config(width=4, batch_norm=True, dropout=recipe.dropout)
    return Task(faces if faces is not None else teachable(COUNT), "plain", scheme, config, recipe, 0, None, features,
                torch.device("cpu"))  # fmt: skip


def study_of(folder):
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")


def test_trials_lie_in_the_space_of_table_1_and_the_first_is_the_papers(searched):
    trials = searched[1].trials
    assert trials.trial.tolist() == list(range(TRIALS))
    assert tuple(trials.loc[0, ["layers", "hidden", "learning_rate", "optimiser"]]) == (1, 256, 0.05, "sgd")
    assert set(trials.layers) <= {1, 2, 3}
    assert set(trials.hidden) <= {16, 32, 64, 128, 256, 512, 1024}
    assert trials.learning_rate.between(0.0005, 0.9).all()
    assert set(trials.optimiser) == {"adam", "sgd"}
    assert len(trials.drop_duplicates(["layers", "hidden", "learning_rate", "optimiser"])) == TRIALS


def test_ranking_and_importance_are_optunas_own(searched):
    folder, made = searched
    study = study_of(folder)
    best = made.trials[made.trials.choice.str.contains("best")].iloc[0]
    assert best.trial == study.best_trial.user_attrs["ticket"]
    assert best.ccc == study.best_value
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    expected = optuna.importance.get_param_importances(study, evaluator=evaluator)
    found = dict(zip(made.importance.parameter, made.importance.importance, strict=True))
    assert found == pytest.approx({name.removeprefix("log2_"): value for name, value in expected.items()})
    assert made.importance.trials.unique().tolist() == [(made.trials.state == "complete").sum()]


def test_a_trial_is_a_training_with_these_settings(searched, tmp_path):
    """What a trial reaches equals `train` on faces split by hand, from the definition of who chooses."""
    faces = teachable(COUNT)
    subject, split = faces["subject"].values, faces["split"].values.copy()
    drawn = np.array([int(digest(f"0:subject {name}".encode()), 16) / 16**16 < CHOOSING for name in subject])
    split[split == "validation"] = "test"
    split[(split == "train") & drawn] = "validation"
    assert 2 <= (split == "validation").sum() < (split == "train").sum()
    faces["split"] = ("sample", split)
    row = searched[1].trials.iloc[0]
    options = {"hidden": 256, "optimiser": "sgd", "learning_rate": 0.05, "weight_decay": 0.0, "batch_norm": True}
    one = faces.sel(condition=["plain"])
    model = train(one, tmp_path / "a.safetensors", preset="paper", **options, **SMALL)
    scores = model.metadata["history"][model.metadata["kept_epoch"] - 1]["ccc"]["plain"]
    assert row[["arousal", "valence"]].tolist() == pytest.approx([scores["arousal"], scores["valence"]], abs=1e-7)
    assert row.ccc == pytest.approx(np.mean(list(scores.values())), abs=1e-7)


def test_who_chooses_is_not_learnt_and_the_validation_chooses_nothing():
    faces = teachable(COUNT)
    named = task(faces)
    other = faces.assign_coords(subject=("sample", [""] * COUNT))
    by_picture = task(other)
    for each in (named, by_picture):
        learnt, choosing = {image.tobytes() for image in each.data.images.numpy()}, each.data.validation["plain"]
        assert len(choosing) >= 2
        assert not learnt & {image.tobytes() for image in choosing}
        held = faces["image"].sel(condition="plain").values[faces["split"].values == "validation"]
        np.testing.assert_array_equal(each.held_back, held)
        assert len(learnt) + len(choosing) == (faces["split"].values == "train").sum()
    subjects = faces["subject"].values[np.isin(faces["sample"].values, named.data.names)]
    rest = (faces["split"].values == "train") & ~np.isin(faces["sample"].values, named.data.names)
    assert not set(subjects) & set(faces["subject"].values[rest])
    assert by_picture.data.names.tolist() != named.data.names.tolist()


@pytest.mark.parametrize("scheme", ["last_conv", "head"])
def test_features_are_those_of_the_checkpoint_and_stay(checkpoint, scheme, tmp_path):
    features = load_model(checkpoint)
    made = task(features=features, scheme=scheme)
    run = made.run(Choice(2, 16, 0.01, "adam"), 0, tmp_path / "x.safetensors")
    made.teach(run)
    after, before = run.model.state_dict(), features.state_dict()
    frozen = [name for name in before if name.startswith("trunk" if scheme == "last_conv" else ("trunk", "conv10"))]
    assert frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert after["hidden2.weight"].shape == (16, 16)
    with torch.no_grad():  # cached maps lead to the answers of the whole network
        pictures = teachable(COUNT).sel(condition="plain")
        pictures = pictures["image"].values[pictures["split"].values == "validation"]
        answers = run.model.eval()(torch.from_numpy(pictures)[:, None].float() / 255).T.numpy()
    assert list(made.score(run).values()) == pytest.approx(ccc(answers, made.truth).tolist(), abs=1e-5)


def test_checks_have_fresh_seeds_and_their_scores_are_those_of_the_validation(searched):
    folder, made = searched
    assert made.checks.groupby("choice").seed.agg(list).to_dict() == {"best": [1, 2, 3], "paper": [1, 2, 3]}
    row = made.checks.iloc[-1]
    Check(Folder(folder, 0), None)(((Choice(), 2),))  # is done: it needs no faces
    again = task(weight_decay=0.0, augmented=True)
    run = again.run(Choice(), 3, folder / "again.safetensors")
    again.teach(run)
    assert again.score(run) == pytest.approx(row[["arousal", "valence"]].to_dict(), abs=1e-7)
    table = choices_table(made)
    means = made.checks.groupby("choice")[["arousal", "valence"]].mean().mean(axis=1)
    assert table.set_index("choice").ccc.to_dict() == pytest.approx(means.to_dict())
    assert (table.lowest <= table.ccc).all()
    assert (table.ccc <= table.highest).all()


def test_a_search_goes_on_and_ends_as_if_it_had_not_stopped(searched, tmp_path, monkeypatch):
    faces, taught = teachable(COUNT), []
    teach = Task.teach

    def interrupted(self, run, report=None):
        taught.append(run.out.stem)
        if len(taught) == 3:
            raise KeyboardInterrupt
        return teach(self, run, report)

    monkeypatch.setattr(Task, "teach", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(faces, tmp_path, trials=4, **SMALL)
    again = search(faces, tmp_path, trials=4, **SMALL)
    assert taught[:5] == ["trial-0", "trial-1", "trial-2", "trial-2", "trial-3"]
    assert again.trials.restarts.tolist() == [0, 0, 1, 0]
    same = [name for name in again.trials if name not in ("seconds", "restarts", "choice")]
    pd.testing.assert_frame_equal(again.trials[same], searched[1].trials[same].iloc[:4], check_dtype=False)
    count = len(taught)
    search(faces, tmp_path, trials=4, **SMALL)
    assert len(taught) == count  # nothing is left to do
    with pytest.raises(CheckpointError, match=r"recipe.batch_size \(8 there, 9 here\)"):
        search(faces, tmp_path, trials=4, **{**SMALL, "batch_size": 9})


def _search(barrier, out):
    barrier.wait()
    search(teachable(COUNT), out, trials=3, **SMALL)


def test_two_processes_share_one_study(tmp_path):
    at_once(_search, tmp_path)
    trials = read_search(tmp_path).trials
    assert trials.trial.tolist() == list(range(3))
    assert len(study_of(tmp_path).trials) == 3  # none was done twice
    assert set(trials.state) <= {"complete", "pruned", "diverged"}
    checks = read_search(tmp_path).checks
    assert not checks.duplicated(["choice", "training"]).any()


KILLED = """
import os, sys
sys.path[:0] = {paths!r}
from test_search import SMALL, COUNT, Task, search, teachable
teach = Task.teach
def killed(self, run, report=None):
    def reported(run):
        report(run)
        if run.out.stem == "trial-1":
            os.kill(os.getpid(), 9)
    teach(self, run, reported)
Task.teach = killed
search(teachable(COUNT), {out!r}, trials=2, **SMALL)
"""


def test_what_a_killed_process_left_is_taken_up_where_it_stopped(searched, tmp_path, monkeypatch):
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", KILLED.format(paths=paths, out=str(tmp_path))])
    assert done.returncode == -signal.SIGKILL
    left = Folder(tmp_path, 0).trials_table()
    assert left.state.tolist() == ["complete", "unfinished"]
    epochs, learn = [], Run.learn
    monkeypatch.setattr(
        Run, "learn", lambda self, *rest: epochs.append((self.out.stem, self.epoch)) or learn(self, *rest)
    )
    trials = search(teachable(COUNT), tmp_path, trials=2, **SMALL).trials
    assert [epoch for name, epoch in epochs if name == "trial-1"] == [1]  # the first one was there
    assert trials.restarts.tolist() == [0, 1]
    pd.testing.assert_series_equal(trials.ccc, searched[1].trials.ccc[:2])
    assert not list(tmp_path.glob("trials/*.state"))


def test_what_another_process_works_on_is_left_to_it(tmp_path):
    folder = Folder(tmp_path, 0)
    folder.begin({})
    with folder.claimed("trial-0") as mine, folder.claimed("trial-0") as also:
        assert (mine, also) == (True, False)


def test_a_trial_that_diverges_is_no_crash_and_says_why(searched, tmp_path):
    trials = searched[1].trials
    diverged = trials[trials.state == "diverged"]
    assert len(diverged)  # a rate near .9 with Adam
    assert diverged.reason.str.contains("the loss is .* in epoch").all()
    assert (trials.reason[trials.state != "diverged"] == "").all()


def test_where_no_trial_comes_to_its_end_the_reason_is_said(tmp_path, monkeypatch):
    def exploding(self, run, report=None):
        raise FcxError("the loss is nan")

    monkeypatch.setattr(Task, "teach", exploding)
    with pytest.raises(FcxError, match=r"no trial came to its end \(the loss is nan\)"):
        search(teachable(COUNT), tmp_path, trials=1, **SMALL)
    assert pd.read_csv(tmp_path / "trials.csv").state.tolist() == ["diverged"]


def test_a_trial_below_the_median_is_pruned_but_not_the_papers(tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "mean_ccc", lambda self, run: [0.5 - int(run.out.stem.split("-")[1]) / 100] * run.epoch
                        if run.out.stem.startswith("trial") else [0.0])  # fmt: skip
    monkeypatch.setattr(search_folder, "UNPRUNED", 2)
    trials = search(teachable(COUNT), tmp_path, trials=4, **SMALL).trials
    ended = trials[trials.state != "diverged"]
    assert ended.state.tolist() == ["complete", "complete", *["pruned"] * (len(ended) - 2)]
    assert "pruned" in ended.state.values
    assert (ended.epochs[ended.state == "pruned"] == 1).all()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"learning_rate": 0.1}, UnknownNameError, "unknown argument of search 'learning_rate'"),
        ({"condition": "mask"}, UnknownNameError, "did you mean 'masked'"),
        ({"trials": 0}, InputError, "trials is 0"),
        ({"features": "plain_scratch"}, InputError, "width is 4, but a search on the features of a checkpoint"),
        ({"features": "plain_scratch", "width": None, "scheme": "scratch"}, UnknownNameError, "last_conv, head"),
        ({"train_faces": 1000}, InputError, "train_faces is 1000; allowed: up to"),
    ],
)  # fmt: skip
def test_options_are_checked(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        search(teachable(COUNT), tmp_path / "out", **{**SMALL, **options})
    assert not (tmp_path / "out").exists()


def test_faces_are_checked(tmp_path):
    faces = teachable(COUNT)
    with pytest.raises(InputError, match="0 usable labelled faces have the split 'validation'"):
        search(faces.isel(sample=faces["split"].values == "train"), tmp_path, **SMALL)
    with pytest.raises(InputError, match="fall to those that choose between trials"):
        search(teachable(6), tmp_path, **SMALL)
    with pytest.raises(InputError, match=r"lacks trials\.csv"):
        read_search(tmp_path)


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'fcx-faces\[search\]'"):
        search(teachable(COUNT), tmp_path, **SMALL)


def test_the_command_prints_both_choices(tmp_path, monkeypatch, searched):
    faces, calls = teachable(COUNT), []
    monkeypatch.setattr("fcx.open_faces", lambda path: faces)
    monkeypatch.setattr(
        "fcx.networks.search.search", lambda faces, out, **options: calls.append(options) or searched[1]
    )
    answer = CliRunner().invoke(app, ["search", "faces.zarr", str(tmp_path), "--trials", "7", "--epochs", "2",
                                      "--workers", "2", "--features", "plain_scratch"])  # fmt: skip
    assert answer.exit_code == 0, answer.output
    given = {name: calls[0][name] for name in ("trials", "epochs", "workers", "features")}
    assert given == {"trials": 7, "epochs": 2, "workers": 2, "features": "plain_scratch"}
    assert "best" in answer.output
    assert "paper" in answer.output
    assert f"{len(searched[1].trials[searched[1].trials.state == 'complete'])} complete" in answer.output


def test_the_chart_draws_every_trial_and_both_choices(searched):
    made = searched[1]
    figure = figures.search_chart(made)
    points = [trace for trace in figure.data if trace.type == "scatter" and trace.showlegend is False]
    for name, history, rates in zip(("adam", "sgd"), points[:2], points[2:], strict=True):
        part = made.trials[made.trials.optimiser == name]
        assert list(history.x) == part.trial.tolist()
        assert ["open" in symbol for symbol in history.marker.symbol] == (part.state == "pruned").tolist()
        assert ["x" in symbol for symbol in history.marker.symbol] == (part.state == "diverged").tolist()
        scored = part[part.ccc.notna()]
        assert list(zip(rates.x, rates.y, strict=True)) == list(zip(scored.learning_rate, scored.ccc, strict=True))
    (line,) = [trace for trace in figure.data if trace.name == "best so far"]
    assert line.y[-1] == made.trials.ccc[made.trials.state == "complete"].max()
    (bars,) = [trace for trace in figure.data if trace.type == "bar"]
    assert sorted(bars.x) == sorted(made.importance.importance)
    drawn = {trace.name: list(trace.x) for trace in figure.data if trace.name in ("arousal", "valence")}
    assert drawn == {name: made.checks[name].tolist() for name in ("arousal", "valence")}
    assert "Paper choice (1 x 256 units, sgd at 0.05), mean of 3 trainings" in figure.meta["alt"]
    assert len(figure.table) == TRIALS
    bare = Search(made.trials, made.importance.iloc[:0], made.checks)  # too few trials for importances
    assert "explains" not in figures.search_chart(bare).meta["alt"]


def test_findings_say_whether_every_training_of_the_best_leads():
    made = read_search(Path(__file__).parent.parent / "checkpoints" / "scores" / "search")
    best, paper = (made.checks[made.checks.choice == name][["arousal", "valence"]].mean(axis=1)
                   for name in ("best", "paper"))  # fmt: skip
    [finding] = figures.search_findings(made).items
    assert best.min() > paper.max()
    assert (
        finding.statement
        == f"The best choice beats the paper's in every training, by {best.mean() - paper.mean():.3f}."
    )
    swapped = made.checks[["arousal", "valence"]].iloc[[0, 4, 2, 3, 1, 5]].to_numpy()
    mixed = replace(made, checks=made.checks.assign(arousal=swapped[:, 0], valence=swapped[:, 1]))
    assert "cannot be told" in figures.search_findings(mixed).items[0].statement
    lost = replace(made, checks=made.checks.assign(valence=np.nan))
    alone = replace(made, checks=made.checks[made.checks.choice == "paper"])
    assert figures.search_findings(alone).items[0].statement == "The paper's choice is the best."
    assert "not all trainings" in figures.search_findings(lost).items[0].statement
