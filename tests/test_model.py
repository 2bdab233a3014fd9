"""The FaceChannel against the published parameter counts and a plain-NumPy forward pass."""

import numpy as np
import pytest
import torch
from oracles import facechannel_forward

from fcx.core.errors import InputError, UnknownNameError
from fcx.networks.facechannel import PRESETS, FaceChannel, Shunt, check_input

# FACTS of the paper and of its authors' published code.
COUNTS = {"paper": 3_816_770, "code2020": 2_996_890, "v1": 3_589_530}


def randomised(preset, **options):
    """Return a small float64 model whose every weight and batch-norm statistic is random."""
    torch.manual_seed(1)
    model = FaceChannel.preset(preset, width=8, **{"hidden": 5, **options}).double().eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1 if "var" in name else value + 0.1 * torch.randn_like(value))
    return model


def plain_weights(model):
    state = {name.replace("trunk.", ""): value.numpy() for name, value in model.state_dict().items()}
    weights = {}
    for name in {key.split(".")[0] for key in state} - {"shunt"}:
        keys = ("weight", "bias", "running_mean", "running_var") if name.startswith("bn") else ("weight", "bias")
        weights[name] = tuple(state[f"{name}.{key}"] for key in keys)
    channels = model.config.width
    rho = state.get("shunt.rho")
    weights["decay"] = np.full(channels, 0.5) if rho is None else np.log1p(np.exp(rho)) + 0.05
    return weights


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_count_is_the_published_one(preset):
    with torch.device("meta"):
        assert count(FaceChannel.preset(preset)) == COUNTS[preset]


def test_parameter_counts_of_parts():
    with torch.device("meta"):
        assert count(FaceChannel.preset("paper", batch_norm=True)) == 3_819_330
        bare = FaceChannel.preset("paper", shunt="none")
        assert sum(p.numel() for n, p in bare.named_parameters() if "conv" in n) == 2_177_088
        v1 = FaceChannel.preset("v1")
    assert sum(b.numel() for n, b in v1.named_buffers() if "running" in n) == 2_560


@pytest.mark.parametrize(("batch_norm", "layers"), [(False, 1), (True, 3)])
@pytest.mark.parametrize("preset", PRESETS)
def test_forward_equals_the_oracle(preset, batch_norm, layers):
    model = randomised(preset, batch_norm=batch_norm, layers=layers)
    images = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    expected = [
        facechannel_forward(plain_weights(model), image[0].numpy(), preset=preset, batch_norm=batch_norm)
        for image in images
    ]
    assert np.ptp(expected, axis=0).min() > 1e-5  # the picture reaches the outputs
    with torch.no_grad():
        found = model(images).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
        again = model.float()(images.float()).numpy()
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)


def test_hidden_layers_are_read_one_after_the_other():
    one, three = (FaceChannel.preset("paper", width=4, hidden=5, layers=number) for number in (1, 3))
    assert set(three.state_dict()) - set(one.state_dict()) == {
        f"hidden{number}.{part}" for number in (2, 3) for part in ("weight", "bias")
    }
    assert three.config.weights() - one.config.weights() == 2 * 5 * 5
    assert list(dict(three.named_children()))[-4:-1] == ["hidden3", "relu_hidden3", "head"]


def test_features_and_tail_make_the_output():
    model, images = randomised("v1"), torch.rand(3, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        features = model.features(images)
        assert features.shape == (3, 8, 8, 8)
        assert torch.equal(model.activation(model.tail(features)), model(images))


def test_layout_of_memory_does_not_change_the_output():
    model, images = randomised("paper", batch_norm=True), torch.rand(3, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        plain = model(images)
        torch.testing.assert_close(model.to(memory_format=torch.channels_last)(images), plain, rtol=1e-10, atol=1e-12)


def test_decay_starts_at_a_half_and_stays_positive():
    shunt = Shunt(4).double()
    torch.testing.assert_close(shunt.decay, torch.full((4,), 0.5, dtype=torch.float64), rtol=0, atol=1e-7)
    with torch.no_grad():
        shunt.rho.fill_(-1e4)
    assert shunt.decay.min() >= 0.05
    assert not list(Shunt(4, learned=False).parameters())


def test_shunt_is_division_and_inhibits():
    u, inhibition = torch.rand(2, 3, 4, 4).double(), torch.rand(2, 3, 4, 4).double()
    shunt = Shunt(3).double()
    with torch.no_grad():
        shunt.rho += torch.arange(3)
        torch.testing.assert_close(shunt(u, inhibition), u / (shunt.decay.view(3, 1, 1) + inhibition))
        assert (shunt(u, inhibition + 1) < shunt(u, inhibition)).all()


def test_shunt_divides_in_float32_under_autocast():
    u, inhibition = torch.rand(64, 3, 4, 4).bfloat16(), torch.rand(64, 3, 4, 4).bfloat16()
    shunt = Shunt(3)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = shunt(u, inhibition)
    exact = u.double() / (shunt.decay.double().view(3, 1, 1) + inhibition.double())
    # Rounding the exact quotient to bfloat16 costs at most 2^-8 of it: the division added nothing.
    assert ((found.double() - exact).abs() <= 2**-8 * exact).all()


def test_learned_decay_gets_a_gradient():
    model = randomised("paper")
    model(torch.rand(2, 1, 64, 64, dtype=torch.float64)).sum().backward()
    assert model.shunt.rho.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.zeros(2, 1, 64, 64, dtype=torch.uint8), "divide bytes by 255"),
        (np.zeros((2, 1, 64, 64), "f4"), "not ndarray"),
        (torch.rand(2, 1, 64, 64) * 255, "looks like 0-255, divide by 255"),
        (torch.rand(2, 1, 64, 64) - 1, "values in"),
        (torch.full((1, 1, 64, 64), torch.nan), "values in"),
        (torch.rand(2, 3, 64, 64), r"takes \(sample, 1, 64, 64\), not \(2, 3, 64, 64\)"),
        (torch.rand(64, 64), r"not \(64, 64\)"),
    ],
)
def test_input_is_checked(images, text):
    with pytest.raises(InputError, match=text):
        check_input(images)
    with pytest.raises(InputError, match=text):
        FaceChannel.preset("paper", width=4)(images)


def test_other_sizes_and_devices():
    assert FaceChannel.preset("paper", width=4, size=32)(torch.rand(1, 1, 32, 32)).shape == (1, 2)
    assert FaceChannel.preset("v1", width=4).eval()(torch.empty(0, 1, 64, 64)).shape == (0, 2)
    with torch.device("meta"):
        assert FaceChannel.preset("paper", width=4)(torch.empty(3, 1, 64, 64)).shape == (3, 2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 6}, "width is 6; allowed: positive multiples of 4"),
        ({"width": 0}, "width is 0"),
        ({"hidden": -1}, "hidden is -1"),
        ({"size": 50}, "size is 50"),
        ({"layers": 4}, "layers is 4; allowed: whole numbers from 1 to 3"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"shunt": "lerned"}, "did you mean 'learned'"),
        ({"witdh": 8}, "unknown option of FaceChannel 'witdh': did you mean 'width'"),
    ],
)
def test_options_are_checked(options, text):
    with pytest.raises(InputError, match=text):
        FaceChannel.preset("paper", **options)


def test_unknown_preset():
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        FaceChannel.preset("papr")


def test_fields_of_a_config_are_given_to_preset():
    with pytest.raises(InputError, match=r"takes a Config: give width, hidden to FaceChannel.preset, as in"):
        FaceChannel(width=-1, hidden=4)
