"""Composites of zennit as a method: equal to fcx's rules, of declared networks too, refused where hooks miss."""

from dataclasses import replace

import pytest
import torch
from oracles import random_facechannel
from test_layers import network  # and more of them
from torch import nn

from fcx.attribution import METHODS
from fcx.attribution.batch import Batch, Subject
from fcx.attribution.lrp_engine import Engine
from fcx.attribution.lrp_rules import Rule
from fcx.attribution.zennit_composites import COMPOSITES
from fcx.core.errors import InputError
from fcx.networks.inputs import as_network

RULES = {
    "epsilon_plus": Rule("zplus", "rule"),
    "epsilon_plus_flat": Rule("zplus", "flat"),
    "epsilon_alpha2_beta1": Rule("alpha_beta", "rule"),
    "epsilon_alpha2_beta1_flat": Rule("alpha_beta", "flat"),
    "epsilon_gamma_box": Rule("gamma", "zbox", gamma=0.25),
}


def explained(composite, model, images, weights=None, **options):
    batch = Batch(Subject("net", model), images, weights=weights)
    return METHODS["zennit"].function(batch, composite=composite, **options)


def assert_close(found, expected, tolerance=1e-3):
    """zennit stabilises by 1e-6."""
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def plain():
    """A colour network of modules that zennit knows, its batch norm included, with three outputs."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).double()
    net(torch.rand(8, 3, 12, 12, dtype=torch.float64))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_composite_is_the_rule_of_fcx_on_a_facechannel(name):
    model = random_facechannel().double().eval().requires_grad_(False)
    images = torch.rand(3, 1, model.config.size, model.config.size, dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
    for shunt in ("aumann_shapley", "signal_take_all"):
        rule = replace(RULES[name], shunt=shunt)
        expected = Engine(model).relevance(images, weights, rule).maps
        assert_close(explained(name, model, images, weights, shunt_rule=rule.shunt), expected)


@pytest.mark.parametrize("name", ["epsilon_plus", "epsilon_gamma_box"])
def test_a_declared_network_is_explained_at_the_pixels_that_its_module_reads(name):
    net, images = plain(), torch.rand(2, 3, 12, 12, dtype=torch.float64)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    declared = as_network(net, size=12, channels=3, mean=mean, std=std, outputs=["a", "b", "c"], kind="logit")
    weights = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64)
    read = (images - declared.mean) / declared.std
    found = explained(name, declared, images, weights)
    assert found.shape == (1, 2, 12, 12)
    if name == "epsilon_plus":
        assert_close(found, explained(name, net, read, weights), 1e-12)
    else:  # black and white are where the declaration says
        assert (found - explained(name, net, read, weights)).abs().max() > 0.01 * found.abs().max()


def test_sums_of_residual_networks_of_torchvision_are_seen():
    net, images = network("resnet")
    found = explained("epsilon_plus", net, images)
    again = explained("epsilon_plus", net, images[:1])
    torch.testing.assert_close(found[:, :1], again, rtol=1e-9, atol=1e-15)
    assert found.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("averaged", "do not see all that this network does: .* use lrp"),
        ("shared", "cannot go back through this network"),
        ("squeezed", "do not see all"),
        ("efficientnet", "do not see all"),  # whose relevance explodes
        ("densenet", "batch norm that follows no layer, such as 'features"),
        ("vit", "cannot go back"),
    ],
)
def test_what_hooks_do_not_see_is_refused(name, text):
    with pytest.raises(InputError, match=text):
        explained("epsilon_plus", *network(name))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_and_wrong_options_are_refused():
    images = torch.rand(1, 3, 12, 12, dtype=torch.float64)
    with pytest.raises(InputError, match="cannot explain TorchScript"):
        explained("epsilon_plus", torch.jit.trace(plain(), images), images)
    with pytest.raises(InputError, match="shunt rule"):
        explained("epsilon_plus", plain(), images, shunt_rule="nobody")
    with pytest.raises(InputError, match="composite"):
        explained("epsilon_minus", plain(), images)
    with pytest.raises(InputError, match="epsilon"):
        explained("epsilon_plus", plain(), images, epsilon=0.0)
