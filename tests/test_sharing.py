"""Training by several processes: it ends where one process ends, and says what it needs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_training import interrupt, small, teachable

from fcx.core.errors import InputError
from fcx.networks import sharing, training_loop
from fcx.networks.checkpoints import load_model
from fcx.networks.losses import loss_of
from fcx.networks.sharing import Group, join

TOGETHER = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
            "--main_process_port", "0"]  # fmt: skip


def test_two_processes_end_where_one_does(tmp_path, monkeypatch):
    pytest.importorskip("accelerate", reason="pip install -e .[distributed]")
    faces = teachable()
    faces.assign_attrs(kind="faces").to_zarr(tmp_path / "faces.zarr", zarr_format=2)
    # Shares of 3 and 4 faces; batch norm, dropout and augmentation. Adam would make steps of the noise of gradients
    # that are zero, those of biases before batch norm.
    options = {"batch_size": 7, "dropout": 0.25, "epochs": 2, "optimiser": "sgd", "learning_rate": 0.05}
    whole = small(faces, tmp_path / "whole.safetensors", **options)
    calls = []
    monkeypatch.setattr(training_loop, "SAVE_EVERY", 0)
    monkeypatch.setattr(
        training_loop, "loss_of", lambda *a: calls.append(1) or (interrupt if calls[1:] else loss_of)(*a)
    )
    with pytest.raises(KeyboardInterrupt):
        small(faces, tmp_path / "shared.safetensors", **options)
    words = ["train", "faces.zarr", "shared.safetensors", "--width", "4", "--hidden", "4", "--device", "cpu"]
    words += [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*TOGETHER, "-m", "fcx", *words], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("shared.safetensors") == done.stderr.count("epoch 2/2") == 1  # one of them speaks
    shared = load_model(tmp_path / "shared.safetensors")
    assert shared.metadata["processes"] == 2
    assert shared.metadata["sha256"] != whole.metadata["sha256"]  # sums are rounded in another order
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for one, other in zip(whole.metadata["history"], shared.metadata["history"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        for condition, values in one["ccc"].items():
            assert other["ccc"][condition] == pytest.approx(values, abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir() if "shared" in path.name) == [
        "shared.log.csv", "shared.safetensors",
    ]  # fmt: skip


def test_shares_are_every_row_once():
    for size in range(9):
        rows = [np.arange(size)[Group(torch.device("cpu"), index, 3).share(size)] for index in range(3)]
        assert np.concatenate(rows).tolist() == list(range(size))


def test_processes_that_were_launched_need_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"2 processes were launched .* pip install accelerate, or start one process"):
        join("cpu")


def test_a_launch_that_starts_one_process_is_said(monkeypatch, caplog):
    for name, value in {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert join("cpu") == Group(torch.device("cpu"))
    assert "asked for several processes and started one" in caplog.text


def test_more_processes_than_a_batch_has_faces_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fcx.networks.training.join", lambda device: Group(torch.device(device), 0, 9))
    with pytest.raises(InputError, match="batch_size is 8; allowed: from 9"):
        small(teachable(), tmp_path / "a.safetensors")


def test_a_process_that_ended_is_said(monkeypatch):
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda _: (_ for _ in ()).throw(RuntimeError("Connection closed"))
    )
    with pytest.raises(sharing.FcxError, match="another process of this training has ended: the same command goes on"):
        Group(torch.device("cpu"), 0, 2).wait()
