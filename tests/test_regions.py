"""Regions partition the picture at any size and lie where the landmarks say."""

import numpy as np
import pytest

from fcx.core.contract import REGIONS
from fcx.core.errors import InputError
from fcx.geometry.landmarks import find_landmarks
from fcx.geometry.regions import region_maps, triangle_regions


@pytest.fixture(scope="module")
def meshes(pictures):
    return [find_landmarks(picture).mesh * 64 / picture.shape[0] for picture in pictures]


@pytest.mark.parametrize("size", [16, 37, 64, 128])
def test_coverages_sum_to_255_everywhere(meshes, size):
    for mesh in meshes:
        maps = region_maps(mesh * size / 64, size)
        assert maps.shape == (len(REGIONS), size, size)
        assert (maps.astype(int).sum(axis=0) == 255).all()


def test_every_region_of_a_frontal_face_has_area(meshes):
    areas = np.mean([region_maps(mesh).mean(axis=(1, 2)) / 255 for mesh in meshes], axis=0)
    assert (areas > 0.01).all()
    assert areas[REGIONS.index("cheeks")] > areas[REGIONS.index("nose")]


def test_areas_do_not_depend_on_the_size(meshes):
    for mesh in meshes:
        small = region_maps(mesh, 64).mean(axis=(1, 2)) / 255
        large = region_maps((mesh + [0.5, 0.5, 0]) * 4 - [0.5, 0.5, 0], 256).mean(axis=(1, 2)) / 255
        np.testing.assert_allclose(small, large, atol=6e-3)  # triangles are drawn with their edges


def test_landmarks_lie_in_their_regions(pictures):
    for picture in pictures:
        found = find_landmarks(picture)
        scale = 128 / max(picture.shape[:2])
        maps = region_maps(found.mesh * scale, 128)
        names = np.array(REGIONS)[maps.argmax(axis=0)]
        for name, numbers in {"eyes": (37, 41, 44, 46), "nose": (29, 30), "mouth": (51, 57, 62, 66)}.items():
            places = np.rint(found.points[list(numbers)] * scale).astype(int)
            assert set(names[places[:, 1], places[:, 0]]) == {name}


def test_regions_of_the_mesh_are_symmetric():
    from fcx.geometry.landmarks import canonical

    face = canonical()
    centres = face["xyz"][face["tri"]].mean(axis=1)
    regions = triangle_regions()
    for number, centre in enumerate(centres):
        twin = np.linalg.norm(centres - centre * [-1, 1, 1], axis=1).argmin()
        assert regions[number] == regions[twin]


def test_a_turned_away_side_is_hidden(meshes):
    mesh = meshes[0]
    centre = mesh.mean(axis=0)
    angle = np.radians(75)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    eye = REGIONS.index("eyes")
    turned = region_maps((mesh - centre) @ turn.T + centre)
    assert turned[eye].sum() < 0.75 * region_maps(mesh)[eye].sum()


def test_a_broken_mesh_is_refused(meshes):
    with pytest.raises(InputError, match=r"\(468, 3\)"):
        region_maps(meshes[0][:100])
    broken = meshes[0].copy()
    broken[3] = np.nan
    with pytest.raises(InputError, match="missing values"):
        region_maps(broken)
