"""The explorer's numbers are the library's: payload, page, and what it refuses."""

import base64
import copy
import gzip
import json
import re
import warnings

import cv2
import numpy as np
import pytest
import torch
import xarray as xr
from conftest import make_faces

import fcx
from fcx import FaceChannel
from fcx.attribution.lrp_engine import Engine
from fcx.core.contract import CONDITIONS, TARGETS
from fcx.core.errors import ContractError, InputError, UnknownNameError
from fcx.explorer.answers import Answers
from fcx.explorer.drawn import inside
from fcx.explorer.exploring import METHODS as METHODS_ASKED, _call
from fcx.explorer.live import Live, mask_of
from fcx.explorer.packing import LEVELS, PARTS, POWER, SHOWN, eight_bits, from_eight_bits
from fcx.explorer.static import PIECES, ROOM, module_text, payload
from fcx.explorer.view import View
from fcx.networks.inference import PIECE
from fcx.statistics.overlays import OVERLAYS
from fcx.statistics.region_mass import region_cover

MODELS, METHODS = ["plain_scratch", "masked_scratch-2"], ["lrp_gamma", "gradcam"]


def results_of(faces, seed=0):
    """Return results of two models with maps of a few large values among many small ones."""
    rng = np.random.default_rng(seed)
    count = faces.sizes["sample"]
    maps = rng.normal(size=(2, 2, 2, 2, count, 64, 64)) ** 3
    dims = ("model", "condition", "method", "target", "sample", "y", "x")
    predictions = rng.uniform(-1, 1, (2, 2, 2, count))
    coords = {"model": MODELS, "condition": list(CONDITIONS), "method": METHODS, "target": list(TARGETS)}
    made = {
        "attribution": (dims, maps.astype("f4")),
        "prediction": (("model", "condition", "target", "sample"), predictions),
    }
    return xr.Dataset(made, coords, {"crop": "face"}).assign_coords(sample=faces["sample"].values)


@pytest.fixture(scope="module")
def pair():
    faces = make_faces(5)
    faces["status"][1, 3] = "no face was found"
    return faces, results_of(faces)


@pytest.fixture(scope="module")
def explorer(pair):
    return fcx.explore(*pair, sample="face2", draws=50)


def unpacked(header, data):
    """Return the arrays of a frame, as the page reads them."""
    sizes = {"model": 2, "condition": 2, "target": 2, "y": 64, "x": 64}
    sizes |= {"region": len(header["regions"]), "overlay": len(header["overlays"])}
    arrays, start = {}, 0
    for name, kind, dims in header["parts"]:
        shape = [sizes[dim] for dim in dims]
        arrays[name] = np.frombuffer(data, kind, int(np.prod(shape)), start).reshape(shape)
        start += arrays[name].nbytes
    assert start == len(data)
    return arrays


def test_the_payload_holds_what_the_results_hold(explorer, pair):
    faces, results = pair
    rows = [0, 2, 3]
    store = json.loads(json.dumps(payload(explorer.pack, rows, explorer.view)))
    header = store["header"]
    assert [face["id"] for face in header["faces"]] == ["face0", "face2", "face4"]  # face3 cannot be used
    assert header["count"] == 4
    statistics = fcx.region_statistics(results, faces, draws=50)
    cover = region_cover(faces, np.arange(5))
    for place, name in enumerate(["face0", "face2", "face4"]):
        for method in METHODS:
            frame = unpacked(header, gzip.decompress(base64.b64decode(store["frames"][method][place])))
            one = {"sample": name, "method": method}
            for quantity in SHOWN:
                assert np.array_equal(frame[quantity], statistics[quantity].sel(one).values.astype("f4"))
            maps = results["attribution"].sel(one).values
            kept = from_eight_bits(frame["map"], frame["top"])
            limit = POWER / (2 * LEVELS) * np.abs(maps).max((-2, -1), keepdims=True)
            assert (np.abs(kept - maps) <= limit * 1.001).all()
        own = cover[int(name[-1])]
        parts = len(own) - len(OVERLAYS)
        assert np.array_equal(frame["part"], own[:parts].argmax(0))
        assert np.array_equal(frame["overlay"], np.rint(255 * own[parts:]))
        assert header["prediction"][1][0][1][place] == pytest.approx(
            float(results["prediction"].sel(model=MODELS[1], condition="plain", target="valence", sample=name)),
            abs=1e-8,
        )
    for quantity in SHOWN:
        for end in ("mean", "low", "high"):
            assert np.allclose(header["means"][quantity][end], statistics[f"{quantity}_{end}"].values, rtol=1e-5)


def test_eight_bits_keep_shares_and_say_how_well(explorer, pair):
    faces, results = pair
    maps = results["attribution"].isel(sample=[0]).values.astype(float)
    shares = [
        np.abs(each) / np.abs(each).sum((-2, -1), keepdims=True) for each in (maps, from_eight_bits(*eight_bits(maps)))
    ]
    worst = np.abs(shares[0] - shares[1]).sum((-2, -1)).max() / 2
    assert explorer.pack.share_error([0]) == pytest.approx(worst, rel=1e-6)
    part = region_cover(faces, np.array([0]))[0, 3] > 0.5
    assert np.abs((shares[0] - shares[1])[..., part].sum(-1)).max() <= worst < 0.03
    zeros, broken = np.zeros((1, 4, 4)), np.full((1, 4, 4), np.nan)
    assert not from_eight_bits(*eight_bits(zeros)).any()
    assert np.isnan(from_eight_bits(*eight_bits(broken))).all()


def test_the_page_is_one_file_that_asks_for_nothing(explorer, tmp_path):
    page = explorer.write(tmp_path / "page.html", count=3).read_text()
    assert "default-src 'none'" in page
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"(src|href)=|@import|url\(http|fetch\(|XMLHttp", page)
    assert "</script" not in module_text()
    store = json.loads(re.search(r'application/json">(.*?)</script>', page, re.S)[1])
    names = [face["id"] for face in store["header"]["faces"]]
    assert len(names) == 3
    assert "face2" in names  # the one that is shown first
    assert explorer.html(3) in page
    assert page == explorer.write(tmp_path / "again.html", count=3).read_text()


def test_every_piece_of_the_page_is_in_its_module():
    assert sorted(PIECES) == sorted(path.stem for path in (ROOM / "page").iterdir())
    text = module_text()
    for name in re.findall(r"\b(with[A-Z]\w+) =", text):
        assert re.search(rf"^const PARTS = .*\b{name}\b", text, re.M)  # else its methods would be missing


def test_names_of_files_are_no_markup(pair, tmp_path):
    faces, results = pair
    hostile = "</script><img src=x onerror=alert(1)>.jpg"
    names = [hostile, *faces["sample"].values[1:]]
    page = fcx.explore(faces.assign_coords(sample=names), results.assign_coords(sample=names), draws=5)
    text = page.write(tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert (
        json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])["header"]["view"]["sample"] == hostile
    )


def test_the_view_is_checked(pair):
    faces, results = pair
    with pytest.raises(UnknownNameError, match="did you mean 'plain_scratch'"):
        fcx.explore(faces, results, draws=5, networks="plain_scrach")
    with pytest.raises(UnknownNameError, match="unknown option of explore 'metod': did you mean 'method'"):
        fcx.explore(faces, results, metod="lrp_gamma")
    with pytest.raises(UnknownNameError, match="unknown face 'face3'"):
        fcx.explore(faces, results, draws=5, sample="face3")
    with pytest.raises(InputError, match="one, or two that differ"):
        fcx.explore(faces, results, draws=5, networks=[MODELS[0]] * 2)
    with pytest.raises(InputError, match="at least three grid points"):
        fcx.explore(faces, results, draws=5, region=[[1, 2], [3, 4]])
    view = fcx.explore(faces, results, draws=5, region=[[1, 2], [3, 4], [5.04, 0]], networks=MODELS[1]).view
    assert (view.region, view.networks) == ([[1, 2], [3, 4], [5, 0]], [MODELS[1]])
    with pytest.raises(UnknownNameError, match="unknown option of a moved mask 'scael': did you mean 'scale'"):
        fcx.explore(faces, results, draws=5, mask={"scael": 1})
    with pytest.raises(InputError, match="allowed: #rrggbb"):
        fcx.explore(faces, results, draws=5, mask={"colour": "black"})
    moved = fcx.explore(faces, results, draws=5, mask={"colour": "#00ff00", "shift": "0,-1", "scale": 1})
    assert list(moved.view.mask.items()) == [("scale", 1), ("shift", [0, -1]), ("colour", "#00ff00")]
    assert payload(moved.pack, [0], moved.view)["header"]["view"]["mask"] is None  # a page moves none


def test_what_cannot_be_explored_is_said(pair):
    faces, results = pair
    with pytest.raises(ContractError, match="hold no maps"):
        fcx.explore(faces, results[["prediction"]])
    bad = faces.assign(status=(("condition", "sample"), np.full((2, 5), "no face was found")))
    with pytest.raises(InputError, match="no face is usable"):
        fcx.explore(bad, results)
    with pytest.raises(ContractError, match="same samples"):
        fcx.explore(faces, results.isel(sample=[0, 1]))


def test_parts_are_in_an_order_that_numbers_can_be_read_in():
    """Numbers of four bytes come first: a typed array cannot start between two of them."""
    kinds = [kind for kind, _ in PARTS.values()]
    assert kinds == sorted(kinds, key=lambda kind: -int(kind[-1]))


@pytest.fixture(scope="module")
def live(demo):
    """Two small networks asked about four demo faces, and what answers for them."""
    torch.manual_seed(0)
    models = {name: FaceChannel.preset("v1", width=8, hidden=8).eval() for name in ("one", "two")}
    faces = demo.isel(sample=slice(4))
    results = fcx.attribute(models, faces, ["gradient", "region_ablation"])
    with warnings.catch_warnings(action="ignore"):
        explorer = fcx.explore(faces, results, models=models, draws=2)
    return Answers(explorer.pack, Live(explorer.pack, models))


@pytest.mark.parametrize("method", ["gradient", "region_ablation"])
def test_at_rest_the_mask_of_the_store_gives_what_the_store_holds(live, method):
    pack, networks = live.pack, ["two", "one"]
    for row in (0, 2):
        answer = live.live.ask(row, live.live.stored, networks, method)
        one = {"model": networks, "method": method, "condition": "masked"}
        stored = pack.results["attribution"].sel(one).isel(sample=row)
        assert answer.exact
        assert np.array_equal(answer.maps, stored.transpose("model", "target", "y", "x"))
        at = pack.results["prediction"].sel(model=networks, condition="masked").isel(sample=row)
        assert np.array_equal(answer.prediction, at.transpose("model", "target"))
        for name in SHOWN:
            kept = pack.statistics[name].sel(one).isel(sample=row).transpose("model", "target", "region")
            assert np.array_equal(answer.scores[name], kept, equal_nan=True)
    question = {"kind": "wear", "sample": pack.samples[0], "networks": networks, "method": method, "mask": {}}
    words, parts = live.answer({**question, "number": 1, "exact": True})
    assert words["apart"] == 0
    assert len(parts) == 2
    moving, _ = live.answer({**question, "exact": False})
    assert np.allclose(moving["prediction"], words["prediction"], atol=1e-6)


def test_while_a_slider_moves_a_network_sees_one_face_alone(live, monkeypatch):
    """A pass of eight takes five times as long: seven of them nobody looks at."""
    seen, tape = [], Engine.tape
    monkeypatch.setattr(Engine, "tape", lambda engine, images: seen.append(len(images)) or tape(engine, images))
    moving, resting = (live.live.ask(1, live.live.stored, ["one"], "gradient", exact) for exact in (False, True))
    assert seen == [1, PIECE]
    assert np.allclose(moving.prediction, resting.prediction, rtol=0, atol=1e-6)
    assert np.allclose(moving.maps, resting.maps, rtol=0, atol=1e-5 * np.abs(resting.maps).max())


def test_a_moved_mask_is_worn_as_prepare_wears_it(live):
    moved = live.live.ask(1, mask_of({"scale": 1.2, "shift": [0.5, -1.0]}, live.live.stored), ["one"], "gradient")
    again = fcx.prepare("demo", limit=2, progress=False, scale=1.2, shift=(0.5, -1.0)).isel(sample=1)
    assert np.array_equal(moved.image, again["image"].sel(condition="masked"))
    assert np.array_equal(moved.alpha, again["alpha"].sel(condition="masked"))
    assert np.allclose(moved.cover[live.pack.regions.index("mask")], again["alpha"].sel(condition="masked") / 255)
    with pytest.raises(InputError, match="scale is 9"):
        live.answer({"kind": "wear", "sample": live.pack.samples[0], "networks": ["one"], "method": "gradient",
                     "mask": {"scale": 9}, "exact": True})  # fmt: skip


def test_without_its_source_a_face_is_a_preview_and_says_so(live):
    pack = copy.copy(live.pack)
    pack.faces = pack.faces.assign_attrs(source="/nowhere/faces.csv")
    gone = Live(pack, live.live.models)
    answer = gone.ask(0, gone.stored, ["one"], "gradient")
    assert not answer.exact
    near = np.abs(answer.image.astype(int) - pack.faces["image"].sel(condition="masked").isel(sample=0).values)
    assert 0 < near.mean() < 8
    assert Answers(pack, gone).answer({"kind": "wear", "sample": pack.samples[0], "networks": ["one"],
                                       "method": "gradient", "mask": {}, "exact": True})[0]["preview"]  # fmt: skip


def test_a_mask_cannot_be_moved_without_the_networks(pair, live):
    assert "is another than the one that made" in Live(fcx.explore(*pair, draws=2).pack, None).choices()["why"]
    other = {**live.live.models, "one": live.live.models["two"]}
    with pytest.raises(InputError, match="another than the one that made the results"):
        Live(live.pack, other)


def test_a_drawn_region_has_what_lies_in_it(live):
    points, pack = [[10.0, 12.5], [50.0, 12.5], [50.0, 40.2], [10.0, 40.2]], live.pack
    part = np.zeros((64, 64), bool)
    part[13:41, 10:50] = True
    assert np.array_equal(inside(points, (64, 64)), part)
    words, _ = live.answer({"kind": "region", "networks": ["one"], "method": "gradient", "target": "valence",
                            "sample": pack.samples[2], "region": points})  # fmt: skip
    maps = pack.results["attribution"].sel({"model": "one", "method": "gradient", "target": "valence"}).values
    for condition, row in enumerate(words["rows"]):
        masses = np.abs(maps[condition][:, part]).sum(-1)
        shares = masses / np.abs(maps[condition]).sum((-2, -1))
        assert row["mass"] == pytest.approx(masses[2], rel=1e-6)
        assert row["share"] == pytest.approx(shares[2], rel=1e-6)
        assert row["mean"]["share"] == pytest.approx(shares.mean(), rel=1e-6)
    assert words["count"] == 4


def test_questions_are_frames_sprites_or_refused(live):
    _, (frame, plain, masked) = live.answer({"kind": "frame", "number": 4, "face": 1, "method": "gradient"})
    assert frame == live.pack.frame(1, "gradient")
    _, (sprite,) = live.answer({"kind": "sprite"})
    sizes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in (plain, masked, sprite)]
    assert sizes == [(192, 192, 3), (192, 192, 3), (112, 112, 3)]
    with pytest.raises(UnknownNameError, match="unknown question 'answer'"):
        live.answer({"kind": "answer"})


def test_the_widget_answers_and_sends_errors_to_the_page(live):
    widget = pytest.importorskip("fcx.explorer.widget").ExplorerWidget(live, {"models": []}, View())
    sent = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._hear(None, {"kind": "frame", "number": 7, "face": 0, "method": "gradient"}, [])
    widget._hear(None, {"kind": "frame", "number": 8, "face": 99, "method": "gradient"}, [])
    assert sent[0][0] == {"number": 7}
    assert sent[0][1][0] == live.pack.frame(0, "gradient")
    assert sent[1][0]["number"] == 8
    assert "error" in sent[1][0]
    widget.view = {"sample": live.pack.samples[1], "networks": "two"}
    assert widget.view["networks"] == ["two"]
    assert widget.view["method"] == "gradient"  # what is left out is the first there is
    with pytest.raises(UnknownNameError, match="unknown network 'tow': did you mean 'two'"):
        widget.view = {"networks": "tow"}
    widget.close()


def test_the_line_of_python_calls_things_as_the_notebook_does(pair, monkeypatch):
    assert fcx.explore(*pair, draws=50).pack.call == "faces, results"
    shell = type("Shell", (), {"user_ns": {"_1": pair[0], "faces": "demo", "data": pair[0], "maps": pair[1]}})()
    monkeypatch.setattr("fcx.explorer.exploring._shell", lambda: shell)
    explorer = fcx.explore(*pair, draws=50, models=None)
    assert explorer.pack.call == payload(explorer.pack, [0], explorer.view)["header"]["call"] == "data, maps"
    assert _call(pair[0], 'a"b', models=None, methods="lrp_gamma", targets=["valence"]) == (
        'data, "a\\"b", methods="lrp_gamma", targets=["valence"]'
    )
    assert _call(pair[0], None, models=None, methods=METHODS_ASKED, targets=None) == "data"


def test_without_a_kernel_a_notebook_shows_the_page(explorer):
    shown = explorer._repr_mimebundle_()
    assert set(shown) == {"text/html", "text/plain"}
    assert "application/json" in shown["text/html"]
