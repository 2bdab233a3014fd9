"""Landmark quality: distances by hand, transformations pixel by pixel, real faces, bad input, and what is drawn."""

import base64

import cv2
import numpy as np
import pytest
import xarray as xr

from fcx import figures
from fcx.core.errors import InputError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.datasets import open_source
from fcx.figures.montage import GAP, TILE
from fcx.geometry import landmark_quality as quality
from fcx.geometry.landmarks import Landmarks, find_landmarks
from fcx.masks import landmark_shift

QUIET = {"progress": False}
EMPTY = np.zeros((64, 64, 3), np.uint8)
FACE = Landmarks(np.zeros((68, 2)), np.array([[0.0, 10, 0], [50, 90, 0]]), 1.0, 1, np.zeros((5, 2)))  # 80 pixels high


@pytest.fixture(scope="module")
def few():
    records = open_source("demo").records
    return {records[i].id: records[i].read() for i in (0, 200, 440)}


def test_the_error_is_the_mean_distance_over_that_of_the_eyes():
    truth = np.zeros((2, 2))
    found = np.array([[3.0, 4.0], [0.0, 1.0]])  # 5 and 1 away: 3 on average
    assert quality.nme(found, truth, np.array([[10.0, 10.0], [10.0, 40.0]])) == pytest.approx(10)


def dot(row, column, shape=(41, 61)):
    picture = np.zeros((*shape, 3), np.uint8)
    picture[row, column] = 255
    return picture


def centre_of_light(picture):
    weight = picture[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("level", [-60, -90, 0, 17, 90, 180])
def test_a_dot_goes_where_the_rotation_says(level):
    turned, forward = quality.rotation(dot(10, 45), FACE, level)
    expected = forward[:, :2] @ [45, 10] + forward[:, 2]
    np.testing.assert_allclose(centre_of_light(turned), expected, atol=0.08)  # OpenCV counts in 32nds of a pixel
    assert turned.shape[0] == turned.shape[1] == 74  # the diagonal of 41 x 61
    # By hand: seen from the middle the dot is 15 to the right and 10 up; anticlockwise by the level.
    angle = np.radians(level) + np.arctan2(10, 15)
    away = np.hypot(15, 10) * np.array([np.cos(angle), -np.sin(angle)])
    np.testing.assert_allclose(expected, 36.5 + away, atol=1e-9)


@pytest.mark.parametrize(("level", "expected"), [(122, (90.5, 20.5)), (183, (136, 31)), (20, (14.418, 2.829))])
def test_a_dot_goes_where_the_size_says(level, expected):
    resized, forward = quality.size(dot(10, 45), FACE, level)
    assert max(resized.shape) == level
    place = forward[:, :2] @ [45, 10] + forward[:, 2]
    np.testing.assert_allclose(place, expected, atol=1e-3)
    if level > 61:  # a smaller picture loses the place of a dot within a pixel
        np.testing.assert_allclose(centre_of_light(resized), place, atol=0.05)


def test_blur_is_in_per_cent_of_the_face_and_moves_nothing():
    blurred, forward = quality.blurred(dot(20, 30), FACE, 2.5)  # 2.5 % of 80 pixels
    weight = blurred[..., 0].astype(float)
    columns = np.arange(61)
    assert np.sqrt((weight * (columns - 30) ** 2).sum() / weight.sum()) == pytest.approx(2, abs=0.35)
    np.testing.assert_array_equal(forward, [[1, 0, 0], [0, 1, 0]])


def test_jpeg_keeps_colour_and_place(few):
    picture = next(iter(few.values()))
    coded, forward = quality.jpeg(picture, FACE, 95)
    assert np.abs(coded.astype(int) - picture).mean() < 3
    np.testing.assert_array_equal(forward, [[1, 0, 0], [0, 1, 0]])
    assert np.abs(quality.jpeg(picture, FACE, 5)[0].astype(int) - picture).mean() > 4


def test_the_detectors_points_agree_with_the_mesh_and_the_distance_is_that_of_the_points(few):
    result = quality.backend_agreement({**few, "nobody": EMPTY}, **QUIET)
    assert result["nme"].dims == ("backend", "part", "picture")
    assert list(result["picture"].values) == list(few)  # the empty picture has no landmarks to compare
    assert (result["nme"].sel(backend="yunet", part=["eyes", "nose", "mouth", "all"]) < 20).all()
    assert result["nme"].sel(backend="yunet", part=["jaw", "brows"]).isnull().all()
    name, picture = next(iter(few.items()))
    found = find_landmarks(picture)
    apart = np.hypot(*(found.points[30] - found.five[2])) / np.hypot(*(found.points[45] - found.points[36]))
    assert result["nme"].sel(backend="yunet", part="nose", picture=name).item() == pytest.approx(100 * apart)


def test_a_backend_without_weights_is_said_and_one_with_them_compared(few, monkeypatch, tmp_path):
    from fcx.geometry.landmarks import BACKENDS, _face_alignment, points_from_mesh

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    _face_alignment.cache_clear()
    monkeypatch.setitem(BACKENDS, "shifted", lambda picture, mesh: points_from_mesh(picture, mesh) + [3, 4])
    result = quality.backend_agreement(few, **QUIET)
    assert nested_attr(result, "absent") == {"face-alignment": "its weights are not on this machine"}
    assert list(result["backend"].values) == ["yunet", "shifted"]
    for name, picture in few.items():
        points = find_landmarks(picture).points
        expected = 100 * 5 / np.linalg.norm(points[45] - points[36])
        np.testing.assert_allclose(result["nme"].sel(backend="shifted", picture=name), expected)
    _face_alignment.cache_clear()


def test_a_mask_moves_the_mouth_more_than_the_eyes(few):
    result = landmark_shift.mask_shift(few, **QUIET)
    assert bool(result["found"].all())
    assert (result["nme"].sel(part="mouth") > result["nme"].sel(part="eyes")).all()
    assert (result["nme"].sel(part="eyes") < 10).all()
    xr.testing.assert_identical(result, landmark_shift.mask_shift(few, **QUIET))


def test_worse_pictures_move_points_more_and_lost_faces_are_counted(few):
    levels = {"jpeg": [90, 5], "blur": [1, 40], "size": [400, 48], "rotation": [0, 20]}
    result = quality.robustness(few, levels, **QUIET)
    nme, found = result["nme"].median("picture"), result["found"].mean("picture")
    cases = {(d, v): i for i, (d, v) in enumerate(zip(result.disturbance.values, result.level.values, strict=True))}
    assert nme[cases["jpeg", 5]] > nme[cases["jpeg", 90]]
    assert nme[cases["size", 48]] > nme[cases["size", 400]]
    assert nme[cases["rotation", 20]] < 4
    assert found[cases["blur", 40]] == 0
    assert np.isnan(result["nme"][cases["blur", 40]]).all()
    assert (np.delete(found.values, cases["blur", 40]) == 1).all()


@pytest.mark.parametrize("work", [quality.backend_agreement, landmark_shift.mask_shift, quality.robustness])
def test_what_cannot_be_measured_is_said(work, few):
    with pytest.raises(InputError, match="no pictures are given"):
        work([], **QUIET)
    with pytest.raises(InputError, match="no face is found in any of the 2 pictures"):
        work([EMPTY, EMPTY], **QUIET)
    with pytest.raises(InputError, match="uint8"):
        work([EMPTY.astype(float)], **QUIET)


def test_unknown_disturbances_levels_and_masks_are_refused(few):
    with pytest.raises(UnknownNameError, match="did you mean 'blur'"):
        quality.robustness(few, {"blurr": [1]}, **QUIET)
    with pytest.raises(InputError, match="jpeg is 0; allowed: numbers from 1 to 100"):
        quality.robustness(few, {"jpeg": [0]}, **QUIET)
    with pytest.raises(InputError, match="blur is 'x'; allowed"):
        quality.robustness(few, {"blur": ["x"]}, **QUIET)
    with pytest.raises(UnknownNameError, match="did you mean 'surgical'"):
        landmark_shift.mask_shift(few, "surgicel", **QUIET)


def test_display_pictures_are_the_plain_ones_of_usable_faces(demo):
    faces = demo.copy(deep=True)
    faces["status"][0, 0] = "no face found"
    shown = quality.display_pictures(faces, 3)
    ids = list(faces["sample"].values)
    assert list(shown) == [ids[1], ids[4], ids[7]]
    np.testing.assert_array_equal(shown[ids[4]], faces["picture"].sel(condition="plain").values[4])
    assert len(quality.display_pictures(faces, 100)) == 7
    with pytest.raises(InputError, match="no display pictures"):
        quality.display_pictures(faces.drop_vars("picture"))
    with pytest.raises(InputError, match="count is 0"):
        quality.display_pictures(faces, 0)
    faces["status"][:] = "no face found"
    with pytest.raises(InputError, match="no face is usable"):
        quality.display_pictures(faces)


@pytest.fixture
def doubtful(demo):
    """Demo faces of which two are refused, with scores set by hand."""
    faces = demo.copy(deep=True)
    faces["status"] = (("condition", "sample"), faces["status"].values.astype("U240"))
    faces["status"][:, 2] = "no face found (detector threshold 0.3)"
    faces["status"][1, 5] = "a <b>mask</b> fell off"
    faces["detector_score"][:] = [0.9, 0.4, np.nan, 0.8, 0.5, 0.1, 0.7, 0.6]
    return faces


def test_refused_faces_come_first_then_the_lowest_scores(doubtful):
    ids = doubtful["sample"].values
    assert list(quality.lowest(doubtful, 3)["sample"].values) == list(ids[[2, 5, 1, 4, 7]])
    assert list(quality.lowest(doubtful, 1)["sample"].values) == list(ids[[2, 1]])
    with pytest.raises(InputError, match="no detector scores"):
        quality.lowest(doubtful.drop_vars("detector_score"))


def test_the_gallery_shows_refused_pictures_reasons_and_points(doubtful):
    chosen = quality.lowest(doubtful, 5)
    records = open_source("demo").records[:3]
    figure = figures.failure_gallery(chosen, records)
    [image] = figure.layout.images
    data = base64.b64decode(image.source.split(",")[1])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    tiles = [pixels[:TILE, c * (TILE + GAP) :][:, :TILE] for c in range(6)]
    given = cv2.resize(records[2].read(), (TILE, TILE), interpolation=cv2.INTER_AREA)
    assert np.abs(tiles[0] - given).mean() < 12  # the refused picture itself, read from its source
    assert np.abs(tiles[1] - 216).max() < 4  # nobody gave this one
    column, row = np.rint((chosen["landmarks"].values[2, 30] + 0.5) * TILE / 64 - 0.5).astype(int)
    nose = tiles[2][row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)
    assert (nose[:, 1] - nose[:, 0]).max() > 0  # a green point on the tip of the nose, where skin is red
    [words] = [trace.text for trace in figure.data if trace.mode == "text"]
    assert words[:4] == ("no face found…", "a &lt;b&gt;mask&lt;/b&gt;…", "score 0.40", "score 0.50")
    assert figure.table["reason"][0] == "no face found (detector threshold 0.3)"
    assert "2 refused; 5 finds with scores from 0.40 to 0.80" in figure.meta["alt"]


def test_a_gallery_without_failures_still_shows_finds(demo):
    figure = figures.failure_gallery(quality.lowest(demo, 2))
    assert "0 refused; 2 finds" in figure.meta["alt"]
    assert len(figure.table) == 2


def test_the_charts_draw_medians_percentiles_and_shares():
    nme = np.array([[1.0, 2.0, 9.0], [4.0, np.nan, 6.0], [np.nan] * 3])
    cases = {"disturbance": ("case", ["blur", "blur", "size"]), "level": ("case", [4.0, 1.0, 48.0])}
    variables = {"nme": (("case", "picture"), nme), "found": (("case", "picture"), np.isfinite(nme))}
    figure = figures.robustness_chart(xr.Dataset(variables, {**cases, "picture": ["a", "b", "c"]}))
    table = figure.table.set_index(["disturbance", "level"])
    assert table.loc[("blur", 4.0), ["median", "95th percentile", "found %"]].tolist() == pytest.approx([2, 8.3, 100])
    assert table.loc[("blur", 1.0), ["median", "faces"]].tolist() == [5, 2]
    assert np.isnan(table.loc[("size", 48.0), "median"].item())
    assert table.loc[("size", 48.0), "found %"] == 0
    drawn = {(t.name, t.xaxis): (list(t.x), list(t.y)) for t in figure.data}
    assert drawn["median", "x"] == (["1", "4"], [5, 2])  # in the order of the levels
    assert drawn["faces found", "x3"] == (["1", "4"], pytest.approx([200 / 3, 100]))
    assert "size 48: median – %, found 0 %" in figure.meta["alt"]


def test_the_mask_chart_and_the_table_show_the_numbers_they_are_given():
    parts = list(quality.FACE_PARTS)
    nme = np.tile([1.0, 2.0, 3.0, np.nan], (6, 1)) * np.arange(1, 7)[:, None]
    coords = {"part": parts, "picture": ["a", "b", "<c>", "d"]}
    variables = {"nme": (("part", "picture"), nme), "found": ("picture", np.isfinite(nme[0]))}
    figure = figures.mask_shift_chart(xr.Dataset(variables, coords, {"style": "surgical"}))
    assert figure.table["median"].tolist() == [2, 4, 6, 8, 10, 12]
    assert "Still found under the mask: 3 of 4." in figure.meta["alt"]
    [medians] = [trace for trace in figure.data if (trace.name or "").startswith("median")]
    ticks = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    assert [ticks[y] for y in medians.y] == parts
    assert list(medians.x) == [2, 4, 6, 8, 10, 12]
    lowest = next(trace for trace in figure.data if trace.name == "one face")
    assert lowest.hovertext[2] == "&lt;c&gt;: all 18.0 %"
    agreement = xr.Dataset({"nme": (("backend", "part", "picture"), nme[None])}, {**coords, "backend": ["yunet"]})
    table = figures.landmark_table(agreement.assign_attrs(absent={"face-alignment": "not here"})).frame
    assert table["median %"].tolist()[:6] == [2, 4, 6, 8, 10, 12]
    assert table.iloc[-1][["backend", "faces", "not there"]].tolist() == ["FAN (face-alignment)", 0, "not here"]
