"""mini-XCEPTION: the module is the network that Keras defines, and the checkpoint holds its weights."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import keras_answers

from fcx.attribution import attribute
from fcx.core.contract import EXPRESSIONS
from fcx.networks.checkpoints import load_model
from fcx.networks.mini_xception import OUTPUTS, MiniXception
from fcx.networks.shipped_networks import shipped, shipped_others


@pytest.fixture(scope="module")
def converter():
    path = Path(__file__).parent.parent / ".ci" / "convert_mini_xception.py"
    spec = importlib.util.spec_from_file_location("convert_mini_xception", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkpoint():
    network = load_model("mini_xception")
    return network, network.metadata


def drawn_weights(layers, rng):
    """Return random weights for the layers of a definition in Keras, of its names and shapes."""
    channels, weights = {}, {}
    for layer in layers:
        kind, config = layer["class"], layer["config"]
        count = config["batch_input_shape"][-1] if kind == "InputLayer" else channels[layer["from"][0]]
        own = {}
        if kind in ("Conv2D", "SeparableConv2D"):
            size, out = config["kernel_size"], config["filters"]
            if kind == "Conv2D":
                own["kernel"] = rng.normal(0, 0.3, (*size, count, out))
            else:
                own["depthwise_kernel"] = rng.normal(0, 0.5, (*size, count, 1))
                own["pointwise_kernel"] = rng.normal(0, 0.5, (1, 1, count, out))
            if config["use_bias"]:
                own["bias"] = rng.normal(size=out)
            count = out
        elif kind == "BatchNormalization":
            own = {name: rng.normal(size=count) for name in ("gamma", "beta", "moving_mean")}
            own["moving_variance"] = rng.uniform(0.001, 2, count)
        channels[layer["name"]] = count
        if own:
            weights[layer["name"]] = own
    return weights


def test_the_module_is_the_network_that_keras_defines(converter, checkpoint):
    layers, rng = checkpoint[1]["keras"]["layers"], np.random.default_rng(0)
    weights, pictures = drawn_weights(layers, rng), rng.uniform(-1, 1, (2, 64, 64))
    model = MiniXception().double().eval()
    model.load_state_dict(converter.tensors(weights), strict=False)
    with torch.no_grad():
        answers = model(torch.from_numpy(pictures)[:, None]).numpy()
    oracle = keras_answers(layers, weights, pictures[..., None])
    assert np.abs(oracle).min() > 1e-3
    np.testing.assert_allclose(answers, oracle, rtol=1e-9)


def test_the_checkpoint_answers_what_the_weights_of_keras_answer(converter, checkpoint):
    model, header = checkpoint
    picture = torch.from_numpy(converter.ramp() / 255).float()[None, None]
    with torch.no_grad():
        answers = model(picture)[0]
    assert np.ptp(header["keras"]["answers_to_ramp"]) > 1
    np.testing.assert_allclose(answers, header["keras"]["answers_to_ramp"], atol=1e-5)


def test_its_logits_are_explained_on_faces(checkpoint, demo):
    network, _ = checkpoint
    faces = demo.isel(sample=slice(0, 2))
    results = attribute({"mini": network}, faces, "lrp_epsilon,gradient", "happy - sad,fear")
    assert results["target"].values.tolist() == ["happy - sad", "fear"]
    pixels = torch.from_numpy(faces["image"].values[0][:, None]) / 255
    with torch.no_grad():
        logits = network(pixels)
    answers = torch.stack([logits[:, 3] - logits[:, 4], logits[:, 2]])
    np.testing.assert_allclose(results["prediction"].values[0, 0], answers, atol=1e-4)
    lrp = results.sel({"method": "lrp_epsilon"})
    mass = np.abs(lrp["attribution"]).sum(("y", "x"))
    left = lrp["attribution"].astype("f8").sum(("y", "x")) + lrp["bias"] + lrp["stabiliser"] - lrp["prediction"]
    assert (np.abs(left) <= 1e-5 * mass).all()
    pixels.requires_grad_()
    wanted = torch.autograd.grad(network(pixels)[:, 2].sum(), pixels)[0][:, 0]
    slopes = results["attribution"].sel({"method": "gradient", "target": "fear"}).values[0, 0]
    np.testing.assert_allclose(slopes, wanted, atol=1e-4 * float(wanted.abs().max()))


def test_the_header_declares_the_network_and_brings_its_notice(checkpoint):
    network, header = checkpoint
    assert header["network"] == network.words == {
        "size": 64, "channels": 1, "mean": 0.5, "std": 0.5, "outputs": list(OUTPUTS), "kind": "logit",
    }  # fmt: skip
    assert set(OUTPUTS) == set(EXPRESSIONS) - {"contempt"}
    assert "MIT License" in header["notice"]["licence"]
    assert "Justin Shenk" in header["notice"]["licence"]
    assert "mini_xception" not in shipped()
    assert shipped_others()["mini_xception"].stat().st_size < 300_000
