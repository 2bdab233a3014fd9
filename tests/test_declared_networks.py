"""What a declared network is stays with its results: stores, caches, pictures and words of the command line."""

import re
import warnings

import numpy as np
import pytest
import torch
from conftest import make_faces
from safetensors.torch import save_file, save_model
from test_any_network import LOGITS, colour_faces, small

import fcx
from fcx import figures
from fcx.core.contract import GRID
from fcx.core.errors import CheckpointError, InputError, StoreError, UnknownNameError
from fcx.core.targets import answered, ratings
from fcx.explorer.live import Live
from fcx.figures.one_picture import photograph_panel
from fcx.networks.checkpoints import network_hash
from fcx.networks.inputs import as_network
from fcx.networks.resolving import resolve_models
from fcx.networks.tensor_files import weights_hash
from fcx.reporting.notebook_inputs import (
    able_methods,
    logit_accuracies,
    partly_asked,
    rated_predictions,
    shown_targets,
    stored_results,
)
from fcx.statistics.region_mass import region_statistics


def network(seed=0, **declared):
    return as_network(small(seed, channels=3, outputs=3), **{"size": 64, "channels": 3, "outputs": LOGITS,
                                                             "kind": "logit", **declared})  # fmt: skip


def test_a_network_is_its_weights_its_layers_and_what_it_declares():
    one = network_hash(network())
    assert one == network_hash(network())
    others = [network(1), network(mean=0.5), network(outputs=LOGITS[::-1]), network(kind="rating"), network().module]
    longer = network()
    longer.module.append(torch.nn.ReLU())
    assert len({one, *map(network_hash, [*others, longer])}) == 7
    ours = fcx.FaceChannel.preset("paper", width=8)
    assert network_hash(ours) == weights_hash(ours.state_dict())
    assert network(mean=[0.5, 0.4, 0.3], std=0.1).words["mean"] == [0.5, 0.4, 0.3]


def test_a_store_goes_on_with_the_same_declaration_and_pictures_only(tmp_path):
    faces, out = colour_faces(2), tmp_path / "r.zarr"
    fcx.attribute({"n": network()}, faces, "gradient", out=out)
    fcx.attribute({"n": network()}, faces, "gradient", out=out)
    darker = faces.assign(picture=faces["picture"] // 2)
    for other, shown in ((network(mean=0.5), faces), (network(), darker)):
        with pytest.raises(StoreError, match="other settings or inputs"):
            fcx.attribute({"n": other}, shown, "gradient", out=out)


def test_stored_results_are_found_again_by_all_that_made_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_test.py").write_text(
        "import fcx, torch\n"
        "def net(mean=0.0):\n    torch.manual_seed(0)\n"
        "    layers = torch.nn.Conv2d(3, 3, 9, 9), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()\n"
        "    return fcx.as_network(torch.nn.Sequential(*layers), channels=3, mean=mean, outputs=['a', 'b', 'c'])\n"
        "def other():\n    return net(0.5)\n"
    )
    faces = colour_faces(1)
    for models, shown in (("nets_of_test:net", faces), ("nets_of_test:net", faces),
                          ("nets_of_test:net", faces.assign(picture=faces["picture"] // 2))):  # fmt: skip
        stored_results(models, shown, "gradient", "runs")
    stored_results("nets_of_test:other", faces, "gradient", "runs")
    assert len(list((tmp_path / "runs").rglob("*-models-*.zarr"))) == 3


def test_what_a_network_lacks_disturbs_no_statistics():
    faces = make_faces(24).assign_coords(subject=("sample", [f"s{i}" for i in range(24)]))
    logits = as_network(small(outputs=3), outputs=LOGITS, kind="logit")
    both = fcx.attribute({"ratings": small(1), "logits": logits}, faces, "gradient")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = region_statistics(both, faces, draws=20)
    alone = region_statistics(fcx.attribute({"logits": logits}, faces, "gradient"), faces, draws=20)
    np.testing.assert_array_equal(
        found["share_mean"].sel(model="logits", target=LOGITS), alone["share_mean"].sel(model="logits")
    )
    assert found["share_mean"].sel(model="ratings", target=LOGITS).isnull().all()


def test_the_picture_of_a_photograph_shows_what_each_network_answers_on_a_scale_of_its_own():
    faces = colour_faces(1, side=224)
    ratings, logits = small(1), as_network(small(outputs=3), size=GRID, outputs=LOGITS, kind="logit")
    with torch.no_grad():
        logits.module[-1].weight *= 1000
    parts = [fcx.attribute(of, faces, "gradient") for of in ({"r": ratings}, {"l": logits})]
    both = fcx.attribute({"r": ratings, "l": logits}, faces, "gradient")
    whole, one, other = (np.asarray(photograph_panel(faces, of, "gradient")) for of in (both, *parts))
    step = other.shape[1] - one.shape[1]  # three columns against two
    assert whole.shape[1] == one.shape[1] + 3 * step
    rows = slice(78, 78 + 116)
    np.testing.assert_array_equal(whole[rows, : one.shape[1] - 8], one[rows, : one.shape[1] - 8])
    np.testing.assert_array_equal(whole[rows, -3 * step :], other[rows, -3 * step :])


def mixed():
    faces = make_faces(4).assign_coords(expression=("sample", ["happy", "sad", "neutral", "fear"]))
    logits = as_network(small(outputs=3), outputs=LOGITS, kind="logit")
    return faces, fcx.attribute({"a": small(1), "logits": logits, "b": small(2)}, faces, "gradient")


@pytest.mark.parametrize(
    ("target", "groups"),
    [
        ("", [("valence", ["a", "b"]), ("happy", ["logits"])]),
        ("arousal", [("arousal", ["a", "b"]), ("happy", ["logits"])]),
        ("sad", [("sad", ["logits"]), ("valence", ["a", "b"])]),
    ],
)
def test_reports_show_of_each_network_a_target_that_it_answers(target, groups):
    faces, results = mixed()
    shown = shown_targets(results, target)
    assert [(name, some["model"].values.tolist()) for name, some in shown] == groups
    for name, some in shown:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figures.saliency_panel(faces, some, method="gradient", target=name, count=2)
    with pytest.raises(UnknownNameError, match="unknown target 'pain'"):
        shown_targets(results, "pain")


def test_the_report_on_maps_tells_the_outputs_methods_and_trainings_of_the_run():
    faces, results = mixed()
    words = figures.networks_told(results)
    assert words == "There are maps of arousal and valence for a and b, and of happy, sad and neutral for logits."
    seeds = results.assign_coords(family=("model", ["a", "logits", "a"]), seed=("model", [0, 0, 1]))
    assert figures.networks_told(seeds).endswith(
        "Of a several trainings were given: maps that are drawn are of the first."
    )
    assert partly_asked(seeds, seeds) == []
    first = results.isel(model=[0, 1]).assign_coords(family=("model", ["a", "logits"]), seed=("model", [0, 0]))
    assert partly_asked(first, seeds) == ["a"]
    shares = seeds.assign(share=seeds["prediction"])
    assert figures.families_told(shares) == (
        "- **a** answers arousal and valence, asked in two trainings.\n- **logits** answers happy, sad and neutral."
    )
    hostile = results.assign_coords(model=["<b>", "logits", "b"])
    assert "<b>" not in figures.networks_told(hostile)
    words = figures.methods_told(results)
    assert words.startswith("- **Gradient** is how much the output would change")
    assert "LRP" not in words  # which was not asked
    groups = [(target, fcx.region_statistics(some, faces, draws=5)) for target, some in shown_targets(results)]
    for group, question in zip(groups, ["rating of valence", "answer “happy”"], strict=True):
        opening = figures.attribution_opening([group], source="mine")
        assert opening.question == f"Which parts of a face move a network's {question}?"
    both = figures.attribution_opening(groups, source="mine")
    assert both.question == "Which parts of a face move what a network answers?"
    assert re.search(r"valence hangs most, .* for (a and )?b .*; happy hangs most, .* for logits \(", both.answer[0])
    assert len(both.answer) == 1  # one method, with which no other can disagree


def test_reports_score_ratings_and_logits_each_by_its_own():
    faces, results = mixed()
    scored = rated_predictions(results, faces)
    assert scored["model"].values.tolist() == ["a", "b"]
    assert scored["target"].values.tolist() == ["arousal", "valence"]
    assert rated_predictions(results.sel(target=LOGITS), faces) is None
    assert rated_predictions(results.sel(model=["logits"]), faces) is None
    assert logit_accuracies(results.sel(model=["a", "b"]), faces, draws=20, seed=0) is None
    with pytest.warns(UserWarning, match="hold less often"):
        table = figures.accuracy_table(logit_accuracies(results, faces, draws=20, seed=0)).frame
    assert table["model"].unique().tolist() == ["logits"]
    for row in table.to_dict("records"):
        answers = results["prediction"].sel(model="logits", condition=row["condition"], target=LOGITS).values
        right = {label: LOGITS[answers[:, i].argmax()] == label for i, label in enumerate(LOGITS)}
        assert row["accuracy"] == pytest.approx(np.mean(list(right.values())))
        assert {label: row[label] for label in LOGITS} == right
        assert row["n"] == 3


def test_faces_hold_no_ratings_of_other_outputs():
    faces, results = mixed()
    assert answered(results) == ("arousal", "valence", *LOGITS)
    assert np.isnan(ratings(faces, "happy - sad", answered(results))).all()
    np.testing.assert_allclose(ratings(faces, "-valence", answered(results)), -faces["valence"])


def test_methods_that_cannot_explain_every_network_are_named(capsys):
    assert able_methods("plain_scratch,mini_xception", "gradient,mean_activation,lrp") == "gradient,lrp"
    assert "cannot explain every network: Mean activation" in capsys.readouterr().out
    with pytest.raises(InputError, match="no method of mean_activation can explain"):
        able_methods("mini_xception", "mean_activation")


def test_the_explorer_shows_networks_with_any_outputs_and_says_what_it_cannot_do(demo):
    faces = demo.isel(sample=slice(2))
    explorer = fcx.explore(faces, {"ratings": small(1), "logits": network()}, methods="gradient", draws=20)
    assert explorer.pack.targets == ["arousal", "valence", *LOGITS]
    assert explorer.view.target == "valence"
    assert fcx.explore(faces, {"logits": network()}, methods="gradient", draws=20).view.target == "happy"
    assert "logits" in explorer.html()
    live = Live(explorer.pack, {"ratings": small(1), "logits": network()})
    assert "'logits' reads pictures" in live.choices()["why"]


@pytest.mark.parametrize("layer", [torch.nn.Softmax(1), torch.nn.LogSoftmax(1)])
def test_a_softmax_is_never_explained(layer):
    answers = as_network(torch.nn.Sequential(small(outputs=3), layer), outputs=LOGITS, kind="logit")
    with pytest.raises(InputError, match=r"model .m. answers .*probabilities, .* let it answer its log"):
        fcx.attribute({"m": answers}, make_faces(2), "gradient")


def test_maps_of_one_seven_and_many_faces_are_equal():
    faces, methods = make_faces(257, size=16).isel(condition=slice(1)), "lrp_epsilon,gradient,gradcam,occlusion"
    one = as_network(small(outputs=3), size=24, mean=0.5, std=0.5, outputs=LOGITS, kind="logit")
    with pytest.raises(InputError, match="prepare them with pictures"):
        fcx.predict({"n": one}, faces)
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (1, 257, 32, 32, 3), dtype=np.uint8)
    faces = faces.assign(picture=(("condition", "sample", "row", "column", "channel"), colours))
    whole = fcx.attribute({"n": one}, faces, methods, fill="grey")  # no mean of other faces
    for first, count in ((0, 1), (256, 1), (100, 7)):
        part = faces.isel(sample=slice(first, first + count))
        some = whole.isel(sample=slice(first, first + count))
        again = fcx.attribute({"n": one}, part, methods, fill="grey")
        for name in ("prediction", "attribution"):
            np.testing.assert_allclose(again[name], some[name], rtol=1e-5, atol=1e-6 * float(abs(some[name]).max()))


def test_reports_say_whose_crop_is_unknown():
    faces, results = mixed()
    assert "a, logits and b learnt from is not known" in figures.run_limits(results, source="mine")
    known = as_network(small(), outputs=["a", "b"], crop="upright")
    with pytest.raises(InputError, match="'k' was trained on faces with the crop 'upright'"):
        fcx.predict({"k": known}, faces)


def test_scores_are_asked_of_each_network_for_what_it_answers():
    faces = make_faces(24).assign_coords(subject=("sample", [f"s{i}" for i in range(24)]))
    valence, logits = (as_network(small(7, outputs=n), outputs=names, kind=kind) for n, names, kind in (
        (1, ["valence"], "rating"), (3, LOGITS, "logit")))  # fmt: skip
    both = {"one": small(1), "valence": valence, "logits": logits, "two": small(2)}
    found = fcx.evaluate(fcx.predict(both, faces), faces, draws=20)
    assert found["model"].values.tolist() == list(both)
    pair = fcx.evaluate(fcx.predict({"one": both["one"], "two": both["two"]}, faces), faces, draws=20)
    for name in ("ccc", "ccc_low", "rmse"):
        np.testing.assert_array_equal(found[name].sel(model=["one", "two"]), pair[name])
    alone = fcx.evaluate(fcx.predict({"valence": valence}, faces), faces, draws=20)
    assert alone["target"].values.tolist() == ["valence"]
    np.testing.assert_array_equal(found["ccc"].sel(model="valence", target="valence"), alone["ccc"][0, :, 0])
    assert found["ccc"].sel(model="valence", target="arousal").isnull().all()
    assert found["n"].values.tolist() == [24, 24]
    unrated = faces.assign({name: faces[name] * np.nan for name in ("arousal", "valence")})
    with pytest.warns(UserWarning, match="0 labelled"):
        some = fcx.evaluate(fcx.predict(both, unrated), unrated, draws=20)
    np.testing.assert_array_equal(some["accuracy"].sel(model="logits"), found["accuracy"].sel(model="logits"))
    other = as_network(small(8, outputs=2), outputs=["anger", "fear"], kind="logit")
    with pytest.warns(UserWarning, match="no face has an expression that model 'other' answers"):
        some = fcx.evaluate(fcx.predict({"logits": logits, "other": other}, faces), faces, draws=20)
    np.testing.assert_array_equal(some["accuracy"].sel(model="logits"), found["accuracy"].sel(model="logits"))
    assert some["accuracy"].sel(model="other").isnull().all()
    pain = fcx.predict({"pain": as_network(small(outputs=1), outputs=["pain"])}, faces)
    with pytest.raises(InputError, match="no model answers what can be scored"):
        fcx.evaluate(pain, faces, draws=20)


def test_weights_of_a_function_are_those_of_its_module_or_of_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weighed_of_test.py").write_text(
        "import fcx, torch\n"
        "def net():\n    return fcx.as_network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4096, 2)),\n"
        "                          outputs=['a', 'b'])\n"
    )
    weights = {"1.weight": torch.ones(2, 4096), "1.bias": torch.zeros(2)}
    save_file(weights, "inner.safetensors")
    save_file({f"module.{name}": value for name, value in weights.items()}, "all.safetensors")
    torch.save(weights, "w.pt")
    for file in ("inner", "all"):
        [model] = resolve_models(f"weighed_of_test:net@{file}.safetensors").values()
        assert torch.equal(model.module[1].weight, weights["1.weight"])
    with pytest.raises(CheckpointError, match=r"is a pickle .* safetensors\.torch\.save_file"):
        resolve_models("weighed_of_test:net@w.pt")


def test_tied_weights_are_those_that_were_written_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tied_of_test.py").write_text(
        "import fcx, torch\nfrom torch import nn\n"
        "def inner():\n    one, two = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)\n    two.weight = one.weight\n"
        "    return nn.Sequential(one, two, nn.Flatten(), nn.Linear(3600, 2))\n"
        "def whole():\n    return fcx.as_network(inner(), outputs=['a', 'b'])\n"
    )
    for function in ("inner", "whole"):
        [network] = resolve_models(f"tied_of_test:{function}").values()
        save_model(network, f"{function}.safetensors")
        [read] = resolve_models(f"tied_of_test:{function}@{function}.safetensors").values()
        torch.testing.assert_close(read.state_dict(), network.state_dict(), rtol=0, atol=0)
    save_file({"0.bias": torch.zeros(1)}, "few.safetensors")
    with pytest.raises(CheckpointError, match=r"few\.safetensors is of another shape: 0\.weight is nothing"):
        resolve_models("tied_of_test:inner@few.safetensors")


def test_networks_of_another_kind_are_not_taught(tmp_path):
    faces = make_faces(6).assign_coords(split=("sample", ["train"] * 3 + ["validation"] * 3))
    for call in (
        lambda: fcx.train(faces, tmp_path / "t.safetensors", start="mini_xception", scheme="head", progress=False),
        lambda: fcx.experiment(faces, tmp_path / "e", models=["mini_xception"], runs=tmp_path),
    ):
        with pytest.raises(CheckpointError, match=r"mini_xception.* is no FaceChannel"):
            call()
    grey = as_network(small(), channels=3, outputs=["a", "b"])
    with pytest.raises(InputError, match=r"model 'g' cannot read faces .* declared by fcx\.as_network"):
        fcx.predict({"g": grey}, colour_faces(2))
