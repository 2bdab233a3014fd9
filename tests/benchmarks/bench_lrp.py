"""LRP and Grad-CAM for two targets beside zennit, autograd and a forward pass, in one run on one thread: `make bench`.

Agreement is asserted before anything is timed; no timing can fail a run. Seconds are those of the processor, which
other work on the machine moves less than those on the wall.
"""

import time

import numpy as np
import pytest
import torch
from conftest import make_faces
from torch import nn
from zennit_rules import zennit_composite

from fcx.attribution import METHODS
from fcx.attribution.batch import Batch, Subject
from fcx.attribution.lrp_engine import Engine, fuse_batch_norm
from fcx.attribution.lrp_rules import CONVOLUTION_RULES, Rule
from fcx.networks import torchvision_operators  # noqa: F401  both of these import torchvision
from fcx.networks.facechannel import FaceChannel

# isort: split
from torchvision import models
from zennit.core import Composite
from zennit.rules import Epsilon, Gamma, Norm, Pass, ZPlus
from zennit.torchvision import ResNetCanonizer

FACES = 64
BOTH = torch.eye(2)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = FaceChannel.preset("paper", width=64, batch_norm=True).eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def images():
    noise = torch.from_numpy(make_faces(FACES)["image"].values[0]).float()[:, None] / 255
    return nn.functional.avg_pool2d(noise, 5, 1, 2)


def seconds(*works, rounds=12):
    """Return the shortest processor time of each work, taken in turns after one round that warms up."""
    times = []
    for _ in range(rounds + 1):
        for work in works:
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return np.reshape(times, (rounds + 1, len(works)))[1:].min(0)


def show(capsys, name, ours, peer, forward, what):
    ours, peer, forward = (1e3 * t / FACES for t in (ours, peer, forward))
    with capsys.disabled():
        print(f"\n{name}: {ours:.2f} ms a face, {ours / forward:.1f} forwards; {what}: {peer:.2f} ms, "
              f"{peer / forward:.1f} forwards; {peer / ours:.2f} times as fast", end="")  # fmt: skip


@pytest.mark.parametrize("convolution", CONVOLUTION_RULES)
def test_lrp_of_two_targets_beside_zennit(capsys, model, images, convolution):
    engine, fused, rule = Engine(model), fuse_batch_norm(model), Rule(convolution)

    def ours():
        return engine.relevance(images, BOTH, rule).maps

    def theirs():
        pixels = images.clone().requires_grad_()
        with zennit_composite(rule, fused.trunk.conv1).context(fused):
            outputs = fused.tail(fused.features(pixels))
            starts = [outputs.detach() * w for w in BOTH]
            return torch.stack([torch.autograd.grad(outputs, pixels, s, retain_graph=True)[0][:, 0] for s in starts])

    found, expected = ours(), theirs()
    gap = (found - expected).abs().amax((-1, -2)) / expected.abs().amax((-1, -2))
    assert gap.median() < 1e-4
    times = seconds(ours, theirs, lambda: model.tail(model.features(images)))
    show(capsys, f"LRP {convolution}, two targets", *times, "zennit")


def test_gradient_of_two_targets_beside_autograd(capsys, model, images):
    engine = Engine(model)

    def ours():
        return engine.gradient(engine.tapes(images), BOTH, len(images))[:, :, 0]

    def theirs():
        pixels = images.clone().requires_grad_()
        values = model.tail(model.features(pixels))
        return torch.stack([torch.autograd.grad(v.sum(), pixels, retain_graph=True)[0][:, 0] for v in values.T])

    found, expected = ours(), theirs()
    assert ((found - expected).abs().amax((-1, -2)) / expected.abs().amax((-1, -2))).median() < 1e-4
    times = seconds(ours, theirs, lambda: model.tail(model.features(images)))
    show(capsys, "gradient, two targets", *times, "autograd")


def test_gradcam_of_two_targets_beside_a_forward(capsys, model, images):
    subject = Subject("m", model)
    ours, forward = seconds(
        lambda: METHODS["gradcam"].function(Batch(subject, images)), lambda: model.tail(model.features(images))
    )
    show(capsys, "Grad-CAM, two targets", ours, forward, forward, "one forward")


@pytest.mark.parametrize("convolution", ["epsilon", "gamma", "zplus"])
def test_lrp_of_a_residual_network_beside_zennit(capsys, convolution):
    """ResNet-18 on 16 colour pictures; its eps of batch norm is 0, because zennit divides by it once more."""
    torch.manual_seed(0)
    net = models.resnet18(num_classes=2).train()
    pictures = nn.functional.avg_pool2d(torch.rand(16, 3, 64, 64), 5, 1, 2)
    net(pictures)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    engine, rule = Engine(net), Rule(convolution, "rule")
    conv = {"epsilon": Epsilon(1e-12), "gamma": Gamma(rule.gamma), "zplus": ZPlus()}[convolution]
    rules = {nn.Conv2d: conv, nn.Linear: Epsilon(1e-12), nn.ReLU: Pass(), nn.BatchNorm2d: Pass(),
             nn.AdaptiveAvgPool2d: Norm(1e-12)}  # fmt: skip

    def chosen(context, name, module):
        return Norm(1e-12) if type(module).__name__ == "Sum" else rules.get(type(module))

    def ours():
        return engine.relevance(pictures, BOTH, rule).maps

    def theirs():
        pixels = pictures.clone().requires_grad_()
        with Composite(chosen, canonizers=[ResNetCanonizer()]).context(net):
            outputs = net(pixels)
            starts = [outputs.detach() * w for w in BOTH]
            return torch.stack([torch.autograd.grad(outputs, pixels, s, retain_graph=True)[0].sum(1) for s in starts])

    found, expected = ours(), theirs()
    if convolution == "epsilon":  # gamma and z+ of outputs that no ReLU follows diverge in the textbook's form
        assert ((found - expected).abs().amax((-1, -2)) / expected.abs().amax((-1, -2))).median() < 1e-3
    mine, other, forward = (1e3 * t / 16 for t in seconds(ours, theirs, lambda: net(pictures), rounds=5))
    with capsys.disabled():
        print(f"\nLRP {convolution} of ResNet-18, two targets: {mine:.1f} ms a picture, {mine / forward:.1f} forwards; "
              f"zennit: {other:.1f} ms; {other / mine:.2f} times as fast", end="")  # fmt: skip
