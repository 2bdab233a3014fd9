"""Gradients, channels and ablation beside captum and pytorch-grad-cam, in one run on one thread: `make bench`.

Agreement is asserted before anything is timed; no timing can fail a run. Both sides explain two targets of the
same faces by the same weights.
"""

import copy
import time

import numpy as np
import oracles
import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients, Occlusion, Saliency

from fcx.attribution import METHODS, Batch
from fcx.attribution.batch import Subject
from fcx.attribution.coalitions import coalition_pictures
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.fills import AT_ONCE, filled
from fcx.attribution.region_shapley import players
from fcx.core.contract import REGIONS
from fcx.datasets.preparation import prepare
from fcx.networks.facechannel import FaceChannel

FACES = 32
SLOW = ("extremal_perturbation", "region_shapley", "deeplift_shap")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def faces():
    return prepare("demo", limit=FACES, progress=False)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = FaceChannel.preset("paper", width=64, batch_norm=True).eval().requires_grad_(False)
    return made.to(memory_format=torch.channels_last)


@pytest.fixture
def batch(model, faces):
    """A batch as the runner makes it: the model was seen before, nothing of these faces was computed."""
    images, subject = torch.from_numpy(faces["image"].values[0][:, None]).float() / 255, Subject("m", model)
    return lambda: Batch(subject, images, reader=FaceReader(faces), condition="plain")


@pytest.fixture
def untied(model, faces):
    """A few faces with noise of a grey level, in double precision, where gradients are compared.

    In flat areas activations tie exactly, and elsewhere now and then in single precision: which of them wins a
    pooling is then decided by rounding, differently on either side, and changes a map by up to a tenth.
    """
    images, noise = torch.from_numpy(faces["image"].values[0, :8, None]), torch.Generator().manual_seed(0)
    images = (images + torch.rand(images.shape, generator=noise, dtype=torch.float64)) / 256
    subject = Subject("m", copy.deepcopy(model).double())
    return lambda: Batch(subject, images, reader=FaceReader(faces), condition="plain")


def beside(works, rounds=3):
    """Return the shortest processor time of each work, taken in turns, after one round that warms up."""
    times = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: min(taken[1:]) for name, taken in times.items()}


def show(capsys, name, works, rounds=3):
    times = beside(works, rounds)
    ours = times["fcx"]
    peers = "; ".join(f"{n} {t / FACES * 1e3:.2f} ms, {t / ours:.2f}x" for n, t in times.items() if n != "fcx")
    with capsys.disabled():
        print(f"\n{name}, two targets, a face: fcx {ours / FACES * 1e3:.2f} ms; {peers}", end="")


def ours(batch, method, **options):
    return METHODS[method].function(batch(), **options).detach().numpy()


def assert_alike(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_gradient(capsys, batch, untied):
    def theirs(batch):
        captum, images = Saliency(batch.model), batch.images.clone().requires_grad_()
        return np.stack([captum.attribute(images, t, abs=False)[:, 0] for t in (0, 1)])

    assert_alike(ours(untied, "gradient"), theirs(untied()))
    show(capsys, "gradient", {"fcx": lambda: ours(batch, "gradient"), "captum": lambda: theirs(batch())})


def test_integrated_gradients(capsys, batch, untied):
    def theirs(batch, internal=None):
        captum = IntegratedGradients(batch.model)
        return np.stack([
            captum.attribute(batch.images, 0 * batch.images, t, n_steps=50, internal_batch_size=internal)[:, 0].detach()
            for t in (0, 1)
        ])  # fmt: skip

    def mine():
        return ours(batch, "integrated_gradients")

    assert_alike(ours(untied, "integrated_gradients"), theirs(untied(), 64))
    show(capsys, "integrated gradients, 50 steps", {"fcx": mine, "captum": lambda: theirs(batch())}, rounds=1)
    works = {f"captum, {n} at once": lambda n=n: theirs(batch(), n) for n in (FACES, 2 * FACES)}
    show(capsys, "integrated gradients, 50 steps", {"fcx": mine, **works})


@pytest.mark.parametrize("method", ["GradCAM", "GradCAMPlusPlus", "LayerCAM"])
def test_channels(capsys, model, batch, method):
    peer = pytest.importorskip("pytorch_grad_cam", reason="pip install -e .[bench]")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images, cam = batch().images, getattr(peer, method)(model, [model.shunt])
    name = {"GradCAM": "gradcam", "GradCAMPlusPlus": "gradcam++", "LayerCAM": "layercam"}[method]

    def theirs():
        return np.stack([cam(images.clone().requires_grad_(), [ClassifierOutputTarget(t)] * FACES) for t in (0, 1)])

    # The peer scales each map to [0, 1] and interpolates it: its cells must have our order.
    cells = [m[:, :, 4::8, 4::8].reshape(2 * FACES, -1) for m in (ours(batch, name), theirs())]
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(*cells, strict=True) if a.max() > 0]
    assert np.median(alike) > 0.9
    show(capsys, name, {"fcx": lambda: ours(batch, name), "pytorch-grad-cam": theirs})


def test_region_ablation(capsys, model, batch):
    images, given = batch().images, batch()
    cover = torch.cat([given.regions, given.alpha[:, None]], 1)
    hard = cover[:, : len(REGIONS)].argmax(1)[:, None]  # captum takes labels: the partition, then the mask alone
    worn = (cover[:, -1:] > 0.5).long()

    def theirs():
        captum, maps = FeatureAblation(model), []
        for target in (0, 1):
            maps.append([captum.attribute(images, 0, target, feature_mask=mask)[:, 0] for mask in (hard, worn)])
        return maps

    binary = torch.cat([torch.nn.functional.one_hot(hard[:, 0], len(REGIONS)).movedim(-1, 1), worn], 1).float()

    def mine():
        made = batch()
        made._cover = binary
        METHODS["region_ablation"].function(made, fill="black")
        return made.recorded

    effects, captum = mine(), theirs()
    for target in (0, 1):
        for number, region in enumerate(REGIONS):
            for sample in torch.argwhere((hard == number).flatten(1).any(1)).flatten():
                expected = captum[target][0][sample][hard[sample, 0] == number][0]
                assert float(effects[f"effect_{region}"][target, sample] - expected) == pytest.approx(0, abs=1e-5)
    show(capsys, "region ablation, 9 regions", {"fcx": mine, "captum": theirs}, rounds=2)


def test_region_shapley(capsys, model, batch, untied):
    few, game = untied(), {}
    (cover, *_), (instead, *_) = players(few, "worn"), filled(few, "mean")
    pictures = torch.cat(list(coalition_pictures(few.images[0], instead, cover[: len(REGIONS)])))
    with torch.no_grad():
        outputs = torch.cat([few.model(some) for some in pictures.split(AT_ONCE)])[:, 0].tolist()
    for number, value in enumerate(outputs):
        game[frozenset(i for i in range(len(REGIONS)) if number >> i & 1)] = value
    expected = oracles.shapley_by_orders(game.__getitem__, range(len(REGIONS)))
    METHODS["region_shapley"].function(few)
    for number, region in enumerate(REGIONS):
        value = few.recorded[f"shapley_{region}"][0, 0].item()
        assert value == pytest.approx(expected[number], rel=1e-9, abs=1e-12)

    def passes():
        with torch.no_grad():
            for _ in range(FACES * len(pictures) // AT_ONCE):
                model(images)

    images = pictures[:AT_ONCE].float().contiguous(memory_format=torch.channels_last)
    show(capsys, "Shapley values of 8 regions",
         {"fcx": lambda: ours(batch, "region_shapley"), "passes of the 256 coalitions": passes}, rounds=1)  # fmt: skip


def test_occlusion(capsys, model, batch):
    images = batch().images

    def theirs():
        captum = Occlusion(model)
        return np.stack([captum.attribute(images, (1, 16, 16), (1, 8, 8), 0, t)[:, 0].detach() for t in (0, 1)])

    def mine():
        return ours(batch, "occlusion", window=16, stride=8, fill="black")

    np.testing.assert_allclose(mine(), theirs(), atol=1e-4 * np.abs(theirs()).max())
    show(capsys, "occlusion, 49 windows", {"fcx": mine, "captum": theirs}, rounds=1)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SLOW])
def test_every_method_beside_a_forward_pass(capsys, model, batch, method):
    def forward():
        with torch.no_grad():
            model(batch().images)

    show(capsys, method, {"fcx": lambda: ours(batch, method), "one forward pass": forward}, rounds=1)
