"""The attribution methods against slow oracles, and what LRP must conserve."""

import math
from decimal import Decimal, localcontext

import numpy as np
import oracles
import pytest
import torch
from conftest import few_steps, make_faces
from torch import nn

from fcx.attribution import METHODS, attribute, lrp_engine, lrp_rules, lrp_tape
from fcx.core.contract import TARGETS
from fcx.core.errors import InputError, UnknownNameError
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import PIECE

KINDS = {
    "paper": {},
    "paper, batch norm, three layers": {"batch_norm": True, "layers": 3},
    "paper, no bias": {"bias": False},
    "code2020": {"preset": "code2020"},
    "v1": {"preset": "v1"},
}
# k(t) of the shunt rules, written down a second time
RULES = {
    "signal_take_all": lambda t: 0 * t,
    "aumann_shapley": lambda t: np.log1p(t) * (1 + 1 / np.where(t > 0, t, 1)) - (t > 0),
    "normalised_taylor": lambda t: t / (1 + t + t**2),
}


# Methods that look at the place of a face in its Dataset.
OF_THE_ORDER = ("mean_activation", "expected_gradients", "deeplift_shap")


def kind(name, **options):
    return oracles.random_facechannel(**{**KINDS[name], **options})


def maps(model, faces, method, **options):
    """Return (target, sample, y, x) in float64 of the plain faces."""
    results = attribute({"m": model}, faces, method, dtype="float64", **options)
    return results["attribution"].values[0, 0, 0]


def pixels(faces, condition=0):
    return torch.from_numpy(faces["image"].values[condition]).double()[:, None] / 255


@pytest.fixture(scope="module")
def small():
    return make_faces(3, seed=1, size=16)


@pytest.mark.parametrize("name", KINDS)
def test_random_models_are_alive(name, small):
    model, images = kind(name), pixels(small)
    features = model.features(images)
    assert (features > 0).double().mean() > 0.3
    assert model.tail(features).std(0).min() > 1e-6
    if hasattr(model, "shunt"):
        t = model.relu_inhibitory(model.inhibitory(model.trunk(images))) / model.shunt.decay[:, None, None]
        assert (t > 0.05).double().mean() > 0.2


# --- the shunt --------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 1e-3, 0.05, 1.0, 7.0, 120.0])
@pytest.mark.parametrize(("u", "a"), [(0.7, 0.5), (2.0, 0.06)])
def test_aumann_shapley_is_the_path_integral(t, u, a):
    of_u, of_i = oracles.shunt_by_path(u, t * a, a)
    y, k = u / (a + t * a), float(lrp_rules.aumann_shapley(torch.tensor(t, dtype=torch.float64)))
    assert (of_u, of_i) == pytest.approx(((1 + k) * y, -k * y), rel=1e-4, abs=1e-12)
    assert of_u + of_i == pytest.approx(y, rel=1e-4)


@pytest.mark.parametrize("t", [0.0, 1e-3, 1.0, 7.0, 1e4])
def test_normalised_taylor_is_two_first_order_terms(t):
    of_u, of_i = oracles.shunt_by_taylor(0.7, t * 0.5, 0.5)
    y, k = 0.7 / (0.5 + t * 0.5), float(lrp_rules.normalised_taylor(torch.tensor(t, dtype=torch.float64)))
    assert (of_u, of_i) == pytest.approx(((1 + k) * y, -k * y), rel=1e-12)
    assert 0 <= k <= 1 / 3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-6)])
def test_aumann_shapley_at_the_edges(dtype, tolerance):
    exponents = np.concatenate([np.arange(-30, 31), np.linspace(-3.01, -2.99, 9)])  # and where the branches meet
    t = torch.cat([torch.tensor([0.0]), torch.tensor(10.0**exponents)]).to(dtype)
    exact = [0.0]
    with localcontext(prec=120):
        for value in map(Decimal, t[1:].double().tolist()):
            exact.append(float((1 + 1 / value) * (1 + value).ln() - 1))
    found = lrp_rules.aumann_shapley(t)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), exact, rtol=tolerance, atol=0)


@pytest.mark.parametrize("rule", lrp_rules.SHUNT_RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_shunt_rule_is_zero_without_inhibition_and_finite(rule, dtype):
    info = torch.finfo(dtype)
    k = lrp_rules.SHUNT_RULES[rule](torch.tensor([0.0, info.tiny, 1.0, info.max], dtype=dtype))
    assert k[0] == 0
    assert torch.isfinite(k).all()
    assert (k >= 0).all()


# --- LRP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", KINDS)
def test_lrp_equals_the_slow_oracle(name, rule, small):
    model = kind(name)
    found = maps(model, small, "lrp", shunt_rule=rule)
    for sample, image in enumerate(pixels(small)[:, 0].numpy()):
        slow = oracles.SlowFaceChannel(model, image)
        np.testing.assert_allclose(slow.output, model.tail(model.features(pixels(small)))[sample].detach(), rtol=1e-10)
        for target in range(2):
            expected = slow.relevance(target, RULES[rule])
            assert np.abs(expected).max() > 0
            np.testing.assert_allclose(found[target, sample], expected, atol=1e-9 * np.abs(expected).max())


def test_shunt_rules_differ_where_inhibition_matters(small):
    model = kind("paper")
    found = [maps(model, small, "lrp", shunt_rule=rule) for rule in RULES]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[a] - found[b]).max() > 1e-3 * np.abs(found[a]).max()


@pytest.mark.parametrize("rule", lrp_rules.SHUNT_RULES)
@pytest.mark.parametrize(("width", "size"), [(12, 16), (20, 64)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lrp_conserves_without_biases(rule, width, size, dtype):
    faces = make_faces(4, seed=2, size=size)
    faces["image"][0, 1] = faces["image"][0, 1] // 128  # a nearly black picture
    faces["image"][0, 2] = 0
    torch.manual_seed(width)
    ordinary = FaceChannel.preset("paper", width=width, size=size, bias=False)
    models = {
        "random": oracles.random_facechannel(width=width, size=size, bias=False),
        "initial": ordinary,
        "code2020": oracles.random_facechannel("code2020", width=width, size=size, bias=False),
    }
    results = attribute(models, faces, "lrp", dtype=dtype, shunt_rule=rule)
    relevance = results["attribution"].isel(method=0)
    for name, model in models.items():
        exact = model.double().eval()
        outputs = np.stack([exact.tail(exact.features(pixels(faces, c))).detach().numpy().T for c in range(2)])
        found = relevance.sel(model=name).astype("f8")
        mass, total = np.abs(found).sum(("y", "x")), found.sum(("y", "x"))
        assert (np.abs(total - outputs) <= 1e-5 * mass + 1e-30).all(), name
        assert (mass.values[:, :, [0, 1, 3]] > 0).all(), name


def test_lrp_of_a_tanh_head_explains_the_output_before_it(small):
    model = kind("code2020", bias=False)
    before = model.tail(model.features(pixels(small))).T.detach().numpy()
    total = maps(model, small, "lrp").sum((-1, -2))
    np.testing.assert_allclose(total, before, rtol=1e-9)
    assert np.abs(total - np.tanh(before)).max() > 1e-4


def test_fused_batch_norm_keeps_the_outputs():
    model = kind("v1")
    images = torch.rand(4, 1, 16, 16, dtype=torch.float64)
    fused = lrp_engine.fuse_batch_norm(model)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(fused(images), model(images), rtol=1e-10, atol=0)


@pytest.mark.parametrize("epsilon", [0, -1.0, "small", math.nan])
def test_epsilon_must_be_positive(epsilon, small):
    with pytest.raises(InputError, match="epsilon"):
        attribute({"m": kind("paper")}, small, "lrp", epsilon=epsilon)


def test_larger_epsilon_absorbs_relevance(small):
    model = kind("paper", bias=False)
    sums = [np.abs(maps(model, small, "lrp", epsilon=e).sum((-1, -2))) for e in (1e-12, 1.0)]
    assert (sums[1] < 0.9 * sums[0]).all()


def test_unknown_shunt_rule(small):
    with pytest.raises(UnknownNameError, match="did you mean 'aumann_shapley'"):
        attribute({"m": kind("paper")}, small, "lrp", shunt_rule="aumann-shapley")


# --- gradient and maps of the last convolution -----------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_gradient_is_the_slope_of_the_output(name, small):
    model, images, step = kind(name), pixels(small), 1e-6
    found = maps(model, small, "gradient")
    rng = np.random.default_rng(0)
    for sample, y, x in zip(range(3), rng.integers(16, size=3), rng.integers(16, size=3), strict=True):
        up, down = images.clone(), images.clone()
        up[sample, 0, y, x] += step
        down[sample, 0, y, x] -= step
        slope = (model.tail(model.features(up)) - model.tail(model.features(down)))[sample] / (2 * step)
        np.testing.assert_allclose(found[:, sample, y, x], slope.detach(), rtol=1e-5, atol=1e-9)
    assert (found < 0).any()
    assert (found > 0).any()


@pytest.mark.parametrize("name", KINDS)
def test_gradcam_equals_its_definition(name, small):
    model = kind(name)
    found = maps(model, small, "gradcam")
    for target in range(2):
        cells = oracles.grad_cam(model, pixels(small), target)  # (sample, 2, 2)
        expected = np.kron(cells, np.ones((1, 8, 8))) / 64  # a cell is spread over its 8x8 pixels
        np.testing.assert_allclose(found[target], expected, atol=1e-12 * expected.max())
        np.testing.assert_allclose(found[target].sum((1, 2)), cells.sum((1, 2)), rtol=1e-12)
    assert found.max() > 0


def test_one_pass_serves_all_methods_and_both_targets(small, monkeypatch):
    shapes, begin, follow = [], lrp_tape.Tape.__init__, lrp_tape.Tape.of

    def recorded(tape, answer, images, constants, **how):
        shapes.append((len(images), images.dtype == torch.float64))
        begin(tape, answer, images, constants, **how)

    def followed(tape, images):
        shapes.append((len(images), images.dtype == torch.float64))
        return follow(tape, images)

    monkeypatch.setattr(lrp_tape.Tape, "__init__", recorded)
    monkeypatch.setattr(lrp_tape.Tape, "of", followed)
    attribute({"m": kind("paper").float()}, small, "gradcam,lrp,lrp_gamma,gradient,input_x_gradient,mean_activation")
    checks = [(2, True)] * 3  # two sets of pictures before the first rule, and one before the other
    assert sorted(shapes) == sorted([*checks, *[(PIECE, False)] * 3])  # the rehearsal, each condition


@pytest.mark.parametrize("name", ["paper", "code2020"])
def test_mean_activation_is_what_was_published(name):
    faces = make_faces(11, seed=3, size=16)  # more faces than channels
    model = kind(name)
    found = maps(model, faces, "mean_activation")
    signs = set()
    for index, image in enumerate(pixels(faces)):
        published = oracles.published_map(model, image, index)
        cells = found[0, index].reshape(2, 8, 2, 8).sum((1, 3))
        scale = np.abs(published).max() / np.abs(cells).max()
        np.testing.assert_allclose(cells * scale, published, rtol=1e-10)
        mean = model.features(image[None]).detach()[0].mean(0).numpy()
        np.testing.assert_allclose(np.abs(cells), mean, rtol=1e-12)
        signs.add(float(np.sign(cells.sum())))
    assert signs == {-1.0, 1.0}
    assert (found[0] == found[1]).all()


def test_mean_activation_counts_along_the_whole_dataset():
    faces = make_faces(6, seed=3, size=16)
    whole = maps(kind("paper"), faces, "mean_activation")
    faces["status"][:, 0] = "no face was found"  # the others keep their places
    np.testing.assert_array_equal(maps(kind("paper"), faces, "mean_activation")[:, 1:], whole[:, 1:])
    moved = maps(kind("paper"), faces.isel(sample=slice(1, None)), "mean_activation")
    np.testing.assert_array_equal(np.abs(moved), np.abs(whole[:, 1:]))
    assert (moved != whole[:, 1:]).any()


@pytest.mark.parametrize("method", METHODS)
def test_declared_properties_hold(method, small):
    found = maps(kind("paper"), small, method)
    if not METHODS[method].signed:
        assert (found >= 0).all()
    side = METHODS[method].resolution
    blocks = found.reshape(*found.shape[:2], 16 // side, side, 16 // side, side)
    assert (blocks == blocks[:, :, :, :1, :, :1]).all()
    if METHODS[method].conserves:
        free = kind("paper, no bias")
        np.testing.assert_allclose(
            maps(free, small, method).sum((-1, -2)), free(pixels(small)).T.detach(), rtol=1e-9, atol=1e-12
        )


def flat_faces(count=10, size=16):
    """Return faces some of which are flat in part or whole, where activations are equal and pooling has to choose."""
    faces = make_faces(count, seed=4, size=size)
    faces["image"][:, 1] = 128
    faces["image"][:, 2] = 0
    faces["image"][:, 3, : size // 2] = 200
    return faces


def assert_independent_of_the_batch(model, faces, methods, **options):
    whole, turned = attribute(model, faces, methods, **options), faces.isel(sample=slice(None, None, -1))
    for size, given in ((1, faces), (3, faces), (16, faces if methods in OF_THE_ORDER else turned)):
        results = attribute(model, given, methods, batch_size=size, **options)
        for name in ("attribution", "prediction"):
            expected = whole[name].sel(sample=given["sample"])
            np.testing.assert_array_equal(results[name].values, expected.values, err_msg=f"{name}, batches of {size}")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["paper", "v1"])
def test_maps_do_not_depend_on_the_batch(method, name):
    torch.manual_seed(1)
    net = FaceChannel.preset(name, width=8, size=16, hidden=8)
    assert_independent_of_the_batch({"m": net}, flat_faces(), method, **few_steps(method))


@pytest.mark.parametrize("trained", [True, False])
def test_maps_of_whole_networks_do_not_depend_on_the_batch(trained):
    torch.manual_seed(2)
    model = "plain_scratch" if trained else {"m": FaceChannel.preset("paper", width=64)}
    assert_independent_of_the_batch(model, flat_faces(6, size=64), "lrp,lrp_epsilon,gradient,gradcam")


@pytest.mark.parametrize("method", METHODS)
def test_one_target_alone_equals_both(method, small):
    both = attribute({"m": kind("paper")}, small, method, dtype="float64", **few_steps(method))
    for target in TARGETS:
        alone = attribute({"m": kind("paper")}, small, method, target, dtype="float64", **few_steps(method))
        np.testing.assert_array_equal(alone["attribution"].sel(target=target), both["attribution"].sel(target=target))
        np.testing.assert_array_equal(alone["prediction"].sel(target=target), both["prediction"].sel(target=target))
