"""Tables and verdicts of the experiment, from predictions whose truth is known, and what is counted beside them."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from oracles import facechannel_multiply_adds

from fcx.core.contract import CONDITIONS, FAMILIES, TARGETS
from fcx.core.errors import InputError
from fcx.figures import efficiency_findings
from fcx.networks.facechannel import Config, FaceChannel
from fcx.studies import claims
from fcx.studies.claims import claim_table, overall
from fcx.studies.contrasts import contrast, drawn_scores
from fcx.studies.costs import multiply_adds, trained_parameters
from fcx.studies.interpolation import interpolate
from fcx.studies.ladder_tables import LADDER, REASONS, ladder_matrix, ladder_reasons
from fcx.studies.paper import SHEET, TABLE3
from fcx.studies.stored_scores import scores_table
from fcx.studies.study_tables import (
    by_expression,
    calibration_table,
    differences_table,
    efficiency_differences,
    efficiency_table,
    error_shares,
    forgetting_table,
    parts_table,
    table3,
)

# Noise of the predictions of a family, by condition: more of it, less CCC.
PAPER_LIKE = {
    "plain_scratch": {"plain": 0.3, "masked": 1.5}, "masked_scratch": {"plain": 0.8, "masked": 0.6},
    "masked_last_conv": {"plain": 0.6, "masked": 1.0}, "masked_all_layers": {"plain": 0.6, "masked": 0.4},
}  # fmt: skip


def made_scores(noise=PAPER_LIKE, seeds=3, count=400, seed=0, spread=0.005):
    """Return predictions that are the labels and noise: much of it shared, a little of each training's own."""
    rng = np.random.default_rng(seed)
    conditions = list(next(iter(noise.values())))
    labels = rng.normal(0, 0.4, (len(TARGETS), count)).clip(-1, 1)
    shared = rng.standard_normal((len(conditions), len(TARGETS), count))
    names, values = [], []
    for family, levels in noise.items():
        for k in range(seeds):
            own = 0.15 * rng.standard_normal(shared.shape)
            level = np.array([level * (1 + spread * rng.standard_normal()) for level in levels.values()])
            values.append(labels + 0.4 * level[:, None, None] * (shared + own))
            names.append((family, k))
    return xr.Dataset(
        {
            "prediction": (("model", "condition", "target", "sample"), np.array(values)),
            "status": (("condition", "sample"), np.full((len(conditions), count), "ok")),
            **{name: ("sample", labels[i]) for i, name in enumerate(TARGETS)},
        },
        coords={
            "model": [f"{family}-{k + 1}" for family, k in names], "condition": conditions, "target": list(TARGETS),
            "sample": [f"face{i}" for i in range(count)], "family": ("model", [family for family, _ in names]),
            "seed": ("model", [k for _, k in names]),
            "expression": ("sample", np.array(["happy", "sad"])[np.arange(count) % 2]),
            **{name: ("sample", np.full(count, "")) for name in ("subject", "split", "source")},
        },
    )  # fmt: skip


def ccc_of_pairs(predicted, rated):
    """Return 1 - E(p - t)^2 / E_chance(p - t)^2, chance being every pair (Lin 1989, equation 1)."""
    return 1 - np.mean((predicted - rated) ** 2) / np.mean((predicted[:, None] - rated) ** 2)


@pytest.fixture(scope="module")
def scores():
    return made_scores()


@pytest.fixture(scope="module")
def drawn(scores):
    return drawn_scores(scores, draws=200)


def test_table_3_is_what_an_independent_script_finds_in_the_stored_table(scores, drawn):
    kept = scores_table(scores)
    found = table3(drawn).set_index(["family", "condition", "target"])
    for family in FAMILIES:
        for condition in CONDITIONS:
            rows = kept[(kept.condition == condition) & (kept.status == "ok")]
            for target in TARGETS:
                each = [ccc_of_pairs(rows[f"{family}-{k}:{target}"].to_numpy(), rows[target].to_numpy())
                        for k in (1, 2, 3)]  # fmt: skip
                row = found.loc[family, condition, target]
                assert row.estimate == pytest.approx(np.mean(each), abs=1e-9)
                assert row.by_seed == " ".join(f"{value:.3f}" for value in each)
                assert row.low < row.estimate < row.high
                assert (row.n, row.seeds) == (400, 3)
                assert (row.paper, row.sheet) == tuple(t[family][condition][target] for t in (TABLE3, SHEET))


def test_within_expression_it_is_the_mean_of_what_evaluate_says_and_has_no_paper_beside_it(scores):
    found = table3(drawn_scores(scores, "within_ccc", draws=20))
    means = parts_table(scores)
    assert found["estimate"].tolist() == pytest.approx(means["within_ccc"].tolist())
    assert found[["paper", "sheet"]].isna().all(axis=None)


def test_faces_that_are_not_usable_in_every_condition_do_not_count(scores):
    some = scores.copy(deep=True)
    some["status"][1, :100] = "no face found"
    found = table3(drawn_scores(some, draws=20))
    expected = table3(drawn_scores(scores.isel(sample=slice(100, None)), draws=20))
    pd.testing.assert_series_equal(found["estimate"], expected["estimate"])
    assert set(found["n"]) == {300}


def test_a_contrast_is_paired_by_seed_and_by_faces(drawn):
    one, other = ("masked_all_layers", "masked"), ("masked_scratch", "masked")
    apart, alone = contrast(drawn, {one: 1, other: -1}), contrast(drawn, {one: 1})
    assert (apart["se_faces"] < np.hypot(alone["se_faces"], contrast(drawn, {other: 1})["se_faces"])).all()
    np.testing.assert_allclose(apart["estimate"], alone["estimate"] - contrast(drawn, {other: 1})["estimate"])
    fewer = drawn.isel(model=~((drawn["family"] == other[0]) & (drawn["seed"] == 2)).values)
    assert int(contrast(fewer, {one: 1, other: -1})["seeds"]) == 2
    first = contrast(drawn.isel(model=(drawn["seed"] == 0).values), {one: 1, other: -1})
    assert np.isnan(first["se_seeds"]).all()
    assert (first["low"] < first["estimate"]).all()
    with pytest.raises(InputError, match="no network of the family 'nobody'"):
        contrast(drawn, {("nobody", "plain"): 1})
    with pytest.raises(InputError, match="no condition 'hat'"):
        contrast(drawn, {(one[0], "hat"): 1})
    with pytest.raises(InputError, match="no seed is common"):
        contrast(drawn.isel(model=[0, 4]), {("plain_scratch", "plain"): 1, ("masked_scratch", "plain"): -1})


def test_seeds_that_differ_widen_the_interval():
    calm, wild = (table3(drawn_scores(made_scores(spread=spread), draws=200)) for spread in (0.0, 0.3))
    assert (wild["se_seeds"] > calm["se_seeds"]).all()
    assert ((wild["high"] - wild["low"]) > (calm["high"] - calm["low"])).all()
    assert (wild["dof"] < calm["dof"]).all()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"a": "holds", "b": "holds", "c": "holds", "d": "holds"}),
        ({"plain_scratch": {"plain": 0.3, "masked": 0.31}}, {"a": "does not hold", "b": "does not hold"}),
        ({"masked_scratch": {"plain": 2.0, "masked": 0.4}}, {"b": "does not hold"}),
        ({"masked_all_layers": {"plain": 0.3, "masked": 1.2}}, {"c": "does not hold", "d": "does not hold"}),
    ],
)
def test_claims_have_the_verdicts_that_are_true_by_construction(changes, expected):
    table = claim_table(drawn_scores(made_scores(PAPER_LIKE | changes), draws=200))
    verdicts = overall(table)
    assert {name: verdicts[name] for name in expected} == expected
    assert table["statement"].str.endswith(".").all()
    assert set(table["seeds"]) == {3}


def test_few_faces_and_unlike_seeds_decide_nothing():
    close = PAPER_LIKE | {"plain_scratch": {"plain": 0.6, "masked": 0.8}}
    assert overall(claim_table(drawn_scores(made_scores(close, count=25), draws=200)))["a"] == "undecided"
    assert overall(claim_table(drawn_scores(made_scores(spread=0.3), draws=200)))["d"] == "undecided"


def test_a_claim_about_networks_that_are_not_there_is_not_asked(scores):
    table = claim_table(drawn_scores(scores.isel(model=slice(6)), draws=20))
    assert overall(table) == {"a": "holds", "b": "holds", "c": "not asked", "d": "not asked"}


def test_a_claim_is_one_function_with_one_decorator(drawn, monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", dict(claims.CLAIMS))

    @claims.claim("e")
    def nothing_matters(ask):
        """Masks change nothing."""
        return [ask("gap", {("plain_scratch", "plain"): 1, ("plain_scratch", "masked"): -1}, within=0.01)]

    assert overall(claim_table(drawn))["e"] == "does not hold"


def test_differences_are_corrected_over_the_whole_table(drawn):
    table = differences_table(drawn)
    assert len(table) == 2 * (2 * 6 + 4)
    assert (table["p_holm"] >= table["p"]).all()
    assert table["p_holm"].min() == pytest.approx(table["p"].min() * len(table))
    same = table[(table.a == "masked_scratch") & (table.b == "masked_scratch")]
    assert set(same.condition_a) == {"masked"}


def test_families_of_a_user_are_compared_beside_those_that_ship(scores):
    mine = made_scores(PAPER_LIKE | {"mine": {"plain": 0.8, "masked": 0.4}, "shuffled": {"plain": 9.0, "masked": 9.0}})
    table = differences_table(drawn_scores(mine, draws=20))
    assert len(table) == 2 * (2 * 10 + 5)  # as with any fifth family; the control is not compared
    assert ((table.a == "mine") & (table.b == "plain_scratch")).sum() == 4
    other = mine.isel(model=np.isin(mine["model"].values, ["plain_scratch-1", "masked_scratch-2", "mine-1", "mine-2"]))
    pairs = {(row.a, row.b) for row in differences_table(drawn_scores(other, draws=20)).itertuples() if row.a != row.b}
    assert pairs == {("mine", "plain_scratch"), ("mine", "masked_scratch")}  # the other two share no seed
    assert "mine" in by_expression(mine, "plain")
    assert "shuffled" not in by_expression(mine, "plain")


def test_parts_and_expressions_are_means_over_seeds(scores):
    parts = parts_table(scores).set_index(["family", "condition", "target"])
    chosen = scores.sel(condition="masked", target="valence").isel(model=(scores["family"] == "masked_scratch").values)
    signs = (np.sign(chosen["prediction"]) == np.sign(chosen["valence"])).mean("sample")
    row = parts.loc["masked_scratch", "masked", "valence"]
    assert row.sign_agreement == pytest.approx(float(signs.mean()))
    errors = np.sqrt(((chosen["prediction"] - chosen["valence"]) ** 2).mean("sample"))
    assert row.rmse == pytest.approx(float(errors.mean()))
    table = by_expression(scores, "masked").set_index(["target", "expression"])
    happy = chosen["prediction"].isel(sample=(chosen["expression"] == "happy").values)
    assert table.loc[("valence", "happy"), "masked_scratch"] == pytest.approx(float(happy.mean()))
    assert table.loc[("valence", "happy"), "n"] == 200


def test_what_a_shift_would_mend_is_learned_on_other_faces(scores):
    off = scores.assign(prediction=scores["prediction"] * 0.5 + 0.3)
    table = calibration_table(off, "plain").set_index(["family", "target"])
    row = table.loc["masked_scratch", "arousal"]
    parts = parts_table(off).set_index(["family", "condition", "target"]).loc["masked_scratch", "plain", "arousal"]
    assert row["none"] == pytest.approx(parts.ccc)
    assert row["none"] < row["mean"] < row["affine"]


def test_shares_of_the_error_are_means_over_seeds_and_sum_to_one(scores):
    table = error_shares(scores, "masked").set_index(["target", "expression"])
    for target in TARGETS:
        np.testing.assert_allclose(table.loc[target][list(FAMILIES)].sum(), 1)
    square = (scores["prediction"] - scores["valence"]).sel(condition="masked", target="valence") ** 2
    square = square.isel(model=(scores["family"] == "plain_scratch").values)
    happy = square.isel(sample=(scores["expression"] == "happy").values).sum("sample") / square.sum("sample")
    assert table.loc[("valence", "happy"), "plain_scratch"] == pytest.approx(float(happy.mean()))


def test_a_longer_training_on_masks_is_compared_too(scores):
    longer = made_scores(PAPER_LIKE | {"masked_scratch_16": {"plain": 0.8, "masked": 0.4}})
    table = differences_table(drawn_scores(longer, draws=20))
    assert len(table) == 2 * (2 * 10 + 5)
    assert ((table.a == "masked_scratch_16") & (table.b == "masked_all_layers")).sum() == 4


def test_forgetting_goes_from_the_plain_network_to_the_tuned_one(drawn):
    between = drawn_scores(made_scores({f"masked_all_layers@{t}": {"plain": 0.3 + 0.3 * t, "masked": 1.5 - 1.1 * t}
                                        for t in (0.25, 0.5, 0.75)}), draws=200)  # fmt: skip
    table = forgetting_table(drawn, between)
    assert sorted(set(table["t"])) == [0.25, 0.5, 0.75, 1]
    end = table[(table.t == 1) & (table.condition == "masked")].set_index("target")["estimate"]
    cells = {("masked_all_layers", "masked"): 1, ("plain_scratch", "masked"): -1}
    np.testing.assert_allclose(end.loc[list(TARGETS)], contrast(drawn, cells)["estimate"])


def test_the_ladder_has_a_matrix_and_three_reasons(ladder):
    matrix = ladder_matrix(ladder)
    assert len(matrix) == 5 * 5 * 2
    reasons = ladder_reasons(ladder)
    suffices, jaw, paint = (reasons[reasons.reason == reason] for reason in REASONS)
    assert (suffices.low > 0.1).all()
    assert (jaw.low > 0.1).all()
    assert ((paint.low < 0) & (paint.high > 0)).all()
    part = ladder.isel(model=(ladder["family"] != "small_jaw").values)
    assert len(ladder_reasons(part)) == 4


def test_efficiency_says_how_many_faces_a_network_was_tuned_with():
    names = {"small_plain": ("scratch", "", 27_000), "small_last_conv_500": ("last_conv", "small_plain-1", 500)}
    records = pd.DataFrame([{"family": n, "scheme": s, "start": start, "train": count}
                            for n, (s, start, count) in names.items()])  # fmt: skip
    drawn = drawn_scores(made_scores({name: {"plain": 0.5, "masked": 0.5} for name in names}), draws=20)
    table = efficiency_table(drawn, records).drop_duplicates("family").set_index("family")
    assert table["faces"].to_dict() == {"small_plain": 0, "small_last_conv_500": 500}
    assert table["scheme"].to_dict() == {"small_plain": "not tuned", "small_last_conv_500": "last_conv"}


def test_efficiency_compares_schemes_on_as_many_faces_and_fewer_faces_with_all():
    noise = {"small_plain": 2.0, "small_last_conv_500": 1.2, "small_last_conv_all": 1.2, "small_all_layers_500": 1.2,
             "small_all_layers_all": 0.4}  # fmt: skip
    counts = {name: 500 if name.endswith("500") else 27_000 for name in noise}
    records = pd.DataFrame([
        {"family": name, "scheme": re.sub(r"small_|_500|_all$", "", name), "train": counts[name],
         "start": "small_plain-1" * (name != "small_plain")} for name in noise])  # fmt: skip
    drawn = drawn_scores(made_scores({n: {"plain": 0.5, "masked": level} for n, level in noise.items()}), draws=300)
    differences = efficiency_differences(drawn, records)
    pairs = differences[["a", "b"]].drop_duplicates().apply(tuple, axis=1).tolist()
    assert set(pairs) == {
        ("small_all_layers_500", "small_last_conv_500"), ("small_all_layers_all", "small_last_conv_all"),
        ("small_last_conv_500", "small_last_conv_all"), ("small_all_layers_500", "small_all_layers_all")}  # fmt: skip
    alone = contrast(drawn, {(pairs[0][0], "masked"): 1, (pairs[0][1], "masked"): -1})
    np.testing.assert_allclose(differences[differences.a.eq(pairs[0][0]) & differences.b.eq(pairs[0][1])]["estimate"],
                               alone["estimate"])  # fmt: skip
    findings = efficiency_findings(efficiency_table(drawn, records), differences, faces="faces")
    words = " ".join(finding.statement for finding in findings.items if "Valence" in finding.statement)
    assert "tuning all layers is not clearly different from tuning the last convolution with 500 masked faces" in words
    assert "above tuning the last convolution with 27,000 masked faces" in words
    assert "tuning all layers with 500 masked faces is below tuning with all 27,000" in words
    assert "tuning the last convolution with 500 masked faces is not clearly different from" in words


SHAPES = (Config(), Config(width=64, batch_norm=True, layers=3), Config("code2020", 32, 8, shunt="none"),
          Config(width=8, size=16))  # fmt: skip


@pytest.fixture
def ladder():
    levels = {f"small_{name}": dict.fromkeys(LADDER, 0.8) for name in LADDER}
    levels["small_plain"]["patch"] = 2.0
    levels["small_jaw"]["jaw"] = 0.3
    return drawn_scores(made_scores(levels), draws=200)


@pytest.mark.parametrize("config", SHAPES)
def test_multiply_adds_equal_an_independent_count(config):
    forward, backward = facechannel_multiply_adds(
        config.width, config.hidden, config.size, config.shunt != "none", config.layers
    )
    for scheme, expected in backward.items():
        assert multiply_adds(config, scheme) == {"forward": forward, "backward": expected}


def test_the_network_of_the_paper_costs_what_its_layers_say():
    assert multiply_adds(Config())["forward"] / 1e6 == pytest.approx(626, abs=4)
    assert trained_parameters(Config(), "last_conv") == 2_229_762
    assert trained_parameters(Config(), "scratch") == 3_816_770
    taught = [multiply_adds(Config(), scheme)["backward"] for scheme in ("all_layers", "last_conv", "head")]
    assert taught == sorted(taught, reverse=True)


@pytest.fixture(scope="module")
def ends():
    torch.manual_seed(0)
    models = [FaceChannel.preset(width=4, hidden=4, size=16, batch_norm=True) for _ in range(2)]
    for model in models:
        model.train()(torch.rand(8, 1, 16, 16))
    return [model.eval() for model in models]


def test_interpolation_ends_at_the_two_networks_bit_by_bit(ends):
    for t, model in enumerate(ends):
        between = interpolate(*ends, t)
        for name, value in model.state_dict().items():
            assert torch.equal(between.state_dict()[name], value), name
        faces = torch.rand(3, 1, 16, 16)
        assert torch.equal(between(faces), model(faces))


def test_between_them_every_weight_and_statistic_is_on_the_line(ends):
    state, (a, b) = interpolate(*ends, 0.25).state_dict(), (model.state_dict() for model in ends)
    for name in ("trunk.conv1.weight", "shunt.rho", "trunk.bn3.running_var"):
        torch.testing.assert_close(state[name], 0.75 * a[name] + 0.25 * b[name])


def test_networks_of_other_shapes_have_none_between(ends):
    with pytest.raises(InputError, match="different shapes"):
        interpolate(ends[0], FaceChannel.preset(width=8, hidden=4, size=16), 0.5)
    with pytest.raises(InputError, match=r"t is 1\.5; allowed: numbers from 0 to 1"):
        interpolate(*ends, 1.5)
    with pytest.raises(InputError, match="model_b is a int"):
        interpolate(ends[0], 5, 0.5)
