"""Which layer Grad-CAM and its kin weigh in networks of other kinds, named by hand, and what their maps are there."""

import numpy as np
import pytest
import torch
from conftest import make_faces
from test_tape import CONV, NETWORKS, Written, network
from torch import nn
from torch.nn import functional as F

from fcx.attribution import METHODS, attribute
from fcx.attribution.batch import Batch, Subject
from fcx.core.errors import InputError
from fcx.core.provenance import nested_attr
from fcx.networks import torchvision_operators  # noqa: F401
from fcx.networks.inputs import as_network, as_pixels

# isort: split
from torchvision import models
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig

CAMS = ("gradcam", "gradcam++", "layercam")


class Block(nn.Module):
    """A residual block with a shortcut and a squeeze, which end in functions."""

    def __init__(self, planes):
        super().__init__()
        self.conv, self.shortcut, self.gate = CONV(planes, 4, 3, padding=1), CONV(planes, 4, 1), CONV(4, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        y = y * F.adaptive_avg_pool2d(y, 1).sigmoid() * self.gate(F.adaptive_avg_pool2d(y, 1)).sigmoid()
        return F.relu(y + self.shortcut(x), inplace=True)


def in_blocks(net, x):
    return net.head(net.two(F.max_pool2d(net.one(x), 2)).mean((2, 3)))


def shuffled(net, x):
    return net.head(net.shuffle(net.conv(x).relu()).mean((2, 3)))


def channels_last(net, x):
    x = net.conv(x).relu().permute(0, 2, 3, 1)
    return net.head(net.norm(net.dense(x)).mean((1, 2)))


def patched(net, x):
    x = net.patches(x).flatten(2).transpose(1, 2)
    return net.head(net.norm(net.two(net.one(x))).mean(1))


def stemmed(net, x):
    x = net.stem(x).relu().flatten(2).transpose(1, 2)
    x = x + torch.bmm(torch.softmax(torch.bmm(net.query(x), x.transpose(1, 2)), -1), x)
    return net.head(net.norm(x).mean(1))


class Mixed(nn.Module):
    """A residual block of tokens, written with the residual first."""

    def __init__(self):
        super().__init__()
        self.norm, self.dense = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.dense(self.norm(x)).relu()


SMALL_V3, SMALL_EFFICIENT = (
    [
        InvertedResidualConfig(8, 3, 8, 8, True, "RE", 2, 1, 1),
        InvertedResidualConfig(8, 3, 16, 8, True, "HS", 1, 1, 1),
    ],
    [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(4, 3, 2, 8, 16, 2)],
)
NETWORKS |= {
    "mobilenet": (lambda: models.MobileNetV3(SMALL_V3, 16, num_classes=2), 3, 16, False),
    "efficientnet": (lambda: models.EfficientNet(SMALL_EFFICIENT, 0.0, num_classes=2), 3, 16, False),
    "blocks": (lambda: Written(in_blocks, one=Block(1), two=Block(4), head=nn.Linear(4, 2)), 1, 12, True),
    "shuffled": (
        lambda: Written(shuffled, conv=CONV(1, 4, 3), shuffle=nn.ChannelShuffle(2), head=nn.Linear(4, 2)), 1, 12, True
    ),
    "channels_last": (lambda: Written(channels_last, conv=CONV(1, 8, 3, 2), dense=nn.Linear(8, 8),
                                      norm=nn.LayerNorm(8), head=nn.Linear(8, 2)), 1, 13, False),
    "patched": (lambda: Written(patched, patches=CONV(1, 8, 4, 4), one=Mixed(), two=Mixed(), norm=nn.LayerNorm(8),
                                head=nn.Linear(8, 2)), 1, 16, False),
    "stemmed": (lambda: Written(stemmed, stem=CONV(1, 8, 3, 4, 1), query=nn.Linear(8, 8), norm=nn.LayerNorm(8),
                                head=nn.Linear(8, 2)), 1, 16, False),
}  # fmt: skip
LAST = {  # by hand
    "shared": "a", "squeezed": "norm", "normalised": "norm", "upsampled": "up", "resnet": "layer2",
    "densenet": "features", "convnext": "features", "mobilenet": "features", "efficientnet": "features",
    "blocks": "two", "shuffled": "shuffle", "channels_last": "norm",
}  # fmt: skip


def batch_of(name):
    net, images = network(name)
    return Batch(Subject("net", net), images)


@pytest.mark.parametrize("name", LAST)
def test_the_last_layer_is_the_one_named_by_hand(name):
    batch = batch_of(name)
    found = METHODS["layercam"].function(batch)
    assert batch.layer == LAST[name]
    assert torch.equal(METHODS["layercam"].function(batch, layer=batch.layer), found)
    assert found.amax() > 0


def by_hand(net, images, layer, target, method, lay_out):
    """The map of one target from autograd's gradient at what a layer gave."""
    given = []

    def keep(module, inputs, output):
        given.append(output.requires_grad_())
        return output.clone()  # what follows may work in place

    hook = net.get_submodule(layer).register_forward_hook(keep)
    outputs = net(images)
    hook.remove()
    slopes = torch.autograd.grad(outputs[:, target].sum(), given)[0]
    channels, slopes = lay_out(given[0].detach()), lay_out(slopes)
    if method == "gradcam":
        weights = slopes.mean((2, 3), keepdim=True)
    elif method == "gradcam++":
        weights = (slopes.relu() / (2 + slopes * channels.sum((2, 3), keepdim=True))).sum((2, 3), keepdim=True)
    else:
        weights = slopes.relu()
    return (weights * channels).sum(1).relu()


def as_it_is(x):
    return x


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize(
    ("name", "options", "layer", "lay_out"),
    [
        ("densenet", {}, "features", as_it_is),
        ("mobilenet", {"layer": "features.1"}, "features.1", as_it_is),
        ("channels_last", {}, "norm", lambda x: x.permute(0, 3, 1, 2)),
        ("vit", {"tokens": True}, "encoder.layers.encoder_layer_0",
         lambda x: x[:, 1:].transpose(1, 2).unflatten(2, (2, 2))),
        ("vit", {"tokens": True, "layer": "encoder.layers.encoder_layer_1.ln_1"}, "encoder.layers.encoder_layer_1.ln_1",
         lambda x: x[:, 1:].transpose(1, 2).unflatten(2, (2, 2))),
        ("patched", {"tokens": True}, "norm", lambda x: x.transpose(1, 2).unflatten(2, (4, 4))),
        ("stemmed", {"layer": "stem"}, "stem", as_it_is),
        ("stemmed", {"tokens": True}, "norm", lambda x: x.transpose(1, 2).unflatten(2, (4, 4))),
        ("normalised", {"tokens": True}, "layer", lambda x: x.transpose(1, 2).unflatten(2, (10, 10))),
    ],
)  # fmt: skip
def test_maps_are_what_autograd_says(method, name, options, layer, lay_out):
    batch = batch_of(name)
    found = METHODS[method].function(batch, **options)
    assert batch.layer == layer
    assert found.amax() > 0
    for target in range(2):
        cells = by_hand(batch.model, batch.images, layer, target, method, lay_out).numpy()
        if batch.images.shape[-1] % cells.shape[-1]:
            np.testing.assert_allclose(found[target].sum((1, 2)), cells.sum((1, 2)), rtol=1e-9, atol=1e-15)
            continue
        block = batch.images.shape[-1] // cells.shape[-1]
        expected = np.kron(cells, np.ones((1, block, block))) / block**2
        np.testing.assert_allclose(found[target], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("method", ["GradCAM", "GradCAMPlusPlus", "LayerCAM"])
def test_cells_equal_those_of_pytorch_grad_cam(method):
    peer = pytest.importorskip("pytorch_grad_cam", reason="pip install -e .[bench]")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    batch = batch_of("resnet")
    batch.model.fc.weight *= 1e3  # it adds 1e-6 to a denominator of squared slopes
    name = {"GradCAM": "gradcam", "GradCAMPlusPlus": "gradcam++", "LayerCAM": "layercam"}[method]
    found = METHODS[name].function(batch, layer="layer1").unflatten(2, (4, 4)).unflatten(4, (4, 4)).sum((3, 5))
    with getattr(peer, method)(batch.model, [batch.model.layer1]) as cam:
        for target in range(2):
            cam(batch.images.clone().requires_grad_(), [ClassifierOutputTarget(target)] * 3)
            [channels], [slopes] = cam.activations_and_grads.activations, cam.activations_and_grads.gradients
            cells = cam.get_cam_image(
                None, None, None, channels.numpy(), slopes.numpy(), False
            )  # before they are scaled
            np.testing.assert_allclose(found[target], np.maximum(cells, 0), rtol=1e-4, atol=1e-4 * cells.max())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("averaged", {}, "has no layer that everything goes through .* allowed: a, b, head"),
        ("vit", {}, "lay out tokens on their grid, tokens=True"),
        ("stemmed", {}, "before attention aside: .* tokens=True"),
        ("vit", {"layer": "encoder.layers.encoder_layer_0"}, r"gives tokens, \(sample, 5, 8\): with tokens=True"),
        ("vit", {"layer": "encoder.layers.encoder_layer"}, "did you mean 'encoder.layers.encoder_layer_"),
        ("vit", {"tokens": 1}, "tokens is 1; allowed: True or False"),
        ("vit", {"layer": "heads"}, r"gives \(sample, 2\): a layer must run once"),
    ],
)
def test_what_gives_no_map_is_refused(name, options, text):
    with pytest.raises(InputError, match=text):
        METHODS["gradcam"].function(batch_of(name), **options)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_torchscript_has_no_layers():
    net, images = network("shared")
    with pytest.raises(InputError, match="is TorchScript, which hides its layers"):
        METHODS["gradcam"].function(Batch(Subject("net", torch.jit.trace(net, images)), images))


def test_results_say_which_layer_of_which_network():
    nets = {name: NETWORKS[name][0]() for name in ("shuffled", "blocks")}
    results = attribute(nets, make_faces(2, size=16), "gradcam,layercam,gradient")
    about = nested_attr(results, "methods")
    assert about["gradcam"]["layers"] == {"shuffled": "shuffle", "blocks": "two"} == about["layercam"]["layers"]
    assert "layers" not in about["gradient"]


def test_a_declared_network_of_another_size_and_colour():
    faces, (net, _) = make_faces(2, size=24), network("mobilenet")
    rng = np.random.default_rng(0)
    faces["picture"] = (
        ("condition", "sample", "row", "column", "channel"),
        rng.integers(0, 256, (2, 2, 32, 32, 3), "u1"),
    )
    declared = as_network(net, size=16, channels=3, mean=0.5, std=0.25, outputs=["happy", "sad"], kind="logit")
    results = attribute({"net": declared}, faces, "gradcam,guided_backprop", "happy - sad", dtype="float64")
    assert nested_attr(results, "methods")["gradcam"]["layers"] == {"net": "module.features"}
    images = (as_pixels(declared, faces["picture"].values[1], dtype=torch.float64) - 0.5) / 0.25
    batch = Batch(Subject("net", net), images, weights=torch.tensor([[1.0, -1.0]], dtype=torch.float64))
    for method, scale in (("gradcam", 1), ("guided_backprop", 4)):  # pixels are divided by their deviation
        expected = scale * METHODS[method].function(batch).sum((2, 3))[0]
        found = results["attribution"].sel({"method": method})[0, 1, 0]
        np.testing.assert_allclose(found.sum(("y", "x")), expected, rtol=1e-6)
        assert expected.abs().max() > 1e-6
