"""Noise ceilings on raters whose truth is known, cross-fitted calibration and error by expression against loops."""

import numpy as np
import pytest
import xarray as xr
from conftest import make_faces

from fcx.core.contract import CONDITIONS, TARGETS
from fcx.core.errors import InputError
from fcx.statistics.calibration import calibrated, error_by_expression
from fcx.statistics.concordance import ccc
from fcx.statistics.noise_ceiling import vote_ceiling

POINTS = np.array([[1.0, 0.2], [-1.0, 0.1], [0.0, 0.9]])


def raters(faces=3000, votes=10, seed=0):
    """Return votes and the labels that infinitely many raters would give: each face has odds of its own."""
    rng = np.random.default_rng(seed)
    odds = rng.dirichlet([0.4] * 3, faces)
    return rng.multinomial(votes, odds), odds @ POINTS, rng.multinomial(votes, odds)


def test_the_ceiling_is_what_simulated_raters_have():
    votes, truth, again = raters()
    out = vote_ceiling(votes, POINTS, splits=20)
    label, other = (side @ POINTS / 10 for side in (votes, again))
    np.testing.assert_allclose(out["full"], ccc(label, other, axis=0), atol=0.02)  # other raters, as many
    np.testing.assert_allclose(2 * out["full"] / (1 + out["full"]), ccc(truth, label, axis=0), atol=0.01)
    for i in range(2):
        assert np.corrcoef(truth[:, i], label[:, i])[0, 1] == pytest.approx(out["network"][i], abs=0.01)
    assert (out["half"] < out["full"]).all()
    assert (out["half_low"] <= out["half"]).all()
    assert (out["half"] <= out["half_high"]).all()
    assert out["n"] == 3000


def test_raters_who_agree_have_no_ceiling_and_those_who_guess_reach_nothing():
    votes = 7 * np.eye(3, dtype=int)[np.random.default_rng(0).integers(3, size=50)]
    np.testing.assert_allclose(vote_ceiling(votes, POINTS, splits=3)["network"], 1, atol=1e-12)
    guessed = np.random.default_rng(0).multinomial(10, [1 / 3] * 3, 3000)
    np.testing.assert_allclose(vote_ceiling(guessed, POINTS, splits=20)["half"], 0, atol=0.04)


def test_halves_are_parts_of_the_votes():
    votes = np.array([[3, 0, 0], [1, 1, 0], [0, 0, 1], [2, 2, 3]])
    out = vote_ceiling(votes, POINTS, splits=5)
    assert out["n"] == 3  # one vote has no halves
    again = vote_ceiling(votes, POINTS, splits=5)
    np.testing.assert_array_equal(out["half"], again["half"])


@pytest.mark.parametrize(("votes", "points", "text"), [
    ([[1, 2]], POINTS, r"votes are \(1, 2\) and points \(3, 2\)"),
    ([[1, -2, 3]] * 3, POINTS, "votes are no counts"),
    ([[1.5, 2, 3]] * 3, POINTS, "votes are no counts"),
    ([[1, 0, 0]] * 3, POINTS, "0 faces have two votes or more"),
])  # fmt: skip
def test_votes_that_are_none_are_refused(votes, points, text):
    with pytest.raises(InputError, match=text):
        vote_ceiling(votes, points)


@pytest.fixture
def faces():
    return make_faces(60, seed=3, size=16)


@pytest.fixture
def results(faces):
    rng = np.random.default_rng(0)
    truth = np.stack([faces[name].values for name in TARGETS])
    values = 0.3 * truth - 0.4 + rng.normal(0, 0.05, (2, 2, *truth.shape))
    coords = {"model": ["a", "b"], "condition": list(CONDITIONS), "target": list(TARGETS)}
    made = xr.Dataset({"prediction": (("model", "condition", "target", "sample"), values)}, coords)
    return made.assign_coords(sample=faces["sample"].values).assign_attrs(crop="face")


def test_calibration_mends_scale_and_shift_from_other_subjects(results, faces):
    out = calibrated(results, faces, folds=6, draws=20)
    none, mean, affine = (out["ccc"].sel(calibration=name) for name in ("none", "mean", "affine"))
    assert (none < mean).all()
    assert (mean < affine).all()
    assert (affine > 0.9).all()
    assert out["ccc_low"].dims == out["ccc"].dims
    # A face's own subject teaches nothing: with the labels of one subject changed, its predictions stay.
    subject = faces["subject"].values == "s4"
    changed = faces.assign(valence=faces["valence"].where(~subject, 0.9))
    apart = [calibrated(results, each, folds=30, draws=2)["mse"].sel(calibration="affine") for each in (faces, changed)]
    line = np.polyfit(*(side[~subject] for side in (results["prediction"][0, 0, 1].values, faces["valence"].values)), 1)
    own = np.polyval(line, results["prediction"][0, 0, 1].values[subject])
    change = ((own - 0.9) ** 2 - (own - faces["valence"].values[subject]) ** 2).sum() / 60
    got = (apart[1] - apart[0]).sel(model="a", condition="plain", target="valence")
    others = 1e-2  # the other folds learn from the changed labels
    assert got == pytest.approx(change, abs=others)


def test_no_line_can_be_learned_of_noise(faces, results):
    noise = results["prediction"].copy(data=np.random.default_rng(1).normal(size=results["prediction"].shape))
    out = calibrated(results.assign(prediction=noise), faces, draws=2)
    assert (out["ccc"].sel(calibration="affine") < 0.3).all()  # a line through all faces at once would show some
    with pytest.raises(InputError, match="folds is 31; allowed: whole numbers from 2 to 30"):
        calibrated(results, faces, folds=31)


def test_error_by_expression_equals_loops(results, faces):
    faces = faces.assign_coords(expression=("sample", np.where(np.arange(60) < 7, "", faces["expression"].values)))
    faces["arousal"][10] = np.nan
    out = error_by_expression(results, faces)
    p = results["prediction"].sel(model="b", condition="masked", target="arousal").values
    t, names = faces["arousal"].values.astype(float), faces["expression"].values
    for name in ("", "happy", "neutral"):
        rows = [i for i in range(60) if names[i] == name and t[i] == t[i]]
        got = out.sel(target="arousal", expression=name)
        assert int(got["n"]) == len(rows)
        assert got["label"] == pytest.approx(np.mean([t[i] for i in rows]), abs=1e-6)
        got = got.sel(model="b", condition="masked")
        assert got["prediction"] == pytest.approx(np.mean([p[i] for i in rows]), abs=1e-6)
        total = sum((p[i] - t[i]) ** 2 for i in range(60) if t[i] == t[i])
        assert got["error_share"] == pytest.approx(sum((p[i] - t[i]) ** 2 for i in rows) / total, abs=1e-6)
    np.testing.assert_allclose(out["error_share"].sum("expression"), 1, atol=1e-12)
