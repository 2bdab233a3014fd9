"""Training: it learns, resumes in the same bits, changes only what its scheme names, and refuses bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_faces
from oracles import training_loss

from fcx.core import recipes
from fcx.core.contract import TARGETS
from fcx.core.errors import CheckpointError, FcxError, InputError, UnknownNameError
from fcx.networks import training_loop
from fcx.networks.augmentation import augment
from fcx.networks.checkpoints import load_model, read_metadata, save_model
from fcx.networks.facechannel import FaceChannel, Shunt
from fcx.networks.inference import predict
from fcx.networks.losses import loss_of
from fcx.networks.tensor_files import read_tensors, write_tensors
from fcx.networks.training import Data, train
from fcx.networks.training_loop import SCHEMES, trained_modules
from fcx.statistics.agreement import evaluate

SMALL = {"width": 4, "hidden": 4, "epochs": 3, "batch_size": 8, "progress": False}


def teachable(count=36, seed=0):
    """Return faces whose upper half's contrast is arousal and whose lower half's is valence."""
    faces = make_faces(count, seed)
    stripes = np.where(np.arange(64) % 8 < 4, 1.0, -1.0)
    image = 128 + 10 * np.random.default_rng(seed).standard_normal((2, count, 64, 64))
    image[:, :, :32] += 60 * (faces["arousal"].values[:, None, None] + 0.6) * stripes
    image[:, :, 32:] += 60 * (faces["valence"].values[:, None, None] + 0.6) * stripes
    faces["image"].values[:] = image.clip(0, 255)
    faces["split"] = ("sample", np.where(np.arange(count) % 3, "train", "validation"))
    return faces.set_coords("split")


def small(faces, out, **options):
    return train(faces, out, **{**SMALL, **options})


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(3)
    model = FaceChannel.preset("paper", width=4, hidden=4, batch_norm=True)
    return save_model(model, tmp_path / "start.safetensors", {"crop": "face"})


def test_it_learns_and_says_how_well(tmp_path):
    faces = teachable(240)
    options = {"width": 16, "hidden": 16, "epochs": 6, "batch_size": 20, "learning_rate": 5e-3, "progress": False}
    model = train(faces, tmp_path / "a.safetensors", **options)
    metadata = model.metadata
    assert metadata["kept_epoch"] > 1
    chosen = faces.isel(sample=faces["split"].values == "validation")
    found = evaluate(predict({"a": model}, chosen), chosen).sel(model="a")
    for condition, scores in metadata["scores"]["validation"].items():
        for target, score in scores.items():
            assert score["low"] < score["ccc"] < score["high"]
            assert score["n"] == 80
            assert score["ccc"] == pytest.approx(float(found["ccc"].sel(condition=condition, target=target)), abs=1e-6)
            assert score["ccc"] > 0.8


def test_checkpoint_records_the_run(tmp_path):
    faces = teachable().assign_attrs(mask_style="surgical", source_path="/home/someone")
    metadata = small(faces, tmp_path / "a.safetensors", condition="masked", seed=5).metadata
    assert (metadata["condition"], metadata["scheme"], metadata["seed"]) == ("masked", "scratch", 5)
    assert (metadata["epochs"], metadata["crop"], metadata["name"]) == (3, "face", "a")
    assert metadata["mask"] == {"style": "surgical"}
    assert metadata["data"]["sources"] == ["made"]
    assert (metadata["data"]["train"], metadata["data"]["validation"]) == (24, 12)
    assert metadata["recipe"]["name"] == "modern"
    assert metadata["recipe"]["batch_size"] == 8
    means = [np.mean(list(epoch["ccc"]["masked"].values())) for epoch in metadata["history"]]
    assert metadata["kept_epoch"] == 1 + int(np.argmax(means))
    assert "/home" not in str(metadata)
    assert not (tmp_path / "a.safetensors.state").exists()


def test_a_new_network_is_what_recipe_and_options_say(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(training_loop.Run, "learn", lambda self, *_: begun.append(self.model) or interrupt())
    for name, options in {"a": {}, "b": {"dropout": 0.1}, "c": {"recipe": "paper", "batch_norm": False}}.items():
        with pytest.raises(KeyboardInterrupt):
            small(teachable(), tmp_path / f"{name}.safetensors", **options)
    assert [model.config.dropout for model in begun] == [0.0, 0.1, 0.25]
    assert [model.config.batch_norm for model in begun] == [True, True, False]
    assert [bool(model.head.weight.any()) for model in begun] == [False, False, True]


def test_recipe_of_the_paper_keeps_the_last_epoch_and_marks_what_is_filled_in(tmp_path):
    metadata = small(teachable(), tmp_path / "a.safetensors", recipe="paper", batch_norm=False).metadata
    assert metadata["kept_epoch"] == metadata["epochs"] == 3
    assert (metadata["recipe"]["optimiser"], metadata["recipe"]["learning_rate"]) == ("sgd", 0.05)
    assert not {"optimiser", "learning_rate"} & set(metadata["recipe"]["filled_in"])
    assert {"schedule", "epochs", "batch_size"} <= set(metadata["recipe"]["filled_in"])


@pytest.mark.parametrize("recipe", ["modern", "paper"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batch", [4, 7])  # in the second epoch, in the third
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, start, monkeypatch, recipe, scheme, batch):
    options = {"recipe": recipe, "scheme": scheme, "start": None if scheme == "scratch" else start}
    if scheme != "scratch":
        options |= {"width": None, "hidden": None}
    whole = small(teachable(), tmp_path / "whole.safetensors", **options)
    calls = []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == batch:
            raise KeyboardInterrupt
        return loss_of(*given)

    monkeypatch.setattr(training_loop, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(teachable(), tmp_path / "cut.safetensors", **options)
    assert not (tmp_path / "cut.safetensors").exists()
    torch.rand(17)  # the state of the caller's generator plays no part
    resumed = small(teachable(), tmp_path / "cut.safetensors", **options)
    assert len(calls) == 9 + 1 + (batch - 1) % 3  # finished epochs were not repeated
    assert resumed.metadata["sha256"] == whole.metadata["sha256"]
    assert resumed.metadata["history"] == whole.metadata["history"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cut.log.csv", "cut.safetensors", "start.safetensors", "whole.log.csv", "whole.safetensors",
    ]  # fmt: skip
    assert (tmp_path / "cut.log.csv").read_text() == (tmp_path / "whole.log.csv").read_text()


def test_a_run_killed_within_an_epoch_goes_on_at_the_last_saved_batch(tmp_path, monkeypatch):
    whole = small(teachable(), tmp_path / "whole.safetensors")
    calls = []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 6:  # the third of three batches of the second epoch
            raise KeyboardInterrupt
        return loss_of(*given)

    monkeypatch.setattr(training_loop, "loss_of", interrupted)
    monkeypatch.setattr(training_loop, "SAVE_EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        small(teachable(), tmp_path / "cut.safetensors")
    resumed = small(teachable(), tmp_path / "cut.safetensors")
    assert len(calls) == 9 + 1  # no batch was learnt twice
    assert resumed.metadata["sha256"] == whole.metadata["sha256"]
    assert resumed.metadata["history"] == whole.metadata["history"]


def test_seed_decides_and_the_caller_keeps_generator_and_threads(tmp_path):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = small(teachable(), tmp_path / "a.safetensors", threads=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.rand(5)
    again = small(teachable(), tmp_path / "b.safetensors", threads=1)
    other = small(teachable(), tmp_path / "c.safetensors", threads=1, seed=1)
    assert first.metadata["sha256"] == again.metadata["sha256"] != other.metadata["sha256"]


def test_a_finished_run_says_so_and_returns(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "fcx")
    first = small(teachable(), tmp_path / "a.safetensors", progress=True)
    assert "epoch 3/3: loss" in caplog.messages[-1]
    monkeypatch.setattr(training_loop.Run, "go", lambda *_: pytest.fail("trained again"))
    again = small(teachable(), tmp_path / "a.safetensors", progress=True)
    assert "is there already, trained with these settings: nothing to do" in caplog.messages[-1]
    assert not capsys.readouterr().out
    assert again.metadata == first.metadata


def test_other_settings_are_refused_until_overwrite(tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    monkeypatch.setattr(training_loop.Run, "learn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small(teachable(), out)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"a.safetensors.state was made with .* seed \(0 there, 1 here\)"):
        small(teachable(), out, seed=1)
    with pytest.raises(CheckpointError, match=r"recipe.epochs \(3 there, 4 here\)"):
        small(teachable(), out, epochs=4)
    assert small(teachable(), out, seed=1, overwrite=True).metadata["seed"] == 1
    with pytest.raises(CheckpointError, match=r"a.safetensors was made with .* data.digest"):
        small(teachable(seed=1), out, seed=1)
    assert small(teachable(), out, seed=2, overwrite=True).metadata["seed"] == 2


def test_a_damaged_state_is_refused(tmp_path):
    (tmp_path / "a.safetensors.state").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        small(teachable(), tmp_path / "a.safetensors")


def test_last_conv_freezes_the_trunk_with_its_statistics(tmp_path, start):
    options = {"scheme": "last_conv", "start": start, "width": None, "hidden": None}
    before = load_model(start).state_dict()
    after = small(teachable(), tmp_path / "a.safetensors", **options).state_dict()
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith("trunk."), name


def test_all_layers_changes_everything(tmp_path, start):
    before = load_model(start).state_dict()
    model = small(teachable(), tmp_path / "a.safetensors", scheme="all_layers", start=start, width=None, hidden=None)
    assert not [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert model.metadata["start"] == {"name": "start", "sha256": read_metadata(start)["sha256"]}


def test_scope_of_last_conv_is_most_of_the_parameters():
    with torch.device("meta"):
        model = FaceChannel.preset("paper")
    parts = trained_modules(model, "last_conv")
    assert sum(p.numel() for n, p in model.named_parameters() if n.split(".")[0] in parts) == 2_229_762
    assert trained_modules(FaceChannel.preset("code2020", width=4), "last_conv") == ["conv10", "hidden", "head"]


def test_a_frozen_trunk_costs_no_backward_pass(tmp_path, start, monkeypatch):
    trunks = []
    forward = FaceChannel.features
    monkeypatch.setattr(FaceChannel, "features", lambda self, x: trunks.append(self.trunk) or forward(self, x))
    seen = []
    monkeypatch.setattr(training_loop, "loss_of", lambda p, *rest: seen.append(trunks[-1]) or loss_of(p, *rest))
    options = {"scheme": "last_conv", "start": start, "width": None, "hidden": None, "epochs": 1}
    small(teachable(), tmp_path / "a.safetensors", **options)
    assert len(seen) == 3
    for trunk in seen:
        assert all(p.grad is None and not p.requires_grad for p in trunk.parameters())
        assert not any(part.training for part in trunk.modules())  # no dropout, no moving statistics


@pytest.mark.parametrize("scheme", ["last_conv", "head"])
def test_frozen_maps_are_computed_once_and_change_nothing(tmp_path, start, monkeypatch, scheme):
    options = {"scheme": scheme, "start": start, "width": None, "hidden": None, "augmented": False}
    trunks = []
    forward = FaceChannel.inhibited
    monkeypatch.setattr(FaceChannel, "inhibited", lambda self, maps: trunks.append(len(maps)) or forward(self, maps))
    once = small(teachable(), tmp_path / "once.safetensors", **options)
    calls = len(trunks)
    monkeypatch.setattr(training_loop, "memory", lambda: 0)  # nothing can be kept
    again = small(teachable(), tmp_path / "again.safetensors", **options)
    assert len(trunks) - calls > calls if scheme == "head" else len(trunks) - calls == calls
    for name, value in once.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_head_changes_hidden_layer_and_outputs_alone(tmp_path, start):
    before = load_model(start).state_dict()
    after = small(teachable(), tmp_path / "a.safetensors", scheme="head", start=start, width=None, hidden=None)
    for name, value in after.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith(("hidden.", "head.")), name


def test_hidden_layers_are_taught_and_kept_by_what_starts_from_them(tmp_path):
    path, shape = tmp_path / "a.safetensors", {"width": None, "hidden": None, "scheme": "head"}
    before = small(teachable(), path, layers=2, epochs=1).state_dict()
    after = small(teachable(), tmp_path / "b.safetensors", start=path, epochs=1, **shape)
    assert after.config.layers == 2
    assert not torch.equal(after.hidden2.weight, before["hidden2.weight"])
    with pytest.raises(InputError, match=r"layers is 3, but the start checkpoint .* has 2"):
        small(teachable(), tmp_path / "c.safetensors", start=path, layers=3, **shape)


def test_what_was_trained_before_there_were_layers_goes_on(tmp_path):
    path = tmp_path / "a.safetensors"
    model = small(teachable(), path, epochs=1)
    tensors, header = read_tensors(path)
    header["config"].pop("layers")
    write_tensors(path, tensors, header)
    assert load_model(path).config == model.config
    assert torch.equal(small(teachable(), path, epochs=1).head.weight, model.head.weight)
    with pytest.raises(CheckpointError, match=r"config.layers \(1 there, 2 here\)"):
        small(teachable(), path, epochs=1, layers=2)


def test_shuffled_labels_are_those_of_other_training_faces(tmp_path):
    faces = teachable()
    data, shuffled = Data(faces, "plain"), Data(faces, "plain", seed=1, shuffled=True)
    assert torch.equal(data.images, shuffled.images)
    assert not torch.equal(data.labels, shuffled.labels)
    assert sorted(map(tuple, data.labels.T.tolist())) == sorted(map(tuple, shuffled.labels.T.tolist()))
    assert (data.truth == shuffled.truth).all()  # validation keeps its own
    metadata = small(faces, tmp_path / "a.safetensors", shuffled_labels=True).metadata
    assert metadata["data"]["labels"] == "shuffled between training faces"


def test_fewer_training_faces_are_part_of_more_and_steps_may_be_more_than_they_fill(tmp_path):
    rows = [set(Data(teachable(), "plain", train_faces=count).rows["train"].tolist()) for count in (9, 18)]
    assert rows[0] < rows[1]
    log = small(teachable(), tmp_path / "a.safetensors", train_faces=9, steps=4, epochs=2).metadata
    assert (log["data"]["train"], log["recipe"]["steps"]) == (9, 4)
    with pytest.raises(InputError, match="train_faces is 25; allowed: up to 24"):
        Data(teachable(), "plain", train_faces=25)


def test_rows_that_cannot_be_used_play_no_part(tmp_path):
    faces = teachable()
    faces["status"].values = faces["status"].values.astype("U20")
    faces["status"][1, 1] = "no face found"
    faces["valence"][2] = np.nan
    faces["split"][4] = "excluded duplicate"
    first = small(faces, tmp_path / "a.safetensors")
    faces["image"][:, [1, 2, 4]] = 7
    second = small(faces, tmp_path / "b.safetensors")
    assert first.metadata["sha256"] == second.metadata["sha256"]
    assert first.metadata["data"]["train"] == 24 - 3


def mangled(**changes):
    faces = teachable()
    for name, value in changes.items():
        faces[name] = (faces[name].dims, np.full_like(faces[name].values, value))
    return faces


@pytest.mark.parametrize(
    ("faces", "options", "error", "text"),
    [
        (teachable().drop_vars("split"), {}, InputError, "no 'split'"),
        (mangled(valence=np.nan), {}, InputError, "no labelled faces"),
        (mangled(split="train"), {}, InputError, "0 usable labelled faces have the split 'validation'"),
        (mangled(split="test"), {}, InputError, "the split 'train', .* the splits here are test"),
        (mangled(valence=0.5), {}, InputError, "do not vary"),
        (teachable().sel(condition=["plain"]), {"condition": "masked"}, UnknownNameError, "unknown condition"),
        (teachable(), {"scheme": "last-conv"}, UnknownNameError, "did you mean 'last_conv'"),
        (teachable(), {"recipe": "moden"}, UnknownNameError, "did you mean 'modern'"),
        (teachable(), {"scheme": "last_conv"}, InputError, "'last_conv' needs a start checkpoint"),
        (teachable(), {"epochs": 0}, InputError, "epochs is 0; allowed: whole numbers from 1"),
        (teachable(), {"batch_size": 2.5}, InputError, "batch_size is 2.5"),
        (teachable(), {"seed": -1}, InputError, "seed is -1"),
        (teachable(), {"threads": 0}, InputError, "threads is 0"),
        (teachable(), {"learning_rate": 0}, InputError, "learning_rate is 0"),
        (teachable(), {"width": 7}, InputError, "width is 7"),
        (teachable(), {"device": "abacus"}, InputError, "device 'abacus' cannot be used here"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, faces, options, error, text):
    with pytest.raises(error, match=text):
        small(faces, tmp_path / "a.safetensors", **options)
    assert not list(tmp_path.iterdir())


def test_start_checkpoint_must_fit(tmp_path, start):
    options = {"scheme": "all_layers", "start": start}
    with pytest.raises(InputError, match="'scratch' takes no start checkpoint"):
        small(teachable(), tmp_path / "a.safetensors", start=start)
    with pytest.raises(InputError, match=r"width is 8, but the start checkpoint .* has 4: leave it out"):
        small(teachable(), tmp_path / "a.safetensors", **options, width=8)
    with pytest.raises(InputError, match="trained on faces with the crop 'face', these have 'whole'"):
        small(teachable().assign_attrs(crop="whole"), tmp_path / "a.safetensors", **options)
    with pytest.raises(InputError, match="reads 64x64 pixels, these faces have 32x32"):
        small(teachable().isel(y=slice(32), x=slice(32)), tmp_path / "a.safetensors", **options)
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        small(teachable(), tmp_path / "a.pt")


def test_an_output_that_cannot_be_written_is_found_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(training_loop.Run, "learn", lambda *_: pytest.fail("trained first"))
    with pytest.raises(InputError, match="cannot write"):
        small(teachable(), tmp_path / "file" / "a.safetensors")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(
        FcxError,
        match=r"the loss is .* in epoch 1, batch \d \(faces face\d+, .* and 5 "
        r"more\), at a learning rate of 1e\+12: train with a lower one \(learning_rate\)",
    ):
        small(teachable(), tmp_path / "a.safetensors", recipe="paper", batch_norm=False, learning_rate=1e12)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("recipe", recipes.RECIPES.values())
def test_loss_equals_the_oracle(recipe):
    rng = np.random.default_rng(0)
    prediction, truth = rng.normal(size=(2, 9, len(TARGETS)))
    found = loss_of(torch.tensor(prediction), torch.tensor(truth), recipe.ccc_loss)
    expected = training_loss(prediction.tolist(), truth.tolist())
    if not recipe.ccc_loss:
        expected = sum(sum((p[i] - t[i]) ** 2 for p, t in zip(prediction, truth, strict=True)) / 9 for i in (0, 1))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_loss_of_equal_rows_is_finite():
    prediction = torch.ones(4, 2, requires_grad=True)
    loss = loss_of(prediction * 0.5, torch.full((4, 2), 0.5))
    loss.backward()
    assert loss.item() == 1  # no error, no concordance
    assert torch.isfinite(prediction.grad).all()


def test_augmentation_keeps_shape_and_range_and_follows_the_seed():
    images = torch.rand(16, 1, 64, 64)
    before = images.clone()
    torch.manual_seed(0)
    first = augment(images)
    assert torch.equal(images, before)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(augment(images), first)
    torch.manual_seed(0)
    assert torch.equal(augment(images), first)


@pytest.mark.parametrize("flipped", [0, 1])
def test_augmentation_by_nothing_is_the_picture_or_its_mirror(monkeypatch, flipped):
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.full(shape, 0.5))
    monkeypatch.setattr(torch, "randn", lambda *shape: torch.zeros(shape))
    monkeypatch.setattr(torch, "randint", lambda high, shape: torch.full(shape, flipped))
    images = torch.linspace(0, 1, 3 * 64 * 64).reshape(3, 1, 64, 64)
    torch.testing.assert_close(augment(images), images.flip(3) if flipped else images, rtol=0, atol=1e-5)


def test_augmentation_moves_a_face_by_two_pixels_at_most():
    torch.manual_seed(0)
    images = torch.zeros(400, 1, 64, 64)
    images[:, :, 31:33, 31:33] = 1  # at the centre, where turning and scaling move nothing
    moved = augment(images)[:, 0].flatten(1).argmax(1)
    y, x = moved // 64 - 31.5, moved % 64 - 31.5
    for shift in (x, y):
        assert shift.abs().max() <= 0.0625 * 32 * 1.04 + 1
        assert shift.abs().max() > 1
        assert abs(shift.mean()) < 0.5


@pytest.mark.parametrize("lost", ["epoch", "groups", "scheduler", "history"])
def test_a_state_without_all_its_parts_is_refused(tmp_path, monkeypatch, lost):
    monkeypatch.setattr(training_loop.Run, "learn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small(teachable(), tmp_path / "a.safetensors")
    state = tmp_path / "a.safetensors.state"
    tensors, texts = read_tensors(state)
    write_tensors(state, tensors, {name: value for name, value in texts.items() if name != lost})
    with pytest.raises(CheckpointError, match="is damaged: remove it, or pass overwrite"):
        small(teachable(), tmp_path / "a.safetensors")


def test_what_the_machine_cannot_hold_is_said(tmp_path):
    for options, says in (({"width": 200_000}, "width 200000"), ({"hidden": 10**8}, "hidden 100000000")):
        with pytest.raises(InputError, match=f"{says}.* needs about .* GB of memory, this machine has"):
            small(teachable(), tmp_path / "a.safetensors", **options)


def test_the_learning_rate_has_a_schedule_for_any_number_of_steps():
    run = training_loop.Run.__new__(training_loop.Run)
    run.model, run.recipe = torch.nn.Linear(2, 2), replace(recipes.RECIPES["modern"], epochs=1)
    for run.steps in range(1, 31):
        optimiser, scheduler = run._optimiser(0.1)
        for _ in range(run.steps - 1):
            optimiser.step(), scheduler.step()
        assert 0 <= optimiser.param_groups[0]["lr"] <= 0.1


def test_what_was_trained_before_there_were_precisions_goes_on(tmp_path):
    model = small(teachable(), tmp_path / "a.safetensors", epochs=1)
    tensors, header = read_tensors(tmp_path / "a.safetensors")
    header["recipe"].pop("precision")
    write_tensors(tmp_path / "a.safetensors", tensors, header)
    again = small(teachable(), tmp_path / "a.safetensors", epochs=1)
    assert again.metadata["sha256"] == model.metadata["sha256"]
    with pytest.raises(CheckpointError, match=r"recipe.precision \(float32 there, bfloat16 here\)"):
        small(teachable(), tmp_path / "a.safetensors", epochs=1, precision="bfloat16")


def test_in_bfloat16_it_learns_weights_of_float32_and_the_shunt_divides_in_float32(tmp_path, monkeypatch):
    kinds = []

    def shunt(self, u, inhibition, forward=Shunt.forward):
        answer = forward(self, u, inhibition)
        exact = (u.float() / (self.decay[:, None, None] + inhibition.float())).to(u.dtype)
        kinds.append((u.dtype, self.decay.dtype, torch.equal(answer, exact)))
        return answer

    monkeypatch.setattr(Shunt, "forward", shunt)
    options = {"width": 16, "batch_size": 20, "learning_rate": 5e-3, "precision": "bfloat16"}
    metadata = small(teachable(120), tmp_path / "a.safetensors", **options).metadata
    assert set(kinds) == {(torch.bfloat16, torch.float32, True), (torch.float32, torch.float32, True)}  # learnt, scored
    losses = [epoch["loss"] for epoch in metadata["history"]]
    assert losses[2] < losses[0]
    weights = read_tensors(tmp_path / "a.safetensors")[0]
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}


def test_float16_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(
        InputError, match="'float16', in which a CPU does not train: give bfloat16 or float32, or a GPU"
    ):
        small(teachable(), tmp_path / "a.safetensors", precision="float16")
