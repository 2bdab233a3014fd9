"""Figures: what they carry equals what they were given, one scale for all maps, nothing unescaped."""

import base64
import json

import cv2
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import make_faces

import fcx
from fcx import figures
from fcx.attribution import METHODS as ATTRIBUTION, Method
from fcx.core.contract import FAMILIES
from fcx.core.errors import InputError, UnknownNameError
from fcx.figures.agreement_charts import differences
from fcx.figures.findings import _verdict, _within
from fcx.figures.montage import heat
from fcx.figures.tables import MIME, html_table
from fcx.figures.theme import CONFIG, SYMBOLS, looks
from fcx.figures.wording import plain_name
from fcx.statistics.agreement import evaluate
from fcx.statistics.comparison import compare_all
from fcx.statistics.region_mass import region_statistics, shift_null

MODELS = ("plain_scratch", "masked_scratch", "<i>mine</i>")
METHODS = ("lrp", "gradcam")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def faces():
    return make_faces(12)


@pytest.fixture(scope="module")
def results(faces):
    rng = np.random.default_rng(1)
    truth = np.stack([faces["arousal"], faces["valence"]])
    prediction = 0.5 * truth + rng.normal(0, 0.2, (len(MODELS), 2, 2, 12))
    prediction[1, 1] -= 0.8  # masked_scratch, masked: a clear difference
    maps = rng.normal(size=(len(MODELS), 2, len(METHODS), 2, 12, 64, 64)).astype("f4")
    maps[:, :, 1] = np.abs(maps[:, :, 1])
    maps[2, :, 0] *= 50  # the one model that sets the scale
    return xr.Dataset(
        {
            "prediction": (("model", "condition", "target", "sample"), prediction.astype("f4")),
            "attribution": (("model", "condition", "method", "target", "sample", "y", "x"), maps),
        },
        coords={
            "model": list(MODELS),
            "condition": ["plain", "masked"],
            "method": list(METHODS),
            "target": ["arousal", "valence"],
            "sample": faces["sample"].values,
        },
        attrs={
            "crop": "face",
            "methods": {
                "lrp": {"signed": True, "conserves": True, "resolution": 1, "title": "LRP z+"},
                "gradcam": {"title": "Grad-CAM"},
            },
        },
    )


@pytest.fixture(scope="module")
def numbers(faces, results):
    statistics = region_statistics(results, faces, draws=100)
    return {
        "evaluation": evaluate(results, faces, draws=100),
        "comparisons": compare_all(results, faces, draws=200),
        "statistics": statistics,
        "shifts": compare_all(statistics, faces, quantity="enrichment", draws=100),
    }


FIGURES = {
    "faces": lambda f, r, n: figures.mask_gallery(f, count=4),
    "regions": lambda f, r, n: figures.region_overlay(f, count=4),
    "mask_area": lambda f, r, n: figures.mask_area_chart(f),
    "saliency_lrp_valence": lambda f, r, n: figures.saliency_panel(f, r, method="lrp", target="valence", count=3),
    "saliency_gradcam_arousal": lambda f, r, n: figures.saliency_panel(f, r, method="gradcam", target="arousal"),
    "ccc": lambda f, r, n: figures.ccc_chart(n["evaluation"]),
    "within_ccc": lambda f, r, n: figures.ccc_chart(n["evaluation"], scope="within_"),
    "differences_condition": lambda f, r, n: figures.difference_chart(n["comparisons"], between="condition"),
    "differences_model": lambda f, r, n: figures.difference_chart(n["comparisons"], between="model"),
    "scatter_valence": lambda f, r, n: figures.prediction_scatter(r, f, target="valence"),
    "enrichment_lrp": lambda f, r, n: figures.region_chart(n["statistics"], method="lrp"),
    "share_gradcam": lambda f, r, n: figures.region_chart(n["statistics"], method="gradcam", quantity="share"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_carries_text_table_and_configuration(name, faces, results, numbers):
    figure = FIGURES[name](faces, results, numbers)
    assert figure.meta["name"] == name
    assert figure.meta["alt"].startswith(figure.meta["title"])
    assert len(figure.meta["alt"]) > 60
    assert figure.meta["reading"] in figure.meta["alt"]
    assert len(figure.table) >= 2
    assert figure.layout.title.text.replace("<br>", " ") == figure.meta["title"]
    if width := figure.layout.width:
        assert max(map(len, figure.layout.title.text.split("<br>"))) <= max(20, (width - 90) / 10.5)
    bundle = figure._repr_mimebundle_()
    shown = bundle["application/vnd.plotly.v1+json"]
    assert shown["config"] == CONFIG
    assert bundle["text/plain"] == figure.meta["alt"]
    shown["layout"].pop("meta")
    assert "<i>mine" not in json.dumps(shown)  # a name that a user gave is never mark-up


def test_cards_have_small_pictures_of_faces_and_maps(faces, results):
    for card in (figures.masks_picture(faces), figures.maps_picture(faces, results, method="lrp", target="valence")):
        assert card.svg.startswith('<img alt="" style="width:100%" src="data:image/webp;base64,')
        assert len(card.svg) < 100_000  # of noise; faces take a tenth
        assert set(card.table["face"]) <= set(faces["sample"].values)


def test_every_picture_is_in_the_figure_and_decodes(faces, results):
    figure = figures.saliency_panel(faces, results, method="lrp", target="valence", count=3)
    [image] = figure.layout.images
    head, data = image.source.split(",")
    assert head == "data:image/webp;base64"
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[:2] == (image.sizey, image.sizex)


def test_all_maps_share_one_scale_that_is_symmetric_where_signed(faces, results):
    samples = list(faces["sample"].values[:3])
    figure = figures.saliency_panel(faces, results, method="lrp", target="valence", samples=samples)
    [bar] = [trace.marker for trace in figure.data if trace.marker.showscale]
    shown = results["attribution"].sel({"method": "lrp", "target": "valence", "sample": samples})
    assert bar.cmin == -bar.cmax
    assert bar.cmax == pytest.approx(np.quantile(np.abs(shown.values), 0.995))
    unsigned = figures.saliency_panel(faces, results, method="gradcam", target="valence", samples=samples)
    [bar] = [trace.marker for trace in unsigned.data if trace.marker.showscale]
    assert bar.cmin == 0


def test_a_map_is_painted_by_the_shared_limit_and_leaves_the_face_visible():
    tile = np.full((116, 116, 3), 90, np.uint8)
    zero, full = np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)
    bare = heat(tile, zero, 1.0, signed=True)
    assert np.ptp(bare) == 0  # no map, no colour: the grey face
    red, blue = (heat(tile, sign * full, 1.0, signed=True)[0, 0].astype(int) for sign in (1, -1))
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    weak = heat(tile, 0.1 * full, 1.0, signed=True)[0, 0].astype(int)
    assert abs(weak - bare[0, 0]).max() < abs(red - bare[0, 0]).max() / 2
    assert (heat(tile, 5 * full, 1.0, signed=True) == heat(tile, full, 1.0, signed=True)).all()


def test_a_map_in_blocks_is_drawn_smooth_and_any_other_as_it_is():
    tile = np.zeros((116, 116, 3), np.uint8)
    blocks = np.zeros((64, 64), np.float32)
    blocks[24:32, 24:32] = 1
    spot = blocks.copy()
    spot[0, 0] = 1e-6  # no longer constant in blocks
    smooth, sharp = (np.unique(heat(tile, m, 1.0, signed=False)[:, 50, 0]).size for m in (blocks, spot))
    assert smooth > 3 * sharp


def test_tables_equal_what_was_given(faces, results, numbers):
    row = figures.ccc_chart(numbers["evaluation"]).table.set_index(["target", "model", "condition"])
    key = {"target": "valence", "model": "masked_scratch", "condition": "masked"}
    for name in ("ccc", "ccc_low", "ccc_high"):
        assert row.loc[tuple(key.values()), name] == float(numbers["evaluation"][name].sel(key))
    assert row.loc[("arousal", "plain_scratch", "plain"), "paper"] == 0.46
    assert np.isnan(row.loc[("arousal", "<i>mine</i>", "plain"), "paper"])  # the paper has no such model
    table = figures.region_chart(numbers["statistics"], method="lrp").table
    one = table[(table.target == "arousal") & (table.model == MODELS[0]) & (table.condition == "masked")]
    expected = numbers["statistics"]["enrichment_mean"].sel(
        {"method": "lrp", "target": "arousal", "model": MODELS[0], "condition": "masked"}
    )
    assert one["mean"].tolist() == expected.values.tolist()
    assert one["region"].tolist() == expected["region"].values.tolist()
    samples = [str(s) for s in faces["sample"].values[:2]]
    panel = figures.saliency_panel(faces, results, method="lrp", target="arousal", samples=samples).table
    sums = results["attribution"].sel({"method": "lrp", "target": "arousal", "sample": samples}).sum(("y", "x"))
    column = panel["sum of map, plain_scratch, masked"].tolist()
    assert column == pytest.approx(sums.sel(model="plain_scratch", condition="masked").values.tolist(), rel=1e-4)


def test_places_are_those_that_no_shifted_map_has(faces, results):
    null = shift_null(results, faces)
    frame = figures.place_table(null, target="valence").frame
    valence = null.sel(target="valence")
    outside = (valence["enrichment"] < valence["low"]) | (valence["enrichment"] > valence["high"])
    assert len(frame) == int(outside.sum())
    for row in frame.itertuples():
        method = next(name for name in METHODS if ATTRIBUTION[name].title == row.method)
        cell = valence.sel({"method": method, "model": row.model, "condition": row.condition, "region": row.region})
        assert row.enrichment == float(cell["enrichment"])
    with pytest.raises(UnknownNameError, match="unknown target 'joy'"):
        figures.place_table(null, target="joy")


def test_inhibition_has_a_row_for_each_model_that_has_one(faces):
    names = ("model", "condition", "target", "sample", "region")
    values = np.random.default_rng(0).random((2, 2, 2, 6, 3))
    values[1] = np.nan  # a model without inhibition
    coords = {"model": ["m", "n"], "condition": ["plain", "masked"], "target": ["arousal", "valence"],
              "region": ["mouth", "eyes", "mask"]}  # fmt: skip
    frame = figures.inhibition_table(xr.DataArray(values, coords, names), target="valence").frame
    assert frame.columns.tolist() == ["model", "condition", "mouth", "eyes", "mask"]
    masked = frame.set_index(["model", "condition"]).loc[("m", "masked")]
    np.testing.assert_array_equal(masked, np.median(values[0, 1, 1], 0))
    assert set(frame["model"]) == {"m"}


def test_the_papers_table_is_table_3():
    valence = {m: (c["plain"]["valence"], c["masked"]["valence"]) for m, c in figures.TABLE3.items()}
    assert valence == {"plain_scratch": (0.61, 0.16), "masked_scratch": (0.33, 0.48),
                       "masked_last_conv": (0.39, 0.43), "masked_all_layers": (0.45, 0.53)}  # fmt: skip
    arousal = {m: (c["plain"]["arousal"], c["masked"]["arousal"]) for m, c in figures.TABLE3.items()}
    assert arousal == {"plain_scratch": (0.46, 0.18), "masked_scratch": (0.25, 0.43),
                       "masked_last_conv": (0.34, 0.33), "masked_all_layers": (0.38, 0.45)}  # fmt: skip


def test_every_method_has_a_name_for_people():
    assert [name for name, method in ATTRIBUTION.items() if method.title in ("", name)] == []


def test_a_method_of_ones_own_is_called_by_its_title_in_figures_tables_and_findings(monkeypatch):
    toy = Method("toy_map", lambda batch: batch.images[None, :, 0].repeat(2, 1, 1, 1), {}, signed=False,
                 conserves=False, resolution=1, title="Toy <map>", shows="the grey that {} reads")  # fmt: skip
    monkeypatch.setitem(ATTRIBUTION, "toy_map", toy)
    faces = make_faces(4)
    model = fcx.FaceChannel.preset("paper", width=8, hidden=8).eval()
    results = fcx.attribute({"m": model}, faces, "toy_map")
    panel = figures.saliency_panel(faces, results, method="toy_map", target="valence")
    assert panel.meta["title"] == "Toy &lt;map&gt;: the grey that valence reads, by model, plain and masked"
    assert figures.method_table(results).frame["method"].tolist() == ["Toy <map>"]
    statistics = region_statistics(results, faces, draws=20)
    assert figures.region_chart(statistics, method="toy_map").meta["title"].startswith("Toy &lt;map&gt;: ")
    shifts = compare_all(statistics, faces, quantity="enrichment", draws=20)
    assert "Toy <map>" in " ".join(figures.attention_findings(shifts, statistics).items[0])


def test_colours_are_backed_by_symbols():
    style = looks([f"m{i}" for i in range(8)])
    assert len({colour for colour, _ in style.values()}) == 8
    assert len({symbol for _, symbol in style.values()}) == len(SYMBOLS) - 1
    assert len(set(looks(range(60)).values())) == 60
    alone, beside = looks(["masked_scratch"]), looks(["mine", "masked_scratch", "plain_scratch"])
    assert alone["masked_scratch"] == beside["masked_scratch"] != beside["mine"]
    assert len(set(looks([*map(str, range(60)), *FAMILIES]).values())) == 64
    theirs, four = set(looks(FAMILIES).values()), looks(["mini_xception", "mine", *FAMILIES])
    assert not theirs & set(looks(["mini_xception", *map(str, range(50))]).values())  # alone in a chart, too
    assert looks(["mini_xception"])["mini_xception"] == four["mini_xception"]
    assert four["mine"][0] not in {colour for colour, _ in theirs}


def test_differences_are_masked_minus_plain(numbers, results, faces):
    rows = differences(numbers["comparisons"], "condition")
    row = rows[(rows.model == "masked_scratch") & (rows.target == "valence")].iloc[0]
    ccc = numbers["evaluation"]["ccc"].sel(model="masked_scratch", target="valence")
    expected = float(ccc.sel(condition="masked") - ccc.sel(condition="plain"))
    assert row.difference == pytest.approx(expected)
    assert expected < -0.1


def test_findings_follow_sign_and_interval(faces, numbers):
    said = figures.comparison_findings(faces, numbers["evaluation"], numbers["comparisons"]).items
    rows = differences(numbers["comparisons"], "condition").set_index(["target", "model"])
    for target in ("arousal", "valence"):
        [statement] = [s for s, _ in said if s.startswith(f"{target.capitalize()}, 12 faces: from plain to masked")]
        row = rows.loc[(target, "masked_scratch")]
        assert row.high < 0
        lower = statement.split("lower")[1].split(";")[0]
        assert "masked scratch" in lower
        for model in ("plain_scratch", "<i>mine</i>"):
            row = rows.loc[(target, model)]
            if row.low < 0 < row.high:
                assert plain_name(model) in statement.split("not clearly different for")[1].split(";")[0]


def test_findings_say_on_how_many_faces_and_how_surely(faces, results):
    unrated = faces.copy(deep=True)
    unrated["valence"][:2], unrated["arousal"][:3] = np.nan, np.nan
    statistics = region_statistics(results, unrated, draws=100)
    evaluation = evaluate(results, unrated, draws=100)
    comparisons = compare_all(results, unrated, draws=100)
    findings = figures.comparison_findings(unrated, evaluation, comparisons).items
    assert "9 to 10 of them carry labels" in findings[0].numbers
    assert "of 6 people; intervals from fewer than 20" in findings[0].numbers
    for statement, _ in findings[1:]:
        rated = {"Arousal": "9", "Valence": "10"}[statement.split(",")[0]]
        assert f", {rated} faces: " in statement
    [within] = [s for s, _ in findings if s.startswith("Valence") and "within expression" in s]
    lowest = evaluation.sel(target="valence").stack(cell=("model", "condition"))
    lowest = lowest.isel(cell=int(lowest["within_ccc"].values.argmin()))
    value, low, high = (f"{float(lowest[f'within_ccc{end}']):.2f}" for end in ("", "_low", "_high"))
    assert f"lies between {value} [{low}, {high}] and ".replace("-0.00", "0.00") in within
    one = evaluation.isel(model=[0], condition=[0])
    assert "the CCC lies at " in _within(one, "valence")[0].statement
    for figure in (figures.ccc_chart(evaluation), figures.difference_chart(comparisons, between="model")):
        assert "on 9 to 10 faces" in figure.meta["reading"]
    assert "over 12 faces" in figures.region_chart(statistics, method="lrp").meta["reading"]


def test_a_clear_difference_that_correction_takes_back_is_not_called_clear():
    rows = pd.DataFrame({"low": [0.1, 0.1, -0.1], "high": [0.3, 0.3, 0.3], "p_holm": [0.01, 0.2, 1.0]})
    verdicts = [_verdict(row) for row in rows.itertuples()]
    assert verdicts[0] == "higher"
    assert "not after correction" in verdicts[1]
    assert verdicts[2] == "not clearly different"


def test_coverage_counts_pairs_and_names_reasons():
    faces = make_faces(6)
    faces["status"] = faces["status"].astype("U40")
    faces["status"][:, 0] = "no face was found"
    faces["status"][1, 1] = f"a mask {HOSTILE}"
    table = figures.coverage_table(faces)
    total = table.frame.set_index("group").loc["all"]
    assert (total["given"], total["usable plain"], total["usable masked"], total["usable, paired"]) == (6, 5, 4, 4)
    assert total["coverage %"] == pytest.approx(400 / 6)
    assert "no face was found: 1" in total["reasons"]
    assert HOSTILE not in table._repr_mimebundle_()["text/html"]


def test_the_methods_table_measures_sums_and_empty_maps(results):
    changed = results.copy(deep=True)
    changed["attribution"][:, :, 1] = 0
    changed["attribution"][:, :, 0] = 0
    changed["attribution"][:, :, 0, ..., 3, 3] = changed["prediction"]
    frame = figures.method_table(changed).frame.set_index("method")
    assert frame.loc["LRP z+", "median |sum of map - prediction|"] == pytest.approx(0, abs=1e-6)
    assert frame.loc["LRP z+", "empty maps %"] == 0
    assert frame.loc["Grad-CAM", "empty maps %"] == 100


def test_provenance_holds_parameters_and_what_the_stores_say(faces, results):
    shown = figures.provenance_table(faces, results.assign_attrs(checkpoints='{"a": "b"}'), draws=7)
    assert shown.facts["parameters"] == {"draws": 7}
    assert shown.facts["faces"] == {"crop": "face"}
    assert shown.facts["results"]["checkpoints"] == {"a": "b"}
    assert "numpy" in shown.facts["versions"]
    made = {"step": "prepare", "versions": shown.facts["versions"], "commit": "a"}
    marked = figures.provenance_table(faces.assign_attrs(provenance=made))
    assert marked.facts["faces"]["provenance"] == {"step": "prepare", "commit": "a"}  # the same versions once
    assert json.loads(json.dumps(shown._repr_mimebundle_()[MIME]["facts"])) == shown.facts


def test_names_and_numbers_of_a_table_are_safe_and_readable():
    text = html_table({HOSTILE: [HOSTILE, 0.123456, 7, None]}, HOSTILE)
    assert "<img" not in text
    assert text.count("&lt;img") == 4  # the label of the frame too
    assert '<td class="n">0.123</td>' in text
    assert '<td class="n">7</td>' in text
    empty = figures.Table("none", "Every row", pd.DataFrame({"a": []}), folded=True)._repr_mimebundle_()["text/html"]
    assert empty == "<p>Every row: nothing to list.</p>"


def test_faces_are_picked_by_name_or_one_of_each_expression(faces):
    assert figures.choose_faces(faces, 4) == ["face0", "face1", "face2", "face3"]
    panel = figures.mask_gallery(faces, "face3, face1")
    assert panel.table["face"].tolist() == ["face3", "face1"]
    with pytest.raises(UnknownNameError, match="did you mean 'face1'"):
        figures.mask_gallery(faces, ["faec1"])


def test_what_cannot_be_drawn_is_refused(faces, results, numbers):
    with pytest.raises(UnknownNameError, match="unknown method"):
        figures.saliency_panel(faces, results, method="lpr", target="valence")
    with pytest.raises(UnknownNameError, match="unknown quantity"):
        figures.region_chart(numbers["statistics"], method="lrp", quantity="enrichmnt")
    broken = make_faces(3)
    broken["status"] = broken["status"].copy(data=np.full((2, 3), "no face was found"))
    with pytest.raises(InputError, match="no face is usable"):
        figures.mask_gallery(broken)


def test_hostile_names_are_escaped_everywhere(results, numbers):
    faces = make_faces(12).assign_coords(expression=("sample", [HOSTILE] * 12))
    for figure in (figures.mask_gallery(faces), figures.prediction_scatter(results, faces, target="valence"),
                   figures.saliency_panel(faces, results, method="lrp", target="valence"),
                   figures.mask_area_chart(faces)):  # fmt: skip
        drawn = figure.to_plotly_json()
        drawn["layout"].pop("meta")
        assert "<img" not in json.dumps(drawn, default=str)
