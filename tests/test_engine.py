"""The functional engine against zennit, autograd and slow oracles; its ledger, its ties, and other modules."""

import copy

import numpy as np
import oracles
import pytest
import torch
import xarray as xr
from conftest import make_faces
from torch import nn
from zennit_rules import zennit_composite

from fcx.attribution import METHODS, attribute, lrp_engine
from fcx.attribution.batch import Batch, Subject
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.inhibition import inhibition_index
from fcx.attribution.lrp import NEAREST
from fcx.attribution.lrp_engine import Engine, fuse_batch_norm
from fcx.attribution.lrp_rules import CONVOLUTION_RULES, FIRST_RULES, SHUNT_RULES, Rule
from fcx.attribution.lrp_sweep import Reference
from fcx.core.errors import InputError, UnknownNameError
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import PIECE
from fcx.statistics.region_mass import region_cover

KINDS = {
    "paper": {},
    "paper, odd width, three layers": {"width": 12, "hidden": 5, "layers": 3},
    "paper, batch norm": {"batch_norm": True},
    "paper, no bias": {"bias": False},
    "code2020": {"preset": "code2020"},
    "v1, odd width, two layers": {"preset": "v1", "width": 20, "layers": 2},
}
METHOD_OF = {"zplus": "lrp", "epsilon": "lrp_epsilon", "gamma": "lrp_gamma", "alpha_beta": "lrp_alpha_beta"}
LRP = (*METHOD_OF.values(), "lrp_zbox")
BOTH = torch.eye(2, dtype=torch.float64)


def kind(name, **options):
    return oracles.random_facechannel(**{**KINDS[name], **options})


def pictures(count, size=16, seed=0, dtype=torch.float64):
    return torch.rand(count, 1, size, size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def outputs_of(model, images):
    with torch.no_grad():
        return model.tail(model.features(images))


def by_zennit(model, images, weights, rule):
    """Return (target, sample, y, x) by zennit, on a copy with fused batch norm."""
    fused, images = fuse_batch_norm(model), images.clone().requires_grad_()
    with zennit_composite(rule, fused.trunk.conv1).context(fused):
        outputs = fused.tail(fused.features(images))
        starts = [outputs.detach() * w for w in weights]
        maps = [torch.autograd.grad(outputs, images, start, retain_graph=True)[0] for start in starts]
    return torch.stack(maps)[:, :, 0]


class Moody(FaceChannel):
    """One that reads bright pictures otherwise."""

    def features(self, images):
        return super().features(images) * (2 if images.mean() > 0.5 else 1)


class MoodyRelu(nn.Module):
    """A part that does."""

    def forward(self, x):
        return x.relu() * (2 if x.mean() > 0.1 else 1)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pass_that_is_followed_is_the_pass_recorded(name, dtype):
    engine = Engine(kind(name).to(dtype))
    for images in (pictures(3, seed=1, dtype=dtype), pictures(3, seed=2, dtype=dtype) - 0.5):
        engine.tape(images.flip(0))
        followed, recorded = engine.tape(images), engine.recorded(images)
        assert [node.name for node in followed.nodes] == [node.name for node in recorded.nodes]
        for mine, theirs in zip(followed.nodes, recorded.nodes, strict=True):
            for a, b in zip(mine.values, theirs.values, strict=True):
                assert a.tensor.dtype == b.tensor.dtype
                assert torch.equal(a.tensor, b.tensor)
                assert (a.nonnegative, a.pixels, a.gate, a.rows) == (b.nonnegative, b.pixels, b.gate, b.rows)
                assert [reader.name for reader in a.readers] == [reader.name for reader in b.readers]
        assert torch.equal(followed.marks["features"].tensor, recorded.marks["features"].tensor)
    assert all(value.tensor is None for tape in engine._patterns.values() for n in tape.nodes for value in n.values)


def test_a_network_of_the_users_is_recorded_each_time():
    changed, hooked = kind("paper"), kind("paper")
    changed.trunk.relu1 = MoodyRelu()
    hooked.trunk.relu1.register_forward_hook(lambda layer, given, made: made * (2 if made.mean() > 0.5 else 1))
    for model in (Moody(kind("paper").config).double().eval(), changed, hooked):
        engine = Engine(model)
        for shade in (0.2, 0.8):
            tape = engine.tape(pictures(2) * 0.1 + shade)
            assert torch.equal(tape.outputs.tensor, outputs_of(engine.model, tape.images.tensor))
        assert not engine._patterns


def assert_close(found, expected, tolerance):
    scale = expected.abs().amax((-1, -2), keepdim=True)
    assert (scale > 0).all()
    assert ((found - expected).abs() <= tolerance * scale).all()


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_gradient_equals_autograd(name):
    model, images = kind(name), pictures(5)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.5, 2.0]], dtype=torch.float64)
    engine = Engine(model)
    found = engine.gradient(engine.tapes(images), weights, len(images))[:, :, 0]
    images.requires_grad_()
    values = model.tail(model.features(images)) @ weights.T
    expected = [torch.autograd.grad(v.sum(), images, retain_graph=True)[0][:, 0] for v in values.T]
    assert_close(found, torch.stack(expected), 1e-12)


# --- zennit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", ["absorb", "share"])
@pytest.mark.parametrize("convolution", CONVOLUTION_RULES)
@pytest.mark.parametrize("name", KINDS)
def test_every_rule_equals_zennit(name, convolution, biases):
    model, images = kind(name), pictures(3)
    weights, engine = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64), Engine(model)
    for first in FIRST_RULES:
        for shunt in SHUNT_RULES:
            rule = Rule(convolution, first, shunt, biases, epsilon=1e-6, gamma=0.4, alpha=3.0)
            found = engine.relevance(images, weights, rule).maps
            assert_close(found, by_zennit(model, images, weights, rule), 1e-6)


@pytest.mark.parametrize("convolution", CONVOLUTION_RULES)
def test_float32_equals_zennit(convolution):
    model, rule = kind("paper, batch norm", size=64).float(), Rule(convolution)
    images = pictures(8, 64, dtype=torch.float32)
    found = Engine(model).relevance(images, BOTH.float(), rule).maps
    expected = by_zennit(model, images, BOTH.float(), rule)
    gap = (found - expected).abs().amax((-1, -2)) / expected.abs().amax((-1, -2))
    assert gap.quantile(0.8) < 1e-5  # where rounding decides a pooling, a face may move by more


# --- the ledger -------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", ["absorb", "share"])
@pytest.mark.parametrize("convolution", CONVOLUTION_RULES)
@pytest.mark.parametrize("name", KINDS)
def test_the_ledger_closes(name, convolution, biases):
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        model, images = kind(name).to(dtype), pictures(PIECE + 3, dtype=dtype)
        engine = Engine(model)
        for first in FIRST_RULES:
            rule = Rule(convolution, first, "aumann_shapley", biases)
            found = engine.relevance(images, BOTH.to(dtype), rule)
            error = (found.maps.double().sum((-1, -2)) + found.absorbed.sum(0) - found.value).abs()
            torch.testing.assert_close(found.value.to(dtype), outputs_of(model, images).T)
            assert (error <= tolerance * found.maps.abs().sum((-1, -2))).all()


@pytest.mark.parametrize("preset", ["paper", "code2020"])
def test_the_ledger_closes_where_relevance_is_a_small_part_of_the_output(preset, monkeypatch):
    net, faces = absorbing(preset), make_faces(PIECE + 2, size=16)

    def largest_gap():
        found = attribute({"m": net}, faces, LRP, "arousal,valence @ 0.2")
        value = np.arctanh(found["prediction"]) if preset == "code2020" else found["prediction"]
        value = value - xr.DataArray([0, 0.2], dims="target")
        maps = found["attribution"].astype(np.float64)
        gap = abs(maps.sum(("y", "x")) + found["bias"] + found["stabiliser"] - value) / abs(maps).sum(("y", "x"))
        return gap.max(("model", "condition", "target", "sample")), found

    gap, found = largest_gap()
    assert (gap <= 1e-5).all()
    exact = attribute({"m": net}, faces, LRP, "arousal,valence @ 0.2", dtype="float64")
    for name in ("attribution", "bias", "stabiliser"):  # what goes down in double precision is what single means
        scale = abs(exact[name]).max(("target", "sample")) + abs(exact["prediction"]).max()
        assert (abs(found[name] - exact[name]) <= 1e-3 * scale).all()
    monkeypatch.setattr(lrp_engine, "CLOSED", np.inf)
    assert (largest_gap()[0] > 1e-5).any()  # in single precision alone it is open


def absorbing(preset):
    """Return a network whose biases and batch norm absorb nearly all relevance by z+."""
    torch.manual_seed(1)
    net = FaceChannel.preset(preset, width=8, hidden=7, size=16, batch_norm=True, bias=True).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3), module.running_var.uniform_(0.3, 2)
    return net


@pytest.mark.parametrize("first", ["flat", "zbox", "rule"])
@pytest.mark.parametrize(("convolution", "number"), [("zplus", 0), ("epsilon", 0), ("gamma", 0.4), ("alpha_beta", 3)])
def test_maps_and_what_every_layer_absorbs_equal_the_slow_oracle(convolution, number, first):
    model, images = kind("paper, batch norm" if first == "rule" else "paper", layers=2), pictures(1, seed=3)
    rule = Rule(convolution, first, "normalised_taylor", gamma=number, alpha=max(number, 1))
    found = Engine(model).relevance(images, BOTH, rule)
    names = [f"trunk.conv{n}" for n in range(9, 0, -1)]
    order = ["head", "hidden2", "hidden", "inhibitory", "conv10", *names]
    for target in range(2):
        slow = oracles.SlowRelevance(model, images[0, 0].numpy())
        expected = slow.explain(target, lambda t: t / (1 + t + t**2), convolution, first, number)
        np.testing.assert_allclose(found.maps[target, 0], expected, atol=1e-8 * np.abs(expected).max())
        bias = [float(found.ledger[name][0, target, 0]) if name in found.ledger else 0.0 for name in order]
        np.testing.assert_allclose(bias, slow.absorbed, rtol=1e-7, atol=1e-10)
    assert set(found.ledger) <= set(order)


def test_without_biases_nothing_is_absorbed_but_by_stabilisers():
    engine, images = Engine(kind("paper, no bias")), pictures(3)
    small, large = (engine.relevance(images, BOTH, Rule("epsilon", "rule", epsilon=e)) for e in (1e-12, 0.5))
    for found in (small, large):
        assert (found.absorbed[0] == 0).all()
    assert (small.absorbed[1].abs() < 1e-9).all()
    assert (large.absorbed[1].abs() > 0.1 * outputs_of(kind("paper, no bias"), images).T.abs()).all()
    assert sum(bool((amounts[1] != 0).all()) for amounts in large.ledger.values()) > 8  # layer by layer


def test_what_has_no_denominator_is_in_the_ledger():
    """A unit that its bias alone wakes: with biases left out of the denominators nothing can receive."""
    model = kind("paper")
    with torch.no_grad():
        model.trunk.conv2.weight[0] = 0
        model.trunk.conv2.bias[0] = 0.3
    found = Engine(model).relevance(pictures(2), BOTH, Rule(biases="share"))
    assert (found.ledger["trunk.conv2"][1] != 0).all()
    total = found.maps.sum((-1, -2)) + found.absorbed.sum(0)
    torch.testing.assert_close(total, outputs_of(model, pictures(2)).T)


@pytest.mark.parametrize("method", LRP)
def test_the_ledger_is_recorded(method):
    faces, model = make_faces(3, size=16), kind("code2020")
    results = attribute({"m": model}, faces, method, dtype="float64").isel(model=0, method=0)
    total = results["attribution"].sum(("y", "x")) + results["bias"] + results["stabiliser"]
    np.testing.assert_allclose(np.tanh(total.transpose(*results["prediction"].dims)), results["prediction"], rtol=1e-9)
    assert (results["bias"] != 0).all()


# --- a reference value ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paper, odd width, three layers", "paper, no bias", "code2020"])
def test_relevance_from_a_reference_value_sums_to_the_difference(name):
    faces, model = make_faces(NEAREST + 8, seed=2, size=16), kind(name)
    images = torch.from_numpy(faces["image"].values[0]).double()[:, None] / 255
    values = outputs_of(model, images)
    reference = torch.tensor([float(values[:, 0].quantile(0.9)), 0.0], dtype=torch.float64)
    some = torch.arange(PIECE + 2)
    found, plain = (
        Batch(Subject("m", model), images[some], some, reference=r, reader=FaceReader(faces), condition="plain")
        for r in (reference, None)
    )
    maps, usual = (METHODS["lrp"].function(batch) for batch in (found, plain))
    total = maps.sum((-1, -2)) + found.recorded["bias"] + found.recorded["stabiliser"]
    torch.testing.assert_close(total, values[some].T - reference[:, None], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(maps[1], usual[1])  # it has no reference
    assert ((maps[0] - usual[0]).abs().amax((-1, -2)) > 0.1 * usual[0].abs().amax((-1, -2))).all()


def test_hidden_activations_at_the_reference_explain_nothing():
    """A face that is its own reference: only what the head leaves over remains, and that is a bias."""
    engine, images = Engine(kind("paper", layers=2)), pictures(1)
    tape = engine.tape(images)
    hidden = tape.outputs.node.args[1].tensor
    found = engine.relevance(images, BOTH, Rule(), Reference(tape.outputs.tensor[0], hidden.expand(2, -1)))
    assert found.maps.abs().max() < 1e-15
    assert found.absorbed[0].abs().max() < 1e-12


def test_a_reference_needs_faces():
    batch = Batch(Subject("m", kind("paper")), pictures(1), reference=torch.tensor([0.3, 0.0]))
    with pytest.raises(InputError, match="needs faces near it"):
        METHODS["lrp"].function(batch)


# --- inhibition -------------------------------------------------------------------------------


def test_inhibition_index_equals_its_definition():
    faces, model = make_faces(2, seed=5, size=16), kind("paper", layers=2)
    faces["status"][1, 0] = "no face was found"
    found = inhibition_index({"m": model.double()}, faces)
    assert found.dims == ("model", "condition", "target", "sample", "region")
    assert np.isnan(found[0, 1, :, 0]).all()
    cover = region_cover(faces, np.arange(2))
    for sample in range(2):
        slow = oracles.SlowRelevance(model, faces["image"].values[0, sample] / 255)
        t = slow.inhibition / slow.a
        k = np.log1p(t) * (1 + 1 / np.where(t > 0, t, 1)) - (t > 0)
        for target in range(2):
            top = np.zeros(slow.map.size)
            slope = slow.state["head.weight"][target]
            for name in ("hidden2", "hidden"):
                slope = (slope * (slow.hidden_z[name] > 0)) @ slow.state[f"{name}.weight"]
            # epsilon towards 0, and the winners of the pooling
            top[slow.top[0][1].ravel()] = slope * slow.hidden_in["hidden"]
            relevance_y = np.abs(top.reshape(slow.map.shape))
            for region in range(9):
                cells = cover[sample, region].reshape(2, 8, 2, 8).mean((1, 3))
                below, above = (k * relevance_y * cells).sum(), (relevance_y * cells).sum()
                expected = below / above if above else np.nan
                np.testing.assert_allclose(found.values[0, 0, target, sample, region], expected, rtol=1e-9)


def test_inhibition_index_leaves_a_model_in_training_as_it_is():
    faces, net = make_faces(2, size=16), kind("paper, batch norm").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = inhibition_index({"m": net}, faces)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    np.testing.assert_array_equal(found, inhibition_index({"m": net.eval()}, faces))


def test_inhibition_index_of_a_model_without_inhibition_is_nan():
    faces = make_faces(1, size=16)
    index = inhibition_index({"with": kind("paper"), "without": kind("code2020")}, faces)
    assert index.sel(model="without").isnull().all()
    assert index.sel(model="with").notnull().any()
    assert float(inhibition_index({"m": kind("paper")}, faces, shunt_rule="signal_take_all").max()) == 0


# --- robustness -------------------------------------------------------------------------------


def test_every_batch_size_gives_the_same_maps():
    faces = make_faces(65, seed=4, size=16).isel(condition=[0])
    model = oracles.random_facechannel(width=4, hidden=3).float()
    found = {n: attribute({"m": model}, faces, LRP, batch_size=n)["attribution"].values for n in (1, 17, 65)}
    scale = np.abs(found[65]).max((-1, -2), keepdims=True)
    for size, maps in found.items():
        assert (np.abs(maps - found[65]) <= 1e-5 * scale).all(), size


@pytest.mark.parametrize("method", LRP)
def test_layout_mode_and_ties_change_nothing(method):
    """Flat areas: every pooling ties."""
    model, faces = oracles.random_facechannel(width=12, size=64, batch_norm=True).float(), make_faces(3, size=64)
    faces["image"][:, :, 20:] = 180
    faces["image"][:, :, :, 40:] = 0
    before = attribute({"m": model}, faces, method)["attribution"].values
    for other in (copy.deepcopy(model).to(memory_format=torch.channels_last), copy.deepcopy(model).train()):
        after = attribute({"m": other}, faces, method)["attribution"].values
        assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_first_winner_in_reading_order_takes_all(layout):
    """By the relevance of pixels that a pooling reads, in a network that is one sum of winners."""
    values = torch.from_numpy(np.random.default_rng(0).integers(1, 4, (2, 1, 8, 8))).double()
    net = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)).double().requires_grad_(False)
    found = Engine(net).relevance(values.to(memory_format=layout), BOTH, Rule("epsilon", "rule")).maps
    for sample, image in enumerate(values.numpy()):
        expected = np.zeros((2, 64))
        winners = oracles.pool_winners(image).ravel()
        expected[:, winners] = net[2].weight.numpy() * image.ravel()[winners]
        np.testing.assert_allclose(found[:, sample].reshape(2, -1), expected, atol=1e-9)


def test_a_second_target_costs_no_second_forward(monkeypatch):
    engine, images, calls = Engine(kind("paper")), pictures(2), []
    engine.relevance(images, BOTH, Rule())  # checked
    convolve = torch.convolution
    monkeypatch.setattr(torch, "convolution", lambda *a, **k: calls.append(1) or convolve(*a, **k))
    counts = []
    for weights in (BOTH[:1], BOTH, torch.rand(7, 2, dtype=torch.float64)):
        calls.clear()
        engine.relevance(images, weights, Rule())
        counts.append(len(calls))
    assert counts[0] == counts[1] == counts[2] > 0


def test_a_facechannel_that_does_more_than_its_layers_is_explained_as_it_is():
    class Other(FaceChannel):
        def tail(self, features):
            return super().tail(features) + 1

    same = kind("paper")
    other = Other(same.config).double().eval()
    other.load_state_dict(same.state_dict())
    faces = make_faces(2, size=16)
    found, expected = (attribute({"m": m}, faces, "lrp,gradient,gradcam", dtype="float64") for m in (other, same))
    np.testing.assert_allclose(found["attribution"], expected["attribution"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["prediction"], expected["prediction"] + 1)
    np.testing.assert_allclose(found["bias"].isel(method=0), expected["bias"].isel(method=0) + 1, rtol=1e-9)


def test_a_facechannel_with_another_answer_than_its_layers_give_is_refused():
    class Other(FaceChannel):
        def forward(self, images):
            return 3 * super().forward(images)

    faces, net = make_faces(1, size=16), kind("paper")
    net.register_forward_hook(lambda module, inputs, answer: answer + 1)
    for one in (Other(net.config), net):
        with pytest.raises(InputError, match="answers something else than its features, tail and activation"):
            attribute({"m": one}, faces, "gradient")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"convolution": "z+"}, UnknownNameError, "rule of convolutions"),
        ({"first": "box"}, UnknownNameError, "did you mean 'zbox'"),
        ({"shunt": "gate"}, UnknownNameError, "shunt rule"),
        ({"biases": "drop"}, UnknownNameError, "treatment of biases"),
        ({"gamma": -0.1}, InputError, "gamma is -0.1; allowed: numbers from 0"),
        ({"alpha": 0.5}, InputError, "alpha is 0.5; allowed: numbers from 1"),
        ({"epsilon": True}, InputError, "epsilon is True"),
        ({"epsilon": float("inf")}, InputError, "epsilon is inf"),
    ],
)
def test_rules_that_do_not_exist(options, error, text):
    with pytest.raises(error, match=text):
        Rule(**options)


# --- modules that are not a FaceChannel -------------------------------------------------------


def regressor(**options):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=options.get("bias", True)), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1, bias=options.get("bias", True)), nn.ReLU(), nn.AdaptiveAvgPool2d(3),
        nn.Flatten(), nn.Dropout(), nn.Linear(45, 2, bias=options.get("bias", True)),
    )  # fmt: skip
    net[1].running_var.fill_(2.0)
    return net


@pytest.mark.parametrize("method", LRP)
def test_other_modules_equal_zennit_and_have_a_ledger(method):
    faces, net = make_faces(3, size=16), regressor()
    net[1].running_mean.fill_(0.1)
    results = attribute({"net": net}, faces, method, dtype="float64").isel(model=0, method=0)
    total = results["attribution"].sum(("y", "x")) + results["bias"] + results["stabiliser"]
    np.testing.assert_allclose(total.transpose(*results["prediction"].dims), results["prediction"], rtol=1e-9)
    images = torch.from_numpy(faces["image"].values[0]).double()[:, None] / 255
    fused = copy.deepcopy(net).double().eval()
    fused[0], fused[1] = torch.nn.utils.fusion.fuse_conv_bn_eval(fused[0], fused[1]), nn.Identity()
    convolution = {v: k for k, v in METHOD_OF.items()}.get(method, "gamma")
    rule = Rule(convolution, METHODS[method].options.get("first_rule", "zbox"))
    images.requires_grad_()
    with zennit_composite(rule, fused[0]).context(fused):
        out = fused(images)
        (expected,) = torch.autograd.grad(out, images, out.detach() * BOTH[1])
    np.testing.assert_allclose(results["attribution"][0, 1], expected[:, 0], atol=1e-9)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = regressor()

    def forward(self, images):
        return self.inner(images) + self.inner(images)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Linear(256, 2)

    def forward(self, images):
        return self.head((images + self.relu(self.conv(images))).flatten(1))


class Joined(nn.Module):
    """Two branches that a function joins, before layers that read the result."""

    def __init__(self, join):
        super().__init__()
        self.a, self.b, self.join = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1), join
        self.relu, self.head = nn.ReLU(), nn.LazyLinear(2)
        with torch.no_grad():
            self(torch.zeros(1, 1, 16, 16))

    def forward(self, images):
        return self.head(self.join(self.relu(self.a(images)), self.relu(self.b(images))).flatten(1))


class PooledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.AvgPool2d(2), nn.Linear(48, 2)

    def forward(self, images):
        return self.head(self.pool(self.pool(self.conv(images))).flatten(1))


@pytest.mark.parametrize("method", ["lrp", "lrp_epsilon", "guided_backprop"])
def test_layers_that_work_in_place_are_explained_as_others_are(method):
    faces, net = make_faces(2, size=16), regressor()
    expected = attribute({"net": net}, faces, method)["attribution"]
    net[2].inplace = True
    np.testing.assert_array_equal(attribute({"net": net}, faces, method)["attribution"], expected)
    assert net[2].inplace


@pytest.mark.parametrize(
    "net",
    [
        *(Joined(join) for join in (
            lambda a, b: torch.cat([a, b], 1), torch.maximum, lambda a, b: (a + b) / 2, lambda a, b: a - 2 * b,
            lambda a, b: torch.stack([a, b]).mean(0), lambda a, b: a.mean((2, 3)) + 0 * b.amax((2, 3)),
            lambda a, b: nn.functional.avg_pool2d(torch.cat([a, b], 1), 2),
        )),
        PooledTwice(), Twice(), Residual(),
        nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(256, 2)),
    ],
)  # fmt: skip
def test_epsilon_is_the_input_times_the_gradient_of_piecewise_linear_networks(net):
    # Whatever the weights: beside the usual epsilon of 1e-12, a unit that answers 1e-5 would be off by 1e-7.
    options = {"methods": "lrp_epsilon,input_x_gradient", "epsilon": 1e-30, "dtype": "float64"}
    results = attribute({"net": net}, make_faces(2, size=16), **options)
    np.testing.assert_allclose(*results["attribution"][0].transpose("method", ...).values, atol=1e-9)
