"""What is wrong with an argument is said by fcx: every public function, every parameter, whatever is given."""

import contextlib
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import make_faces

import fcx
from fcx import reporting
from fcx.attribution.inhibition import inhibition_index
from fcx.attribution.plan import Plan
from fcx.core.errors import FcxError
from fcx.datasets import preparation
from fcx.datasets.synthetic import synthetic_sets
from fcx.faithfulness.known_truth import known_truth_scores
from fcx.faithfulness.measurement import faithfulness_scores
from fcx.geometry.landmark_quality import display_pictures
from fcx.geometry.landmarks import canonical
from fcx.masks import MASK_OPTIONS, leakage_audit, mask_shift
from fcx.networks import training
from fcx.networks.facechannel import FaceChannel
from fcx.statistics.region_mass import sample_statistics
from fcx.studies import trainings

WRONG = {
    "None": None, "5": 5, "1.5": 1.5, "nonsense": "nonsense", "[]": [], "{}": {}, "object": object(), "bytes": b"x",
    "array": np.zeros(3), "tensor": torch.zeros(3), "DataArray": xr.DataArray(np.zeros(3)), "Dataset": xr.Dataset(),
    "path": Path("nowhere"), "NUL": "a\0b", "nan": math.nan, "-1": -1, "True": True, "[5]": [5], "inf": math.inf,
    "large": 10**9, "huge": 10**30,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:there are .* subjects")
PARTS = ["train", "validation"] * 3


class Reached(Exception):
    """Every argument was accepted: the work would begin."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Return name -> (function, arguments that work) of the public functions."""
    folder = tmp_path_factory.mktemp("arguments")
    faces, large = (make_faces(6, size=size).assign_coords(split=("sample", PARTS)) for size in (16, 64))
    model = FaceChannel.preset("paper", width=8, hidden=4, size=16)
    fcx.save_model(model, folder / "small.safetensors", {"crop": "face"})
    models = {"small": model}
    results = fcx.attribute(models, faces, "gradient")
    mesh = canonical()["xyz"] * [2.5, -2.5, -2.5] + [32, 32, 0]
    picture = np.full((64, 64, 3), 90, np.uint8)
    mask = {"style": "surgical", "wearing": "proper", "scale": 1.0, "shift": (0, 0), "colour": "", "jitter": 1.0,
            "seed": 0, "fit": "donor"}  # fmt: skip
    assert set(mask) == set(MASK_OPTIONS)
    shape = {"width": 8, "hidden": 4, "layers": 1, "batch_norm": True, "dropout": 0.0}
    fcx.prepare("demo", folder / "faces.zarr", limit=1, progress=False)
    fcx.attribute(models, faces, "gradient", out=folder / "results.zarr")
    return {
        "prepare": (fcx.prepare, {
            "source": "demo", "out": None, "crop": "face", "backend": "mesh", "several": "largest",
            "pictures": True, "strict": False, "split": None, "split_seed": 0, "masks": None,
            "workers": 1, "limit": 2, "overwrite": False, "progress": False, **mask}),
        "open_faces": (fcx.open_faces, {"path": folder / "faces.zarr"}),
        "open_results": (fcx.open_results, {"path": folder / "results.zarr"}),
        "region_maps": (fcx.region_maps, {"mesh": mesh, "size": 64}),
        "wear_mask": (fcx.wear_mask, {"picture": picture, "mesh": mesh, "donor": mesh, "sample": "a", **mask}),
        "FaceChannel": (FaceChannel, {"config": model.config}),
        "preset": (FaceChannel.preset, {"name": "paper", "size": 16, "shunt": "none", "head": "tanh", "bias": True,
                                        **shape}),
        "load_model": (fcx.load_model, {"name_or_path": folder / "small.safetensors"}),
        "as_network": (fcx.as_network, {"module": model, "outputs": ["arousal", "valence"], "size": 16, "channels": 1,
                                        "mean": 0.5, "std": 0.5, "kind": "rating", "crop": "face"}),
        "save_model": (fcx.save_model, {"model": model, "path": folder / "other.safetensors", "metadata": {}}),
        "predict": (fcx.predict, {"models": models, "faces": faces, "batch_size": 2, "device": "cpu"}),
        "train": (fcx.train, {
            "faces": large, "out": folder / "taught.safetensors", "condition": "plain", "scheme": "scratch",
            "start": None, "recipe": "modern", "preset": "paper", "epochs": 1, "batch_size": 2, "learning_rate": 0.1,
            "seed": 0, "threads": 1, "device": "cpu", "progress": False, "overwrite": True,
            "shuffled_labels": False, "train_faces": 3, **shape}),
        "experiment": (fcx.experiment, {
            "faces": large, "out": folder / "experiment", "parts": "table2", "seeds": 1, "width": 4, "models": None,
            "also": [], "recipe": "modern", "epochs": 1, "batch_size": 2, "workers": 1, "device": "cpu",
            "runs": folder / "runs", "progress": False}),
        "evaluate": (fcx.evaluate, {"results": results, "faces": faces, "draws": 3, "seed": 0, "progress": False}),
        "attribute": (fcx.attribute, {
            "models": models, "faces": faces, "methods": "lrp_epsilon,lrp", "targets": "valence", "out": None,
            "batch_size": 2, "device": "cpu", "dtype": "float32", "seed": 0, "overwrite": False, "store": "",
            "maps": True, "statistics": False, "workers": 1, "rank": None, "ranks": None, "epsilon": 1.0,
            "shunt_rule": "aumann_shapley"}),
        "region_statistics": (fcx.region_statistics, {"results": results, "faces": faces, "draws": 3, "seed": 0}),
        "compare": (fcx.compare, {
            "results": results, "faces": faces, "a": {"condition": "masked"}, "b": {"condition": "plain"},
            "quantity": "ccc", "draws": 3, "seed": 0}),
        "explore": (fcx.explore, {
            "faces": faces, "results": results, "models": models, "methods": "gradient", "targets": "valence",
            "draws": 3, "sample": "face1", "networks": "small", "method": "gradient", "target": "valence",
            "signed": True, "quantity": "share", "opacity": 0.5, "scale": 1.0, "outlines": True, "difference": False,
            "region": [[1, 1], [9, 1], [9, 9]]}),
        "report": (fcx.report, {"out": folder / "reports", "notebooks": ["01_masks"], "progress": False,
                                "faces": "demo", "permutations": 5}),
    }  # fmt: skip


def test_every_public_function_is_tried(calls):
    public = {name for name in fcx.__all__ if callable(getattr(fcx, name)) and not inspect.ismodule(getattr(fcx, name))}
    assert public <= set(calls)
    for function, given in calls.values():
        taken = inspect.signature(function).parameters.values()
        assert {each.name for each in taken if each.kind is not each.VAR_KEYWORD} <= set(given)


def outcome(function, given) -> str:
    """Return "" where a call works or is refused by fcx, else what went wrong."""
    try:
        function(**given)
    except (FcxError, Reached):
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return ""


@pytest.fixture
def light(monkeypatch):
    """Stop before the work that takes long."""

    def stop(*_, **__):
        raise Reached

    monkeypatch.setattr(preparation, "in_order", stop)
    monkeypatch.setattr(training.Run, "go", stop)
    monkeypatch.setattr(Plan, "run", stop)
    monkeypatch.setattr(trainings, "train_missing", stop)
    monkeypatch.setattr(reporting, "run_notebook", stop)


FUNCTIONS = (
    "prepare", "open_faces", "open_results", "region_maps", "wear_mask", "FaceChannel", "preset", "load_model",
    "save_model", "predict", "train", "experiment", "evaluate", "attribute", "region_statistics", "compare", "explore",
    "report",
)  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whatever_is_given_works_or_is_refused_in_words(calls, light, function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, given = calls[function]
    with contextlib.suppress(Reached):
        function(**given)
    wrong = {
        f"{parameter}={label}": {**given, parameter: value} for parameter in given for label, value in WRONG.items()
    }
    problems = {what: outcome(function, arguments) for what, arguments in wrong.items()}
    assert {what: problem for what, problem in problems.items() if problem} == {}


def test_so_many_cases_are_tried(calls):
    assert sum(len(given) for _, given in calls.values()) * len(WRONG) > 1500


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: fcx.predict(np.zeros((2, 64, 64), np.uint8)), "missing a required argument: 'faces'"),
        (
            lambda c: fcx.predict(c["models"], np.zeros(3)),
            "faces: given is a ndarray of shape .3,.; allowed: a Dataset",
        ),
        (lambda c: fcx.predict(c["models"], c["faces"], batchsize=2), "did you mean 'batch_size'"),
        (
            lambda c: fcx.predict({"colour": torch.nn.Conv2d(3, 2, 3)}, c["faces"]),
            "cannot read faces of shape .8, 1, 16",
        ),
        (
            lambda c: fcx.predict(c["models"]["small"], c["faces"]),
            "models is a FaceChannel; allowed: a dict from a name",
        ),
        (lambda c: fcx.predict(c["models"], c["faces"], device="meta"), "it computes nothing"),
        (lambda c: fcx.attribute(c["models"], c["faces"], None), "methods is None; allowed: names, as a list"),
        (lambda c: fcx.train(c["faces"], "x.safetensors", learning_rate="x"), "learning_rate is 'x'; allowed: numbers"),
        (lambda c: fcx.prepare("demo", style=["ffp2"]), r"style is \['ffp2'\]; allowed: a text"),
        (lambda c: fcx.open_faces("a\0b"), "allowed: a path without NUL"),
        (lambda c: FaceChannel.preset("paper", width=400_000), "needs about .* GB of memory, this machine has"),
        (lambda c: FaceChannel.preset("paper", hidden=10**9), "needs about .* GB of memory"),
        (lambda c: fcx.evaluate(fcx.predict(c["models"], c["faces"]), c["faces"], draws=10**11), "draws needs about"),
        (lambda c: fcx.prepare("demo", workers=10**6), "workers=1000000 needs about 300,000 GB of memory"),
        (lambda c: fcx.train(c["faces"], "x.safetensors", threads=10**6), "threads is 1000000; allowed: whole numbers"),
        (lambda c: fcx.predict(c["models"], c["faces"], batch_size=2.0), "batch_size is 2.0; allowed: whole numbers"),
        (lambda c: fcx.evaluate(c["faces"], c["faces"]), "results: variable 'prediction' is missing"),
    ],
)
def test_an_error_says_what_was_given_what_is_allowed_and_what_to_do(calls, call, says):
    with pytest.raises(FcxError, match=says):
        call(calls["predict"][1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: faithfulness_scores(**c, count=0), "count is 0; allowed: whole numbers"),
        (lambda c: faithfulness_scores(**c, measures=5), "measures is 5; allowed: names"),
        (lambda c: faithfulness_scores(**c, shuffled=[1]), "shuffled is .1.; allowed: a dict"),
        (lambda c: known_truth_scores(c["models"], c["models"]), "faces: given is a FaceChannel; allowed: a Dataset"),
        (lambda c: known_truth_scores(5, {}), "models is 5; allowed: a dict"),
        (lambda c: synthetic_sets("mouth", 10**12), "count 1000000000000 needs about .* GB of memory"),
        (lambda c: synthetic_sets(None), "carriers is None; allowed: names"),
        (lambda c: leakage_audit(np.zeros(3)), "faces: given is a ndarray of shape"),
        (
            lambda c: leakage_audit(c["faces"], seed=2**40),
            "seed is 1099511627776; allowed: whole numbers from 0 to 4294",
        ),
        (lambda c: leakage_audit(c["faces"], None), "fits is None; allowed: names"),
        (lambda c: mask_shift(5), "pictures is 5; allowed: pictures"),
        (lambda c: mask_shift([np.zeros((9, 9, 3), np.uint8)], colour=5), "colour is 5; allowed: a text"),
        (lambda c: display_pictures(c["faces"], "x"), "count is 'x'; allowed: whole numbers"),
        (lambda c: inhibition_index(c["models"], None), "faces: given is None; allowed: a Dataset"),
        (lambda c: sample_statistics(c["faces"], c["faces"]), "results: variable 'prediction' is missing"),
    ],
)
def test_the_functions_of_rooms_say_it_too(calls, call, says):
    given = calls["predict"][1]
    with pytest.raises(FcxError, match=says):
        call({"models": given["models"], "faces": given["faces"]})


def test_numbers_of_numpy_and_lists_in_brackets_are_right(calls):
    given = calls["predict"][1]
    expected = fcx.predict(**given)["prediction"]
    xr.testing.assert_equal(fcx.predict(**{**given, "batch_size": np.int64(2)})["prediction"], expected)
    attributed = fcx.attribute(
        given["models"], given["faces"], "['gradient', 'gradcam']", "[valence]", seed=np.int64(0)
    )
    assert attributed["method"].values.tolist() == ["gradient", "gradcam"]
    assert attributed["target"].values.tolist() == ["valence"]
