"""Masks: exact alpha, blind to what they hide, unmoved by the mouth, repeatable; every style and fit."""

import cv2
import numpy as np
import pytest

from fcx.core.contract import GRID
from fcx.core.errors import InputError, UnknownNameError
from fcx.geometry.crops import crop_face
from fcx.geometry.landmarks import canonical, find_landmarks
from fcx.geometry.pose import FLIP, UPPER, find_pose
from fcx.masks import FITS, STYLES, MaskOptions, choose_look, composite, paint_mask, picture_style, style, wear_mask
from fcx.masks.fixed_patch import _outline
from fcx.masks.light import SKIN, find_grain
from fcx.masks.shapes import SUPPORT, surface
from fcx.masks.wear import FINEST

WORN = [name for name, entry in STYLES.items() if entry.worn]
OPAQUE = [*WORN, "grey_patch"]  # they hide the mouth
FITTED = [name for name, entry in STYLES.items() if not entry.paste]  # they are placed by the pose
LIPS, EYES, NOSE = [13, 14, 0, 17], [159, 386, 145, 374], [1, 4]


@pytest.fixture(scope="module")
def found(pictures):
    return [(picture, find_landmarks(picture).mesh) for picture in pictures]


def at(alpha, mesh, vertices):
    points = np.rint(mesh[vertices, :2]).astype(int).clip(0, np.array(alpha.shape[::-1]) - 1)
    return alpha[points[:, 1], points[:, 0]]


def scrambled(picture, where, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, picture.shape, dtype=np.uint8)
    return np.where(where[:, :, None], noise, picture)


def grimacing(mesh, seed=0):
    """Return the mesh with all but the upper face moved at random."""
    lower = np.setdiff1d(np.arange(468), UPPER)
    moved = mesh.copy()
    moved[lower] += np.random.default_rng(seed).normal(0, 20, (len(lower), 3))
    return moved


def opened(mesh, centimetres=3.0):
    """Return the mesh with its jaw dropped."""
    pose = find_pose(mesh)
    own = pose.unplace(mesh)
    own[:, 1] -= centimetres * np.clip((-3.0 - canonical()["xyz"][:, 1]) / 4, 0, 1)
    return pose.place(own)


def turned(yaw, pitch=0.0, size=256):
    """Return a plain picture and the canonical face in it, turned by degrees."""
    a, b = np.radians([yaw, pitch])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    mesh = canonical()["xyz"].astype(float) @ turn.T * 10 * FLIP + [size / 2, size / 2, 0]
    return np.full((size, size, 3), [180, 150, 130], np.uint8), mesh


@pytest.mark.parametrize("fit", ["rigid", "jaw"])
@pytest.mark.parametrize("name", OPAQUE)
def test_a_mask_covers_mouth_and_nose_and_leaves_the_eyes(found, name, fit):
    for picture, mesh in found:
        _, alpha = wear_mask(picture, mesh, name, fit=fit)
        assert (at(alpha, mesh, [*LIPS, *NOSE]) == 255).all()
        assert (at(alpha, mesh, EYES) < 30).all()


def test_a_window_shows_the_mouth_and_sunglasses_hide_the_eyes(found):
    for picture, mesh in found:
        _, alpha = wear_mask(picture, mesh, "transparent")
        assert (at(alpha, mesh, [13, 14]) < 128).all()
        assert (at(alpha, mesh, [5, 4]) > 200).all(), at(alpha, mesh, [5, 4])
        _, alpha = wear_mask(picture, mesh, "sunglasses")
        assert (at(alpha, mesh, EYES) > 250).all()
        assert (at(alpha, mesh, [*LIPS]) == 0).all()


@pytest.mark.parametrize("name", WORN)
def test_under_the_nose_and_under_the_chin(found, name):
    for picture, mesh in found:
        _, alpha = wear_mask(picture, mesh, name, wearing="under_nose", fit="jaw")
        assert (at(alpha, mesh, NOSE) < 60).all(), at(alpha, mesh, NOSE)
        assert (at(alpha, mesh, [17, 18]) > 200).all(), at(alpha, mesh, [17, 18])
        _, alpha = wear_mask(picture, mesh, name, wearing="under_chin", fit="jaw")
        assert (at(alpha, mesh, [*NOSE, *LIPS]) < 60).all(), at(alpha, mesh, [*NOSE, *LIPS])
        assert alpha.any()


@pytest.mark.parametrize("name", STYLES)
def test_recomposing_gives_the_identical_picture(found, name):
    for picture, mesh in found:
        paint, alpha = paint_mask(picture, mesh, MaskOptions(name))
        masked, again = wear_mask(picture, mesh, name)
        assert (again == alpha).all()
        assert (masked == composite(picture, paint, alpha)).all()
        exact = alpha[:, :, None] / 255 * paint + (1 - alpha[:, :, None] / 255) * picture.astype(float)
        assert np.abs(masked - exact).max() <= 0.5 + 1e-4  # rounded once
        assert (masked[alpha == 0] == picture[alpha == 0]).all()
        assert (masked[alpha == 255] == paint[alpha == 255]).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", STYLES)
def test_hidden_pixels_do_not_show(found, name, fit):
    donor = found[1][1]
    for picture, mesh in found[:2]:
        masked, alpha = wear_mask(picture, mesh, name, fit=fit, donor=donor)
        assert (alpha == 255).mean() > 0.02
        for other in (scrambled(picture, alpha == 255), np.where(alpha[:, :, None] == 255, np.uint8(0), picture)):
            masked_other, alpha_other = wear_mask(other, mesh, name, fit=fit, donor=donor)
            assert (alpha == alpha_other).all()
            assert (masked == masked_other).all()


@pytest.mark.parametrize("name", STYLES)
def test_half_hidden_pixels_show_as_much_as_the_alpha_says(found, name):
    picture, mesh = found[0]
    masked, alpha = wear_mask(picture, mesh, name)
    other = scrambled(picture, alpha > 0)
    masked_other, alpha_other = wear_mask(other, mesh, name)
    assert (alpha == alpha_other).all()
    through = (1 - alpha[:, :, None] / 255.0) * (picture.astype(float) - other)
    # Both are rounded to whole numbers, so they may differ by one.
    assert np.abs(masked.astype(float) - masked_other - through).max() <= 1 + 1e-4


@pytest.mark.parametrize("name", FITTED)
def test_the_mouth_does_not_move_a_rigid_mask(found, name):
    for picture, mesh in found[:2]:
        masked, alpha = wear_mask(picture, mesh, name)
        masked_moved, alpha_moved = wear_mask(picture, grimacing(mesh), name)
        assert (alpha == alpha_moved).all()
        assert (masked == masked_moved).all()


def test_the_jaw_moves_a_mask_that_follows_it_and_the_published_one(found):
    for picture, mesh in found:
        room = [[0, -40, 0]]  # so that the chin is well within the picture
        for options in ({"fit": "jaw"}, {"style": "published"}):
            lowest = [np.flatnonzero(wear_mask(picture, m + room, **options)[1].max(axis=1) > 128).max()
                      for m in (opened(mesh, -1), mesh, opened(mesh, 1))]  # fmt: skip
            assert lowest[0] < lowest[1] <= lowest[2]


def test_a_donor_gives_its_outline_and_the_wearer_nothing(found):
    (picture, mesh), (_, other) = found[:2]
    _, alpha = wear_mask(picture, mesh, fit="donor", donor=other)
    _, grimace = wear_mask(picture, grimacing(mesh), fit="donor", donor=other)
    assert (alpha == grimace).all()
    _, longer = wear_mask(picture, mesh, fit="donor", donor=opened(other))
    assert (alpha != longer).any()
    assert (wear_mask(picture, mesh, fit="donor", donor=mesh)[1] == wear_mask(picture, mesh, fit="jaw")[1]).all()
    with pytest.raises(InputError, match="needs the mesh of another face"):
        wear_mask(picture, mesh, fit="donor")


def test_a_canonical_face_bends_nothing():
    from fcx.masks.shapes import SHAPES, bend

    _, mesh = turned(20)
    plain = surface(SHAPES["pleated"])
    np.testing.assert_allclose(bend(plain, mesh, find_pose(mesh)), plain, atol=1e-9)


def test_bending_moves_the_support_about_as_far_as_the_face_does():
    from fcx.masks.shapes import SHAPES, bend

    _, mesh = turned(0)
    dropped = opened(mesh, 2.0)
    moved = bend(surface(SHAPES["pleated"]), dropped, find_pose(dropped)) - surface(SHAPES["pleated"])
    chin = SUPPORT.index(152)
    asked = (find_pose(dropped).unplace(dropped) - canonical()["xyz"])[SUPPORT[chin], 1]
    assert moved[-2, moved.shape[1] // 2, 1] == pytest.approx(asked, rel=0.3)


@pytest.mark.parametrize("name", OPAQUE)
def test_a_turned_head_hides_the_far_side(name):
    areas = []
    for yaw in (0, 30, 60, -60):
        picture, mesh = turned(yaw)
        _, alpha = wear_mask(picture, mesh, name, jitter=0)
        areas.append((alpha > 128).sum())
        columns = np.flatnonzero((alpha == 255).any(axis=0))
        head = mesh[:, 0].min(), mesh[:, 0].max()
        assert head[0] - 20 < columns.min()
        assert columns.max() < head[1] + 45  # a beak stands out beyond the nose
        assert (at(alpha, mesh, [13, 14]) > 240).all()
        assert at(alpha, mesh, [1])[0] > 180  # the tip of the nose is the silhouette itself
    assert areas[0] > areas[1] > areas[2] > 0.35 * areas[0]
    assert areas[2] == pytest.approx(areas[3], rel=0.05)


def test_size_and_place():
    picture, mesh = turned(0)

    def measured(**how):
        alpha = wear_mask(picture, mesh, "grey_patch", jitter=0, **how)[1] / 255
        rows, columns = np.mgrid[: len(alpha), : len(alpha)]
        return alpha.sum(), (alpha * columns).sum() / alpha.sum(), (alpha * rows).sum() / alpha.sum()

    area, x, y = measured()
    larger, *_ = measured(scale=1.1)
    assert larger / area == pytest.approx(1.21, abs=0.04)
    _, right, up = measured(shift=(1.0, 0.5))
    assert right - x == pytest.approx(10, abs=0.6)  # ten pixels are a centimetre here
    assert y - up == pytest.approx(5, abs=0.8)


def test_the_patch_elsewhere_has_the_same_area_and_leaves_the_mouth(found):
    for picture, mesh in found:
        here = wear_mask(picture, mesh, "grey_patch")[1].astype(int)
        there = wear_mask(picture, mesh, "elsewhere_patch")[1].astype(int)
        assert here.sum() == there.sum()
        assert ((here > 0) & (there > 0)).sum() < 0.35 * (here > 0).sum()
        assert (at(there, mesh, LIPS) == 0).all()


@pytest.mark.parametrize("rule", ["face", "upright"])
def test_the_fixed_patch_covers_the_same_part_of_every_crop(found, rule):
    covers = []
    for picture, mesh in found:
        crop, mesh, _ = crop_face(picture, mesh, mesh[:, :2], rule)
        masked, alpha = wear_mask(crop, mesh, "fixed_patch", scale=1.3, shift="2,1", jitter=5, fit="jaw")
        other, moved = wear_mask(crop, opened(mesh), "fixed_patch", sample="another")
        assert (alpha == moved).all()
        assert (masked == other).all()
        assert (alpha == _outline(len(crop))).all()  # it depends on nothing else
        assert len(np.unique(masked[alpha == 255], axis=0)) == 1
        assert (at(alpha, mesh, LIPS) > 200).all()
        assert (at(alpha, mesh, EYES) < 30).all()
        covers.append(cv2.resize(alpha, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(int))
    assert np.ptp(covers, axis=0).max() <= 6  # of 255: a fortieth of a pixel of the grid
    assert 0.2 < np.mean(covers) / 255 < 0.3  # as much as a surgical mask


def test_masks_follow_a_moved_face(found):
    picture, mesh = found[0]
    _, alpha = wear_mask(picture, mesh)
    wide = np.pad(picture, ((0, 0), (40, 0), (0, 0)), mode="edge")
    _, shifted = wear_mask(wide, mesh + [40, 0, 0])
    assert np.abs(shifted[:, 60:].astype(int) - alpha[:, 20:]).max() <= 2


@pytest.mark.parametrize("name", STYLES)
def test_grey_stays_grey_and_colour_stays_colour(found, name):
    picture, mesh = found[0]
    grey = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    masked, _ = wear_mask(grey, mesh, name, colour="" if STYLES[name].paste else "red")
    assert (masked == masked[:, :, :1]).all()
    traces = grey.copy()
    traces[::2, :, 2] += traces[::2, :, 2] < 250  # what JPEG makes of grey
    paint, _ = paint_mask(traces, mesh, MaskOptions(name))
    assert (paint == paint[:, :, :1]).all()
    assert np.ptp(wear_mask(picture, mesh, "surgical")[0].astype(int), axis=2).max() > 10


def test_blur_and_noise_of_a_photograph_are_found_and_matched(found):
    picture, mesh = found[0]
    big = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    mesh, pose = mesh * 2, find_pose(mesh * 2)
    free = np.zeros(big.shape[:2], np.uint8)
    blurs, masks = [], []
    for sigma in (2.0, 4.0):
        soft = cv2.GaussianBlur(big, (0, 0), sigma)
        blurs.append(find_grain(soft, pose, free)[0])
        paint, alpha = paint_mask(soft, mesh, MaskOptions("patterned", jitter=0), sample="a")
        masks.append(np.abs(np.diff(paint.mean(axis=2), axis=1))[:, :-1][alpha[:, :-2] == 255].mean())
    assert blurs[0] == pytest.approx(2.3, abs=0.9)
    assert blurs[1] == pytest.approx(4.2, abs=1.2)
    assert masks[1] < 0.8 * masks[0]
    smooth = cv2.GaussianBlur(big, (0, 0), 2.0).astype(float)
    rng = np.random.default_rng(0)
    for noise in (4.0, 8.0):
        noisy = np.clip(smooth + rng.normal(0, noise, smooth.shape[:2])[:, :, None], 0, 255).astype(np.uint8)
        assert find_grain(noisy, pose, free)[1] == pytest.approx(noise, rel=0.25)
        paint, alpha = paint_mask(noisy, mesh, MaskOptions("grey_patch")), None
        paint, alpha = paint_mask(noisy, mesh, MaskOptions(colour="white", jitter=0))
        inner = paint[..., 0].astype(float) - cv2.GaussianBlur(paint[..., 0].astype(float), (0, 0), 1.5)
        assert inner[alpha == 255].std() > 0.6 * noise


def test_light_comes_from_the_side_that_is_lit(found):
    picture, mesh = turned(0)
    ramp = np.linspace(0.6, 1.3, picture.shape[1])[None, :, None]
    lit = np.clip(picture * ramp, 0, 255).astype(np.uint8)
    paint, alpha = paint_mask(lit, mesh, MaskOptions(jitter=0))
    columns = np.arange(picture.shape[1]) - mesh[1, 0]
    left = paint[(alpha == 255) & (columns < -15)].mean()
    right = paint[(alpha == 255) & (columns > 15)].mean()
    assert right > 1.05 * left


def over_skin(picture, mesh):
    """Return the brightness of the mask over that of the skin around it."""
    paint, alpha = paint_mask(picture, mesh, MaskOptions(jitter=0))
    return paint[alpha == 255].mean() / np.median(at(picture.mean(axis=2), mesh, SKIN))


def test_masks_do_not_glow_on_underexposed_photographs(found):
    for exposure in (0.5, 0.25, 0.1):
        ratio = [
            over_skin((picture * exposure).astype(np.uint8), mesh) / over_skin(picture, mesh) for picture, mesh in found
        ]
        assert np.median(ratio) == pytest.approx(1, abs=0.15)
        assert max(ratio) < 1.4


def test_a_dark_skin_in_daylight_is_not_taken_for_underexposure():
    picture, mesh = turned(0)
    dark = picture // 2
    paint, alpha = paint_mask(dark, mesh, MaskOptions(jitter=0))
    dark[99:107, 86:110] = dark[99:107, 146:170] = (
        210  # what is bright in daylight: the whites of the eyes, a highlight
    )
    lit, _ = paint_mask(dark, mesh, MaskOptions(jitter=0))
    assert lit[alpha == 255].mean() > 1.2 * paint[alpha == 255].mean()


def test_the_same_sample_and_seed_give_the_same_mask(found):
    picture, mesh = found[0]
    first = wear_mask(picture, mesh, "mixed", seed=1, sample="a")[0]
    wear_mask(picture, mesh, "mixed", seed=2, sample="b")
    assert (wear_mask(picture, mesh, "mixed", seed=1, sample="a")[0] == first).all()
    assert (wear_mask(picture, mesh, "mixed", seed=2, sample="a")[0] != first).any()
    assert (wear_mask(picture, mesh, "mixed", seed=1, sample="b")[0] != first).any()


def test_a_hash_draws_every_style_and_colour_and_centred_places():
    looks = [choose_look(MaskOptions("mixed"), str(number)) for number in range(600)]
    assert {look.style for look in looks} == set(WORN)
    assert len({look.colour for look in looks}) > 20
    assert np.mean([look.scale for look in looks]) == pytest.approx(1, abs=0.003)
    assert np.abs(np.mean([look.shift for look in looks], axis=0)).max() < 0.03
    counts = [sum(look.style == name for look in looks) for name in WORN]
    assert min(counts) > 0.6 * len(looks) / len(WORN)
    still = [choose_look(MaskOptions(jitter=0), str(number)) for number in range(5)]
    assert {(look.scale, look.shift, look.roll, look.colour) for look in still} == {(1.0, (0.0, 0.0), 0.0, "#a6c9db")}
    assert choose_look(MaskOptions(colour="any", seed=3), "x").described()["style"] == "surgical"


def test_one_function_is_a_style(found):
    @style("halves", shape="fitted", colours=("red", "#00ff00"))
    def halves(colour, pattern):
        texture = np.full((40, 60, 3), 20, np.float32)
        texture[:, 30:] = colour
        return texture

    try:
        picture, mesh = found[0]
        masked, alpha = wear_mask(picture, mesh, "halves", colour="#ff0000", jitter=0)
        inside = masked[alpha == 255].astype(int)
        assert (inside[:, 0] - inside[:, 1] > 100).mean() == pytest.approx(0.5, abs=0.2)
        assert len({choose_look(MaskOptions("halves", colour=c, jitter=0)).colour for c in ("", "#00ff00")}) == 2
    finally:
        del STYLES["halves"]
    with pytest.raises(UnknownNameError, match="did you mean 'fitted'"):
        style("other", shape="fited")


@pytest.fixture
def own_mask(tmp_path):
    """A PNG, 400x300: an ellipse, magenta, opaque, and a hole in its middle."""
    pixels = np.zeros((300, 400, 4), np.uint8)
    cv2.ellipse(pixels, (200, 150), (180, 130), 0, 0, 360, (255, 0, 255, 255), -1)
    cv2.circle(pixels, (200, 150), 20, (0, 0, 0, 0), -1)
    cv2.imwrite(str(tmp_path / "own.png"), pixels)
    (tmp_path / "own.json").write_text('{"left": [20, 150], "right": [380, 150], "chin": [200, 280]}')
    return tmp_path / "own.png"


def test_a_png_with_three_points_is_a_style(found, own_mask):
    for picture, mesh in found:
        masked, alpha = wear_mask(picture, mesh, str(own_mask), jitter=0)
        assert ((masked[alpha == 255].astype(int) - [255, 0, 255])[:, 1] < 160).all()
        lowest = np.flatnonzero((alpha > 200).any(axis=1)).max()
        chin = find_pose(mesh).place(np.array([[0, -9.9, 3.0]]))[0]
        assert abs(lowest - min(chin[1], len(picture) - 1)) < 0.12 * np.ptp(mesh[:, 1])
    entry = picture_style(own_mask, {"left": (20, 150), "right": (380, 150), "chin": (200, 280)})
    assert entry.texture(None, 0).shape[2] == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "cannot be read as JSON"), ('{"left": [0, 0]}', "needed: 'left', 'right' and 'chin'"),
     ('{"left": [0, 0], "right": [9, 9], "chin": [18, 18]}', "not on one line"), ("[]", "needed")],
)  # fmt: skip
def test_points_of_a_png_that_cannot_be_used(own_mask, text, says, found):
    own_mask.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match=says):
        wear_mask(*found[0], str(own_mask))


def test_a_png_that_is_none(own_mask, found):
    own_mask.write_bytes(b"not a picture")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        wear_mask(*found[0], str(own_mask))
    with pytest.raises(InputError, match="JSON"):
        wear_mask(*found[0], "nowhere.png")


@pytest.mark.parametrize(
    ("how", "says"),
    [({"style": "surgicl"}, "did you mean 'surgical'"), ({"fit": "loose"}, "unknown fit"),
     ({"wearing": "over"}, "unknown wearing"), ({"scale": 0}, "scale is 0; allowed: numbers from 0.3 to 3"),
     ({"scale": float("nan")}, "scale is nan"), ({"shift": (0, 99)}, "shift is"), ({"shift": 3}, "shift is 3"),
     ({"jitter": -1}, "jitter is -1"), ({"seed": -1}, "seed is -1"), ({"styl": "x"}, "did you mean 'style'"),
     ({"colour": "bleu"}, "did you mean 'blue'"), ({"colour": "#12345z"}, "colour"),
     ({"style": "published", "colour": "#123456"}, "colour of a mask of the style 'published'")],
)  # fmt: skip
def test_wrong_arguments_are_named(found, how, says):
    with pytest.raises(InputError, match=says):
        wear_mask(*found[0], **how)


def test_what_is_no_picture_or_no_mesh_is_named(found):
    picture, mesh = found[0]
    with pytest.raises(InputError, match="uint8"):
        wear_mask(picture / 255, mesh)
    with pytest.raises(InputError, match="mesh"):
        wear_mask(picture, mesh[:68])
    with pytest.raises(InputError, match="mesh"):
        wear_mask(picture, mesh, fit="donor", donor=mesh * np.nan)
    for flat in (0 * mesh, 0 * mesh + 50, mesh * [1, 0, 1], mesh[:, :1] * [1, 2, 3]):
        with pytest.raises(InputError, match="in one place or on one line: it is no face"):
            wear_mask(picture, flat)


@pytest.mark.parametrize("name", STYLES)
def test_a_face_beyond_the_edge_is_drawn_as_far_as_it_is_seen(found, name):
    picture, mesh = found[0]
    for shift in ([-150, 0, 0], [0, 150, 0], [4000, 4000, 0]):
        masked, alpha = wear_mask(picture, mesh + shift, name)
        assert masked.shape == picture.shape
        assert (masked[alpha == 0] == picture[alpha == 0]).all()


def test_a_large_face_is_painted_smaller_and_looks_the_same(found):
    picture, mesh = found[0]
    factor = 12
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    moved = mesh * factor + [(factor - 1) / 2, (factor - 1) / 2, 0]
    assert find_pose(moved).scale > FINEST
    masked, alpha = wear_mask(large, moved)
    small = cv2.resize(masked, picture.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - wear_mask(picture, mesh)[0]).mean() < 3
    assert (masked[alpha == 0] == large[alpha == 0]).all()
    hidden = np.where((alpha == 255)[:, :, None], np.uint8(7), large)
    again, alpha_again = wear_mask(hidden, moved)
    assert (alpha_again == alpha).all()
    assert (again == masked).all()


def test_light_is_taken_where_the_upper_face_is():
    assert (canonical()["xyz"][list(SKIN), 1] > 0).all()
