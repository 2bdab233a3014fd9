"""What data sets say of their faces, and sources that live in memory, as `prepare` takes them."""

import csv

import numpy as np
import pytest
from PIL import Image

import fcx
from fcx.core.errors import InputError
from fcx.geometry.landmark_quality import lowest
from fcx.geometry.landmarks import find_landmarks


def two_faces(pictures):
    """Return a picture of a large and a small face, and the landmarks of the small one in it."""
    small = Image.fromarray(pictures[1]).resize((160, 160), Image.Resampling.BOX)
    both = np.zeros((224, 400, 3), np.uint8)
    both[:, :224], both[32:192, 232:392] = pictures[0], np.asarray(small)
    return both, find_landmarks(np.asarray(small)).points + [232, 32]


def write_rows(path, header, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


# --- faces that the data set gives ---

GIVEN = ["path", "valence", "arousal", "face_x", "face_y", "face_width", "face_height", "landmarks"]


def test_the_face_that_the_data_set_gives_is_prepared_and_its_points_are_kept(tmp_path, pictures):
    both, points = two_faces(pictures)
    Image.fromarray(both).save(tmp_path / "two.png")
    Image.fromarray(both).save(tmp_path / "same.png")
    Image.fromarray(pictures[2]).save(tmp_path / "one.png")
    box = [*points.min(axis=0), *np.ptp(points, axis=0)]
    table = write_rows(
        tmp_path / "labels.csv", GIVEN,
        ["two.png", 0.5, 0, *box, ";".join(map(str, points.ravel()))],
        ["same.png", 0.5, 0, *box, ""],
        ["one.png", 0, 0, *[""] * 5],
    )  # fmt: skip
    found = fcx.prepare(table, backend="given", several="refuse", pictures=False, progress=False)
    assert found["status"].values[0, :2].tolist() == ["ok", "ok"]
    assert "gives neither here: use the backend 'mesh'" in found["status"].values[0, 2]
    assert np.isnan(found["detector_score"].values).all()
    kept, meshed = found["landmarks"].values[:2]
    scale = np.ptp(points, axis=0) / np.ptp(kept, axis=0)  # from the picture to the grid: one scale and one shift
    assert scale[0] == pytest.approx(scale[1], rel=1e-4)
    moved = points / scale
    np.testing.assert_allclose(kept - kept.mean(axis=0), moved - moved.mean(axis=0), atol=1e-3)
    eyes = np.linalg.norm(kept[36:42].mean(axis=0) - kept[42:48].mean(axis=0))
    assert np.linalg.norm(meshed - kept, axis=1).mean() < 0.06 * eyes
    assert lowest(found, 2)["sample"].values.tolist() == ["one.png", "two.png", "same.png"]  # none twice
    by_mesh = fcx.prepare(table, limit=1, pictures=False, progress=False)
    assert int(by_mesh["faces_found"][0]) == 2
    assert abs(by_mesh["image"].values.astype(int) - found["image"].values[:, :1]).mean() > 20  # the other face


def test_a_source_without_boxes_or_points_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match="demo gives neither boxes nor landmarks of faces"):
        fcx.prepare("demo", tmp_path / "faces.zarr", backend="given", progress=False)
    assert not (tmp_path / "faces.zarr").exists()


def test_donors_of_outlines_are_the_given_faces_too(tmp_path, pictures):
    both, points = two_faces(pictures)
    box = [*points.min(axis=0), *np.ptp(points, axis=0)]
    for name in ("a.png", "b.png"):
        Image.fromarray(both).save(tmp_path / name)
    rows = [[name, 0, 0, *box, ""] for name in ("a.png", "b.png")]
    table = write_rows(tmp_path / "labels.csv", GIVEN, *rows)
    how = {"backend": "given", "pictures": False, "progress": False, "several": "refuse"}
    found = fcx.prepare(table, fit="donor", **how)
    assert (found["status"].values == "ok").all()
