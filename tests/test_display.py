"""Scores, statistics, faces and results show what people ask first, and stay Datasets."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from conftest import make_faces
from xarray.core import formatting

import fcx
from fcx.core.errors import UnknownNameError
from fcx.figures.display import dataset_html

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def faces():
    return make_faces(24)


@pytest.fixture(scope="module")
def results(faces):
    values = np.random.default_rng(0).uniform(-1, 1, (2, 2, 2, 24))
    maps = np.random.default_rng(1).random((2, 2, 1, 2, 24, 64, 64)).astype("f4")
    return xr.Dataset(
        {"prediction": (("model", "condition", "target", "sample"), values),
         "attribution": (("model", "condition", "method", "target", "sample", "y", "x"), maps)},
        {"model": ["one", HOSTILE], "condition": ["plain", "masked"], "target": ["arousal", "valence"],
         "method": ["gradient"], "sample": faces["sample"].values}, {"crop": "face"})  # fmt: skip


@pytest.fixture(scope="module")
def scores(results, faces):
    with pytest.warns(UserWarning, match="there are 12 subjects"):
        return fcx.evaluate(results, faces, draws=20)


def test_scores_print_a_row_for_each_model_and_condition(scores):
    text = str(scores)
    value, low, high = (float(scores[name].sel(model="one", condition="masked", target="valence"))
                        for name in ("ccc", "ccc_low", "ccc_high"))  # fmt: skip
    [row] = [line for line in text.splitlines() if "masked" in line][:1]  # the name of a model stands once
    assert f"{value:.2f} [{low:.2f}, {high:.2f}]" in row
    assert "CCC of predictions and ratings" in text
    assert "on 24 faces" in text
    assert len(text.splitlines()) < 12
    page = dataset_html(scores)
    assert f"{value:.2f} [{low:.2f}, {high:.2f}]" in page[: page.index("</table>")]
    assert HOSTILE not in page


def test_they_stay_datasets(scores, tmp_path):
    assert type(scores) is xr.Dataset
    xr.testing.assert_identical(scores, scores.copy())
    xr.testing.assert_equal(scores, xr.Dataset(scores.data_vars, scores.coords))
    scores.to_zarr(tmp_path / "scores.zarr", zarr_format=2)
    again = xr.open_zarr(tmp_path / "scores.zarr")
    xr.testing.assert_equal(scores, again)
    assert str(again) == str(scores)
    some = scores.sel(condition="masked")
    assert "[" in str(some)
    assert str(scores[["n"]]) == formatting.dataset_repr(scores[["n"]])
    assert "Dimensions" in str(scores.sel(condition="masked", target="valence", model="one"))
    assert xr.concat([scores, scores], "again").sizes["again"] == 2


def test_statistics_print_regions(results, faces):
    with pytest.warns(UserWarning, match="there are 12 subjects"):
        table = fcx.region_statistics(results, faces, draws=20)
    text = str(table)
    assert "mouth" in text
    value = float(table["density_mean"].fcx.sel(model="one", condition="plain", method="gradient", target="arousal",
                                                region="mouth"))  # fmt: skip
    assert f"{value:.2f} [" in text


def test_every_dimension_is_picked_by_its_name(results):
    picked = results.fcx.sel(method="gradient", model=["one"], condition="masked")
    xr.testing.assert_identical(picked, results.sel({"method": "gradient", "model": ["one"], "condition": "masked"}))
    assert results["attribution"].fcx.sel(method="gradient").dims == (
        "model",
        "condition",
        "target",
        "sample",
        "y",
        "x",
    )
    with pytest.raises(UnknownNameError, match="unknown method 'gradeint': did you mean 'gradient'"):
        results.fcx.sel(method="gradeint")
    with pytest.raises(UnknownNameError, match="unknown dimension 'methods'"):
        results.fcx.sel(methods="gradient")


def test_faces_show_a_contact_sheet_and_results_their_predictions(faces, results):
    named = faces.assign_coords(sample=[HOSTILE, *faces["sample"].values[1:]])
    page = dataset_html(named)
    assert page.startswith('<img alt="&lt;img src=x')
    assert "24 faces, plain above masked; 24 can be used in all of them, 24 are rated." in page
    assert HOSTILE not in page
    page = dataset_html(results)
    assert "Mean predictions of 24 faces; maps by gradient." in page
    assert HOSTILE not in page
    nothing = faces.assign(status=faces["status"].copy(data=np.full((2, 24), "no")))
    assert dataset_html(nothing).startswith(nothing._repr_html_()[:40])


def test_in_a_notebook_they_are_shown_so():
    code = ("from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance(); import fcx, sys;"
            "assert 'xarray' not in sys.modules; import xarray as xr;"
            "f = s.display_formatter.formatters['text/html'];"
            "print(f.lookup(xr.Dataset()).__name__)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["_dataset_html"]
