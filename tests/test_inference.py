"""Predictions: equal to the model itself, whatever the batch, and the caller's model is left alone."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_faces

from fcx.core.contract import CONDITIONS, TARGETS, check
from fcx.core.errors import ContractError, InputError
from fcx.core.provenance import nested_attr
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import predict


@pytest.fixture
def models():
    torch.manual_seed(0)
    return {
        "a": FaceChannel.preset("paper", width=4, hidden=4, batch_norm=True),
        "b": FaceChannel.preset("v1", width=4),
    }


def test_predictions_are_those_of_the_model(faces, models):
    results = check(predict(models, faces), "results")
    assert results["prediction"].dtype == np.float32
    assert list(results["model"].values) == ["a", "b"]
    for name, model in models.items():
        for condition in CONDITIONS:
            images = torch.from_numpy(faces["image"].sel(condition=condition).values)[:, None] / 255
            with torch.no_grad():
                expected = model.eval()(images).numpy()  # (sample, target)
            found = results["prediction"].sel(model=name, condition=condition)
            for i, target in enumerate(TARGETS):
                np.testing.assert_allclose(found.sel(target=target), expected[:, i], rtol=1e-5, atol=1e-6)


def test_only_trainings_are_families(faces, models):
    a, b = models.values()
    a.metadata, b.metadata = {"seed": 0}, {"seed": 1}
    results = predict({"mine-1": a, "mine-2": b, "resnet-18": copy.deepcopy(a), "mine-3": copy.deepcopy(a)}, faces)
    assert list(results["family"].values) == ["mine", "mine", "resnet-18", "mine-3"]
    assert list(results["seed"].values) == [0, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batch_size_does_not_matter(models, dtype):
    faces = make_faces(9)
    models = {name: model.to(dtype) for name, model in models.items()}
    whole = predict(models, faces)["prediction"].values
    assert whole.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    for size in (1, 4, 9):
        np.testing.assert_array_equal(predict(models, faces, batch_size=size)["prediction"].values, whole)


def test_unusable_faces_are_nan_and_change_nothing_else(faces, models):
    whole = predict(models, faces)["prediction"]
    faces["status"] = faces["status"].astype("U20")
    faces["status"][1, 2] = "no face found"
    faces["status"][:, 4] = "not a picture"
    found = predict(models, faces, batch_size=2)["prediction"]
    missing = (faces["status"] != "ok").values  # (condition, sample)
    assert (np.isnan(found.values) == missing[None, :, None, :]).all()
    np.testing.assert_allclose(found.values, whole.where(~np.isnan(found)).values, rtol=0, atol=1e-6)


def test_no_usable_face_at_all(faces, models):
    faces["status"] = (("condition", "sample"), np.full((2, 6), "no face found"))
    assert np.isnan(predict(models, faces)["prediction"]).all()


def test_samples_keep_order_and_coordinates(faces, models):
    turned = faces.isel(sample=[4, 0, 5])
    results = predict(models, turned)
    for name in ("sample", "expression", "subject", "split", "source"):
        assert list(results[name].values) == list(turned[name].values)
    np.testing.assert_allclose(
        results["prediction"].values, predict(models, faces)["prediction"].values[..., [4, 0, 5]], rtol=0, atol=1e-6
    )


def test_the_callers_model_is_left_as_it_was(faces, models):
    model = models["a"].train()
    model.trunk.eval()
    modes = [part.training for part in model.modules()]
    tensors = dict(model.state_dict(keep_vars=True))
    values = {name: value.detach().clone() for name, value in tensors.items()}
    predict({"a": model}, faces)
    assert [part.training for part in model.modules()] == modes
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is tensors[name]
        assert torch.equal(value, values[name])


def test_provenance(faces, models):
    predicted = predict(models, faces.assign_attrs(mask_style="surgical"))
    assert predicted.attrs["crop"] == "face"
    assert predicted.attrs["mask_style"] == "surgical"
    checkpoints = nested_attr(predicted, "checkpoints")
    assert checkpoints.keys() == models.keys()
    assert checkpoints["a"] != checkpoints["b"]
    assert nested_attr(predicted, "provenance")["versions"]["torch"]


def test_a_network_of_another_kind(faces):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64, 2))
    assert predict({"linear": net}, faces)["prediction"].shape == (1, 2, 2, 6)
    with pytest.raises(InputError, match=r"must return \(sample, 2\): arousal, valence; not \(sample, 3\)"):
        predict({"linear": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64, 3))}, faces)
    with pytest.raises(InputError, match=r"must return \(sample, 2\): arousal, valence; not a NoneType"):
        predict({"nothing": Nothing()}, faces)


class Nothing(torch.nn.Module):
    def forward(self, images):
        return None


def test_weights_in_half_precision_or_none_at_all(faces, models):
    half = predict({"a": copy.deepcopy(models["a"]).bfloat16()}, faces)["prediction"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, predict(models, faces)["prediction"].sel(model=["a"]), atol=0.05)
    with pytest.raises(InputError, match="model 'a' has no weights"):
        predict({"a": models["a"].to("meta")}, faces)


def test_faces_that_do_not_fit_are_refused(faces, models):
    models["a"].metadata = {"crop": "upright"}
    with pytest.raises(InputError, match="'a' was trained on faces with the crop 'upright', these have 'face'"):
        predict(models, faces)
    del faces.attrs["crop"]  # not known: not refused
    predict(models, faces)
    with pytest.raises(InputError, match="reads 64x64 pixels, these faces have 32x64"):
        predict(models, faces.isel(y=slice(32)))
    with pytest.raises(ContractError, match="'image' is missing"):
        predict(models, faces.drop_vars("image"))
    with pytest.raises(InputError, match="batch_size is 0"):
        predict(models, faces, batch_size=0)
    with pytest.raises(InputError, match="device 'cuda:99' cannot be used here"):
        predict(models, faces, device="cuda:99")
