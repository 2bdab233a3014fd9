"""The checkpoints that ship: what they are, and that their model card says what their files say."""

import re
from pathlib import Path

import numpy as np
import pytest

from fcx.attribution import METHODS, attribute
from fcx.core.contract import FAMILIES, TARGETS, family_and_seed
from fcx.networks.checkpoints import load_model, read_metadata
from fcx.networks.inference import predict
from fcx.networks.shipped_networks import all_seeds, shipped
from fcx.studies import read_study
from fcx.studies.contrasts import drawn_scores
from fcx.studies.study_tables import table3

NAMES = list(shipped())
CARD = Path(__file__).parent.parent / "checkpoints" / "README.md"


def test_networks_ship_and_load():
    assert {family_and_seed(name)[0] for name in NAMES} >= set(FAMILIES)
    for name, path in shipped().items():
        model = load_model(name)
        assert sum(p.numel() for p in model.parameters()) == 437_010
        assert path.stat().st_size < 1_900_000
        assert not model.training
        assert (model.shunt.decay > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_metadata_says_how_each_was_made(name):
    metadata = read_metadata(shipped()[name])
    assert metadata["crop"] == "face"
    assert metadata["mask"]["style"] == "mixed"
    assert metadata["mask"]["fit"] == "rigid"
    family, seed = family_and_seed(name)
    assert metadata["seed"] == seed
    condition, scheme = ("plain", "scratch") if family == "shuffled" else family.split("_", 1)
    assert metadata["condition"] == condition
    assert metadata["scheme"] == re.sub(r"_\d+$", "", scheme)  # masked_scratch_16: of sixteen epochs
    assert metadata["data"]["labels"].startswith("shuffled") == (family == "shuffled")
    assert len(metadata["history"]) == metadata["epochs"]
    if name.startswith("masked") and metadata["scheme"] != "scratch":
        assert metadata["start"]["sha256"] == read_metadata(shipped()[f"plain_scratch-{seed + 1}"])["sha256"]


def test_the_network_for_plain_faces_reaches_the_prototype():
    scores = read_metadata("plain_scratch")["scores"]["validation"]["plain"]
    assert min(scores[target]["ccc"] for target in TARGETS) >= 0.85


def test_fine_tuning_the_last_convolution_leaves_the_trunk():
    plain, tuned = load_model("plain_scratch").state_dict(), load_model("masked_last_conv").state_dict()
    for name, value in plain.items():
        assert (value == tuned[name]).all() == name.startswith("trunk."), name


@pytest.mark.parametrize("name", NAMES)
def test_the_model_card_repeats_the_scores_of_the_files(name):
    scores = read_metadata(shipped()[name])["scores"]["validation"]
    cells = [
        f"{s['ccc']:.2f} [{s['low']:.2f}, {s['high']:.2f}]"
        for s in (scores[condition][target] for condition in ("plain", "masked") for target in TARGETS)
    ]
    assert f"| `{name}` | {' | '.join(cells)} |" in CARD.read_text(encoding="utf-8")


def test_the_model_card_says_what_families_reach_by_the_scores_that_ship():
    study = read_study(CARD.parent / "scores")
    for name in ("validation", "demo"):
        scores = study.scores[name, "table2"]
        assert set(all_seeds()) <= set(scores["model"].values.tolist())
        table = table3(drawn_scores(scores)).set_index(["family", "condition", "target"])
        for family in FAMILIES:
            rows = [table.loc[family, condition, target] for condition in ("plain", "masked") for target in TARGETS]
            cells = [f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in rows]
            assert f"| `{family}` | {' | '.join(cells)} |" in CARD.read_text(encoding="utf-8")


def test_the_model_card_measures_the_demo_faces_with_the_masks_of_the_trainings():
    [style] = {read_metadata(path)["mask"]["style"] for path in shipped().values()}
    demo_scores = CARD.read_text(encoding="utf-8").split("The demo set")[1]
    assert f"fcx prepare demo demo.zarr --style {style} " in demo_scores
    assert f"masks of the style\n`{style}`" in demo_scores


def test_outputs_on_real_faces_differ_by_model_and_condition(demo):
    predicted = predict(None, demo)["prediction"]
    assert np.isfinite(predicted).all()
    assert (np.abs(predicted.sel(condition="plain") - predicted.sel(condition="masked")).mean("sample") > 0.01).all()
    assert (np.abs(predicted) < 1.5).all()


def test_the_ledger_closes_on_every_map_of_what_ships(demo):
    rules = [name for name in METHODS if name.startswith("lrp")]
    results = attribute(None, demo, rules, "arousal,valence,valence - arousal")
    assert results.sizes["model"] == len(FAMILIES)
    maps, bias, stabiliser, output = (
        results[name].astype(np.float64) for name in ("attribution", "bias", "stabiliser", "prediction")
    )
    error = abs(maps.sum(("y", "x")) + bias + stabiliser - output)
    assert (error <= 1e-5 * abs(maps).sum(("y", "x"))).all()
