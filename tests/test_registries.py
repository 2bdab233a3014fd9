"""A new entry of a registry is one function: names, help, errors, figures, statistics and worker processes know it."""

import re
import sys

import numpy as np
import pytest
import torch
import toys
import xarray as xr
from torch import nn
from typer.testing import CliRunner

import fcx
from fcx import figures
from fcx.attribution import METHODS, method
from fcx.attribution.fills import FILLS, fill
from fcx.attribution.lrp_rules import (
    CONVOLUTION_RULES,
    FIRST_RULES,
    SHUNT_RULES,
    convolution_rule,
    first_rule,
    shunt_rule,
)
from fcx.cli import app
from fcx.core.checks import ELSEWHERE
from fcx.core.errors import UnknownNameError
from fcx.core.rooms import load_modules
from fcx.datasets import ADAPTERS, Record, adapter
from fcx.masks import STYLES, style
from fcx.statistics.overlays import OVERLAYS, overlay

REGISTRIES = (METHODS, CONVOLUTION_RULES, FIRST_RULES, SHUNT_RULES, FILLS, STYLES, ADAPTERS, OVERLAYS)


@pytest.fixture
def toy():
    """Register one of each, and forget them afterwards."""
    before = [dict(registry) for registry in REGISTRIES]
    convolution_rule(toys.steep)
    first_rule(toys.everywhere)
    shunt_rule(toys.half_taken)
    fill(toys.halftone)
    method("toy_lrp", title="Toy LRP", signed=True, conserves=True, resolution=1, extras=("bias", "stabiliser"))(
        toys.toy_lrp
    )
    overlay("upper_half")(toys.upper_half)
    style("toy_cloth", shape="pleated", colours=("blue", "white"))(toys.checked_cloth)

    @adapter("toy_set", takes=None)
    def open_toy_set(path, count=3):
        return [Record(id=f"toy{i}", read=np.zeros((64, 64, 3), np.uint8).copy) for i in range(count)]

    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def help_of(command):
    return " ".join(CliRunner().invoke(app, [command, "--help"]).output.split())


def test_the_help_of_commands_names_them(toy):
    assert "toy_lrp" in help_of("attribute")
    assert "half_taken" in help_of("attribute")
    assert "toy_lrp" in help_of("predict")
    assert "toy_cloth" in help_of("mask")
    assert "toy_set" in help_of("prepare")


def test_errors_name_them(toy, faces):
    with pytest.raises(UnknownNameError, match="did you mean 'toy_lrp'"):
        fcx.attribute("plain_scratch", faces, "toy_lpr")
    with pytest.raises(UnknownNameError, match="did you mean 'half_taken'"):
        fcx.attribute("plain_scratch", faces, "lrp", shunt_rule="half_take")
    with pytest.raises(UnknownNameError, match="did you mean 'toy_cloth'"):
        fcx.prepare("demo", style="toy_cloht")
    results = fcx.attribute("plain_scratch", faces, "toy_lrp")
    with pytest.raises(UnknownNameError, match=r"allowed: .*toy_lrp"):
        figures.saliency_panel(faces, results, method="lrp", target="arousal")


def test_statistics_figures_and_workers_know_them(toy, faces):
    alone = fcx.attribute("plain_scratch", faces, "toy_lrp", store="int8")
    shared = fcx.attribute("plain_scratch", faces, "toy_lrp", store="int8", workers=2, batch_size=2)
    np.testing.assert_array_equal(shared["share"].values, alone["share"].values)
    np.testing.assert_array_equal(shared["attribution"].values, alone["attribution"].values)
    table = fcx.region_statistics(alone, faces, draws=20)
    assert list(table["region"].values[-3:]) == ["mask", "uncovered", "upper_half"]
    whole = fcx.attribute("plain_scratch", faces, "toy_lrp")
    maps = np.abs(whole["attribution"].values.astype(float))
    upper = maps[..., :32, :].sum((-2, -1)) / maps.sum((-2, -1))
    exact = fcx.region_statistics(whole, faces, draws=20)["share"].sel(region="upper_half")
    np.testing.assert_allclose(exact.values, upper, rtol=1e-6)
    chart = figures.region_chart(table, method="toy_lrp")
    assert chart.meta["title"].startswith("Toy LRP")
    assert "upper_half" in set(chart.meta["table"]["region"])
    sides = [{"model": "plain_scratch", "condition": condition} for condition in ("masked", "plain")]
    assert "upper_half" in fcx.compare(table, faces, *sides, quantity="enrichment", draws=20)["region"]


def test_first_rules_and_fills_work_in_workers_too(toy, faces):
    options = {"first_rule": "everywhere", "fill": "halftone", "batch_size": 2}
    alone, shared = (
        fcx.attribute("plain_scratch", faces, "toy_lrp,region_ablation", workers=n, **options) for n in (1, 2)
    )
    xr.testing.assert_identical(shared["attribution"], alone["attribution"])
    maps = alone["attribution"].sel({"method": "toy_lrp"}).values
    np.testing.assert_allclose(maps, maps[..., :1, :1] + 0 * maps)
    with pytest.raises(UnknownNameError, match="did you mean 'everywhere'"):
        fcx.attribute("plain_scratch", faces, "toy_lrp", first_rule="everywere")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, 1, 64, 64))
    maps = fcx.attribute({"net": net}, faces, "lrp", first_rule="everywhere")["attribution"].values
    np.testing.assert_allclose(maps, maps[..., :1, :1] + 0 * maps)


def test_a_new_file_of_a_room_is_found(tmp_path, monkeypatch):
    (tmp_path / "found_by_being_there.py").write_text("import toys\ntoys.loaded = True\n")
    monkeypatch.setattr(toys, "loaded", False, raising=False)
    monkeypatch.setattr(fcx.attribution, "__path__", [*fcx.attribution.__path__, str(tmp_path)])
    load_modules("fcx.attribution", [str(tmp_path)])
    del sys.modules["fcx.attribution.found_by_being_there"], fcx.attribution.found_by_being_there
    assert toys.loaded


def test_a_new_file_with_a_style_or_a_format_is_found_and_no_other_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "worn.py").write_text('from fcx.masks import style\n@style("found")\ndef found(c, p): ...\n')
    (tmp_path / "read.py").write_text(
        'from fcx.datasets import adapter\n@adapter("found", takes=bool)\ndef f(p): ...\n'
    )
    (tmp_path / "heavy.py").write_text('"""Not @style( nor @adapter( at the start of a line."""\nraise AssertionError')
    for room, decorator, registry in ((fcx.masks, "style", STYLES), (fcx.datasets, "adapter", ADAPTERS)):
        monkeypatch.setattr(room, "__path__", [str(tmp_path)])
        load_modules(room.__name__, room.__path__, decorator)
        del registry["found"]
        monkeypatch.undo()
    for name in ("fcx.masks.worn", "fcx.datasets.read"):
        del sys.modules[name]


def test_statistics_of_an_overlay_that_is_gone_are_refused(toy, faces):
    results = fcx.attribute("plain_scratch", faces, "toy_lrp", store="int8")
    del OVERLAYS["upper_half"]
    with pytest.raises(UnknownNameError, match="unknown overlay region 'upper_half'"):
        fcx.region_statistics(results, faces, draws=20)


def test_a_style_is_worn_and_drawn_and_a_data_set_opened(toy, demo):
    made = fcx.prepare("toy_set", count=2, progress=False)
    assert made.attrs["adapter"] == "toy_set"
    assert made.sizes["sample"] == 2
    gallery = figures.style_gallery(demo, count=1)
    assert any("toy cloth" in str(row) for row in np.array(gallery.meta["table"]["row"]))
    one, two = (fcx.prepare("demo", limit=4, style="toy_cloth", workers=w, progress=False) for w in (1, 2))
    np.testing.assert_array_equal(one["image"].values, two["image"].values)
    assert one["worn"].values[0] != ""


def test_what_other_libraries_call_a_method_leads_to_one_that_is_there():
    for name, here in ELSEWHERE.items():
        assert here in METHODS
        assert name not in {re.sub("[^a-z]", "", other) for other in METHODS}
