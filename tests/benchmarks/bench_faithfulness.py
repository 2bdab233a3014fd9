"""What a measure of faithfulness costs, in forward passes, and beside Quantus: `make bench`. CPU time of one thread.

Agreement is asserted before anything is timed; no timing can fail a run.
"""

import copy
import time
import warnings

import numpy as np
import pytest
import torch

from fcx.attribution.batch import Batch, Subject
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.registry import METHODS
from fcx.datasets.preparation import prepare
from fcx.faithfulness import removal
from fcx.faithfulness.measurement import MEASURES
from fcx.faithfulness.measures import MeasureOptions, Scene, Trial
from fcx.networks.facechannel import FaceChannel

FACES, STEPS = 32, 16

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus", reason="Quantus is not installed: make .venv/installed-bench")
    from quantus.functions.perturb_func import noisy_linear_imputation
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scene():
    faces = prepare("demo", limit=FACES, progress=False)
    torch.manual_seed(0)
    model = FaceChannel.preset("paper", width=64, batch_norm=True).eval().to(memory_format=torch.channels_last)
    images = torch.from_numpy(faces["image"].values[0]).float()[:, None] / 255
    batch = Batch(Subject("m", model), images, reader=FaceReader(faces), condition="plain")
    return Scene(batch, MeasureOptions(fills=("black",), steps=STEPS))


def fresh(scene):
    """Return a trial that has computed nothing yet."""
    return Trial(copy.copy(scene), METHODS["gradient"].function, {})


def seconds(work, rounds=2):
    """Return the shortest of some rounds, after one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def test_a_deletion_curve_beside_pixel_flipping(scene, capsys):
    flipping = quantus.PixelFlipping(features_in_step=4096 // STEPS, perturb_baseline=0.0, normalise=False, abs=False,
                                     disable_warnings=True, display_progressbar=False)  # fmt: skip
    maps = fresh(scene).maps
    model = scene.batch.subject.model

    def theirs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.array([
                flipping(model=model, x_batch=scene.images.numpy().copy(), y_batch=np.full(FACES, output),
                         a_batch=maps[output][:, None].numpy(), channel_first=True, softmax=False)
                for output in (0, 1)
            ])  # fmt: skip

    def ours():
        order = removal.removal_order(scene, maps)
        return removal.removal_curve(scene, order, "black").numpy()

    np.testing.assert_allclose(ours()[..., 1:], theirs(), rtol=1e-3, atol=1e-5)
    one, other, forward = seconds(ours), seconds(theirs), seconds(lambda: scene.answer(scene.images))
    with capsys.disabled():
        print(f"\ndeletion curve, {STEPS} steps, two targets, {FACES} faces: {one:.2f} s of CPU, ", end="")
        print(f"{one / forward:.0f} forward passes; Quantus: {other:.2f} s; ratio {other / one:.2f}", end="")


def test_imputation_beside_quantus(scene, capsys):
    rng, picture = np.random.default_rng(0), scene.images[0, 0].double().numpy()
    for share in (0.2, 0.5, 0.9):
        gone = rng.permutation(4096)[: int(4096 * share)]
        mask = np.zeros((64, 64), bool)
        mask.ravel()[gone] = True
        ours = removal.linear_imputation(picture, mask)
        np.testing.assert_allclose(ours, noisy_linear_imputation(picture[None], gone, noise=0.0)[0], atol=1e-9)
        one = seconds(lambda mask=mask: removal.linear_imputation(picture, mask))
        other = seconds(lambda gone=gone: noisy_linear_imputation(picture[None], gone, noise=0.0))
        with capsys.disabled():
            print(f"\nimputation of {share:.0%} of a face: {one * 1e3:.1f} ms; Quantus: {other * 1e3:.1f} ms; "
                  f"ratio {other / one:.1f}", end="")  # fmt: skip


def test_every_measure_in_forward_passes(scene, capsys):
    forward = seconds(lambda: scene.answer(scene.images))
    for name, measure in MEASURES.items():
        start = time.process_time()
        scores = measure.function(fresh(scene))
        taken = time.process_time() - start
        assert all(values.shape == (2, FACES) for values in scores.values())
        with capsys.disabled():
            print(f"\n{name} of the gradient, two targets: {taken / forward:.0f} forward passes", end="")
