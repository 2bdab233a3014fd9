"""`attribute`: stores, interruption, the caller's models, and what it refuses."""

import copy
import itertools
import re

import numpy as np
import oracles
import pytest
import torch
import xarray as xr
from conftest import few_steps, make_faces
from torch import nn
from tqdm.std import tqdm

from fcx.attribution import METHODS, attribute, method, open_results
from fcx.attribution.plan import Plan
from fcx.core.contract import check
from fcx.core.errors import ContractError, InputError, StoreError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.core.store import Store
from fcx.networks.inference import predict


def model(seed=0, **options):
    return oracles.random_facechannel(seed=seed, **options).float()


@pytest.fixture(scope="module")
def small():
    return make_faces(4, seed=1, size=16)


@pytest.fixture(scope="module")
def many():
    """Faces of three blocks, some unusable."""
    faces = make_faces(130, seed=2, size=16)
    status = faces["status"].values.astype(object)
    status[:, 3], status[1, 70] = "no face was found", "the mask did not fit"
    faces["status"] = (("condition", "sample"), status.astype(str))
    return faces


@pytest.fixture
def registered():
    """Let a test add methods."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def same(a, b):
    xr.testing.assert_identical(a[["prediction", "attribution"]].load().drop_attrs(), b.load().drop_attrs())


# --- results ----------------------------------------------------------------------------------


def test_results_keep_the_contract(many):
    models = {"one": model(), "two": model(1, batch_norm=True)}
    results = attribute(models, many)
    assert check(results, "results") is results
    assert results["attribution"].shape == (2, 2, 2, 2, 130, 16, 16)
    assert (results["attribution"].dtype, results["prediction"].dtype) == (np.float32, np.float64)
    assert list(results["model"].values) == ["one", "two"]
    assert list(results["method"].values) == ["lrp_gamma", "gradient"]
    assert list(results["target"].values) == ["arousal", "valence"]
    for name in ("sample", "expression", "subject", "split", "source"):
        np.testing.assert_array_equal(results[name], many[name])
    bad = many["status"].values != "ok"
    assert bad.sum() == 3
    where = xr.DataArray(bad, dims=("condition", "sample"))
    assert (results["attribution"].isnull() == where).all()
    assert (results["prediction"].isnull() == where).all()


@pytest.mark.parametrize("preset", ["paper", "v1"])
def test_predictions_are_those_of_predict(preset, small):
    models = {"m": model(preset=preset)}
    np.testing.assert_allclose(
        attribute(models, small, "gradcam")["prediction"], predict(models, small)["prediction"], rtol=1e-5, atol=1e-7
    )


def test_attributes_say_how_it_was_made(small):
    m = model()
    results = attribute({"m": m}, small, "lrp,gradcam", "valence", shunt_rule="aumann_shapley")
    assert results.attrs["crop"] == "face"
    assert list(nested_attr(results, "methods")) == ["lrp", "gradcam"]
    lrp = nested_attr(results, "methods")["lrp"]
    assert (lrp["signed"], lrp["conserves"], lrp["resolution"]) == (True, True, 1)
    assert lrp["options"]["shunt_rule"] == "aumann_shapley"
    assert nested_attr(results, "methods")["gradcam"] == {
        "signed": False, "conserves": False, "resolution": 8, "relative": False, "caution": METHODS["gradcam"].caution,
        "units": "output units", "title": "Grad-CAM", "shows": "where {} comes from",
        "options": METHODS["gradcam"].options, "layers": {"m": "shunt"},
    }  # fmt: skip
    assert nested_attr(results, "targets") == {"valence": {"weights": {"arousal": 0, "valence": 1}, "reference": 0}}
    assert results.attrs["checkpoints"] == predict({"m": m}, small).attrs["checkpoints"]
    assert nested_attr(results, "provenance")["versions"]["zennit"]
    assert nested_attr(results, "provenance")["dtype"] == "float32"


def test_float64_is_computed_and_stored(small):
    wide, narrow = (attribute({"m": model()}, small, dtype=dtype) for dtype in ("float64", "float32"))
    assert wide["attribution"].dtype == np.float64
    scale = np.abs(wide["attribution"]).max(("sample", "y", "x"))
    error = (np.abs(wide["attribution"] - narrow["attribution"]) / scale).max()
    assert 0 < error < 1e-4


def test_a_new_method_is_one_function_with_one_decorator(registered, small):
    @method("brightness", signed=False, conserves=False, resolution=1)
    def brightness(batch, *, power=1.0, seed=0):
        return (batch.images[:, 0] ** power + seed).expand(len(batch.weights), -1, -1, -1)

    results = attribute({"m": model()}, small, "brightness", power=2.0, seed=3)
    expected = (small["image"].values / 255.0) ** 2 + 3
    np.testing.assert_allclose(results["attribution"].values[0, :, 0, 1], expected, rtol=1e-6)
    assert nested_attr(results, "methods")["brightness"]["options"] == {"power": 2.0, "seed": 3}


# --- stores -----------------------------------------------------------------------------------


def test_a_store_holds_what_memory_holds(many, tmp_path):
    models = {"one": model(), "two": model(1)}
    here = attribute(models, many, "gradcam,gradient")
    there = attribute(models, many, "gradcam,gradient", out=tmp_path / "r.zarr")
    same(there, here)
    same(open_results(tmp_path / "r.zarr"), here)
    assert nested_attr(there, "methods") == nested_attr(here, "methods")
    assert nested_attr(there, "checkpoints") == nested_attr(here, "checkpoints")


@pytest.mark.parametrize("after", [0, 1, 4, 11])
def test_interrupted_then_called_again_equals_uninterrupted(after, many, tmp_path, monkeypatch):
    models, out = {"one": model(), "two": model(1)}, tmp_path / "r.zarr"
    whole = attribute(models, many, "mean_activation,gradcam")
    write, calls = Store.write, itertools.count()

    def interrupted(self, values):
        if next(calls) == after:
            self.group["attribution"][values["attribution"][0]] = 7.0  # half of a block is there
            raise KeyboardInterrupt
        write(self, values)

    monkeypatch.setattr(Store, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attribute(models, many, "mean_activation,gradcam", out=out)
    with pytest.raises(StoreError, match="unfinished"):
        open_results(out)
    monkeypatch.setattr(Store, "write", write)
    explained = []
    monkeypatch.setattr(Plan, "block", spy(Plan.block, explained))
    same(attribute(models, many, "mean_activation,gradcam", out=out), whole)
    assert len(explained) == 12 - after  # 2 models x 2 conditions x 3 blocks, less what was written before
    explained.clear()
    same(attribute(models, many, "mean_activation,gradcam", out=out), whole)
    assert not explained


def spy(function, calls):
    def wrapped(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return wrapped


def test_a_store_of_something_else_is_kept_unless_overwritten(small, tmp_path):
    out, m = tmp_path / "r.zarr", model()
    attribute({"m": m}, small, "lrp", out=out)
    changed = small.copy(deep=True)
    changed["image"][1, 2, 3, 4] += 1
    calls = [
        ({"m": m}, small, "gradient", {}),
        ({"m": m}, small, "lrp", {"shunt_rule": "signal_take_all"}),
        ({"m": m}, small, "lrp", {"dtype": "float64"}),
        ({"m": model(1)}, small, "lrp", {}),
        ({"n": m}, small, "lrp", {}),
        ({"m": m}, changed, "lrp", {}),
        ({"m": m}, small.isel(sample=slice(1, None)), "lrp", {}),
    ]
    for models, faces, name, options in calls:
        with pytest.raises(StoreError, match="other settings or inputs"):
            attribute(models, faces, name, out=out, **options)
    attribute({"m": m}, small, "lrp", out=out, batch_size=2)  # the same but for how it is computed
    assert list(attribute({"m": m}, small, "gradient", out=out, overwrite=True)["method"].values) == ["gradient"]


@pytest.mark.parametrize("options", [{"shunt_rule": "nonsense"}, {"epsilon": -1}])
def test_what_fails_leaves_no_store(options, small, tmp_path):
    with pytest.raises(InputError):
        attribute({"m": model()}, small, out=tmp_path / "r.zarr", **options)
    assert not (tmp_path / "r.zarr").exists()


# --- the caller's model -----------------------------------------------------------------------


class BoomError(Exception):
    """Nothing in fcx knows this."""


def state_of(module):
    """Return everything of a module that a caller could notice, by identity and by value."""
    kept = {"rng": torch.get_rng_state(), "grad": torch.is_grad_enabled(), "threads": torch.get_num_threads()}
    for name, part in module.named_modules():
        hooks = {k: list(v.items()) for k, v in vars(part).items() if "hooks" in k and v is not None}
        kept[name, "module"] = (id(part), part.training, sorted(vars(part)), sorted(part._modules), hooks)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        grad = tensor.grad
        kept[name] = (id(tensor), tensor.data_ptr(), tensor._version, tensor.requires_grad, tensor.stride())
        kept[name, "values"] = tensor.detach().clone()
        kept[name, "grad"] = (id(grad), None if grad is None else grad.clone())
    return kept


def assert_same_state(before, after):
    assert before.keys() == after.keys()
    for key, value in before.items():
        for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (value, after[key])), strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("preset", "training"), [("paper", True), ("v1", True), ("code2020", False)])
def test_the_callers_model_is_untouched(name, preset, training, small):
    theirs = model(preset=preset)
    theirs.train(training)
    theirs.hidden.weight.requires_grad_(False)
    theirs.head.bias.grad = torch.ones(2)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1)
    calls, fail_at = [], [None]

    def count(*_):
        calls.append(1)
        if len(calls) == fail_at[0]:
            raise BoomError

    theirs.head.register_forward_hook(count)
    before = state_of(theirs)
    attribute({"m": theirs}, small, name, **few_steps(name))
    assert_same_state(before, state_of(theirs))
    total = len(calls)
    assert total
    for fail_at[0] in sorted({1, 2, total // 2, total - 1, total} & set(range(1, total + 1))):
        calls.clear()
        with pytest.raises(BoomError):
            attribute({"m": theirs}, small, name, **few_steps(name))
        assert_same_state(before, state_of(theirs))
    assert all(a is b for a, b in zip(optimiser.param_groups[0]["params"], theirs.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_mode_does_not_matter(name, mode, small):
    expected = attribute({"m": model()}, small, name, **few_steps(name))
    with mode():
        made_inside = copy.deepcopy(model())
        for theirs in (model(), made_inside):
            xr.testing.assert_equal(attribute({"m": theirs.train()}, small, name, **few_steps(name)), expected)


def test_other_precisions_and_layouts_of_the_model_do_not_matter(small):
    expected = attribute({"m": model()}, small)
    for theirs in (model().double(), model().to(memory_format=torch.channels_last), model().requires_grad_(False)):
        found = attribute({"m": theirs}, small)
        scale = np.abs(expected["attribution"]).max(("sample", "y", "x"))
        assert (np.abs(found["attribution"] - expected["attribution"]) <= 1e-5 * scale).all()


# --- other modules ----------------------------------------------------------------------------


def test_any_module_has_a_gradient(small):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    results = attribute({"net": net}, small, "gradient")
    expected = net[1].weight.detach().view(2, 1, 16, 16).expand(2, 4, 16, 16)
    np.testing.assert_allclose(results["attribution"][0, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(results["prediction"], predict({"net": net}, small)["prediction"], rtol=1e-5)


@pytest.mark.parametrize("name", ["mean_activation"])
def test_what_only_a_facechannel_has_is_said(name, small):
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with pytest.raises(InputError, match=f"{name!r} explains a FaceChannel, and model 'net' is a Sequential.*gradient"):
        attribute({"m": model(), "net": net}, small, name)


class Unruly(nn.Module):
    """A module that answers with whatever it is told."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda x: x.mean((1, 2, 3)), r"must return \(sample, 2\): arousal, valence; not \(sample,\)"),
        (lambda x: x.mean((1, 2, 3))[:, None].expand(-1, 8), r"not \(sample, 8\)"),
        (lambda x: {"valence": x}, "not a dict"),
        (lambda x: x.mean((1, 2, 3))[:, None].expand(-1, 2) * torch.nan, "NaN or infinity"),
        (nn.Linear(5, 2), "cannot read faces"),
        (nn.Conv2d(3, 2, 3), "cannot read faces"),
    ],
)
def test_modules_that_do_not_fit_are_refused(answer, text, small, tmp_path):
    with pytest.raises(InputError, match=text):
        attribute({"odd": Unruly(answer)}, small, "gradient", out=tmp_path / "r.zarr")
    assert not (tmp_path / "r.zarr").exists()


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"methods": "gradcma"}, UnknownNameError, "unknown method 'gradcma': did you mean 'gradcam'"),
        ({"methods": "GradientShap"}, UnknownNameError, "did you mean 'expected_gradients'"),
        ({"methods": []}, InputError, "at least one"),
        ({"methods": ["lrp", "lrp"]}, InputError, "each once"),
        ({"targets": "valance"}, UnknownNameError, "did you mean 'valence'"),
        ({"dtype": "float16"}, UnknownNameError, "unknown dtype"),
        ({"batch_size": 0}, InputError, "batch_size is 0"),
        ({"batch_size": 1.5}, InputError, "batch_size is 1.5"),
        ({"device": "gpu"}, InputError, "device 'gpu' cannot be used here"),
        ({"shunt_rle": "aumann_shapley"}, UnknownNameError, "did you mean 'shunt_rule'"),
    ],
)
def test_wrong_arguments(options, error, text, small):
    with pytest.raises(error, match=re.escape(text)):
        attribute({"m": model()}, small, **options)


def test_a_module_that_cannot_be_copied_is_refused(small):
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    net.cache = net[1].weight * 2  # a tensor with a history
    with pytest.raises(InputError, match="'net' cannot be copied"):
        attribute({"net": net}, small, "gradient")


def test_unknown_models(small):
    with pytest.raises(InputError, match="plain_scratch"):
        attribute("plain_scrach", small)
    with pytest.raises(InputError, match="model"):
        attribute({}, small)
    with pytest.raises(InputError, match="'m' has no weights"):
        attribute({"m": model().to("meta")}, small)


def test_faces_that_cannot_be_explained(small):
    m = model()
    with pytest.raises(InputError, match="`sample` is empty"):
        attribute({"m": m}, small.isel(sample=[]))
    lost = small.assign(status=(("condition", "sample"), np.full((2, 4), "no face was found")))
    with pytest.raises(InputError, match="no face was found"):
        attribute({"m": m}, lost)
    with pytest.raises(ContractError, match="'image' is float32"):  # where alone a NaN could be
        attribute({"m": m}, small.assign(image=small["image"].astype("f4") * np.nan))
    with pytest.raises(ContractError, match="'image' is missing"):
        attribute({"m": m}, small.drop_vars("image"))
    with pytest.raises(InputError, match="32x32 pixels, these faces have 16x16"):
        attribute({"m": model(size=32)}, small)


def test_another_crop_rule_is_refused(small):
    m = model()
    m.metadata = {"crop": "whole"}
    with pytest.raises(InputError, match="'m' was trained on faces with the crop 'whole', these have 'face'"):
        attribute({"m": m}, small)
    m.metadata = {"crop": "face"}
    assert attribute({"m": m}, small, "gradcam").sizes["model"] == 1


def test_weights_that_are_not_finite_are_refused(small):
    m = model()
    with torch.no_grad():
        m.head.bias[1] = torch.nan
    with pytest.raises(InputError, match="'m' answers with NaN"):
        attribute({"m": m}, small)


def test_long_runs_show_a_bar_on_stderr(small, monkeypatch, capsys):
    attribute({"m": model()}, small, "gradcam")
    assert capsys.readouterr() == ("", "")

    class Impatient(tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "delay": 0})

    monkeypatch.setattr("tqdm.std.tqdm", Impatient)
    attribute({"m": model()}, small, "gradcam")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search("attribute: .*/8 ", err)


class Regressor(nn.Module):
    """A convolutional network that is no FaceChannel: batch norm, dropout, a functional ReLU, its own pooling."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm = nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.BatchNorm2d(6)
        self.second, self.drop, self.out = nn.Conv2d(6, 4, 3, padding=1), nn.Dropout(0.5), nn.Linear(4, 2)
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, images):
        maps = self.second(nn.functional.relu(self.norm(self.first(images))))
        return self.out(self.drop(nn.functional.adaptive_avg_pool2d(maps.tanh(), 1).flatten(1)))


@pytest.mark.parametrize("state", ["train", "float64", "channels_last", "frozen"])
def test_a_convolutional_regressor_in_any_state(state, small):
    reference, theirs = Regressor().double().eval(), Regressor()
    theirs = {
        "train": theirs.train,
        "float64": theirs.double,
        "channels_last": lambda: theirs.to(memory_format=torch.channels_last),
        "frozen": lambda: theirs.requires_grad_(False),
    }[state]()
    results = attribute({"net": theirs}, small, "gradient", ["arousal", "valence", "valence - arousal"])
    images = (torch.from_numpy(small["image"].values[1]).double()[:, None] / 255).requires_grad_()
    outputs = reference(images)
    slopes = [torch.autograd.grad(outputs[:, o].sum(), images, retain_graph=True)[0][:, 0].numpy() for o in (0, 1)]
    found = results["attribution"].values[0, 1, 0]
    for maps, expected in zip(found, [*slopes, slopes[1] - slopes[0]], strict=True):
        np.testing.assert_allclose(maps, expected, atol=2e-6 * np.abs(expected).max() + 1e-9)
    np.testing.assert_allclose(results["prediction"].values[0, 1, :2], outputs.detach().T, atol=1e-6)


def test_a_regressor_without_weights_is_refused(small):
    with pytest.raises(InputError, match="'net' has no weights"):
        attribute({"net": Regressor().to("meta")}, small, "gradient")
