"""Intervals over faces and seeds against analysis of variance, Student's t, the bootstrap and by simulation."""

import numpy as np
import oracles
import pytest
import xarray as xr
from scipy import stats

from fcx.statistics.bootstrap import interval, p_values, resample
from fcx.statistics.variance_components import CROSSED, FACES_ONLY, crossed


def effects(n=30, seeds=3, face=1.0, seed=0.3, rest=0.5, number=0):
    """Return values (face, seed): something of the face, something of the seed, and something of both."""
    rng = np.random.default_rng(number)
    parts = face * rng.normal(size=(n, 1)), seed * rng.normal(size=seeds), rest * rng.normal(size=(n, seeds))
    return 1 + sum(parts)


def drawn_means(values, draws=400, seed=0):
    n = len(values)
    drawn = resample(values, np.arange(n), draws, seed) / n
    return xr.DataArray(drawn, dims=("draw", "seed")), xr.DataArray(n)


def test_components_are_those_of_an_analysis_of_variance():
    for number, seed in enumerate((0.0, 0.3, 2.0)):
        values = effects(n=12, seeds=4, seed=seed, number=number)
        out = crossed(*drawn_means(values, draws=40_000))
        faces, seeds = oracles.crossed_components(values.tolist())
        assert out["estimate"] == pytest.approx(values.mean(), abs=1e-12)
        assert out["se_faces"] ** 2 == pytest.approx(faces, rel=0.03)
        assert out["se_seeds"] ** 2 == pytest.approx(seeds, rel=0.03, abs=0.03 * faces)
        assert out["share_seeds"] == pytest.approx(seeds / (faces + seeds), abs=0.03)
        dof = (faces + seeds) ** 2 / (faces**2 / 11 + seeds**2 / 3)
        assert out["dof"] == pytest.approx(dof, rel=0.06)
    assert out["seeds"] == 4
    assert out.attrs["sources"] == CROSSED


def test_ends_add_the_distances_of_both_sources_as_squares_and_p_agrees():
    drawn, count = drawn_means(effects(seed=0.8, number=3))
    between = float(crossed(drawn, count)["se_seeds"]) ** 2
    low, high = interval(drawn.mean("seed").values[1:], 30)
    for shift in (0.0, -0.5, -1.4, 30.0):
        out = crossed(drawn + shift, count)
        want = oracles.crossed_interval(float(out["estimate"]), low + shift, high + shift, between, 30, 3)
        np.testing.assert_allclose([out["low"], out["high"]], want, atol=1e-12)
        assert (out["p"] < 0.05) == (out["low"] > 0 or out["high"] < 0)
    for end in ("low", "high"):  # where it touches 0
        assert crossed(drawn - crossed(drawn, count)[end], count)["p"] == pytest.approx(0.05, abs=1e-6)


def test_with_seeds_alone_it_is_the_t_interval_of_seeds():
    values = np.array([0.1, 0.4, 0.5, 0.9])
    drawn = xr.DataArray(np.tile(values, (201, 1)), dims=("draw", "seed"))
    out = crossed(drawn, xr.DataArray(50))
    want = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    np.testing.assert_allclose([out["low"], out["high"]], want, atol=1e-12)
    assert out["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)
    assert (float(out["se_faces"]), float(out["share_seeds"])) == (pytest.approx(0, abs=1e-15), 1)
    assert out["dof"] == pytest.approx(3)


def test_one_seed_is_the_bootstrap_over_faces():
    drawn, count = drawn_means(effects(seeds=1))
    out = crossed(drawn, count)
    np.testing.assert_array_equal([out["low"], out["high"]], interval(drawn.values[1:, 0], 30))
    assert out["p"] == p_values(drawn.values[:, 0], 30)
    assert np.isnan([out["se_seeds"], out["share_seeds"]]).all()
    assert (int(out["seeds"]), float(out["dof"])) == (1, pytest.approx(29))
    assert out.attrs["sources"] == FACES_ONLY


def test_equal_seeds_add_nothing_and_a_constant_changes_nothing():
    drawn, count = drawn_means(effects(seeds=1))
    same = crossed(xr.concat([drawn] * 3, "seed"), count)
    assert same["se_seeds"] == 0
    np.testing.assert_allclose([same["low"], same["high"]], interval(drawn.values[1:, 0], 30), atol=1e-15)
    drawn, count = drawn_means(effects())
    one, moved, turned = (crossed(given, count) for given in (drawn, drawn + 2, drawn.isel(seed=[2, 0, 1])))
    for name in ("low", "high", "se_faces", "se_seeds", "dof", "share_seeds"):
        shift = 2 if name in ("low", "high") else 0
        np.testing.assert_allclose(moved[name], one[name] + shift, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(turned[name], one[name], rtol=1e-9, err_msg=name)


def test_what_is_not_known_is_nan_for_its_cell_only():
    drawn, count = drawn_means(effects())
    both = xr.concat([drawn, drawn * np.nan], "target").transpose("draw", "seed", "target")
    out = crossed(both, count)
    alone = crossed(both, xr.DataArray([30, 1], dims="target"))
    for name in ("low", "high", "p", "se_faces", "dof"):
        assert np.isfinite(out[name][0])
        assert np.isnan(out[name][1]), name
        assert np.isnan(alone[name][1]), name


def test_p_reaches_far_beyond_the_draws():
    drawn, count = drawn_means(effects(n=400, seed=0.0, number=8), draws=200)
    p = crossed(drawn + [[0.0, 0.02, -0.02]] + 3, count)["p"]
    assert 0 < p < 1e-3  # few seeds that lie apart never prove much
    for seeds in ([0, 0, 0], [0, 0]):  # of two, t of so small a p has no square
        assert crossed(drawn.isel(seed=seeds) + 3, count)["p"] < 1e-30


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.3])
def test_intervals_hold_the_truth(spread):
    # Seeds that differ not at all, about as much as faces let a mean vary, and much more.
    trials = [drawn_means(effects(60, 3, 0.3, spread, 0.2, trial) - 1, 200, trial)[0] for trial in range(400)]
    out = crossed(xr.concat(trials, "trial"), xr.DataArray(60))
    assert 0.93 <= float(((out["low"] <= 0) & (out["high"] >= 0)).mean()) <= 0.98
    assert float((out["p"] < 0.05).mean()) <= 0.07
