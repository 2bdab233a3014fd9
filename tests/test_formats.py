"""Adapters of published data sets, on small trees in their layouts in which defects are planted."""

import json
import re
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from fcx import cli
from fcx.core.errors import ImageError, InputError
from fcx.datasets import open_source
from fcx.datasets.ferplus import PROXY
from fcx.datasets.records import counts_of

POINTS = np.arange(136, dtype=float).reshape(68, 2) + 0.5
FLAT = POINTS.ravel()
TEXT = ";".join(map(str, POINTS.ravel()))
SIX = list(range(1, 7))


def picture(path, value=100, size=(20, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def write(path, *lines, end="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


# --- one tree for each layout; each returns what to open and, by id, what must come of it: (split, subject, expression,
# valence, arousal) for a good row, and a part of the reason for one that is not ---

NAN = None  # an unknown value


def affectnet_2017(top):
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    pictures = top / "Manually_Annotated" / "Manually_Annotated_Images"
    lists = top / "Manually_Annotated_file_lists"
    for name in ("1/a.jpg", "1/b.jpg", "2/c.jpg", "2/v.jpg"):
        picture(pictures / name)
    write(
        lists / "training.csv", header,
        f"1/a.jpg,1,2,30,40,{TEXT},1,0.5,-0.25",
        f"1\\b.jpg,1,2,30,40,{TEXT},6.0,-2,-2",
        "2/c.jpg,NULL,NULL,NULL,NULL,NULL,10,-2,-2",
        "2/none.jpg,1,2,30,40,,8,0.1,0.2",
        "2/gone.jpg,1,2,30,40,,2,0,0",
        "2/x.jpg,1,2,30,40,,2,high,0",
        "2/short.jpg,1,2,30,40",
        "1/a.jpg,1,2,30,40,,2,0,0",
        "2/range.jpg,1,2,30,40,,2,0,1.5",
        f"2/points.jpg,1,2,30,40,{TEXT};7,2,0,0",
        '"2/quote.jpg,1,2,30,40,,2,0,0',
        "2/number.jpg,1,2,30,40,,11,0,0",
        ",1,2,30,40,,2,0,0",
        end="\r\n", encoding="utf-8-sig",
    )  # fmt: skip
    write(lists / "validation.csv", header, "2/v.jpg,0,0,9,9,,7,1,-1")
    table = "training.csv, line"
    return top, "affectnet", {
        "1/a.jpg": ("train", "", "happy", 0.5, -0.25),
        "1/b.jpg": ("train", "", "anger", NAN, NAN),
        "2/c.jpg": ("excluded", "expression 10: no face"),
        "2/none.jpg": ("excluded", "expression 8: none"),
        "2/gone.jpg": ("train", "", "sad", 0, 0),
        "2/x.jpg": ("train", f"{table} 7, column 'valence': it is 'high'; allowed: a number from -1 to 1, or -2"),
        "2/short.jpg": ("train", f"{table} 8, column 6: the row has 5 cells, not 9"),
        "Manually_Annotated_file_lists/training.csv, line 9": ("train", "1/a.jpg stands in .*line 2 too"),
        "2/range.jpg": ("train", f"{table} 10, column 'arousal': it is '1.5'"),
        "2/points.jpg": ("train", f"{table} 11, column 'facial_landmarks': 137 numbers; allowed: 136"),
        '"2/quote.jpg': ("train", f"{table} 12, column 1: unexpected end of data"),
        "2/number.jpg": ("train", f"{table} 13, column 'expression': it is '11'; allowed: 0 to 10"),
        "Manually_Annotated_file_lists/training.csv, line 14": ("train", "line 14, column 1: it is '.'; allowed"),
        "2/v.jpg": ("validation", "", "contempt", 1, -1),
    }  # fmt: skip


def affectnet_2021(top):
    def face(split, name, expression, valence, arousal, points=FLAT):
        picture(top / split / "images" / f"{name}.jpg")
        notes = top / split / "annotations"
        notes.mkdir(exist_ok=True)
        for part, value in {"exp": expression, "val": valence, "aro": arousal, "lnd": points}.items():
            if value is not None:
                np.save(notes / f"{name}_{part}.npy", value)

    face("train_set", 10, "3", "0.25", "-0.5")
    face("train_set", 9, 0, -2.0, 0.5)
    face("train_set", 11, np.array([4]), np.float32(0.5), np.float64(1))
    face("train_set", 12, "1", "x", "0")
    face("train_set", 13, "1", "0", None)
    face("train_set", 14, "1", "0", "0", POINTS.ravel()[:100])
    face("train_set", 15, np.array([{}], object), "0", "0")
    face("train_set", 16, "9", "-2", "-2")
    face("train_set", 17, "1", np.zeros(2), "0")
    face("train_set", 18, "1", "0", "0", None)
    (top / "train_set" / "annotations" / "18_exp.npy").write_bytes(b"\x93NUMPY cut")
    face("train_set", 19, "7", "0", "0", None)
    (top / "train_set" / "images" / "9.jpg").unlink()
    face("val_set", 10, "2", "-1", "1")
    place = "train_set/annotations/"
    return top, "affectnet_folders", {
        "train_set/images/9.jpg": ("train", "its picture images/9.jpg is missing"),
        "train_set/images/10.jpg": ("train", "", "surprise", 0.25, -0.5),
        "train_set/images/11.jpg": ("train", "", "fear", 0.5, 1),
        "train_set/images/12.jpg": ("train", f"{place}12, column '12_val.npy': it is 'x'; allowed"),
        "train_set/images/13.jpg": ("train", f"{place}13, 13_aro.npy is missing"),
        "train_set/images/14.jpg": ("train", "14_lnd.npy': 100 numbers; allowed: 136"),
        "train_set/images/15.jpg": ("train", "15_exp.npy cannot be read: it holds Python objects"),
        "train_set/images/16.jpg": ("excluded", "expression 9: uncertain"),
        "train_set/images/17.jpg": ("train", "17_val.npy holds 2 values, not one"),
        "train_set/images/18.jpg": ("train", "18_exp.npy cannot be read"),
        "train_set/images/19.jpg": ("train", "", "contempt", 0, 0),
        "val_set/images/10.jpg": ("validation", "", "sad", -1, 1),
    }  # fmt: skip


def rafdb(top, kinds=("aligned", "original")):
    basic = top / "basic"
    names = [*(f"train_{i:05d}" for i in SIX), "train_00007", "test_0001"]
    for name in names:
        for kind in kinds:
            ending = "_aligned.jpg" if kind == "aligned" else ".jpg"
            picture(basic / "Image" / kind / f"{name}{ending}", 50 if kind == "aligned" else 150)
        write(basic / "Annotation" / "boundingbox" / f"{name}_boundingbox.txt", "5.0 6.0 15.5 18.0 ")
    write(basic / "Annotation" / "boundingbox" / "train_00002_boundingbox.txt", "5 6 5 18")
    write(top / "compound" / "EmoLabel" / "list_patition_label.txt", "train_0001.jpg 11")
    write(
        basic / "EmoLabel" / "list_patition_label.txt",
        *(f"train_{i:05d}.jpg {i}" for i in SIX),
        "train_00007.jpg 7", "test_0001.jpg 4", "train_00008.jpg 8", "train_00009.jpg", "train_00001.jpg 2",
        "face.jpg 3", "train_00010.jpg joy", "train_00011.jpg 1 2",
        end="\r\n", encoding="utf-8-sig",
    )  # fmt: skip
    names = ["surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"]
    place = "list_patition_label.txt, line"
    return top, "rafdb", {
        **{f"train_{i:05d}.jpg": ("train", "", name, NAN, NAN) for i, name in enumerate(names, 1)},
        "test_0001.jpg": ("test", "", "happy", NAN, NAN),
        "train_00008.jpg": ("train", f"{place} 9, column 'label': it is '8'; allowed: 1 to 7"),
        "train_00009.jpg": ("train", f"{place} 10, column 2: the line has 1 words, not 2"),
        f"EmoLabel/{place} 11": ("train", "train_00001.jpg stands in .*line 1 too"),
        "face.jpg": ("", f"{place} 12, column 1: the name is 'face.jpg'; allowed: train_... and test_..."),
        "train_00010.jpg": ("train", f"{place} 13, column 'label': it is 'joy'"),
        "train_00011.jpg": ("train", f"{place} 14, column 3: the line has 3 words"),
    }  # fmt: skip


def afewva(top):
    def clip(name, frames, pictures):
        for frame in pictures:
            picture(top / name / f"{frame}.png")
        write(top / name / f"{name}.json", json.dumps({"video_id": name, "actor": "x", "frames": frames}))

    rated = {"landmarks": POINTS.tolist(), "valence": 4.0, "arousal": -10}
    clip("001", {"00000": rated, "00001": {**rated, "valence": 11}, "00002": {**rated, "landmarks": [[1, 2]]},
                 "00003": {"valence": 1}, "00004": rated, "00005": {**rated, "arousal": "high"}, "00006": 3},
         ["00000", "00001", "00002", "00003", "00005", "00006", "00009"])  # fmt: skip
    picture(top / "002" / "00000.png")
    picture(top / "003" / "00000.png")
    write(top / "003" / "003.json", '{"frames": {"00000": ', " nothing}}")
    entry = '"00000": {"valence": 0, "arousal": 5}'
    picture(top / "004" / "00000.png")
    write(top / "004" / "004.json", f'{{"frames": {{{entry}, {entry}, "00001": {{"valence": 0, "arousal": 5}}}}}}')
    picture(top / "004" / "00001.png")
    place = "001/001.json, frame"
    return top, "afewva", {
        "001/00000.png": ("", "001", "", 0.4, -1),
        "001/00001.png": ("", f"{place} 00001, column 'valence': it is '11'; allowed: a number from -10 to 10"),
        "001/00002.png": ("", f"{place} 00002, column 'landmarks': 2 numbers; allowed: 136"),
        "001/00003.png": ("", f"{place} 00003, it has no arousal"),
        "001/00004.png": ("", f"{place} 00004, its picture 001/00004.png is missing"),
        "001/00005.png": ("", f"{place} 00005, column 'arousal': it is 'high'"),
        "001/00006.png": ("", f"{place} 00006, it holds no table"),
        "001/00009.png": ("", f"{place} 00009, it has no entry"),
        "002/00000.png": ("", "002.json cannot be opened: No such file"),
        "003/00000.png": ("", "003.json, frame 00000, line 2, column 2"),
        "004/00000.png": ("", "frame 00000, it stands there more than once"),
        "004/00001.png": ("", "004", "", 0, 0.5),
    }  # fmt: skip


def affwild2(top):
    ratings = top / "Third ABAW Annotations" / "VA_Estimation_Challenge"
    for video, frames in {"1-30-1280x720": SIX, "video5_left": [1, 2], "9": [1]}.items():
        for frame in frames:
            picture(top / "cropped_aligned" / video / f"{frame:05d}.jpg")
    (top / "cropped_aligned" / "9" / "00001.jpg").rename(top / "cropped_aligned" / "9" / "00002.jpg")
    write(ratings / "Train_Set" / "1-30-1280x720.txt", "valence,arousal", "0.5,-0.25", "-5,-5", "", "0.1,x", "0.1",
          end="\r\n", encoding="utf-8-sig")  # fmt: skip
    write(ratings / "Train_Set" / "gone.txt", "valence,arousal", "0,0")
    write(ratings / "Validation_Set" / "video5_left.txt", "valence,arousal", "-1,1", "2,0")
    write(ratings / "Validation_Set" / "9.txt", "valence,arousal", "0.3,0.4", "0.1,0.2")
    write(ratings / "Validation_Set" / "faces.txt", "Neutral,Anger", "0,1")
    write(
        top / "Third ABAW Annotations" / "EXPR_Classification_Challenge" / "Train_Set" / "9.txt", "Neutral,Anger,", "3"
    )
    place = "1-30-1280x720.txt, line"
    return top, "affwild2", {
        "1-30-1280x720/00001.jpg": ("train", "1-30-1280x720", "", 0.5, -0.25),
        "1-30-1280x720/00002.jpg": ("train", "1-30-1280x720", "", NAN, NAN),
        "1-30-1280x720/00003.jpg": ("train", f"{place} 4, column 'valence': it is 'empty'"),
        "1-30-1280x720/00004.jpg": ("train", f"{place} 5, column 'arousal': it is 'x'; allowed: .*or -5 where unknown"),
        "1-30-1280x720/00005.jpg": ("train", f"{place} 6, column 2: the row has 1 cells, not 2"),
        "1-30-1280x720/00006.jpg": ("excluded", "1-30-1280x720.txt has 5 ratings, none of this frame"),
        "gone": ("train", "its frames are missing: expected .*cropped_aligned/gone/00001.jpg"),
        "9/00001.jpg": ("excluded", "no face was seen in this frame"),
        "9/00002.jpg": ("validation", "9", "", 0.1, 0.2),
        "faces": ("validation", "faces.txt, line 1, column 1: it begins with 'neutral,anger'"),
        "video5_left/00001.jpg": ("validation", "video5_left", "", -1, 1),
        "video5_left/00002.jpg": ("validation", "line 3, column 'valence': it is '2'"),
    }  # fmt: skip


def filenames(top):
    for name in ("train/a__0.25__-0.5.jpg", "train/b__x__1.0__0.0.png", "train/c__-2__-2.jpg", "val/d__0__1.5.jpg",
                 "e.jpg", "f__0.1__0.2.JPG"):  # fmt: skip
        picture(top / name)
    return top, "filenames", {
        "e.jpg": ("", "e.jpg, its name lacks labels; allowed: NAME__AROUSAL__VALENCE"),
        "f__0.1__0.2.JPG": ("", "", "", 0.2, 0.1),
        "train/a__0.25__-0.5.jpg": ("train", "", "", -0.5, 0.25),
        "train/b__x__1.0__0.0.png": ("train", "", "", 0, 1),
        "train/c__-2__-2.jpg": ("train", "", "", NAN, NAN),
        "val/d__0__1.5.jpg": ("validation", "1.5.jpg, column 'valence': it is '1.5'; allowed"),
    }  # fmt: skip


HAPPY, SAD, FEW, BAD = "0,10,0,0,0,0,0,0,0,0", "0,0,0,10,0,0,0,0,0,0", "0,2,0,0,0,0,0,0,8,0", "0,ten,0,0,0,0,0,0,0,0"
VOTE_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
# Usage, name, votes, grey value; as published, numbers in names are not those of rows, for some rows have no name.
VOTED = [
    ("Training", "fer0000000.png", HAPPY, 10),
    ("Training", "", "0,0,0,0,0,0,0,0,0,10", 20),
    ("Training", "fer0000001.png", SAD, 30),
    ("Training", "fer0000002.png", HAPPY, 40),
    ("Training", "fer0000003.png", FEW, 50),
    ("Training", "fer0000004.png", BAD, 60),
    ("PublicTest", "fer0000005.png", SAD, 70),
    ("PublicTest", "fer0000006.png", SAD, 30),  # the picture of a training row
    ("PrivateTest", "fer0000007.png", HAPPY, 40),  # the picture of another
    ("PrivateTest", "fer0000008.png", SAD, None),  # no picture
]
SCORES = {HAPPY: ("happy", *PROXY["happy"]), SAD: ("sad", *PROXY["sad"])}
OF_VOTES = {
    "fer0000000.png": ("train", "", *SCORES[HAPPY]),
    "fer0000001.png": ("train", "", *SCORES[SAD]),
    "fer0000002.png": ("excluded", "the same image stands in a test set"),
    "fer0000003.png": ("excluded", "2 usable votes, fewer than 5"),
    "fer0000004.png": ("train", "column 'happiness': it is 'ten'; allowed: a number of votes"),
    "fer0000005.png": ("validation", "", *SCORES[SAD]),
    "fer0000006.png": ("excluded", "the same image stands in training"),
    "fer0000007.png": ("test", "", *SCORES[HAPPY]),
}


def ferplus_tables(top, rows=VOTED, order=None, names=False):
    """Write the tables of FER2013 and FER+; `order` is that of the rows of votes."""
    pixels = ["1 2 x" if value is None else " ".join([str(value)] * 2304) for *_, value in rows]
    label = {HAPPY: 3, SAD: 4}
    extra = ",Image name" if names else ""
    write(top / "fer2013.csv", f"emotion,pixels,Usage{extra}",
          *(f"{label.get(votes, 6)},{text},{usage}" + (f",{name}" if names else "")
            for (usage, name, votes, _), text in zip(rows, pixels, strict=True)), end="\r\n")  # fmt: skip
    voted = [f"{usage},{name},{votes}" for usage, name, votes, _ in rows]
    write(top / "fer2013new.csv", VOTE_HEADER, *(voted[i] for i in order or range(len(rows))), encoding="utf-8-sig")
    return top, "ferplus_files", {
        **OF_VOTES,
        "fer2013new.csv, line 3": ("excluded", "it has no image name"),
        "fer0000008.png": ("test", r"line 11, .*fer2013\.csv, line 11.*column 'pixels': allowed: 2304 whole numbers"),
    }  # fmt: skip


def ferplus_folders(top):
    names = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
    for usage, name in names.items():
        rows = [row for row in VOTED if row[0] == usage and row[1]]
        for _, file, _, value in rows:
            if value is not None:
                picture(top / "data" / name / file, value, (48, 48))
        write(top / "data" / name / "label.csv", *(f'{file},"(0, 0, 48, 48)",{votes}' for _, file, votes, _ in rows))
    picture(top / "data" / "FER2013Test" / "fer0000099.png")
    write(top / "fer2013new.csv", VOTE_HEADER)
    return top, "ferplus_files", {
        **OF_VOTES,
        "fer0000008.png": ("test", "column 'Image name': the picture .*FER2013Test/fer0000008.png is missing"),
        "fer0000099.png": ("test", "FER2013Test/fer0000099.png, it has no votes"),
    }  # fmt: skip


TREES = [affectnet_2017, affectnet_2021, rafdb, afewva, affwild2, filenames, ferplus_tables, ferplus_folders]


# --- all of them ---


def checked(records, expected):
    assert Counter(record.id for record in records) == Counter(list(expected))
    for record in records:
        split, *rest = expected[record.id]
        assert record.split == split, record
        if len(rest) == 1:
            assert re.search(rest[0], record.reason), record
            continue
        subject, expression, *values = rest
        assert (record.subject, record.expression, record.reason) == (subject, expression, "")
        np.testing.assert_allclose([record.valence, record.arousal],
                                   [np.nan if value is None else value for value in values], atol=1e-9)  # fmt: skip


@pytest.mark.parametrize("tree", TREES)
def test_a_data_set_is_known_by_its_layout_and_each_row_has_its_labels_or_the_reason(tmp_path, tree):
    path, name, expected = tree(tmp_path / "set")
    source = open_source(path)
    assert source.adapter == name
    checked(source.records, expected)
    assert source.fingerprint() == open_source(path).fingerprint()
    good = next(record for record in source.records if not record.reason)
    assert good.read().dtype == np.uint8


@pytest.mark.parametrize("tree", TREES)
def test_strict_stops_at_the_first_faulty_row_and_names_it(tmp_path, tree):
    path, _, expected = tree(tmp_path / "set")
    reasons = [rest[0] for split, *rest in expected.values() if len(rest) == 1 and split != "excluded"]
    with pytest.raises(InputError) as error:
        open_source(path, strict=True)
    assert any(re.search(reason, str(error.value)) for reason in reasons)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("tree", TREES)
def test_pictures_of_a_data_set_opened_as_a_plain_folder_say_what_to_give(tmp_path, tree):
    if tree in (filenames, ferplus_tables):
        return  # the pictures carry their labels; there are none
    path, name, _ = tree(tmp_path / "set")
    folder = next(file.parent for file in sorted(path.rglob("*.jpg")) + sorted(path.rglob("*.png")))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapter = open_source(folder).adapter
    assert adapter == name or any(f"format {name!r}" in str(warning.message) for warning in caught)


# --- each ---


@pytest.mark.parametrize(("tree", "boxed"), [(affectnet_2017, True), (affectnet_2021, False), (afewva, False)])
def test_landmarks_and_boxes_are_kept(tmp_path, tree, boxed):
    path, _, expected = tree(tmp_path / "set")
    records = {record.id: record for record in open_source(path).records}
    record = next(record for record in records.values() if record.points is not None)
    assert len(expected[record.id]) > 2
    np.testing.assert_array_equal(record.points, POINTS)
    assert record.box == ((1, 2, 30, 40) if boxed else None)


@pytest.mark.parametrize(
    ("tree", "inside"),
    [
        (affectnet_2017, "Manually_Annotated_file_lists"),
        (affectnet_2017, "Manually_Annotated_file_lists/validation.csv"),
        (affectnet_2021, "val_set"),
        (rafdb, "basic"),
        (rafdb, "basic/EmoLabel/list_patition_label.txt"),
        (afewva, "001"),
        (affwild2, "Third ABAW Annotations"),
        (affwild2, "Third ABAW Annotations/VA_Estimation_Challenge/Train_Set"),
        (filenames, "train"),
        (ferplus_tables, "fer2013new.csv"),
        (ferplus_tables, "fer2013.csv"),
        (ferplus_folders, "data"),
        (ferplus_folders, "data/FER2013Train/label.csv"),
    ],
)
def test_a_part_of_a_data_set_is_known_too(tmp_path, tree, inside):
    path, name, expected = tree(tmp_path / "set")
    part = open_source(path / inside)
    assert part.adapter == name
    assert {record.id.rpartition("/")[2] for record in part.records} <= {id.rpartition("/")[2] for id in expected}


@pytest.mark.parametrize(
    ("tree", "gone", "message"),
    [
        (affectnet_2017, "Manually_Annotated", r"training\.csv: none of its first pictures, such as 1/a\.jpg, lies in"),
        (affectnet_2021, "val_set/annotations", "val_set/annotations is missing or empty: expected images/N.jpg"),
        (affectnet_2021, "train_set/images", "train_set/images is missing or empty: expected images/N.jpg"),
        (
            rafdb,
            "basic/Image",
            r"list_patition_label\.txt: none of its .*train_00001_aligned\.jpg, lies in .*Image/alig",
        ),
        (
            affwild2,
            "cropped_aligned",
            "no folder cropped_aligned lies in it, beside it or above: expected cropped_align",
        ),
        (ferplus_tables, "fer2013new.csv", r"the votes of FER\+ are missing: expected .*fer2013new\.csv"),
        (ferplus_tables, "fer2013.csv", r"the faces are missing: expected .*fer2013\.csv, or the folders FER2013Train"),
    ],
)
def test_a_data_set_that_lacks_a_part_says_what_was_expected_where(tmp_path, tree, gone, message):
    path, _, _ = tree(tmp_path / "set")
    (path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=message):
        open_source(path)


def test_folders_of_ferplus_without_votes_say_where_they_are_expected_and_one_table_serves_all(tmp_path):
    top, _, _ = ferplus_folders(tmp_path / "set")
    for table in top.rglob("label.csv"):
        table.unlink()
    write(top / "data" / "fer2013new.csv", VOTE_HEADER, *(f"{usage},{name},{votes}" for usage, name, votes, _ in VOTED))
    records = {record.id: (record.split, record.reason) for record in open_source(top).records}
    assert records["fer0000000.png"] == ("train", "")
    assert records["fer0000006.png"] == ("excluded", "the same image stands in training")
    for table in top.rglob("fer2013new.csv"):
        table.unlink()
    with pytest.raises(InputError, match=r"the votes of FER\+ are missing: .*or label.csv in each of FER2013Train"):
        open_source(top)


def test_pictures_of_raf_db_are_aligned_unless_told_and_original_ones_have_boxes(tmp_path):
    top, _, _ = rafdb(tmp_path / "set")
    aligned, original = open_source(top), open_source(top, images="original")
    assert aligned.records[0].read().mean() == 50
    assert original.records[0].read().mean() == 150
    assert [record.box for record in aligned.records[:3]] == [None] * 3
    assert original.records[0].box == (5, 6, 10.5, 12)
    assert "train_00002_boundingbox.txt holds '5 6 5 18'; allowed: left, top" in original.records[1].reason
    assert open_source(rafdb(tmp_path / "other", ["original"])[0]).records[0].box == (5, 6, 10.5, 12)
    with pytest.raises(InputError, match="unknown kind of images of RAF-DB 'alined': did you mean 'aligned'"):
        open_source(top, images="alined")


def test_folders_of_pictures_that_lie_elsewhere_are_named(tmp_path):
    top, _, _ = affectnet_2017(tmp_path / "set")
    (top / "Manually_Annotated").rename(tmp_path / "far")
    records = open_source(top, images=str(tmp_path / "far" / "Manually_Annotated_Images")).records
    assert records[0].read().shape == (20, 10, 3)
    with pytest.raises(ImageError, match="there is no such file"):
        next(record for record in records if record.id == "2/gone.jpg").read()
    top, _, _ = affwild2(tmp_path / "wild")
    (top / "cropped_aligned").rename(tmp_path / "crops")
    records = open_source(top, images=str(tmp_path / "crops")).records
    assert records[0].read().shape == (20, 10, 3)


def test_tables_of_affectnet_may_lack_their_header(tmp_path):
    picture(tmp_path / "Manually_Annotated_Images" / "689" / "ab.jpg")
    table = write(tmp_path / "validation.csv", f"689/ab.jpg,1,2,30,40,{TEXT},3,0.5,-0.25")
    (record,) = open_source(table).records
    assert (record.id, record.expression, record.split, record.valence) == ("689/ab.jpg", "surprise", "validation", 0.5)
    write(tmp_path / "validation.csv", "subDirectory_filePath,expression,valence", "689/ab.jpg,1,0")
    with pytest.raises(InputError, match=r"validation\.csv has no column 'arousal': its first line names subdirectory"):
        open_source(table)


def test_a_share_of_the_frames_of_videos_keeps_their_numbers(tmp_path):
    top, _, _ = affwild2(tmp_path / "set")
    records = {record.id for record in open_source(top, every=2).records}
    assert records >= {"1-30-1280x720/00001.jpg", "1-30-1280x720/00003.jpg", "9/00001.jpg"}
    assert not {"1-30-1280x720/00002.jpg", "1-30-1280x720/00004.jpg", "9/00002.jpg"} & records
    with pytest.raises(InputError, match="every is 0"):
        open_source(top, every=0)


def test_archives_of_afew_va_unpacked_side_by_side_are_one_data_set(tmp_path):
    for part in ("AFEW-VA_01", "AFEW-VA_02"):
        top, _, expected = afewva(tmp_path / "set" / part)
        for clip in sorted(top.iterdir()) if part.endswith("2") else ():
            name = f"{int(clip.name) + 50:03d}"
            for file in clip.glob("*.json"):
                file.rename(clip / f"{name}.json")
            clip.rename(top / name)
    records = open_source(tmp_path / "set").records
    assert len(records) == 2 * len(expected)
    assert {record.subject for record in records} == {"001", "002", "003", "004", "051", "052", "053", "054"}


# --- FER+: votes go to faces by name ---


def as_numbered():
    """Return rows whose names hold the number of the row, as some copies have them."""
    return [(usage, f"fer{i:07d}.png", votes, value) for i, (usage, _, votes, value) in enumerate(VOTED)]


def test_votes_in_another_order_than_the_faces_go_by_name(tmp_path):
    rows = as_numbered()
    straight = open_source(ferplus_tables(tmp_path / "a", rows)[0]).records
    shuffled = open_source(ferplus_tables(tmp_path / "b", rows, [3, 1, 0, 2, 5, 4, 7, 6, 9, 8])[0]).records
    fewer = open_source(ferplus_tables(tmp_path / "c", rows, [0, 1, 2, 4, 5, 6, 7, 8, 9])[0]).records
    labels = {record.id: (record.split, record.expression, fake(record)) for record in straight}
    assert {record.id: (record.split, record.expression, fake(record)) for record in shuffled} == labels
    left = {record.id: (record.split, record.expression, fake(record)) for record in fewer}
    assert left.pop("fer2013.csv, line 5") == ("train", "", None)
    assert "fer2013new.csv has no votes for this face" in fewer[-1].reason
    # the one whose copy in a test set was voted on is gone, and so is nothing else
    assert left == {id: label for id, label in labels.items() if id != "fer0000003.png"}


def fake(record):
    """Return the grey value of a picture that can be read."""
    return int(record.read().mean()) if record.expression else None


def test_names_in_the_table_of_faces_are_what_votes_go_by(tmp_path):
    order = [9, 3, 5, 2, 0, 4, 8, 1, 6, 7]
    records = open_source(ferplus_tables(tmp_path, order=order, names=True)[0]).records
    assert {record.id: fake(record) for record in records if record.expression} == {
        name: value for _, name, votes, value in VOTED if name and votes in (HAPPY, SAD, FEW) and value is not None
    }


def test_tables_that_do_not_belong_together_are_refused(tmp_path):
    top, _, _ = ferplus_tables(tmp_path / "a", order=[0, 1, 2, 3, 4, 6, 7, 8, 9])
    with pytest.raises(InputError, match="do not belong together: neither their rows in order nor the numbers"):
        open_source(top)
    many = [("Training", f"fer{i:07d}.png", HAPPY if i % 7 else SAD, i % 200) for i in range(700)]
    moved = [(usage, name, many[i - 1][2] if i % 2 else SAD, value) for i, (usage, name, _, value) in enumerate(many)]
    top, _, _ = ferplus_tables(tmp_path / "b", many)
    write(top / "fer2013new.csv", VOTE_HEADER, *(f"{usage},{name},{FEAR}" for usage, name, *_ in moved))
    with pytest.raises(InputError, match="for FER2013's own label in 0% of the faces; are rows"):
        open_source(top)


FEAR = "0,0,0,0,0,0,10,0,0,0"


def test_what_is_unknown_excluded_or_faulty_is_counted_and_options_reach_the_data_set(tmp_path, monkeypatch, capsys):
    top, _, _ = rafdb(tmp_path / "set")

    def prepare(out, option):
        words = ["prepare", str(top), str(tmp_path / out), "--limit", "3", "--of", option]
        monkeypatch.setattr(sys, "argv", ["fcx", *words])
        with pytest.raises(SystemExit) as end:
            cli.run_command()
        return end.value.code, " ".join(capsys.readouterr().err.split())

    text = prepare("faces.zarr", "images=original")[1]
    assert "of 3 rows, 1 faulty, 2 without valence, 2 without arousal" in text  # a box is faulty
    code, text = prepare("more.zarr", "image=original")
    assert (code, "unknown option of prepare 'image': did you mean 'images'" in text) == (2, True)
    counts = counts_of(open_source(affectnet_2017(tmp_path / "other")[0]).records)
    assert counts == {"rows": 14, "excluded": 2, "faulty": 8, "without valence": 1, "without arousal": 1}
