"""Drawn masks sit and look like those that people wear, in the numbers of `mask_measures`.

Worn: what was measured on photographs of 51 frontal wearers with a mask drawn over the worn one, as the difference from
the masks that fcx drew then, added to what those masks measure on the demo faces.
"""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from mask_measures import LUMA, flattened, looks, places

from fcx.datasets import open_source
from fcx.geometry.crops import crop_face
from fcx.geometry.landmarks import find_landmarks
from fcx.geometry.pose import find_pose
from fcx.masks import STYLES, MaskOptions, choose_look, wear_mask
from fcx.masks.styles import rgb

WORN = {"nose": 1.23, "side": 0.11, "fall": 1.1, "half5": 6.11, "half7": 5.02}  # centimetres
STYLES_WORN = [name for name, entry in STYLES.items() if entry.worn]


@pytest.fixture(scope="module")
def frontal():
    """Forty frontal faces (id, picture of 300x300 and more, mesh), drawn ones and portraits."""
    records, faces = open_source("demo").records, []
    for record in records[8:412:34] + records[412:448]:
        picture = record.read()
        mesh = find_landmarks(picture).mesh
        if np.abs(find_pose(mesh).angles).max() < 15:
            crop, mesh, _ = crop_face(picture, mesh, mesh[:, :2])
            scale = max(1, 300 / len(crop))
            faces.append((record.id, cv2.resize(crop, None, fx=scale, fy=scale), mesh * scale))
    return faces


@pytest.fixture(scope="module")
def measured(frontal):
    """What `places` and `looks` say of masks of the style mixed, by fit: name -> (face,)."""
    result = {}
    for fit in ("rigid", "jaw"):
        rows = []
        for seed in (0, 1):
            for name, picture, mesh in frontal:
                masked, alpha = wear_mask(picture, mesh, "mixed", fit=fit, seed=seed, sample=name)
                rows.append(places(alpha, mesh) | looks(masked, alpha, mesh))
        result[fit] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return result


@pytest.mark.parametrize("fit", ["rigid", "jaw"])
def test_masks_sit_where_they_are_worn(measured, fit):
    for name, centimetres in WORN.items():
        assert np.median(measured[fit][name]) == pytest.approx(centimetres, abs=0.3), name
    # An AUC of .94 between 3.0 drawn and 1.1 worn tells the spread of both together: 1.2.
    assert 0.45 < measured[fit]["fall"].std() < 1.0
    assert measured[fit]["nose"].std() > 0.25


@pytest.mark.parametrize("name", STYLES_WORN)
def test_no_style_is_a_kite(frontal, name):
    """A pointed chin is half as wide at y = -7 as at -5."""
    rows = [places(wear_mask(picture, mesh, name, sample=face)[1], mesh) for face, picture, mesh in frontal[::4]]
    assert np.median([row["half7"] / row["half5"] for row in rows]) > 0.75
    assert np.median([row["fall"] for row in rows]) < 2


def test_cloth_is_as_rough_as_cloth(measured):
    assert np.median(measured["rigid"]["middle"]) == pytest.approx(0.09, abs=0.02)
    assert np.median(measured["rigid"]["fine"]) == pytest.approx(0.04, abs=0.02)


def test_brightness_over_the_skin_has_the_spread_of_worn_masks(measured):
    low, median, high = np.percentile(measured["rigid"]["ratio"], [25, 50, 75])
    assert low == pytest.approx(0.39, abs=0.15)
    assert median == pytest.approx(0.98, abs=0.2)  # few have it: it lies between the dark and the light ones
    assert high == pytest.approx(1.33, abs=0.2)


@pytest.mark.parametrize("name", STYLES_WORN)
def test_folds_differ_from_face_to_face_and_from_left_to_right(frontal, name):
    _, picture, mesh = frontal[-1]
    masks = []
    for sample in "abcd":
        masked, alpha = wear_mask(picture, mesh, name, colour="grey", jitter=0, sample=sample)
        grey = flattened(masked, mesh)[50:110, 60:141] @ LUMA
        masks.append((cv2.GaussianBlur(grey, (0, 0), 1) - cv2.GaussianBlur(grey, (0, 0), 8)).ravel())
        mirrored = masks[-1].reshape(grey.shape)[:, ::-1].ravel()
        assert name == "patterned" or np.corrcoef(masks[-1], mirrored)[0, 1] < 0.75
        assert (flattened(alpha, mesh)[50:110, 60:141] > 240).all()
    alike = np.corrcoef(masks)[np.triu_indices(4, 1)]
    assert name == "patterned" or alike.max() < 0.8


def test_colours_are_drawn_as_often_as_they_are_worn():
    counts = Counter()
    for number in range(600):
        look = choose_look(MaskOptions("mixed", jitter=0), str(number))
        paint = STYLES[look.style].texture(rgb(look.colour), look.pattern).reshape(-1, 3).mean(axis=0)
        counts[kind_of(paint)] += 1 / 600
    worn = {"dark": 0.29, "white": 0.29, "blue": 0.17, "grey": 0.07, "green": 0.02, "other": 0.16}
    for kind, share in worn.items():
        assert counts[kind] == pytest.approx(share, abs=0.06), counts


def kind_of(colour) -> str:
    luma, spread = colour @ LUMA, np.ptp(colour)
    hue = cv2.cvtColor(np.uint8(np.clip(colour, 0, 255))[None, None], cv2.COLOR_RGB2HSV)[0, 0, 0].astype(int) * 2
    if luma < 72:
        return "dark"
    if spread < 34:
        return "white" if luma > 188 else "grey"
    return "blue" if 187 < hue < 260 else "green" if 90 < hue <= 187 else "other"


def test_bands_are_seen_in_three_of_ten_and_have_the_colour_of_the_mask(frontal):
    drawn = [choose_look(MaskOptions("mixed"), str(number)).straps for number in range(600)]
    assert np.mean(drawn) == pytest.approx(12 / 40, abs=0.05)
    with_bands, without = drawn.index(True), drawn.index(False)
    _, picture, mesh = frontal[0]
    for number in (with_bands, without):
        masked, alpha = wear_mask(picture, mesh, colour="#103080", jitter=0, sample=str(number))
        body = cv2.morphologyEx(np.uint8(alpha > 60), cv2.MORPH_OPEN, np.ones((25, 25), np.uint8))
        bands = (alpha > 150) & (cv2.dilate(body, np.ones((15, 15), np.uint8)) == 0)
        assert bands.any() == (number == with_bands)
        assert (masked[bands].astype(int) @ [-1, 0, 1] > 20).all()  # more blue than red


def test_what_is_drawn_is_told(frontal):
    look = choose_look(MaskOptions("mixed"), "ada")
    assert look.described() == look.described() | {"straps": look.straps, "lift": round(look.lift, 3)}
    assert choose_look(MaskOptions(jitter=0), "ada").lift == 0
    assert replace(look, lift=0.0) != look
