"""The pose of a head, from the upper face alone, and the crop that is cut in it."""

import numpy as np
import pytest

from fcx.datasets import open_source
from fcx.geometry.crops import crop_face
from fcx.geometry.landmarks import canonical, find_landmarks
from fcx.geometry.pose import FLIP, HEIGHTS, UPPER, find_pose


def turn_of(yaw, pitch, roll):
    """Return the rotation (xyz, xyz): roll, then pitch, then yaw, y up and z to the viewer; roll as a clock turns."""
    y, p, r = np.radians([yaw, pitch, -roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (-60, 0, 0), (0, 25, 0), (0, 0, 40), (0, -20, -15)])
def test_a_known_similarity_is_found(angles):
    face = canonical()["xyz"].astype(float)
    mesh = (11 * face @ turn_of(*angles).T + [100, -90, 5]) * FLIP
    pose = find_pose(mesh)
    assert pose.angles == pytest.approx(angles, abs=1e-6)
    assert pose.scale == pytest.approx(11)
    assert pose.height == 1.0
    np.testing.assert_allclose(pose.place(face), mesh, atol=1e-6)


def test_the_two_directions_undo_each_other(pictures):
    for picture in pictures:
        mesh = find_landmarks(picture).mesh
        pose = find_pose(mesh)
        np.testing.assert_allclose(pose.place(pose.unplace(mesh)), mesh, atol=1e-9)


def test_a_short_face_has_the_second_height():
    face = canonical()["xyz"].astype(float)
    assert find_pose(face * [10, 8.4, 10] * FLIP).height == HEIGHTS[1]
    assert find_pose(face * [10, 10.5, 10] * FLIP).height == HEIGHTS[0]


def test_adults_in_tight_crops_keep_their_height():
    """The forehead is hardly in such a picture; what lies beyond it was black to the mesh, and faces looked short."""
    portraits = [record.read() for record in open_source("demo").records if record.split == "unlabelled"][:40:2]
    heights = []
    for picture in portraits:
        mesh = find_landmarks(picture).mesh
        low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
        for room in (0.9, 1.0, 1.1):
            middle, half = (low + high) / 2, room * (high - low) / 2
            left, top = np.maximum(middle - half, 0).astype(int)
            right, bottom = np.ceil(middle + half).astype(int) + 1
            heights.append(find_pose(find_landmarks(picture[top:bottom, left:right].copy()).mesh).height)
    assert np.mean(np.array(heights) == HEIGHTS[0]) > 0.75  # of 60; 0.52 before


def test_an_open_mouth_moves_neither_pose_nor_crop(pictures):
    lower = np.setdiff1d(np.arange(468), UPPER)
    for picture in pictures:
        found = find_landmarks(picture)
        moved = found.mesh.copy()
        moved[lower] += np.random.default_rng(0).normal(0, 15, (len(lower), 3))
        assert find_pose(moved).angles == find_pose(found.mesh).angles
        for rule in ("face", "whole"):
            crop, _, points = crop_face(picture, found.mesh, found.points, rule)
            crop_moved, _, points_moved = crop_face(picture, moved, found.points, rule)
            assert (crop == crop_moved).all()
            assert (points == points_moved).all()
