"""The contract: what is refused and how it is said."""

import pytest

from fcx.core.checks import choose
from fcx.core.contract import check
from fcx.core.errors import ContractError, UnknownNameError


def test_a_good_dataset_passes(faces):
    assert check(faces, "faces") is faces


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.drop_vars("image"), "variable 'image' is missing"),
        (lambda f: f.assign(image=f["image"].astype(float)), "'image' is float64"),
        (lambda f: f.transpose("sample", ...), "should be"),
        (lambda f: f.isel(point=slice(60)), "'point' has size 60, should be 68"),
        (lambda f: f.assign(valence=f["valence"] + 2), "'valence' reaches"),
        (lambda f: f.drop_vars("region"), "'region' has no names"),
    ],
)
def test_a_broken_dataset_is_named(faces, change, text):
    with pytest.raises(ContractError, match=text):
        check(change(faces), "faces")


def test_the_nearest_name_is_offered():
    with pytest.raises(UnknownNameError, match="did you mean 'gradcam'"):
        choose("gradcma", ["gradcam", "lrp"], "method")
    with pytest.raises(UnknownNameError, match="unknown method 'x': allowed: gradcam, lrp"):
        choose("x", ["gradcam", "lrp"], "method")
