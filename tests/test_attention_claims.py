"""Claims (e) to (g): ratios of shares of attribution over faces and seeds, against one draw at a time."""

import numpy as np
import oracles
import pytest
import xarray as xr
from conftest import make_faces

import fcx
from fcx.core.contract import CONDITIONS, FAMILIES, REGIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.statistics.region_mass import region_cover, sample_statistics
from fcx.statistics.share_ratios import share_ratio
from fcx.studies.attention_claims import (
    DISPUTED,
    TIMES,
    attention_claim_table,
    attention_verdicts,
    by_all_methods,
)
from fcx.studies.claims import FAILS, HOLDS, OPEN, UNASKED

METHODS = ("lrp_gamma", "gradient")
COUNT, SEEDS = 40, 3


def shares_of(seed=0, **times):
    """Return shares by region of all families: equal ones, but for `times` (family) by which the mask has more."""
    rng = np.random.default_rng(seed)
    models = [(family, k) for family in FAMILIES for k in range(SEEDS)]
    values = rng.dirichlet(np.full(len(REGIONS), 20.0), (len(CONDITIONS), len(METHODS), len(TARGETS), COUNT))
    overlays = rng.uniform(0.2, 0.3, (*values.shape[:-1], 2))  # mask, uncovered
    made = []
    for family, _ in models:
        own = np.concatenate([values, overlays], -1) * rng.uniform(0.97, 1.03, (1, 1, 1, COUNT, 10))
        own[..., 8] *= times.get(family, 1)
        made.append(own)
    dims = ("model", "condition", "method", "target", "sample", "region")
    coords = {
        "model": [f"{family}-{k + 1}" for family, k in models], "condition": list(CONDITIONS), "method": list(METHODS),
        "target": list(TARGETS), "region": [*REGIONS, "mask", "uncovered"],
        "family": ("model", [family for family, _ in models]), "seed": ("model", [k for _, k in models]),
        "subject": ("sample", [f"s{i // 2}" for i in range(COUNT)]),
    }  # fmt: skip
    return xr.Dataset({"share": (dims, np.array(made))}, coords)


@pytest.fixture(scope="module")
def statistics():
    return shares_of(masked_scratch=2, masked_all_layers=1.25)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_ratio_is_what_a_slow_script_finds(statistics, seeds):
    some = statistics.sel(model=statistics["seed"] < seeds)
    out = share_ratio(some, ("plain_scratch", "masked"), ("masked_scratch", "plain"), "mouth,jaw", draws=60, seed=4)
    share = some["share"].sel(region=["mouth", "jaw"], target="valence").sel({"method": "gradient"}).sum("region")
    sides = [share.sel(model=share["family"] == family, condition=condition).values.tolist()
             for family, condition in (("plain_scratch", "masked"), ("masked_scratch", "plain"))]  # fmt: skip
    expected = oracles.share_ratio(*sides, some["subject"].values.tolist(), 60, 4)
    cell = out.sel({"method": "gradient", "target": "valence"})
    np.testing.assert_allclose([cell[name] for name in ("estimate", "low", "high")], expected, rtol=1e-9)
    assert (cell["seeds"], cell["n"]) == (seeds, COUNT)


def test_sides_swapped_turn_the_ratio_over(statistics):
    one, other = ("masked_scratch", "masked"), ("plain_scratch", "masked")
    there, back = (share_ratio(statistics, *sides, "mask", draws=200) for sides in ((one, other), (other, one)))
    assert (there["low"] > 1).all()
    assert (back["high"] < 1).all()
    np.testing.assert_allclose(there["estimate"], 1 / back["estimate"])
    np.testing.assert_allclose(np.log2(there["high"]), -np.log2(back["low"]), atol=0.02)


def test_one_family_beside_itself_has_the_ratio_one(statistics):
    cell = ("masked_scratch", "masked")
    out = share_ratio(statistics, cell, cell, "mask", draws=50)
    for name in ("estimate", "low", "high"):
        np.testing.assert_array_equal(out[name], 1)


def test_empty_maps_and_unusable_faces_count_on_neither_side(statistics):
    some = statistics.copy(deep=True)
    some["share"][0, :, :, :, :3] = np.nan  # of one training only
    out = share_ratio(some, ("plain_scratch", "plain"), ("masked_scratch", "plain"), "mask", draws=50)
    rest = statistics.isel(sample=slice(3, None))
    expected = share_ratio(rest, ("plain_scratch", "plain"), ("masked_scratch", "plain"), "mask", draws=50)
    np.testing.assert_allclose(out["estimate"], expected["estimate"])
    assert (out["n"] == COUNT - 3).all()


def test_what_cannot_be_asked_is_refused(statistics):
    cell = ("plain_scratch", "plain")
    with pytest.raises(UnknownNameError, match="unknown region 'mouht'"):
        share_ratio(statistics, cell, cell, "mouht")
    with pytest.raises(UnknownNameError, match="unknown condition"):
        share_ratio(statistics, ("plain_scratch", "plian"), cell, "mouth")
    with pytest.raises(ContractError, match="hold no 'share'"):
        share_ratio(statistics.drop_vars("share"), cell, cell, "mouth")
    apart = statistics.assign_coords(seed=("model", np.arange(statistics.sizes["model"])))
    with pytest.raises(InputError, match="share none"):
        share_ratio(apart, cell, ("masked_scratch", "plain"), "mouth")


def test_claims_hold_where_the_shares_are_made_so(statistics):
    table = attention_claim_table(statistics, draws=200)
    verdicts = {claim: by_all_methods(of) for claim, of in attention_verdicts(table).items()}
    assert verdicts["e"] == verdicts["f"] == FAILS  # all families alike: the ratio is 1
    rows = table[table.claim == "g"].set_index(["measured", "method", "target"])
    assert len(rows) == 2 * len(METHODS) * len(TARGETS)
    scratch = rows[rows.index.get_level_values(0).str.contains("scratch on")]
    assert set(scratch.verdict) == {HOLDS}
    assert (scratch.low >= TIMES).all()
    assert scratch.estimate.tolist() == pytest.approx([2] * 4, rel=0.02)
    layers = rows[rows.index.get_level_values(0).str.contains("all layers on")]
    assert OPEN in set(layers.verdict)  # 1.25 itself
    assert set(table.margin) == {"at least 1.25 times"}


def test_labels_swapped_the_claim_fails(statistics):
    names = {"plain_scratch": "masked_scratch", "masked_scratch": "plain_scratch"}
    swapped = [names.get(name, name) for name in statistics["family"].values]
    table = attention_claim_table(statistics.assign_coords(family=("model", swapped)), draws=100)
    assert attention_verdicts(table)["g"] == dict.fromkeys(METHODS, FAILS)


@pytest.mark.parametrize(("times", "verdict"), [(2, DISPUTED), (1.25, OPEN)])
def test_a_claim_on_which_methods_differ_says_so(times, verdict):
    given, alike = shares_of(masked_scratch=times, masked_all_layers=times), shares_of()
    given["share"].loc[{"method": "gradient"}] = alike["share"].sel({"method": "gradient"})
    of_method = attention_verdicts(attention_claim_table(given, draws=100))["g"]
    assert of_method["gradient"] == FAILS
    assert by_all_methods(of_method) == verdict


def test_claims_about_networks_that_are_not_there_are_not_asked(statistics):
    few = statistics.sel(model=[name for name in statistics["model"].values if name.startswith("plain")])
    table = attention_claim_table(few, draws=50)
    assert set(table.verdict) == {UNASKED}
    assert by_all_methods(attention_verdicts(table)["e"]) == UNASKED
    plain = statistics.sel(condition=["plain"])
    verdicts = attention_verdicts(attention_claim_table(plain, draws=50))
    assert {name: by_all_methods(of) for name, of in verdicts.items()} == {"e": FAILS, "f": UNASKED, "g": UNASKED}


def test_what_the_mask_leaves_open_and_what_it_covers_make_the_upper_face():
    faces = make_faces(4, size=16)
    cover, names = region_cover(faces, np.arange(4)), [*REGIONS, "mask", "uncovered"]
    of = {name: cover[:, number] for number, name in enumerate(names)}
    upper = of["eyes"] + of["brows"] + of["forehead"] + of["cheeks"]
    np.testing.assert_allclose(of["uncovered"] + upper * of["mask"], upper, atol=1e-12)


def test_networks_that_were_trained_know_their_family_in_results_and_statistics():
    faces = make_faces(3)
    results = fcx.attribute("plain_scratch-2,plain_scratch,masked_scratch", faces, "gradient")
    assert results["family"].values.tolist() == ["plain_scratch", "plain_scratch", "masked_scratch"]
    assert results["seed"].values.tolist() == [1, 0, 0]
    table = sample_statistics(results, faces)
    assert table["family"].values.tolist() == results["family"].values.tolist()
    assert table["seed"].values.tolist() == [1, 0, 0]
