"""What figures draw and findings say, read back from traces, positions and pixels, for numbers made by hand."""

import base64
import html

import cv2
import numpy as np
import pytest
import xarray as xr
from conftest import make_faces
from PIL import ImageDraw

from fcx import figures
from fcx.core.contract import CONDITIONS, REGIONS, TARGETS
from fcx.core.errors import UnknownNameError
from fcx.figures import agreement_charts
from fcx.figures.montage import GAP, TILE
from fcx.figures.one_picture import photograph_panel
from fcx.figures.wording import plain_name, readable

MODELS = ("plain_scratch", "masked_scratch", "masked_last_conv", "my <own>")
METHODS = ("gradcam", "lrp")
TITLES = {"gradcam": {"title": "Grad-CAM"}, "lrp": {"title": "LRP z+"}}
PLACES = (*REGIONS, "mask")


def numbered(dims: dict, start: float, step: float) -> xr.DataArray:
    """Return an array in which every value differs from every other."""
    shape = [len(names) for names in dims.values()]
    values = start + step * np.arange(np.prod(shape)).reshape(shape)
    return xr.DataArray(values, {name: list(names) for name, names in dims.items()}, list(dims))


def pairs(rows, dims: dict) -> xr.Dataset:
    """Return a table of comparisons; a row is (model_a, condition_a, model_b, condition_b, cell -> six numbers)."""
    names = ("estimate_a", "estimate_b", "difference", "low", "high", "p_holm")
    coords = {name: list(values) for name, values in dims.items()}
    table = xr.Dataset(coords={"comparison": range(len(rows)), **coords})
    for at, name in enumerate(names):
        shape = (len(rows), *map(len, coords.values()))
        table[name] = (("comparison", *coords), np.full(shape, 9.0))  # a cell that is not given must not be read
        for number, (*_, cells) in enumerate(rows):
            for cell, numbers in cells.items():
                key = dict(zip(coords, cell if isinstance(cell, tuple) else (cell,), strict=True))
                table[name].loc[{"comparison": number, **key}] = numbers[at]
    table["p"] = table["p_holm"] * 0 + 0.001  # verdicts follow the corrected one
    sides = ("model_a", "condition_a", "model_b", "condition_b")
    return table.assign_coords({side: ("comparison", [row[i] for row in rows]) for i, side in enumerate(sides)})


@pytest.fixture(scope="module")
def evaluation():
    dims = {"model": MODELS, "condition": CONDITIONS, "target": TARGETS}
    ccc, within = numbered(dims, 0.1, 0.05), numbered(dims, -0.02, 0.01)
    made = {"ccc": ccc, "ccc_low": ccc - 0.03, "ccc_high": ccc + 0.02}
    made |= {"within_ccc": within, "within_ccc_low": within - 0.3, "within_ccc_high": within + 0.2}
    return xr.Dataset({**made, "n": ("target", [5, 6])}).assign(
        oracle_ccc=("target", [0.61, 0.74]),
        oracle_ccc_low=("target", [0.6, 0.7]),
        oracle_ccc_high=("target", [0.7, 0.8]),
    )


@pytest.fixture(scope="module")
def comparisons():
    plain, scratch, last, own = MODELS
    lower, higher = (0.4, 0.7, -0.3, -0.35, -0.26, 0.001), (0.7, 0.4, 0.3, 0.24, 0.35, 0.001)
    rows = [
        (plain, "masked", plain, "plain", {"arousal": (0.41, 0.72, -0.31, -0.35, -0.27, 0.001), "valence": lower}),
        (scratch, "masked", scratch, "plain", {"arousal": (0.52, 0.4, 0.12, 0.05, 0.2, 0.01), "valence": lower}),
        (last, "masked", last, "plain", {"arousal": (0.49, 0.5, -0.01, -0.05, 0.04, 1.0), "valence": lower}),
        (own, "masked", own, "plain", {"arousal": (0.26, 0.3, -0.04, -0.08, -0.01, 0.2), "valence": lower}),
        (scratch, "plain", plain, "plain", {"arousal": (0.4, 0.72, -0.32, -0.4, -0.25, 0.001), "valence": lower}),
        (last, "plain", plain, "plain", {"arousal": (0.5, 0.72, -0.22, -0.5, 0.01, 0.3), "valence": lower}),
        (own, "plain", plain, "plain", {"arousal": (0.8, 0.72, 0.08, 0.02, 0.12, 0.07), "valence": lower}),
        (scratch, "masked", plain, "masked", {"arousal": (0.52, 0.41, 0.11, 0.04, 0.17, 0.02), "valence": higher}),
        (last, "masked", plain, "masked", {"arousal": (0.6, 0.41, 0.19, 0.1, 0.2, 0.02), "valence": lower}),
        (own, "masked", plain, "masked", {"arousal": (0.9, 0.41, 0.49, 0.3, 0.6, 0.02), "valence": higher}),
        (last, "plain", scratch, "plain", {"arousal": lower, "valence": higher}),  # not with the first: not said
    ]
    return pairs(rows, {"target": TARGETS}).assign(n=("target", [5, 6]))


@pytest.fixture(scope="module")
def statistics():
    dims = {"model": MODELS, "condition": CONDITIONS, "method": METHODS, "target": TARGETS, "region": PLACES}
    enrichment, share = numbered(dims, -1, 0.01), numbered(dims, 0.1, 0.003)
    made = {"enrichment_mean": enrichment, "enrichment_low": enrichment - 0.2, "enrichment_high": enrichment + 0.1}
    made |= {f"density_{end}": share * 0 + value for end, value in (("mean", 0.5), ("low", 0.4), ("high", 0.6))}
    table = xr.Dataset({**made, "share_mean": share, "share_low": share - 0.02, "share_high": share + 0.03})
    table["n"] = share.isnull().astype(int) + 8
    table["n"].loc[{"region": "forehead", "model": MODELS[0]}] = 7  # one face has none
    table["area"] = (("sample", "region"), np.tile([0.1] * 8 + [0.28], (2, 1)))
    table["area"][1, -1] = 0.32
    table.attrs["methods"] = TITLES

    def put(mean, low, high, **cell):
        for end, value in (("mean", mean), ("low", low), ("high", high)):
            table[f"density_{end}"].loc[{"method": "lrp", "target": "arousal", **cell}] = value

    plain, scratch, last, own = MODELS
    put(3, 2.8, 3.2, model=plain, condition="plain", region="nose")
    put(9, 8.8, 9.2, model=plain, condition="plain", region="mask")  # it overlays the others: never the densest
    put(1.9, 1.6, 2.1, model=scratch, condition="plain", region="brows")
    put(2, 1.7, 2.3, model=scratch, condition="plain", region="nose")
    put(1.6, 1.5, 1.69, model=scratch, condition="plain", region="mouth")  # ends just below the densest
    put(np.nan, np.nan, np.nan, model=last, condition="plain")
    put(4.25, 4.1, 4.4, model=own, condition="plain", region="jaw")
    put(2.5, 2.4, 2.6, condition="masked", region="eyes")
    for model, share, density in zip(MODELS, (0.25, 0.4, 0.31, 0.2), (0.83, 1.33, 1.03, 0.67), strict=True):
        cell = {"model": model, "condition": "masked", "region": "mask"}
        for end, value in (("mean", share), ("low", share - 0.02), ("high", share + 0.03)):
            table[f"share_{end}"].loc[{"method": "lrp", "target": "arousal", **cell}] = value
        put(density, density - 0.02, density + 0.03, **cell)
    return table


@pytest.fixture(scope="module")
def said(evaluation, comparisons):
    faces = make_faces(6)
    faces["status"][1, 2] = "no"
    items = figures.comparison_findings(faces, evaluation, comparisons).items
    found = {item.statement: item.numbers for item in items}
    assert len(found) == len(items) == 9  # the faces, then four statements for each target
    return found


def test_findings_count_faces(said):
    statement, numbers = next(iter(said.items()))
    assert statement == "5 of 6 faces given can be used plain and masked."
    assert numbers == (
        "5 to 6 of them carry labels; agreement is measured on these pairs. They are of 3 people; intervals from fewer "
        "than 20 people hold less often than they say."
    )


def test_findings_on_masking_say_the_sign_and_what_correction_takes_back(said):
    statement = (
        "Arousal, 5 faces: from plain to masked faces the CCC is lower for plain scratch; higher "
        "for masked scratch; not "
        "clearly different for masked last conv; lower (not after correction for all comparisons) for my <own>."
    )
    assert said[statement] == (
        "plain scratch: 0.72 to 0.41, difference -0.31 [-0.35, -0.27]; "
        "masked scratch: 0.40 to 0.52, difference +0.12 [+0.05, +0.20]; "
        "masked last conv: 0.50 to 0.49, difference -0.01 [-0.05, +0.04]; "
        "my <own>: 0.30 to 0.26, difference -0.04 [-0.08, -0.01]."
    )
    assert "Valence, 6 faces: from plain to masked faces the CCC is lower for every model." in said


def test_findings_on_training_compare_every_model_with_the_first(said):
    statement = (
        "Arousal, 5 faces: on plain faces, compared with plain scratch, the CCC is lower for masked "
        "scratch; not clearly "
        "different for masked last conv; higher (not after correction for all comparisons) for my <own>."
    )
    assert said[statement] == (
        "masked scratch: 0.40 against 0.72, difference -0.32 [-0.40, -0.25]; "
        "masked last conv: 0.50 against 0.72, difference -0.22 [-0.50, +0.01]; "
        "my <own>: 0.80 against 0.72, difference +0.08 [+0.02, +0.12]."
    )
    assert (
        "Arousal, 5 faces: on masked faces, compared with plain scratch, the CCC is higher for every other model."
        in said
    )
    assert (
        "Valence, 6 faces: on plain faces, compared with plain scratch, the CCC is lower for every other model." in said
    )
    mixed = "higher for masked scratch and my <own>; lower for masked last conv."
    assert f"Valence, 6 faces: on masked faces, compared with plain scratch, the CCC is {mixed}" in said


def test_findings_within_expression(said):
    statement = (
        "Arousal, 5 faces: within expression the CCC lies between -0.02 [-0.32, 0.18] and 0.12 [-0.18, 0.32], over the "
        "whole set between 0.10 [0.07, 0.12] and 0.80 [0.77, 0.82]."
    )
    assert said[statement] == (
        "An oracle that knows only the expression would lie at 0.61 [0.60, 0.70] over the whole set, and at 0 within."
    )
    [valence] = [s for s in said if s.startswith("Valence, 6 faces: within expression")]
    assert "-0.01 [-0.31, 0.19] and 0.13 [-0.17, 0.33]" in valence
    assert "would lie at 0.74" in said[valence]


def axes(figure, trace):
    """Return the x and y axis on which a trace is drawn."""
    return (figure.layout[(getattr(trace, f"{d}axis") or d).replace(d, f"{d}axis", 1)] for d in "xy")


def titles(figure, trace, top: float | None = None) -> set[str]:
    """Return the titles above the panel of a trace (or at the height `top`) and beside its row."""
    across, up = (axis.domain for axis in axes(figure, trace))
    texts = set()
    for note in figure.layout.annotations:
        beside = note.textangle == 90 and up[0] < note.y < up[1]
        above = note.textangle is None and across[0] < note.x < across[1] and note.y == (top or up[1])
        texts |= {note.text} if beside or above else set()
    return texts


def named(axis, place: float) -> str:
    """Return the tick label nearest to a place on an axis."""
    return axis.ticktext[int(np.argmin(np.abs(np.array(axis.tickvals) - place)))]


def points(trace, error: str):
    """Yield (x, y, low, high, symbol, hover) of each point; low and high are the ends that its error bar draws."""
    spread, along = trace[f"error_{error}"], trace[error]
    symbol = trace.marker.symbol
    symbols = [symbol] * len(trace.x) if isinstance(symbol, str) else symbol
    for i, (x, y) in enumerate(zip(trace.x, trace.y, strict=True)):
        yield x, y, along[i] - spread.arrayminus[i], along[i] + spread.array[i], symbols[i], trace.hovertext[i]


@pytest.mark.parametrize("scope", ["", "within_"])
def test_the_ccc_chart_draws_each_number_in_its_row_and_panel(evaluation, scope):
    paper = {MODELS[1]: {"plain": {"arousal": 0.11, "valence": 0.12}, "masked": {"arousal": 0.13, "valence": 0.14}}}
    figure = figures.ccc_chart(evaluation, scope=scope, paper=paper)
    by_name = {readable(model): model for model in MODELS}
    side, drawn, crosses = next(axes(figure, figure.data[0])), {}, {}
    assert side.range[0] < -0.3 if scope else side.range[0] < 0.1
    for trace in (t for t in figure.data if t.mode == "markers" and t.x[0] is not None):
        [target] = [t for t in TARGETS if f"<b>{t}</b>" in titles(figure, trace)]
        rows = figure.layout.yaxis
        if trace.name:
            assert trace.name == "paper, Table 3"
            for x, y in zip(trace.x, trace.y, strict=True):
                if x is not None and not np.isnan(x):
                    condition = "plain" if y > round(y) else "masked"  # each beside the point it belongs to
                    crosses[by_name[named(rows, y)], condition, target] = x
            continue
        for x, y, low, high, symbol, hover in points(trace, "x"):
            condition = "masked" if symbol.endswith("-open") else "plain"
            assert (y > round(y)) == (condition == "plain")
            assert hover.startswith(f"{named(rows, y)}, {condition}: {x:.3f}")
            drawn[by_name[named(rows, y)], condition, target] = (x, low, high)
    table = figure.table.set_index(["model", "condition", "target"])
    assert set(drawn) == set(table.index)
    for (model, condition, target), found in drawn.items():
        key = {"model": model, "condition": condition, "target": target}
        given = [float(evaluation[scope + name].sel(key)) for name in ("ccc", "ccc_low", "ccc_high")]
        assert found == pytest.approx(given)
        assert table.loc[tuple(key.values()), ["ccc", "ccc_low", "ccc_high"]].tolist() == given
    given = {(m, c, t): v for m, of in paper.items() for c, values in of.items() for t, v in values.items()}
    assert crosses == ({} if scope else given)
    oracle = {tuple(t.x) for t in figure.data if t.mode == "lines"}
    assert oracle == (set() if scope else {(0.61, 0.61), (0.74, 0.74)})
    keys = {t.name: t.marker.symbol for t in figure.data if t.name and "interval" in t.name}
    assert keys == {"plain (95 % interval)": "circle", "masked (95 % interval)": "circle-open"}
    # The first model stands on top.
    assert named(figure.layout.yaxis, max(figure.layout.yaxis.tickvals)) == readable(MODELS[0])


@pytest.mark.parametrize("between", ["condition", "model"])
def test_the_difference_chart_draws_each_number_in_its_row_and_panel(comparisons, between):
    figure = figures.difference_chart(comparisons, between=between)
    given, drawn = {}, {}
    same = "model" if between == "condition" else "condition"
    for one in (comparisons.isel(comparison=i) for i in range(comparisons.sizes["comparison"])):
        place, a, b = (plain_name(one[n].item()) for n in (f"{same}_a", f"{between}_a", f"{between}_b"))
        for target in TARGETS if a != b else ():
            numbers = [float(one[n].sel(target=target)) for n in ("difference", "low", "high")]
            given[f"{place}: {a} − {b}", target] = numbers
    for trace in figure.data:
        [target] = [t for t in TARGETS if f"<b>{t}</b>" in titles(figure, trace)]
        for x, y, low, high, symbol, hover in points(trace, "x"):
            shown = named(figure.layout.yaxis, y)
            label = html.unescape(shown)
            assert y in figure.layout.yaxis.tickvals
            assert symbol == ("diamond-open" if low < 0 < high else "diamond")
            assert hover.startswith(f"{shown}, {target}: {x:+.3f} [")
            drawn[label, target] = (x, low, high)
    assert set(drawn) == set(given)
    table = figure.table.set_index(["label", "target"])
    for key, found in drawn.items():
        assert found == pytest.approx(given[key])
        assert table.loc[key, ["difference", "low", "high"]].tolist() == given[key]


@pytest.mark.parametrize("method", METHODS)
def test_the_region_chart_draws_each_number_at_its_region_and_panel(statistics, method):
    figure = figures.region_chart(statistics, method=method)
    by_name = {f"{readable(m)}, {c}": (m, c) for m in MODELS for c in CONDITIONS}
    table = figure.table.set_index(["target", "model", "condition", "region"])
    seen = []
    for trace in figure.data:
        [target] = [t for t in TARGETS if f"<b>{t}</b>" in titles(figure, trace)]
        model, condition = by_name[trace.name]
        assert trace.marker.symbol.endswith("-open") == (condition == "masked")
        for x, y, low, high, _, hover in points(trace, "y"):
            region = named(next(axes(figure, trace)), x)
            assert hover.startswith(f"{region}<br>{trace.name}: {y:.3f} [")
            key = {"target": target, "model": model, "condition": condition, "region": region}
            given = [float(statistics[f"enrichment_{end}"].sel({"method": method, **key}))
                     for end in ("mean", "low", "high")]  # fmt: skip
            assert (y, low, high) == pytest.approx(given)
            assert table.loc[tuple(key.values())].tolist() == given
            seen.append((*key.values(), x))
    assert {tuple(key) for *key, _ in seen} == set(table.index)
    assert len({(target, x) for target, *_, x in seen}) == len(table)  # no point hides another


def test_the_mask_area_chart_draws_every_face_in_the_box_of_its_expression():
    faces = make_faces(6)
    for i in range(6):
        faces["alpha"][1, i] = 20 * (i + 1)  # happy, neutral, happy, ...
    faces["status"][1, 4] = "no"
    figure = figures.mask_area_chart(faces)
    boxes = {trace.name: np.array(trace.y) * 255 for trace in figure.data}
    assert boxes["happy"] == pytest.approx([20, 60])
    assert boxes["neutral"] == pytest.approx([40, 80, 120])
    table = figure.table.set_index("expression")
    for name, values in boxes.items():
        columns = ["n", "mean", "lowest", "median", "highest"]
        expected = [len(values), values.mean() / 255, values[0] / 255, np.median(values) / 255, values[-1] / 255]
        assert table.loc[name, columns].tolist() == pytest.approx(expected)


def made_results(faces, models=MODELS[:2], methods=("lrp",)) -> xr.Dataset:
    """Return results with distinct predictions and maps of zeros."""
    dims = {"model": models, "condition": CONDITIONS, "target": TARGETS, "sample": faces["sample"].values}
    shape = (len(models), 2, len(methods), 2, faces.sizes["sample"], 64, 64)
    maps = (("model", "condition", "method", "target", "sample", "y", "x"), np.zeros(shape, np.float32))
    made = xr.Dataset({"prediction": numbered(dims, -0.45, 0.01), "attribution": maps})
    methods = {m: {"signed": m == "lrp", "conserves": m == "lrp", "resolution": 1, **TITLES[m]} for m in methods}
    return made.assign_coords(method=list(methods)).assign_attrs(methods=methods)


def test_the_scatter_draws_labels_against_predictions_in_the_panel_of_their_model_and_condition():
    faces = make_faces(6)
    faces["status"][0, 2] = "no"
    faces["valence"][4] = np.nan
    results = made_results(faces)
    figure = figures.prediction_scatter(results.isel(sample=slice(None, None, -1)), faces, target="valence")
    rows = [0, 1, 3, 5]
    table, seen = figure.table.set_index(["model", "condition"]), set()
    for trace in figure.data:
        over = titles(figure, trace, top=1)
        [model], [condition] = [m for m in MODELS if readable(m) in over], [c for c in CONDITIONS if c in over]
        assert np.array_equal(trace.x, faces["valence"].values[rows])
        given = results["prediction"].sel(model=model, condition=condition, target="valence").values[rows]
        assert np.array_equal(trace.y, given)
        assert [text.split("<br>")[0] for text in trace.hovertext] == [f"face{i}" for i in rows]
        numbers = [4, np.mean(trace.x), np.mean(given), np.corrcoef(trace.x, given)[0, 1]]
        columns = ["n", "mean rated", "mean predicted", "Pearson r"]
        assert table.loc[(model, condition), columns].tolist() == pytest.approx(numbers)
        seen.add((model, condition))
    assert seen == set(table.index)
    assert len(seen) == 4
    assert figure.meta["reading"].startswith("Each point is one of 4 faces")


def test_the_scatter_of_many_faces_draws_some_and_counts_all(monkeypatch):
    monkeypatch.setattr(agreement_charts, "POINTS", 3)
    faces = make_faces(5)
    figure = figures.prediction_scatter(made_results(faces), faces, target="valence")
    for trace in figure.data:
        assert [text.split("<br>")[0] for text in trace.hovertext] == ["face0", "face2", "face4"]
        assert np.array_equal(trace.x, faces["valence"].values[::2])
    assert set(figure.table["n"]) == {5}
    assert figure.meta["reading"].startswith("Points are 3 of 5 faces")
    assert [(s.x0, s.y0, s.x1, s.y1) for s in figure.layout.shapes] == [(-1, -1, 1, 1)] * 4


def level(condition: str, sample: int) -> int:
    """Return the grey of one face in one condition."""
    return 20 + 40 * sample + 20 * CONDITIONS.index(condition)


def flat_faces(count=4):
    """Return faces of one grey each, so that a tile tells whose it is."""
    faces = make_faces(count)
    for c, condition in enumerate(CONDITIONS):
        for i in range(count):
            faces["image"][c, i] = level(condition, i)
    return faces


def tiles(figure, rows: int, columns: int) -> np.ndarray:
    """Return the tiles (row, column, y, x, channel) of a montage, decoded from its one image."""
    [image] = figure.layout.images
    data = base64.b64decode(image.source.split(",")[1])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert (image.x, image.y, image.xanchor, image.yanchor) == (0, 0, "left", "top")
    assert tuple(figure.layout.xaxis.range) == (0, image.sizex)
    assert tuple(figure.layout.yaxis.range) == (image.sizey, 0)  # downwards, as pixels go
    step_y, step_x = (pixels.shape[0] + GAP) // rows, (pixels.shape[1] + GAP) // columns
    return np.array([[pixels[r * step_y :, c * step_x :][:TILE, :TILE] for c in range(columns)] for r in range(rows)])


def colourful(pixels) -> np.ndarray:
    """Return how far the mean colour of each tile (..., y, x, channel) is from grey."""
    return np.ptp(pixels.mean((-3, -2)), axis=-1)


@pytest.mark.parametrize(
    ("sample", "model", "condition", "target"),
    [("face2", MODELS[1], "plain", "valence"), ("face0", MODELS[0], "masked", "arousal")],
)
def test_the_saliency_panel_sets_maps_words_and_labels_in_their_row_and_column(sample, model, condition, target):
    faces, models = flat_faces(), MODELS[:3]
    results = made_results(faces, models)
    cell = {"sample": sample, "model": model, "condition": condition}
    results["attribution"].loc[{"target": target, **cell}] = 1
    shown = ["face3", "face0", "face2"]
    figure = figures.saliency_panel(faces, results, method="lrp", target=target, samples=shown)
    columns = [(m, c) for m in models for c in CONDITIONS]
    pixels = tiles(figure, len(shown), len(columns))
    here = (shown.index(sample), columns.index((model, condition)))
    colour = colourful(pixels)
    assert colour[here] > 60
    colour[here] = 0
    assert colour.max() < 6
    for r, name in enumerate(shown):
        for c, (_, worn) in enumerate(columns):
            grey = 40 + 0.8 * level(worn, faces["sample"].values.tolist().index(name))
            assert (r, c) == here or pixels[r, c].mean() == pytest.approx(grey, abs=3)
    [words] = [trace for trace in figure.data if trace.mode == "text"]
    [image] = figure.layout.images
    step = np.array([(image.sizex + GAP) / len(columns), (image.sizey + GAP) / len(shown)])
    under = {}
    for text, *place in zip(words.text, words.x, words.y, strict=True):
        (column, row), (across, down) = np.array(place) // step, np.array(place) % step
        assert across == pytest.approx(TILE / 2)
        assert down > TILE
        under[int(row), int(column)] = text
    predicted = results["prediction"].sel(target=target)
    for r, name in enumerate(shown):
        for c, (m, worn) in enumerate(columns):
            assert under[r, c] == f"{float(predicted.sel(sample=name, model=m, condition=worn)):+.2f}"
    notes = figure.layout.annotations
    left = {int(note.y // step[1]): note.text for note in notes if note.xanchor == "right"}
    for r, name in enumerate(shown):
        assert left[r].endswith(f"rated {float(faces[target].sel(sample=name)):+.2f}")
    above = [note for note in notes if note.yanchor == "bottom"]
    heads = {int(note.x // step[0]): note.text for note in above if note.text in CONDITIONS}
    assert heads == {c: worn for c, (_, worn) in enumerate(columns)}
    rules = [(line.x0, line.x1) for line in figure.layout.shapes]
    for c, (m, _) in enumerate(columns):
        middle = c * step[0] + TILE / 2
        [(x0, x1)] = [ends for ends in rules if ends[0] < middle < ends[1]]
        [over] = [note.text for note in above if note.text not in CONDITIONS and x0 < note.x < x1]
        assert over == f"<b>{readable(m)}</b>"
    table = figure.table.set_index("face")
    assert table.loc[sample, f"sum of map, {model}, {condition}"] == 64 * 64
    assert np.abs(table.filter(like="sum of map").values).sum() == 64 * 64


def test_positive_is_red_and_negative_is_blue_on_the_side_where_they_lie():
    faces = flat_faces(1)
    results = made_results(faces)
    cell = {"target": "arousal", "model": MODELS[0], "condition": "plain"}
    results["attribution"].loc[cell] = np.where(np.arange(64) < 32, 1, -1)
    figure = figures.saliency_panel(faces, results, method="lrp", target="arousal")
    tile = tiles(figure, 1, 4)[0, 0]
    red, blue = tile[10:-10, 10:40].mean((0, 1)), tile[10:-10, -40:-10].mean((0, 1))
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 60
    [bar] = [trace.marker for trace in figure.data if trace.marker.showscale]
    lowest, highest = (tuple(map(int, bar.colorscale[end][1][4:-1].split(","))) for end in (0, -1))
    assert lowest[2] > lowest[0] + 60
    assert highest[0] > highest[2] + 60


@pytest.mark.parametrize(("model", "condition", "target"), [(1, 0, 0), (0, 1, 1)])
def test_the_photograph_panel_colours_the_map_that_is_not_empty_and_writes_each_word_at_its_tile(
    monkeypatch, model, condition, target
):
    words = {}
    draw = ImageDraw.ImageDraw.text

    def record(self, place, word, *args, **style):
        assert style["anchor"] == "mm"
        words[place] = word
        draw(self, place, word, *args, **style)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    faces, models = flat_faces(), MODELS[::3]
    results = made_results(faces, models, METHODS)
    results["attribution"][model, condition, 1, target, 2] = 1  # face2
    results["attribution"][:, :, 0] = 5  # another method
    results["attribution"][:, :, 1, :, 0] = 5  # another face
    sheet = photograph_panel(faces, results, "lrp", 2)
    assert sheet.mode == "RGB"
    places = [(x, y) for (x, y), word in words.items() if word[0] in "+-"]
    columns, rows = sorted({x for x, _ in places}), sorted({y for _, y in places})
    step, drop = columns[1] - columns[0], rows[1] - rows[0]
    assert (len(columns), len(rows)) == (4, 2)
    assert sheet.width >= columns[-1] + TILE / 2
    assert sheet.height >= rows[-1] + 15
    assert sheet.width < 2 * step + columns[-1] + TILE
    pixels = np.asarray(sheet).astype(int)
    colour, centres = np.zeros((2, 4)), [y - drop / 2 for y in rows]
    for r, y in enumerate(centres):
        for c, x in enumerate(columns):
            tile = pixels[int(y) - 40 : int(y) + 40, int(x) - 40 : int(x) + 40]
            colour[r, c] = colourful(tile)
        face = pixels[int(y) - 40 : int(y) + 40, int(columns[0] - 2 * step) - 40 :][:, :80]
        assert (face == level(CONDITIONS[r], 2)).all()
        [label] = [word for (_, at), word in words.items() if word in CONDITIONS and abs(at - y) < drop / 2]
        assert label == CONDITIONS[r]
    here = (condition, 2 * model + target)
    assert colour[here] > 60
    colour[here] = 0
    assert colour.max() == 0
    heads = {x: word for (x, _), word in words.items() if word in TARGETS}
    assert [heads[x] for x in columns] == [*TARGETS, *TARGETS]
    names = {word: x for (x, _), word in words.items() if word in ("plain scratch", MODELS[3])}
    assert columns[0] < names["plain scratch"] < columns[1] < columns[2] < names[MODELS[3]] < columns[3]
    for r, y in enumerate(rows):
        for c, x in enumerate(columns):
            given = results["prediction"].values[c // 2, r, c % 2, 2]
            assert words[x, y] == f"{given:+.2f}"


def test_the_photograph_panel_refuses_an_unknown_method():
    faces = flat_faces(1)
    with pytest.raises(UnknownNameError, match="did you mean 'lrp'"):
        photograph_panel(faces, made_results(faces), "lpr")
