"""Masks: exact alpha, blind to what they hide, unmoved by the mouth, repeatable."""

import numpy as np
import pytest

from fcx.contract import InputError, UnknownNameError
from fcx.landmarks import find_landmarks
from fcx.masks import SKIN, STYLES, UPPER, fit_pose, wear_mask


@pytest.fixture(scope="module")
def found(pictures):
    return [(picture, find_landmarks(picture).mesh) for picture in pictures]


def scrambled(picture, where, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, picture.shape, dtype=np.uint8)
    return np.where(where[:, :, None], noise, picture)


@pytest.mark.parametrize("style", STYLES)
def test_a_mask_covers_mouth_and_nose_and_leaves_the_eyes(found, style):
    for picture, mesh in found:
        masked, alpha = wear_mask(picture, mesh, style)
        assert masked.shape == picture.shape
        assert alpha.shape == picture.shape[:2]
        points = np.rint(mesh[:, :2]).astype(int).clip(0, np.array(picture.shape[1::-1]) - 1)
        assert (alpha[points[[13, 14, 0, 17, 1], 1], points[[13, 14, 0, 17, 1], 0]] == 255).all()
        assert (alpha[points[[159, 386, 151], 1], points[[159, 386, 151], 0]] < 30).all()


@pytest.mark.parametrize("style", STYLES)
def test_the_alpha_that_is_returned_is_the_one_composited(found, style):
    for picture, mesh in found:
        masked, alpha = wear_mask(picture, mesh, style)
        other = scrambled(picture, alpha > 0)
        masked_other, alpha_other = wear_mask(other, mesh, style)
        assert (alpha == alpha_other).all()
        assert (masked[alpha == 0] == picture[alpha == 0]).all()
        through = (1 - alpha[:, :, None] / 255.0) * (picture.astype(float) - other)
        # Both are rounded to whole numbers, so they may differ by one.
        assert np.abs(masked.astype(float) - masked_other - through).max() <= 1 + 1e-6


@pytest.mark.parametrize("style", STYLES)
def test_hidden_pixels_do_not_show(found, style):
    for picture, mesh in found:
        masked, alpha = wear_mask(picture, mesh, style)
        other, _ = wear_mask(scrambled(picture, alpha == 255), mesh, style)
        assert (alpha == 255).mean() > 0.02
        assert (masked == other).all()


def test_the_mouth_does_not_move_a_rigid_mask(found):
    lower = np.setdiff1d(np.arange(468), [*UPPER, *SKIN])
    for picture, mesh in found:
        moved = mesh.copy()
        moved[lower] += np.random.default_rng(0).normal(0, 20, (len(lower), 3))
        masked, alpha = wear_mask(picture, mesh)
        masked_moved, alpha_moved = wear_mask(picture, moved)
        assert (alpha == alpha_moved).all()
        assert (masked == masked_moved).all()


def test_the_pose_finds_a_known_similarity():
    from fcx.landmarks import canonical

    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    face = canonical()["xyz"].astype(float)
    mesh = (11 * face @ turn.T + [100, 90, 5]) * [1, -1, -1]
    np.testing.assert_allclose(fit_pose(mesh)(face), mesh, atol=1e-6)


def test_masks_follow_a_moved_face(found):
    picture, mesh = found[0]
    _, alpha = wear_mask(picture, mesh)
    wide = np.pad(picture, ((0, 0), (40, 0), (0, 0)), mode="edge")
    _, shifted = wear_mask(wide, mesh + [40, 0, 0])
    assert np.abs(shifted[:, 60:].astype(int) - alpha[:, 20:]).max() <= 2


def test_grey_stays_grey_and_colour_stays_colour(found):
    picture, mesh = found[0]
    grey = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    masked, _ = wear_mask(grey, mesh)
    assert (masked == masked[:, :, :1]).all()
    assert np.ptp(wear_mask(picture, mesh)[0].astype(int), axis=2).max() > 10


def test_the_same_sample_and_seed_give_the_same_mask(found):
    picture, mesh = found[0]
    first = wear_mask(picture, mesh, seed=1, sample="a")[0]
    wear_mask(picture, mesh, seed=2, sample="b")
    assert (wear_mask(picture, mesh, seed=1, sample="a")[0] == first).all()
    assert (wear_mask(picture, mesh, seed=2, sample="a")[0] != first).any()
    assert (wear_mask(picture, mesh, seed=1, sample="b")[0] != first).any()


def test_wrong_arguments_are_named(found):
    picture, mesh = found[0]
    with pytest.raises(UnknownNameError, match="did you mean 'surgical'"):
        wear_mask(picture, mesh, "surgicl")
    with pytest.raises(UnknownNameError, match="unknown fit"):
        wear_mask(picture, mesh, fit="loose")
    with pytest.raises(InputError, match="uint8"):
        wear_mask(picture / 255, mesh)
    with pytest.raises(InputError, match="mesh"):
        wear_mask(picture, mesh[:68])


def test_a_face_beyond_the_edge_is_drawn_as_far_as_it_is_seen(found):
    picture, mesh = found[0]
    for shift in ([-150, 0, 0], [0, 150, 0], [4000, 4000, 0]):
        masked, alpha = wear_mask(picture, mesh + shift)
        assert masked.shape == picture.shape
        assert (masked[alpha == 0] == picture[alpha == 0]).all()
