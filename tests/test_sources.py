"""What data sets say of their faces, and sources that live in memory, as `prepare` takes them."""

import csv
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import fcx
from fcx.cli import app
from fcx.core import contract
from fcx.core.errors import InputError, StoreError
from fcx.datasets import ADAPTERS, Record, open_source, preparation
from fcx.datasets.masked_folder import mask_pictures
from fcx.datasets.records import Adapter
from fcx.datasets.splits import with_splits
from fcx.datasets.usable_faces import coverage_rows
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


# --- splits ---


def named(count, **changes):
    """Return records of as many pictures, which are arrays."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Record(f"face{i}", partial(np.array, pixels[i]), **{k: v[i] for k, v in changes.items()})
            for i in range(count)]  # fmt: skip


def splits_of(records, shares="0.8,0.2", seed=0):
    return {record.id: record.split for record in with_splits(records, shares, seed, "these")}


def test_splits_have_about_the_shares_and_do_not_change_when_faces_are_added():
    records = named(1200)
    split = splits_of(records)
    assert Counter(split.values())["train"] == pytest.approx(960, abs=3.5 * np.sqrt(1200 * 0.16))
    assert splits_of(records[::-1][:700]).items() <= split.items()
    three = splits_of(records, (0.6, 0.3, 0.1))
    assert Counter(three.values()).keys() == {"train", "validation", "test"}
    assert Counter(three.values())["validation"] == pytest.approx(360, abs=3.5 * np.sqrt(1200 * 0.21))
    again = splits_of(records, seed=1)
    assert 0.2 < np.mean([again[name] != split[name] for name in split]) < 0.45  # two independent draws: .32


def test_a_subject_and_a_picture_are_in_one_split(tmp_path):
    subjects = [f"s{i // 6}" for i in range(300)]
    records = named(300, subject=subjects)
    by_subject = {}
    for record in with_splits(records, "0.5,0.5", 0, "these"):
        by_subject.setdefault(record.subject, set()).add(record.split)
    assert {len(split) for split in by_subject.values()} == {1}
    assert set().union(*by_subject.values()) == {"train", "validation"}
    # The same picture, under other names, of other subjects or none; two files with the same bytes.
    twins = [replace(record, id=f"twin{i}", subject="" if i % 2 else f"t{i}") for i, record in enumerate(records)]
    split = splits_of([*twins, *records], "0.5,0.5")
    assert all(split[f"twin{i}"] == split[f"face{i}"] for i in range(300))
    for name in ("one.png", "two.png"):
        Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(tmp_path / name)
    rows = [[str(tmp_path / name), 0, 0, f"u{number}"] for number, name in enumerate(("one.png", "two.png"))]
    for seed in range(8):
        table = write_rows(tmp_path / "labels.csv", ["path", "valence", "arousal", "subject"], *rows)
        assert len({r.split for r in open_source(table, split="0.5,0.5", split_seed=seed).records}) == 1


def test_splits_are_made_only_where_there_are_none_and_for_what_can_be_used():
    split = ["test", "test", "unlabelled", "excluded", ""]
    records = named(5, split=split, reason=["", "cut", "", "few votes", ""])
    made = splits_of(records, "0.999999,0.000001")
    assert list(made.values()) == ["train", "test", "unlabelled", "excluded", "train"]
    with pytest.raises(InputError, match=r"these has splits of its own \(validation\): splits are made only where"):
        splits_of(named(2, split=["validation", ""]))


@pytest.mark.parametrize(
    "shares", ["0.8", "0.8,0.3", "1,0", "a,b", "0.5;0.5", "0.2,0.2,0.2,0.4", "nan,0.5", 3, (1, None)]
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(InputError, match=r"the shares of train, validation and, if wanted, test, .* such as 0\.8,0\.2"):
        open_source("demo", split=shares)


def test_a_newcomer_splits_the_demo_and_trains_on_it(tmp_path, monkeypatch, demo):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"the splits here are test: fcx prepare --split 0\.8,0\.2 makes splits"):
        fcx.train(demo, "out.safetensors", progress=False)
    run = CliRunner().invoke
    done = run(app, ["prepare", "demo", "demo.zarr", "--split", "0.8,0.2", "--limit", "14", "--no-pictures"])
    assert done.exit_code == 0, done.output
    faces = fcx.open_faces("demo.zarr")
    assert Counter(faces["split"].values.tolist()).keys() == {"train", "validation"}
    assert faces.attrs["shares"] == "0.8,0.2 by seed 0"
    done = run(app, ["train", "demo.zarr", "out.safetensors", "--epochs", "1", "--width", "8"])
    assert done.exit_code == 0, done.output
    assert fcx.load_model("out.safetensors").metadata["data"]["train"] > 7


# --- sources in memory ---


def test_a_table_in_memory_reads_as_the_same_csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = np.arange(136.0).reshape(68, 2)
    frame = pd.DataFrame({
        "Path": ["a.png", Path("sub") / "b.png", "c.png", "a.png"], "valence": [0.5, np.nan, 2, 0],
        "arousal": [-1, 0, 0, 0], "split": ["train", None, pd.NA, "test"], "subject": [1, 2, 3, 4],
        "landmarks": [points, None, None, None], "face_x": [1.5, np.nan, np.nan, np.nan], "other": ["x"] * 4,
    }).assign(face_y=[2] + 3 * [None], face_width=[3] + 3 * [None], face_height=[4.0] + 3 * [None])  # fmt: skip
    frame.drop(columns="landmarks").to_csv(tmp_path / "labels.csv", index=False)
    source = open_source(frame)
    assert (source.adapter, source.path) == ("frame", "a DataFrame of 4")
    table = open_source(tmp_path / "labels.csv").records
    for one, other in zip(source.records, table, strict=True):
        for name in ("valence", "arousal", "split", "subject", "box", "expression"):
            np.testing.assert_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(source.records[0].points, points)
    assert [r.id for r in source.records] == ["a.png", "sub/b.png", "c.png", "the DataFrame, row 3"]
    assert [r.reason for r in source.records][2:] == [
        "the DataFrame, row 2, column 'valence': valence is 2; allowed: -1 to 1, or empty where unknown",
        "the DataFrame, row 3, column 'path': a.png stands in the DataFrame, row 0 too; a picture is one sample",
    ]
    with pytest.raises(InputError, match="row 2, column 'valence'"):
        open_source(frame, strict=True)
    with pytest.raises(InputError, match="the DataFrame has no column 'valence'"):
        open_source(frame.drop(columns="valence"))
    with pytest.raises(InputError, match="the DataFrame has no rows"):
        open_source(frame[:0])


def test_pictures_in_memory_are_prepared_and_go_on_where_they_stopped(tmp_path, monkeypatch, pictures):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pictures[0]).save("a.png")
    grey = np.asarray(Image.fromarray(pictures[1]).convert("L"))
    given = ["a.png", Path("a.png").resolve(), pictures[0], Image.open("a.png"), grey, np.zeros((4, 4)),
             np.zeros((9, 9, 2), np.uint8)]  # fmt: skip
    how = {"pictures": False, "progress": False}
    made = fcx.prepare(given, "faces.zarr", **how)
    assert made.attrs["source"] == "a list of 7"
    assert made["sample"].values.tolist() == [
        "a.png",
        str(tmp_path / "a.png"),
        *(f"picture-{i}.png" for i in range(2, 7)),
    ]
    status = made["status"].values[0].tolist()
    assert status[:5] == ["ok"] * 5
    assert status[5] == ("picture 5 of the list cannot be used: it is float64 (4, 4); allowed: uint8 (row, column), or "
                         "with 3 or 4 channels behind")  # fmt: skip
    assert "it is uint8 (9, 9, 2)" in status[6]
    assert len(set(made["image_hash"].values[0, :4])) == 1  # one picture, given in four ways
    again = fcx.prepare([*given[:2], pictures[0].copy(), *given[3:]], "faces.zarr", **how)
    assert again.identical(made)
    with pytest.raises(StoreError, match="other settings or inputs"):
        fcx.prepare([*given[:4], 255 - grey, *given[5:]], "faces.zarr", **how)
    with pytest.raises(InputError, match="picture 5 of the list cannot be used"):
        open_source(given, strict=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "the list of pictures is empty"),
        ([3], "picture 0 of the list is 3; allowed: paths, PIL images, arrays"),
        (["a.png", "./a.png"], "a list of 2: the id './a.png' stands for more than one row|'a.png' stands for more"),
        ({"a": 1}, "not a dict: allowed: .*; in Python a DataFrame with these columns, or a list of pictures"),
    ],
)
def test_lists_that_hold_no_pictures_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        open_source(given)


def test_pictures_in_memory_wear_masks_as_files(tmp_path, pictures):
    rows = mask_pictures([pictures[0]], tmp_path / "out", progress=False)
    assert [(row["path"], row["status"]) for row in rows] == [("picture-0.png", "ok")]
    assert np.asarray(Image.open(tmp_path / "out" / "picture-0.png")).shape == pictures[0].shape


# --- many faces ---


def test_a_large_data_set_is_stored_in_few_blocks_and_counted_with_its_reasons(tmp_path, monkeypatch):
    faults = {f"face{i}": f"reason {i % 3}" for i in range(5, 40, 5)}
    records = [replace(record, expression="happy", reason=faults.get(record.id, "")) for record in named(40)]
    monkeypatch.setitem(ADAPTERS, "many", Adapter("many", None, lambda path: records))
    monkeypatch.setattr(preparation, "FACES_A_BLOCK", 2)
    monkeypatch.setattr(preparation, "MOST_BLOCKS", 4)
    monkeypatch.setattr(contract, "FACES_READ", 7)
    make = preparation.make_face
    instant = {"status": "ok", "image": np.ones((2, 64, 64), np.uint8)}
    monkeypatch.setattr(
        preparation, "make_face", lambda record, *rest: make(record, *rest) if record.reason else instant
    )
    made = fcx.prepare("many", tmp_path / "many.zarr", pictures=False, progress=False)
    assert len(list((tmp_path / "many.zarr" / "mesh").glob("[0-9]*"))) == 4
    np.testing.assert_array_equal(contract.good(made), made["status"].values == "ok")
    np.testing.assert_array_equal(contract.usable(made), [name not in faults for name in made["sample"].values])
    rows = {(row["by"], row["group"]): row for row in coverage_rows(made)}
    counts = Counter(faults.values())
    assert rows["all", "all"]["usable masked"] == 40 - len(faults)
    assert rows["expression", "happy"]["reasons"] == "; ".join(f"{reason}: {n}" for reason, n in counts.items())
