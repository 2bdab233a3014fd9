"""Region profiles: networks with other outputs side by side."""

import re

import numpy as np
import pytest
import xarray as xr

from fcx.core.contract import REGIONS
from fcx.figures import profile_findings
from fcx.statistics.profiles import ALL, region_profiles
from fcx.statistics.region_mass import sample_statistics


@pytest.fixture
def results(faces):
    """Maps of two networks, of which each lacks an output of the other."""
    shape = (2, 2, 1, 3, faces.sizes["sample"], 64, 64)
    maps = np.random.default_rng(0).normal(size=shape)
    maps[0, :, :, 2], maps[1, :, :, 0] = np.nan, np.nan
    dims = ("model", "condition", "method", "target", "sample", "y", "x")
    coords = {"model": ["a", "b"], "condition": faces["condition"].values, "method": ["gradient"],
              "target": ["valence", "arousal", "happy"], "sample": faces["sample"].values}  # fmt: skip
    return xr.Dataset({"attribution": (dims, maps), "prediction": (("model", "condition", "target", "sample"),
                                                                   maps[:, :, 0, ..., 0, 0])}, coords)  # fmt: skip


def test_a_profile_is_the_mean_over_the_outputs_that_a_network_has(results, faces):
    profiles = region_profiles(results, faces, draws=20)
    assert profiles["target"].values.tolist() == [ALL]
    each = sample_statistics(results, faces)
    for model, own in (("a", ["valence", "arousal"]), ("b", ["arousal", "happy"])):
        shares = each["share"].sel(model=model, target=own).values  # (condition, method, target, sample, region)
        np.testing.assert_allclose(profiles["share"].sel(model=model).values[:, :, 0], shares.mean(2))
        density = shares.mean((2, 3)) / each["area"].values.mean(0)
        np.testing.assert_allclose(profiles["enrichment_mean"].sel(model=model).values[:, :, 0], np.log2(density))
    assert (profiles["n"] == faces.sizes["sample"]).all()


def test_findings_name_the_densest_region_of_each_network(results, faces):
    maps, cover = results["attribution"], faces["regions"].values / 255
    for model, region in enumerate(("mouth", "eyes")):
        at = list(REGIONS).index(region)
        maps[model] = maps[model].where(maps[model].isnull(), 1 + 4 * cover[None, :, at])
    [plain, masked] = profile_findings(region_profiles(results, faces, draws=20), "b").items
    assert plain.statement == "By gradient, plain, 6 faces: for b the densest region is the eyes; for a the mouth."
    assert re.match(r"b: eyes [\d.]+ times its area \[[\d., ]+\]; a: mouth ", plain.numbers)
    profile = np.log2(sample_profile(results, faces))
    alike = np.corrcoef(profile)[0, 1]
    assert plain.numbers.endswith(f"correlate with those of a by {alike:.2f}.")
    assert masked.statement.startswith("By gradient, masked")


def sample_profile(results, faces):
    """Return the density (model, region) of the plain condition."""
    each = sample_statistics(results, faces).isel(condition=0, method=0)
    share = each["share"].mean("target").mean("sample").sel(region=list(REGIONS))
    return (share / each["area"].mean("sample").sel(region=list(REGIONS))).transpose("model", "region").values
