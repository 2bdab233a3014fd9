"""Reading picture files of every kind, and refusing what is none."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcx.core.errors import ImageError
from fcx.datasets import pictures, read_picture


def blocks():
    """Return a picture (row, column, channel) of coloured blocks of 40 pixels, which lossy formats keep nearly."""
    small = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return small.repeat(40, 0).repeat(40, 1)


def saved(path, array=None, **options):
    array = blocks() if array is None else array
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif"])
def test_lossless_pictures_are_read_exactly(tmp_path, suffix):
    np.testing.assert_array_equal(read_picture(saved(tmp_path / f"x{suffix}")), blocks())


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".jp2", ".avif"])
def test_lossy_pictures_are_read_nearly(tmp_path, suffix):
    picture = read_picture(saved(tmp_path / f"x{suffix}"))
    assert np.abs(picture.astype(int) - blocks()).mean() < 4


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    grey = blocks()[..., 0]
    path = saved(tmp_path / "x.png", grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(path), grey[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(blocks()).convert(mode)
    path = saved(tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"), image)
    expected = np.asarray(image.convert("RGB"), int)
    picture = read_picture(path)
    assert picture.shape == (160, 200, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).mean() < 4


def test_transparency_is_laid_on_white(tmp_path):
    colour = np.full((8, 8, 4), 100, np.uint8)
    colour[:4, :, 3], colour[4:, :, 3] = 0, 255
    picture = read_picture(saved(tmp_path / "x.png", colour))
    assert (picture[:4] == 255).all()
    assert (picture[4:] == 100).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    # What each value says about the stored array, undone by hand (EXIF 2.3, tag 0x0112).
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_picture(path), undo[orientation](blocks()))


def test_damaged_exif_leaves_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "x.jpg", exif=exif)
    data = bytearray(path.read_bytes())
    start = data.index(b"Exif\0\0") + 6
    data[start : start + 14] = b"\xff" * 14
    path.write_bytes(data)
    assert read_picture(path).shape == (160, 200, 3)


def test_first_frame_of_an_animation(tmp_path):
    first, second = Image.new("P", (9, 9), 3), Image.new("P", (9, 9), 7)
    for image in (first, second):
        image.putpalette([value for value in range(256) for _ in range(3)])
    path = tmp_path / "x.gif"
    first.save(path, save_all=True, append_images=[second])
    assert (read_picture(path) == 3).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".avif"])
@pytest.mark.parametrize("kept", [0.1, 0.6, 0.95])
def test_cut_pictures_are_refused_in_one_quiet_sentence(tmp_path, suffix, kept, capfd):
    path = saved(tmp_path / f"x{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=rf"x\{suffix} cannot be read as a picture: ") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jpg", b"", r"the file is empty \(0 bytes\)"),
        ("x.jpg", b"<html></html>", "it is no JPEG, PNG, .* or AVIF file, or its start is damaged"),
        ("x.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "it is no JPEG"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_picture(tmp_path / name)


def test_floating_point_pixels_are_refused(tmp_path):
    path = saved(tmp_path / "x.tif", np.full((9, 9), 0.5, np.float32))
    with pytest.raises(ImageError, match="save it with 8 bits"):
        read_picture(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    for path in (tmp_path / "x.jpg", tmp_path):
        with pytest.raises(ImageError, match="it is not a file"):
            read_picture(path)


def test_a_file_too_large_to_be_a_picture_is_not_read(tmp_path):
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(3_000_000_000)  # a hole: it takes no room
    with pytest.raises(ImageError, match=r"it has 3\.0 GB, the limit is 1"):
        read_picture(tmp_path / "huge.jpg")


def test_no_permission_is_said(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.jpg")

    def refuse(self):  # root may read everything, so taking the permission away would test nothing there
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"x\.jpg cannot be opened: Permission denied"):
        read_picture(path)


def test_fifty_megapixels_are_read(tmp_path):
    path = saved(tmp_path / "x.jpg", np.full((7100, 7100), 50, np.uint8))
    picture = read_picture(path)
    assert picture.shape == (7100, 7100, 3)
    assert picture[0, 0].tolist() == [50, 50, 50]


@pytest.mark.parametrize("side", [9500, 15000])
def test_beyond_the_limit_is_refused_before_decoding(tmp_path, side):
    path = saved(tmp_path / "x.png", Image.new("1", (side, side)))
    with pytest.raises(ImageError, match=f"{pictures.LIMIT // 1_000_000} megapixels"):
        read_picture(path)
