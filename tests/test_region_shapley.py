"""Shapley values of regions: the definition by orders, the axioms, and how many pictures they cost."""

from itertools import combinations

import numpy as np
import oracles
import pytest
import torch
from conftest import make_faces
from torch import nn

from fcx.attribution import FILLS, Batch, attribute, region_effects, shapley_interactions, shapley_values
from fcx.attribution.batch import Subject
from fcx.attribution.coalitions import coalition_pictures, coalition_values
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.fills import AT_ONCE
from fcx.attribution.region_shapley import coalition_weights, players, smallest_maps
from fcx.core.contract import REGIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import piece_of
from fcx.networks.inputs import as_network
from fcx.statistics.region_mass import sample_statistics

SIZE = 16
PLAYERS = [*REGIONS, "mask"]
PLAIN, MASKED = 0, 1


def run(model, faces, method="region_shapley", **options):
    return attribute({"m": model}, faces, method, dtype="float64", **options)


def values_of(model, faces, **options):
    """Return the values (condition, target, sample, region) of one model."""
    return shapley_values(run(model, faces, **options)).isel(model=0)


def pixels(faces, condition=PLAIN):
    return faces["image"].values[condition] / 255


def softened(faces):
    """Return faces whose regions and mask have soft edges."""
    regions, alpha = faces["regions"].values, faces["alpha"].values.copy()
    alpha[PLAIN] = 0
    return faces.assign(
        regions=faces["regions"].copy(data=regions // 2 + np.roll(regions, 3, -1) // 2),
        alpha=faces["alpha"].copy(data=alpha),
    )


@pytest.fixture(scope="module")
def small():
    """Faces of at most four regions: a game of five with the mask, that has 120 orders."""
    faces = softened(make_faces(3, seed=1, size=SIZE))
    assert ((faces["regions"].sum(("y", "x")) > 0).sum("region") <= 4).all()
    return faces


@pytest.fixture(scope="module")
def model():
    return oracles.random_facechannel()


class Pairs(nn.Module):
    """Arousal is the product of the left and the right half's brightness, valence that of the upper left quarter."""

    def forward(self, x):
        left, right = x[..., : SIZE // 2].mean((1, 2, 3)), x[..., SIZE // 2 :].mean((1, 2, 3))
        return torch.stack([left * right, x[:, 0, : SIZE // 2, : SIZE // 2].mean((1, 2))], 1)


def halves():
    """Return faces of two regions, left and right, each a mirror of the other."""
    faces = softened(make_faces(3, seed=2, size=SIZE))
    image, regions = faces["image"].values, np.zeros_like(faces["regions"].values)
    image[..., SIZE // 2 :] = image[..., : SIZE // 2][..., ::-1]
    regions[:, 0, :, : SIZE // 2] = regions[:, 3, :, SIZE // 2 :] = 255
    return faces.assign(image=faces["image"].copy(data=image), regions=faces["regions"].copy(data=regions))


# --- the definition ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 5])
def test_weights_are_those_of_the_definition_by_orders(count):
    game = np.random.default_rng(count).normal(size=2**count)
    players = range(count)

    def value(coalition):
        return game[sum(2**player for player in coalition)]

    expected = oracles.shapley_by_orders(value, players)
    np.testing.assert_allclose(coalition_weights(count, 1).numpy() @ game, [expected[i] for i in players], atol=1e-14)
    pairs = [oracles.interaction_by_orders(value, players, pair) for pair in combinations(players, 2)]
    np.testing.assert_allclose(coalition_weights(count, 2).numpy() @ game, pairs, atol=1e-14)


@pytest.mark.parametrize(("condition", "mask"), [("plain", "worn"), ("masked", "worn"), ("plain", "always"),
                                                 ("masked", "never")])  # fmt: skip
def test_values_equal_the_definition_by_orders(condition, mask, small, model):
    results = run(model, small, mask=mask, interactions=True)
    values, pairs = (
        of(results).isel(model=0).sel(condition=condition) for of in (shapley_values, shapley_interactions)
    )
    assert list(values["region"].values) == list(pairs["region_other"].values) == PLAYERS
    x, sample = pixels(small, ("plain", "masked").index(condition)), 1
    parts = small["regions"].values[sample] / small["regions"].values[sample].sum(0, dtype=int)
    plays = mask == "always" or (mask == "worn" and condition == "masked")
    alpha = plays * small["alpha"].values[MASKED, sample] / 255
    cover = np.concatenate([parts * (1 - alpha), alpha[None]])
    players = [int(i) for i in np.flatnonzero(cover.any((1, 2)))]
    assert (len(PLAYERS) - 1 in players) == plays
    for target in range(len(TARGETS)):

        def answer(picture, target=target):
            with torch.no_grad():
                return float(model.tail(model.features(torch.from_numpy(picture)[None, None]))[0, target])

        value = oracles.value_of_coalition(answer, x[sample], x.mean(0), cover)
        expected = oracles.shapley_by_orders(value, players)
        got = values[target, sample].values
        np.testing.assert_allclose(got, [expected.get(i, 0) for i in range(len(PLAYERS))], rtol=1e-9, atol=1e-13)
        for one, other in combinations(players, 2):
            together = oracles.interaction_by_orders(value, players, (one, other))
            assert pairs[target, sample, one, other].item() == pytest.approx(together, rel=1e-9, abs=1e-13)


def test_a_network_of_other_size_colour_and_outputs_has_values_on_the_same_grid(small):
    rng, side = np.random.default_rng(4), 2 * SIZE
    pictures = rng.integers(0, 256, (2, 3, side, side, 3), dtype=np.uint8)
    faces = small.assign(picture=(("condition", "sample", "row", "column", "channel"), pictures))
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3))
    net = as_network(module, size=side, channels=3, mean=0.4, std=[0.2, 0.3, 0.4], outputs=["happy", "sad", "anger"],
                     kind="logit").double()  # fmt: skip
    results = run(net, faces, targets=["sad", "happy - sad"], fill="grey")
    assert results["attribution"].shape[-2:] == (SIZE, SIZE)
    for condition, sample in ((PLAIN, 0), (MASKED, 2)):
        alpha = faces["alpha"].values[condition, sample] / 255
        parts = faces["regions"].values[sample] / faces["regions"].values[sample].sum(0, dtype=int)
        cover = np.concatenate([parts * (1 - alpha), alpha[None]]).repeat(2, 1).repeat(2, 2)
        players = [int(i) for i in np.flatnonzero(cover.any((1, 2)))]

        def value(coalition, face=pictures[condition, sample] / 255, cover=cover):
            kept = sum((cover[player] for player in coalition), np.zeros((side, side)))[..., None]
            mixed = kept * face + (1 - kept) * 0.5
            with torch.no_grad():
                logits = net(torch.from_numpy(mixed.transpose(2, 0, 1)[None]))[0].numpy()
            return np.array([logits[1], logits[0] - logits[1]])

        for target in range(2):
            game = {c: value(c)[target] for size in range(6) for c in map(frozenset, combinations(players, size))}
            expected = oracles.shapley_by_orders(game.__getitem__, players)
            values = shapley_values(results)[0, condition, target, sample].values
            np.testing.assert_allclose(values, [expected.get(i, 0) for i in range(len(PLAYERS))], rtol=1e-9, atol=1e-12)
    change = (results["prediction"] - results["filled_output"]).isel(method=0)
    np.testing.assert_allclose(results["attribution"].sum(("y", "x")).isel(method=0), change, rtol=1e-9, atol=1e-12)


# --- the axioms -------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["black", "mean", "blur", "twin"])
@pytest.mark.parametrize("mask", ["worn", "always", "never"])
def test_values_and_maps_sum_to_what_the_fill_changes(fill, mask, small, model):
    results = run(model, small, fill=fill, mask=mask)
    values, filled = shapley_values(results), results["filled_output"].isel(method=0)
    change = results["prediction"] - filled
    np.testing.assert_allclose(values.sum("region"), change, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(results["attribution"].isel(method=0).sum(("y", "x")), change, rtol=1e-10, atol=1e-13)
    assert np.abs(results["completeness_gap"]).max() < 1e-13
    if fill == "twin":
        np.testing.assert_allclose(filled, results["prediction"].isel(condition=[1, 0]), rtol=1e-12)
    if fill == "black":
        assert filled.std("sample").max() < 1e-15


def test_the_net_of_a_region_is_its_value(small, model):
    results = run(model, small)
    net, values = sample_statistics(results, small)["net"].isel(method=0), shapley_values(results)
    parts = list(REGIONS)
    plain, masked = ({"condition": condition} for condition in ("plain", "masked"))
    found = net.sel(plain).sel(region=parts).fillna(0)  # of a region that covers nothing
    np.testing.assert_allclose(found, values.sel(plain).sel(region=parts), rtol=1e-9, atol=1e-13)
    assert not values.sel(plain).sel(region="mask").any()
    np.testing.assert_allclose(net.sel(masked).sel(region="mask"), values.sel(masked).sel(region="mask"), rtol=1e-9)
    alpha = small["alpha"].sel(masked) / 255
    cover = small["regions"] / small["regions"].sum("region") * (1 - alpha)
    uncovered = (results["attribution"].isel(method=0).sel(masked) * cover).sum(("y", "x"))
    np.testing.assert_allclose(uncovered, values.sel(masked).sel(region=parts), rtol=1e-9, atol=1e-13)


def test_equal_players_have_equal_values_and_others_none():
    results = run(Pairs(), halves(), fill="black", interactions=True)
    values, pairs = shapley_values(results)[0, PLAIN], shapley_interactions(results)[0, PLAIN]
    half = (results["prediction"] - results["filled_output"].isel(method=0))[0, PLAIN] / 2
    left, right = values.sel(region="eyes"), values.sel(region="mouth")
    np.testing.assert_allclose(left[0], half[0], rtol=1e-12)
    np.testing.assert_allclose(left[0], right[0], rtol=1e-12)
    np.testing.assert_allclose(left[1], 2 * half[1], rtol=1e-12)
    assert not right[1].any()  # the network does not read it
    assert not values.drop_sel(region=["eyes", "mouth"]).any()  # they cover nothing
    # A product is nothing but interaction; a sum has none.
    together = pairs.sel(region="eyes", region_other="mouth")
    np.testing.assert_allclose(together[0], 2 * half[0], rtol=1e-12)
    np.testing.assert_allclose(together[1], 0, atol=1e-15)
    np.testing.assert_array_equal(pairs, pairs.transpose(..., "region_other", "region"))
    assert np.isnan(np.diagonal(pairs, axis1=-2, axis2=-1)).all()


def test_values_are_linear_in_targets(small, model):
    one, other, both = values_of(model, small, targets=["arousal", "valence", "valence - 2 * arousal"]).transpose(
        "target", ...
    )
    np.testing.assert_allclose(both, other - 2 * one, rtol=1e-9, atol=1e-13)


def test_of_a_linear_network_they_are_the_effects_of_ablation():
    faces = make_faces(3, seed=3, size=SIZE)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 2)).double()
    results = run(net, faces, "region_shapley,region_ablation", mask="never", interactions=True)
    values, parts = shapley_values(results), list(REGIONS)
    effects = region_effects(results).sel(region=parts)
    np.testing.assert_allclose(values.sel(region=parts), effects, rtol=1e-9, atol=1e-13)
    maps = results["attribution"].transpose("method", ...)
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-9, atol=1e-13)  # these regions have no soft edge
    assert np.nanmax(np.abs(shapley_interactions(results))) < 1e-13


# --- the map, and what is asked ---------------------------------------------------------------


def test_a_map_is_the_smallest_one_with_these_sums():
    rng = np.random.default_rng(0)
    cover = torch.from_numpy(rng.dirichlet(np.ones(4), (2, 5, 5)).transpose(0, 3, 1, 2).copy())
    cover = torch.cat([cover, 0 * cover[:, :1]], 1)
    values = torch.from_numpy(rng.normal(size=(3, 2, 5)))
    values[..., -1] = 0  # it covers nothing
    maps = smallest_maps(values, cover)
    for target, sample in np.ndindex(3, 2):
        rows = cover[sample].flatten(1).numpy()
        expected = np.linalg.lstsq(rows, values[target, sample].numpy(), rcond=None)[0]
        np.testing.assert_allclose(maps[target, sample].flatten(), expected, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(rows @ maps[target, sample].flatten().numpy(), values[target, sample], atol=1e-12)


def test_values_depend_on_no_other_face():
    faces = softened(make_faces(5, seed=6, size=SIZE))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIZE - 2) ** 2, 2))
    one, five = (attribute({"m": net}, faces, "region_shapley", batch_size=count) for count in (1, 5))
    for name in ("attribution", "shapley_eyes", "shapley_mask"):
        np.testing.assert_array_equal(one[name], five[name])


class Counting(nn.Module):
    """Counts the pictures that it is shown."""

    shown = 0

    def forward(self, x):
        Counting.shown += len(x)
        return x.mean((1, 2, 3))[:, None].expand(-1, 2)


@pytest.mark.parametrize("condition", ["plain", "masked"])
@pytest.mark.parametrize(("preset", "options"), [("paper", {"batch_norm": True}), ("v1", {}), ("code2020", {})])
def test_coalitions_share_the_first_block_of_a_facechannel(preset, options, condition, demo):
    torch.manual_seed(0)
    net = FaceChannel.preset(preset, width=8, hidden=8, **options).double()
    images = torch.from_numpy(demo["image"].sel(condition=condition).values[:1, None]).double() / 255
    batch = Batch(
        Subject.of("m", net, images.device, images.dtype), images, reader=FaceReader(demo), condition=condition
    )
    (cover,), (instead,) = players(batch, "worn"), FILLS["mean"](batch)
    cover, shown = cover[cover.any((1, 2))], []
    batch.model.trunk.conv1.register_forward_hook(lambda _, given, __: shown.append(len(given[0])))
    with torch.no_grad():
        values = coalition_values(batch, images[0], instead, cover)
        assert sum(shown) <= values.shape[1] / 4
        for number, pictures in enumerate(coalition_pictures(images[0], instead, cover)):
            some = slice(AT_ONCE * number, AT_ONCE * number + len(pictures))
            expected = batch.values(batch.explained(pictures)).T
            torch.testing.assert_close(values[:, some], expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(pictures[-1], images[0], rtol=0, atol=1e-15)  # nothing is filled where all are there


class Inverted(FaceChannel):
    """A FaceChannel that changes something on the way: its blocks are not asked one by one."""

    def features(self, images):
        return super().features(1 - images)


def test_a_facechannel_with_features_of_its_own_is_asked_as_a_whole(small):
    torch.manual_seed(0)
    net = Inverted.preset("paper", width=8, size=SIZE, hidden=8)
    results = run(net, small, fill="black")
    values, filled = shapley_values(results), results["filled_output"].isel(method=0)
    np.testing.assert_allclose(values.sum("region"), results["prediction"] - filled, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fill", ["black", "twin"])
def test_each_coalition_costs_one_picture_and_who_changes_nothing_none(fill):
    faces = softened(make_faces(4, seed=7, size=SIZE))
    faces["image"][1] = faces["image"][0] // 2
    faces["image"][1, :, : SIZE // 2] = faces["image"][0, :, : SIZE // 2]  # the same in both conditions
    batches = []
    for count in (1, 2):  # of targets: they share the pictures
        Counting.shown = 0
        run(Counting(), faces, targets=list(TARGETS[:count]), fill=fill)
        batches.append(Counting.shown)
    cover = faces["regions"].values[None] * (255 - faces["alpha"].values[:, :, None].astype(int))
    cover = np.concatenate([cover, faces["alpha"].values[:, :, None]], 2) > 0
    if fill == "twin":
        cover = cover & (faces["image"].values[0] != faces["image"].values[1])[None, :, None]
    coalitions = 2 ** cover.any((-2, -1)).sum(-1)  # (condition, sample)
    assert (coalitions.max() > AT_ONCE) == (fill == "black")
    # Beside them, prediction and both ends of each condition's batch, filled up to a piece, and of one face to
    # rehearse; and a face alone and beside another.
    assert batches == [coalitions[0, 0] + coalitions.sum() + 3 * (2 * piece_of(Counting()) + 1) + 1 + 2] * 2


def test_a_twin_that_is_unusable_gives_no_map(small, model):
    faces = small.copy(deep=True)
    faces["status"][MASKED, 2] = "no face was found"
    maps = run(model, faces, fill="twin")["attribution"][0, PLAIN, 0]
    assert np.isnan(maps[:, 2]).all()
    assert np.isfinite(maps[:, :2]).all()


def test_what_cannot_be_asked_is_refused(small, model):
    with pytest.raises(UnknownNameError, match="unknown word for when the mask plays 'alway': did you mean 'always'"):
        run(model, small, mask="alway")
    with pytest.raises(InputError, match="interactions is 'yes'; allowed: True or False"):
        run(model, small, interactions="yes")
    with pytest.raises(InputError, match="in one condition, 'plain': another is needed"):
        run(model, small.sel(condition=["plain"]), fill="twin")
    with pytest.raises(ContractError, match=r"make them with the method 'region_shapley'$"):
        shapley_values(run(model, small, "gradient"))
    with pytest.raises(ContractError, match=r"'region_shapley' and interactions=True$"):
        shapley_interactions(run(model, small))


def test_a_face_that_is_its_own_fill_gives_nothing(small, model):
    """The mean of one face is that face: nobody plays."""
    one = small.isel(sample=[0])
    found = attribute({"m": model}, one, "region_shapley", fill="mean")
    assert not found["attribution"].any()
    assert not found["completeness_gap"].any()
