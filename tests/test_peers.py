"""captum's methods as fcx gives them: targets, sums, refusals, and nothing left behind."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, DeepLiftShap, GradientShap
from conftest import make_faces
from test_layers import batch_of
from torch import nn

from fcx.attribution import METHODS, attribute
from fcx.attribution.batch import Batch, Subject
from fcx.attribution.face_reader import FaceReader
from fcx.core.errors import InputError

SIDE = 16


def known(dtype=torch.float64):
    """A network of which captum knows every layer, with an activation that works in place."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 4, 3),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ELU(),
    ]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(150, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    return net.eval()


def pixels(faces):
    return torch.from_numpy(faces["image"].values[0]).double()[:, None] / 255


@pytest.fixture(scope="module")
def small():
    return make_faces(4, seed=1, size=SIDE)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Setting forward, backward hooks")
        yield


@pytest.mark.parametrize("baseline", ["grey", "mean"])
def test_deeplift_of_expressions_is_the_sum_of_captums(baseline, small, quiet):
    net, x = known(), pixels(small)
    results = attribute({"m": known()}, small, "deeplift", "arousal, valence - 0.5*arousal", baseline=baseline,
                        dtype="float64")  # fmt: skip
    net[1].inplace = False
    start = torch.full_like(x, 0.5) if baseline == "grey" else x.mean(0, keepdim=True).expand_as(x)
    arousal, valence = (DeepLift(net).attribute(x.clone().requires_grad_(), start, t)[:, 0].detach() for t in (0, 1))
    found = results["attribution"].values[0, 0, 0]
    np.testing.assert_allclose(found, torch.stack([arousal, valence - 0.5 * arousal]), rtol=1e-9, atol=1e-14)
    weights = torch.tensor([[1.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
    change = ((net(x) - net(start)) @ weights.T).T.detach()
    np.testing.assert_allclose(found.sum((-1, -2)), change, atol=1e-12)
    gaps = results["completeness_gap"].values[0, 0, 0]
    np.testing.assert_allclose(gaps, found.sum((-1, -2)) - change.numpy(), atol=1e-14)


def test_deeplift_shap_equals_captums_and_adds_up(small, quiet):
    net, x = known(), pixels(small)
    results = attribute({"m": known()}, small.sel(condition=["plain"]), "deeplift_shap", dtype="float64", background=9)
    net[1].inplace = False
    for target in range(2):
        expected = (
            DeepLiftShap(net).attribute(x.clone().requires_grad_(), x, target)[:, 0].detach()
        )  # the background is every face
        np.testing.assert_allclose(results["attribution"].values[0, 0, 0, target], expected, rtol=1e-9, atol=1e-14)
    assert np.abs(results["completeness_gap"]).max() < 1e-12


def test_deeplift_shap_of_a_facechannel_adds_up(small):
    import oracles

    model = oracles.random_facechannel()
    results = attribute({"m": model}, small.sel(condition=["plain"]), "deeplift_shap", dtype="float64", background=3)
    others = Batch(Subject("m", model), pixels(small), reader=FaceReader(small), condition="plain").background(3, 0)
    with torch.no_grad():
        values = [model.tail(model.features(pictures)) for pictures in (pixels(small), others)]
    change = (values[0] - values[1].mean(0)).T
    np.testing.assert_allclose(results["attribution"].values[0, 0, 0].sum((-1, -2)), change, atol=1e-12)
    assert change.abs().min() > 1e-4


def test_expected_gradients_are_what_captum_calls_gradient_shap(small):
    """Both are drawn: means of many paths come near each other."""
    net, x = known(), pixels(small)
    found = attribute({"m": net}, small.sel(condition=["plain"]), "expected_gradients", dtype="float64", samples=1500)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    expected = (
        GradientShap(net)
        .attribute(x.clone().requires_grad_(), x, n_samples=1500, stdevs=0.0, target=1)[:, 0]
        .detach()
        .numpy()
    )
    np.random.set_state(state)  # noqa: NPY002
    error = np.abs(found["attribution"].values[0, 0, 0, 1] - expected).mean()
    assert error < 0.08 * np.abs(expected).mean()


@pytest.mark.parametrize("name", ["averaged", "shared", "squeezed", "convnext", "vit", "efficientnet", "blocks"])
def test_what_captum_takes_for_linear_is_refused(name):
    with pytest.raises(
        InputError, match=r"DeepLift of model 'net' does not add up: .* of the output, .* use integrated"
    ):
        METHODS["deeplift"].function(batch_of(name))


def test_a_layer_that_runs_twice_is_refused():
    batch = batch_of("resnet")
    for module in batch.model.modules():
        module.inplace = False
    with pytest.raises(InputError, match=r"cannot explain model 'net' \(a layer that runs twice"):
        METHODS["deeplift"].function(batch)
    assert hooks_of(batch.model) == []


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [(name, kind) for name, module in model.named_modules() for kind in kinds if getattr(module, kind)]


@pytest.mark.parametrize("method", ["deeplift", "deeplift_shap"])
def test_no_hook_stays_behind(method, small, monkeypatch):
    net = known()
    net[1].inplace = False
    batch = Batch(Subject("m", net), pixels(small), reader=FaceReader(small), condition="plain")
    METHODS[method].function(batch)
    assert hooks_of(net) == []

    def broken(features):
        raise ZeroDivisionError

    monkeypatch.setattr(net[-1], "forward", broken)
    with pytest.raises(ZeroDivisionError):
        METHODS[method].function(batch)
    assert hooks_of(net) == []
