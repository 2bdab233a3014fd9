"""Stores: begun at once, interrupted, damaged, copied, and what is refused; files that are whole or not there."""

import errno
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
from conftest import at_once, make_faces

from fcx.core.errors import StoreError
from fcx.core.files import replacing, sweep, temporary_name
from fcx.core.provenance import STEP_VERSIONS, nested_attr
from fcx.core.reading import open_store
from fcx.core.store import RECORD, Store

ROWS = 2  # of a block
CHUNKS = {"condition": 1, "sample": ROWS}
OPTIONS = {"kind": "faces", "blocks": ("sample",), "settings": {}, "attrs": {"options": {}}, "chunks": CHUNKS}


@pytest.fixture(scope="module")
def faces():
    return numbered(make_faces(5, size=16))


def numbered(faces):
    return faces.assign_coords(y=np.arange(16), x=np.arange(16))


def begin(path, faces, **options):
    variables = {name: (v.dims, v.dtype) for name, v in faces.data_vars.items()}
    coords = {name: (c.dims, c.values) for name, c in faces.coords.items()}
    return Store(path, variables, coords, **{**OPTIONS, **options})


def fill(store, faces):
    """Write the blocks that are pending, and return their numbers."""
    pending = store.pending()
    for number in pending:
        rows = slice(number * ROWS, number * ROWS + ROWS)
        index = {n: tuple(rows if d == "sample" else slice(None) for d in v.dims) for n, v in faces.data_vars.items()}
        store.write({name: (index[name], faces[name].values[index[name]]) for name in faces.data_vars})
    return pending


def write(path, faces, **options):
    store = begin(path, faces, **options)
    fill(store, faces)
    return store.finish()


@pytest.fixture
def path(tmp_path, faces):
    """A finished store."""
    write(tmp_path / "a.zarr", faces)
    return tmp_path / "a.zarr"


def same(opened, faces):
    for name in [*faces.data_vars, *faces.coords]:
        assert opened[name].dtype.kind == faces[name].dtype.kind
        np.testing.assert_array_equal(opened[name].values, faces[name].values, err_msg=name)
    assert set(opened.coords) == set(faces.coords)


def names(folder):
    return sorted(os.listdir(folder))


# --- written ----------------------------------------------------------------------------------


def test_a_store_returns_what_was_written(faces, tmp_path):
    store = begin(tmp_path / "a.zarr", faces)
    with pytest.raises(StoreError, match="3 blocks are not written"):
        store.finish()
    assert fill(store, faces) == [0, 1, 2]
    same(store.finish(), faces)
    same(open_store(f"{tmp_path}//a.zarr/", "faces"), faces)
    same(open_store(f"file://{tmp_path}/a.zarr", "faces"), faces)


def test_a_store_stays_where_it_was_begun_and_may_be_a_link_or_below_home(faces, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked.zarr")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stores = [begin(place, faces) for place in ("a.zarr", "../link", "~/b.zarr")]
    monkeypatch.chdir(tmp_path)
    for store in stores:
        fill(store, faces)
        store.finish()
    same(open_store("~/b.zarr", "faces"), faces)
    for place in ("work/a.zarr", "linked.zarr", "home/b.zarr"):
        same(open_store(tmp_path / place, "faces"), faces)
    opened = open_store("work/a.zarr", "faces")
    monkeypatch.chdir("/")
    same(opened, faces)


def test_other_settings_are_refused_and_overwritten_when_told(faces, path):
    with pytest.raises(StoreError, match="other settings"):
        begin(path, faces, settings={"seed": 1})
    with pytest.raises(StoreError, match="other settings"):
        begin(path, faces.isel(sample=slice(4)))
    assert begin(path, faces, settings={"seed": 1}, overwrite=True).pending() == [0, 1, 2]
    assert names(path.parent) == ["a.zarr"]


def test_a_store_of_another_kind_is_not_written_over(faces, path):
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="holds faces"):
            begin(path, faces, kind="results", overwrite=overwrite)


def test_a_store_of_another_version_of_the_step_is_not_continued(faces, path, monkeypatch):
    monkeypatch.setitem(STEP_VERSIONS, "faces", STEP_VERSIONS["faces"] + 1)
    with pytest.raises(StoreError, match=r"another version of fcx .* numbers may differ.*--overwrite"):
        begin(path, faces)
    same(open_store(path, "faces"), faces)
    same(write(path, faces, overwrite=True), faces)


def test_what_is_not_ours_is_never_written_over(faces, path, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (path / "thesis").write_text("mine")
    faces.to_zarr(tmp_path / "foreign", zarr_format=2, consolidated=False)
    (tmp_path / "folder" / "thesis").write_text("mine")
    for name in ("file", "folder", "foreign"):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="not a store of fcx"):
                begin(tmp_path / name, faces, overwrite=overwrite)
    with pytest.raises(StoreError, match="holds 'thesis', which fcx did not write"):
        begin(path, faces, overwrite=True)
    for place in (tmp_path / "file", tmp_path / "folder" / "thesis", path / "thesis"):
        assert place.read_text() == "mine"
    same(open_store(path, "faces"), faces)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("memory://x", "is a URL: stores are written to a local folder"),
        ("s3://bucket/x.zarr", "is a URL"),
        ("http://localhost:1/x.zarr", "is a URL"),
        (Path("memory://x"), "is a URL"),
        ("", "is empty: give a folder"),
        ("a.zarr/b.zarr", r"lies inside the store .*a.zarr"),
        ("a.zarr/image/b", r"lies inside the store"),
        ("file/b.zarr", "cannot be written"),
        ("/proc/b.zarr", "cannot be written"),
    ],
)
def test_where_a_store_cannot_be_written_is_said(where, text, faces, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    Path("file").touch()
    with pytest.raises(StoreError, match=text):
        begin(where, faces)
    assert names(".") == ["a.zarr", "file"]


def test_a_full_disk_leaves_nothing_half_laid_out(faces, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"a\.zarr cannot be written: No space left"):
        begin(tmp_path / "a.zarr", faces)
    assert names(tmp_path) == []
    monkeypatch.undo()
    store = begin(tmp_path / "a.zarr", faces)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        fill(store, faces)
    monkeypatch.undo()
    same(write(tmp_path / "a.zarr", faces), faces)


# --- begun at once ----------------------------------------------------------------------------


def write_at_once(barrier, folder, rounds):
    faces = numbered(make_faces(5, size=16))
    for number in range(rounds):
        barrier.wait()
        same(write(folder / f"{number}.zarr", faces), faces)


def test_equal_calls_at_once_lay_out_one_store_and_share_it(faces, tmp_path):
    at_once(write_at_once, tmp_path, 5)
    assert names(tmp_path) == sorted(f"{number}.zarr" for number in range(5))
    for folder in tmp_path.iterdir():
        same(open_store(folder, "faces"), faces)
        assert not [name for _, _, inside in os.walk(folder) for name in inside if "partial" in name]


def test_who_comes_second_begins_at_the_end(faces, tmp_path):
    first, second = (begin(tmp_path / "a.zarr", faces) for _ in range(2))
    assert (first.joined, second.joined) == (False, True)
    assert (first.pending(), second.pending()) == ([0, 1, 2], [2, 1, 0])
    fill(second, faces)
    assert all(map(first.done, range(3)))
    same(first.finish(), faces)
    same(second.finish(), faces)


def test_a_store_that_is_replaced_or_removed_while_it_is_written_is_not_written_on(faces, tmp_path):
    first = begin(tmp_path / "a.zarr", faces)
    second = begin(tmp_path / "a.zarr", faces, settings={"seed": 1}, overwrite=True)
    for work in (first.finish, lambda: fill(first, faces)):
        with pytest.raises(StoreError):
            work()
    with pytest.raises(StoreError, match="was removed or replaced while it was being written"):
        fill(first, faces)
    assert second.pending() == [0, 1, 2]


# --- interrupted ------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True])
def test_an_interruption_while_it_is_laid_out_leaves_what_was_there(there, faces, tmp_path, monkeypatch):
    place = tmp_path / "a.zarr"
    before = names(place) if there and write(place, faces) else None

    def interrupted(path, content):
        if path.parent.name == "mesh":
            raise KeyboardInterrupt
        return write_bytes(path, content)

    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        begin(place, faces, overwrite=True)
    monkeypatch.undo()
    assert names(tmp_path) == ([place.name] if there else [])
    assert before is None or names(place) == before
    same(write(place, faces), faces)


def write_until_killed(barrier, place, after):
    """Write a store, and end this process by force at the write of file number `after`."""
    write_bytes, count = Path.write_bytes, itertools.count()

    def killed(path, content):
        write_bytes(path, content[:10] if (last := next(count) == after) else content)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes = killed
    write(place, numbered(make_faces(5, size=16)))


@pytest.mark.parametrize("after", [3, 40, 75])
def test_killed_at_any_moment_goes_on_and_leaves_nothing_behind(after, faces, path, tmp_path):
    place = tmp_path / "b.zarr"
    process = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(None, place, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert any("partial" in str(file) for file in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="not a store of fcx" if not place.exists() else "is unfinished: run the"):
        open_store(place, "faces")
    same(write(place, faces), faces)
    assert contents(place) == contents(path)
    assert names(tmp_path) == ["a.zarr", "b.zarr"]


def contents(folder):
    """Return path -> bytes of what is in a store, but for the name of its layout."""
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    record = json.loads(files[RECORD])
    del record["fcx"]["layout"]
    return files | {RECORD: record}


# --- damaged ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", ["image/0.1.0.0", "alpha/0.0.0.0", "status/1.2", "regions/0.0.0.0", "valence/1",
                                   "expression/0", "sample/0", "x/0"])  # fmt: skip
def test_a_lost_chunk_is_named_and_made_again(chunk, faces, path):
    (path / chunk).unlink()
    array, key = chunk.split("/")
    with pytest.raises(StoreError, match=f"has lost the chunk {key} of '{array}': run the command that"):
        open_store(path, "faces")
    again = begin(path, faces)
    expected = {"image": [1], "alpha": [0], "status": [2], "regions": [0], "valence": [1]}.get(array, [])
    assert fill(again, faces) == expected
    same(again.finish(), faces)


@pytest.mark.parametrize("array", ["status", "mesh", "valence", "subject", "region"])
def test_a_lost_array_is_named_and_made_again(array, faces, path):
    shutil.rmtree(path / array)
    with pytest.raises(StoreError, match=f"has lost .*'{array}': run the command"):
        open_store(path, "faces")
    same(write(path, faces), faces)


def test_chunks_of_nothing_but_fill_values_are_there(faces, tmp_path):
    nothing = faces.map(lambda v: v if v.dtype.kind == "U" else xr.zeros_like(v) * np.float32("nan")
                        if v.dtype.kind == "f" else xr.zeros_like(v))  # fmt: skip
    opened = write(tmp_path / "a.zarr", nothing)
    same(opened, nothing)
    assert len(names(tmp_path / "a.zarr" / "mesh")) == 3 + len([".zarray", ".zattrs"])


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b"garbage", lambda b: bytes(len(b)),
                                    lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]],
                         ids=["cut", "empty", "garbage", "zeros", "one bit"])  # fmt: skip
@pytest.mark.parametrize("chunk", ["image/1.1.0.0", "status/0.1", "mesh/2.0.0", "subject/0"])
def test_a_damaged_chunk_is_named_when_it_is_read_and_made_again(damage, chunk, faces, path, caplog):
    file = path / chunk
    file.write_bytes(damage(file.read_bytes()))
    array, key = chunk.split("/")
    opened = open_store(path, "faces")
    with pytest.raises(StoreError, match=f"the chunk {key} of '{array}' cannot be read .*: run the command"):
        opened[array].load()
    if array == "image":
        assert opened[array].isel(sample=[4, 0, 1]).sum() == faces[array].isel(sample=[4, 0, 1]).sum()
    caplog.set_level("INFO")
    again = begin(path, faces)
    assert fill(again, faces) == {"image": [1], "status": [1], "mesh": [2]}.get(array, [])
    assert len(caplog.messages) == (array != "subject")  # coordinates are known, and written again in any case
    assert all(f"the chunk {key} of '{array}' was damaged and is made again" in text for text in caplog.messages)
    same(again.finish(), faces)


def test_an_interrupted_run_makes_damaged_chunks_again_too(faces, tmp_path):
    path, rows = tmp_path / "a.zarr", slice(ROWS)
    first = {n: tuple(rows if d == "sample" else slice(None) for d in v.dims) for n, v in faces.data_vars.items()}
    begin(path, faces).write({name: (index, faces[name].values[index]) for name, index in first.items()})
    (path / "image" / "0.0.0.0").write_bytes(b"")
    same(write(path, faces), faces)


def test_a_chunk_that_is_lost_later_is_refused_when_it_is_read(faces, path):
    opened = open_store(path, "faces")
    (path / "image" / "1.1.0.0").unlink()
    np.testing.assert_array_equal(opened["image"][0], faces["image"][0])
    with pytest.raises(StoreError, match=r"has lost the chunk 1\.1\.0\.0 of 'image'"):
        opened["image"].isel(condition=1).load()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".zattrs", "[1]"), (".zattrs", "{"), (".zgroup", "7"), (".zgroup", None), (RECORD, "[]"), (RECORD, "{"),
        (RECORD, '{"metadata": [], "fcx": {}}'), ("sample/0", "garbage"),
    ],
)  # fmt: skip
def test_a_damaged_description_is_refused_and_mended(file, content, faces, path):
    (path / file).unlink() if content is None else (path / file).write_text(content)
    with pytest.raises(StoreError, match=r"a\.zarr"):
        open_store(path, "faces")
    if file == RECORD:  # whose it is, nobody knows
        with pytest.raises(StoreError, match="not a store of fcx"):
            begin(path, faces, overwrite=True)
    else:
        same(write(path, faces), faces)


@pytest.mark.parametrize("content", ["{", "[]", "{}", None, '{"_ARRAY_DIMENSIONS": ["sample"]}', '{"shape": [2]}'])
@pytest.mark.parametrize("file", ["image/.zarray", "mesh/.zattrs", "sample/.zarray", "subject/.zattrs"])
def test_a_damaged_description_of_an_array_does_no_harm_for_it_is_written_twice(content, file, faces, path):
    before = (path / file).read_text()
    (path / file).unlink() if content is None else (path / file).write_text(content)
    same(open_store(path, "faces"), faces)
    assert begin(path, faces).pending() == []
    assert json.loads((path / file).read_text()) == json.loads(before)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("image/.zarray", {"shape": [2, 5, 16, 8]}), ("valence/.zarray", {"shape": [4]}),
        ("valence/.zarray", {"dtype": "<f9"}), ("sample/.zarray", {"dtype": "<U3"}),
        ("mesh/.zattrs", {"_ARRAY_DIMENSIONS": ["sample", "vertex"]}), ("mesh/.zarray", None), ("mesh/.zattrs", None),
    ],
)  # fmt: skip
def test_descriptions_that_contradict_each_other_are_refused(key, change, faces, path):
    record = json.loads((path / RECORD).read_text())
    if change is None:
        del record["metadata"][key]
    else:
        record["metadata"][key] |= change
    (path / RECORD).write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"a\.zarr"):
        open_store(path, "faces")
    same(write(path, faces, overwrite=True), faces)


def test_stores_that_are_not_there_or_of_another_kind_are_named(path, tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file", "file/a.zarr", "bad\0name"):
        with pytest.raises(StoreError, match=r"not a store of fcx|cannot be read"):
            open_store(tmp_path / name, "faces")
    with pytest.raises(StoreError, match="holds faces, not results"):
        open_store(path, "results")


def test_a_store_of_the_first_format_is_refused_and_may_be_replaced(faces, path):
    (path / RECORD).unlink()
    attrs = json.loads((path / ".zattrs").read_text())
    (path / ".zattrs").write_text(json.dumps({**attrs, "complete": True, "fingerprint": "0123456789abcdef"}))
    with pytest.raises(StoreError, match=r"another version of fcx \(format 1, now 2\).* --overwrite"):
        open_store(path, "faces")
    with pytest.raises(StoreError, match=r"another version of fcx .*\(--overwrite"):
        begin(path, faces)
    same(write(path, faces, overwrite=True), faces)


# --- read elsewhere ---------------------------------------------------------------------------


def test_a_store_is_read_from_a_url(faces, path):
    memory = fsspec.filesystem("memory")
    memory.put(str(path), "/stored.zarr", recursive=True)
    same(open_store("memory://stored.zarr", "faces"), faces)
    memory.rm("/stored.zarr/image/0.1.0.0")
    with pytest.raises(StoreError, match=r"memory://stored\.zarr has lost the chunk 0\.1\.0\.0 of 'image'"):
        open_store("memory://stored.zarr", "faces")["image"].load()
    with pytest.raises(StoreError, match="memory://nothing is not a store of fcx"):
        open_store("memory://nothing", "faces")


@pytest.mark.parametrize(("url", "text"), [("s3://a/b.zarr", "s3fs"), ("nonsense://a/b", "nonsense")])
def test_what_a_url_needs_is_said(url, text, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StoreError, match=rf"{url} .*{text}"):
        open_store(url, "faces")


@pytest.mark.filterwarnings("ignore:.*(Zarr V3|Zarr format 3)")
@pytest.mark.parametrize("alone", [False, True])
def test_xarray_saves_a_part_and_reads_it_again(alone, faces, path, tmp_path):
    few = xr.open_zarr(path, consolidated=False, chunks=None) if alone else open_store(path, "faces")
    few = few.isel(sample=slice(1, 4))
    few.to_zarr(tmp_path / "q.zarr", zarr_format=2) if alone else few.to_zarr(tmp_path / "q.zarr")
    opened = [xr.open_zarr(tmp_path / "q.zarr", chunks=None), open_store(tmp_path / "q.zarr", "faces")]
    if not alone:
        few.to_netcdf(tmp_path / "q.nc")
        opened.append(xr.open_dataset(tmp_path / "q.nc"))
    for again in opened:
        xr.testing.assert_equal(again, faces.isel(sample=slice(1, 4)))
        assert again["image"].dtype == np.uint8
        assert again.attrs["kind"] == "faces"
        assert nested_attr(again, "options") == {}


@pytest.mark.filterwarnings("ignore:.*(Zarr V3|Zarr format 3)")
def test_whatever_is_computed_is_saved_by_xarray(tmp_path):
    from fcx.attribution import attribute, open_results
    from fcx.networks.facechannel import FaceChannel
    from fcx.networks.inference import predict
    from fcx.statistics.comparison import compare
    from fcx.statistics.region_mass import region_statistics

    faces = make_faces(6)
    models = {name: FaceChannel.preset("paper", width=8, hidden=4) for name in "ab"}
    predicted = predict(models, faces)
    stored = attribute(models, faces, "gradient,gradcam", store="int8", out=tmp_path / "r.zarr")
    for number, values in enumerate((
        predicted, stored.isel(sample=slice(2)), attribute(models, faces, "gradient"),
        region_statistics(stored, faces, draws=10), compare(predicted, faces, {"model": "a"}, {"model": "b"}, draws=10),
    )):  # fmt: skip
        values.to_netcdf(tmp_path / f"{number}.nc")
        values.to_zarr(tmp_path / f"{number}.zarr")
        assert xr.open_dataset(tmp_path / f"{number}.nc").equals(values)
        assert xr.open_zarr(tmp_path / f"{number}.zarr", chunks=None).equals(values)
    xr.testing.assert_equal(open_results(tmp_path / "1.zarr"), stored.isel(sample=slice(2)))


# --- files ------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["a.txt"]
    assert target.read_text() == "old"
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_says_who_may_read_a_file(mask, mode, tmp_path):
    def written(path):
        with replacing(path) as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as the writer of checkpoints does
        return path.stat().st_mode & 0o777

    before = os.umask(mask)
    try:
        assert written(tmp_path / "a") == mode
        (tmp_path / "a").chmod(0o604)  # as somebody wanted it
        assert written(tmp_path / "a") == 0o604
    finally:
        os.umask(before)


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = temporary_name(tmp_path / "a.png")
    left = Path(str(mine).replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    elsewhere = Path(re.sub(r"\.[0-9a-f]{16}-\d+", f".{'0' * 16}-{ended.pid}", str(mine)))
    for path in (mine, left, elsewhere, tmp_path / ".partial", tmp_path / "b.partial"):
        path.touch()
    left.with_suffix(".zarr").mkdir()
    assert sorted(sweep(tmp_path)) == [".partial", "b.partial"]
    assert set(names(tmp_path)) == {mine.name, elsewhere.name, ".partial", "b.partial"}
    assert sweep(tmp_path / "nowhere") == []
    left.touch()
    with replacing(tmp_path / "c.txt"):
        assert not left.exists()
