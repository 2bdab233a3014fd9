"""Milliseconds a face under onnxruntime and under torch, on one core, one face at a time and sixteen: `make bench`.

That both answer the same is asserted first; no timing can fail a run. Best and range of rounds, taken in turns.
"""

import time

import numpy as np
import pytest
import torch

from fcx.networks.checkpoints import load_model
from fcx.networks.onnx_export import onnx_session, write_onnx

ROUNDS, CALLS = 10, 30
pytestmark = pytest.mark.usefixtures("one_thread")


def test_latency(tmp_path, capsys):
    model = load_model("plain_scratch").requires_grad_(False)
    file = write_onnx(model, tmp_path / "net.onnx")
    session = onnx_session(file.read_bytes())
    for count in (1, 16):
        faces = torch.rand(count, 1, 64, 64)
        ways = {
            "onnxruntime": lambda pixels=faces: session.run(None, {"faces": pixels.numpy()})[0],
            "torch": lambda pixels=faces: model(pixels).numpy(),
        }
        one, other = (way() for way in ways.values())
        np.testing.assert_allclose(one, other, atol=1e-5)
        times = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                start = time.process_time()
                for _ in range(CALLS):
                    way()
                times[name].append((time.process_time() - start) / CALLS / count * 1e3)
        words = (f"{name} {min(all_):.2f} ms (to {max(all_):.2f})" for name, all_ in times.items())
        with capsys.disabled():
            print(f"\nwidth {model.config.width}, {count} at once, a face: {', '.join(words)}", end="")
