"""How results are kept: compressed maps and their errors, statistics alone, several processes, arithmetic."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import oracles
import pytest
import torch
import xarray as xr
from conftest import at_once, make_faces
from torch import nn

from fcx.attribution import attribute, open_results
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.registry import METHODS, method
from fcx.attribution.storage import Memory, compress, decoded
from fcx.core.errors import ContractError, FcxError, InputError, StoreError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.core.store import Store
from fcx.networks.checkpoints import save_model
from fcx.statistics.comparison import compare, compare_all
from fcx.statistics.map_scores import QUANTITIES, score_maps
from fcx.statistics.region_mass import region_statistics, sample_statistics

BOUND = {"int8": 1 / 254, "float16": 1 / 4096}
METHODS_USED = "gradcam,gradient"


@pytest.fixture(scope="module")
def faces():
    made = make_faces(70, seed=2, size=16)
    status = made["status"].values.astype(object)
    status[1, 3], status[:, 66] = "the mask did not fit", "no face was found"
    return made.assign(status=(("condition", "sample"), status.astype(str)))


@pytest.fixture(scope="module")
def models():
    return {"one": oracles.random_facechannel(seed=0).float(), "two": oracles.random_facechannel(seed=1).float()}


@pytest.fixture(scope="module")
def whole(models, faces):
    return attribute(models, faces, METHODS_USED, statistics=True)


# --- compression ------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", BOUND)
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e30])
def test_the_error_of_compression_is_measured_and_bounded(kept, scale):
    maps = (np.random.default_rng(0).standard_normal((3, 2, 8, 8)) * scale).astype(np.float32)
    maps[0, 0] = 0
    maps[1, 1, 2, 2] = np.nan
    found = compress(maps, kept)
    assert found["attribution"].dtype == kept
    back = found["attribution"].astype(np.float64) * found["attribution_scale"][..., None, None]
    assert np.isnan(back[1, 1]).all()  # whole, so that nobody takes a part of it for a map
    assert np.isnan(back).sum() == 64
    error, top = np.abs(back - maps).max((-2, -1)), np.abs(maps).max((-2, -1))
    np.testing.assert_allclose(found["attribution_error"], error, rtol=1e-3, atol=1e-7 * scale)
    good = ~np.isnan(top)
    assert (error[good] <= BOUND[kept] * (1 + 1e-5) * top[good]).all()
    assert error[0, 0] == 0
    assert (error[good][1:] > 0).all()


@pytest.mark.parametrize("kept", BOUND)
@pytest.mark.parametrize("out", [True, False])
def test_compressed_maps_read_as_float32(kept, out, models, faces, whole, tmp_path):
    found = attribute(models, faces, METHODS_USED, store=kept, out=tmp_path / "r.zarr" if out else None)
    maps, exact = found["attribution"], whole["attribution"]
    assert maps.dtype == np.float32
    error = np.abs(maps - exact).max(("y", "x"), skipna=False)
    np.testing.assert_allclose(found["attribution_error"], error, rtol=1e-3, atol=1e-9)
    top = np.abs(exact).max(("y", "x"), skipna=False)
    assert ((error <= BOUND[kept] * 1.0001 * top) | top.isnull()).all()
    np.testing.assert_array_equal(maps.isnull(), exact.isnull())
    for name in QUANTITIES:  # from before compression: the same bits
        np.testing.assert_array_equal(found[name], whole[name])
    assert maps.attrs["storage"] == kept


def test_any_part_of_compressed_maps_can_be_read(models, faces, tmp_path):
    found = attribute(models, faces, METHODS_USED, store="int8", out=tmp_path / "r.zarr")
    lazy, eager = found["attribution"], found["attribution"].copy(deep=True).load()
    for key in (
        {"model": 1}, {"sample": [5, 1, 60]}, {"sample": slice(60, 2, -7), "y": 3}, {"x": slice(2, 9), "y": [1, 0]},
        {"model": [1], "condition": 0, "method": 1, "target": [1, 0], "sample": 64, "y": 0, "x": 15},
    ):  # fmt: skip
        xr.testing.assert_equal(lazy.isel(key), eager.isel(key))
    xr.testing.assert_equal(open_results(tmp_path / "r.zarr")["attribution"], eager)


def test_compressed_maps_are_small_on_disk(models, faces, tmp_path):
    sizes = {}
    for kept in ("float32", "float16", "int8"):
        attribute(models, faces, "gradient", store=kept, statistics=False, out=tmp_path / kept)
        files = (tmp_path / kept / "attribution").rglob("*")
        sizes[kept] = sum(file.stat().st_size for file in files if file.is_file())
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]


def test_whole_maps_are_left_alone(whole):
    xr.testing.assert_identical(decoded(whole), whole)
    assert whole["attribution"].attrs["storage"] == "float32"


# --- statistics -------------------------------------------------------------------------------


def test_statistics_alone_serve_region_statistics_and_compare(models, faces, whole, tmp_path):
    alone = attribute(models, faces, METHODS_USED, maps=False, out=tmp_path / "r.zarr")
    assert "attribution" not in alone
    assert "y" not in alone.coords
    maps = whole[["prediction", "attribution"]]
    expected, found = (region_statistics(results, faces, draws=20) for results in (maps, alone))
    assert set(found.data_vars) == set(expected.data_vars)
    for name in expected.data_vars:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    a, b = {"model": "one", "condition": "masked"}, {"model": "two", "condition": "masked"}
    for quantity in ("share", "enrichment"):
        expected, found = (compare(r, faces, a, b, quantity=quantity, draws=50) for r in (maps, alone))
        np.testing.assert_allclose(found["difference"], expected["difference"], rtol=1e-4, atol=1e-6)
        expected, found = (compare_all(r, faces, quantity=quantity, draws=50) for r in (maps, alone))
        np.testing.assert_allclose(found["p"], expected["p"], atol=0.05)
    some = alone.isel(sample=slice(10, 30), model=[1])
    assert sample_statistics(some, faces.isel(sample=slice(10, 30)))["share"].sizes["sample"] == 20


def test_whole_maps_are_believed_before_what_is_stored(faces, whole):
    changed = whole.assign(attribution=whole["attribution"].roll(y=3))
    expected = sample_statistics(changed[["prediction", "attribution"]], faces)
    xr.testing.assert_identical(sample_statistics(changed, faces)["share"], expected["share"])
    cell = {"model": "one"}, {"model": "two"}
    one, other = (compare(r, faces, *cell, quantity="share", draws=20)["difference"] for r in (changed, whole))
    assert (one != other).any()


def test_stored_statistics_of_something_else_are_refused(models, faces):
    alone = attribute(models, faces, METHODS_USED, maps=False)
    moved = faces.assign(regions=faces["regions"].roll(sample=1))
    with pytest.raises(ContractError, match="of other regions"):
        region_statistics(alone, moved)
    apart = alone.sel(model=["one"]) - alone.sel(model=["two"]).assign_coords(model=["one"])
    with pytest.raises(ContractError, match="not those of single maps"):
        region_statistics(apart, faces)
    bare = attribute(models, faces, METHODS_USED, store="int8", statistics=False)
    with pytest.raises(ContractError, match="quantised"):
        region_statistics(bare, faces)


def test_every_combination_of_block_and_smooth_maps_scores_alike():
    rng = np.random.default_rng(3)
    cover = rng.random((4, 3, 32, 32))
    smooth = rng.standard_normal((4, 32, 32)).astype(np.float32)
    blocks = rng.integers(-2, 3, (4, 4, 4)).repeat(8, 1).repeat(8, 2).astype(np.float32)
    together = score_maps(np.stack([smooth, blocks, np.zeros_like(smooth)]), cover)
    for number, maps in enumerate((smooth, blocks)):
        slow = score_maps(maps.astype(np.float64) * (1 + 1e-300), cover)  # float64 takes the other way to sort
        for name in QUANTITIES:
            np.testing.assert_allclose(together[name][number], slow[name], rtol=1e-9, atol=1e-9)
    for sample in range(4):
        inside, m = cover[sample], np.abs(blocks[sample])
        wins = (m.ravel()[:, None] > m.ravel()) + 0.5 * (m.ravel()[:, None] == m.ravel())
        for region in range(3):
            c = inside[region].ravel()
            expected = c @ wins @ (1 - c) / (c.sum() * (1 - c).sum())
            assert together["auc"][1, sample, region] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(together["share"][2]).all()


def test_faces_whose_regions_leave_a_hole_are_refused_before_anything_is_written(models, faces, tmp_path):
    holed = faces.copy(deep=True)
    holed["regions"][:, :, 3, 3] = 0
    with pytest.raises(ContractError, match="leave a pixel uncovered"):
        attribute(models, holed, METHODS_USED, store="int8", out=tmp_path / "r.zarr")
    assert not (tmp_path / "r.zarr").exists()
    assert "share" not in attribute(models, holed, METHODS_USED)


# --- what a method records, and may ask -------------------------------------------------------


@pytest.fixture
def registered():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def test_what_a_method_records_is_a_variable(registered, models, faces, tmp_path):
    @method("total", signed=True, conserves=False, resolution=1, extras=("brightness",), units="grey")
    def total(batch):
        batch.record("brightness", batch.images.sum((1, 2, 3)).expand(len(batch.weights), -1))
        return batch.images[:, 0].expand(len(batch.weights), -1, -1, -1)

    for out in (None, tmp_path / "r.zarr"):
        results = attribute(models, faces, "gradient,total", out=out)
        found = results["brightness"].transpose("method", ...)
        assert found.dims == ("method", "model", "condition", "target", "sample")
        assert found.attrs["units"] == "grey"
        assert found[0].isnull().all()
        expected = (faces["image"].sum(("y", "x")) / 255).where(faces["status"] == "ok")
        np.testing.assert_allclose(found[1, 0, :, 1], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("extras", "recorded", "text"),
    [
        (("gain",), {}, "declares .*gain.*recorded"),
        ((), {"gain": (2, 1)}, "declares .*recorded .*gain"),
        (("gain",), {"gain": (1, 2, 3)}, "should be .target, sample."),
        (("share",), {"share": (2, 1)}, "may not record 'share'"),
    ],
)
def test_what_is_recorded_must_be_what_was_declared(registered, extras, recorded, text, models, faces):
    @method("odd", signed=True, conserves=False, resolution=1, extras=extras)
    def odd(batch):
        for name, shape in recorded.items():
            batch.record(name, torch.zeros(shape))
        return batch.images[:, 0].expand(len(batch.weights), -1, -1, -1)

    with pytest.raises(FcxError, match=text):
        attribute(models, faces, "odd")


def test_the_mean_face_and_the_regions_do_not_depend_on_the_batch(registered, models, faces):
    seen = []

    @method("asks", signed=True, conserves=False, resolution=1)
    def asks(batch):
        twin = batch.pictures("plain")
        seen.append((batch.condition, batch.names, batch.mean(), batch.mean("plain"), batch.alpha, twin))
        return (batch.regions[:, 2] + batch.mean()[0]).expand(len(batch.weights), -1, -1, -1)

    one, other = (attribute({"m": models["one"]}, faces, "asks", batch_size=size) for size in (1, 64))
    xr.testing.assert_allclose(one, other, rtol=1e-5)
    good = faces["status"].values == "ok"
    for condition, names, mean, plain, alpha, twin in seen:
        number = ["plain", "masked"].index(condition)
        expected = [faces["image"].values[n][good[n]].mean(0) / 255 for n in (number, 0)]
        np.testing.assert_allclose(mean[0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(plain[0], expected[1], rtol=1e-6)
        rows = faces.sel(sample=names)
        np.testing.assert_allclose(alpha, rows["alpha"].sel(condition="masked") / 255, rtol=1e-6)
        np.testing.assert_allclose(twin[:, 0], rows["image"].sel(condition="plain") / 255, rtol=1e-6)
    with pytest.raises(UnknownNameError, match="unknown condition 'masekd'"):
        FaceReader(faces).mean("masekd", nn.Identity())


# --- several processes ------------------------------------------------------------------------


def test_workers_compute_what_one_process_computes(models, faces):
    before = {name: tensor.data_ptr() for name, tensor in models["one"].state_dict().items()}
    found = attribute(models, faces, METHODS_USED, store="int8", workers=2)
    xr.testing.assert_equal(found, attribute(models, faces, METHODS_USED, store="int8"))
    assert before == {name: tensor.data_ptr() for name, tensor in models["one"].state_dict().items()}


def test_what_cannot_be_sent_to_workers_is_said(faces):
    class Local(nn.Module):
        def forward(self, images):
            return images.mean((2, 3)).expand(-1, 2)

    with pytest.raises(InputError, match=r"the models cannot be sent to worker processes.*workers=1"):
        attribute({"local": Local()}, faces, "gradient", workers=2)


def test_ranks_share_the_blocks_and_finish_for_each_other(models, faces, tmp_path, monkeypatch):
    whole, out = attribute(models, faces, METHODS_USED), tmp_path / "r.zarr"
    done = []
    write = Store.write

    def noted(self, values):
        model, condition, _, rows = values["prediction"][0]
        number = model * 4 + rows.start // 64 * 2 + condition
        done.append((threading.current_thread().name, number))
        write(self, values)

    monkeypatch.setattr(Store, "write", noted)
    found = {}

    def run(rank):
        found[rank] = attribute(models, faces, METHODS_USED, out=out, rank=rank, ranks=2)

    threads = [threading.Thread(target=run, args=(rank,), name=str(rank)) for rank in (1, 0)]  # the waiting one first
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in (0, 1):
        xr.testing.assert_equal(found[rank][["prediction", "attribution"]], whole[["prediction", "attribution"]])
    first = {name: next(block for who, block in done if who == name) for name in ("0", "1")}
    assert (first["0"] % 2, first["1"] % 2) == (0, 1)
    assert {block for _, block in done} == set(range(8))
    assert len(done) <= 8 + 2


def attribute_at_once(barrier, checkpoint, folder):
    faces = make_faces(70, seed=2, size=16)
    for number in range(2):
        barrier.wait()
        attribute(checkpoint, faces, METHODS_USED, out=folder / f"{number}.zarr", store="int8")


def test_equal_calls_at_once_share_the_work(models, tmp_path):
    save_model(models["one"], tmp_path / "one.safetensors", {"crop": "face"})
    at_once(attribute_at_once, str(tmp_path / "one.safetensors"), tmp_path)
    faces = make_faces(70, seed=2, size=16)
    expected = attribute(str(tmp_path / "one.safetensors"), faces, METHODS_USED, store="int8")
    for number in range(2):
        xr.testing.assert_equal(open_results(tmp_path / f"{number}.zarr"), expected)


def test_a_rank_alone_does_everything(models, faces, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = attribute(models, faces, METHODS_USED, out=tmp_path / "r.zarr")
    xr.testing.assert_equal(found["attribution"], attribute(models, faces, METHODS_USED)["attribution"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rank": 2, "ranks": 2}, "rank is 2; allowed: whole numbers from 0 to 1"),
        ({"rank": -1, "ranks": 2}, "rank is -1"),
        ({"rank": 0, "ranks": 2, "overwrite": True}, "cannot overwrite"),
        ({"workers": 0}, "workers is 0"),
        ({"store": "int4"}, "unknown store 'int4'"),
    ],
)
def test_wrong_arguments(options, text, models, faces, tmp_path):
    with pytest.raises(InputError, match=text):
        attribute(models, faces, METHODS_USED, out=tmp_path / "r.zarr", **options)


SCRIPT = """
import sys
from conftest import make_faces
from fcx.attribution import attribute
faces = make_faces(int(sys.argv[3]), seed=2, size=16)
attribute(sys.argv[1], faces, "gradient", out=sys.argv[2], store="int8", batch_size=4)
"""


def blocks_done(out):
    return len(list((out / "prediction").glob("[0-9]*"))) // 2  # of two targets


def wait_for_blocks(out, count, alive):
    end = time.monotonic() + 120
    while blocks_done(out) < count:
        assert time.monotonic() < end
        assert alive()
        time.sleep(0.02)


def test_killed_and_called_again_equals_uninterrupted(models, tmp_path):
    checkpoint, out, count = tmp_path / "one.safetensors", tmp_path / "r.zarr", 64 * 8
    save_model(models["one"], checkpoint, {"crop": "face"})
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, checkpoint, out, str(count)], env=environment)
    wait_for_blocks(out, 3, lambda: process.poll() is None)
    process.kill()
    process.wait()
    assert 3 <= blocks_done(out) < 16
    with pytest.raises(StoreError, match="unfinished"):
        open_results(out)
    faces = make_faces(count, seed=2, size=16)
    found = attribute(str(checkpoint), faces, "gradient", out=out, store="int8")
    xr.testing.assert_equal(found, attribute(str(checkpoint), faces, "gradient", store="int8"))


def test_a_worker_that_is_killed_while_it_starts_holds_nobody_up(models, tmp_path):
    faces, found = make_faces(64 * 3, seed=2, size=16), []
    few = {"one": models["one"]}

    def run():
        found.append(attribute(few, faces, "gradient", out=tmp_path / "r.zarr", store="int8", batch_size=4, workers=2))

    thread = threading.Thread(target=run)
    thread.start()
    while not (helpers := multiprocessing.active_children()):  # the other worker is this process
        assert thread.is_alive()
        time.sleep(0.002)
    helpers[0].kill()
    thread.join()
    xr.testing.assert_equal(found[0], attribute(few, faces, "gradient", store="int8", batch_size=4))


# --- results as values ------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_results_subtract_and_keep_units_and_provenance(kept, models, faces, tmp_path):
    results = attribute(models, faces, "gradcam,lrp", store=kept, out=tmp_path / "r.zarr")
    apart = results.sel(model="two") - results.sel(model="one")
    expected = results["attribution"].values[1] - results["attribution"].values[0]
    np.testing.assert_array_equal(apart["attribution"].values, expected)
    assert apart["attribution"].attrs["units"] == "output units"
    assert apart["prediction"].attrs["units"] == apart["bias"].attrs["units"] == "output units"
    for name in ("provenance", "checkpoints", "methods", "targets", "crop"):
        assert apart.attrs[name] == results.attrs[name]
    assert "attribution_error" not in apart.variables  # that of one side is not that of the difference
    for name in ("expression", "subject"):
        np.testing.assert_array_equal(apart[name], faces[name])
    twice = (results.sel(condition="masked") - results.sel(condition="plain")).mean("sample")
    assert twice["prediction"].attrs["units"] == "output units"


def test_units_say_when_methods_differ(registered, models, faces):
    @method("grey", signed=True, conserves=False, resolution=1, units="grey")
    def grey(batch):
        return batch.images[:, 0].expand(len(batch.weights), -1, -1, -1)

    assert attribute(models, faces, "grey")["attribution"].attrs["units"] == "grey"
    mixed = attribute(models, faces, "grey,gradcam")
    assert "see methods" in mixed["attribution"].attrs["units"]
    assert nested_attr(mixed, "methods")["grey"]["units"] == "grey"


def test_memory_holds_the_contract():
    with pytest.raises(ContractError, match="'prediction' is missing"):
        Memory({}, {}, {}, 0).finish()
