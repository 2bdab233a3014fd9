"""Drawn faces: what depends on the labels is known exactly, and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest

from fcx.core.contract import REGIONS, TARGETS, check, usable
from fcx.core.errors import InputError, UnknownNameError
from fcx.datasets.synthetic import CARRIERS, IDENTITY, draw, synthetic_face, synthetic_faces, synthetic_sets
from fcx.datasets.truth import truth_condition
from fcx.geometry.regions import region_maps

CONDITIONS = ("plain", "masked")


@pytest.fixture(scope="module")
def sets():
    return synthetic_sets(count=40, seed=3)


def moved(face, carrier, numbers):
    return replace(face, moves={**face.moves, carrier: tuple(map(float, numbers))})


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("index", [0, 1])
def test_only_the_truth_changes_with_the_labels_and_all_of_it_does(carrier, index):
    face, rng = synthetic_face(index, seed=5), np.random.default_rng(index)
    grid = [(a, v) for a in np.linspace(-1, 1, 4) for v in np.linspace(-1, 1, 4)]
    images = np.array([draw(moved(face, carrier, m))["image"] for m in [*grid, *rng.uniform(-1, 1, (4, 2))]])
    changes = (images != images[0]).any(0)  # (condition, y, x)
    truth = draw(face)["truth"][CARRIERS.index(carrier)]
    assert set(np.unique(truth)) <= {0, 255}
    assert not (changes & (truth == 0)).any()
    if (truth > 0).any():
        assert (changes & (truth > 0)).sum() > 0.85 * (truth > 0).sum()  # the rest moves by less than a grey level


def test_carriers_are_seen_where_they_should_be(sets):
    for carrier, faces in sets.items():
        seen = (faces["truth"] > 0).any(("y", "x"))
        shown = "masked" if carrier == "outline" else "plain"
        assert truth_condition(faces) == shown
        assert seen.sel(condition=shown).all()
        other = next(c for c in CONDITIONS if c != shown)
        assert bool(seen.sel(condition=other).all()) == (carrier not in ("mouth", "outline"))  # hidden, or not worn
    assert not (sets["outline"]["truth"].sel(condition="plain") > 0).any()
    assert (sets["brightness"]["truth"] > 0).all()


@pytest.mark.parametrize("carrier", ["mouth", "eyes", "brows"])
def test_the_truth_lies_in_its_region(sets, carrier):
    faces = sets[carrier]
    truth = faces["truth"].sel(condition="plain").values > 0
    regions = faces["regions"].values.astype(float)
    share = (regions * truth[:, None]).sum((0, 2, 3))
    assert share[REGIONS.index(carrier)] > 0.9 * share.sum()


def test_faces_keep_the_contract(sets):
    for carrier, faces in sets.items():
        check(faces, "faces")
        assert usable(faces).all()
        assert faces.attrs["carrier"] == carrier
        assert (faces["regions"].sum("region") == 255).all()
        assert set(faces["split"].values) == {"train", "validation"}
        assert not faces["alpha"].sel(condition="plain").any()
        same = faces["alpha"].sel(condition="masked") == 0
        plain, masked = (faces["image"].sel(condition=c) for c in CONDITIONS)
        assert ((plain == masked) | ~same).all()  # pixels that no mask covers stay
        np.testing.assert_array_equal(faces["image"], sets["mouth"]["image"])  # one set of pictures for all
    np.testing.assert_array_equal(faces["regions"][0], region_maps(draw(synthetic_face(0, 3))["mesh"]))
    assert (faces["landmarks"].values > 0).all()
    assert (faces["landmarks"].values < 63).all()


def test_landmarks_lie_on_what_is_drawn():
    face = replace(synthetic_face(2), moves=dict.fromkeys(CARRIERS, (1.0, 0.0)))
    drawn = draw(face)
    eyes = drawn["landmarks"][[36, 39, 42, 45]].reshape(2, 2, 2).mean(1)
    mouth = drawn["landmarks"][[48, 54]].mean(0)
    for carrier, points in (("eyes", eyes), ("mouth", mouth[None])):
        truth = drawn["truth"][CARRIERS.index(carrier), 0] > 0
        rows, columns = np.nonzero(truth)
        for x, y in points:
            assert np.hypot(rows - y, columns - x).min() < 3


def test_a_face_depends_on_its_place_and_the_seed_only(sets):
    few = synthetic_faces("eyes", count=7, seed=3)
    assert few.identical(sets["eyes"].isel(sample=slice(0, 7)).assign_attrs(few.attrs))
    other = synthetic_faces("eyes", count=7, seed=4)
    assert (few["image"] != other["image"].values).any(("condition", "y", "x")).all()
    assert len(np.unique(sets["eyes"]["image"].sel(condition="plain").values, axis=0)) == 40


def test_labels_are_balanced_and_independent_of_nuisance():
    faces = [synthetic_face(index) for index in range(3000)]
    moves = np.array([[face.moves[carrier] for carrier in CARRIERS] for face in faces]).reshape(len(faces), -1)
    nuisance = np.array([[face.identity[name] for name in IDENTITY] for face in faces])
    assert np.abs(moves.mean(0)).max() < 0.05
    np.testing.assert_allclose(moves.std(0), 3**-0.5, atol=0.03)
    together = np.corrcoef(np.concatenate([moves, nuisance], axis=1).T)
    assert np.abs(together - np.eye(len(together))).max() < 0.07  # four standard errors


def test_the_nuisance_of_a_set_holds_everything_but_its_labels(sets):
    faces = sets["brows"]
    assert not any(str(name).startswith("brows") for name in faces["quantity"].values)
    np.testing.assert_array_equal(faces["nuisance"].sel(quantity="mouth, first"), sets["mouth"][TARGETS[0]])
    assert faces.sizes["quantity"] == 2 * (len(CARRIERS) - 1) + len(IDENTITY)


def test_display_pictures_show_the_same_face():
    faces = synthetic_faces("mouth", count=2, pictures=True)
    picture = faces["picture"].values[..., 0].astype(float)
    small = picture.reshape(2, 2, 16, 14, 16, 14).mean((3, 5))
    coarse = faces["image"].values.reshape(2, 2, 16, 4, 16, 4).mean((3, 5))
    assert np.abs(small - coarse).max() < 4


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UnknownNameError, match="unknown carrier 'brow': did you mean 'brows'"):
        synthetic_faces("brow", count=1)
    with pytest.raises(InputError, match="count is 0; allowed"):
        synthetic_faces(count=0)
    with pytest.raises(InputError, match="seed is -1; allowed"):
        synthetic_faces(count=1, seed=-1)
