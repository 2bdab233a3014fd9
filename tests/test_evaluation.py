"""CCC, its parts and `evaluate` against loops, SciPy and torchmetrics."""

import importlib
import itertools
import warnings

import numpy as np
import oracles
import pytest
import torch
import xarray as xr
from conftest import make_faces
from scipy import stats

from fcx.core.contract import CONDITIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.statistics import bootstrap
from fcx.statistics.agreement import evaluate
from fcx.statistics.concordance import ccc, ccc_parts


def results_for(faces, models=("a", "b"), seed=0, dtype="f4"):
    """Return predictions that follow the labels, with another scale, shift and noise for each model."""
    rng = np.random.default_rng(seed)
    truth = np.stack([faces[name].values for name in TARGETS])
    shape = (len(models), len(CONDITIONS), *truth.shape)
    scale, shift = rng.uniform(0.3, 0.9, (*shape[:3], 1)), rng.uniform(-0.3, 0.3, (*shape[:3], 1))
    values = scale * truth + shift + rng.normal(0, 0.2, shape)
    coords = {"model": list(models), "condition": list(CONDITIONS), "target": list(TARGETS)}
    made = xr.Dataset({"prediction": (("model", "condition", "target", "sample"), values.astype(dtype))}, coords)
    return made.assign_coords(sample=faces["sample"].values).assign_attrs(crop="face")


@pytest.fixture
def many():
    return make_faces(40, seed=3)


def pairs(count=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1, 1, count)
    return rng.normal(0.3 * truth - 0.2, 0.2), truth


def test_ccc_by_hand():
    # means 1 and 2, variances 2/3, covariance 2/3: 2 (2/3) / (2/3 + 2/3 + 1) = 4/7
    assert ccc([0, 1, 2], [1, 2, 3]) == pytest.approx(4 / 7, abs=1e-15)
    assert ccc([1, 2, 3], [1, 2, 3]) == 1
    assert ccc([3, 2, 1], [1, 2, 3]) == pytest.approx(-1, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_ccc_is_one_minus_disagreement_over_chance(seed):
    p, t = pairs(seed=seed)
    assert ccc(p, t) == pytest.approx(oracles.ccc_by_chance(p, t), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_parts(seed):
    p, t = pairs(seed=seed)
    parts = ccc_parts(p, t)
    assert parts["pearson"] == pytest.approx(stats.pearsonr(p, t).statistic, abs=1e-12)
    assert parts["ccc"] == pytest.approx(parts["pearson"] * parts["bias_correction"], abs=1e-14)
    v, u = parts["scale"], parts["shift"]
    assert parts["bias_correction"] == pytest.approx(2 / (v + 1 / v + u**2), abs=1e-14)
    assert v == pytest.approx(p.std() / t.std(), abs=1e-12)
    assert u == pytest.approx((p.mean() - t.mean()) / np.sqrt(p.std() * t.std()), abs=1e-12)
    assert parts["mse"] == pytest.approx(np.mean((p - t) ** 2), abs=1e-12)
    assert parts["rmse"] == pytest.approx(np.sqrt(np.mean((p - t) ** 2)), abs=1e-12)
    assert parts["n"] == 60


def test_torchmetrics_divides_by_n_minus_one():
    importlib.import_module("fcx.networks.torchvision_operators")  # torchmetrics imports torchvision
    regression = importlib.import_module("torchmetrics.functional.regression")
    p, t = pairs()
    theirs = float(regression.concordance_corrcoef(torch.tensor(p), torch.tensor(t)))
    n, gap = len(p), (p.mean() - t.mean()) ** 2
    cov, spread = np.cov(p, t)[0, 1], p.var(ddof=1) + t.var(ddof=1)
    assert theirs == pytest.approx(2 * cov / (spread + gap), abs=1e-6)
    # Ours in the same sample moments: the squared difference of means weighs n / (n - 1) times as much.
    assert ccc(p, t) == pytest.approx(2 * cov / (spread + gap * n / (n - 1)), abs=1e-12)
    assert abs(theirs - float(ccc(p, t))) > 1e-4


def test_ccc_vectorised_over_any_axis():
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(3, 2, 30)), rng.normal(size=(2, 30))
    whole = ccc(p, t)
    assert whole.shape == (3, 2)
    assert whole[2, 1] == ccc(p[2, 1], t[1])
    np.testing.assert_array_equal(ccc(p.transpose(2, 0, 1), np.moveaxis(t, -1, 0)[:, None], axis=0), whole)


def test_ccc_leaves_nan_pairs_out():
    p, t = pairs()
    worn_p, worn_t = np.append(p, [np.nan, 0.5]), np.append(t, [0.5, np.nan])
    assert ccc(worn_p, worn_t) == pytest.approx(ccc(p, t), abs=1e-14)
    assert ccc_parts(worn_p, worn_t)["n"] == len(p)


def test_ccc_where_nothing_varies():
    assert np.isnan(ccc([0.1] * 3, [0.2] * 3))
    assert ccc([0.1] * 3, [0.1, 0.2, 0.3]) == 0
    parts = ccc_parts([0.1] * 3, [0.1, 0.2, 0.3])
    assert np.isnan([parts["pearson"], parts["shift"]]).all()
    assert parts["scale"] == parts["bias_correction"] == 0
    assert np.isnan(ccc([0.1], [0.2]))
    assert np.isnan(ccc([], []))
    assert np.isnan(ccc([np.nan, 1.0], [0.1, np.nan]))


def test_ccc_refuses_shapes_that_do_not_match():
    with pytest.raises(InputError, match=r"prediction \(3,\) and truth \(2,\) cannot be paired"):
        ccc([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="along axis 1"):
        ccc([1, 2], [1, 2], axis=1)


def test_few_subjects_are_warned_of(many):
    with pytest.warns(UserWarning, match="there are 19 subjects"):
        evaluate(results_for(many.isel(sample=slice(38))), many.isel(sample=slice(38)), draws=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(results_for(many), many, draws=5)


def test_an_expression_of_few_subjects_has_an_interval_of_its_own(many):
    many["expression"] = ("sample", np.where(np.arange(40) < 2, "fear", np.where(np.arange(40) < 6, "sad", "happy")))
    results = results_for(many)
    out = evaluate(results, many, draws=300).isel(model=0, condition=0, target=0)
    low, high = (out[f"expression_mse_{end}"].sel(expression=["fear", "sad"]).values for end in ("low", "high"))
    assert np.isnan([low[0], high[0]]).all()  # of one subject
    square = (results["prediction"][0, 0, 0, 2:6].values.astype(float) - many[TARGETS[0]].values[2:6]) ** 2
    of_each = square.reshape(2, 2).mean(1)
    np.testing.assert_allclose([low[1], high[1]], sorted(of_each), atol=1e-12)  # of two: from one to the other


def test_every_variable_is_in_the_order_of_the_contract(many):
    out = evaluate(results_for(many), many, draws=5)
    for name, variable in out.items():
        each = (
            ("model", "condition", "target", "expression")
            if name.startswith("expression_")
            else ("model", "condition", "target")
        )
        want = {"n": ("target",), "coverage": ("target",), "expression_n": ("target", "expression")}
        want |= {f"oracle_ccc{end}": ("target",) for end in ("", "_low", "_high")}
        assert variable.dims == want.get(name, each), name


def test_evaluate_equals_loops(many):
    results = results_for(many)
    out = evaluate(results, many, draws=300, seed=5)
    draws = oracles.bootstrap_rows(list(many["subject"].values), 300, 5)
    groups = list(many["expression"].values)
    for model, condition, target in [("a", "plain", "arousal"), ("b", "masked", "valence")]:
        cell = {"model": model, "condition": condition, "target": target}
        p, t = results["prediction"].sel(cell).values.astype(float), many[target].values.astype(float)
        got = out.sel(cell)
        for name, value in ccc_parts(p, t).items():
            assert got[name] == pytest.approx(value, abs=1e-10), name
        drawn = [oracles.ccc_by_chance(p[rows], t[rows]) for rows in draws]
        np.testing.assert_allclose([got["ccc_low"], got["ccc_high"]], oracles.bootstrap_interval(drawn, 20), atol=1e-10)
        assert got["within_ccc"] == pytest.approx(oracles.ccc_by_chance(p, t, groups), abs=1e-10)
        drawn = [oracles.ccc_by_chance(p[rows], t[rows], [groups[i] for i in rows]) for rows in draws]
        np.testing.assert_allclose(
            [got["within_ccc_low"], got["within_ccc_high"]], oracles.bootstrap_interval(drawn, 20), atol=1e-10
        )
        residual = [np.array(v) - oracles.class_means(v, groups) for v in (p, t)]
        assert got["within_pearson"] == pytest.approx(stats.pearsonr(*residual).statistic, abs=1e-10)
        for name in ("happy", "neutral"):
            inside = many["expression"].values == name
            one = got.sel(expression=name)
            assert one["expression_ccc"] == pytest.approx(ccc(p[inside], t[inside]), abs=1e-10)
            assert one["expression_n"] == inside.sum()
        assert got["oracle_ccc"] == pytest.approx(ccc(oracles.class_means(t, groups), t), abs=1e-10)


def test_knowing_the_expression_only_is_worth_nothing_within_it(many):
    many["valence"] = many["valence"] + xr.where(many["expression"] == "happy", 0.5, -0.5).astype("f4")
    many["valence"] = many["valence"].clip(-1, 1)
    results = results_for(many, models=("oracle",))
    means = oracles.class_means(list(many["valence"].values.astype(float)), list(many["expression"].values))
    results["prediction"] = results["prediction"].astype("f8")
    results["prediction"].loc[{"target": "valence"}] = np.array(means)
    out = evaluate(results, many, draws=20).sel(target="valence", condition="plain", model="oracle")
    assert out["within_ccc"] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(out["expression_ccc"], 0, atol=1e-12)
    assert out["ccc"] == pytest.approx(float(out["oracle_ccc"]), abs=1e-12)
    assert out["ccc"] > 0.5


def test_evaluate_counts_only_samples_that_count_everywhere(many):
    results = results_for(many)
    many["status"][1, 3] = "no face found"  # masked only: left out of plain too
    many["valence"][4] = np.nan  # arousal of the same face still counts
    results["prediction"][0, 1, 0, 5] = np.nan  # one model failed: left out for every model
    out = evaluate(results, many, draws=20)
    assert out["n"].sel(target="arousal") == 38
    assert out["n"].sel(target="valence") == 38
    assert out["coverage"].sel(target="valence") == 38 / 40
    assert out.attrs["rows"] == 40
    keep = np.delete(np.arange(40), [3, 5])
    got = out["ccc"].sel(model="b", condition="plain", target="arousal")
    assert got == pytest.approx(ccc(results["prediction"][1, 0, 0, keep], many["arousal"][keep]), abs=1e-10)


def test_unknown_expressions_count_in_the_whole_only(many):
    results = results_for(many)
    many["expression"] = ("sample", np.where(np.arange(40) < 10, "", many["expression"].values))
    out = evaluate(results, many, draws=20)
    assert list(out["expression"].values) == ["happy", "neutral"]
    assert out["expression_n"].sel(target="valence").sum() == 30
    assert out["n"].sel(target="valence") == 40
    bare = evaluate(results, many.drop_vars(["expression", "subject"]), draws=20)
    assert bare.sizes["expression"] == 0
    assert bare["within_ccc"].isnull().all()
    assert bare["oracle_ccc"].isnull().all()
    assert bare.attrs["clusters"] == 40


def test_draws_are_shared_by_models_and_conditions(many):
    results = results_for(many, models=("a",))
    both = xr.concat([results, results.assign_coords(model=["copy"])], "model")
    out = evaluate(both, many, draws=50)
    for name in ("ccc_low", "ccc_high", "expression_ccc_low"):
        np.testing.assert_array_equal(out[name].sel(model="a"), out[name].sel(model="copy"))


def test_evaluate_follows_ids_not_rows(many):
    results = results_for(many)
    mixed = results.isel(sample=np.random.default_rng(0).permutation(40))
    xr.testing.assert_allclose(evaluate(mixed, many, draws=5)["ccc"], evaluate(results, many, draws=5)["ccc"])


def test_evaluate_refuses_what_does_not_match(many):
    results = results_for(many)
    with pytest.raises(ContractError, match="results hold 39 samples and faces 40, and they are not the same"):
        evaluate(results.isel(sample=slice(39)), many)
    with pytest.raises(ContractError, match="'face0' stands in one only"):
        evaluate(results.assign_coords(sample=["other", *many["sample"].values[1:]]), many)
    with pytest.raises(ContractError, match="stands twice"):
        evaluate(results.assign_coords(sample=["face1", *many["sample"].values[1:]]), many)
    with pytest.raises(ContractError, match="crop 'whole', faces have 'face'"):
        evaluate(results.assign_attrs(crop="whole"), many)
    with pytest.raises(UnknownNameError, match="unknown condition 'mask': did you mean 'masked'"):
        evaluate(results.assign_coords(condition=["plain", "mask"]), many)
    with pytest.raises(ContractError, match="'prediction' is missing"):
        evaluate(many, many)
    many["valence"][:], many["arousal"][:] = np.nan, np.nan
    with pytest.raises(InputError, match="of 40 faces 40 are usable in every condition, 0 labelled"):
        evaluate(results, many)


def test_sign_agreement_counts_labels_that_have_a_sign(many):
    results = results_for(many)
    many["valence"][:5] = [0.0, 0.5, -0.5, np.nan, 0.2]
    results["prediction"].loc[{"target": "valence", "model": "a", "condition": "plain"}][:5] = [0.3, 0, -0.1, 1, 0.2]
    out = evaluate(results, many, draws=20)
    p = results["prediction"].sel(model="a", condition="plain", target="valence").values.tolist()
    t = many["valence"].values.tolist()
    pairs = [(a > 0) - (a < 0) == (b > 0) - (b < 0) for a, b in zip(p, t, strict=True) if b == b and b != 0]
    got = out["sign_agreement"].sel(model="a", condition="plain", target="valence")
    assert len(pairs) == 38
    assert got == pytest.approx(np.mean(pairs), abs=1e-12)
    assert pairs[:3] == [False, True, True]  # a prediction of 0 agrees with no sign
    assert out["sign_agreement_low"].min() >= 0
    assert out["expression_sign_agreement"].dims == ("model", "condition", "target", "expression")
    many["valence"] = 0 * many["valence"]
    assert evaluate(results, many, draws=2)["sign_agreement"].sel(target="valence").isnull().all()


def test_draws_that_take_long_are_counted(many, monkeypatch, capsys):
    results = results_for(many)
    quick = evaluate(results, many, draws=20)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", 5 * 20)  # of 20 subjects
    passed = itertools.count()
    monkeypatch.setattr("tqdm.std.time", lambda: 1.5 * next(passed))
    xr.testing.assert_identical(evaluate(results, many, draws=20), quick)
    assert "evaluate: 100%" in (text := capsys.readouterr().err)
    assert "40/40" in text  # of predictions, and of labels
    evaluate(results, many, draws=20, progress=False)
    assert capsys.readouterr().err == ""
