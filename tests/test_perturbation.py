"""Occlusion, region ablation and extremal perturbation, against slow oracles and planted truth."""

import numpy as np
import oracles
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion
from conftest import make_faces
from torch import nn

from fcx.attribution import FILLS, Batch, attribute, perturbation, region_effects
from fcx.attribution.batch import Subject
from fcx.attribution.face_reader import FaceReader
from fcx.core.contract import REGIONS
from fcx.core.errors import ContractError, InputError
from fcx.statistics.region_mass import region_cover

SIZE = 16


def run(model, faces, method, **options):
    return attribute({"m": model}, faces, method, dtype="float64", **options)


def maps(model, faces, method, **options):
    return run(model, faces, method, **options)["attribution"].values[0, 0, 0]


def pixels(faces, condition=0):
    return torch.from_numpy(faces["image"].values[condition]).double()[:, None] / 255


def answers(model):
    """Return one function of a picture (y, x) for each target."""

    def one(target):
        def answer(picture):
            images = torch.as_tensor(picture)[None, None]
            with torch.no_grad():
                values = model.tail(model.features(images)) if hasattr(model, "tail") else model(images)
            return float(values[0, target])

        return answer

    return [one(0), one(1)]


def soft(count=3, seed=1):
    """Faces whose regions are soft, some of them empty."""
    faces = make_faces(count, seed=seed, size=SIZE)
    shifted = np.roll(faces["regions"].values, 3, -1)
    faces["regions"] = faces["regions"].copy(data=faces["regions"].values // 2 + shifted // 2)
    assert (faces["regions"].sum(("y", "x")) == 0).any()
    return faces


class Planted(nn.Module):
    """Arousal is the brightness of one square, valence minus that of another; nothing else counts."""

    def forward(self, x):
        return torch.stack([x[:, 0, 4:8, 4:8].mean((1, 2)), -x[:, 0, 8:12, 8:16].mean((1, 2))], 1)


@pytest.fixture(scope="module")
def small():
    return soft()


@pytest.fixture(scope="module")
def model():
    return oracles.random_facechannel()


# --- occlusion --------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (5, 3), (16, 16), (3, 1)])
def test_occlusion_equals_the_slow_oracle_and_captum(window, stride, small, model):
    found = maps(model, small, "occlusion", window=window, stride=stride, fill="mean")
    x, fill = pixels(small), pixels(small)[:, 0].mean(0).numpy()
    for target, answer in enumerate(answers(model)):
        if stride > 1:  # a window at each pixel takes the oracle too long
            expected = oracles.occlusion_of_one(answer, x[1, 0].numpy(), fill, window, stride)
            np.testing.assert_allclose(found[target, 1], expected, rtol=1e-9, atol=1e-13)
        theirs = Occlusion(lambda x: model.tail(model.features(x)).detach()).attribute(
            x, (1, window, window), (1, stride, stride), torch.as_tensor(fill)[None, None].expand_as(x), target
        )
        np.testing.assert_allclose(found[target], theirs[:, 0], rtol=1e-6, atol=1e-9)  # captum counts in float32


@pytest.mark.parametrize("fill", FILLS)
def test_occlusion_of_a_linear_model_is_a_sum_over_windows(fill, small):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 2)).double()
    terms = maps(net, small, "integrated_gradients", baseline=fill, steps=1)  # w (x - fill), tested elsewhere
    blocks = terms.reshape(2, 3, 4, 4, 4, 4).sum((3, 5))
    found = maps(net, small, "occlusion", window=4, stride=4, fill=fill)
    np.testing.assert_allclose(found[..., ::4, ::4], blocks, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"window": 4, "stride": 5}, {"window": 17}, {"stride": 0}, {"window": 4.0}, {"fill": "white"}]
)
def test_windows_that_cannot_be_are_refused(options, small, model):
    with pytest.raises(InputError):
        run(model, small, "occlusion", **options)


# --- regions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_region_ablation_equals_the_slow_oracle(fill, small, model):
    results = run(model, small, "region_ablation", fill=fill)
    effects = region_effects(results)
    assert list(effects["region"].values) == [*REGIONS, "mask"]
    x, cover = pixels(small)[:, 0].numpy(), region_cover(small, np.arange(3))[:, : effects.sizes["region"]]
    replaced = x.mean(0) if fill == "mean" else 0 * x[0]
    for target, answer in enumerate(answers(model)):
        for sample in range(3):
            expected, heat = oracles.ablation_of_one(answer, x[sample], cover[sample], replaced)
            np.testing.assert_allclose(effects.values[0, 0, target, sample], expected, rtol=1e-9, atol=1e-13)
            np.testing.assert_allclose(results["attribution"][0, 0, 0, target, sample], heat, rtol=1e-9, atol=1e-13)
    total = results["attribution"].sum(("y", "x")).isel(method=0)
    np.testing.assert_allclose(total, effects.sel(region=list(REGIONS)).sum("region"), rtol=1e-12, atol=1e-14)
    empty = small["regions"].sum(("y", "x")).values == 0
    assert (effects.sel(region=list(REGIONS)).values[0, 0][:, empty] == 0).all()


class Rounding(nn.Module):
    """Answers that depend on the place in a batch, as those of a convolution do in their last digits."""

    def forward(self, x):
        return x.mean((1, 2, 3))[:, None] + 1e-6 * torch.arange(len(x)).to(x)[:, None].expand(-1, 2)


@pytest.mark.parametrize("control", ["none", "shift"])
def test_what_covers_nothing_has_no_effect_however_a_batch_rounds(control, small):
    effects = region_effects(run(Rounding(), small, "region_ablation", fill="black", control=control))
    empty = small["regions"].sum(("y", "x")) == 0
    assert (effects.sel(region=list(REGIONS)).where(empty, drop=True).fillna(0) == 0).all()
    assert (effects.sel(region=list(REGIONS)).where(~empty) != 0).sum() > 10


def test_region_ablation_equals_captum(model):
    faces = make_faces(4, seed=5, size=SIZE)  # hard regions: captum knows no others
    effects = region_effects(run(model, faces, "region_ablation", fill="black")).sel(region=list(REGIONS))
    labels = torch.from_numpy(faces["regions"].values.argmax(1))[:, None]
    for target in range(2):
        theirs = FeatureAblation(lambda x: model.tail(model.features(x)).detach()).attribute(
            pixels(faces), 0, target, feature_mask=labels
        )
        for region in range(len(REGIONS)):
            inside = labels == region
            mine = torch.from_numpy(effects.values[0, 0, target, :, region])[:, None, None, None].expand_as(inside)
            torch.testing.assert_close(theirs[inside], mine[inside], rtol=1e-6, atol=1e-9)


def batch_of(model, faces, rows=None):
    rows = np.arange(faces.sizes["sample"]) if rows is None else rows
    return Batch(
        Subject("m", model), pixels(faces)[rows], torch.as_tensor(rows), reader=FaceReader(faces), condition="plain"
    )


def test_regions_of_a_batch_stay_when_others_are_asked_for(model):
    batch = batch_of(model, soft(8, seed=6), np.array([7, 3]))
    before = batch.regions.clone()
    assert not np.array_equal(batch.reader.cover(np.array([0, 1]))[:, :-1], before)  # into the memory of the first
    torch.testing.assert_close(batch.regions, before, rtol=0, atol=0)


@pytest.mark.parametrize("control", ["patch", "shift"])
def test_controls_remove_the_same_area_at_random_places(control, model):
    faces = soft(30, seed=6)
    own, moved = (perturbation.ablated_areas(batch_of(model, faces), c, seed=2).numpy() for c in ("none", control))
    np.testing.assert_allclose(moved.sum((-2, -1)), own.sum((-2, -1)), rtol=1e-12)
    assert moved.min() >= 0
    assert moved.max() <= 1
    if control == "shift":
        np.testing.assert_array_equal(np.sort(moved, axis=None), np.sort(own, axis=None))
    else:
        assert ((moved > 0) & (moved < 1)).sum((-2, -1)).max() <= 1  # but for one pixel, all or nothing
    some = perturbation.ablated_areas(batch_of(model, faces, np.array([7, 3])), control, seed=2).numpy()
    np.testing.assert_array_equal(some, moved[:, [7, 3]])
    other = perturbation.ablated_areas(batch_of(model, faces), control, seed=3).numpy()
    assert (other != moved).any((0, 2, 3)).all()
    # Every place is as likely as any other, but for the border, where a patch is squeezed inwards.
    mouth = moved[-1].mean(0)
    assert mouth.max() < 6 * mouth.mean()
    assert (mouth > 0).mean() > 0.95


def test_a_control_has_no_effect_where_only_the_region_counts():
    faces = make_faces(60, seed=7, size=SIZE)
    faces["regions"][:] = 0
    faces["regions"].loc[{"region": "mouth"}][:, 4:8, 4:8] = 255
    faces["regions"].loc[{"region": "background"}][:] = 255 - faces["regions"].sel(region="mouth")
    effect = {}
    for control in ("none", "patch", "shift"):
        found = region_effects(run(Planted(), faces, "region_ablation", fill="black", control=control))
        effect[control] = np.abs(found.sel(region="mouth", target="arousal", condition="plain")).mean().item()
        assert (found.sel(region="eyes") == 0).all()
    brightness = pixels(faces)[:, 0, 4:8, 4:8].mean().item()
    assert effect["none"] == pytest.approx(brightness)
    assert effect["patch"] < 0.3 * brightness
    assert effect["shift"] < 0.3 * brightness


def test_effects_are_asked_of_what_has_them(small, model):
    with pytest.raises(ContractError, match="make them with the method 'region_ablation'"):
        region_effects(run(model, small, "gradient"))
    with pytest.raises(InputError, match="unknown control 'shfit': did you mean 'shift'"):
        run(model, small, "region_ablation", control="shfit")


# --- extremal perturbation --------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["black", "grey"])
def test_extremal_perturbation_finds_what_is_planted(fill):
    faces = make_faces(5, seed=8, size=SIZE)
    faces["image"][:] = 255 - faces["image"] // 8
    found = maps(Planted(), faces, "extremal_perturbation", area=1 / 8, fill=fill)
    assert found.min() >= 0
    assert found.max() <= 1
    truth = np.zeros((2, SIZE, SIZE), bool)
    truth[0, 4:8, 4:8], truth[1, 8:12, 8:16] = True, True
    for target in range(2):
        inside, outside = found[target][:, truth[target]].mean(), found[target][:, ~truth[target]].mean()
        assert inside > 0.6
        assert outside < 0.15
        assert truth[target].ravel()[found[target].reshape(5, -1).argmax(1)].all()


@pytest.mark.parametrize("area", [0.125, 0.25, 0.5])
def test_extremal_perturbation_takes_the_area_it_is_given(area, model):
    faces = make_faces(4, seed=9, size=SIZE)
    found = maps(model, faces, "extremal_perturbation", area=area)
    assert np.abs(found.mean((-2, -1)) - area).max() < 0.1


@pytest.mark.parametrize("options", [{"area": 0}, {"area": 1.5}, {"area": "small"}, {"descent_steps": 0}])
def test_areas_that_cannot_be_are_refused(options, small, model):
    with pytest.raises(InputError, match=next(iter(options))):
        run(model, small, "extremal_perturbation", **options)
