"""Planted photographs: what depends on the labels is known exactly, and nothing else does."""

import numpy as np
import pytest
import torch

from fcx.core.contract import REGIONS, TARGETS, check
from fcx.core.errors import InputError, UnknownNameError
from fcx.datasets.planted import PATCH, PLANTS, plant_cover, planted_sets, with_plants
from fcx.datasets.truth import truth_condition
from fcx.faithfulness.known_truth import known_truth_scores


@pytest.fixture(scope="module")
def sets(demo):
    return planted_sets(demo, count=2 * demo.sizes["sample"], seed=3)


@pytest.mark.parametrize("plant", range(len(PLANTS)))
def test_only_the_truth_changes_with_the_labels_and_all_of_it_does(demo, sets, plant):
    images, mesh = demo["image"].values, demo["mesh"].values
    cover, rng = plant_cover(mesh, demo["alpha"].values), np.random.default_rng(plant)
    moves = rng.uniform(-1, 1, (demo.sizes["sample"], len(PLANTS), len(TARGETS)))
    pictures = []
    for arousal, valence in [(-1, -1), (1, -1), (-1, 1), (1, 1), *rng.uniform(-1, 1, (3, 2))]:
        moves[:, plant] = arousal, valence
        pictures.append(with_plants(images, cover, moves))
    changes = (np.array(pictures) != pictures[0]).any(0)  # (condition, sample, y, x)
    assert not (changes & (cover[plant] == 0)).any()
    clear = cover[plant] > 0.1  # thin cloth moves a pixel by less than a grey level
    assert clear.any((2, 3))[["plain", "masked"].index(truth_condition(sets[PLANTS[plant]]))].all()
    assert changes[clear].all()


def test_no_grey_value_is_cut_off(demo):
    cover = plant_cover(demo["mesh"].values, demo["alpha"].values)
    for tone in (0, 255):
        images = np.full_like(demo["image"].values, tone)
        strongest = with_plants(images, cover, np.ones((demo.sizes["sample"], len(PLANTS), len(TARGETS))))
        planted = strongest[(cover == 1).any(0)]
        assert 0 < planted.min() < planted.max() < 255


def test_the_labels_are_the_strength_of_the_stripes(sets):
    """The slow way: within its patch, upright and level stripes are counted out of each picture by their sum."""
    faces = sets["forehead"].sel(condition="plain")
    signs = np.array([1, 1, -1, -1] * 16)
    for i in range(faces.sizes["sample"]):
        down, right = np.nonzero(faces["truth"].values[i])
        assert len(down) == PATCH**2
        cover = np.zeros((len(PLANTS), 1, 1, 64, 64), np.float32)
        cover[0, 0, 0, down, right] = 1
        alone = with_plants(np.full((1, 1, 64, 64), 128, np.uint8), cover, _moves(faces, i))
        grey = alone[0, 0, down, right].astype(float) - 128
        upright, level = np.linalg.lstsq(np.stack([signs[right], signs[down]], 1), grey, rcond=None)[0]
        assert upright == pytest.approx(14 * (1 + float(faces["arousal"][i])), abs=0.6)
        assert level == pytest.approx(14 * (1 + float(faces["valence"][i])), abs=0.6)


def _moves(faces, i):
    moves = np.full((1, len(PLANTS), 2), -1.0)
    moves[0, 0] = float(faces["arousal"][i]), float(faces["valence"][i])
    return moves


def test_faces_keep_the_contract_and_share_their_pictures(demo, sets):
    for carrier, faces in sets.items():
        check(faces, "faces")
        assert faces.attrs["carrier"] == carrier
        assert (faces["image"] == sets["stripes"]["image"]).all()
        assert set(faces["subject"].values) <= set(demo["sample"].values)
        assert np.unique(faces["subject"].values, return_counts=True)[1].tolist() == [2] * demo.sizes["sample"]
    labels = np.stack([faces[target].values for faces in sets.values() for target in TARGETS])
    assert len(np.unique(labels)) == labels.size  # no two carriers or targets share numbers
    assert {carrier: truth_condition(faces) for carrier, faces in sets.items()} == {
        **dict.fromkeys(PLANTS, "plain"), "stripes": "masked"}  # fmt: skip


def test_patches_lie_where_they_are_called(sets):
    for carrier, region in (
        ("forehead", "forehead"),
        ("left_cheek", "cheeks"),
        ("right_cheek", "cheeks"),
        ("chin", "jaw"),
    ):
        truth = sets[carrier]["truth"].sel(condition="plain").values > 0
        shares = (sets[carrier]["regions"].values.astype(float) * truth[:, None]).sum((0, 2, 3))
        assert REGIONS[int(shares.argmax())] == region


def test_the_same_seed_plants_the_same(demo, sets):
    again = planted_sets(demo, "stripes", count=2 * demo.sizes["sample"], seed=3)["stripes"]
    assert again.drop_attrs().identical(sets["stripes"].drop_attrs())
    other = planted_sets(demo, "stripes", count=2 * demo.sizes["sample"], seed=4)["stripes"]
    assert (other["image"].values != again["image"].values).any()


def test_what_cannot_be_planted_is_refused(demo):
    with pytest.raises(UnknownNameError, match="unknown carrier 'cheeks'"):
        planted_sets(demo, "cheeks")
    with pytest.raises(InputError, match="the faces lack masked"):
        planted_sets(demo.sel(condition=["plain"]), "left_cheek")
    with pytest.raises(InputError, match="nothing to plant in"):
        planted_sets(
            demo.assign(status=demo["status"].copy(data=np.full(demo["status"].shape, "no face"))), "left_cheek"
        )
    with pytest.raises(InputError, match="count is 0"):
        planted_sets(demo, "left_cheek", count=0)


def test_networks_that_learnt_nothing_are_the_control(sets):
    """Two networks that know nothing: what their maps find is what the same method finds with random weights."""
    from fcx.networks.facechannel import Config, FaceChannel

    networks = {str(i): FaceChannel(Config(width=8, hidden=4)).eval() for i in range(2)}
    scores = known_truth_scores(
        {"left_cheek": networks}, {"left_cheek": sets["left_cheek"]}, "gradient,occlusion", draws=50
    )
    assert scores.sizes["network"] == 2
    np.testing.assert_allclose(scores["found_each"].mean("network"), scores["found_mean"], atol=1e-12)
    of_methods = scores.sel({"method": ["gradient", "occlusion"]})
    assert of_methods["untrained"].notnull().all()
    assert scores["untrained"].sel({"method": ["random", "edges"]}).isnull().all()
    one = known_truth_scores({"left_cheek": networks["0"]}, {"left_cheek": sets["left_cheek"]}, "gradient", draws=50)
    assert (
        one["found_mean"].sel({"method": "gradient"})
        == scores["found_each"].isel(network=0).sel({"method": "gradient"})
    ).all()


def test_a_decoy_that_is_denser_than_the_truth_is_no_find(sets):
    """A network that reads the chin, asked about the left cheek, and the same asked about the chin."""

    class Chin(torch.nn.Module):
        def __init__(self, faces):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.tensor((faces["truth"].values[0] > 0).any(0).astype("f4")))

        def forward(self, images):
            return (images[:, 0] * self.weights).sum((1, 2))[:, None].expand(-1, 2)

    few = {name: sets[name].isel(sample=slice(0, 1)) for name in ("chin", "left_cheek")}
    models = dict.fromkeys(few, Chin(few["chin"]))
    scores = known_truth_scores(models, few, "gradient", margin=0, draws=50).sel({"method": "gradient"})
    assert (scores["found"].sel(carrier="chin") == 1).all()
    assert (scores["found"].sel(carrier="left_cheek") == 0).all()
