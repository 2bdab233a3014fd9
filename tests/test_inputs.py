"""What networks declare of their input and outputs."""

import pytest
import torch
from torch import nn

from fcx import as_network
from fcx.core.errors import InputError


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_normalised_by_channel(channels):
    mean, std = [0.5, 0.4, 0.3][:channels], [0.2, 0.3, 0.4][:channels]
    outputs = [f"o{number}" for number in range(4 * channels)]
    network = as_network(nn.Flatten(), size=2, channels=channels, mean=mean, std=std, outputs=outputs, kind="logit")
    pixels = torch.rand(5, channels, 2, 2)
    wanted = torch.stack([(pixels[:, c] - mean[c]) / std[c] for c in range(channels)], 1)
    torch.testing.assert_close(network(pixels), wanted.flatten(1))
    one = [values[0] if channels == 1 else pytest.approx(values) for values in (mean, std)]
    assert network.words == {
        "size": 2, "channels": channels, "mean": pytest.approx(one[0]), "std": pytest.approx(one[1]),
        "outputs": outputs, "kind": "logit",
    }  # fmt: skip
    assert not network.state_dict()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"outputs": ["a", "a"]}, "allowed: names of letters, digits and _, each once"),
        ({"outputs": ["a b"]}, "allowed: names of letters, digits and _, each once"),
        ({"outputs": []}, "allowed: names of letters, digits and _, each once"),
        ({"channels": 2}, "allowed: 1 .grey. or 3 .RGB."),
        ({"std": 0}, "std is 0"),
        ({"mean": [0, 0]}, "one number, or one for each of 1 channels"),
        ({"kind": "softmax"}, "unknown kind of output 'softmax'"),
        ({"crop": "tight"}, "unknown crop rule 'tight'"),
    ],
)
def test_what_cannot_be_declared_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        as_network(nn.Flatten(), **{"size": 2, "outputs": ["a"], **given})


def test_only_a_module_is_a_network():
    with pytest.raises(InputError, match="allowed: a torch module"):
        as_network("net", outputs=["a"])
