"""A folder of everything that goes wrong: each input is one row, ok or one clear reason, and nothing hangs."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from fcx.core.contract import usable
from fcx.datasets.masked_folder import mask_pictures
from fcx.datasets.preparation import prepare

LONG = "n" * 251 + ".png"  # 255 bytes, the longest a name may be
STRANGE = "é 口罩 <script>alert(1)<script>&amp;\n\x1b[31m\"',.jpg"
REASONS = {
    STRANGE: "ok",
    LONG: "ok",
    "megapixels.jpg": "ok",
    "cmyk.jpg": "ok",
    "sixteen.png": "ok",
    "turned.jpg": "ok",
    "upright.png": "ok",
    "moving.gif": "ok",
    "palette.png": "ok",
    "grey-alpha.png": "ok",
    "empty.jpg": "the file is empty (0 bytes)",
    "cut.jpg": "damaged or cut off",
    "text.jpg": "it is no JPEG",
    "line.png": "at least 8x8",
    "pipe.jpg": "it is not a file",
    "folder.jpg": "it is not a file",
    "loop.jpg": "Too many levels of symbolic links",
    "gone.jpg": "there is no such file",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    top = tmp_path_factory.mktemp("hostile")
    face = Image.fromarray(pictures[0])
    face.save(top / STRANGE, quality=95)
    face.save(top / LONG)
    large = Image.new("RGB", (7072, 7072), face.getpixel((2, 2)))
    large.paste(face.resize((1500, 1500), Image.Resampling.BICUBIC), (2700, 2700))
    large.save(top / "megapixels.jpg", quality=80)
    face.convert("CMYK").save(top / "cmyk.jpg", quality=95)
    Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257).save(top / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the file's rows are the picture's columns: turn by 90 degrees clockwise to see it
    face.rotate(90, expand=True).save(top / "turned.jpg", quality=95, exif=exif)
    with Image.open(top / "turned.jpg") as stored:
        Image.fromarray(np.rot90(np.asarray(stored), -1)).save(top / "upright.png")
    face.quantize(255).save(top / "moving.gif", save_all=True, append_images=[Image.new("P", face.size)])
    colours = face.quantize(255)
    colours.info["transparency"] = 254
    colours.save(top / "palette.png", transparency=254)
    face.convert("LA").save(top / "grey-alpha.png")
    (top / "empty.jpg").touch()
    (top / "cut.jpg").write_bytes((top / STRANGE).read_bytes()[:4000])
    (top / "text.jpg").write_text("dear diary")
    Image.fromarray(pictures[0][:1]).save(top / "line.png")
    os.mkfifo(top / "pipe.jpg")
    (top / "folder.jpg").mkdir()
    (top / "loop.jpg").symlink_to(top / "loop.jpg")
    (top / "folder.jpg" / "round").symlink_to(top)
    (top / "gone.jpg").symlink_to(top / "nowhere.jpg")
    return top


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    return prepare(folder, tmp_path_factory.mktemp("store") / "hostile.zarr", progress=False)


def test_each_input_is_a_row_with_ok_or_one_reason(store):
    rows = dict(zip(store["sample"].values.tolist(), store["status"].values[0].tolist(), strict=True))
    assert set(rows) == set(REASONS)
    for name, reason in REASONS.items():
        assert reason == rows[name] if reason == "ok" else reason in rows[name], name
        assert "Traceback" not in rows[name]
    assert usable(store).sum() == list(REASONS.values()).count("ok")
    assert set(store["sample"].values[~np.isfinite(store["pose"]).all("angle").values]) == {
        name for name, reason in REASONS.items() if reason != "ok"
    }


def test_a_turned_picture_is_the_same_as_its_upright_pixels(store):
    turned, upright = (store.sel(sample=name) for name in ("turned.jpg", "upright.png"))
    assert str(turned["picture_hash"].values) == str(upright["picture_hash"].values)
    np.testing.assert_array_equal(turned["image"].sel(condition="plain"), upright["image"].sel(condition="plain"))
    assert abs(float(turned["pose"].sel(angle="roll"))) < 20


def test_all_versions_of_one_face_lie_alike(store, pictures):
    good = store.sel(sample=[name for name, reason in REASONS.items() if reason == "ok"])
    reference = good["mesh"].sel(sample=LONG)
    shift = np.hypot(*(good["mesh"] - reference).sel().values[..., :2].transpose(2, 0, 1)).mean(axis=1)
    assert shift.max() < 1  # pixels of the 64x64 grid: colour depth and compression move little


def test_names_and_looks_survive_the_store(store):
    assert STRANGE in store["sample"].values.tolist()
    assert json.loads(str(store["worn"].sel(sample=STRANGE).values))["style"] == "surgical"


def test_masks_of_them_are_files_of_the_same_names(folder, tmp_path):
    rows = {row["path"]: row for row in mask_pictures(folder, tmp_path / "out", progress=False)}
    assert set(rows) == set(REASONS)
    for name, reason in REASONS.items():
        assert reason in rows[name]["status"], name
        assert (tmp_path / "out" / name).is_file() == (reason == "ok"), name
        assert bool(rows[name]["masked_hash"]) == bool(rows[name]["worn"]) == (reason == "ok")
    with open(tmp_path / "out" / "masks.csv", newline="", encoding="utf-8") as file:
        assert {row["path"]: row for row in csv.DictReader(file)} == rows
    with Image.open(tmp_path / "out" / "megapixels.jpg") as masked:
        assert masked.size == (7072, 7072)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_row(tmp_path, pictures):
    for name in ("a.png", "b.png", "closed/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pictures[0]).save(tmp_path / name)
    (tmp_path / "b.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    made = prepare(tmp_path, progress=False)
    (tmp_path / "closed").chmod(0o700)
    rows = dict(zip(made["sample"].values.tolist(), made["status"].values[0].tolist(), strict=True))
    assert rows["a.png"] == "ok"
    assert "Permission denied" in rows["b.png"]
    assert "Permission denied" in rows["closed"]
