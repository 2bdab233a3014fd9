"""Region statistics, comparisons and the null model against loops, SciPy and what must hold."""

import numpy as np
import oracles
import pytest
import xarray as xr
from conftest import make_faces
from scipy import stats

from fcx.core.contract import CONDITIONS, REGIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.statistics import region_mass
from fcx.statistics.comparison import compare, compare_all
from fcx.statistics.concordance import ccc
from fcx.statistics.corrections import holm
from fcx.statistics.map_scores import QUANTITIES, Ranks, score_maps
from fcx.statistics.region_mass import region_cover, region_statistics, sample_statistics, shift_null

DIMS = ("model", "condition", "method", "target", "sample", "y", "x")


def soft_faces(count=10, seed=0, size=16):
    """Return faces whose regions have soft edges: random coverages that sum to 255 or a little less."""
    faces = make_faces(count, seed=seed, size=size)
    rng = np.random.default_rng(seed)
    parts = rng.dirichlet([0.3] * len(REGIONS), (count, size, size)).transpose(0, 3, 1, 2)
    faces["regions"][:] = (parts * 255).astype(np.uint8)
    return faces


def results_for(faces, models=("a", "b"), methods=("lrp",), seed=0, dtype="f4"):
    rng = np.random.default_rng(seed)
    shape = (len(models), len(CONDITIONS), len(methods), len(TARGETS), *faces["image"].shape[1:])
    coords = {"model": list(models), "condition": list(CONDITIONS), "method": list(methods), "target": list(TARGETS)}
    truth = np.stack([faces[name].values for name in TARGETS])
    noise = rng.normal(0, 0.3, (*shape[:2], *truth.shape))
    made = {
        "prediction": (("model", "condition", "target", "sample"), (0.5 * truth + noise).astype(dtype)),
        "attribution": (DIMS, rng.normal(size=shape).astype(dtype)),
    }
    return xr.Dataset(made, {**coords, "sample": faces["sample"].values}, {"crop": "face"})


@pytest.fixture
def faces():
    return soft_faces()


@pytest.fixture
def results(faces):
    return results_for(faces)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_loops(seed):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(2, 3, 5, 6)).round(seed)  # rounded: with ties
    cover = rng.choice([0, 0.25, 0.7, 1], size=(3, 4, 5, 6))
    got = score_maps(maps, cover)
    assert list(got) == list(QUANTITIES)
    for k, s, r in np.ndindex(2, 3, 4):
        for name, value in oracles.region_scores(maps[k, s], cover[s, r]).items():
            assert got[name][k, s, r] == pytest.approx(value, abs=1e-12), name


def test_auc_of_a_binary_region_is_mann_whitney():
    rng = np.random.default_rng(0)
    maps, inside = rng.normal(size=(1, 8, 8)).round(1), rng.random((1, 1, 8, 8)) < 0.3
    heat = np.abs(maps[0])
    u = stats.mannwhitneyu(heat[inside[0, 0]], heat[~inside[0, 0]]).statistic
    auc = u / (inside.sum() * (~inside).sum())
    assert score_maps(maps, inside.astype(float))["auc"][0, 0] == pytest.approx(auc, abs=1e-13)
    assert score_maps(np.where(inside[0], 1.0, 0.1), inside.astype(float))["auc"][0, 0] == 1


@pytest.mark.parametrize("value", [1.0, -0.3, 1e-6, 7e5])
def test_a_uniform_map_is_not_enriched_anywhere(faces, value):
    cover = region_cover(faces, np.arange(10))
    got = score_maps(np.full((10, 16, 16), value), cover)
    np.testing.assert_allclose(got["enrichment"], 0, atol=1e-12)
    np.testing.assert_allclose(got["density"], 1, atol=1e-12)
    np.testing.assert_allclose(got["auc"], 0.5, atol=1e-12)


def test_shares_of_the_partition_sum_to_one(faces, results):
    table = sample_statistics(results, faces)
    assert list(table["region"].values) == [*REGIONS, "mask", "uncovered"]
    parts = table.sel(region=list(REGIONS)).sum("region")
    np.testing.assert_allclose(parts["share"], 1, atol=1e-13)
    np.testing.assert_allclose(parts["area"], 1, atol=1e-13)
    np.testing.assert_allclose(parts["net"], results["attribution"].astype("f8").sum(("y", "x")), atol=1e-10)
    np.testing.assert_allclose(table["net"], table["positive"] + table["negative"], atol=1e-12)
    assert (table["negative"] <= 0).all()


def test_scale_and_sign_of_a_map():
    rng = np.random.default_rng(0)
    maps, cover = rng.normal(size=(3, 6, 6)), rng.random((3, 2, 6, 6))
    one, other = score_maps(maps, cover), score_maps(-3 * maps, cover)
    for name in ("share", "density", "enrichment", "auc"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-12)
    np.testing.assert_allclose(other["positive"], -3 * one["negative"], atol=1e-12)


def test_what_is_empty_is_nan():
    rng = np.random.default_rng(0)
    cover = np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.eye(4)])[None]
    got = score_maps(rng.normal(size=(1, 4, 4)), cover)
    for name in QUANTITIES:
        assert np.isnan(got[name][0, 0]), name
        assert np.isfinite(got[name][0, 2]), name
    assert got["share"][0, 1] == pytest.approx(1, abs=1e-15)
    assert np.isnan(got["auc"][0, 1])  # nothing lies outside
    for value in (0.0, np.nan, np.inf):
        broken = score_maps(np.full((1, 4, 4), value), cover)
        for name in ("share", "density", "enrichment", "auc"):
            assert np.isnan(broken[name]).all(), name
        net = broken["net"][0, 1]
        assert net == 0 if value == 0 else np.isnan(net)


def test_blocks_of_a_coarse_map_count_as_cells():
    rng = np.random.default_rng(0)
    coarse, cover = rng.normal(size=(2, 4, 4)), rng.random((2, 3, 16, 16))
    fine = coarse.repeat(4, 1).repeat(4, 2)
    cells = cover.reshape(2, 3, 4, 4, 4, 4).mean((3, 5))
    on_grid, on_cells = score_maps(fine, cover), score_maps(coarse, cells)
    for name in ("share", "enrichment", "auc"):
        np.testing.assert_allclose(on_grid[name], on_cells[name], atol=1e-12)


def test_blocks_do_not_matter(faces, results, monkeypatch):
    whole = sample_statistics(results, faces)
    for size in (1, 3, 7):
        monkeypatch.setattr(region_mass, "MAPS_AT_ONCE", size)
        xr.testing.assert_identical(sample_statistics(results, faces), whole)


def test_maps_in_a_store_are_read_block_by_block(faces, results, tmp_path, monkeypatch):
    chunks = {"attribution": {"chunks": (1, 1, 1, 1, 4, 16, 16)}}
    results.to_zarr(tmp_path / "r.zarr", zarr_format=2, consolidated=False, encoding=chunks)
    lazy = xr.open_zarr(tmp_path / "r.zarr", chunks=None, consolidated=False, zarr_format=2)
    sizes = []
    monkeypatch.setattr(
        region_mass, "score_maps", lambda maps, cover: sizes.append(maps.shape) or score_maps(maps, cover)
    )
    got = sample_statistics(lazy, faces)
    assert set(sizes) == {(1, 2, 4, 16, 16), (1, 2, 2, 16, 16)}
    assert not lazy["attribution"].variable._in_memory
    xr.testing.assert_allclose(got, sample_statistics(results, faces))


def test_the_mask_of_plain_is_the_alpha_of_its_masked_twin(faces, results):
    faces["alpha"][0] = 0
    results["attribution"][:, 1] = results["attribution"][:, 0].values
    table = sample_statistics(results, faces).sel(region="mask")
    assert (table["share"] > 0).all()
    np.testing.assert_array_equal(table["share"].sel(condition="plain"), table["share"].sel(condition="masked"))
    np.testing.assert_allclose(table["area"], faces["alpha"][1].mean(("y", "x")) / 255, atol=1e-12)


def test_faces_that_are_not_usable_have_no_statistics(faces, results):
    faces["status"][1, 2:4] = "no face found"  # both faces of a subject
    faces["regions"][2:4] = 0
    table = sample_statistics(results, faces)
    assert table["share"].isel(sample=[2, 3]).isnull().all()
    assert table["share"].drop_isel(sample=[2, 3]).notnull().all()
    some = np.delete(np.arange(10), [2, 3])
    fewer = region_statistics(results.isel(sample=some), faces.isel(sample=some), draws=5)
    whole = region_statistics(results, faces, draws=5)
    assert (whole["n"] == 8).all()
    for end in ("mean", "low", "high"):
        xr.testing.assert_allclose(whole[f"enrichment_{end}"], fewer[f"enrichment_{end}"])
    faces["status"][1] = "no face found"
    none = region_statistics(results, faces, draws=5)
    assert (none["n"] == 0).all()
    assert none["share_mean"].isnull().all()
    assert shift_null(results, faces)["p"].isnull().all()


def test_statistics_follow_ids_not_rows(faces, results):
    mixed = results.isel(sample=[3, 1, 0, 2, 9, 8, 7, 6, 5, 4])
    got = sample_statistics(mixed, faces)
    assert got["subject"].values[0] == faces["subject"].values[3]
    xr.testing.assert_identical(got.sel(sample=faces["sample"].values), sample_statistics(results, faces))


def test_what_cannot_be_scored_is_refused(faces, results):
    with pytest.raises(ContractError, match="no 'attribution'"):
        sample_statistics(results.drop_vars("attribution"), faces)
    with pytest.raises(ContractError, match="int8, quantised"):
        sample_statistics(results.assign(attribution=results["attribution"].astype("i1")), faces)
    with pytest.raises(ContractError, match=r"grid of \(8, 16\), faces on one of \(16, 16\)"):
        sample_statistics(results.isel(y=slice(8)), faces)
    with pytest.raises(ContractError, match="not the same ones"):
        sample_statistics(results.isel(sample=slice(5)), faces)
    with pytest.raises(ContractError, match="has dimensions"):
        sample_statistics(results.sel(model="a"), faces)
    faces["regions"][4, :, 0, 0] = 0
    with pytest.raises(ContractError, match="'face4' leave a pixel uncovered"):
        sample_statistics(results, faces)


def test_means_and_intervals_equal_gathering(faces, results):
    results["attribution"][0, 0, 0, 0, 3] = 0  # a map without mass is left out
    table = region_statistics(results, faces, draws=300, seed=4)
    draws = oracles.bootstrap_rows(list(faces["subject"].values), 300, 4)
    cell = table.isel(model=0, condition=0, method=0, target=0).sel(region="mouth")
    assert cell["n"] == 9
    area = cell["area"].where(cell["share"].notnull())

    def mean(name, rows):
        values = cell[name].values[rows]
        return np.nanmean(values)

    for name in ("share", "net", "positive", "negative", "auc"):
        low, high = oracles.bootstrap_interval([mean(name, rows) for rows in draws], 5)
        assert cell[f"{name}_mean"] == pytest.approx(mean(name, np.arange(10)), abs=1e-12)
        assert cell[f"{name}_low"] == pytest.approx(low, abs=1e-12)
        assert cell[f"{name}_high"] == pytest.approx(high, abs=1e-12)
    low, high = oracles.bootstrap_interval([mean("share", rows) / np.nanmean(area.values[rows]) for rows in draws], 5)
    assert cell["density_low"] == pytest.approx(low, abs=1e-12)
    assert cell["enrichment_high"] == pytest.approx(np.log2(high), abs=1e-12)
    whole = np.log2(mean("share", np.arange(10)) / np.nanmean(area.values))
    assert cell["enrichment_mean"] == pytest.approx(whole, abs=1e-12)


def test_one_face_without_mass_in_a_region_leaves_the_mean_finite(faces, results):
    inside = region_cover(faces, [0], overlays=["mask"])[0, -1] > 0
    results["attribution"][:, :, :, :, 0] = np.where(inside, 0, results["attribution"][:, :, :, :, 0])
    table = region_statistics(results, faces, draws=20).sel(region="mask")
    assert np.isneginf(table["enrichment"].isel(sample=0)).all()
    assert np.isfinite(table["enrichment_mean"]).all()
    assert np.isfinite(table["enrichment_low"]).all()


def test_a_uniform_map_has_mean_enrichment_zero(faces, results):
    results["attribution"] = xr.full_like(results["attribution"], 0.2)
    table = region_statistics(results, faces, draws=20)
    for end in ("mean", "low", "high"):
        np.testing.assert_allclose(table[f"enrichment_{end}"], 0, atol=1e-12)


@pytest.mark.parametrize("quantity", ["share", "enrichment", "auc", "net"])
def test_compare_regions_equals_gathering(faces, results, quantity):
    results["attribution"][1, 1, 0, 0, 3] = 0  # no mass on one side: left out on both
    a, b = {"model": "a", "condition": "plain"}, {"model": "b", "condition": "masked"}
    out = compare(results, faces, a, b, quantity=quantity, draws=300, seed=4)
    assert out["difference"].dims == ("method", "target", "region")
    table = sample_statistics(results, faces).isel(method=0, target=0).sel(region="nose")
    keep = np.isfinite(table[quantity]).sel(a) & np.isfinite(table[quantity]).sel(b)

    def side(cell, rows):
        rows = [i for i in rows if keep.values[i]]
        one = table.sel(cell)
        if quantity == "enrichment":
            return np.log2(one["share"].values[rows].sum() / table["area"].values[rows].sum())
        return one[quantity].values[rows].mean()

    draws = oracles.bootstrap_rows(list(faces["subject"].values), 300, 4)
    drawn = [side(a, rows) - side(b, rows) for rows in draws]
    got = out.isel(method=0, target=0).sel(region="nose")
    difference = side(a, range(10)) - side(b, range(10))
    assert got["n"] == (10 if quantity == "net" else 9)
    assert got["estimate_a"] == pytest.approx(side(a, range(10)), abs=1e-12)
    assert got["difference"] == pytest.approx(difference, abs=1e-12)
    assert [got["low"], got["high"]] == pytest.approx(oracles.bootstrap_interval(drawn, 5), abs=1e-12)
    assert got["p"] == pytest.approx(oracles.bootstrap_p(difference, drawn, 5), abs=1e-12)


def test_compare_ccc_equals_gathering():
    faces = soft_faces(40)
    results = results_for(faces).drop_vars("attribution")
    out = compare(results, faces, {"condition": "masked"}, {"condition": "plain"}, draws=300, seed=4)
    assert out["difference"].dims == ("model", "target")
    truth = faces["valence"].values.astype(float)
    p = results["prediction"].sel(model="b", target="valence").astype(float)
    masked, plain = p.sel(condition="masked").values, p.sel(condition="plain").values
    draws = oracles.bootstrap_rows(list(faces["subject"].values), 300, 4)
    drawn = [float(ccc(masked[rows], truth[rows]) - ccc(plain[rows], truth[rows])) for rows in draws]
    got = out.sel(model="b", target="valence")
    assert got["difference"] == pytest.approx(ccc(masked, truth) - ccc(plain, truth), abs=1e-10)
    assert [got["low"], got["high"]] == pytest.approx(oracles.bootstrap_interval(drawn, 20), abs=1e-10)
    assert got["p"] == pytest.approx(oracles.bootstrap_p(float(got["difference"]), drawn, 20), abs=1e-9)
    assert got["n"] == 40


@pytest.mark.parametrize("quantity", ["ccc", "within_pearson", "expression_rmse", "density"])
def test_compare_is_antisymmetric_and_finds_nothing_between_equals(faces, results, quantity):
    a, b = {"model": "a"}, {"model": "b"}
    there, back = (compare(results, faces, *sides, quantity=quantity, draws=200) for sides in ((a, b), (b, a)))
    np.testing.assert_allclose(there["difference"], -back["difference"], atol=1e-13)
    np.testing.assert_allclose(there["low"], -back["high"], atol=1e-13)
    np.testing.assert_allclose(there["p"], back["p"])
    same = compare(results, faces, a, a, quantity=quantity, draws=200)
    assert (same["difference"] == 0).all()
    assert (same["p"] == 1).all()
    assert (same["p_holm"] == 1).all()


def test_p_values_agree_with_intervals_and_have_no_floor():
    faces = soft_faces(40)
    results = results_for(faces, methods=("lrp", "gradcam"))
    results["attribution"][1] = results["attribution"][0] * (1 + 5 * (faces["alpha"][1] > 0)).values
    a, b = {"model": "b"}, {"model": "a"}
    out = compare(results, faces, a, b, quantity="enrichment", draws=999)
    assert (out["difference"].sel(region="mask") > 0.5).all()
    assert (out["p_holm"].sel(region="mask") < 1e-4).all()  # 999 draws would end at 36 x 2 / 1000
    outside = (out["low"] > 0) | (out["high"] < 0)
    np.testing.assert_array_equal(outside, out["p"] < 0.05)
    assert out.attrs["tests"] == 2 * 2 * 10  # conditions, targets and regions of one method
    for method in ("lrp", "gradcam"):
        one = out.sel({"method": method})  # .sel(method=...) is an option of xarray
        np.testing.assert_allclose(one["p_holm"].values.ravel(), oracles.holm(list(one["p"].values.ravel())))


def test_compare_takes_finished_statistics(faces, results):
    table = region_statistics(results, faces, draws=5)
    a, b = {"model": "a", "condition": "plain"}, {"model": "a", "condition": "masked"}
    for quantity in ("share", "enrichment"):
        xr.testing.assert_allclose(
            compare(table, faces, a, b, quantity=quantity, draws=50),
            compare(results, faces, a, b, quantity=quantity, draws=50),
        )


@pytest.mark.parametrize("quantity", ["ccc", "enrichment"])
def test_compare_all_is_every_pair(faces, quantity):
    results = results_for(faces, models=("a", "b", "c"))
    out = compare_all(results, faces, quantity=quantity, draws=50)
    assert out.sizes["comparison"] == 3 * 2 + 3
    for i in range(9):
        row = out.isel(comparison=i)
        a, b = ({key: str(row[f"{key}_{end}"].values) for key in ("model", "condition")} for end in "ab")
        assert (a["model"] == b["model"]) != (a["condition"] == b["condition"])
        one = compare(results, faces, a, b, quantity=quantity, draws=50)
        for name in ("estimate_a", "estimate_b", "difference", "low", "high", "p"):
            np.testing.assert_allclose(row[name], one[name].transpose(*row[name].dims), atol=1e-12)
        if a["model"] == b["model"]:
            assert (a["condition"], b["condition"]) == ("masked", "plain")
    np.testing.assert_allclose(out["p_holm"].values.ravel(), oracles.holm(list(out["p"].values.ravel())))
    assert out.attrs["tests"] == out["p"].size


def test_compare_refuses_what_it_does_not_know(faces, results):
    a, b = {"model": "a"}, {"model": "b"}
    with pytest.raises(UnknownNameError, match="unknown quantity 'enrichmnt': did you mean 'enrichment'"):
        compare(results, faces, a, b, quantity="enrichmnt")
    with pytest.raises(UnknownNameError, match="unknown model 'c'"):
        compare(results, faces, a, {"model": "c"})
    with pytest.raises(UnknownNameError, match="unknown key of a comparison 'modle': did you mean 'model'"):
        compare(results, faces, {"modle": "a"}, {"modle": "b"})
    with pytest.raises(UnknownNameError, match="unknown key of a comparison 'method'"):
        compare(results, faces, {"method": "lrp"}, {"method": "lrp"})
    with pytest.raises(InputError, match="give both the same, at least one"):
        compare(results, faces, a, {"condition": "plain"})
    with pytest.raises(InputError, match="give both the same, at least one"):
        compare(results, faces, {}, {})
    with pytest.raises(InputError, match="nothing to compare"):
        compare_all(results.isel(model=[0], condition=[0]), faces)
    with pytest.raises(ContractError, match="not the same ones"):
        compare(results, faces.isel(sample=slice(4)), a, b, quantity="share")
    for ask in (lambda given: compare(given, faces, a, b), lambda given: compare_all(given, faces)):
        with pytest.raises(ContractError, match="no dimension 'model'"):
            ask(results.sel(model="a"))


def test_holm():
    # by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.5 x 1
    np.testing.assert_allclose(holm([0.03, 0.01, 0.5, 0.02]), [0.06, 0.04, 0.5, 0.06])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    np.testing.assert_array_equal(holm([np.nan, 0.01]), [np.nan, 0.01])
    p = np.random.default_rng(0).random((4, 5)) ** 3
    np.testing.assert_allclose(holm(p).ravel(), oracles.holm(list(p.ravel())), atol=1e-15)
    assert (holm(p) >= p).all()


def test_shift_null_is_the_enrichment_of_shifted_maps(faces, results):
    results["attribution"][0, 0, 0, 0, 3] = 0
    null = shift_null(results, faces)
    table = region_statistics(results, faces, draws=2)
    np.testing.assert_allclose(null["enrichment"], table["enrichment_mean"], atol=1e-12)
    assert null["null"].dims == (*DIMS[:4], "region", "dy", "dx")
    for dy, dx in [(1, 0), (5, 11), (15, 8)]:
        shifted = results.assign(attribution=results["attribution"].roll(y=dy, x=dx))
        want = region_statistics(shifted, faces, draws=2)["enrichment_mean"]
        np.testing.assert_allclose(null["null"].isel(dy=dy, dx=dx), want, atol=1e-11)
    np.testing.assert_allclose((2 ** null["null"]).mean(("dy", "dx")), 1, atol=1e-12)


def test_shift_null_tells_place_from_no_place(faces, results):
    inside = (faces["alpha"][1] > 0).values
    results["attribution"][0] = np.where(inside, 1, 0.01)
    results["attribution"][1] = 1
    null = shift_null(results, faces).sel(region="mask")
    placed, uniform = null.sel(model="a"), null.sel(model="b")
    assert (placed["p"] <= 2 / 256 + 1e-12).all()
    assert (placed["enrichment"] >= placed["high"]).all()
    np.testing.assert_allclose(uniform["null"], 0, atol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ranks_of_several_maps_equal_those_of_scipy(kind):
    rng = np.random.default_rng(0)
    few, many = rng.integers(0, 5, 64), rng.normal(size=64)
    values = np.abs(np.stack([few, many, 0 * many, few + many])).astype(kind)  # ties, none, all, none
    found = np.empty(values.shape)
    Ranks(*values.shape, packed=kind == np.float32).write(values.astype(np.float64), found)
    np.testing.assert_array_equal(found, stats.rankdata(values, axis=-1) - 0.5)


def test_every_variable_is_in_the_order_of_the_contract(faces, results):
    order = ["comparison", "model", "condition", "method", "target", "sample", "region", "expression"]
    labels = {"family": ("model", ["one", "other"])}  # what is known of models is no obstacle to comparing them
    table = region_statistics(results.assign_coords(labels), faces, draws=5)
    outs = [table, *(compare_all(results.assign_coords(labels), faces, quantity=name, draws=5)
                     for name in ("ccc", "within_ccc", "expression_mse", "enrichment"))]  # fmt: skip
    outs += [compare(results, faces, {"model": "a"}, {"model": "b"}, quantity=name, draws=5)
             for name in ("within_ccc", "expression_ccc", "auc")]  # fmt: skip
    for out in outs:
        for name, variable in out.items():
            assert list(variable.dims) == sorted(variable.dims, key=order.index), name
