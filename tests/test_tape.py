"""The tape on networks of other kinds than a FaceChannel: their ledger, the input times the gradient, refusals."""

import copy
import warnings

import numpy as np
import pytest
import torch
from conftest import make_faces
from oracles import random_facechannel
from torch import nn
from torch.nn import functional as F

from fcx.attribution import attribute, lrp_operations
from fcx.attribution.lrp_check import held
from fcx.attribution.lrp_engine import Engine, Relevance
from fcx.attribution.lrp_rules import CONVOLUTION_RULES, FIRST_RULES, OPERATIONS, SUMS, Rule
from fcx.core.contract import GRID
from fcx.core.errors import InputError
from fcx.networks import torchvision_operators  # noqa: F401  both of these import torchvision

# isort: split
from torchvision import models
from zennit.core import Composite
from zennit.rules import Epsilon, Norm, Pass
from zennit.torchvision import ResNetCanonizer

BOTH = torch.eye(2, dtype=torch.float64)
CONV, BLOCK = nn.Conv2d, models.convnext.CNBlockConfig


class Written(nn.Module):
    """A network whose `forward` is given as a function of its layers and the pictures."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.written = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images):
        return self.written(self, images)


def averaged(net, x):
    return net.head(((net.a(x).relu() + net.b(x).relu()) / 2).mean((2, 3)))


def shared(net, x):
    x = net.a((x - 0.5) / 0.2).relu()
    x = F.relu(net.b(x), inplace=True)
    x = F.avg_pool2d(net.b(x).relu(), 2)
    x += 1
    return net.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def squeezed(net, x):
    x = F.silu(net.norm(net.a(x)))
    x = x * torch.sigmoid(net.gate(x.mean((2, 3))))[:, :, None, None]
    return net.head(F.max_pool2d(F.hardswish(x) + F.gelu(x), 3, 2, 1).amax((2, 3)))


def normalised(net, x):
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
    x = F.leaky_relu(net.norm(net.a(x)))
    x = torch.cat([x[:, :4], F.elu(x[:, 4:])], 1)
    return net.head(net.layer(x.flatten(2).transpose(1, 2)).mean(1))


def upsampled(net, x):
    x = F.relu6(net.a(x))
    x = F.interpolate(net.up(x + net.depthwise(x)), scale_factor=2, mode="bilinear")
    return net.head(F.avg_pool2d(x, 2).sum((2, 3)))


NETWORKS = {  # name -> (how to make one, channels, size, whether it is piecewise linear)
    "averaged": (lambda: Written(averaged, a=CONV(1, 4, 3), b=CONV(1, 4, 3), head=nn.Linear(4, 2)), 1, 12, True),
    "shared": (lambda: Written(shared, a=CONV(1, 4, 3), b=CONV(4, 4, 3), head=nn.Linear(4, 2)), 1, 12, True),
    "squeezed": (lambda: Written(squeezed, a=CONV(1, 4, 3), norm=nn.BatchNorm2d(4), gate=nn.Linear(4, 4),
                                 head=nn.Linear(4, 2)), 1, 12, False),
    "normalised": (lambda: Written(normalised, a=CONV(1, 8, 3), norm=nn.GroupNorm(2, 8), layer=nn.LayerNorm(8),
                                   head=nn.Linear(8, 2)), 1, 12, False),
    "upsampled": (lambda: Written(upsampled, a=CONV(1, 8, 3, stride=2), depthwise=CONV(8, 8, 3, groups=8, padding=1),
                                  up=nn.ConvTranspose2d(8, 4, 3, stride=2), head=nn.Linear(4, 2)), 1, 13, False),
    "resnet": (lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2), 3, 16, True),
    "densenet": (lambda: models.DenseNet(4, (2, 2), 8, num_classes=2), 3, 32, True),
    "convnext": (lambda: models.ConvNeXt([BLOCK(8, 16, 1), BLOCK(16, None, 1)], num_classes=2), 3, 32, False),
    "vit": (lambda: models.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=2), 3, 16, False),
}  # fmt: skip


def network(name):
    """Return a network in float64 whose norms have seen pictures and whose biases are not 0, and three pictures."""
    make, channels, size, _ = NETWORKS[name]
    torch.manual_seed(0)
    net, images = make().double().train(), torch.rand(3, channels, size, size, dtype=torch.float64)
    with torch.no_grad():
        for parameter_name, value in net.named_parameters():
            if parameter_name.endswith("bias") or parameter_name == "heads.head.weight":
                value.normal_(0, 0.1)
        net(images)
    return net.eval().requires_grad_(False), images


@pytest.mark.parametrize("name", NETWORKS)
def test_the_ledger_closes_by_every_rule(name):
    net, images = network(name)
    engine = Engine(net)
    rules = [Rule(convolution, "rule") for convolution in CONVOLUTION_RULES]
    rules += [Rule("gamma", first) for first in FIRST_RULES if first != "rule"]
    for rule in (*rules, *(Rule("epsilon", "rule", sums=sums) for sums in SUMS[1:])):
        found = engine.relevance(images, BOTH, rule)
        mass = found.maps.abs().sum((-1, -2)) + found.absorbed.abs().sum(0)
        error = (found.maps.sum((-1, -2)) + found.absorbed.sum(0) - found.value).abs()
        assert (error <= 1e-11 * mass).all(), rule
        assert found.maps.abs().amax() < 1e6 * found.value.abs().amax()
    torch.testing.assert_close(found.value, net(images).T)


@pytest.mark.parametrize("name", NETWORKS)
def test_epsilon_is_the_input_times_the_gradient(name):
    """With autograd's own gradient where a network is piecewise linear, else with gates and slopes held fixed."""
    net, images = network(name)
    engine, pixels = Engine(net), images.clone().requires_grad_()
    found = engine.relevance(images, BOTH, Rule("epsilon", "rule")).maps
    outputs = net(pixels) if NETWORKS[name][3] else held(engine.tape(images), pixels)
    slopes = torch.stack([torch.autograd.grad(output.sum(), pixels, retain_graph=True)[0] for output in outputs.T])
    expected = (slopes * images).sum(2)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_resnet_equals_zennit():
    """Whose batch norm is merged, and then divides by sqrt(1 + eps) once more, where eps is not 0."""
    net, images = network("resnet")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    found = Engine(net).relevance(images, BOTH, Rule("epsilon", "rule")).maps
    theirs, pixels = copy.deepcopy(net), images.clone().requires_grad_()
    rules = {nn.Conv2d: Epsilon(1e-12), nn.Linear: Epsilon(1e-12), nn.ReLU: Pass(), nn.BatchNorm2d: Pass()}
    rules[nn.AdaptiveAvgPool2d] = rules["sum"] = Norm(1e-12)

    def rule(context, name, module):
        return rules["sum"] if type(module).__name__ == "Sum" else rules.get(type(module))

    with Composite(rule, canonizers=[ResNetCanonizer()]).context(theirs):
        outputs = theirs(pixels)
        for target in range(2):
            start = torch.zeros_like(outputs)
            start[:, target] = outputs[:, target].detach()
            (expected,) = torch.autograd.grad(outputs, pixels, start, retain_graph=True)
            expected = expected.sum(1)
            torch.testing.assert_close(found[target], expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["shared", "squeezed"])
def test_maps_do_not_depend_on_the_pictures_beside_them(name):
    net, _ = network(name)
    engine, (_, channels, size, _) = Engine(net.float()), NETWORKS[name]
    images = torch.rand(11, channels, size, size, generator=torch.Generator().manual_seed(1))
    whole = engine.relevance(images, BOTH.float(), Rule("gamma", "rule")).maps
    for some in (slice(0, 1), slice(5, 8), slice(10, None, -1)):
        some = list(range(11))[some]
        assert torch.equal(engine.relevance(images[some], BOTH.float(), Rule("gamma", "rule")).maps, whole[:, some])


def test_a_traced_network_is_explained_as_its_original():
    net, images = network("averaged")
    expected = Engine(net).relevance(images, BOTH, Rule("gamma", "rule")).maps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of tracing
        traced = torch.jit.trace(net, images[:1])
    torch.testing.assert_close(Engine(traced).relevance(images, BOTH, Rule("gamma", "rule")).maps, expected)


def test_a_network_whose_activations_are_tiny_is_no_false_alarm():
    net, images = network("averaged")
    for layer in (net.a, net.b):
        layer.weight.mul_(1e-9), layer.bias.mul_(1e-9)
    net.head.weight.mul_(1e9)
    maps = Engine(net).relevance(images, BOTH, Rule("gamma", "rule")).maps
    assert maps.isfinite().all()
    assert maps.any()


class Casts(nn.Module):
    def forward(self, x):
        return x.float()


torch.manual_seed(0)
BODY = [CONV(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
ODD = {
    "flipped": lambda net, x: net.body(x.flip(-1)),
    "turned": lambda net, x: net.body(x.transpose(-1, -2)),
    "augmented": lambda net, x: net.body(x) + net.body(x.flip(-1)),
    "grey to colour": lambda net, x: net.wide((x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / 0.3),
    "other order": lambda net, x: net.wide((x.expand(-1, 3, -1, -1) * torch.rand(1, 3, 1, 1).fill_(0.3))[:, [2, 1, 0]]),
    "rolled": lambda net, x: net.body(x.roll(2, -1)),
    "checked": lambda net, x: net.body(x) if not torch.isnan(x).any() and bool(x.min() >= 0) else None,
    "sigmoid": lambda net, x: net.head(net.body[:1](x).sigmoid().mean((2, 3)).sigmoid()),
    "softplus": lambda net, x: net.head(F.softplus(net.body[:1](x)).mean((2, 3))),
    "prelu": lambda net, x: net.prelu(net.body(x)),
    "unflattened": lambda net, x: net.last(net.body(x).unflatten(1, (2, 1, 1))).flatten(1),
    "cast": lambda net, x: net.body(Casts()(x)) @ torch.ones(2, 2),
}


def odd(name):
    torch.manual_seed(0)
    layers = {"body": nn.Sequential(*BODY, nn.Linear(16, 2)), "prelu": nn.PReLU(), "last": CONV(2, 2, 1)}
    wide = nn.Sequential(CONV(3, 4, 3), *BODY[1:], nn.Linear(16, 2))
    return Written(ODD[name], **copy.deepcopy(layers), wide=wide, head=nn.Linear(4, 2)).requires_grad_(False)


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_are_explained_in_single_precision_too(name):
    net, images = odd(name), torch.rand(3, 1, 12, 12)
    engine, pixels = Engine(net), images.double().requires_grad_()
    found = engine.relevance(images, BOTH.float(), Rule("epsilon", "rule")).maps
    (slopes,) = zip(*(torch.autograd.grad(held(engine.wide.tape(images.double()), pixels)[:, t].sum(), pixels)
                      for t in range(2)), strict=True)  # fmt: skip
    expected = (torch.stack(slopes) * images.double())[:, :, 0].float()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    for rule in (Rule(), Rule("gamma", "zbox"), Rule("gamma", "rule")):
        part = engine.relevance(images, BOTH.float(), rule)
        error = (part.maps.sum((-1, -2), dtype=torch.float64) + part.absorbed.sum(0) - part.value).abs()
        assert (error <= 1e-5 * part.maps.abs().sum((-1, -2)) + 1e-7).all(), rule


@pytest.mark.parametrize("first", FIRST_RULES)
def test_relevance_of_pixels_goes_back_to_where_they_were(first):
    rule, images = Rule("gamma", first), torch.rand(3, 1, 12, 12)
    plain, flipped = Engine(odd("flipped").body), Engine(odd("flipped"))
    expected = plain.relevance(images.flip(-1), BOTH.float(), rule).maps.flip(-1)
    torch.testing.assert_close(flipped.relevance(images, BOTH.float(), rule).maps, expected)


@pytest.mark.parametrize("shade", [0.0, 0.5])
def test_what_is_put_around_pictures_is_no_pixel(shade):
    """By the flat rule: each place of the first layer shares among those of its 2x2 window that are pixels."""
    padding, first, head = nn.ConstantPad2d(2, shade), nn.Conv2d(1, 1, 2), nn.Linear(121, 2, bias=False)
    net = nn.Sequential(padding, first, nn.Flatten(), head).double()
    images = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    answer = Engine(net).relevance(images, BOTH, Rule("epsilon", "flat"))
    units = (head.weight.view(2, 11, 11) * first(padding(images))[0, 0]).detach()
    expected, lost = torch.zeros(2, 8, 8, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for row in range(11):
        for column in range(11):
            window = [(y - 2, x - 2) for y in (row, row + 1) for x in (column, column + 1)]
            inside = [(y, x) for y, x in window if 0 <= y < 8 and 0 <= x < 8]
            lost += units[:, row, column] * (not inside)
            for y, x in inside:
                expected[:, y, x] += units[:, row, column] / len(inside)
    torch.testing.assert_close(answer.maps[:, 0], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(answer.absorbed[0, :, 0], lost, rtol=1e-9, atol=1e-12)


def masked(net, x):
    mask = x.new_zeros(x.shape[-2:])
    mask[:3] = 1  # of the shape alone, as Swin makes its masks
    return net.head((x * mask).flatten(1))


def test_what_looks_at_shapes_only_is_a_constant():
    net, images = Written(masked, head=nn.Linear(144, 2)).double(), torch.rand(3, 1, 12, 12, dtype=torch.float64)
    maps = Engine(net).relevance(images, BOTH, Rule("epsilon", "rule")).maps
    expected = (net.head.weight.view(2, 1, 12, 12) * images[:, 0]).detach()
    expected[..., 3:, :] = 0
    torch.testing.assert_close(maps, expected, rtol=1e-6, atol=1e-9)


def by_numpy(net, x):
    return net.head(x.flatten(1) * float(x.detach().numpy().mean()))


def at_random(net, x):
    return net.head(x.flatten(1) + torch.rand(1))


def by_case(net, x):
    return net.head(x.flatten(1) if float(x[1, 0, 0, 0]) > 0.5 else 2 * x.flatten(1) + 1)


def by_softmax(net, x):
    return net.head(x.flatten(1)).softmax(1)


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (by_numpy, "by a way that torch does not see"),
        (at_random, "drawn at random"),
        (by_softmax, r"for the operation '_softmax' [(]a softmax is never explained"),
        (lambda net, x: net.head(1 / (1 + x.flatten(1))), "a constant that is divided"),
        (lambda net, x: net.head(0 * x.detach().flatten(1).cumprod(1)), "no rule for the operation 'cumprod'"),
        (lambda net, x: net.head.weight.sum() * torch.ones(len(x), 2), r"outputs \(sample, output\) that depend on"),
    ],
)
def test_what_cannot_be_explained_is_refused_by_name(forward, text):
    torch.manual_seed(0)
    net = Written(forward, head=nn.Linear(256, 2))
    with pytest.raises(InputError, match=text):
        attribute({"net": net}, make_faces(2, size=16), "lrp_epsilon")


def forgets_a_half(sweep, node, m):
    for value, of_value in sweep.adjoint(node, [m.whole]):
        sweep.give(value, of_value / 2)


def alike(sweep, node, m):
    [x] = node.read
    whole = m.times(node.value.tensor).whole
    share = whole[..., None, None].expand(*whole.shape, *x.tensor.shape[2:])
    sweep.give(x, share / x.tensor.clamp(min=1e-3) / x.tensor[0, 0].numel())


@pytest.mark.parametrize(("operation", "wrong"), [("mean", forgets_a_half), ("mean", alike)])
def test_a_wrong_rule_is_caught(operation, wrong, monkeypatch):
    net, images = network("averaged")
    monkeypatch.setitem(OPERATIONS, operation, wrong)
    with pytest.raises(InputError, match=r"misplaces relevance|creates or loses relevance"):
        Engine(net).relevance(images, BOTH, Rule())


def test_a_rule_that_loses_relevance_is_caught_by_the_ledger(monkeypatch):
    net, images = network("squeezed")
    monkeypatch.setattr(lrp_operations, "shares", lambda a, b: (0.25, 0.25))
    with pytest.raises(InputError, match=r"misplaces relevance|creates or loses relevance"):
        Engine(net).relevance(images, BOTH, Rule())


def test_relevance_that_is_lost_after_the_first_two_pictures_is_refused(monkeypatch):
    net, images = network("averaged")
    right = OPERATIONS["mean"]
    later = lambda sweep, node, m: (right if sweep.tape.samples == 2 else forgets_a_half)(sweep, node, m)  # noqa: E731
    monkeypatch.setitem(OPERATIONS, "mean", later)
    for some in (images, images.float()):
        with pytest.raises(InputError, match="loses relevance of a face"):
            Engine(net.to(some.dtype)).relevance(some, BOTH.to(some), Rule())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_answers_do_not_depend_on_the_face_beyond_rounding_maps_are_zeros(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).to(dtype).requires_grad_(False)
    images, weights = torch.rand(3, 1, 4, 4, dtype=dtype), BOTH.to(dtype)
    images[1] = 0
    net[1].weight[1] = 0
    assert not Engine(net).relevance(images, weights, Rule("epsilon", "rule")).maps[0, 1].any()
    net[1].weight *= 1e-16
    part = Engine(net).relevance(images, weights, Rule("epsilon", "rule"))
    assert not part.maps.any()
    torch.testing.assert_close(part.absorbed.sum(0), part.value, rtol=1e-6, atol=0)


def test_a_ledger_closes_beside_what_is_left_on_the_grid():
    """Signs of finer pixels cancel where they are summed into it."""
    maps = torch.ones(1, 1, 2 * GRID, 2 * GRID, dtype=torch.float64)
    maps[..., ::2] = -0.99
    value, exact = maps.sum((-2, -1)), maps.sum((-2, -1))
    value = value + 1e-6 * maps.abs().sum((-2, -1))
    assert (Relevance(maps, value, {}).open, Relevance(maps, exact, {}).open) == (torch.ones(1, 1), torch.zeros(1, 1))
    torch.testing.assert_close(Relevance(maps, exact, {}).mass, exact)


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("name", ["squeezed", "resnet", "facechannel"])
def test_neither_inference_mode_nor_no_grad_changes_a_map(name, made):
    """Neither around the engine nor around what makes the network and the pictures."""

    def parts():
        if name != "facechannel":
            return network(name)
        net = random_facechannel(width=4, hidden=3).double().eval().requires_grad_(False)
        return net, torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    net, images = parts()
    expected = Engine(net).relevance(images, BOTH, Rule())
    with torch.inference_mode(made):
        net, images = parts()
    with torch.no_grad():
        quiet = Engine(net).relevance(images, BOTH.clone(), Rule())
    with torch.inference_mode():
        found = Engine(net).relevance(images, BOTH.clone(), Rule())
    torch.testing.assert_close(quiet.maps, expected.maps, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=0)
    assert found.maps.any()
    assert not found.maps.is_inference()


def test_the_network_of_the_caller_stays_as_it_is():
    net, images = network("shared")
    before, answer = copy.deepcopy(net.state_dict()), net(images)
    copy_of_images = images.clone()
    Engine(net).relevance(images, BOTH, Rule())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    torch.testing.assert_close(net(images), answer)
    np.testing.assert_array_equal(images, copy_of_images)
