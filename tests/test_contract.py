"""The contract: what is refused and how it is said."""

import pytest

from fcx.core.checks import choose
from fcx.core.contract import check, usable_rows
from fcx.core.errors import ContractError, InputError, UnknownNameError


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


def test_where_no_face_is_usable_the_reasons_are_counted(faces):
    status = faces["status"].astype(object)
    status[:] = "ok"
    assert usable_rows(faces.assign(status=status)).tolist() == list(range(faces.sizes["sample"]))
    status[0] = "no face found"
    status[1, 0] = "cannot be read"
    status[0, 0] = "ok"
    with pytest.raises(InputError, match=rf"{faces.sizes['sample'] - 1} 'no face found', 1 'cannot be read'"):
        usable_rows(faces.assign(status=status))
