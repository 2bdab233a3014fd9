"""What the chart of faithfulness draws and says, read back from its traces, for numbers made by hand."""

import numpy as np
import pytest
import xarray as xr

from fcx import figures
from fcx.core.errors import UnknownNameError

MODELS, METHODS = ("plain_scratch", "my <own>"), ("lrp", "gradcam", "random", "edges")
MEASURES = {
    "deletion_blur": ("output", "high"),
    "relative_sensitivity": ("norm of the map", "low"),
    "completeness": ("output", "zero"),
}


@pytest.fixture(scope="module")
def scores():
    shape = (2, 1, 4, 2, 3)
    mean = 0.1 + np.arange(np.prod(shape)).reshape(shape) / 100
    mean[:, 0, 1, 1, 0] = 0.9  # valence: Grad-CAM has the highest deletion
    mean[:, 0, 0, 1, 1] = 0.01  # and LRP the lowest sensitivity
    mean[:, 0, 1, 1, 2] = (-0.02, 0.01)  # and Grad-CAM the completeness nearest to 0
    units, best = zip(*MEASURES.values(), strict=True)
    coords = {
        "model": list(MODELS), "condition": ["plain"], "method": list(METHODS), "target": ["arousal", "valence"],
        "measure": list(MEASURES), "control": ("method", [False, False, True, True]),
        "unit": ("measure", list(units)), "best": ("measure", list(best)),
    }  # fmt: skip
    titles = {"methods": {"lrp": {"title": "LRP z+"}, "gradcam": {"title": "Grad-CAM"}}}
    table = (
        xr.DataArray(mean, coords, ("model", "condition", "method", "target", "measure"))
        .to_dataset(name="mean")
        .assign_attrs(titles)
    )
    return table.assign(low=table["mean"] - 0.003, high=table["mean"] + 0.002, n=xr.ones_like(table["mean"], int) * 7)


@pytest.fixture(scope="module")
def figure(scores):
    return figures.faithfulness_chart(scores, target="valence", condition="plain", measures=list(MEASURES))


def test_every_point_is_its_mean_with_its_own_interval_on_its_methods_row(figure, scores):
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(points) == len(MEASURES) * len(MODELS)
    drawn = 0
    for at, trace in enumerate(points):
        measure, model = list(MEASURES)[at // 2], MODELS[at % 2]
        for method, x, y, up, down in zip(METHODS, trace.x, trace.y, trace.error_x.array, trace.error_x.arrayminus,
                                          strict=True):  # fmt: skip
            key = {"model": model, "condition": "plain", "method": method, "target": "valence", "measure": measure}
            assert x == scores["mean"].sel(key).item()
            assert (up, down) == (pytest.approx(0.002), pytest.approx(0.003))
            assert abs(y - (3 - METHODS.index(method))) < 0.5
            drawn += 1
    assert drawn == len(figure.table)
    assert list(figure.layout.yaxis.ticktext) == ["LRP z+", "Grad-CAM", "random", "edges"]
    assert list(figure.layout.yaxis.tickvals) == [3, 2, 1, 0]
    assert {trace.name for trace in points} == {"plain scratch", "my &lt;own&gt;"}
    assert sum(trace.showlegend for trace in points) == 2


def test_panels_name_measure_unit_and_what_is_better(figure):
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["<b>Deletion blur</b>", "<b>Relative sensitivity</b>", "<b>Completeness</b>"]
    axes = [figure.layout[name] for name in ("xaxis", "xaxis2", "xaxis3")]
    words = ["output (higher is better)", "norm of the map (lower is better)", "output (0 is best)"]
    assert [axis.title.text for axis in axes] == words
    assert [axis.type for axis in axes] == [None, "log", None]
    shades = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(shape.y0, shape.y1) for shape in shades] == [(-0.6, 1.5)] * 3  # the two lowest rows
    assert sum(shape.type == "line" for shape in figure.layout.shapes) == 2  # no zero on a logarithmic scale


def test_the_text_says_the_best_method_and_the_controls(figure):
    said = figure.meta["alt"]
    assert "Deletion blur: best 0.9 (Grad-CAM); controls: random" in said
    assert "Relative sensitivity: best 0.01 (LRP z+); controls: random" in said
    assert "Completeness: best -0.005 (Grad-CAM); controls: random" in said


def test_the_table_has_every_number(scores):
    table = figures.faithfulness_rows(scores, "arousal", "plain", ["completeness"])
    assert len(table) == len(MODELS) * len(METHODS)
    row = table[(table.method == "edges") & (table.model == "my <own>")].iloc[0]
    key = {"model": "my <own>", "condition": "plain", "method": "edges", "target": "arousal", "measure": "completeness"}
    assert row["mean"] == scores["mean"].sel(key).item()
    assert (bool(row.control), row.unit, row.best, row.n) == (True, "output", "zero", 7)


def test_by_default_known_measures_are_drawn_and_a_value_that_is_not_defined_is_left_out(scores):
    missing = scores.copy(deep=True)
    missing["mean"].loc[{"measure": "relative_sensitivity", "method": "gradcam"}] = np.nan
    figure = figures.faithfulness_chart(missing, target="arousal", condition="plain")
    assert list(dict.fromkeys(figure.meta["table"]["measure"])) == ["deletion_blur", "relative_sensitivity"]
    assert None in figure.meta["table"]["mean"]


@pytest.mark.parametrize("change", [{"target": "valance"}, {"condition": "plane"}, {"measures": ["deletion_blurr"]}])
def test_names_that_are_not_there_are_refused(scores, change):
    with pytest.raises(UnknownNameError, match="did you mean"):
        figures.faithfulness_chart(scores, **{"target": "valence", "condition": "plain", **change})
