"""Ratios against a peer or a physical limit, measured side by side in one run on one thread: `make bench`.

Agreement is asserted before anything is timed; no timing can fail a run.
"""

import time
from pathlib import Path

import cv2
import numpy as np
import oracles
import pytest
import torch

from fcx.attribution import attribute
from fcx.core.errors import FaceError
from fcx.datasets import open_source
from fcx.datasets.preparation import prepare
from fcx.geometry.face_mesh import _mesh_network
from fcx.geometry.landmarks import find_landmarks
from fcx.masks import wear_mask
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import predict
from fcx.statistics.agreement import evaluate
from fcx.statistics.concordance import ccc

FACES = 128
DATA = Path(__file__).parents[3] / "shared" / "data"  # beside the checkout, on machines that have it
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def faces():
    return prepare("demo", limit=FACES, progress=False)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FaceChannel.preset("paper", width=64, batch_norm=True).eval()


def seconds(work, rounds=3):
    """Return the shortest of some rounds, after one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def show(capsys, name, ours, other, what):
    with capsys.disabled():
        print(f"\n{name}: {ours * 1e3:.2f} ms; {what}: {other * 1e3:.2f} ms; ratio {ours / other:.2f}", end="")


def test_landmarks_beside_the_two_network_passes(capsys):
    pictures = [cv2.resize(record.read(), (256, 256)) for record in open_source("demo").records[:24]]
    network, blob = _mesh_network(), np.zeros((1, 3, 192, 192), np.float32)

    def passes():
        for _ in range(2 * len(pictures)):
            network.setInput(blob)
            network.forward(["conv2d_21", "conv2d_31"])

    ours = seconds(lambda: [find_landmarks(picture) for picture in pictures]) / len(pictures)
    show(capsys, "landmarks, 256x256 (at most 10 ms)", ours, seconds(passes) / len(pictures),
         "two passes of the mesh network alone")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "goal"), [("portraits", 100), ("diffusionfer/images", 99), ("ferplus/ferplus_train_valid.npz", 97)]
)
def test_share_of_faces_found(capsys, name, goal):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    records = open_source(path).records
    chosen = np.random.default_rng(0).permutation(len(records))[:2000]
    found, start = 0, time.perf_counter()
    for record in (records[i] for i in chosen):
        try:
            found += find_landmarks(record.read()).faces > 0
        except FaceError:
            continue
    each = (time.perf_counter() - start) / len(chosen)
    share = f"{found} of {len(chosen)} faces found, {100 * found / len(chosen):.1f} % (at least {goal} %)"
    with capsys.disabled():
        print(f"\n{name}: {share}, {each * 1e3:.1f} ms a picture with reading it", end="")


@pytest.mark.parametrize("name", ["surgical", "patterned", "ffp2", "published"])
def test_masks_beside_decoding_the_picture(capsys, name):
    records = open_source("demo").records[:24]
    pictures = [cv2.resize(record.read(), (256, 256)) for record in records]
    meshes = [find_landmarks(picture).mesh for picture in pictures]
    ours = seconds(lambda: [wear_mask(p, m, name) for p, m in zip(pictures, meshes, strict=True)]) / len(pictures)
    other = seconds(lambda: [record.read() for record in records]) / len(records)
    show(capsys, f"mask {name}, 256x256, landmarks given", ours, other, "reading the JPEG")


def test_landmarks_and_mask_beside_the_target(capsys):
    pictures = [cv2.resize(record.read(), (256, 256)) for record in open_source("demo").records[:24]]
    ours = seconds(lambda: [wear_mask(p, find_landmarks(p).mesh) for p in pictures]) / len(pictures)
    show(
        capsys,
        f"landmarks and mask, 256x256: {1 / ours:.0f} pictures a second",
        ours,
        1 / 50,
        "the target of 50 a second",
    )


@pytest.mark.parametrize("method", ["gradient", "gradcam", "mean_activation", "lrp", "lrp_gamma"])
def test_attribution_of_both_targets_beside_a_forward_pass(capsys, faces, model, method):
    plain = faces.sel(condition=["plain"])
    forward = seconds(lambda: predict({"m": model}, plain)) / FACES
    ours = seconds(lambda: attribute({"m": model}, plain, [method])) / FACES
    show(capsys, f"{method}, two targets, a face", ours, forward, "one forward pass")


def test_gradcam_beside_pytorch_grad_cam(capsys, faces, model):
    peer = pytest.importorskip("pytorch_grad_cam", reason="pip install -e .[bench]")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    plain = faces.sel(condition=["plain"])
    images = torch.from_numpy(plain["image"].values[0][:, None]).float() / 255
    cam = peer.GradCAM(model, [model.shunt])

    def theirs():
        return np.stack([cam(images, [ClassifierOutputTarget(t)] * FACES) for t in (0, 1)])

    def ours():
        return attribute({"m": model}, plain, ["gradcam"])["attribution"].values[0, 0, 0]

    # The peer scales each map to [0, 1] and interpolates it: the order of its cells must be ours.
    mine, other = ours()[:, :, 4::8, 4::8].reshape(2 * FACES, -1), theirs()[:, :, 4::8, 4::8].reshape(2 * FACES, -1)
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(mine, other, strict=True) if a.max() > 0]
    assert np.median(alike) > 0.95
    show(capsys, "Grad-CAM, two targets, a face", seconds(ours) / FACES, seconds(theirs) / FACES, "pytorch-grad-cam")


def test_bootstrap_beside_gathering_every_draw(capsys, faces, model):
    results = predict({"m": model}, faces)
    rng, truth = np.random.default_rng(0), faces["valence"].values.astype(float)
    prediction = results["prediction"].values[0, 0, 1].astype(float)
    rated = np.isfinite(truth)
    truth, prediction = truth[rated], prediction[rated]
    assert np.isclose(ccc(prediction, truth), oracles.ccc_by_chance(prediction, truth))

    def gather():
        for _ in range(2 * 2):  # conditions, targets
            for _ in range(2000):
                rows = rng.integers(0, len(truth), len(truth))
                ccc(prediction[rows], truth[rows])

    show(capsys, "2000 draws, 4 CCCs and their parts", seconds(lambda: evaluate(results, faces)),
         seconds(gather, 1), "gathering, the CCC alone")  # fmt: skip
