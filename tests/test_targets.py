"""Targets: what a text means, what is refused, and what follows for maps, predictions and scores."""

import copy
import math
import re

import numpy as np
import oracles
import pytest
import torch
from conftest import make_faces
from torch import nn

from fcx import figures
from fcx.attribution import METHODS, attribute
from fcx.core.errors import InputError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.core.targets import parse, parse_all, ratings
from fcx.statistics.agreement import evaluate
from fcx.statistics.comparison import compare
from fcx.statistics.concordance import ccc
from fcx.statistics.region_mass import region_statistics


@pytest.fixture(scope="module")
def small():
    return make_faces(5, seed=1, size=16)


@pytest.fixture(scope="module")
def network():
    return oracles.random_facechannel(seed=0).float()


@pytest.mark.parametrize(
    ("text", "arousal", "valence", "reference"),
    [
        ("arousal", 1, 0, 0),
        (" valence ", 0, 1, 0),
        ("-valence", 0, -1, 0),
        ("+ valence", 0, 1, 0),
        ("valence - arousal", -1, 1, 0),
        ("valence-arousal", -1, 1, 0),
        ("0.5*valence + arousal", 1, 0.5, 0),
        (".5 * valence - 2e-1*arousal + 1.*arousal", 0.8, 0.5, 0),
        ("valence @ 0.2", 0, 1, 0.2),
        ("valence - arousal@-.25", -1, 1, -0.25),
        ("excitement", math.sqrt(0.5), math.sqrt(0.5), 0),
        ("distress", math.sqrt(0.5), -math.sqrt(0.5), 0),
        ("depression", -math.sqrt(0.5), -math.sqrt(0.5), 0),
        ("relaxation", -math.sqrt(0.5), math.sqrt(0.5), 0),
        ("2*excitement - valence", math.sqrt(2), math.sqrt(2) - 1, 0),
    ],
)
def test_what_a_text_means(text, arousal, valence, reference):
    target = parse(text)
    assert target.weights == pytest.approx((arousal, valence), abs=1e-15)
    assert (target.reference, target.name) == (reference, text.strip())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it names no output"),
        ("@ 0.2", "it names no output"),
        ("valence arousal", "'+' or '-' is missing before 'arousal'"),
        ("valence -", "a name is missing"),
        ("2 valence", "a number stands before '*'"),
        ("2", "a number stands before '*'"),
        ("2*3", "a name is missing"),
        ("valence * 2", "'+' or '-' is missing before '*'"),
        ("valence @", "after '@' stands one number"),
        ("valence @ arousal", "after '@' stands one number"),
        ("valence @ 0.2 + arousal", "after '@' stands one number"),
        ("valence @@ 1", "after '@' stands one number"),
        ("valence / 2", "'/' cannot stand in it"),
        ("(valence)", "'(' cannot stand in it"),
        ("valence - valence", "always 0"),
        ("0*valence", "always 0"),
        ("1e999*valence", "too large"),
        ("1e308*valence+1e308*valence", "1e308 is too large, allowed are numbers up to 1e+09"),
        ("1e39*valence", "too large"),
        ("valence @ 1e300", "too large"),
        ("1e-320*valence", "always 0"),
        ("0.1*valence + 0.2*valence - 0.3*valence", "always 0"),
        ("__import__('os').system('true')", "unknown target '__import__'|cannot stand in it"),
        (0, "a target is a text"),
    ],
)
def test_what_is_no_target(text, says):
    with pytest.raises(InputError, match=re.escape(says) if "|" not in says else says):
        parse(text)


def test_a_name_nearly_right_is_suggested():
    with pytest.raises(UnknownNameError, match="unknown target 'excited': did you mean 'excitement'"):
        parse("excited - valence")


def test_the_same_operator_twice_is_refused():
    assert [t.name for t in parse_all("valence, valence @ 0.1")] == ["valence", "valence @ 0.1"]
    for given in ("valence, 1*valence", ["valence - arousal", "-arousal+valence"], [], "arousal,arousal"):
        with pytest.raises(InputError, match="each once"):
            parse_all(given)


def test_ratings_are_nan_only_where_a_needed_one_is(small):
    faces = small.copy(deep=True)
    faces["arousal"][2] = np.nan
    np.testing.assert_array_equal(ratings(faces, "valence"), faces["valence"])
    expected = 0.5 * faces["valence"] - faces["arousal"]
    np.testing.assert_allclose(ratings(faces, "0.5*valence - arousal @ 0.3"), expected, rtol=1e-6)


# --- maps and predictions ---------------------------------------------------------------------

LINEAR = ("gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "lrp", "occlusion")


@pytest.mark.parametrize("name", LINEAR)
def test_maps_of_linear_methods_add_up(name, small, network):
    """Both sides are computed by the method; what is linear in the output must be linear in the target."""
    targets = ["arousal", "valence", "0.5*valence - 2*arousal", "excitement"]
    results = attribute({"m": network}, small, name, targets, dtype="float64")
    arousal, valence, mixed, excited = results["attribution"].transpose("target", ...).values
    scale = np.abs(results["attribution"]).max().item()
    np.testing.assert_allclose(mixed, 0.5 * valence - 2 * arousal, atol=1e-9 * scale)
    np.testing.assert_allclose(excited, (valence + arousal) / math.sqrt(2), atol=1e-9 * scale)
    p = results["prediction"].transpose("target", ...).values
    np.testing.assert_allclose(p[2], 0.5 * p[1] - 2 * p[0], atol=1e-12)


def test_gradcam_of_an_expression_is_that_of_a_network_with_this_output(small, network):
    other = copy.deepcopy(network).double()
    with torch.no_grad():
        for tensor in (other.head.weight, other.head.bias):
            tensor[0] = tensor[1] - tensor[0]
    found = attribute({"m": network}, small, "gradcam", "valence - arousal", dtype="float64")["attribution"]
    expected = attribute({"m": other}, small, "gradcam", "arousal", dtype="float64")["attribution"]
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-9 * expected.max().item())


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.relative])
def test_a_reference_changes_only_what_says_so(name, small, network):
    faces = small.isel(sample=[0])
    results = attribute({"m": network}, faces, name, "valence, valence @ 0.4")
    plain, referred = results["attribution"].transpose("target", ...).values
    np.testing.assert_array_equal(plain, referred)
    plain, referred = results["prediction"].transpose("target", ...).values
    np.testing.assert_array_equal(plain, referred)
    assert nested_attr(results, "targets")["valence @ 0.4"]["reference"] == 0.4
    assert not nested_attr(results, "methods")[name]["relative"]


def test_order_and_company_of_targets_do_not_matter(small, network):
    alone = attribute({"m": network}, small, "gradient", "valence - arousal")["attribution"]
    among = attribute({"m": network}, small, "gradient", ["excitement", "arousal", "valence - arousal"])["attribution"]
    np.testing.assert_allclose(among.sel(target=["valence - arousal"]), alone, rtol=1e-5, atol=1e-9)


def test_any_module_has_targets(small):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    found = attribute({"net": net}, small, "gradient", "valence - arousal")["attribution"][0, 0, 0, 0]
    weight = net[1].weight.detach()
    np.testing.assert_allclose(found, (weight[1] - weight[0]).view(1, 16, 16).expand(5, 16, 16), rtol=1e-5, atol=1e-7)


# --- what comes after -------------------------------------------------------------------------


def test_scores_statistics_and_figures_take_expressions(small, network):
    targets = ["valence - arousal", "excitement"]
    results = attribute({"a": network, "b": oracles.random_facechannel(seed=1).float()}, small, "gradient", targets)
    truth = (small["valence"] - small["arousal"]).values.astype(float)
    expected = ccc(results["prediction"][:, :, 0].values, truth)
    np.testing.assert_allclose(evaluate(results, small, draws=10)["ccc"].isel(target=0), expected, rtol=1e-5)
    assert list(region_statistics(results, small, draws=10)["target"].values) == targets
    assert list(compare(results, small, {"model": "a"}, {"model": "b"}, draws=50)["target"].values) == targets
    panel = figures.saliency_panel(small, results, method="gradient", target="valence - arousal", count=2)
    assert panel.layout.meta["name"] == "saliency_gradient_valence - arousal"
    scatter = figures.prediction_scatter(results, small, target="valence - arousal")
    np.testing.assert_allclose(sorted(scatter.data[0].x), sorted(truth), atol=1e-6)


def test_a_target_without_ratings_is_refused(small, network):
    results = attribute({"m": network}, small, "gradient")
    with pytest.raises(UnknownNameError, match="unknown target 'dominance'"):
        evaluate(results.assign_coords(target=["arousal", "dominance"]), small, draws=10)
