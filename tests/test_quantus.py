"""Beside Quantus 0.6: equal where it is right for a regression, and where it is not, shown.

Quantus is for classification; each test of the second half states what goes wrong with two regression outputs, with
faces in batches, or with a region that covers nothing, and that fcx gives the right answer.
"""

import copy
import warnings

import numpy as np
import oracles
import pytest
import torch
from conftest import make_faces

from fcx.attribution.batch import Batch, Subject
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.registry import METHODS
from fcx.faithfulness import randomisation, removal
from fcx.faithfulness.measurement import faithfulness_scores
from fcx.faithfulness.measures import MEASURES, MeasureOptions, Scene, Trial
from fcx.statistics.map_scores import score_maps

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its own imports warn of
    quantus = pytest.importorskip(
        "quantus", reason="Quantus is not installed: make .venv/installed-bench", exc_type=ImportError
    )
    from quantus.functions.perturb_func import noisy_linear_imputation
    from quantus.helpers.model.pytorch_model import PyTorchModel

pytestmark = pytest.mark.filterwarnings("ignore")  # Quantus warns of nearly everything that it does
SIZE, FACES, OUTPUT = 16, 4, 0  # arousal, which this model answers above 0
QUIET = {"disable_warnings": True, "display_progressbar": False}


@pytest.fixture(scope="module")
def model():
    return oracles.random_facechannel(seed=3, size=SIZE).float()


@pytest.fixture(scope="module")
def trial(model):
    """Gradients of four faces whose greys keep clear of 0 and 1, because Quantus does not clip what it perturbs."""
    faces = make_faces(FACES, seed=1, size=SIZE)
    faces["image"] = (faces["image"] // 2 + 64).astype("u1")
    images = torch.from_numpy(faces["image"].values[0]).float()[:, None] / 255
    settings = MeasureOptions(fills=("black",), steps=8, perturbations=3, stages=99, bins=100, radius=0.1)
    batch = Batch(Subject("m", copy.deepcopy(model)), images, reader=FaceReader(faces), condition="plain")
    scene = Scene(batch, settings)
    return Trial(scene, METHODS["gradient"].function, {})


@pytest.fixture(scope="module")
def given(trial):
    """What Quantus takes: pictures, one output for each and maps, with the explanation as a function."""
    pictures = trial.images.numpy()

    def explain(model, inputs, targets, **_):
        batch = Batch(Subject("q", model), torch.as_tensor(inputs, dtype=torch.float32))
        return trial.function(batch, **trial.options).detach()[OUTPUT][:, None].numpy()

    return {
        "x_batch": pictures, "y_batch": np.full(FACES, OUTPUT), "a_batch": trial.maps[OUTPUT][:, None].numpy(),
        "channel_first": True, "explain_func": explain, "softmax": False,
    }  # fmt: skip


def test_deletion_curves_are_those_of_pixel_flipping_where_its_softmax_is_off(model, trial, given):
    step = SIZE**2 // 8
    flipped = quantus.PixelFlipping(features_in_step=step, perturb_baseline=0.0, normalise=False, abs=False, **QUIET)
    theirs = np.array(flipped(model=model, **{**given, "x_batch": given["x_batch"].copy()}))
    ours = removal.map_curves(trial, "black", absolute=False)[0][OUTPUT].numpy()
    np.testing.assert_allclose(ours[:, 1:], theirs, rtol=1e-4, atol=1e-7)  # its curve lacks the face as it is


def test_imputation_is_that_of_road(trial):
    rng = np.random.default_rng(0)
    for picture in trial.images[:, 0].double().numpy():
        gone = rng.permutation(SIZE**2)[: int(rng.integers(1, SIZE**2 - 1))]
        mask = np.zeros((SIZE, SIZE), bool)
        mask.ravel()[gone] = True
        theirs = noisy_linear_imputation(picture[None], gone, noise=0.0)[0]
        np.testing.assert_allclose(removal.linear_imputation(picture, mask), theirs, atol=1e-10)


def test_sensitivity_is_the_same_for_the_same_perturbations(model, trial, given):
    noises = iter([trial.draw(f"noise {i}", lambda rng: rng.uniform(-0.1, 0.1, (SIZE, SIZE))) for i in range(3)])

    def perturb(arr, indices, **_):
        return arr + next(noises).reshape(FACES, -1).numpy()

    measured = quantus.MaxSensitivity(nr_samples=3, perturb_func=perturb, normalise=False, **QUIET)
    theirs = measured(model=model, **given)
    ours = MEASURES["relative_sensitivity"].function(trial)["relative_sensitivity"][OUTPUT]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


@pytest.fixture
def same_ruins(monkeypatch, trial):
    """Quantus with the random models of fcx."""
    found = randomisation.cascade(trial.batch.subject.model, 99, trial.settings.seed)
    monkeypatch.setattr(PyTorchModel, "random_layer_generator_length", property(lambda self: len(found)))
    monkeypatch.setattr(
        PyTorchModel, "get_random_layer_generator", lambda self, order, seed: iter((n, s.model) for n, s in found)
    )
    return [name for name, _ in found]


def test_randomisation_scores_are_the_same_for_the_same_random_models(model, trial, given, same_ruins):
    ours = MEASURES["randomisation"].function(trial)
    for suffix, absolute in (("", False), ("_absolute", True)):
        options = {"similarity_func": quantus.similarity_func.correlation_spearman, "normalise": False, "abs": absolute}
        theirs = quantus.MPRT(**options, **QUIET)(model=model, **given)
        stages = np.array([theirs[name] for name in same_ruins])
        np.testing.assert_allclose(ours[f"randomisation{suffix}"][OUTPUT], stages.mean(0), atol=1e-5)
        np.testing.assert_allclose(ours[f"randomisation_all{suffix}"][OUTPUT], stages[-1], atol=1e-5)


def test_efficient_randomisation_is_the_same_for_the_same_random_models(model, trial, given, same_ruins):
    rise = quantus.EfficientMPRT(normalise=False, abs=False, complexity_func_kwargs={"n_bins": 100}, **QUIET)
    theirs = rise(model=model, **{**given, "softmax": True})  # its entropy of the outputs takes no negative ones
    ours = MEASURES["efficient_randomisation"].function(trial)["efficient_randomisation"][OUTPUT]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


# --- where Quantus is not right for this case ------------------------------------------------------


def test_wrong_by_default_two_outputs_are_made_into_probabilities_of_each_other(model, given):
    """PixelFlipping's default applies a softmax: a curve of valence then moves with arousal, and has no units."""
    flipping = quantus.PixelFlipping(features_in_step=32, perturb_baseline=0.0, normalise=False, abs=False, **QUIET)
    default = {name: value for name, value in given.items() if name != "softmax"}
    curves = np.array(flipping(model=model, **default))
    assert ((curves > 0) & (curves < 1)).all()
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.head.bias[1 - OUTPUT] += 1.0  # arousal only: what is asked about valence has not changed
    assert np.abs(np.array(flipping(model=moved, **default)) - curves).max() > 0.1
    plain = [np.array(flipping(model=m, **given)) for m in (model, moved)]
    np.testing.assert_allclose(*plain, atol=1e-6)  # as in fcx, which never takes one


def test_wrong_pixels_of_equal_value_go_down_the_picture_row_by_row(trial, given, model):
    """A map of one value but for one pixel: Quantus removes the top of the picture first; fcx draws at random."""
    seen, flat = [], np.ones_like(given["a_batch"])
    flat[..., -1, -1] = 0.5
    flipping = quantus.PixelFlipping(
        features_in_step=SIZE, normalise=False, abs=False, **QUIET,
        perturb_func=lambda arr, indices, **_: (seen.append(indices.copy()), arr * 0.99)[1],
    )  # fmt: skip
    flipping(model=model, **{**given, "a_batch": flat})
    assert (np.sort(seen[0], axis=1) == np.arange(SIZE)).all()  # the first row
    order = removal.removal_order(trial.scene, torch.ones(1, FACES, SIZE, SIZE))
    assert (order[0, :, :SIZE] < SIZE).double().mean() < 0.3


def test_wrong_completeness_compares_floats_with_equality():
    """input x gradient of a linear model sums to f - f(0) but for rounding: Quantus says it is not complete."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIZE**2, 2, bias=False)).eval()
    x = np.random.default_rng(0).random((32, 1, SIZE, SIZE), "f4")
    maps = x * layer[1].weight.detach().numpy()[OUTPUT].reshape(SIZE, SIZE)
    found = quantus.Completeness(normalise=False, abs=False, perturb_baseline=0.0, **QUIET)(
        model=layer, x_batch=x, y_batch=np.full(32, OUTPUT), a_batch=maps, channel_first=True, softmax=False
    )
    assert not all(found)
    faces = make_faces(32, size=SIZE)
    scores = faithfulness_scores({"m": layer}, faces, "input_x_gradient", "completeness", count=None, draws=10)
    left = scores["value"].sel({"method": "input_x_gradient"})
    assert float(np.abs(left).max()) < 1e-5  # in fcx a residual in output units, which the reader may judge


def localisation(metric, maps, regions):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIZE**2, 2)).eval()
    x = np.random.default_rng(0).random(maps.shape, "f4")
    return metric(model=model, x_batch=x, y_batch=np.zeros(len(x), int), a_batch=maps, s_batch=regions,
                  channel_first=True, softmax=False)  # fmt: skip


def test_wrong_the_weighted_localisation_of_a_face_depends_on_the_batch_around_it():
    """AttributionLocalisation takes the size of a picture from `x_batch[2:].size`: that of the other faces."""
    maps = np.random.default_rng(0).random((8, 1, SIZE, SIZE))
    regions = np.zeros_like(maps, bool)
    regions[:, :, :4] = True
    found = []
    for count in (4, 8):
        metric = quantus.AttributionLocalisation(weighted=True, normalise=False, abs=True, **QUIET)
        found.append(float(localisation(metric, maps[:count], regions[:count])[0]))
    assert found[0] == pytest.approx(3 * found[1])  # 2 other faces against 6, for the same face
    ours = [score_maps(maps[:count, 0], regions[:count].astype(float))["density"][0, 0] for count in (4, 8)]
    assert ours[0] == ours[1] == pytest.approx(maps[0, 0, :4].sum() / maps[0, 0].sum() * 4)


def test_wrong_a_region_that_covers_nothing_is_a_hit():
    """PointingGame writes NaN into an array of booleans, where it becomes True."""
    maps = np.random.default_rng(0).random((2, 1, SIZE, SIZE))
    regions = np.zeros_like(maps, bool)
    regions[1, :, 0, 0] = True
    metric = quantus.PointingGame(normalise=False, abs=True, **QUIET)
    assert bool(localisation(metric, maps, regions)[0]) is True
    ours = score_maps(maps[:, 0], regions.astype(float))
    assert all(np.isnan(values[0, 0]) for values in ours.values())


def test_wrong_a_face_that_pushes_an_output_down_is_refused(model, given):
    """Maps of an output below 0 may be negative everywhere: right for a regression, and Quantus stops there."""
    flipping = quantus.PixelFlipping(features_in_step=32, perturb_baseline=0.0, normalise=False, abs=False, **QUIET)
    with pytest.raises(AssertionError, match="should not all be less than zero"):
        flipping(model=model, **{**given, "a_batch": -np.abs(given["a_batch"]) - 1e-9})


def test_wrong_road_counts_classes_and_keeps_the_first_batch_only(model, given):
    """ROAD scores argmax(outputs) == label, and of several batches reports the first: other faces do not count."""
    road = {}
    for count, size in ((2, 2), (FACES, 2)):
        metric = quantus.ROAD(percentages=[20, 60], noise=0.0, normalise=False, abs=False, **QUIET)
        some = {n: v[:count] if isinstance(v, np.ndarray) else v for n, v in given.items()}
        road[count] = metric(model=model, batch_size=size, **some)
    assert road[2] == road[FACES]  # two faces more, in a second batch, change nothing
    assert all(value in (0, 0.5, 1) for value in road[FACES].values())  # shares of a class that is not there


def test_wrong_the_average_of_the_randomisation_test_includes_the_map_itself(model, given, same_ruins):
    """MPRT looks for the key "orig" and stores "original": a 1 is averaged in, and an ideal method scores above 0."""
    options = {"similarity_func": quantus.similarity_func.correlation_spearman, "normalise": False, **QUIET}
    stages = quantus.MPRT(**options)(model=model, **given)
    mean = quantus.MPRT(return_average_correlation=True, **options)(model=model, **given)
    right = np.mean([stages[name] for name in same_ruins], axis=0)
    np.testing.assert_allclose(mean, (right * len(same_ruins) + 1) / (len(same_ruins) + 1), atol=1e-6)


def test_wrong_random_layers_of_one_shape_become_equal_and_decays_stay_trained(model):
    """Every layer is drawn with one seed: the inhibitory twin becomes its excitatory one, and u / (a + I) is flat."""
    wrapped = PyTorchModel(copy.deepcopy(model), channel_first=True)
    state = torch.random.get_rng_state()
    *_, (_, ruined) = wrapped.get_random_layer_generator(order="top_down", seed=42)  # one module, changed in place
    torch.random.set_rng_state(state)
    assert torch.equal(ruined.conv10.weight, ruined.inhibitory.weight)
    assert torch.equal(ruined.shunt.rho, model.shunt.rho)
    *_, (_, ours) = randomisation.cascade(model, 99, seed=42)
    assert not torch.equal(ours.model.conv10.weight, ours.model.inhibitory.weight)
    assert not torch.equal(ours.model.shunt.rho, model.shunt.rho)
