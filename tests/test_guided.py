"""Guided backpropagation of ReLUs that are no modules, and networks in TorchScript."""

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop
from conftest import make_faces
from test_tape import CONV, network
from torch import nn
from torch.nn import functional as F

from fcx.attribution import METHODS, attribute
from fcx.attribution.batch import Batch, Subject
from fcx.core.errors import InputError
from fcx.networks import torchvision_operators  # noqa: F401
from fcx.networks.inputs import as_network

# isort: split
from torchvision import models

SIDE = 16


class Plain(nn.Module):
    """A network whose ReLUs are done in one of several ways."""

    def __init__(self, relus):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = CONV(1, 4, 3), CONV(4, 4, 3), nn.Linear(4, 2)
        self.one, self.two = relus

    def forward(self, x):
        return self.head(self.two(self.b(self.one(self.a(x)))).mean((2, 3)))


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def in_place(x):
    return F.relu(x, inplace=True)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("relu", [F.relu, in_place, torch.relu_, lambda x: x.relu(), nn.ReLU(inplace=True)])
def test_guided_backprop_of_functions_and_in_place(relu):
    faces = make_faces(3, size=SIDE)
    modules, wanted = Plain([nn.ReLU(), nn.ReLU()]), Plain([Functional(relu), Functional(relu)])
    found = attribute({"net": wanted.eval()}, faces, "guided_backprop", dtype="float64")["attribution"][0, 0, 0]
    images = torch.from_numpy(faces["image"].values[0]).double()[:, None] / 255
    for target in range(2):
        expected = GuidedBackprop(modules.double()).attribute(images.clone().requires_grad_(), target=target)[:, 0]
        np.testing.assert_allclose(found[target], expected.detach(), rtol=1e-9, atol=1e-15)


def test_residual_networks_reuse_their_relu():
    """By an oracle that lets every ReLU module drop negative gradients, however often it runs."""
    net, images = network("resnet")
    images = images[:, :1]
    net.conv1 = CONV(1, 64, 7, 2, 3, bias=False).double()
    found = METHODS["guided_backprop"].function(Batch(Subject("net", net), images))

    def keep(module, inputs, output):
        output.register_hook(torch.relu)

    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
            module.register_forward_hook(keep)
    pixels = images.clone().requires_grad_()
    outputs = net(pixels)
    for target in range(2):
        (expected,) = torch.autograd.grad(outputs[:, target].sum(), pixels, retain_graph=True)
        torch.testing.assert_close(found[target], expected[:, 0], rtol=1e-9, atol=1e-15)
    assert isinstance(net, models.ResNet)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("way", ["trace", "script"])
def test_torchscript_is_explained_as_what_it_was_made_from(way):
    faces, net = make_faces(3, size=SIDE), Plain([nn.ReLU(inplace=True), nn.ReLU()]).eval()
    example = torch.rand(2, 1, SIDE, SIDE)
    scripted = torch.jit.script(net) if way == "script" else torch.jit.trace(net, example)
    methods = "gradient,guided_backprop,integrated_gradients,region_ablation" + (
        ",lrp_gamma" if way == "script" else ""
    )
    found, expected = (attribute({"net": n}, faces, methods, steps=3) for n in (scripted, net))
    for method in methods.split(","):
        a, b = (results["attribution"].sel({"method": method}).values for results in (found, expected))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max(), err_msg=method)
    with pytest.raises(InputError, match="is TorchScript, which hides its layers"):
        attribute({"net": scripted}, faces, "gradcam")
    frozen = torch.jit.freeze(scripted)
    for given in (frozen, as_network(frozen, size=SIDE, outputs="arousal,valence")):
        with pytest.raises(InputError, match="is frozen TorchScript, whose weights are constants"):
            attribute({"net": given}, faces, "gradient")
