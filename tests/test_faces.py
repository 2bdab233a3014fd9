"""From pictures to a faces Dataset: contract, crops, reasons, resuming, workers."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import at_once
from PIL import Image

from fcx.core.contract import check
from fcx.core.errors import InputError, StoreError, UnknownNameError
from fcx.core.files import digest
from fcx.core.provenance import STEP_VERSIONS
from fcx.datasets import open_source, preparation as rooms
from fcx.datasets.masked_folder import mask_pictures
from fcx.datasets.preparation import open_faces, prepare
from fcx.datasets.usable_faces import coverage_rows
from fcx.geometry.crops import crop_face
from fcx.geometry.landmarks import canonical, find_landmarks
from fcx.geometry.pose import find_pose
from fcx.masks import STYLES, MaskOptions, Style, choose_look, picture_style


@pytest.fixture
def folder(tmp_path, pictures):
    """A folder with two faces, a landscape, a broken JPEG, an empty file, text, and a strange name."""
    inside = tmp_path / "in"
    (inside / "sub").mkdir(parents=True)
    Image.fromarray(pictures[0]).save(inside / "a.jpg", quality=95)
    Image.fromarray(pictures[1]).save(inside / "sub" / "<b>é & ü.png")
    Image.fromarray(np.full((90, 120, 3), 128, np.uint8)).save(inside / "none.png")
    (inside / "cut.jpg").write_bytes((inside / "a.jpg").read_bytes()[:3000])
    (inside / "empty.png").write_bytes(b"")
    (inside / "text.jpg").write_text("no picture")
    (inside / "notes.txt").write_text("ignored")
    return inside


REASONS = {
    "a.jpg": "ok", "sub/<b>é & ü.png": "ok", "none.png": "no face found", "cut.jpg": "cut off",
    "empty.png": "0 bytes", "text.jpg": "no JPEG",
}  # fmt: skip


def test_demo_faces_keep_the_contract(demo):
    check(demo, "faces")
    assert (demo["status"] == "ok").all()
    assert demo["image"].shape == (2, 8, 64, 64)
    assert demo["picture"].shape == (2, 8, 224, 224, 3)
    assert (demo["regions"].astype(int).sum("region") == 255).all()
    assert not demo["alpha"].sel(condition="plain").any()
    area = demo["alpha"].sel(condition="masked").mean(("y", "x")) / 255
    assert ((area > 0.1) & (area < 0.5)).all()
    assert demo.attrs["crop"] == "face"
    assert demo.attrs["mask_style"] == "surgical"


def test_conditions_differ_only_under_the_mask(demo):
    plain, masked = demo["image"].values.astype(int)
    alpha = demo["alpha"].sel(condition="masked").values
    assert (plain[alpha == 0] == masked[alpha == 0]).mean() > 0.99  # averaging may round
    assert np.abs(plain - masked)[alpha == 0].max() <= 1
    assert np.abs(plain - masked)[alpha == 255].mean() > 5


def test_the_canonical_face_in_its_pose_fills_the_crop(demo):
    for mesh in demo["mesh"].values.astype(float):
        placed = find_pose(mesh).place(canonical()["xyz"])[:, :2]
        assert np.ptp(placed, axis=0).max() * 1.25 == pytest.approx(64, rel=0.01)
        np.testing.assert_allclose((placed.min(axis=0) + placed.max(axis=0)) / 2, 31.5, atol=0.5)


@pytest.mark.parametrize("rule", ["face", "upright", "whole"])
def test_points_stay_on_the_face_in_a_crop(pictures, rule):
    for picture in pictures:
        tilted = np.ascontiguousarray(Image.fromarray(picture).rotate(20, Image.Resampling.BILINEAR, expand=True))
        found = find_landmarks(tilted)
        crop, mesh, points = crop_face(tilted, found.mesh, found.points, rule)
        assert crop.shape[0] == crop.shape[1]
        again = find_landmarks(crop)
        eyes = np.linalg.norm(points[36:42].mean(axis=0) - points[42:48].mean(axis=0))
        assert np.linalg.norm(again.points - points, axis=1).mean() < 0.07 * eyes
        assert np.linalg.norm(again.mesh[:, :2] - mesh[:, :2], axis=1).mean() < 0.07 * eyes
        if rule == "upright":
            across = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
            assert abs(np.degrees(np.arctan2(across[1], across[0]))) < 3


def test_a_large_picture_is_shrunk_with_its_points(pictures):
    large = np.asarray(Image.fromarray(pictures[0]).resize((1600, 1600), Image.Resampling.BICUBIC))
    found = find_landmarks(large)
    crop, mesh, _ = crop_face(large, found.mesh, found.points)
    assert crop.shape == (512, 512, 3)
    np.testing.assert_allclose(np.ptp(mesh[:, :2], axis=0).max() * 1.25, 512, rtol=0.1)


def test_every_input_has_a_row_with_the_reason(folder):
    made = prepare(folder, progress=False)
    status = dict(
        zip(made["sample"].values.tolist(), made["status"].sel(condition="plain").values.tolist(), strict=True)
    )
    assert set(status) == set(REASONS)
    for name, reason in REASONS.items():
        assert reason in status[name]
    broken = made.sel(sample="cut.jpg")
    assert not broken["image"].any()
    assert np.isnan(broken["mesh"]).all()
    assert np.isnan(made["valence"]).all()


def test_a_store_an_interrupted_store_and_several_workers_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "FACES_A_BLOCK", 2)
    expected = prepare("demo", limit=5, progress=False)
    whole = prepare("demo", tmp_path / "whole.zarr", limit=5, progress=False)
    workers = prepare("demo", tmp_path / "workers.zarr", limit=5, workers=2, progress=False)

    calls = []

    def interrupted(record, settings, donors):
        calls.append(record.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return make(record, settings, donors)

    make = rooms.make_face
    monkeypatch.setattr(rooms, "make_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("demo", tmp_path / "part.zarr", limit=5, progress=False)
    with pytest.raises(StoreError, match="unfinished: run the command"):
        open_faces(tmp_path / "part.zarr")
    with pytest.raises(StoreError, match="other settings"):
        prepare("demo", tmp_path / "part.zarr", limit=5, seed=3, progress=False)
    part = prepare("demo", tmp_path / "part.zarr", limit=5, progress=False)
    assert calls.count(calls[0]) == 1  # the finished block was not made again
    for other in (whole, workers, part, open_faces(tmp_path / "whole.zarr")):
        for name in expected.data_vars:
            np.testing.assert_array_equal(other[name].values, expected[name].values, err_msg=name)
        np.testing.assert_array_equal(other["sample"].values, expected["sample"].values)


def prepare_at_once(barrier, folder):
    rooms.FACES_A_BLOCK = 2
    for number in range(3):
        barrier.wait()
        prepare("demo", folder / f"{number}.zarr", limit=8, progress=False)


def test_equal_calls_at_once_share_the_work(demo, tmp_path, monkeypatch):
    at_once(prepare_at_once, tmp_path)
    monkeypatch.setattr(rooms, "FACES_A_BLOCK", 2)
    monkeypatch.setattr(rooms, "make_face", None)  # nothing is left to be made
    for number in range(3):
        again = prepare("demo", tmp_path / f"{number}.zarr", limit=8, progress=False)
        for name in demo.variables:
            np.testing.assert_array_equal(again[name].values, demo[name].values, err_msg=name)


KILLED = """
import sys
from fcx.datasets import masked_folder, preparation
preparation.FACES_A_BLOCK = masked_folder.PICTURES_A_BLOCK = 4
if sys.argv[1] == "prepare":
    preparation.prepare("demo", sys.argv[2], limit=24, style="mixed", workers=2, progress=False)
else:
    masked_folder.mask_pictures(sys.argv[3], sys.argv[2], style="mixed", workers=2, progress=False)
"""


def killed(begun, *words):
    """Run KILLED in a process of its own, kill it once `begun` says so, and wait until its workers have ended."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, words)])
    end = time.monotonic() + 60
    while not begun():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    workers = [pid for children in threads for pid in children.read_text().split()]
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(workers) >= 2
    while alive := [pid for pid in workers if running(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.02)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def contents(folder):
    """Return path -> bytes of what is in a folder, but for what a store says of itself."""
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    return {name: content for name, content in files.items() if name not in (".zattrs", ".zmetadata")}


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@linux
def test_a_killed_run_goes_on_to_the_same_store(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "FACES_A_BLOCK", 4)
    part, whole = tmp_path / "part.zarr", tmp_path / "whole.zarr"
    killed((part / "status" / "0.0").exists, "prepare", part)
    with pytest.raises(StoreError, match="unfinished"):
        open_faces(part)
    for out in (part, whole):
        prepare("demo", out, limit=24, style="mixed", progress=False)
    assert contents(part) == contents(whole)


@linux
def test_killed_masks_go_on_to_the_same_files(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for record in open_source("demo").records[-20:]:
        shutil.copy(record.read.args[0], source)
    part, whole = tmp_path / "part", tmp_path / "whole"
    part.mkdir()
    killed(lambda: ",ok," in table(part), "mask", part, source)
    assert ",pending," in table(part)
    rows = [mask_pictures(source, out, style="mixed", progress=False) for out in (part, whole)]
    assert rows[0] == rows[1]
    assert contents(part) == contents(whole)


def table(folder):
    file = folder / "masks.csv"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def test_the_outline_of_another_face_is_drawn_by_hash_and_recorded(folder, tmp_path, pictures):
    for number, picture in enumerate(pictures[2:]):
        Image.fromarray(picture).save(folder / f"more-{number}.png")
    made = prepare(folder, fit="donor", progress=False)
    good = made.isel(sample=(made["status"].values == "ok").all(axis=0))
    donors = {
        name: json.loads(worn)["donor"] for name, worn in zip(good["sample"].values, good["worn"].values, strict=True)
    }
    assert len(donors) == 6
    assert all(
        name != donor and donor in donors for name, donor in donors.items()
    )  # never itself, never one without a face
    rigid = prepare(folder, progress=False).sel(sample=good["sample"])
    assert (rigid["alpha"] != good["alpha"]).any(("y", "x")).sel(condition="masked").all()
    np.testing.assert_array_equal(rigid["mesh"], good["mesh"])
    rows = {row["path"]: row for row in mask_pictures(folder, tmp_path / "out", fit="donor", progress=False)}
    assert {name: json.loads(rows[name]["worn"])["donor"] for name in donors} == donors


def test_a_face_without_a_donor_keeps_its_plain_condition(tmp_path, pictures):
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    Image.fromarray(np.full((90, 120, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    alone = prepare(tmp_path, fit="donor", progress=False).sel(sample="a.png")
    assert alone["status"].values[0] == "ok"
    assert alone["status"].values[1] == "no outline of another face: none was found in wall.png"
    assert alone["image"].sel(condition="plain").any()
    assert not alone["image"].sel(condition="masked").any()


def test_every_row_says_what_was_worn_and_hashes_what_was_made(demo):
    again = prepare("demo", limit=2, style="mixed", wearing="under_nose", scale=1.1, shift="0.5,-1", progress=False)
    for name, worn in zip(again["sample"].values, again["worn"].values, strict=True):
        look = choose_look(MaskOptions("mixed", wearing="under_nose", scale=1.1, shift=(0.5, -1.0)), name)
        assert json.loads(worn) == look.described()
    assert again.attrs["mask_shift"] == [0.5, -1.0]
    plain, masked = (again["image_hash"].sel(condition=name).values for name in ("plain", "masked"))
    assert plain.tolist() == demo["image_hash"].values[0, :2].tolist()
    assert not set(masked) & set(demo["image_hash"].values[1, :2])
    records = open_source("demo").records[:2]
    assert again["picture_hash"].values.tolist() == [digest(record.read()) for record in records]
    angles = [find_pose(find_landmarks(record.read()).mesh).angles for record in records]
    np.testing.assert_allclose(again["pose"].values, angles, rtol=1e-5)


def test_worker_processes_know_the_styles_of_this_session(tmp_path, monkeypatch):
    pixels = np.zeros((60, 100, 4), np.uint8)
    pixels[10:, 10:90] = [200, 30, 60, 255]
    Image.fromarray(pixels).save(tmp_path / "own.png")
    own = picture_style(tmp_path / "own.png", {"left": (5, 20), "right": (95, 20), "chin": (50, 58)})
    monkeypatch.setitem(STYLES, "own", own)
    (tmp_path / "own.png").unlink()
    one, two = (prepare("demo", limit=2, style="own", workers=n, progress=False) for n in (1, 2))
    np.testing.assert_array_equal(one["image"], two["image"])
    monkeypatch.setitem(STYLES, "local", Style(lambda colour, pattern: pixels, "pleated", ("red",)))
    prepare("demo", limit=1, style="local", progress=False)
    with pytest.raises(InputError, match=r"'local' cannot be sent to worker processes .* use workers=1"):
        prepare("demo", limit=2, style="local", workers=2, progress=False)


def test_coverage_counts_every_face_once_by_expression_and_by_pose(demo):
    changed = demo.copy(deep=True)
    changed["pose"][:, 0] = [0, -14, 15, -29, 44, 59, -61, np.nan]
    changed["status"][:, 7] = "no face found"
    rows = coverage_rows(changed)
    assert (rows[0]["given"], rows[0]["usable, paired"], rows[0]["coverage %"]) == (8, 7, 87.5)
    poses = {row["group"]: (row["given"], row["usable, paired"]) for row in rows if row["by"] == "pose"}
    assert list(poses.values()) == [(2, 2), (2, 2), (1, 1), (1, 1), (1, 1), (1, 0)]
    assert list(poses)[-1] == "unknown"
    assert sum(row["given"] for row in rows if row["by"] == "expression") == 8


def test_inputs_that_changed_are_not_mistaken_for_the_old_ones(folder, tmp_path, pictures):
    prepare(folder, tmp_path / "a.zarr", progress=False)
    prepare(folder, tmp_path / "a.zarr", progress=False)  # the same: nothing to do
    Image.fromarray(pictures[2]).save(folder / "a.jpg", quality=95)
    with pytest.raises(StoreError, match="other settings or inputs"):
        prepare(folder, tmp_path / "a.zarr", progress=False)


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'upright'"):
        prepare("demo", crop="uprigt")
    with pytest.raises(UnknownNameError, match="mask style"):
        prepare("demo", style="scarf")
    with pytest.raises(UnknownNameError, match="did you mean 'colour'"):
        prepare("demo", color="red")
    with pytest.raises(InputError, match="workers is 0"):
        prepare("demo", workers=0)
    with pytest.raises(InputError, match="no file or folder"):
        prepare(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        prepare(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="not a store of fcx"):
        prepare("demo", tmp_path / "other", limit=1, progress=False)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


class TestMaskedFiles:
    def test_names_and_sizes_stay_and_every_input_has_a_row(self, folder, tmp_path):
        out = tmp_path / "out"
        rows = {row["path"]: row["status"] for row in mask_pictures(folder, out, progress=False)}
        assert set(rows) == set(REASONS)
        for name, reason in REASONS.items():
            assert reason in rows[name]
            assert (out / name).exists() == (reason == "ok")
            if reason == "ok":
                with Image.open(out / name) as masked, Image.open(folder / name) as plain:
                    assert masked.size == plain.size
                    assert masked.format == plain.format
                    change = np.abs(np.asarray(masked).astype(int) - np.asarray(plain)).max(axis=2) > 40
                    assert 0.05 < change.mean() < 0.6
        assert (out / "masks.csv").read_text(encoding="utf-8").count("\n") == 1 + len(REASONS)

    def test_a_second_run_goes_on_and_other_settings_are_refused(self, folder, tmp_path, monkeypatch):
        out = tmp_path / "out"
        first = mask_pictures(folder, out, progress=False)
        kept = (out / "a.jpg").stat().st_mtime_ns
        (out / "sub" / "<b>é & ü.png").unlink()
        again = mask_pictures(folder, out, progress=False)
        assert [(row["path"], row["status"]) for row in again] == [(row["path"], row["status"]) for row in first]
        assert (out / "a.jpg").stat().st_mtime_ns == kept
        assert (out / "sub" / "<b>é & ü.png").exists()
        with pytest.raises(InputError, match="other settings"):
            mask_pictures(folder, out, seed=5, progress=False)
        mask_pictures(folder, out, seed=5, overwrite=True, progress=False)
        monkeypatch.setitem(STEP_VERSIONS, "faces", STEP_VERSIONS["faces"] + 1)
        with pytest.raises(InputError, match="another version of fcx"):
            mask_pictures(folder, out, seed=5, progress=False)

    def test_an_interrupted_run_goes_on_with_its_own_files(self, folder, tmp_path, monkeypatch):
        from fcx.datasets import masked_folder

        made = []

        def interrupted(record, target, settings, donors):
            made.append(record.id)
            if len(made) == 3:
                raise KeyboardInterrupt
            return mask_one(record, target, settings, donors)

        mask_one = masked_folder._mask_one
        monkeypatch.setattr(masked_folder, "_mask_one", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mask_pictures(folder, tmp_path / "out", progress=False)
        assert "pending" in (tmp_path / "out" / "masks.csv").read_text(encoding="utf-8")
        rows = mask_pictures(folder, tmp_path / "out", progress=False)
        assert rows == mask_pictures(folder, tmp_path / "other", progress=False)

    def test_a_source_that_changed_is_masked_again_and_no_other(self, folder, tmp_path, pictures):
        out = tmp_path / "out"
        first = {row["path"]: row for row in mask_pictures(folder, out, progress=False)}
        times = {name: (out / name).stat().st_mtime_ns for name, row in first.items() if row["status"] == "ok"}
        Image.fromarray(pictures[2]).save(folder / "a.jpg", quality=95)
        again = {row["path"]: row for row in mask_pictures(folder, out, progress=False)}
        changed = {name for name in first if again[name] != first[name]}
        assert changed == {"a.jpg"}
        assert {name for name in times if (out / name).stat().st_mtime_ns != times[name]} == {"a.jpg"}
        assert again["a.jpg"]["picture_hash"] == digest(open_source(folder / "a.jpg").records[0].read())

    def test_masks_inside_the_source_are_not_masked_again(self, folder):
        first = mask_pictures(folder, folder / "masked", progress=False)
        assert mask_pictures(folder, folder / "masked", progress=False) == first
        assert not (folder / "masked" / "masked").exists()

    def test_a_table_cannot_write_outside_the_folder(self, folder, tmp_path):
        (folder / "sub" / "table.csv").write_text("path,valence,arousal\n../a.jpg,0,0\n")
        with pytest.raises(InputError, match="outside"):
            mask_pictures(folder / "sub" / "table.csv", tmp_path / "out", overwrite=True, progress=False)

    def test_one_picture_into_one_file(self, folder, tmp_path):
        rows = mask_pictures(folder / "a.jpg", tmp_path / "masked.png", progress=False)
        assert rows[0]["status"] == "ok"
        with Image.open(tmp_path / "masked.png") as masked:
            assert masked.size == (224, 224)
        with pytest.raises(InputError, match="is there already"):
            mask_pictures(folder / "a.jpg", tmp_path / "masked.png", progress=False)

    def test_every_face_of_a_picture_wears_a_mask_of_its_own(self, tmp_path, pictures):
        folder, side = tmp_path / "in", 224
        folder.mkdir()
        small = np.asarray(Image.fromarray(pictures[2]).resize((90, 90)))
        both = np.full((side, 2 * side, 3), 128, np.uint8)
        both[:, :side], both[60:150, 280:370] = pictures[0], np.rot90(small)  # one lies on its side
        Image.fromarray(both).save(folder / "both.png")
        Image.fromarray(pictures[0]).save(folder / "one.png")
        largest = {row["path"]: row for row in mask_pictures(folder, tmp_path / "largest", progress=False)}
        rows = {row["path"]: row for row in
                mask_pictures(folder, tmp_path / "all", several="all", colour="any", progress=False)}  # fmt: skip
        assert [rows[name]["faces_masked"] for name in ("both.png", "one.png")] == ["2", "1"]
        looks = json.loads(rows["both.png"]["worn"])
        assert len(looks) == 2
        assert looks[0] != looks[1]
        with Image.open(tmp_path / "all" / "both.png") as masked:
            change = (np.asarray(masked) != both).any(axis=2)
        assert change[:, :side].mean() > 0.1
        assert change[60:150, 280:370].mean() > 0.1
        assert largest["both.png"]["faces_masked"] == "1"
        same = mask_pictures(folder / "one.png", tmp_path / "one.png", several="all", progress=False)
        assert same[0]["masked_hash"] == largest["one.png"]["masked_hash"]  # one face: nothing else is done

    @pytest.mark.parametrize(
        ("out", "message"),
        [("", "out is ''; allowed"), ("a\0b", "out is 'a"), (None, "out is None"), ("x" * 300, "File name too long"),
         ("/dev/null", "/dev/null cannot be a folder"), ("/dev/null/out", "cannot be a folder")],
    )  # fmt: skip
    def test_what_cannot_be_a_folder_is_refused(self, folder, out, message, monkeypatch):
        monkeypatch.chdir(folder)
        with pytest.raises(InputError, match=message):
            mask_pictures("a.jpg", out, progress=False)

    def test_nothing_is_written_over(self, folder, tmp_path):
        with pytest.raises(InputError, match="written over by its masked self"):
            mask_pictures(folder, folder, progress=False)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.jpg").write_text("mine")
        with pytest.raises(InputError, match="is there already"):
            mask_pictures(folder, tmp_path / "out", progress=False)
        assert (tmp_path / "out" / "a.jpg").read_text() == "mine"


def test_demo_set_is_complete():
    records = open_source("demo").records
    assert sum(np.isfinite(record.valence) for record in records) >= 400
    assert sum(not np.isfinite(record.valence) for record in records) >= 55
