"""Families of trainings: scores and differences over faces and seeds against the plain comparison and loops."""

import numpy as np
import pytest
import xarray as xr
from conftest import make_faces

from fcx.core.contract import CONDITIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.statistics.agreement import evaluate
from fcx.statistics.comparison import compare, compare_all
from fcx.statistics.corrections import holm
from fcx.statistics.families import compare_all_families, compare_families, family_members, family_scores
from fcx.statistics.variance_components import FACES_ONLY

TRAINED = ("plain-1", "masked-1", "plain-3", "plain-2", "masked-2")


@pytest.fixture
def faces():
    return make_faces(40, seed=3, size=16)


@pytest.fixture
def results(faces):
    rng = np.random.default_rng(0)
    truth = np.stack([faces[name].values for name in TARGETS])
    shape = (len(TRAINED), len(CONDITIONS), *truth.shape)
    values = rng.uniform(0.3, 0.9, (*shape[:3], 1)) * truth + rng.normal(0, 0.2, shape)
    shares = rng.dirichlet(np.ones(9), (*shape[:2], 1, 2, 40))
    dims = ("model", "condition", "method", "target", "sample", "region")
    made = {
        "prediction": (("model", "condition", "target", "sample"), values),
        "share": (dims, shares),
        "area": (("sample", "region"), rng.dirichlet(np.ones(9), 40)),
    }
    coords = {"model": list(TRAINED), "condition": list(CONDITIONS), "target": list(TARGETS), "method": ["lrp"],
              "sample": faces["sample"].values, "region": [*faces["region"].values, "mask"]}  # fmt: skip
    made = xr.Dataset(made, coords, {"crop": "face"})
    return made.assign_coords(family=("model", [name[:-2] for name in TRAINED]),
                              seed=("model", [int(name[-1]) - 1 for name in TRAINED]))  # fmt: skip


def statistics_of(results, faces):
    """Return what `sample_statistics` returns: shares without predictions, with the subjects."""
    made = results[["share", "area"]].assign(enrichment=np.log2(results["share"] / results["area"]))
    return made.assign_coords(subject=("sample", faces["subject"].values))


def test_members_are_by_seed(results):
    assert family_members(results) == {
        "plain": {0: "plain-1", 1: "plain-2", 2: "plain-3"},
        "masked": {0: "masked-1", 1: "masked-2"},
    }
    assert family_members(results.drop_vars(["family", "seed"]))["plain-2"] == {0: "plain-2"}
    with pytest.raises(ContractError, match="'plain-1' and 'plain-3' are both of family 'plain' and seed 0"):
        family_scores(results.assign_coords(seed=("model", [0] * 5)), faces=make_faces(40, seed=3, size=16))


@pytest.mark.parametrize("quantity", ["ccc", "within_ccc", "expression_rmse"])
def test_scores_are_means_of_what_evaluate_says(results, faces, quantity):
    out, each = family_scores(results, faces, quantity=quantity, draws=50), evaluate(results, faces, draws=2)[quantity]
    assert list(out["family"].values) == ["plain", "masked"]
    assert list(out["condition"].values) == list(CONDITIONS)
    np.testing.assert_array_equal(out["seeds"], [3, 2])
    for family, models in {"plain": [0, 3, 2], "masked": [1, 4]}.items():
        np.testing.assert_allclose(
            out["estimate"].sel(family=family), each.isel(model=models).mean("model"), atol=1e-12
        )
        some = out["seed_estimate"].sel(family=family).isel(seed=slice(len(models)))
        np.testing.assert_allclose(some, each.isel(model=models), atol=1e-12)
    assert out["seed_estimate"].sel(family="masked", seed=2).isnull().all()
    assert out["low"].dims == ("family", "condition", "target", *(("expression",) if "expr" in quantity else ()))


def test_the_order_of_models_plays_no_part(results, faces):
    turned = results.isel(model=[4, 2, 0, 1, 3])
    for quantity in ("ccc", "mse"):
        one, other = (family_scores(given, faces, quantity=quantity, draws=50) for given in (results, turned))
        assert list(other["family"].values) == ["masked", "plain"]
        xr.testing.assert_allclose(one, other.sel(family=one["family"]), atol=1e-12)


def test_one_seed_is_evaluate_and_compare(results, faces):
    single = results.isel(model=[0, 1])
    for given in (single, single.drop_vars(["family", "seed"])):
        out, whole = family_scores(given, faces, draws=100), evaluate(given, faces, draws=100)
        np.testing.assert_array_equal(out["estimate"].values, whole["ccc"].values)
        np.testing.assert_array_equal(out["low"].values, whole["ccc_low"].values)
        np.testing.assert_array_equal(out["high"].values, whole["ccc_high"].values)
        assert out["se_seeds"].isnull().all()
        assert out.attrs["sources"] == FACES_ONLY
    for quantity, given in (("ccc", single), ("enrichment", statistics_of(single, faces))):
        one = compare_all_families(given, faces, quantity=quantity, draws=100)
        other = compare_all(given, faces, quantity=quantity, draws=100)
        for name in ("difference", "low", "high", "p", "p_holm", "n"):
            np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)
        assert list(one["family_a"].values) == [name[:-2] for name in other["model_a"].values]


def test_differences_are_paired_by_seed_and_by_face(results, faces):
    a, b = ({"family": name, "condition": "masked"} for name in ("masked", "plain"))
    out, back = compare_families(results, faces, a, b, draws=100), compare_families(results, faces, b, a, draws=100)
    cells = [({"model": f"masked-{k}", "condition": "masked"}, {"model": f"plain-{k}", "condition": "masked"})
             for k in (1, 2)]  # fmt: skip
    each = [compare(results, faces, *pair, draws=2)["difference"] for pair in cells]
    np.testing.assert_allclose(out["seed_difference"], each, atol=1e-12)
    np.testing.assert_allclose(out["difference"], np.mean(each, 0), atol=1e-12)
    np.testing.assert_allclose(out["estimate_a"] - out["estimate_b"], out["difference"], atol=1e-12)
    assert int(out["seeds"]) == 2
    np.testing.assert_allclose(out["low"], -back["high"], atol=1e-12)
    np.testing.assert_allclose(out["p"], back["p"], rtol=1e-9)
    np.testing.assert_array_equal(out["p"] < 0.05, (out["low"] > 0) | (out["high"] < 0))
    np.testing.assert_allclose(out["p_holm"], holm(out["p"]))


def test_what_all_seeds_share_costs_a_difference_nothing(results, faces):
    apart = results["prediction"].sel(model=["plain-1", "masked-1"])
    same = xr.concat([apart.assign_coords(seed=("model", [k, k]), model=[f"a{k}", f"b{k}"]) for k in range(3)], "model")
    given = xr.Dataset({"prediction": same}, attrs=results.attrs)
    out = compare_families(given, faces, {"family": "plain"}, {"family": "masked"}, draws=100)
    want = compare(results, faces, {"model": "plain-1"}, {"model": "masked-1"}, draws=100)
    np.testing.assert_allclose(out["se_seeds"], 0, atol=1e-12)
    for name in ("difference", "low", "high"):
        np.testing.assert_allclose(out[name], want[name], atol=1e-12)


def test_shares_of_regions_have_families_too(results, faces):
    table = statistics_of(results, faces)
    out = family_scores(table, faces, quantity="share", draws=50)
    want = results["share"].isel(model=[1, 4]).mean(("model", "sample"))
    np.testing.assert_allclose(out["estimate"].sel(family="masked"), want, atol=1e-12)
    assert out["low"].dims == ("family", "condition", "method", "target", "region")
    a, b = ({"family": "plain", "condition": name} for name in ("masked", "plain"))
    apart = compare_families(table, faces, a, b, quantity="enrichment", draws=50)
    assert apart["difference"].dims == ("method", "target", "region")
    assert int(apart["seeds"]) == 3


def test_families_that_cannot_be_compared_are_refused(results, faces):
    plain, masked = {"family": "plain"}, {"family": "masked"}
    with pytest.raises(UnknownNameError, match="unknown family 'plan': did you mean 'plain'"):
        compare_families(results, faces, {"family": "plan"}, masked)
    with pytest.raises(UnknownNameError, match="unknown key of a comparison of families 'model'"):
        compare_families(results, faces, {"model": "plain-1"}, {"model": "masked-1"})
    with pytest.raises(InputError, match="give both the same, and a family"):
        compare_families(results, faces, plain, masked | {"condition": "plain"})
    with pytest.raises(InputError, match=r"'plain' has the seeds \[2\] and 'masked' \[0, 1\]: .* share none"):
        compare_families(results.isel(model=[1, 2, 4]), faces, plain, masked)
    apart = compare_all_families(results.isel(model=[1, 2, 4]), faces, draws=20)
    assert not ((apart["family_a"] == "masked") & (apart["family_b"] == "plain")).any()  # which share no seed
    with pytest.raises(InputError, match="one family and one condition"):
        compare_all_families(results.isel(model=[0, 2], condition=[0]), faces)
    with pytest.raises(UnknownNameError, match="unknown quantity 'cc'"):
        family_scores(results, faces, quantity="cc")
