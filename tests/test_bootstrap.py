"""The bootstrap: draws against gathering, intervals and p-values against Student and by simulation."""

import re

import numpy as np
import oracles
import pytest
from benchmarks import coverage_simulation, seed_coverage_simulation
from scipy import stats

from fcx.core.errors import InputError
from fcx.statistics import bootstrap
from fcx.statistics.bootstrap import clusters, interval, p_values, resample
from fcx.statistics.corrections import holm


def test_clusters_are_subjects_and_unknown_ones_stand_alone():
    code = clusters(np.array(["x", "", "y", "x", ""]))
    assert code[0] == code[3]
    assert len(set(code)) == 4
    assert sorted(set(code)) == [0, 1, 2, 3]


def test_resample_equals_gathering_the_same_draws():
    subjects = ["b", "a", "", "b", "c", "", "a", "a"]
    values = np.random.default_rng(0).normal(size=(8, 2, 3))
    got = resample(values, clusters(np.array(subjects)), 25, seed=7)
    np.testing.assert_allclose(got[0], values.sum(0), atol=1e-13)
    for draw, rows in zip(got[1:], oracles.bootstrap_rows(subjects, 25, 7), strict=True):
        np.testing.assert_allclose(draw, values[rows].sum(0), atol=1e-12)


def test_resample_does_not_depend_on_its_blocks(monkeypatch):
    values, cluster = np.random.default_rng(0).normal(size=(11, 2)), np.arange(11)
    whole = resample(values, cluster, 50, seed=1)
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", 33)  # three draws at a time
    np.testing.assert_array_equal(resample(values, cluster, 50, seed=1), whole)
    assert not np.array_equal(resample(values, cluster, 50, seed=2), whole)


def test_resample_of_one_cluster_has_no_spread_to_show():
    drawn = resample(np.ones((3, 1)), np.zeros(3, int), 10, seed=0)
    assert drawn[0, 0] == 3
    assert np.isnan(drawn[1:]).all()


@pytest.mark.parametrize(("name", "value"), [("draws", 0), ("draws", 2.5), ("seed", -1), ("seed", "0")])
def test_resample_refuses_bad_settings(name, value):
    with pytest.raises(InputError, match=f"{name} is {value!r}; allowed: whole numbers"):
        resample(np.ones((3, 1)), np.arange(3), **{"draws": 5, "seed": 0, name: value})


def test_interval_leaves_nan_draws_out():
    drawn = np.stack([np.arange(101.0), np.full(101, np.nan)], axis=1)
    drawn[::2, 0] = np.nan
    low, high = interval(drawn, np.inf)
    assert (low[0], high[0]) == (3, 97)  # of 1, 3, ... 99 the second and the last but one
    assert np.isnan([low[1], high[1]]).all()
    np.testing.assert_array_equal(interval([-np.inf, -np.inf, -np.inf], 3), [-np.inf, -np.inf])
    drawn = np.random.default_rng(0).normal(size=(4001, 2))
    np.testing.assert_allclose(interval(drawn, np.inf), np.quantile(drawn, [0.025, 0.975], axis=0), atol=1e-12)


def test_interval_of_a_mean_is_that_of_student():
    values = np.random.default_rng(0).normal(size=8)
    drawn = resample(values, np.arange(8), 200_000, seed=0) / 8
    student = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    np.testing.assert_allclose(interval(drawn[1:], 8), student, atol=0.05)
    assert np.diff(interval(drawn[1:], np.inf)) < 0.8 * np.diff(student)  # plain percentiles are too narrow
    shifted = drawn - np.quantile(drawn, 0.15)
    p = float(p_values(shifted, 8))
    assert p == pytest.approx(stats.ttest_1samp(values, values.mean() - shifted[0]).pvalue, abs=0.02)
    far = float(p_values(drawn + 5, 8))  # no draw is below 0
    assert far == pytest.approx(stats.ttest_1samp(values + 5, 0).pvalue, rel=0.02)


def test_one_cluster_has_no_interval_whatever_others_have():
    low, high = interval(np.arange(12.0).reshape(4, 3), np.array([1, 2, 0]))
    np.testing.assert_array_equal(np.isnan(low), [True, False, True])
    np.testing.assert_array_equal(p_values(np.ones((4, 3)), np.array([1, 2, 0])), [np.nan, 0, np.nan])
    assert (low[1], high[1]) == (1, 10)


@pytest.mark.parametrize(("subjects", "each"), [(80, 1), (10, 10)])
def test_interval_covers_the_truth(subjects, each):
    # 400 samples from one law, faces of a subject alike: about 95 % of intervals hold its CCC.
    rng, rho, hits = np.random.default_rng(0), 0.6, 0
    for trial in range(400):
        own, common = rng.normal(size=(2, subjects * each)), rng.normal(size=(2, subjects)).repeat(each, 1)
        t, e = np.sqrt(0.7) * own + np.sqrt(0.3) * common
        p = rho * t + np.sqrt(1 - rho**2) * e
        cluster = np.arange(subjects).repeat(each)
        sums = resample(np.stack([t, p, t * t, p * p, t * p], 1), cluster, 300, seed=trial)
        sums /= resample(np.ones(len(t)), cluster, 300, seed=trial)[:, None]
        mt, mp, tt, pp, tp = sums[1:].T
        low, high = interval(2 * (tp - mt * mp) / (tt - mt**2 + pp - mp**2 + (mt - mp) ** 2), subjects)
        hits += low <= rho <= high
    assert 0.92 <= hits / 400 <= 0.97  # plain percentiles: .88 for ten subjects


def test_true_nulls_of_a_family_are_rarely_rejected_and_clear_differences_seen():
    rng, wrong, seen = np.random.default_rng(0), 0, 0
    for trial in range(40):
        values = rng.normal(size=(10, 200))  # means of ten subjects, 200 tests
        values[:, 0] += 8
        drawn = resample(values, np.arange(10), 999, seed=trial)
        rejected = holm(p_values(drawn, 10)) < 0.05
        wrong, seen = wrong + rejected[1:].any(), seen + rejected[0]
    assert wrong <= 5  # of 40 families; twice the smaller share of draws would reject in 34
    assert seen == 40


def test_the_simulation_of_the_documentation_runs(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["coverage_simulation", "--repeats", "2", "--draws", "50"])
    coverage_simulation.main()
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert [len(table.splitlines()) for table in tables] == [8, 8, 8]
    for table in tables:
        shares = [float(number) for row in table.splitlines()[2:] for number in re.findall(r"\b[01]\.\d+", row)]
        assert len(shares) >= 30
        assert 0 <= min(shares) <= max(shares) <= 1


def test_the_simulation_of_seeds_runs(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["seed_coverage_simulation", "--repeats", "2", "--draws", "30", "--faces", "60"])
    seed_coverage_simulation.main()
    rows = capsys.readouterr().out.strip().splitlines()[2:]
    assert len(rows) == 17
    shares = [float(cell) for row in rows[:-1] for cell in row.strip("| ").split("|")[2:]]
    assert 0 <= min(shares) <= max(shares) <= 1
