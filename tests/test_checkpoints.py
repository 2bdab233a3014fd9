"""Checkpoints: what is written comes back, and what is not a checkpoint is refused in one sentence."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fcx.core.contract import FAMILIES, family_and_seed
from fcx.core.errors import CheckpointError, InputError, UnknownNameError
from fcx.networks import shipped_networks, tensor_files
from fcx.networks.checkpoints import load_model, read_metadata, save_model
from fcx.networks.facechannel import PRESETS, FaceChannel
from fcx.networks.resolving import resolve_models
from fcx.networks.shipped_networks import shipped
from fcx.networks.tensor_files import FORMAT, weights_hash


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FaceChannel.preset("paper", width=4, hidden=3, batch_norm=True)


@pytest.fixture
def file(model, tmp_path):
    return save_model(model, tmp_path / "small.safetensors", {"crop": "face"})


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(preset, dtype, tmp_path):
    model = FaceChannel.preset(preset, width=4, hidden=3, layers=2).to(dtype=dtype, memory_format=torch.channels_last)
    metadata = {"crop": "face", "scores": {"validation": {"plain": [0.5, 0.25]}}, "note": "façade"}
    save_model(model, tmp_path / "a.safetensors", metadata)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.config == model.config
    assert not loaded.training
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].dtype == value.dtype
    assert {name: loaded.metadata[name] for name in metadata} == metadata
    assert read_metadata(tmp_path / "a.safetensors") == loaded.metadata
    images = torch.rand(2, 1, 64, 64, dtype=dtype)
    with torch.no_grad():
        # The layout of memory is not kept, so sums run in another order.
        torch.testing.assert_close(loaded(images), model.eval()(images))


def test_loading_leaves_the_random_generator_alone(file):
    before = torch.get_rng_state()
    load_model(file)
    assert torch.equal(torch.get_rng_state(), before)


def test_hash_depends_on_every_part(model):
    tensors = model.state_dict()
    assert weights_hash(tensors) == weights_hash(dict(reversed(tensors.items())))
    for name, value in tensors.items():
        assert weights_hash({**tensors, name: value + 1}) != weights_hash(tensors)


def test_truncated_file(file):
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        load_model(file)


def test_changed_weights(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert read_metadata(file)["crop"] == "face"
    with pytest.raises(CheckpointError, match="is damaged: its weights do not have the hash"):
        load_model(file)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 64])
def test_other_content(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_model(tmp_path / "a.safetensors")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.safetensors", "plain"])
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_pickles_are_never_opened(tmp_path, name, write):
    write(Bomb(), tmp_path / name)
    with pytest.raises(CheckpointError, match="is a pickle of PyTorch, which fcx never opens"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("header", [None, {"format": "pt"}, {"format": json.dumps("other")}])
def test_safetensors_of_another_program(tmp_path, header):
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors", header)
    with pytest.raises(CheckpointError, match="is not a checkpoint of fcx"):
        load_model(tmp_path / "a.safetensors")


def test_a_field_of_the_header_that_cannot_be_read_is_named(model, tmp_path):
    header = {"format": json.dumps(FORMAT), "config": json.dumps(model.config.as_dict()), "scores": '{"plain": '}
    save_file(model.state_dict(), tmp_path / "a.safetensors", header)
    for read in (load_model, read_metadata):
        with pytest.raises(CheckpointError, match="damaged: the field 'scores' of its header is no JSON"):
            read(tmp_path / "a.safetensors")


def rewrite(path, tensors, **header):
    header = {"format": FORMAT, "sha256": weights_hash(tensors), **header}
    save_file(tensors, path, {name: json.dumps(value) for name, value in header.items()})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"width": 8}, "conv1.weight is .1, 1, 3, 3., its config asks for .2, 1, 3, 3."),
        ({"width": 4 * 10**8}, "needs about .* GB of memory"),
        ({"batch_norm": False}, "trunk.bn1.bias is .1., its config asks for nothing"),
        ({"shunt": "constant"}, "shunt.rho is .4., its config asks for nothing"),
        ({"width": -4}, "does not describe a FaceChannel: width is -4"),
        ({"colour": "red"}, "does not describe a FaceChannel"),
    ],
)
def test_config_of_another_shape(model, tmp_path, change, text):
    rewrite(tmp_path / "a.safetensors", model.state_dict(), config={**model.config.as_dict(), **change})
    with pytest.raises(CheckpointError, match=text):
        load_model(tmp_path / "a.safetensors")


def test_missing_config(model, tmp_path):
    rewrite(tmp_path / "a.safetensors", model.state_dict())
    with pytest.raises(CheckpointError, match="does not describe a FaceChannel"):
        load_model(tmp_path / "a.safetensors")


def test_saving_is_checked(model, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        save_model(model, tmp_path / "a.pt", {})
    with pytest.raises(InputError, match="not a Linear"):
        save_model(torch.nn.Linear(1, 1), tmp_path / "a.safetensors", {})
    with pytest.raises(InputError, match="must be what JSON can hold"):
        save_model(model, tmp_path / "a.safetensors", {"scores": np.zeros(2)})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        save_model(model, tmp_path / "file" / "a.safetensors", {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_write_keeps_the_old_file(model, file, monkeypatch):
    before = file.read_bytes()

    def dies(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_files, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        save_model(model, file, {})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("plain_scrach", UnknownNameError, "did you mean 'plain_scratch'"),
        ("nowhere/a.safetensors", CheckpointError, "nowhere/a.safetensors does not exist"),
        ("a.safetensors", CheckpointError, "a.safetensors does not exist"),
        (".", CheckpointError, "is a folder"),
    ],
)
def test_names_that_lead_nowhere(name, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        load_model(name)


def test_shipped_checkpoints_load_and_say_what_they_are():
    found = shipped()
    families = [family_and_seed(name)[0] for name in found]
    assert [name for name in dict.fromkeys(families) if name in FAMILIES] == list(FAMILIES)
    assert list(resolve_models()) == list(FAMILIES)
    assert set(resolve_models("all")) == {n for n, family in zip(found, families, strict=True) if family in FAMILIES}
    for name, path in found.items():
        model = load_model(name)
        assert (model.config.preset, model.config.width, model.config.hidden) == ("paper", 64, 256)
        assert model.config.batch_norm
        assert model.metadata == read_metadata(path)
        for condition in ("plain", "masked"):
            for scores in model.metadata["scores"]["validation"][condition].values():
                assert scores["low"] < scores["ccc"] < scores["high"]
        if model.metadata["scheme"] != "scratch":
            plain = name.replace(family_and_seed(name)[0], "plain_scratch")
            assert model.metadata["start"]["sha256"] == read_metadata(plain)["sha256"]


def test_a_family_is_its_first_training(model, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped_networks, "shipped_folder", lambda _: tmp_path)
    for name in ("plain_scratch-2", "masked_scratch-1", "plain_scratch-10", "shuffled-1", "plain_scratch-1"):
        save_model(model, tmp_path / f"{name}.safetensors", {"called": name})
    assert list(shipped()) == ["plain_scratch-1", "plain_scratch-2", "plain_scratch-10", "masked_scratch-1",
                               "shuffled-1"]  # fmt: skip
    assert {name: each.metadata["called"] for name, each in resolve_models().items()} == {
        "plain_scratch": "plain_scratch-1", "masked_scratch": "masked_scratch-1",
    }  # fmt: skip
    assert list(resolve_models("all")) == list(shipped())[:4]
    assert read_metadata("shuffled")["called"] == "shuffled-1"
    with pytest.raises(CheckpointError, match="'masked_last_conv' is not in this copy of fcx"):
        load_model("masked_last_conv")
    with pytest.raises(UnknownNameError, match="did you mean 'plain_scratch-2'"):
        load_model("plain_scratch-3")


def test_resolve_models(model, file, tmp_path):
    other = save_model(model, tmp_path / "other.safetensors", {})
    assert list(resolve_models(file)) == list(resolve_models(str(file))) == ["small"]
    assert list(resolve_models([file, str(other)])) == list(resolve_models(f"{file}, {other}")) == ["small", "other"]
    assert resolve_models({"mine": model})["mine"] is model
    (tmp_path / "a,b.safetensors").write_bytes(file.read_bytes())
    assert list(resolve_models(str(tmp_path / "a,b.safetensors"))) == ["a,b"]


@pytest.mark.parametrize("given", ["", [], {}])
def test_no_model_at_all(given):
    with pytest.raises(InputError, match="no model was given"):
        resolve_models(given)


def test_models_that_are_none(model, file, tmp_path):
    with pytest.raises(InputError, match="two models are called 'small'"):
        resolve_models([file, file])
    with pytest.raises(InputError, match="a dict from a name to a torch module"):
        resolve_models(model)
    with pytest.raises(InputError, match="a dict from a name to a torch module"):
        resolve_models([model])
    with pytest.raises(InputError, match="model 'a' is a str, not a torch module"):
        resolve_models({"a": "plain_scratch"})


def refused(path, tensors, says, **header):
    rewrite(path, tensors, **header)
    with pytest.raises(CheckpointError, match=says):
        load_model(path)


def test_weights_that_cannot_be_used_are_refused_by_name(model, tmp_path):
    path, tensors, config = tmp_path / "a.safetensors", model.state_dict(), {"config": model.config.as_dict()}
    floats = [name for name, value in tensors.items() if value.is_floating_point()]
    for kind in (torch.int32, torch.float8_e4m3fn):
        refused(path, {**tensors, **{name: tensors[name].to(kind) for name in floats}}, "of the types .*8_e4m3fn|int32",
                **config)  # fmt: skip
    refused(
        path, {**tensors, "head.bias": tensors["head.bias"].double()}, "types float32, float64: allowed: one", **config
    )
    for value in (torch.nan, torch.inf):
        refused(path, {**tensors, "head.bias": torch.full((2,), value)}, "head.bias holds NaN or infinity", **config)
    model.head.bias.data[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"the model cannot be used: head\.bias holds NaN"):
        save_model(model, tmp_path / "b.safetensors")
    with torch.device("meta"), pytest.raises(CheckpointError, match="the model has no weights"):
        save_model(FaceChannel.preset("paper", width=4), tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_it_was(model, tmp_path, kind):
    loaded = load_model(save_model(model.to(kind), tmp_path / "a.safetensors"))
    assert {value.dtype for value in loaded.parameters()} == {kind}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_nested_headers_are_refused(model, tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    save_file(model.state_dict(), tmp_path / "a.safetensors", {"format": json.dumps(FORMAT), "note": deep})
    with pytest.raises(CheckpointError, match="the field 'note' of its header is no JSON"):
        load_model(tmp_path / "a.safetensors")
    nested = []
    for _ in range(100_000):
        nested = [nested]
    round_about = {}
    round_about["self"] = round_about
    for metadata in ({"note": nested}, round_about, {"note": {1, 2}}):
        with pytest.raises(InputError, match="must be what JSON can hold"):
            save_model(model, tmp_path / "b.safetensors", metadata)
