"""Known truth: what is planted is found where it is, chance is chance, and failures are called failures."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import fcx
from fcx import figures
from fcx.attribution import METHODS
from fcx.attribution.runner import DEFAULT
from fcx.core.contract import REGIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.datasets.synthetic import synthetic_sets
from fcx.faithfulness.known_truth import _score, known_truth_scores
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.inputs import as_network
from fcx.reporting.notebook_inputs import stored_models, stored_residual


class Reader(nn.Module):
    """Weighs each pixel: arousal by one fixed picture and valence by another, (target, y, x)."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, images):
        return torch.einsum("scyx,tyx->st", images, self.weights)


@pytest.fixture(scope="module")
def sets():
    made = synthetic_sets(("mouth", "outline", "brightness"), count=24, seed=2)
    return made | {"outline": made["outline"].isel(sample=slice(0, 3))}  # they share some truth


def reader(faces, condition="plain"):
    """Return a model that reads nothing but pixels that are truth in every one of these faces."""
    inside = (faces["truth"].sel(condition=condition) > 0).all("sample").values
    assert inside.any()
    rng = np.random.default_rng(0)
    return Reader(rng.normal(0, 1, (2, *inside.shape)) * inside)


@pytest.fixture(scope="module")
def scores(sets):
    models = {"mouth": reader(sets["mouth"]), "outline": reader(sets["outline"], "masked"),
              "brightness": Reader(np.ones((2, 64, 64)))}  # fmt: skip
    return known_truth_scores(models, sets, "gradient,input_x_gradient,occlusion", margin=0, draws=50)


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient"])
@pytest.mark.parametrize("carrier", ["mouth", "outline"])
def test_a_model_that_reads_one_place_is_found_there(scores, carrier, method):
    one = scores.sel({"carrier": carrier, "method": method})
    for name in ("found", "hit", "share"):
        assert (one[f"{name}_mean"] == pytest.approx(1)).all()
        assert (one[f"{name}_low"] == pytest.approx(1)).all()
    assert (one["auc_mean"] > 0.5).all()
    assert (one["density_mean"] > 1 / scores["area"].sel(carrier=carrier) * 0.9).all()
    assert (one["densest"].sel(region={"mouth": "mouth", "outline": "jaw"}[carrier]) == 1).all()


def test_each_carrier_is_asked_where_it_is_seen(scores):
    assert dict(zip(scores["carrier"].values, scores["condition"].values, strict=True)) == {
        "mouth": "plain", "outline": "masked", "brightness": "plain"}  # fmt: skip
    assert scores["control"].values.tolist() == [False] * 3 + [True] * 2


def test_the_random_control_scores_what_chance_gives():
    sets = synthetic_sets(("outline",), count=150, seed=5)
    found = known_truth_scores({"outline": Reader(np.ones((2, 64, 64)))}, sets, "gradient", margin=2, draws=50)
    chance = found.sel({"carrier": "outline", "method": "random"}).mean("target")
    area = float(found["area"].item())
    assert float(chance["share_mean"]) == pytest.approx(area, abs=0.004)
    assert float(chance["hit_mean"]) == pytest.approx(area, abs=4 * np.sqrt(area / 300))
    assert float(chance["auc_mean"]) == pytest.approx(0.5, abs=0.01)
    assert float(chance["density_mean"]) == pytest.approx(1, abs=0.03)
    # A uniform map is all ties: it hits by its area exactly, and finds nothing.
    uniform = found.sel({"method": "gradient"})
    np.testing.assert_allclose(uniform["hit_mean"], area)
    np.testing.assert_allclose(uniform["auc_mean"], 0.5)
    assert not uniform["found_mean"].any()


def test_what_is_everywhere_is_nowhere(scores):
    one = scores.sel(carrier="brightness")
    assert one["found_mean"].isnull().all()
    assert one["auc_mean"].isnull().all()
    assert (one["hit_mean"] == 1).all()
    assert float(one["area"]) == 1


def test_blocks_hit_by_their_overlap_and_empty_maps_find_nothing():
    truth = np.zeros((3, 16, 16), bool)
    truth[:, :8, :6] = True
    regions = np.zeros((3, len(REGIONS), 16, 16))
    regions[:, 0, :8], regions[:, 1, 8:] = 1, 1
    rest = regions * ~truth[:, None]
    cover = np.concatenate([truth[:, None], rest, regions], axis=1).astype(float)
    maps = np.zeros((1, 3, 16, 16))
    maps[0, 0, :8, :8] = -2.0  # a block of which six columns of eight are truth
    maps[0, 0, 12, 12] = 1.0
    maps[0, 1, 3, 3] = 1.0
    found = _score(maps, truth, cover)
    np.testing.assert_allclose(found["hit"][0], [6 / 8, 1, truth[0].mean()])
    np.testing.assert_allclose(found["share"][0], [96 / 129, 1, np.nan])
    assert found["found"][0].tolist() == [1, 1, 0]
    assert found["empty"][0].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found["densest"][0, :2], [2 / 3, 0])


def test_methods_may_be_labelled_options_and_default_to_all_that_apply(sets, monkeypatch):
    mouth = {"mouth": sets["mouth"].isel(sample=slice(0, 3))}
    models = {"mouth": reader(sets["mouth"])}
    given = {"few": ("occlusion", {"window": 4, "stride": 4}), "plain": "gradient"}
    said = []
    found = known_truth_scores(models, mouth, given, targets="valence", draws=5, progress=said.append)
    assert found["method"].values.tolist() == ["few", "plain", "random", "edges"]
    assert found["target"].values.tolist() == ["valence"]
    assert said == ["mouth: few", "mouth: plain"]
    for name in set(METHODS) - {"gradient", "mean_activation"}:
        monkeypatch.delitem(METHODS, name)
    found = known_truth_scores(models, mouth, draws=5)
    assert found["method"].values.tolist() == ["gradient", "random", "edges"]
    refused = nested_attr(found, "refused")["mean_activation"]
    assert refused.keys() == {"mouth", "mouth, untrained"}
    assert "explains a FaceChannel" in refused["mouth"]


def test_a_method_is_left_out_where_it_refuses_a_network(sets):
    """One network of two, and then one carrier of two, has layers that a method needs."""
    few = {name: sets[name].isel(sample=slice(0, 2)) for name in ("mouth", "outline")}
    torch.manual_seed(0)
    channel, plain = FaceChannel(Config(width=8, hidden=4)).eval(), reader(sets["mouth"])
    asked = "mean_activation,gradient"
    both = known_truth_scores({"mouth": {"a": channel, "b": plain}}, {"mouth": few["mouth"]}, asked, draws=5)
    alone = known_truth_scores({"mouth": channel}, {"mouth": few["mouth"]}, asked, draws=5)
    one = {"method": "mean_activation"}
    np.testing.assert_array_equal(both["share"].sel(one), alone["share"].sel(one))
    assert both["found_each"].sel(one).isnull().any(("carrier", "target")).values.tolist() == [False, True]
    scores = known_truth_scores({"mouth": channel, "outline": plain}, few, asked, draws=5)
    assert scores["hit_mean"].sel(one).isnull().any("target").values.tolist() == [False, True]
    assert not scores["hit_mean"].sel({"method": "gradient"}).isnull().any()
    assert {"carrier": "outline", "method": "mean_activation"} not in (
        figures.validity_table(scores).frame[["carrier", "method"]].to_dict("records"))  # fmt: skip
    assert figures.densest_table(scores).frame.set_index("method").loc["Mean activation", "outline"] == "not asked"
    said = [item.statement for item in figures.validity_findings(scores).items]
    assert said[1] == ("Some networks are not explained by every method; left out: Mean activation (outline).")
    with pytest.raises(InputError, match="no method of mean_activation explains the network of outline"):
        known_truth_scores({"outline": plain}, {"outline": few["outline"]}, "mean_activation", draws=5)
    with pytest.raises(InputError, match="epsilon is -1"):
        known_truth_scores({"mouth": channel}, {"mouth": few["mouth"]}, {"lrp": ("lrp", {"epsilon": -1})}, draws=5)


def test_a_colour_network_of_another_size_is_asked_too():
    faces = synthetic_sets(("mouth",), count=2, seed=4, pictures=True)
    layer = nn.Conv2d(3, 2, 96)
    network = as_network(nn.Sequential(layer, nn.Flatten()), size=96, channels=3, outputs=list(TARGETS))
    scores = known_truth_scores({"mouth": network}, faces, "gradient", draws=5)
    assert scores["hit_mean"].notnull().all()


def test_what_cannot_be_asked_is_refused(sets):
    models = {"mouth": reader(sets["mouth"])}
    faces = {"mouth": sets["mouth"]}
    with pytest.raises(InputError, match="by the same names"):
        known_truth_scores(models, {"eyes": sets["mouth"]}, "gradient")
    with pytest.raises(UnknownNameError, match="did you mean 'gradient'"):
        known_truth_scores(models, faces, "gradien")
    with pytest.raises(UnknownNameError, match="unknown target"):
        known_truth_scores(models, faces, "gradient", targets="joy")
    with pytest.raises(InputError, match="as a control is"):
        known_truth_scores(models, faces, {"random": "gradient"})
    with pytest.raises(InputError, match="margin is -1"):
        known_truth_scores(models, faces, "gradient", margin=-1)
    with pytest.raises(ContractError, match="have no 'truth'"):
        known_truth_scores(models, {"mouth": sets["mouth"].drop_vars("truth")}, "gradient")
    hidden = sets["mouth"].sel(condition=["masked"])
    with pytest.raises(InputError, match="no condition of the faces shows the truth of mouth"):
        known_truth_scores(models, {"mouth": hidden}, "gradient")


def test_figures_say_what_the_numbers_say(scores, sets):
    gallery = figures.truth_gallery(sets, count=3)
    assert len(gallery.table) == 9
    for quantity in ("found", "hit", "share", "auc"):
        chart = figures.validity_chart(scores, quantity=quantity)
        assert set(chart.table["carrier"]) == {"mouth", "outline"}
        assert "Lowest of all carriers" in chart.meta["alt"]
    table = figures.validity_table(scores).frame
    assert len(table) == scores.sizes["carrier"] * scores.sizes["method"] * len(TARGETS)
    assert figures.densest_table(scores).frame.set_index("method").loc["Gradient", "mouth"] == "mouth 100%"
    said = [item.statement for item in figures.validity_findings(scores).items]
    assert said[0].startswith(
        "On drawn faces, the networks of mouth, outline and brightness have not learnt"
    )  # they were not taught
    taught_well = scores.assign(ccc=scores["ccc"] * 0 + 0.95)
    said = [item.statement for item in figures.validity_findings(taught_well).items]
    assert said[0].startswith("On drawn faces, every network has learnt")
    assert "found by Gradient" in said[1]
    ahead = xr.where(taught_well["method"] == "gradient", 0.2, -0.2)  # of the same network with random weights
    nearly = taught_well.assign(untrained_mean=taught_well["found_mean"] - ahead)
    [near] = [item.statement for item in figures.validity_findings(nearly).items if "random weights" in item.statement]
    more, fewer = near.split(", and by ")
    assert more.endswith("with random weights: by Gradient in less than 50 percentage points more of the faces")
    assert "Gradient" not in fewer
    assert fewer.endswith(" in fewer.")
    assert said[-1].startswith("Brightness is everywhere")
    worst = figures.found_chart(scores).table.set_index("method")["worst"]
    assert worst["Gradient"] == pytest.approx(float(scores["found_mean"].sel({"method": "gradient"}).min()))
    assert "no network learnt its labels" in figures.validity_opening({"drawn faces": scores}).answer[0]
    assert figures.validity_picture(scores) is None
    assert "Gradient" in figures.validity_picture(taught_well).svg
    opening = figures.validity_opening({"drawn faces": taught_well, "photographs": taught_well})
    assert opening.answer[0].startswith("On 24 drawn faces in which one known part alone (in turn: mouth and outline)")
    assert "Gradient" in opening.answer[0]
    assert opening.answer[1].startswith("On 24 photographs in which")
    assert opening.answer[2].startswith("A map of noise finds the known part in ")


def test_networks_are_taught_once(tmp_path, monkeypatch):
    sets = synthetic_sets(("mouth",), count=12)
    models = stored_models(sets, tmp_path, epochs=1, width=4, hidden=4)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".safetensors"]
    monkeypatch.setattr("fcx.networks.training_loop.Run.go", None)  # whatever is trained from here on fails
    again = stored_models(sets, tmp_path, epochs=1, width=4, hidden=4)
    assert all(torch.equal(a, b) for a, b in zip(models["mouth"].state_dict().values(),
                                                 again["mouth"].state_dict().values(), strict=True))  # fmt: skip
    with pytest.raises(TypeError):
        stored_models(sets, tmp_path, epochs=2, width=4, hidden=4)


def test_a_residual_network_is_taught_and_asked_as_the_others_are(sets, tmp_path):
    taught = {"mouth": sets["mouth"]}
    first = stored_residual(taught, tmp_path, epochs=3)["mouth"]
    assert (first.outputs, first.metadata["crop"]) == (list(TARGETS), "face")
    losses = [epoch["loss"] for epoch in first.metadata["history"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    [file] = tmp_path.glob("*.safetensors")
    torch.testing.assert_close(fcx.load_model(file).state_dict(), first.state_dict(), rtol=0, atol=0)
    file.rename(tmp_path / "other")
    again = stored_residual(taught, tmp_path, epochs=3)["mouth"]
    torch.testing.assert_close(again.state_dict(), first.state_dict(), rtol=0, atol=0)
    few = {"mouth": sets["mouth"].isel(sample=slice(0, 2))}
    scores = known_truth_scores({"mouth": first}, few, "gradient,lrp_gamma", draws=5)
    assert scores["untrained"].sel({"method": ["gradient", "lrp_gamma"]}).notnull().all()
    both = figures.architecture_table({"FaceChannel": scores, "residual network": scores}).frame
    assert (both["found, FaceChannel"] == both["found, residual network"]).all()
    assert len(both) == 4 * len(TARGETS)


def test_the_default_methods_find_the_truth(tmp_path):
    """A small network that has learnt where the eyes are; the report asks every method about every carrier."""
    model = stored_models(synthetic_sets(("eyes",), count=1200), tmp_path, epochs=8, width=16, hidden=32)
    scores = known_truth_scores(model, synthetic_sets(("eyes",), count=40, seed=50), [*DEFAULT, "gradcam"], draws=50)
    assert (scores["ccc"] > 0.9).all()
    found = scores["found_mean"].isel(carrier=0)
    assert (found.sel({"method": list(DEFAULT)}) >= 0.95).all()
    assert (found.sel({"method": ["gradcam", "random", "edges"]}) < 0.5).all()
    assert (scores["auc_mean"].sel({"method": list(DEFAULT)}) > 0.8).all()


def test_the_notebook_runs(tmp_path, demo):
    demo.to_zarr(tmp_path / "faces.zarr", zarr_format=2)
    fcx.report(tmp_path / "reports", notebooks="05_validity", progress=False, runs=tmp_path / "runs", count=3, shown=2,
               carriers="outline,brightness", methods="gradient", train_faces=12, epochs=1, width=4,
               residual="outline", plants="left_cheek", photographs=tmp_path / "faces.zarr")  # fmt: skip
    numbers = json.loads((tmp_path / "reports" / "05_validity.json").read_text())
    names = {table["name"] for table in numbers["tables"]}
    assert {"truth", "validity_found", "validity", "densest"} <= names
    assert {"validity_found_drawn_faces_residual_network", "architectures"} <= names
    assert {"truth_photographs", "validity_found_photographs", "validity_photographs", "densest_photographs"} <= names
    assert "have not learnt their labels" in numbers["findings"][0]["statement"]
