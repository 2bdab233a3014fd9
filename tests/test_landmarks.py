"""Landmarks on real faces: found, consistent under mirroring, scaling and turning, and refused where there are none."""

import re

import cv2
import numpy as np
import oracles
import pytest

from fcx.core.errors import FaceError, InputError, MissingWeightsError, UnknownNameError
from fcx.datasets import open_source
from fcx.geometry import detection, face_mesh
from fcx.geometry.landmarks import _face_alignment, canonical, find_landmarks, rasterise
from fcx.geometry.pose import find_pose
from fcx.masks import wear_mask

MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38,
            37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]  # fmt: skip


def interocular(points):
    return np.linalg.norm(points[36:42].mean(axis=0) - points[42:48].mean(axis=0))


def test_every_picture_has_one_face_with_plausible_points(pictures):
    for picture in pictures:
        found = find_landmarks(picture)
        assert found.faces == 1
        assert found.score > 0.6
        assert found.points.shape == (68, 2)
        assert found.mesh.shape == (468, 3)
        eyes, mouth, chin = found.points[36:48, 1].mean(), found.points[48:, 1].mean(), found.points[8, 1]
        assert eyes < mouth < chin
        assert found.points[36, 0] < found.points[45, 0]


def test_mirrored_picture_gives_mirrored_points(pictures):
    for picture in pictures:
        plain = find_landmarks(picture).points
        mirrored = find_landmarks(np.ascontiguousarray(picture[:, ::-1])).points[MIRRORED]
        mirrored[:, 0] = picture.shape[1] - 1 - mirrored[:, 0]
        assert np.linalg.norm(mirrored - plain, axis=1).mean() < 0.06 * interocular(plain)


def test_points_are_not_shifted_to_one_side():
    """Half a pixel of the network's 192 would show as a shift of .5 between a face and its mirror image."""
    shifts = []
    for record in open_source("demo").records[::16]:
        picture = record.read()
        plain = find_landmarks(picture).mesh[:, 0]
        mirrored = find_landmarks(np.ascontiguousarray(picture[:, ::-1])).mesh[:, 0]
        seen = 1.5 * np.ptp(plain) / 192  # pixels of the picture in one of the network's, roughly
        shifts.append((plain.mean() + mirrored.mean() - (picture.shape[1] - 1)) / 2 / seen)
    assert abs(np.mean(shifts)) < 0.25


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_points_follow_the_size_of_the_picture(pictures, scale):
    for picture in pictures:
        plain = find_landmarks(picture).points
        other = find_landmarks(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)).points
        assert np.linalg.norm((other + 0.5) / scale - 0.5 - plain, axis=1).mean() < 0.05 * interocular(plain)


def test_points_follow_a_turned_picture(pictures):
    picture = pictures[0]
    size = picture.shape[0]
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), 25, 0.8)
    turned = find_landmarks(cv2.warpAffine(picture, turn, (size, size))).points
    plain = find_landmarks(picture).points
    expected = plain @ turn[:, :2].T + turn[:, 2]
    assert np.linalg.norm(turned - expected, axis=1).mean() < 0.08 * interocular(plain)


def turned(picture, angle):
    """Return a picture turned by `angle` degrees, anticlockwise, on a canvas that holds it, and the transform."""
    size = np.array(picture.shape[1::-1])
    across, along = abs(np.cos(np.radians(angle))), abs(np.sin(np.radians(angle)))
    canvas = np.ceil([size @ [across, along], size @ [along, across]]).astype(int)
    turn = cv2.getRotationMatrix2D(tuple((size - 1) / 2), angle, 1.0)
    turn[:, 2] += (canvas - size) / 2
    return cv2.warpAffine(picture, turn, tuple(canvas.tolist()), borderMode=cv2.BORDER_REPLICATE), turn


@pytest.mark.parametrize("angle", [45, 60, 90, 135, 180, 225, 270, 315])
def test_a_face_at_any_roll_has_the_mesh_of_the_upright_one(pictures, angle):
    for picture in pictures[::2]:
        plain = find_landmarks(picture)
        other, turn = turned(picture, angle)
        expected = plain.mesh[:, :2] @ turn[:, :2].T + turn[:, 2]
        found = find_landmarks(other)
        assert found.faces == 1
        assert np.linalg.norm(found.mesh[:, :2] - expected, axis=1).mean() < 0.1 * interocular(plain.points)
        roll = find_pose(plain.mesh).angles[2] - angle - find_pose(found.mesh).angles[2]
        assert abs((roll + 180) % 360 - 180) < 5


def test_what_looks_like_a_face_at_one_angle_only_is_refused(pictures, monkeypatch):
    sight = face_mesh.detect
    monkeypatch.setattr(face_mesh, "detect", lambda picture, angle=0.0, *rest: [] if angle else sight(picture))
    with pytest.raises(FaceError, match="no face found"):
        find_landmarks(turned(pictures[0], 50)[0])


def test_an_upright_face_is_looked_at_once(pictures, monkeypatch):
    angles, sight = [], face_mesh.detect
    monkeypatch.setattr(
        face_mesh, "detect", lambda picture, angle=0.0, *rest: angles.append(angle) or sight(picture, angle, *rest)
    )
    for picture in pictures:
        find_landmarks(picture)
    assert angles == [0.0] * len(pictures)


def test_the_detectors_own_points_lie_on_eyes_nose_and_mouth(pictures):
    for picture in pictures:
        found = find_landmarks(picture)
        points = found.points
        expected = [points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]]
        assert np.linalg.norm(found.five - expected, axis=1).max() < 0.4 * interocular(points)


def test_no_face_is_said(pictures):
    rng = np.random.default_rng(0)
    for picture in (np.zeros((200, 200, 3), np.uint8), rng.integers(0, 255, (120, 90, 3), dtype=np.uint8)):
        with pytest.raises(FaceError, match="no face found"):
            find_landmarks(picture)


def test_the_largest_of_two_faces_is_taken_and_counted(pictures):
    large, small = pictures[0], cv2.resize(pictures[1], (160, 160), interpolation=cv2.INTER_AREA)
    both = np.zeros((224, 400, 3), np.uint8)
    both[:, :224], both[32:192, 232:392] = large, small
    found = find_landmarks(both)
    assert found.faces == 2
    assert found.points[:, 0].mean() < 224
    with pytest.raises(FaceError, match="2 faces found"):
        find_landmarks(both, several="refuse")


def test_a_face_that_is_found_at_two_sizes_counts_once(pictures, monkeypatch):
    monkeypatch.setattr(detection, "SURE", 2)  # always look at both sizes
    assert len(detection.detect(pictures[0])) == 1
    both = np.concatenate([pictures[0], pictures[1]], axis=1)
    assert len(detection.detect(both)) == 2


def found_box(picture):
    return detection.detect(picture)[0].box


def mesh_distance(one, other):
    return np.linalg.norm((one.mesh - other.mesh)[:, :2], axis=1).mean() / interocular(one.points)


def test_the_mesh_in_a_given_box_or_at_given_points_is_that_of_the_face_found(pictures):
    for picture in pictures:
        plain = find_landmarks(picture)
        boxed = find_landmarks(picture, "given", box=found_box(picture))
        assert mesh_distance(plain, boxed) < 0.04
        assert (boxed.faces, np.isnan(boxed.score), np.isnan(boxed.five).all()) == (1, True, True)
        np.testing.assert_allclose(boxed.points, plain.points, atol=0.1 * interocular(plain.points))
        points = plain.points + 1.5
        pointed = find_landmarks(picture, "given", points=points.astype("f4"))
        assert mesh_distance(plain, pointed) < 0.04
        np.testing.assert_allclose(pointed.points, points, rtol=1e-6)  # kept as they are


@pytest.mark.parametrize("change", [(-0.15, -0.2, 1.4, 1.4), (0.05, 0.15, 0.9, 0.7), (0, 0, 1.5, 1)])
def test_a_looser_tighter_or_wider_box_gives_the_same_mesh(pictures, change):
    for picture in pictures:
        box = found_box(picture)
        left, top, width, height = change
        other = [*(box[:2] + [left, top] * box[2:]), *(box[2:] * [width, height])]
        assert mesh_distance(find_landmarks(picture), find_landmarks(picture, "given", box=other)) < 0.05


def test_of_several_faces_the_box_or_the_points_name_one(pictures):
    large, small = pictures[0], cv2.resize(pictures[1], (160, 160), interpolation=cv2.INTER_AREA)
    both = np.zeros((224, 400, 3), np.uint8)
    both[:, :224], both[32:192, 232:392] = large, small
    for part, corner in ((large, (0, 0)), (small, (232, 32))):
        alone = find_landmarks(part)
        there = [*(found_box(part)[:2] + corner), *found_box(part)[2:]]
        for given in (
            {"box": there},
            {"points": alone.points + corner},
            {"box": there, "points": alone.points + corner},
        ):
            found = find_landmarks(both, "given", several="refuse", **given)
            assert found.faces == 1
            apart = np.linalg.norm(found.mesh[:, :2] - corner - alone.mesh[:, :2], axis=1).mean()
            assert apart < 0.06 * interocular(alone.points)
    with pytest.raises(FaceError, match="lie beside the box"):
        find_landmarks(both, "given", box=there, points=find_landmarks(large).points)


def test_a_given_face_at_the_edge_or_on_its_side_has_its_mesh(pictures):
    picture = pictures[0]
    plain = find_landmarks(picture)
    left = round(plain.mesh[:, 0].min())
    cut = np.ascontiguousarray(picture[:, left:])  # the face touches the edge
    box = found_box(picture) - [left + 3, 0, 0, 0]  # and the box goes beyond it
    found = find_landmarks(cut, "given", box=box)
    apart = np.linalg.norm(found.mesh[:, :2] + [left, 0] - plain.mesh[:, :2], axis=1).mean()
    assert apart < 0.08 * interocular(plain.points)
    for angle in (90, 135, 180):
        other, turn = turned(picture, angle)
        expected = plain.mesh[:, :2] @ turn[:, :2].T + turn[:, 2]
        points = plain.points @ turn[:, :2].T + turn[:, 2]
        for given in ({"box": [*expected.min(axis=0), *np.ptp(expected, axis=0)]}, {"points": points}):
            found = find_landmarks(other, "given", **given)
            assert np.linalg.norm(found.mesh[:, :2] - expected, axis=1).mean() < 0.1 * interocular(plain.points)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, InputError, "needs the box of the face, or its 68 points, and the data set gives neither"),
        ({"box": [0, 0, 20, 20]}, FaceError, "no face found in the box of 20x20 pixels at 0, 0"),
        ({"box": [300, 0, 20, 20]}, FaceError, r"\[300, 0, 20, 20\] .*is none in a picture of 224x224"),
        ({"box": [10, 10, 0, 20]}, FaceError, "is none in a picture"),
        ({"points": np.zeros((68, 2))}, FaceError, "is none in a picture"),
        ({"box": [1, 2, 3]}, InputError, r"the box of a face is \[1, 2, 3\]; allowed: \(4,\) finite numbers"),
        ({"points": np.full((68, 2), np.nan)}, InputError, "given landmarks is a ndarray of shape"),
    ],
)
def test_what_is_given_and_is_no_face_is_refused(pictures, given, error, message):
    with pytest.raises(error, match=message):
        find_landmarks(pictures[0], "given", **given)


def test_threads_do_not_disturb_each_other(pictures):
    from concurrent.futures import ThreadPoolExecutor

    expected = [find_landmarks(picture).mesh for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for found, mesh in zip(pool.map(find_landmarks, pictures * 2), expected * 2, strict=True):
            np.testing.assert_array_equal(found.mesh, mesh)


def test_wrong_arguments_are_named(pictures):
    with pytest.raises(UnknownNameError, match="did you mean 'mesh'"):
        find_landmarks(pictures[0], "mehs")
    with pytest.raises(InputError, match="uint8"):
        find_landmarks(pictures[0].astype(float))
    with pytest.raises(InputError, match="not a list"):
        find_landmarks(pictures[0].tolist())
    with pytest.raises(InputError, match="at least 8x8"):
        find_landmarks(np.zeros((4, 4, 3), np.uint8))


def test_rasterised_triangles_equal_a_test_of_every_pixel():
    rng = np.random.default_rng(1)
    vertices = np.column_stack([rng.uniform(2, 38, (14, 2)), rng.uniform(0, 9, 14)])
    triangles = rng.integers(0, 14, (12, 3))
    triangles = triangles[[len(set(t)) == 3 for t in triangles]]
    expected, sure = oracles.rasterise(vertices, triangles, (40, 40))
    drawn = rasterise(vertices, triangles, (40, 40))
    assert sure.mean() > 0.5
    assert (drawn[sure] == expected[sure]).all()


def test_the_canonical_face_has_the_order_of_the_points():
    face = canonical()
    points = face["xyz"][face["ibug68"]]
    assert points[8, 1] == face["xyz"][:, 1].min()  # the chin is lowest
    np.testing.assert_allclose(points[MIRRORED] * [-1, 1, 1], points, atol=0.35)  # cm


class TestFaceAlignment:
    """The second backend, with random weights that the test makes: its plumbing, not its quality."""

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        _face_alignment.cache_clear()
        yield tmp_path / "hub" / "checkpoints"
        _face_alignment.cache_clear()

    def test_missing_weights_are_said_in_one_sentence(self, cache, pictures):
        from face_alignment.api import models_urls

        file = models_urls["2DFAN-4"].rsplit("/", 1)[1]
        with pytest.raises(MissingWeightsError, match=rf"place the file {re.escape(file)} .* in {cache}"):
            find_landmarks(pictures[0], "face-alignment")

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
    def test_points_lie_in_the_face(self, cache, pictures):
        import torch
        from face_alignment.api import models_urls
        from face_alignment.models import FAN

        torch.manual_seed(0)
        cache.mkdir(parents=True)
        torch.save(FAN(4).state_dict(), cache / models_urls["2DFAN-4"].rsplit("/", 1)[1])
        found = find_landmarks(pictures[0], "face-alignment")
        assert found.points.shape == (68, 2)
        assert np.isfinite(found.points).all()
        side = np.ptp(found.mesh[:, :2], axis=0).max()
        assert (np.abs(found.points - found.mesh[:, :2].mean(axis=0)) < 2 * side).all()
        assert not np.allclose(found.points, find_landmarks(pictures[0]).points)


@pytest.mark.parametrize("name", ["surprise__svvoozzb_3", "angry__bjaqkgtt_6", "neutral__bjjtiumb_0"])
def test_an_upright_face_in_a_mask_is_not_taken_for_one_on_its_head(name):
    record = next(record for record in open_source("demo").records if name in record.id)
    picture = record.read()
    mesh = find_landmarks(picture).mesh
    masked, _ = wear_mask(picture, mesh, "mixed", seed=0, sample=record.id)
    roll, masked_roll = (find_pose(each).angles[2] for each in (mesh, find_landmarks(masked).mesh))
    assert abs(masked_roll - roll) < 30
