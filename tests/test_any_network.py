"""Networks that declare what they read and answer: predicted, explained, scored; each against a slow way of its own."""

import copy
import re

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import make_faces
from torch import nn

import fcx
from fcx.attribution.batch import spread
from fcx.core.contract import GRID
from fcx.core.errors import InputError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.networks.inputs import as_network, as_pixels
from fcx.networks.residual import SmallResNet
from fcx.networks.resolving import resolve_models

LOGITS = ["happy", "sad", "neutral"]


def colour_faces(count=3, side=96):
    """Return faces with colour pictures of their own, which the grid does not show."""
    faces = make_faces(count)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (faces.sizes["condition"], count, side, side, 3), dtype=np.uint8)
    return faces.assign(picture=(("condition", "sample", "row", "column", "channel"), pictures))


class Reader(nn.Module):
    """Output k is the weighted sum of one channel over one place."""

    def __init__(self, places):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.places = places  # (channel, rows, columns)

    def forward(self, x):
        return torch.stack([x[:, c, rows, columns].sum((1, 2)) * 0.01 for c, rows, columns in self.places], 1)


def small(seed=0, channels=1, outputs=2):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(channels, 4, 5, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, outputs))  # fmt: skip


def test_targets_are_the_union_of_outputs_and_nan_where_one_is_lacking():
    faces = make_faces(3)
    logits = as_network(small(outputs=3), size=GRID, outputs=LOGITS, kind="logit")
    both = {"ratings": fcx.FaceChannel.preset("paper", width=8), "logits": logits}
    found = fcx.predict(both, faces)
    assert found["target"].values.tolist() == ["arousal", "valence", *LOGITS]
    assert nested_attr(found, "outputs")["logits"] == {**logits.words, "crop": "unknown"}
    images = torch.from_numpy(faces["image"].values[1])[:, None].float() / 255
    np.testing.assert_allclose(found["prediction"][1, 1, 2:], logits(images).detach().T, rtol=1e-5)
    assert found["prediction"].sel(model="logits", target=["arousal", "valence"]).isnull().all()
    assert found["prediction"].sel(model="ratings", target=LOGITS).isnull().all()
    assert found["prediction"].sel(model="ratings", target="valence").notnull().all()


def test_a_target_is_an_expression_over_what_networks_answer():
    faces = make_faces(2)
    models = {"logits": as_network(small(outputs=3), size=GRID, outputs=LOGITS, kind="logit"), "ratings": small(1)}
    found = fcx.attribute(models, faces, "lrp_gamma,gradient", ["happy - 2*sad", "happy", "sad", "valence"])
    maps = found["attribution"]
    combined = maps.sel(target="happy") - 2 * maps.sel(target="sad")
    of = maps.sel(target="happy - 2*sad")
    np.testing.assert_allclose(of.sel(model="logits"), combined.sel(model="logits"), atol=1e-4 * abs(of).max().item())
    assert maps.sel(model="ratings", target=["happy", "sad"]).isnull().all()
    assert maps.sel(model="logits", target="valence").isnull().all()
    assert maps.sel(model="ratings", target="valence").notnull().all()


def test_targets_that_no_network_answers_are_refused():
    faces, logits = make_faces(2), as_network(small(outputs=3), size=GRID, outputs=LOGITS, kind="logit")
    with pytest.raises(UnknownNameError, match=r"valence.*happy, sad, neutral"):
        fcx.attribute({"logits": logits}, faces, "gradient", "valence")
    with pytest.raises(InputError, match="which no model answers together"):
        fcx.attribute({"logits": logits, "ratings": small()}, faces, "gradient", "valence - happy")


METHODS = ("gradient", "input_x_gradient", "integrated_gradients", "lrp_epsilon", "lrp_gamma", "region_ablation")


def test_colours_and_finer_pictures_are_summed_into_the_grid():
    """A linear network that reads the green of some rows only: what each method must find is known."""
    faces, size = colour_faces(), 96
    places = [(1, slice(24, 72), slice(0, 48)), (2, slice(0, 24), slice(0, 96))]
    network = as_network(Reader(places), size=size, channels=3, outputs=["green", "blue"])
    found = fcx.attribute({"reader": network}, faces, METHODS, dtype="float64")
    pixels = torch.from_numpy(faces["picture"].values[0]).double().movedim(-1, 1) / 255
    parts = (0.01 * pixels[:, 1, 24:72, :48], 0.01 * pixels[:, 2, :24])
    for part, target, place in zip(parts, ("green", "blue"), ((16, 48, 0, 32), (0, 16, 0, 64)), strict=True):
        for method in METHODS[1:5]:
            maps = found["attribution"].sel(
                {"model": "reader", "condition": "plain", "method": method, "target": target}
            )
            np.testing.assert_allclose(maps.sum(("y", "x")), part.sum((-2, -1)), rtol=1e-9)
            top, bottom, left, right = place
            np.testing.assert_allclose(maps[:, top:bottom, left:right].sum(("y", "x")), maps.sum(("y", "x")), rtol=1e-9)
    slopes = found["attribution"].sel({"method": "gradient", "condition": "plain", "target": "blue"})[0]
    np.testing.assert_allclose(slopes[:, :16], 0.01 * (96 / 64) ** 2, rtol=1e-9)
    np.testing.assert_allclose(slopes[:, 16:], 0, atol=1e-15)


def test_region_ablation_fills_what_a_colour_network_reads():
    faces, size = colour_faces(), 96
    network = as_network(Reader([(0, slice(0, 96), slice(0, 96))]), size=size, channels=3, outputs=["red"])
    found = fcx.attribute({"reader": network}, faces, "region_ablation", fill="black", dtype="float64")
    red = faces["picture"].values[0][..., 0] / 255
    cover = faces["regions"].values / 255
    fine = spread(torch.from_numpy(cover), (size, size)).numpy() * (size / GRID) ** 2
    expected = 0.01 * (fine * red[:, None]).sum((-2, -1))  # (sample, region)
    for number, region in enumerate(faces["region"].values):
        effects = found[f"effect_{region}"].sel({"model": "reader", "condition": "plain", "target": "red"})[0]
        np.testing.assert_allclose(effects, expected[:, number], rtol=1e-6, atol=1e-9)


def test_spreading_keeps_sums_and_means():
    cells = torch.rand(2, 7, 5, dtype=torch.float64)
    for sides in ((14, 10), (3, 4), (64, 64)):
        torch.testing.assert_close(spread(cells, sides).sum((-2, -1)), cells.sum((-2, -1)))
    torch.testing.assert_close(spread(spread(cells, (14, 10)), (7, 5)), cells)


def test_grey_of_a_picture_is_luma_and_resizing_keeps_flat_pictures():
    network = as_network(small(), size=80, outputs=["a", "b"])
    pixels = as_pixels(network, np.full((1, 96, 96, 3), [10, 200, 90], np.uint8), dtype=torch.float64)
    assert pixels.shape == (1, 1, 80, 80)
    np.testing.assert_allclose(pixels, (0.299 * 10 + 0.587 * 200 + 0.114 * 90) / 255)


@pytest.mark.parametrize("count", [1, 7])
def test_maps_do_not_depend_on_the_batch(count):
    faces = colour_faces(9, side=70)
    pixels = {"size": 64, "channels": 3, "mean": [0.5, 0.4, 0.3], "std": 0.2}
    network = as_network(small(channels=3, outputs=3), outputs=LOGITS, kind="logit", **pixels)
    whole = fcx.attribute({"n": network}, faces, "lrp_gamma")["attribution"]
    parts = [fcx.attribute({"n": network}, faces.isel(sample=slice(i, i + count)), "lrp_gamma", batch_size=count)
             for i in range(0, 9, count)]  # fmt: skip
    xr.testing.assert_equal(whole, xr.concat([part["attribution"] for part in parts], "sample"))


def test_maps_of_a_residual_network_do_not_depend_on_how_many_faces_there_are():
    """Fewer than LRP takes at once, as many, one more, and many more."""
    torch.manual_seed(0)
    network = SmallResNet()
    network(torch.rand(8, 1, GRID, GRID))  # whose norms have then seen pictures
    faces = make_faces(9).isel(condition=[0])

    def maps(count):
        some = faces.isel(sample=np.arange(count) % 9).assign_coords(sample=[f"face{i}" for i in range(count)])
        return fcx.attribute({"n": network}, some, "lrp_gamma,gradient", batch_size=257)["attribution"].values

    whole = maps(9)
    scale = np.abs(whole).max((-1, -2), keepdims=True)
    assert (scale > 0).all()
    for count in (1, 7, 16, 17, 257):
        repeated = np.arange(count) % 9
        assert (np.abs(maps(count) - whole[..., repeated, :, :]) <= 1e-6 * scale[..., repeated, :, :]).all(), count


def test_the_network_of_the_caller_stays_as_it_is():
    network = as_network(small(outputs=3), size=GRID, outputs=LOGITS).train()
    before = copy.deepcopy(network.state_dict())
    fcx.attribute({"n": network}, make_faces(2), "lrp_gamma,gradcam,gradient")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_what_does_not_fit_is_refused_in_words():
    faces = make_faces(2)
    with pytest.raises(InputError, match=re.escape("fcx.as_network(module, outputs=[...])")):
        fcx.predict({"n": small(outputs=3)}, faces)
    with pytest.raises(InputError, match=r"reads colour pictures of 64x64 pixels.*prepare them with pictures"):
        fcx.predict({"n": as_network(small(channels=3), channels=3, outputs=["a", "b"])}, faces)
    probabilities = as_network(nn.Sequential(small(outputs=3), nn.Softmax(1)), outputs=LOGITS, kind="logit")
    for explain in (fcx.predict, fcx.attribute):
        with pytest.raises(InputError, match="let it answer its logits"):
            explain({"n": probabilities}, faces)
    with pytest.raises(InputError, match=r"n.*must return \(sample, 3\)"):
        fcx.attribute({"n": as_network(small(outputs=2), outputs=LOGITS)}, faces, "gradient")


def test_accuracy_is_the_share_of_strongest_logits():
    faces = make_faces(12).assign_coords(expression=("sample", ["happy", "sad", "neutral", "fear"] * 3))
    network = as_network(small(outputs=3), size=GRID, outputs=LOGITS, kind="logit")
    results = fcx.predict({"ratings": small(1), "logits": network}, faces)
    with pytest.warns(UserWarning, match="hold less often"):
        found = fcx.evaluate(results, faces, draws=50)
    answers = results["prediction"].sel(model="logits", target=LOGITS).values  # (condition, target, sample)
    label = faces["expression"].values
    hits = [[LOGITS[column[:, i].argmax()] == label[i] for i in range(12) if label[i] != "fear"] for column in answers]
    np.testing.assert_allclose(found["accuracy"].sel(model="logits"), np.mean(hits, axis=1))
    assert int(found["accuracy_n"].sel(model="logits")) == 9
    rated = results.sel(model=["ratings"], target=["arousal", "valence"])
    alone = fcx.evaluate(rated.assign_attrs(outputs="{}"), faces, draws=50)
    np.testing.assert_array_equal(found["ccc"].sel(model="ratings"), alone["ccc"].sel(model="ratings"))
    assert found["ccc"].sel(model="logits").isnull().all()


def test_networks_come_from_functions(tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(
        "import torch\nimport fcx\n"
        "def face():\n    return fcx.as_network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4096, 3)),\n"
        "        outputs=['happy', 'sad', 'neutral'], kind='logit')\n"
        "def broken():\n    raise KeyError('no')\n"
        "def none():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    from safetensors.torch import save_file

    weights = {"1.weight": torch.ones(3, 4096), "1.bias": torch.arange(3.0)}
    save_file(weights, "w.safetensors")
    models = resolve_models("mine_of_test:face@w.safetensors")
    assert list(models) == ["w"]  # called as its weights
    torch.testing.assert_close(models["w"](torch.zeros(1, 1, 64, 64)), torch.arange(3.0)[None])
    for name, text in (("broken", "KeyError"), ("none", "allowed: a function"), ("absent", "has no attribute")):
        with pytest.raises(InputError, match=text):
            resolve_models(f"mine_of_test:{name}")
