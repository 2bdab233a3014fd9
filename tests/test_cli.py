"""The command line: every command on real faces, and one sentence with exit code 2 for bad input."""

import inspect
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from fcx import cli
from fcx.__main__ import main as interruptible
from fcx.attribution.runner import DEFAULT
from fcx.core.errors import InputError
from fcx.networks.checkpoints import save_model
from fcx.networks.facechannel import FaceChannel


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two small networks with random weights, as files."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        model = FaceChannel.preset("paper", width=8, hidden=8, batch_norm=True)
        save_model(model, folder / f"{name}.safetensors", {"crop": "face"})
    return f"{folder}/one.safetensors,{folder}/two.safetensors"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command line in a folder of its own: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["fcx", *map(str, words)])
        try:
            cli.run_command()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def photo(tmp_path, pictures):
    Image.fromarray(pictures[0]).save(tmp_path / "photo.jpg", quality=95)
    return tmp_path / "photo.jpg"


def test_predict_prints_both_outputs_and_draws_a_picture(run, photo, checkpoints, tmp_path):
    code, out, _ = run("predict", photo, "--models", checkpoints, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [(row["model"], row["condition"]) for row in rows] == [
        ("one", "plain"), ("one", "masked"), ("two", "plain"), ("two", "masked")
    ]  # fmt: skip
    assert len({row["valence"] for row in rows}) == 4
    with Image.open(tmp_path / rows[0]["picture"]) as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    assert pixels.shape[1] > 600
    assert (np.abs(pixels[..., 0] - pixels[..., 2]) > 60).mean() > 0.02  # regions and maps are in colour
    code, out, _ = run("predict", photo, "--models", checkpoints, "--method", "gradcam")
    assert code == 0
    assert "valence" in out
    assert "photo-fcx.png" in out


def test_predict_prints_what_each_network_answers(run, photo, checkpoints, tmp_path):
    one = checkpoints.partition(",")[0]
    asked = ("predict", photo, "--models", f"{one},mini_xception", "--method", "gradient")
    code, out, _ = run(*asked, "--json")
    assert code == 0
    rows = json.loads(out)
    assert {*rows[0]} & {"valence", "happy"} == {"valence"}
    assert {*rows[2]} & {"valence", "happy"} == {"happy"}
    assert rows[2]["anger"] > rows[2]["happy"]  # the photograph is of an angry face
    with Image.open(tmp_path / rows[0]["picture"]) as drawn:
        assert drawn.size[0] > 11 * 100  # face, regions, two ratings and seven logits


def test_predictions_agree_with_the_library(run, photo, checkpoints):
    import fcx

    _, out, _ = run("predict", photo, "--models", checkpoints, "--json")
    faces = fcx.prepare(photo, progress=False)
    expected = fcx.predict(checkpoints, faces)["prediction"].isel(sample=0)
    for row in json.loads(out):
        at = expected.sel(model=row["model"], condition=row["condition"])
        assert row["valence"] == pytest.approx(float(at.sel(target="valence")), abs=1e-5)
        assert row["arousal"] == pytest.approx(float(at.sel(target="arousal")), abs=1e-5)


def test_prepare_evaluate_attribute_in_a_row(run, checkpoints, tmp_path):
    code, out, _ = run("prepare", "demo", "faces.zarr", "--limit", 6)
    assert code == 0
    head, everything, *rows, last = out.splitlines()
    assert head.split() == ["coverage", "given", "usable", "%"]
    assert everything.split() == ["all", "6", "6", "100.0"]
    assert last == "faces.zarr: 6 of 6 prepared (100.0 %)"
    for by in ("by expression", "by pose"):  # each partitions the faces
        assert sum(int(row.split()[-3]) for row in rows if row.startswith(by)) == 6
    code, out, _ = run("evaluate", "faces.zarr", "--models", checkpoints, "--draws", 50, "--json")
    rows = json.loads(out)
    assert code == 0
    assert len(rows) == 8
    assert all(row["ccc_low"] <= row["ccc"] <= row["ccc_high"] for row in rows)
    code, out, _ = run("evaluate", "faces.zarr", "--models", checkpoints, "--draws", 50)
    assert code == 0
    assert "6 labelled faces" in out
    words = ("attribute", "faces.zarr", "results.zarr", "--models", checkpoints, "--methods", "gradcam")
    code, out, _ = run(*words)
    assert (code, out) == (0, "results.zarr: 2 models, 2 conditions, 1 methods, 2 targets, 6 samples\n")
    assert run(*words)[0] == 0  # finished: nothing is computed again
    code, _, err = run(*words[:-1], "gradient")
    assert code == 2
    assert "other settings" in err
    explore = ("explore", "page.html", "--faces", "faces.zarr", "--results", "results.zarr", "--count")
    assert run(*explore, 2)[:2] == (0, "page.html\n")
    assert "2 of 6 faces are in this page" in (tmp_path / "page.html").read_text()
    code, _, err = run(*explore, 0)
    assert code == 2
    assert "count is 0" in err


def test_attribute_runs_the_methods_that_the_library_runs():
    assert inspect.signature(cli.network_commands.attribute).parameters["methods"].default == ",".join(DEFAULT)


def test_mask_writes_files_of_the_same_name(run, photo):
    code, out, _ = run("mask", photo.parent, "masked")
    assert (code, out) == (0, "masked: 1 of 1 masked (100.0 %)\n")
    with Image.open("masked/photo.jpg") as masked:
        assert masked.size == (224, 224)


def test_bad_input_is_one_sentence_and_exit_code_2(run, photo, checkpoints, tmp_path, pictures):
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:2000])
    Image.fromarray(np.full((100, 100, 3), 200, np.uint8)).save(tmp_path / "wall.png")
    Image.fromarray(np.concatenate([pictures[0], pictures[1]], axis=1)).save(tmp_path / "two.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("path,valence,arousal\nphoto.jpg,3,0\n")
    whole = checkpoints.split(",")[0]
    with open(whole, "rb") as file:
        (tmp_path / "cut.safetensors").write_bytes(file.read()[:5000])
    cases = {
        ("predict", "nowhere.jpg", "--models", whole): "nowhere.jpg",
        ("predict", "broken.jpg", "--models", whole): "cut off",
        ("predict", "wall.png", "--models", whole): "no face found",
        ("predict", "two.png", "--models", whole, "--several", "refuse"): "2 faces found",
        ("prepare", "two.png", "faces.zarr", "--several", "all"): "which is one sample 'all': allowed: largest, refuse",
        ("mask", "two.png", "masked", "--several", "both"): "allowed: largest, refuse, all",
        ("predict", "photo.jpg", "--models", "cut.safetensors"): "cut.safetensors",
        ("predict", "photo.jpg", "--models", whole, "--method", "gradcan"): "did you mean 'gradcam'",
        ("prepare", "empty", "faces.zarr"): "holds no picture",
        ("prepare", "table.csv", "faces.zarr"): "valence is 3",
        ("prepare", "demo", "faces.zarr", "--crop", "hole"): "did you mean 'whole'",
        ("prepare", "demo", "faces.zarr", "--style", "surgicl"): "did you mean 'surgical'",
        ("prepare", "demo", "faces.zarr", "--wearing", "chin"): "under_chin",
        ("prepare", "demo", "faces.zarr", "--fit", "donr"): "did you mean 'donor'",
        ("prepare", "demo", "faces.zarr", "--colour", "bleu"): "did you mean 'blue'",
        ("prepare", "demo", "faces.zarr", "--shift", "abc"): "shift is 'abc'; allowed: two numbers",
        ("prepare", "demo", "faces.zarr", "--shift", "1,0_1"): "shift is '1,0_1'; allowed: two numbers",
        ("prepare", "demo", "faces.zarr", "--shift", "1,nan"): "shift is '1,nan'; allowed: two numbers",
        ("prepare", "demo", "faces.zarr", "--scale", "0"): "scale is 0.0; allowed: numbers from 0.3 to 3",
        ("prepare", "demo", "faces.zarr", "--scale", "nan"): "scale is nan; allowed: numbers from 0.3 to 3",
        ("prepare", "demo", "faces.zarr", "--scale", "big"): "Invalid value for '--scale'",
        ("prepare", "demo", "faces.zarr", "--jitter", "-1"): "jitter is -1.0; allowed: numbers from 0 to 5",
        ("prepare", "demo", "faces.zarr", "--seed", "-1"): "seed is -1; allowed: whole numbers from 0",
        ("prepare", "demo", "faces.zarr", "--workers", "0"): "workers is 0; allowed: whole numbers from 1",
        ("mask", "photo.jpg", "masked", "--workers", "0"): "workers is 0; allowed: whole numbers from 1",
        ("mask", "photo.jpg", "masked", "--fit", "donor"): "at least two pictures",
        ("train", "photo.jpg", "out.safetensors"): "not a store",
        ("evaluate", "nowhere.zarr", "--models", whole): "nowhere.zarr",
        ("report", "-p", "faces"): "NAME=VALUE",
        ("report", "-p", "fases=demo"): "did you mean 'faces'",
        ("nonsense",): "No such command",
    }
    for words, expected in cases.items():
        code, _, err = run(*words)
        assert code == 2, words
        assert expected in err, words
        assert "Traceback" not in err


def test_two_faces_are_counted_and_the_largest_taken(run, checkpoints, tmp_path, pictures):
    Image.fromarray(np.concatenate([pictures[0], pictures[1]], axis=1)).save(tmp_path / "two.png")
    said = "fcx: two.png: 2 faces found, only the largest"
    for words, what in ((("predict", "two.png", "--models", checkpoints), "is shown"),
                        (("prepare", "two.png", "two.zarr"), "is used"),
                        (("mask", "two.png", "out.png"), "wears a mask")):  # fmt: skip
        code, _, err = run(*words)
        assert code == 0
        assert f"{said} {what}\nfcx: --several " in err
    code, _, err = run("mask", "two.png", "all.png", "--several", "all")
    assert code == 0
    assert "faces found" not in err


def in_the_work():
    signal.raise_signal(signal.SIGINT)


def while_a_library_loads():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("numpy.core.multiarray failed to import") from None


def in_a_destructor():
    class Bar:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    Bar()
    time.sleep(20)
    raise AssertionError("went on")


@pytest.mark.parametrize("moment", [in_the_work, while_a_library_loads, in_a_destructor])
def test_an_interruption_is_one_sentence_that_says_how_to_go_on(moment, photo, tmp_path, monkeypatch, capsys):
    import fcx.datasets.preparation

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcx.datasets.preparation, "make_face", lambda *_: moment())
    monkeypatch.setattr(sys, "argv", ["fcx", "prepare", str(photo), "faces.zarr"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            interruptible()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert end.value.code == 130
    assert capsys.readouterr().err == "fcx: interrupted; the same command goes on where it stopped\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process")
@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (1, signal.SIGTERM)])
def test_an_end_at_any_moment_is_one_sentence_and_leaves_nothing_half_written(workers, number, tmp_path):
    for sign in ("0/.zattrs", "1/status/0.0"):  # it is laid out, it is at work
        words = ["prepare", "demo", tmp_path / sign[0], "--workers", str(workers)]
        command = [sys.executable, "-m", "fcx", *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        end = time.monotonic() + 120
        while not (tmp_path / sign).exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=120)
        lines = [line for line in re.split("[\r\n]+", err) if line.strip() and not line.startswith("faces:")]
        sentence = "fcx: interrupted; the same command goes on where it stopped"
        assert (process.returncode, lines) == (128 + number, [sentence])
        assert workers > 1 or not list(tmp_path.rglob("*partial*"))


def test_a_full_disk_is_said(run, photo, monkeypatch):
    import errno

    import fcx

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "faces.zarr")

    monkeypatch.setattr(fcx, "prepare", full)
    code, _, err = run("prepare", photo, "faces.zarr")
    assert code == 2
    assert "free some space" in err


def test_the_version_and_completion_for_shells(run, monkeypatch):
    import fcx

    assert run("--version") == (0, f"fcx {fcx.__version__}\n", "")
    assert "--show-completion" in run("--help")[1]
    monkeypatch.setenv("_FCX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "fcx pre")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert {"prepare", "predict"} <= set(run()[1].split())


def test_names_come_before_faces(run, checkpoints, monkeypatch):
    import fcx.datasets.face_stores

    monkeypatch.setattr(fcx.datasets.face_stores, "stored_faces", lambda *_, **__: pytest.fail("faces were prepared"))
    monkeypatch.setattr(fcx, "prepare", lambda *_, **__: pytest.fail("faces were prepared"))
    attribute = ("attribute", "demo", "out.zarr", "--models", checkpoints)
    cases = {
        (*attribute, "--methods", "gradcan"): "did you mean 'gradcam'",
        (*attribute, "--targets", "valense"): "did you mean 'valence'",
        (*attribute, "--targets", "1e308*valence+1e308*valence"): "too large",
        (*attribute, "--shunt-rule", "aumann"): "unknown shunt rule 'aumann'",
        (*attribute, "--store", "int9"): "did you mean 'int8'",
        (*attribute, "--batch-size", "0"): "batch_size is 0",
        (*attribute, "--workers", "1000000"): "GB of memory",
        (*attribute, "--rank", "2", "--ranks", "2"): "rank is 2; allowed: whole numbers from 0 to 1",
        (*attribute, "--device", "meta"): "it computes nothing",
        ("attribute", "demo", "out.zarr", "--models", "plain_scrach"): "did you mean 'plain_scratch'",
        ("evaluate", "demo", "--models", "plain_scrach"): "did you mean 'plain_scratch'",
        ("evaluate", "demo", "--models", checkpoints, "--draws", "0"): "draws is 0",
        ("predict", "photo.jpg", "--models", checkpoints, "--method", "gradcan"): "did you mean 'gradcam'",
        ("predict", "photo.jpg", "--models", "plain_scrach"): "did you mean 'plain_scratch'",
    }
    for words, expected in cases.items():
        code, _, err = run(*words)
        assert (code, expected in err) == (2, True), (words, err)


@pytest.mark.parametrize("number", ["0_1", "\u0663", "1.5", "x", ""])
def test_numbers_are_read_as_they_are_written(run, number):
    for words in (
        ("prepare", "demo", "a.zarr", "--limit"),
        ("mask", "demo", "a", "--seed"),
        ("evaluate", "a", "--draws"),
    ):
        code, _, err = run(*words, number)
        assert (code, f"{number!r} is no whole number" in err) == (2, True), err
    code, _, err = run("prepare", "demo", "a.zarr", "--scale", "0_1")
    assert (code, "'0_1' is no number" in err) == (2, True)


def test_what_the_library_logs_is_shown_on_the_side(run, monkeypatch, tmp_path):
    import fcx

    def logged(*_, **__):
        logging.getLogger("fcx.networks.training").info("half\x1b way")
        raise InputError("enough")

    monkeypatch.setattr(fcx, "open_faces", logged)
    code, out, err = run("train", "faces.zarr", "out.safetensors")
    assert (code, out, err) == (2, "", "fcx: half\\x1b way\nfcx: enough\n")
