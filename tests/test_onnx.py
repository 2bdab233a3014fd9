"""ONNX files: what is written answers what the network answers, and what is read can be explained."""

import copy
import json
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fcx import cli
from fcx.attribution.lrp_engine import Engine
from fcx.attribution.lrp_rules import Rule
from fcx.core.errors import CheckpointError, InputError
from fcx.networks import onnx_export
from fcx.networks.checkpoints import load_model, save_model
from fcx.networks.facechannel import FaceChannel
from fcx.networks.onnx_export import write_onnx
from fcx.networks.onnx_import import onnx_module, read_words
from fcx.networks.resolving import resolve_models

EPSILON = Rule("epsilon", "rule")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = FaceChannel.preset("v1", width=8, hidden=4).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    return model


def command(*words):
    """Run the command line; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fcx", "onnx", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.run_command()
    return end.value.code or 0


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    checkpoint = save_model(model, folder / "small.safetensors", {"crop": "upright"})
    assert command(checkpoint, folder / "small.onnx") == 0
    return folder / "small.onnx"


def traced(model, path, channels=3):
    """Write a network as torch's older exporter does: equal weights become one, by operations Identity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.rand(2, channels, 64, 64),), path, dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "n"}})  # fmt: skip
    return path


@pytest.mark.parametrize("count", [1, 3, 16, 33])
def test_the_file_answers_what_the_network_answers(count, model, file):
    faces = torch.rand(count, 1, 64, 64)
    session = onnxruntime.InferenceSession(file)
    (ratings,) = session.run(["ratings"], {"faces": faces.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(ratings, model(faces), atol=1e-5)
    assert ratings.std() > 1e-3


def test_the_file_says_what_it_is(file):
    words = read_words(file)
    outputs = ["arousal", "valence"]
    assert words["network"] == {
        "size": 64, "channels": 1, "mean": 0, "std": 1, "outputs": outputs, "kind": "rating",
    }  # fmt: skip
    assert words["crop"] == "upright"
    assert words["licence"] == "not known"
    graph = onnx.load(file).graph
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [
        "sample",
        1,
        64,
        64,
    ]
    assert b"site-packages" not in file.read_bytes()


def test_what_is_written_is_read_again_and_explained_alike(model, file):
    faces = torch.rand(3, 1, 64, 64)
    [read] = resolve_models(str(file)).values()
    assert (read.size, read.channels, read.outputs, read.kind) == (64, 1, ["arousal", "valence"], "rating")
    assert read.metadata["crop"] == "upright"
    with torch.no_grad():
        torch.testing.assert_close(read(faces), model(faces), atol=1e-5, rtol=0)
    # The head's tanh hands on in proportion, and is left out where a FaceChannel is explained.
    one, other = (Engine(net).relevance(faces, torch.eye(2), Rule("gamma", "flat")) for net in (read, model))
    one, other = (of.maps / of.value[..., None, None] for of in (one, other))
    assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_a_network_that_normalises_pixels_does_so_in_the_file(tmp_path):
    network = load_model("mini_xception")
    read = load_model(write_onnx(network, tmp_path / "mini.onnx"))
    assert read.words == {**network.words, "mean": 0, "std": 1}
    assert read.metadata["licence"] == network.metadata["notice"]["licence"]
    faces = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(read(faces), network(faces), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(network(faces), network.module((faces - 0.5) / 0.5))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_networks_of_others_are_converted_and_explained(name, tmp_path):
    import torchvision  # works only after fcx was imported

    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(num_classes=3)
    path = traced(net, tmp_path / "net.onnx")
    assert (name == "resnet18") or "Identity" in {node.op_type for node in onnx.load(path).graph.node}
    read, pictures = onnx_module(path), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(read(pictures), net(pictures), atol=0, rtol=1e-4)
    Engine(read).check(pictures, torch.eye(3)[:1], EPSILON)


def test_a_file_for_one_face_is_read_for_several(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = traced(net, tmp_path / "one.onnx", channels=1)
    graph = onnx.load(path)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(graph, path)
    assert onnx_module(path)(torch.rand(5, 1, 64, 64)).shape == (5, 2)


def test_a_wrong_file_is_not_put_in_place(model, file, tmp_path, monkeypatch):
    other = copy.deepcopy(model)
    other.head.bias.data += 1e-4
    monkeypatch.setattr(onnx_export, "_exported", lambda *_: onnx.load(file))
    path = tmp_path / "wrong.onnx"
    path.write_bytes(b"kept")
    with pytest.raises(InputError, match="onnxruntime answers something else than torch to 1 faces"):
        write_onnx(other, path, overwrite=True)
    assert path.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_refused(model, file, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"there already.*--overwrite"):
        write_onnx(model, file)
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        write_onnx(model, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"does not say what it reads and answers: give fcx\.as_network"):
        write_onnx(nn.Flatten(), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"need onnx, which is not installed: pip install 'fcx-faces\[onnx\]'"):
        write_onnx(model, tmp_path / "net.onnx")


def test_what_cannot_be_read_is_refused(file, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:-1000])
    for name in ("cut.onnx", "missing.onnx"):
        with pytest.raises(CheckpointError, match="is not an ONNX file, or is damaged"):
            onnx_module(tmp_path / name)
    silent = traced(nn.Flatten(), tmp_path / "silent.onnx", channels=1)
    with pytest.raises(InputError, match=r"does not say what it reads and answers.*fcx\.as_network\(fcx\.networks"):
        load_model(silent)
    for number, words in enumerate(({"size": 64, "outputs": ["a", "a"]}, {"sizes": 64}, 5)):
        graph, path = onnx.load(silent), tmp_path / f"wrong_{number}.onnx"
        onnx.helper.set_model_props(graph, {"network": json.dumps(words)})
        onnx.save(graph, path)
        with pytest.raises(CheckpointError, match=rf"wrong_{number}\.onnx does not describe a network"):
            load_model(path)
    path = traced(nn.Flatten(), tmp_path / "flat.onnx", channels=4)
    with pytest.raises(InputError, match=r"reads \('n', 4, 64, 64\) and answers 1 arrays; allowed: pictures"):
        onnx_module(path)


def test_the_command_does_not_replace_a_file(file, capsys):
    before = file.read_bytes()
    assert command(file.with_suffix(".safetensors"), file) == 2
    assert "small.onnx is there already" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert command("plain_scratch,mini_xception", "net.onnx") == 2
    assert "are 2 networks: give one" in capsys.readouterr().err
