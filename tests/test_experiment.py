"""The experiment: its plan, what it trains and takes as it is, and what it keeps."""

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import make_faces
from test_training import teachable
from typer.testing import CliRunner

from fcx.cli import app
from fcx.core.contract import FAMILIES, check, family_and_seed
from fcx.core.errors import CheckpointError, FcxError, InputError, UnknownNameError
from fcx.networks.checkpoints import load_model, read_metadata
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import predict
from fcx.studies import training_plan, training_queue, trainings
from fcx.studies.contrasts import drawn_scores
from fcx.studies.ladder_tables import ladder_reasons
from fcx.studies.stored_scores import labelled_faces, open_scores, read_study, scored
from fcx.studies.study_tables import efficiency_table
from fcx.studies.training_plan import LADDER, LADDER_MASKS, Scale, trainings_of
from fcx.studies.trainings import experiment

SMALL = {"seeds": 1, "width": 4, "epochs": 2, "batch_size": 8, "progress": False}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the folder of a small experiment and what it returned."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, experiment(teachable(), folder, **SMALL)


def test_the_plan_is_table_2_of_the_paper_with_seeds_a_longer_training_and_a_control():
    rows = {row.name: row for row in trainings_of(["table2"], Scale(3, 64, 10, 27_000))}
    assert len(rows) == 3 * 6 + 1
    tuned = rows["masked_all_layers-2"]
    assert (tuned.condition, tuned.scheme, tuned.start, tuned.seed) == ("masked", "all_layers", "plain_scratch-2", 1)
    assert tuned.options == {"epochs": 6}
    assert rows["masked_scratch_16-3"].options == rows["plain_scratch_16-3"].options == {"epochs": 16, "width": 64}
    assert rows["shuffled-1"].options["shuffled_labels"]
    names = list(rows)
    assert all(names.index(row.start) < names.index(row.name) for row in rows.values() if row.start)
    assert len(rows["plain_scratch-1"]) == 270_000


def test_the_ladder_is_five_small_networks_and_efficiency_takes_equal_steps():
    rungs = trainings_of(["ladder"], Scale(3, 64, 10, 27_000))
    assert {row.condition for row in rungs} == {"plain", "rigid", "jaw", "published", "patch"}
    assert len(rungs) == 15
    assert {row.options["width"] for row in rungs} == {32}
    rows = {row.name: row for row in trainings_of(["ladder", "efficiency"], Scale(3, 64, 10, 27_000))}
    assert len(rows) == 15 + 3 * 2 * 4  # the small plain networks serve both
    few = rows["small_last_conv_500-1"]
    assert few.options["train_faces"] == 500
    assert len({len(rows[f"small_{scheme}_{count}-1"]) for scheme in ("last_conv", "all_layers")
                for count in (500, 1500, 5000, "all")}) == 1  # fmt: skip
    assert few.options["steps"] == 27_000 // 64


@pytest.mark.parametrize(("name", "pair"), [("a-1", ("a", 0)), ("a_b-12", ("a_b", 11)), ("a", ("a", 0)),
                                            ("a-0", ("a-0", 0)), ("x@0.5-2", ("x@0.5", 1))])  # fmt: skip
def test_names_say_family_and_seed(name, pair):
    assert family_and_seed(name) == pair


def test_every_network_of_the_plan_is_trained_and_scored(study):
    folder, made = study
    names = {row.name for row in trainings_of(["table2"], Scale(1, 4, 2))}
    assert {path.stem for path in (folder / "checkpoints").glob("*.safetensors")} == names
    scores = made.scores["validation", "table2"]
    assert set(scores["model"].values) == names
    faces = teachable()
    faces = faces.isel(sample=faces["split"].values == "validation")
    assert scores["sample"].values.tolist() == faces["sample"].values.tolist()
    model = load_model(folder / "checkpoints" / "masked_last_conv-1.safetensors")
    expected = predict({"m": model}, faces)["prediction"].isel(model=0)
    np.testing.assert_allclose(scores["prediction"].sel(model="masked_last_conv-1"), expected, atol=1e-6)
    assert scores["family"].sel(model="masked_last_conv-1") == "masked_last_conv"
    assert scores["seed"].sel(model="masked_last_conv-1") == 0


def test_what_is_tuned_starts_from_the_plain_network_of_its_seed(study):
    folder, _ = study
    start = read_metadata(folder / "checkpoints" / "plain_scratch-1.safetensors")["sha256"]
    for family in ("masked_last_conv", "masked_all_layers"):
        assert read_metadata(folder / "checkpoints" / f"{family}-1.safetensors")["start"]["sha256"] == start


def test_the_table_of_predictions_holds_what_the_zarr_holds(study):
    folder, made = study
    exact, table = (open_scores(folder / "scores" / f"validation-table2{end}") for end in (".zarr", ".csv.gz"))
    xr.testing.assert_allclose(exact.drop_attrs(), table.drop_attrs(), atol=6e-5)
    assert exact["prediction"].dims == table["prediction"].dims
    raw = pd.read_csv(folder / "scores" / "validation-table2.csv.gz")
    assert raw.columns[:4].tolist() == ["sample", "condition", "status", "expression"]
    assert len(raw) == exact.sizes["sample"] * 2
    again = read_study(folder / "scores")
    xr.testing.assert_identical(again.scores["validation", "table2"], made.scores["validation", "table2"])


def test_a_second_run_trains_and_predicts_nothing(study, monkeypatch):
    folder, made = study
    monkeypatch.setattr(training_queue, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(trainings, "predict", lambda *_, **__: pytest.fail("predicted again"))
    again = experiment(teachable(), folder, **SMALL)
    xr.testing.assert_identical(again.scores["validation", "table2"], made.scores["validation", "table2"])


def test_scoring_goes_on_after_the_last_network_that_was_done(tmp_path):
    faces = make_faces(5)
    model = FaceChannel.preset(width=4, hidden=4)
    asked = []

    def predicted(name):
        asked.append(name)
        if asked == ["one", "two"]:
            raise KeyboardInterrupt
        return predict({name: model}, faces)

    hashes = {name: name for name in ("one", "two", "three")}
    with pytest.raises(KeyboardInterrupt):
        scored(hashes, faces, tmp_path / "a-b", predicted)
    assert not (tmp_path / "a-b.zarr").exists()
    scores = scored(hashes, faces, tmp_path / "a-b", predicted)
    assert asked == ["one", "two", "two", "three"]
    assert scores["model"].values.tolist() == list(hashes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-b.csv.gz", "a-b.zarr"]
    scored(hashes | {"two": "other weights"}, faces, tmp_path / "a-b", predicted)
    fewer = faces.isel(sample=slice(4))
    scored(hashes, fewer, tmp_path / "a-b", lambda name: asked.append(name) or predict({name: model}, fewer))
    assert asked[4:] == ["two", "one", "two", "three"]


def test_one_training_that_fails_loses_no_other(study, tmp_path, monkeypatch):
    folder, _ = study

    def copy(faces, out, **options):
        if out.stem == "plain_scratch-1" and broken:
            raise broken.pop()
        shutil.copy(folder / "checkpoints" / out.name, out)

    broken = [FcxError("the loss is nan"), RuntimeError("out of memory")]
    monkeypatch.setattr(training_queue, "train", copy)
    with pytest.raises(
        FcxError, match=r"3 trainings failed.*plain_scratch-1: RuntimeError: out of memory; .*its start"
    ):
        experiment(teachable(), tmp_path, **SMALL)
    kept = read_study(tmp_path / "scores").scores["validation", "table2"]
    assert set(kept["family"].values) == {"masked_scratch", "masked_scratch_3", "plain_scratch_3", "shuffled"}
    with pytest.raises(FcxError, match="plain_scratch-1: the loss is nan"):
        experiment(teachable(), tmp_path, **SMALL)
    again = experiment(teachable(), tmp_path, **SMALL)
    assert again.scores["validation", "table2"].sizes["model"] == 7


def test_a_checkpoint_of_another_training_is_refused(study):
    folder, _ = study
    with pytest.raises(CheckpointError, match=r"plain_scratch-1.* is another training .*width is 4, planned 8"):
        experiment(teachable(), folder, **{**SMALL, "width": 8})


def test_without_splits_what_ships_is_scored(tmp_path):
    study = experiment(make_faces(6).drop_vars("split"), tmp_path, progress=False)
    scores = study.scores["faces", "table2"]
    assert set(FAMILIES) <= set(scores["family"].values)
    assert not (tmp_path / "checkpoints").exists()
    between = study.scores["faces", "forgetting"]
    assert "masked_last_conv@0.25" in between["family"].values
    assert study.trainings["parameters trained"].between(1, 437_010).all()
    check(labelled_faces(scores), "faces")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"parts": "table3"}, UnknownNameError, "unknown part of the experiment 'table3': did you mean 'table2'"),
        ({"recipe": "moden"}, UnknownNameError, "did you mean 'modern'"),
        ({"seeds": 0}, InputError, "seeds is 0"),
        ({"models": "nothing"}, UnknownNameError, "unknown checkpoint 'nothing'"),
        ({"width": 6}, FcxError, "width is 6; allowed: positive multiples of 4"),
        (
            {"parts": "table2,ladder"},
            InputError,
            "need the conditions rigid, jaw, .*the faces have plain, masked: .*jaw",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        experiment(teachable(), tmp_path, **{**SMALL, **options})


def test_the_command_prints_table_3_and_the_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "stored_faces", lambda *_, **__: make_faces(30).drop_vars("split"))
    done = CliRunner().invoke(app, ["experiment", "demo", str(tmp_path), "--no-report"])
    assert done.exit_code == 0
    assert "masked_all_layers  masked     valence" in done.stdout
    assert "Claims: (a) " in done.stdout


def test_the_ladder_is_trained_and_scored_on_every_condition_beside_what_is_there(study, tmp_path):
    folder, _ = study
    shutil.copytree(folder, tmp_path / "same")
    faces = teachable().sel(condition=["plain", *["masked"] * 4])
    faces = faces.assign_coords(condition=["plain", *LADDER_MASKS])
    made = experiment(faces, tmp_path / "same", **{**SMALL, "epochs": 1}, parts="ladder", workers=2)
    scores = made.scores["validation", "ladder"]
    assert sorted(scores["family"].values) == sorted(f"small_{name}" for name in LADDER)
    assert scores["condition"].values.tolist() == list(LADDER)
    assert ("validation", "table2") in made.scores
    assert set(made.trainings["family"]) >= {"plain_scratch", "small_patch"}
    assert len(ladder_reasons(drawn_scores(scores, draws=20))) == 6


def test_efficiency_tunes_on_few_and_on_many_faces_in_equal_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(training_plan, "COUNTS", (8,))
    study = experiment(teachable(), tmp_path, **{**SMALL, "epochs": 1}, parts="efficiency")
    records = study.trainings.set_index("family")
    assert records.loc["small_last_conv_8", "train"] == records.loc["small_all_layers_8", "train"] == 8
    assert records.loc["small_last_conv_all", "train"] == 24
    assert len({records.loc[name, "passes"] for name in records.index if name != "small_plain"}) == 1
    table = efficiency_table(drawn_scores(study.scores["validation", "efficiency"], draws=20), study.trainings)
    assert sorted(set(table["faces"])) == [0, 8, 24]


def test_the_noise_of_votes_is_kept_beside_the_scores(study, tmp_path, monkeypatch):
    folder, made = study
    assert made.ceilings.empty
    (tmp_path / "votes.npz").touch()
    found = dict.fromkeys(("half", "full", "network"), np.array([0.9, 0.8])) | {"n": np.array(7)}
    monkeypatch.setattr(trainings, "ferplus_ceiling", lambda path, split: found if split == "validation" else None)
    faces = teachable().assign_attrs(adapter="ferplus", source=str(tmp_path / "votes.npz"))
    ceilings = experiment(faces, folder, **SMALL).ceilings.set_index("target")
    assert ceilings.loc["arousal", ["set", "network", "n"]].tolist() == ["validation", 0.8, 7]
