"""Adapters: what they find, what they refuse."""

import csv
import io
import os
import pickle
import re
from collections import Counter

import numpy as np
import oracles
import pytest
from PIL import Image

from fcx import datasets
from fcx.core.contract import EXPRESSIONS
from fcx.core.errors import ImageError, InputError, UnknownNameError
from fcx.datasets import ADAPTERS, ferplus, folder, open_source
from fcx.datasets.demo import DEMO
from fcx.datasets.records import expression_name
from fcx.statistics.noise_ceiling import vote_ceiling

PICTURE = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)


@pytest.fixture
def album(tmp_path):
    """A folder of pictures with awkward names among other things."""
    folder = tmp_path / "album"
    for name in ("b.PNG", "a.jpg", "sub/ü <b>&amp;.jpeg", "sub/deep/c.webp"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PICTURE).save(target)
    for name in (".hidden.jpg", "notes.txt", ".cache/x.jpg", "LICENSE"):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"nothing")
    return folder


# --- the demo set ---


def test_demo_holds_rated_faces_and_portraits():
    records = open_source("demo").records
    faces = [r for r in records if r.split == "test"]
    portraits = [r for r in records if r.split == "unlabelled"]
    assert len(faces) >= 400
    assert len(portraits) >= 60
    assert len(faces) + len(portraits) == len(records) == len({r.id for r in records})
    assert all(abs(r.valence) <= 1 and abs(r.arousal) <= 1 for r in faces)
    assert all(np.isnan([r.valence, r.arousal]).all() and not r.expression for r in portraits)
    counts = Counter(r.expression for r in faces)
    assert set(counts) == set(EXPRESSIONS) - {"contempt"}
    assert min(counts.values()) >= 19
    assert max(counts.values()) < 100


def test_demo_names_source_and_licence_of_every_picture_that_ships():
    with (DEMO / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shipped = {p.relative_to(DEMO).as_posix() for p in DEMO.rglob("*.jpg")}
    assert {row["path"] for row in rows} == shipped
    assert {row["licence"] for row in rows} == {"CC0-1.0", "public domain"}
    assert all(row["source"] for row in rows)


def test_demo_faces_are_no_near_duplicates():
    thumbnails = []
    for record in open_source("demo", portraits=False).records:
        with Image.open(record.read.args[0]) as image:
            pixels = np.asarray(image.convert("L").resize((24, 24), Image.Resampling.LANCZOS), float).ravel()
        pixels -= pixels.mean()
        thumbnails.append(pixels / np.linalg.norm(pixels))
    correlation = np.array(thumbnails) @ np.array(thumbnails).T
    np.fill_diagonal(correlation, 0)
    assert correlation.max() < 0.93


def test_records_survive_pickling():
    record = open_source("demo").records[0]
    again = pickle.loads(pickle.dumps(record))
    assert again.id == record.id
    np.testing.assert_array_equal(again.read(), record.read())
    assert record.read().shape == (224, 224, 3)


# --- the registry ---


def test_a_new_format_is_one_decorated_function(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.records, "ADAPTERS", dict(ADAPTERS))
    path = tmp_path / "clips.avi"
    path.touch()

    @datasets.adapter("video", takes=lambda path: path.suffix == ".avi")
    def open_video(path, every=1):
        return [datasets.Record(id=f"{path.name}-{every}", read=PICTURE.copy)]

    source = open_source(path, every=25)
    assert (source.adapter, source.options) == ("video", {"every": 25})
    assert source.records[0].id == "clips.avi-25"


def test_a_faulty_row_has_its_reason_or_stops_and_what_a_data_set_excludes_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.records, "ADAPTERS", dict(ADAPTERS))
    (tmp_path / "list.frames").touch()
    (tmp_path / "list.clips").touch()
    excluded = datasets.Record("a", PICTURE.copy, split="excluded", reason="few votes")

    @datasets.adapter("frames", takes=lambda path: path.suffix == ".frames")
    def open_frames(path, strict=False):
        return [excluded, datasets.Record("b", PICTURE.copy, reason=datasets.fault(f"{path}, line 2: no", strict))]

    @datasets.adapter("clips", takes=lambda path: path.suffix == ".clips")
    def open_clips(path):
        return [excluded, datasets.Record("b", PICTURE.copy, reason="cut short")]

    for name, reason in (("list.frames", r"list\.frames, line 2: no"), ("list.clips", "cut short")):
        assert len(open_source(tmp_path / name).records) == 2
        with pytest.raises(InputError, match=reason):
            open_source(tmp_path / name, strict=True)
        with pytest.raises(UnknownNameError, match=r"option of a .* source 'strickt'"):
            open_source(tmp_path / name, strickt=True)


def test_boxes_and_landmarks_belong_to_what_is_known_of_a_picture():
    plain, boxed = datasets.Record("a", PICTURE.copy), datasets.Record("a", PICTURE.copy, box=(1, 2, 30, 40))
    pointed, other = (datasets.Record("a", PICTURE.copy, points=np.full((68, 2), value)) for value in (3.0, 4.0))
    marks = {datasets.Source([record], "csv", "x").fingerprint() for record in (plain, boxed, pointed, other)}
    assert len(marks) == 4


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("dmeo", {}, "no file or folder 'dmeo': did you mean 'demo'"),
        ("", {}, "a source is a name or a path"),
        ("~nobody/x", {}, "no file or folder '~nobody/x'"),
        (np.zeros(3), {}, "not a ndarray: allowed"),
        ("a\0b", {}, "no path holds a NUL character"),
        (None, {}, "a source is a name or a path"),
        ("/dev/null", {}, "is of no known format: allowed: 'demo', a folder"),
        ("demo", {"portrait": True}, "unknown option of a demo source 'portrait': did you mean 'portraits'"),
    ],
)
def test_sources_that_do_not_exist_are_refused(source, options, message):
    with pytest.raises(InputError, match=message):
        open_source(source, **options)


def test_a_folder_called_demo_is_reached_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "demo" / "x.png")
    monkeypatch.chdir(tmp_path)
    assert open_source("demo").adapter == "demo"
    assert [r.id for r in open_source("./demo").records] == ["x.png"]


# --- folders and single pictures ---


def test_a_folder_whose_pictures_have_labels_in_a_known_format_says_what_to_give(album):
    open_source(album)  # says nothing: warnings are errors here
    write_table(album, "path,score\na.jpg,1\n", "scores.csv")
    write_table(album, "no,table\n", "sub/labels.csv")
    np.savez(album / "landmarks.npz", points=np.zeros(3))
    (album / "link.csv").symlink_to(album / "nowhere.csv")
    assert len(open_source(album).records) == 4
    labels = write_table(album, HEADER + "a.jpg,0,0\n", "training.csv")
    with pytest.warns(UserWarning, match=r"training\.csv is of the format 'csv': give that path"):
        assert len(open_source(album).records) == 4
    labels.unlink()
    write_table(album, HEADER + "sub/deep/c.webp,0,0\n", "labels.tsv")  # names the folder below
    with pytest.warns(UserWarning, match=r"labels\.tsv is of the format 'csv'"):
        open_source(album / "sub")
    (album / "labels.tsv").unlink()
    write_ferplus(album / "fer.npz")
    with pytest.warns(UserWarning, match=r"fer\.npz is of the format 'ferplus'"):
        open_source(album)


def test_the_images_folder_of_a_published_data_set_says_which_folder_to_give(tmp_path):
    images, annotations = (tmp_path / "train_set" / name for name in ("images", "annotations"))
    images.mkdir(parents=True), annotations.mkdir()
    Image.fromarray(PICTURE).save(images / "7.jpg")
    for name, value in {"exp": "1", "val": "0.5", "aro": "0.1", "lnd": np.full(136, 5.0)}.items():
        np.save(annotations / f"7_{name}.npy", value)
    with pytest.warns(UserWarning, match=r"train_set is of the format 'affectnet_folders': give that path"):
        assert np.isnan(open_source(images).records[0].valence)
    assert open_source(tmp_path / "train_set").records[0].valence == 0.5


def test_a_folder_in_or_above_a_known_layout_says_what_to_give(album, monkeypatch):
    (album / "sub" / "notes").mkdir()
    layout = datasets.records.Adapter("layout", None, list, evident=lambda path: (path / "notes").is_dir())
    monkeypatch.setitem(ADAPTERS, "layout", layout)
    for place in (album, album / "sub" / "deep"):
        with pytest.warns(UserWarning, match="sub is of the format 'layout'"):
            assert open_source(place).records


def test_folder_takes_pictures_in_a_fixed_order(album):
    records = open_source(album).records
    assert [r.id for r in records] == ["a.jpg", "b.PNG", "sub/deep/c.webp", "sub/ü <b>&amp;.jpeg"]
    assert all(r.read().shape == PICTURE.shape for r in records)
    assert all(np.isnan(r.valence) for r in records)


def test_folder_links_that_form_a_loop_end(album):
    before = [r.id for r in open_source(album).records]
    (album / "sub" / "up").symlink_to(album)
    (album / "sub" / "self").symlink_to(album / "sub")
    assert [r.id for r in open_source(album).records] == before


def test_folder_gives_a_dangling_link_a_row_that_says_why(album):
    (album / "gone.jpg").symlink_to(album / "nowhere.jpg")
    record = next(r for r in open_source(album).records if r.id == "gone.jpg")
    with pytest.raises(ImageError, match=r"gone\.jpg cannot be opened: there is no such file"):
        record.read()


def test_folder_gives_what_is_no_file_a_row_that_says_why(album):
    os.mkfifo(album / "pipe.jpg")
    (album / "folder.jpg").mkdir()
    Image.fromarray(PICTURE).save(album / "folder.jpg" / "inside.png")
    records = {r.id: r for r in open_source(album).records}
    assert len(records) == 4 + 3
    assert records["folder.jpg/inside.png"].read().shape == PICTURE.shape
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(ImageError, match=rf"{name} cannot be read as a picture: it is not a file"):
            records[name].read()


def test_folder_below_that_cannot_be_listed_has_a_row_and_the_rest_is_used(album, monkeypatch):
    scan = os.scandir

    def refuse(path):  # root may list everything, so taking the permission away would test nothing there
        if os.path.basename(path) == "sub":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    records = {r.id: r.reason for r in open_source(album).records}
    assert records == {"a.jpg": "", "b.PNG": "", "sub": "the folder cannot be listed: Permission denied"}
    with pytest.raises(InputError, match="sub cannot be listed: Permission denied"):
        open_source(album / "sub")


def test_folder_gives_a_file_of_another_suffix_a_row_that_says_why_and_what_belongs_to_pictures_none(album):
    before = {r.id for r in open_source(album).records}
    for name in ("clip.MOV", "sub/IMG_1.heic", "noend"):
        (album / name).write_bytes(b"x")
    for name in (".hidden.heic", "labels.csv", "a.pts", "README", "sub/a.xmp", "faces.zarr/0.0", ".cache/x.heic"):
        (album / name).parent.mkdir(exist_ok=True)
        (album / name).write_bytes(b"x")
    reasons = {r.id: r.reason for r in open_source(album).records if r.id not in before}
    assert set(reasons) == {"clip.MOV", "sub/IMG_1.heic", "noend"}
    assert "its suffix '.mov' is that of no picture that fcx reads: .avif, .bmp" in reasons["clip.MOV"]
    assert "it has no suffix" in reasons["noend"]


def test_folder_of_other_files_only_is_refused(tmp_path):
    (tmp_path / "a.heic").touch()
    with pytest.raises(InputError, match=r"holds no picture: .*; it holds 1 other files \(\.heic\)"):
        open_source(tmp_path)


def test_folder_of_too_many_files_is_refused(album, monkeypatch):
    monkeypatch.setattr(folder, "MOST", 3)
    with pytest.raises(InputError, match="holds more than 3 files: give a folder below it, or a CSV"):
        open_source(album)


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="no such file system here")
def test_what_the_kernel_makes_up_is_not_walked(album):
    with pytest.raises(InputError, match=r"/proc/self lies on a file system of the kernel \(proc\)"):
        open_source("/proc/self")
    before = {r.id for r in open_source(album).records}
    (album / "link").symlink_to("/proc/self")
    reasons = {r.id: r.reason for r in open_source(album).records if r.id not in before}
    assert reasons == {"link": "the folder is not entered: it lies on a file system of the kernel (proc)"}


@pytest.mark.parametrize("name", ["labels.csv", "fer.npz"])
def test_a_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="it is not a file"):
        open_source(tmp_path / name)


def test_folder_name_that_is_no_utf8_becomes_an_id_that_is(album):
    Image.fromarray(PICTURE).save(album / "a.jpg")
    os.rename(os.fsencode(album / "a.jpg"), os.path.join(os.fsencode(album), b"\xff.jpg"))
    record = next(r for r in open_source(album).records if r.id == "\\xff.jpg")
    assert record.read().shape == PICTURE.shape


def test_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("no picture")
    with pytest.raises(InputError, match=r"holds no picture: looked in it and below for .*\.jpg"):
        open_source(tmp_path)


def test_folder_options_are_refused(album):
    with pytest.raises(UnknownNameError, match="option of a folder source 'recursive': allowed: none"):
        open_source(album, recursive=True)


def test_single_picture(album):
    source = open_source(album / "a.jpg")
    assert source.adapter == "picture"
    assert [r.id for r in source.records] == ["a.jpg"]
    with pytest.raises(ImageError, match=r"notes\.txt cannot be read as a picture: it is no JPEG, PNG"):
        open_source(album / "notes.txt").records[0].read()


# --- tables ---


def write_table(folder, text, name="labels.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_table_carries_labels_over(album):
    path = write_table(
        album,
        "Path, valence ,arousal,expression,subject,split,remark\r\n"
        "a.jpg,-1,0.25,Happiness,ann,test,x\r\n"
        "\r\n"
        'sub\\deep\\c.webp,nan,,"",,,y\r\n'
        "missing.jpg,0,0,angry,,train,z\r\n",
        encoding="utf-8-sig",
    )
    first, second, third = open_source(path).records
    assert (first.id, first.valence, first.arousal) == ("a.jpg", -1, 0.25)
    assert (first.expression, first.subject, first.split, first.source) == ("happy", "ann", "test", "labels")
    assert second.id == "sub/deep/c.webp"
    assert np.isnan([second.valence, second.arousal]).all()
    assert second.expression == ""
    assert second.read().shape == PICTURE.shape
    assert third.expression == "anger"
    with pytest.raises(ImageError, match=r"missing\.jpg cannot be opened: there is no such file"):
        third.read()


HEADER = "path,valence,arousal\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;valence;arousal\na.jpg;0;0\n", "no column 'path': its first line names file, valence, arousal;"),
        ("path,valence\na.jpg,0\n", "no column 'arousal'"),
        ("", "its first line names nothing"),
        (HEADER, "has a header and no rows"),
        ("path,valence,arousal,valence\n", "names the column valence more than once"),
        ("path,valence,arousal,face_x,face_y\na.jpg,0,0,1,1\n", "no column face_height, face_width: a face box needs"),
    ],
)
def test_a_table_that_is_none_is_refused_as_a_whole(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        open_source(write_table(tmp_path, text))


BOXED = "path,valence,arousal,face_x,face_y,face_width,face_height,landmarks\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.jpg,1.5,0", r"line 3, column 'valence': valence is 1\.5; allowed: -1 to 1, or empty"),
        ("b.jpg,0,-2", r"column 'arousal': arousal is -2; .*-2 and -5 mark 'unknown'"),
        ("b.jpg,0,inf", "arousal is inf; allowed: -1 to 1"),
        ("b.jpg,high,0", "valence is 'high'; allowed: a number"),
        ("a.jpg,1,1", r"line 3, column 'path': a\.jpg stands in .*line 2 too"),
        ("./a.jpg,1,1", r"line 3, column 'path': \./a\.jpg stands in .*line 2 too"),
        ("b/../a.jpg,1,1", r"line 3, column 'path': b/\.\./a\.jpg stands in .*line 2 too"),
        ("{folder}/a.jpg,1,1", r"line 3, column 'path': .*a\.jpg stands in .*line 2 too"),
        ("b\0.jpg,0,0", "line 3, column 1: the cell holds a NUL character"),
        ("b.jpg,0_1,0", "valence is '0_1'; allowed: a number"),
        ("b.jpg,0,\u0661", "arousal is '\u0661'; allowed: a number"),
        (".,0,0", r"line 3, column 'path': it is '\.'; allowed: the path of a picture"),
        (",0,0", "line 3, column 'path': it is ''; allowed: the path of a picture"),
        ("b.jpg,0", "line 3, column 3: the row has 2 cells, the header 3"),
        ("b.jpg,0,0,5", "line 3, column 4: the row has 4 cells, the header 3"),
        ('b.jpg,"0,0', "line 3, column 2: unexpected end of data"),
        ('b.jpg,0,"0" 1', "line 3, column 3: ',' expected after"),
        ("b.jpg,0,0,hapy", "column 'expression': unknown expression 'hapy': did you mean 'happy'"),
        ("b.jpg,0,0,3", "column 'expression': unknown expression '3'"),
        ("b.jpg,0,0,1,2,0,4,", "line 3, column 'face_width': 0; allowed: numbers of pixels, sizes above 0"),
        ("b.jpg,0,0,1,2,,4,", "line 3, column 'face_width': empty; allowed: numbers of pixels"),
        ("b.jpg,0,0,1,2,x,4,", "line 3, column 'face_width': face_width is 'x'"),
        ("b.jpg,0,0,1,2,3,4,1;2;3", "line 3, column 'landmarks': 3 numbers; allowed: 136, x;y of 68 points"),
    ],
)
def test_a_faulty_row_has_file_line_and_column_and_the_rest_is_used(tmp_path, row, message):
    cells = row.count(",")
    header = BOXED if cells == 7 else "path,valence,arousal,expression\n" if row.endswith(("hapy", "3")) else HEADER
    rest = "," * (header.count(",") - 2)
    text = f"{header}a.jpg,0,0{rest}\n{row}\nc.jpg,0.5,0{rest}\n".replace("{folder}", str(tmp_path))
    path = write_table(tmp_path, text)
    first, faulty, last = open_source(path).records
    assert (first.reason, last.reason, last.id, last.valence) == ("", "", "c.jpg", 0.5)
    assert re.search(message, faulty.reason)
    assert faulty.reason.startswith(f"{path}, line 3")
    unread = re.search(r"column (\d|'path')", message)  # the path, which is the id
    assert faulty.id == ("labels.csv, line 3" if unread else "b.jpg")
    assert np.isnan([faulty.valence, faulty.arousal]).all()
    with pytest.raises(InputError, match=message):
        open_source(path, strict=True)


def test_a_table_with_semicolons_decimal_commas_tabs_or_spreadsheet_text_reads_as_one_with_commas(tmp_path):
    points = [f"{value}.5" for value in range(136)]
    rows = [
        ["path", "valence", "arousal", "split", "face_x", "face_y", "face_width", "face_height", "landmarks"],
        ["C:\\faces\\a, b.jpg", "0.25", "-0.5", "train", "1.5", "2", "30", "40.25", ";".join(points)],
        ["c.jpg", "", "1", "", "", "", "", "", ""],
    ]
    texts = {}
    for delimiter in ",;\t":
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=delimiter).writerows(rows)
        texts[delimiter] = buffer.getvalue()
    number = re.compile(r"(\d)\.(\d)")
    commas = texts[";"].replace(" b.jpg", "\0").replace("0.25", "0,25")
    commas = number.sub(r"\1,\2", commas).replace("\0", " b.jpg")
    variants = [(texts[","], "utf-8"), (texts[";"], "utf-8-sig"), (commas, "utf-8"), (texts["\t"], "utf-16")]
    columns = [*rows[0][:-1], *(f"{axis}_{i}" for i in range(68) for axis in "xy")]
    wide = [columns, [*rows[1][:-1], *points], [*rows[2][:-1], *[""] * 136]]
    variants.append(("\n".join(";".join(cells) for cells in wide), "utf-8"))
    for number, (text, encoding) in enumerate(variants):
        first, second = open_source(write_table(tmp_path, text, f"t{number}.csv", encoding)).records
        assert (first.id, first.valence, first.arousal, first.split) == ("C:/faces/a, b.jpg", 0.25, -0.5, "train")
        assert first.box == (1.5, 2, 30, 40.25)
        np.testing.assert_array_equal(first.points.ravel(), np.arange(136) + 0.5)
        assert (second.box, second.points, second.arousal) == (None, None, 1)
        assert not first.reason
        assert not second.reason


def test_a_quotation_mark_that_nobody_closed_takes_no_other_row_with_it(tmp_path):
    rows = 'a.jpg,0,0,"two\nlines"\nb.jpg,0,0,"open\nc.jpg,0,0,\nd.jpg,0,0,"closed"\n"e.jpg,0,0,\n'
    records = open_source(write_table(tmp_path, "path,valence,arousal,remark\n" + rows)).records
    assert [r.id for r in records] == ["a.jpg", "labels.csv, line 4", "c.jpg", "d.jpg", "labels.csv, line 7"]
    assert [bool(r.reason) for r in records] == [False, True, False, False, True]


def test_an_id_is_the_path_without_what_leads_nowhere(tmp_path):
    source = open_source(write_table(tmp_path, HEADER + "./sub/..//a.jpg,0,0\n../b.jpg,0,0\n"))
    assert [r.id for r in source.records] == ["a.jpg", "../b.jpg"]


def test_table_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not UTF-8 text"):
        open_source(write_table(tmp_path, HEADER + "ü.jpg,0,0\n", encoding="latin-1"))


# --- FER+ ---

COLUMNS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]


def write_ferplus(path, **changes):
    """Write seven rows: three usable for training, one excluded; one usable for validation, two excluded."""
    votes = [
        [4, 0, 0, 1, 3, 2, 0, 0, 0, 0],
        [0, 10, 0, 0, 0, 0, 0, 0, 0, 0],
        [2, 0, 0, 0, 0, 0, 0, 2, 5, 1],  # four usable votes
        [0, 0, 5, 0, 0, 0, 5, 0, 0, 0],
        [0, 0, 0, 7, 0, 0, 0, 3, 0, 0],
        [9, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 5, 5],  # none
    ]
    arrays = {
        "images": np.random.default_rng(0).integers(0, 256, (7, 48, 48), dtype=np.uint8),
        "name": np.array([f"fer{i}.png" for i in range(7)]),
        "usage": np.array([0, 0, 0, 0, 1, 1, 1], np.uint8),
        "usage_names": np.array(["Training", "PublicTest", "PrivateTest"]),
        "votes": np.array(votes, np.uint8),
        "vote_columns": np.array(COLUMNS),
        "dup_group": np.array([7, -1, -1, -1, -1, 7, -1], np.int32),
        "seen_in_private_test": np.array([False, True, False, False, True, False, False]),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_ferplus_proxy_equals_the_mean_over_single_votes(tmp_path):
    record = open_source(write_ferplus(tmp_path / "fer.npz")).records[0]
    votes = {"neutral": 4, "sad": 1, "anger": 3, "disgust": 2}
    mean, spread = oracles.proxy_of_votes(votes, ferplus.PROXY)
    np.testing.assert_allclose([record.valence, record.arousal], mean, atol=1e-12)
    np.testing.assert_allclose([record.valence_spread, record.arousal_spread], spread, atol=1e-12)


def test_ferplus_unanimous_votes_give_the_category_itself(tmp_path):
    record = open_source(write_ferplus(tmp_path / "fer.npz")).records[1]
    assert (record.valence, record.arousal) == ferplus.PROXY["happy"]
    assert (record.valence_spread, record.arousal_spread) == (0, 0)


def test_ferplus_rows_that_must_not_be_used_stay_with_their_reason(tmp_path):
    records = open_source(write_ferplus(tmp_path / "fer.npz")).records
    assert [r.split for r in records] == ["train", *["excluded"] * 2, "train", "validation", *["excluded"] * 2]
    assert [r.reason for r in records] == [
        "",
        "the same image stands in a test set",
        "4 usable votes, fewer than 5",
        "",
        "",  # a validation row that stands in a test set too is not trained on
        "the same image stands in training",
        "0 usable votes, fewer than 5",
    ]
    assert [r.expression for r in records] == ["neutral", "happy", "", "", "sad", "neutral", ""]
    assert np.isnan(records[6].valence)
    assert open_source(tmp_path / "fer.npz", minimum_votes=4).records[2].split == "train"


def test_ferplus_picture_is_enlarged_and_grey(tmp_path):
    path = write_ferplus(tmp_path / "fer.npz", images=np.full((7, 48, 48), 93, np.uint8))
    picture = pickle.loads(pickle.dumps(open_source(path).records[0])).read()
    assert picture.shape == (192, 192, 3)
    assert picture.dtype == np.uint8
    assert (picture == 93).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"votes": None}, "is no FER\\+ array: it lacks votes; it holds images"),
        ({"name": np.array([{}] * 7, object)}, "cannot be read as a FER\\+ array"),
        ({"name": np.array(["a\0b", *"234567"])}, r"the id 'a\\x00b' cannot be the name of a file"),
        ({"name": np.array([["a"]] * 7)}, r"name is \(7, 1\), should be one for each"),
        ({"name": np.array(["x"] * 7)}, "the id 'x' stands for more than one row"),
        ({"images": np.full((7, 48, 48), 256, np.int32)}, "images goes from 256 to 256; allowed: 0 to 255"),
        ({"images": np.full((7, 48, 48), -1)}, "images goes from -1 to -1; allowed: 0 to 255"),
        ({"images": np.full((7, 48, 48), 0.5)}, "images is float64 .*, should be whole numbers"),
        ({"images": np.zeros((7, 64, 64), np.uint8)}, r"images is uint8 \(7, 64, 64\)"),
        ({"usage": np.full(7, -1)}, "usage goes from -1 to -1; allowed: 0 to 2"),
        ({"usage": np.full(7, 3)}, "usage goes from 3 to 3; allowed: 0 to 2"),
        ({"usage_names": np.array(["Train"])}, "usage_names are .*allowed: Training, PublicTest"),
        ({"usage_names": np.array("Training")}, "usage_names are"),
        ({"votes": np.full((7, 10), -1)}, "votes goes from -1 to -1; allowed: whole numbers from 0"),
        ({"votes": np.full((7, 10), np.nan)}, "votes is float64"),
        ({"votes": np.zeros((7, 0), int), "vote_columns": np.zeros(0, str)}, r"vote_columns are \[\]; allowed"),
        ({"votes": np.zeros((7, 2), int), "vote_columns": np.array(["happy", "joy"])}, "each once"),
        ({"votes": np.zeros((7, 1), int), "vote_columns": np.array(["rage"])}, "unknown expression 'rage'"),
        (
            {
                name: np.zeros((0, *rest), kind)
                for name, rest, kind in (
                    ("images", (48, 48), np.uint8),
                    ("name", (), str),
                    ("usage", (), int),
                    ("votes", (10,), int),
                    ("dup_group", (), int),
                    ("seen_in_private_test", (), bool),
                )
            },
            r"holds no face: name is \(0,\)",
        ),
    ],
)
def test_ferplus_refuses_other_arrays(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        open_source(write_ferplus(tmp_path / "fer.npz", **changes))


def test_ferplus_refuses_a_cut_file(tmp_path):
    path = write_ferplus(tmp_path / "fer.npz")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="damaged, or another format"):
        open_source(path)


def test_the_root_of_the_file_system_is_refused_before_it_is_searched(monkeypatch, tmp_path):
    monkeypatch.setattr(folder.os, "walk", lambda *_, **__: pytest.fail("it was searched"))
    (tmp_path / "link").symlink_to("/")
    for root in ("/", "//", tmp_path / "link"):
        with pytest.raises(InputError, match="is the root of the file system: give the one that holds the pictures"):
            open_source(root)


def test_ferplus_ceiling_is_of_the_faces_that_count(tmp_path):
    path = write_ferplus(tmp_path / "fer.npz")
    got = ferplus.ferplus_ceiling(path, "train", splits=10)
    assert int(got["n"]) == 2  # the others are excluded
    points = [ferplus.PROXY[expression_name(name)] for name in COLUMNS[:8]]
    want = vote_ceiling([[4, 0, 0, 1, 3, 2, 0, 0], [0, 0, 5, 0, 0, 0, 5, 0]], points, splits=10)
    np.testing.assert_array_equal(got["half"], want["half"])
    with pytest.raises(UnknownNameError, match="unknown split 'validaton': did you mean 'validation'"):
        ferplus.ferplus_ceiling(path, "validaton")
