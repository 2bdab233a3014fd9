"""Methods that follow gradients or weigh channels, against closed forms, slow oracles and captum."""

import inspect
import warnings

import numpy as np
import oracles
import pytest
import torch
from captum.attr import DeepLift, GuidedBackprop, IntegratedGradients, Saliency
from conftest import make_faces
from torch import nn

from fcx.attribution import FILLS, METHODS, attribute, cam, deeplift
from fcx.attribution.batch import Batch, Subject
from fcx.attribution.face_reader import FaceReader
from fcx.core.errors import InputError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.networks.resolving import resolve_models

SIZE = 16
KINDS = {
    "paper": {},
    "paper, batch norm, two layers": {"batch_norm": True, "layers": 2},
    "code2020": {"preset": "code2020"},
}
GRADIENTS = ("gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "guided_backprop", "deeplift")
CAMS = ("gradcam", "gradcam++", "layercam")


def kind(name, **options):
    return oracles.random_facechannel(**{**KINDS[name], **options})


def run(model, faces, method, **options):
    """Return the results in float64 of the plain faces."""
    return attribute({"m": model}, faces.sel(condition=["plain", "masked"]), method, dtype="float64", **options)


def maps(model, faces, method, **options):
    return run(model, faces, method, **options)["attribution"].values[0, 0, 0]


def pixels(faces, condition=0):
    return torch.from_numpy(faces["image"].values[condition]).double()[:, None] / 255


class Explained(nn.Module):
    """A FaceChannel up to the outputs before their activation, for captum."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.tail(self.model.features(images))


def linear_model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 2)).double()
    return net, net[1].weight.detach().view(2, 1, SIZE, SIZE).numpy()


def baseline_of(name, faces):
    """The baselines, written down a second time, (sample, y, x) of plain faces."""
    plain, worn = (pixels(faces, c)[:, 0].numpy() for c in range(2))
    if name == "twin":
        return worn
    if name == "blur":
        side, out = np.arange(-SIZE, 2 * SIZE), []
        reflected = np.pad(plain, ((0, 0), (SIZE, SIZE), (SIZE, SIZE)), mode="symmetric")
        weights = np.exp(-((side[:, None] - np.arange(SIZE)) ** 2) / (2 * (SIZE / 8) ** 2))
        weights[np.abs(side[:, None] - np.arange(SIZE)) > 8] = 0  # four standard deviations
        weights /= weights.sum(0)
        for picture in reflected:
            out.append(weights.T @ picture @ weights)
        return np.stack(out)
    alpha = faces["alpha"].values[1] / 255
    tone = [(w * a).sum() / a.sum() for w, a in zip(worn, alpha, strict=True)]
    constant = {"black": 0.0, "grey": 0.5, "mean": plain.mean(0), "mask": np.array(tone)[:, None, None]}
    return np.broadcast_to(constant[name], plain.shape)


@pytest.fixture(scope="module")
def small():
    return make_faces(3, seed=1, size=SIZE)


# --- closed forms of a linear model -----------------------------------------------------------


@pytest.mark.parametrize("baseline", FILLS)
def test_a_linear_model_has_closed_forms(baseline, small):
    net, weight = linear_model()
    x, start = pixels(small)[:, 0].numpy(), baseline_of(baseline, small)
    expected = {
        "gradient": weight + 0 * x,
        "input_x_gradient": weight * x,
        "smoothgrad": weight + 0 * x,
        "integrated_gradients": weight * (x - start),
    }
    results = run(net, small, ",".join(expected), baseline=baseline)
    for method, maps_ in expected.items():
        found = results["attribution"].sel({"method": method})[0, 0]
        np.testing.assert_allclose(found, maps_, rtol=1e-9, atol=1e-9, err_msg=method)


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_gradients_equal_those_of_captum(name, small):
    model, x = kind(name), pixels(small)
    theirs = Explained(model)
    for target in range(2):
        expected = Saliency(theirs).attribute(x.clone().requires_grad_(), target=target, abs=False)
        np.testing.assert_allclose(maps(model, small, "gradient")[target], expected[:, 0], rtol=1e-9, atol=1e-14)
        expected = IntegratedGradients(theirs).attribute(x, torch.zeros_like(x), target, n_steps=20)
        found = maps(model, small, "integrated_gradients", steps=20)[target]
        np.testing.assert_allclose(found, expected[:, 0].detach(), atol=1e-6 * np.abs(found).max())
        # (its weights are rounded to float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
            expected = GuidedBackprop(theirs).attribute(x.clone().requires_grad_(), target=target)
        np.testing.assert_allclose(
            maps(model, small, "guided_backprop")[target], expected[:, 0].detach(), rtol=1e-9, atol=1e-14
        )


def test_guided_backprop_is_not_the_gradient_and_says_so(small):
    model = kind("paper")
    guided, plain = maps(model, small, "guided_backprop"), maps(model, small, "gradient")
    assert np.abs(guided - plain).max() > 0.1 * np.abs(plain).max()
    assert "not faithful" in nested_attr(run(model, small, "guided_backprop"), "methods")["guided_backprop"]["caution"]
    assert "WARNING" in inspect.getdoc(METHODS["guided_backprop"].function)
    with pytest.raises(InputError, match="has no ReLU, which"):
        attribute({"net": linear_model()[0].float()}, small, "guided_backprop")


class Smooth(nn.Module):
    """A model without kinks, whose integral a few points give exactly."""

    def forward(self, x):
        x = x[:, 0]
        return torch.stack([(x**3).sum((1, 2)), (x[:, :-1] * x[:, 1:]).sum((1, 2))], 1)


@pytest.mark.parametrize("baseline", FILLS)
def test_integrated_gradients_are_complete(baseline, small):
    results = run(Smooth(), small, "integrated_gradients", baseline=baseline, steps=4)
    start = torch.from_numpy(baseline_of(baseline, small).copy())[:, None]
    change = (Smooth()(pixels(small)) - Smooth()(start)).T
    found = results["attribution"].values[0, 0, 0]
    np.testing.assert_allclose(found.sum((-1, -2)), change, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(results["completeness_gap"].values[0, 0, 0], 0, atol=1e-10)


@pytest.mark.parametrize("name", KINDS)
def test_the_gap_of_integrated_gradients_is_what_is_missing_and_shrinks(name, small):
    model, gaps = kind(name), []
    change = (Explained(model)(pixels(small)) - Explained(model)(0 * pixels(small))).T.detach().numpy()
    for steps in (5, 160):
        results = run(model, small, "integrated_gradients", steps=steps)
        total = results["attribution"].values[0, 0, 0].sum((-1, -2))
        gaps.append(results["completeness_gap"].values[0, 0, 0])
        np.testing.assert_allclose(gaps[-1], total - change, atol=1e-12)
    assert np.abs(gaps[1]).max() < 0.2 * np.abs(gaps[0]).max()
    assert (np.abs(gaps[1]) <= 5e-3 * np.abs(change).max()).all()


class Square(nn.Module):
    """Whose gradient is the picture: noise comes through as it is."""

    def forward(self, x):
        return (x**2 / 2).sum((1, 2, 3))[:, None].expand(-1, 2)


def test_smoothgrad_averages_noise_of_the_stated_size():
    faces = make_faces(40, seed=2, size=SIZE)
    x = pixels(faces)[:, 0].numpy()
    left = (maps(Square(), faces, "smoothgrad", samples=16, noise=0.2) - x)[0]
    span = np.ptp(x, axis=(1, 2))[:, None, None]
    assert (left / span).std() == pytest.approx(0.2 / 4, rel=0.03)
    assert abs((left / span).mean()) < 4 * 0.05 / np.sqrt(left.size)
    flat = left.reshape(40, -1) / span[:, 0]
    assert np.abs(np.corrcoef(flat) - np.eye(40)).max() < 0.35  # every face has noise of its own
    np.testing.assert_allclose(maps(Square(), faces, "smoothgrad", noise=0)[0], x)


@pytest.mark.parametrize("method", ["smoothgrad", "expected_gradients"])
def test_drawn_maps_nearly_repeat_with_another_seed_and_say_how_nearly(method, demo):
    plain = demo.sel(condition=["plain"])
    reader, model = FaceReader(plain), resolve_models("plain_scratch")["plain_scratch"]
    subject = Subject.of("m", model, torch.device("cpu"), torch.float32)
    images = pixels(plain.isel(sample=[0])).float()
    batch = Batch(subject, images, weights=torch.tensor([[0.0, 1.0]]), reader=reader, condition="plain")
    one, other = (METHODS[method].function(batch, seed=seed).numpy().ravel() for seed in (0, 1))
    assert np.corrcoef(one, other)[0, 1] > 0.7
    assert "raise `samples`" in METHODS[method].properties()["caution"]


def test_random_numbers_depend_on_the_face_and_the_seed_alone(small):
    model = kind("paper")
    found = maps(model, small, "smoothgrad", seed=3, samples=8)
    np.testing.assert_array_equal(found, maps(model, small, "smoothgrad", seed=3, samples=8))
    assert np.abs(found - maps(model, small, "smoothgrad", seed=4, samples=8)).max() > 1e-3 * np.abs(found).max()
    alone = maps(model, small.isel(sample=[2]), "smoothgrad", seed=3, samples=8)
    np.testing.assert_allclose(alone, found[:, 2:], atol=1e-12 * np.abs(found).max())


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("integrated_gradients", {"steps": 0}, "steps is 0"),
        ("integrated_gradients", {"steps": 2.0}, "steps is 2.0"),
        ("integrated_gradients", {"baseline": "blurr"}, "did you mean 'blur'"),
        ("deeplift", {"baseline": "white"}, "unknown fill 'white'"),
        ("smoothgrad", {"samples": True}, "samples is True"),
        ("smoothgrad", {"noise": -1}, "noise is -1"),
        ("gradcam", {"layer": "conv11"}, "unknown layer of model 'm' 'conv11': did you mean 'conv1"),
        ("layercam", {"layer": "pool4"}, "allowed: last, conv1, relu1"),
    ],
)
def test_options_that_cannot_be_are_refused(method, options, text, small):
    with pytest.raises(InputError, match=text):
        attribute({"m": kind("paper")}, small, method, **options)


def test_expected_gradients_equal_the_slow_oracle():
    faces, model = make_faces(6, seed=2, size=SIZE), kind("paper")
    faces["status"][0, 4] = "no face was found"
    found = maps(model, faces, "expected_gradients", samples=5, background=3, seed=7)
    for sample in (0, 1, 2, 3, 5):
        for target in range(2):
            expected = oracles.expected_gradients(Explained(model), faces, sample, target, 5, 3, seed=7)
            np.testing.assert_allclose(found[target, sample], expected, rtol=1e-9, atol=1e-13)


def test_the_gap_of_expected_gradients_is_what_is_missing_and_shrinks(small):
    net, _ = linear_model()  # no way to be off for a linear model, whatever is drawn
    exact = run(net, small, "expected_gradients", samples=3)
    assert np.abs(exact["completeness_gap"]).max() < 1e-12
    gaps = [
        np.abs(run(kind("paper"), small, "expected_gradients", samples=n)["completeness_gap"]).mean() for n in (4, 256)
    ]
    assert gaps[1] < 0.3 * gaps[0]


@pytest.mark.parametrize(
    ("method", "options", "side"),
    [("gradcam", {}, 8), ("layercam", {"layer": "conv1"}, 1), ("gradcam++", {"layer": "relu4"}, 2),
     ("occlusion", {}, 4), ("occlusion", {"window": 6, "stride": 4}, 2), ("occlusion", {"window": 3, "stride": 2}, 1)],
)  # fmt: skip
def test_resolution_follows_from_the_options(method, options, side, small):
    results = run(kind("paper"), small, method, **options)
    assert nested_attr(results, "methods")[method]["resolution"] == side
    found = results["attribution"].values[0, 0, 0, 0]
    blocks = found.reshape(-1, SIZE // side, side, SIZE // side, side)
    np.testing.assert_allclose(blocks, blocks[:, :, :1, :, :1] + 0 * blocks, atol=1e-12 * np.abs(found).max())


# --- DeepLift ---------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", FILLS)
@pytest.mark.parametrize("name", KINDS)
def test_deeplift_is_complete_through_pooling_and_the_shunt(name, baseline, small):
    model = kind(name)
    results = run(model, small, "deeplift", baseline=baseline)
    start = torch.from_numpy(baseline_of(baseline, small).copy())[:, None]
    change = (Explained(model)(pixels(small)) - Explained(model)(start)).T.detach()
    found = results["attribution"].values[0, 0, 0]
    np.testing.assert_allclose(found.sum((-1, -2)), change, atol=1e-12)
    assert np.abs(results["completeness_gap"].values[0, 0]).max() < 1e-12
    assert np.abs(found).max() > 1e-4


@pytest.mark.parametrize("name", ["paper", "code2020"])  # the division; and max-pooling alone
def test_deeplift_of_captum_does_not_add_up_here(name, small):
    model, x = kind(name), pixels(small)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        theirs = DeepLift(Explained(model)).attribute(x.clone().requires_grad_(), 0.5 + 0 * x, target=0)
    with torch.no_grad():
        change = (Explained(model)(x) - Explained(model)(0.5 + 0 * x))[:, 0]
        missing = (theirs.sum((1, 2, 3)) - change).abs() / change.abs()
    assert missing.max() > 0.01
    assert np.abs(run(model, small, "deeplift", baseline="grey")["completeness_gap"].values[0, 0]).max() < 1e-12


def test_deeplift_equals_that_of_captum_where_it_is_right():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 2))
    layers, x, x0 = layers.double().eval(), torch.rand(3, 1, 8, 8).double(), torch.rand(3, 1, 8, 8).double()
    images = x.clone().requires_grad_()
    y, y0 = images, x0
    for layer in layers:
        y, y0 = deeplift.through(layer, y, y0)
    torch.testing.assert_close(y, layers(x))
    found = torch.autograd.grad(y[:, 1].sum(), images)[0] * (x - x0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        expected = DeepLift(layers).attribute(x.clone().requires_grad_(), x0, target=1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def test_deeplift_hands_the_shapley_values_through_the_shunt():
    torch.manual_seed(0)
    u, i, u0, i0 = torch.rand(4, 1, 6, 2, 2, dtype=torch.float64)
    i[:, 0], i0[:, 0] = 0, 0  # no inhibition: all is due to u
    shunt = kind("paper", width=8).shunt
    shunt = type(shunt)(6).double()
    with torch.no_grad():
        shunt.rho += torch.linspace(-1, 1, 6)
    ends = [u.clone().requires_grad_(), i.clone().requires_grad_()]
    y, y0 = deeplift.shunting((ends[0], u0), (ends[1], i0), shunt)
    a = shunt.decay.detach()[:, None, None]
    expected = oracles.shapley_of_two(lambda u, i: u / (a + i), (u, i), (u0, i0))
    torch.testing.assert_close(y, shunt(u, i).detach())
    torch.testing.assert_close(y0, shunt(u0, i0))
    slopes = torch.autograd.grad(y.sum(), ends)
    torch.testing.assert_close(slopes[0] * (u - u0), expected[0])
    torch.testing.assert_close(slopes[1] * (i - i0), expected[1])


def test_deeplift_gives_a_rise_to_the_winner_and_a_fall_to_the_winner_before():
    x = torch.tensor([[[[5.0, 1.0, 0.0, 2.0], [0.0, 3.0, 1.0, 1.0]]]], dtype=torch.float64, requires_grad=True)
    x0 = torch.tensor([[[[2.0, 1.0, 0.0, 0.0], [3.0, 3.5, 7.0, 1.0]]]], dtype=torch.float64)
    y, y0 = deeplift.max_pool(x, x0, nn.MaxPool2d(2))
    assert y.tolist() == [[[[5, 2]]]]
    assert y0.tolist() == [[[[3.5, 7]]]]
    (slope,) = torch.autograd.grad(y.sum(), x)
    shares = slope * (x.detach() - x0)
    assert shares.tolist() == [[[[1.5, 0, 0, 0], [0, 0, -5, 0]]]]


# --- channels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["trunk.relu3", "trunk.conv7", "conv10", "inhibitory", "relu_inhibitory", "shunt"])
@pytest.mark.parametrize("method", ["gradcam++", "layercam"])
def test_channels_are_weighed_as_their_papers_say(method, layer, small):
    model, x = kind("paper"), pixels(small)
    found = maps(model, small, method, layer=layer.removeprefix("trunk."))
    for target in range(2):
        for sample in range(len(x)):
            cells = oracles.weighted_channels(model, layer, x[sample], target, method)
            block = SIZE // len(cells)
            expected = np.kron(cells, np.ones((block, block))) / block**2
            np.testing.assert_allclose(found[target, sample], expected, atol=1e-12 * max(expected.max(), 1e-3))
    assert found.max() > 0


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize(("name", "layer"), [("paper", "shunt"), ("code2020", "relu10")])
def test_the_last_layer_is_the_shunt_or_conv10(method, name, layer, small):
    named = maps(kind(name), small, method, layer=layer)
    np.testing.assert_array_equal(named, maps(kind(name), small, method))
    assert np.abs(named - maps(kind(name), small, method, layer="relu9")).max() > 0


@pytest.mark.parametrize("method", CAMS)
def test_any_module_has_channels(method, small):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(125, 2),
    ).double()  # fmt: skip
    found = maps(net, small, method)
    with torch.no_grad():
        channels = net[:4](pixels(small)).numpy()
    slopes = net[5].weight.detach().view(2, 1, 5, 5, 5).numpy() + 0 * channels
    if method == "gradcam":
        cells = (slopes.mean((-2, -1), keepdims=True) * channels).sum(2)
    elif method == "layercam":
        cells = (np.maximum(slopes, 0) * channels).sum(2)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.maximum(slopes, 0) / (2 + slopes * channels.sum((-2, -1), keepdims=True))
        cells = (parts.sum((-2, -1), keepdims=True) * channels).sum(2)
    cells = np.maximum(cells, 0)
    np.testing.assert_allclose(found.sum((-2, -1)), cells.sum((-2, -1)), rtol=1e-9)  # 5 cells over 16 pixels
    corner = cells[..., 0, 0] / 3.2**2
    np.testing.assert_allclose(found[..., 0, 0], corner, rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(found, maps(net, small, method, layer="3"))
    with pytest.raises(InputError, match=r"layer '4' of model 'm' gives \(sample, 125\)"):
        attribute({"m": net}, small, method, layer="4")


class Odd(nn.Module):
    """A module with a layer that runs twice, one that never does, and one that leads nowhere."""

    def __init__(self):
        super().__init__()
        self.twice, self.never = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        self.nowhere, self.head = nn.Conv2d(1, 1, 1), nn.Linear(1, 2)

    def forward(self, x):
        self.nowhere(x)
        return self.head(self.twice(self.twice(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("twice", "gives .*, again"),
        ("never", "does not run"),
        ("nowhere", "does not lead"),
        ("nohwere", "did you mean"),
    ],
)
def test_layers_that_give_no_maps_are_refused(layer, text, small):
    with pytest.raises(InputError, match=text):
        attribute({"m": Odd()}, small, "gradcam", layer=layer)
    with pytest.raises(InputError, match="has no layer that everything goes through"):
        attribute({"m": linear_model()[0]}, small, "gradcam")


def test_cells_keep_their_sums_on_any_grid():
    cells = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    for size in (4, 5, 16, 64):
        torch.testing.assert_close(cam.spread(cells, (size, size)).sum((-2, -1)), cells.sum((-2, -1)))


# --- nothing stays behind ---------------------------------------------------------------------


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [(name, kind) for name, module in model.named_modules() for kind in kinds if getattr(module, kind)]


@pytest.mark.parametrize("method", ["deeplift", *CAMS])
def test_no_hook_stays_behind_even_on_the_private_copy(method, small, monkeypatch):
    model = kind("paper").eval()
    options = {"layer": "conv10"} if method in CAMS else {}
    batch = Batch(Subject("m", model), pixels(small))
    METHODS[method].function(batch, **options)
    assert hooks_of(model) == []
    assert not model.training

    def broken(features):
        raise ZeroDivisionError

    monkeypatch.setattr(model.head, "forward", broken)
    with pytest.raises(ZeroDivisionError):
        METHODS[method].function(batch, **options)
    assert hooks_of(model) == []


def test_a_face_without_a_mask_has_no_colour_of_it(small):
    bare = small.copy(deep=True)
    bare["alpha"][:, 1] = 0
    found = maps(kind("paper"), bare, "integrated_gradients", baseline="mask", steps=2)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()


def test_an_unknown_method_names_the_nearest(small):
    with pytest.raises(UnknownNameError, match="did you mean 'smoothgrad'"):
        attribute({"m": kind("paper")}, small, "smooth_grad")
