"""What crosses a room's threshold: dimension names, variables, validation.

Every step of fcx takes and returns an xarray Dataset. This module names the
dimensions, says which variables a *faces* and a *results* Dataset hold, and refuses
what breaks that contract.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import numpy as np

from fcx.core.checks import choose, described
from fcx.core.errors import ContractError, InputError

if TYPE_CHECKING:
    import xarray as xr

TARGETS = ("arousal", "valence")
CONDITIONS = ("plain", "masked")
FAMILIES = ("plain_scratch", "masked_scratch", "masked_last_conv", "masked_all_layers")  # of trainings that ship
BESIDE = ("masked_scratch_16", "mini_xception", "shuffled", "plain_scratch_16")  # ships beside the four families
REGIONS = ("eyes", "brows", "nose", "mouth", "cheeks", "forehead", "jaw", "background")
CROPS = ("face", "upright", "whole")
ANGLES = ("yaw", "pitch", "roll")  # degrees, as `fcx.geometry.pose.Pose.angles` counts them
GRID = 64  # pixels: the grid that image, regions and attribution share
PICTURE = 224  # pixels: the display picture
FACES_READ = 8192  # of which text is read at a time

# name: (dimensions in order, allowed dtype kinds, required)
FACES = {
    "image": (("condition", "sample", "y", "x"), "u", True),
    "alpha": (("condition", "sample", "y", "x"), "u", True),
    "regions": (("sample", "region", "y", "x"), "u", True),  # a variable cannot share its name with a dimension
    "landmarks": (("sample", "point", "xy"), "f", True),
    "mesh": (("sample", "vertex", "xyz"), "f", True),
    "valence": (("sample",), "f", True),
    "arousal": (("sample",), "f", True),
    "status": (("condition", "sample"), "UOT", True),
    "picture": (("condition", "sample", "row", "column", "channel"), "u", False),
    "detector_score": (("sample",), "f", False),
    "faces_found": (("sample",), "i", False),
    "pose": (("sample", "angle"), "f", False),
    "worn": (("sample",), "UOT", False),  # the look of the mask, as JSON
    "picture_hash": (("sample",), "UOT", False),
    "image_hash": (("condition", "sample"), "UOT", False),
}
RESULTS = {
    "prediction": (("model", "condition", "target", "sample"), "f", True),
    "attribution": (("model", "condition", "method", "target", "sample", "y", "x"), "fi", False),
    # Beside compressed maps: what a step of each stands for, and its largest error.
    "attribution_scale": (("model", "condition", "method", "target", "sample"), "f", False),
    "attribution_error": (("model", "condition", "method", "target", "sample"), "f", False),
    # `fcx.statistics.map_scores.QUANTITIES` of each map, from before it was compressed, and the area of each region.
    **{
        name: (("model", "condition", "method", "target", "sample", "region"), "f", False)
        for name in ("share", "net", "positive", "negative", "density", "enrichment", "auc")
    },
    "area": (("sample", "region"), "f", False),
}
CONTRACTS = {"faces": FACES, "results": RESULTS}
ORDER = ("draw", "comparison", "cell", "family", "model", "seed", "condition", "method", "target", "sample", "region",
         "expression")  # fmt: skip
MAKERS = {"faces": "fcx.prepare and fcx.open_faces", "results": "fcx.predict, fcx.attribute and fcx.open_results"}
SIZES = {"point": 68, "xy": 2, "vertex": 468, "xyz": 3, "channel": 3, "angle": 3}


def ordered(dataset):
    """Return a Dataset or DataArray with the dimensions of each variable in the order of the contract."""
    return dataset.transpose(*ORDER, ..., missing_dims="ignore")


def check(dataset, kind: str):
    """Return `dataset` if it keeps the contract of `kind` ('faces' or 'results').

    Raises: ContractError naming the variable, what it is and what it should be.
    """
    contract = CONTRACTS[choose(kind, CONTRACTS, "kind of Dataset")]
    check_dataset(dataset, kind)
    for name, (dims, kinds, required) in contract.items():
        if name not in dataset:
            if required:
                have = ", ".join(map(str, dataset.data_vars)) or "nothing"
                raise ContractError(f"{kind}: variable {name!r} is missing; the Dataset has {have}")
            continue
        variable = dataset[name]
        if variable.dims != dims:
            raise ContractError(f"{kind}: {name!r} has dimensions {variable.dims}, should be {dims}")
        if variable.dtype.kind not in kinds:
            raise ContractError(f"{kind}: {name!r} is {variable.dtype}, should be of kind {kinds!r}")
    for dim, size in SIZES.items():
        if dim in dataset.sizes and dataset.sizes[dim] != size:
            raise ContractError(f"{kind}: {dim!r} has size {dataset.sizes[dim]}, should be {size}")
    for dim, allowed in (("region", REGIONS), ("target", TARGETS), ("angle", ANGLES)):
        if dim in dataset.sizes and dim not in dataset.coords:
            raise ContractError(f"{kind}: dimension {dim!r} has no names; allowed: {', '.join(allowed)}")
    if kind == "faces":
        for name in TARGETS:
            values = dataset[name].values
            if np.nanmax(np.abs(values), initial=0.0) > 1:
                raise ContractError(f"faces: {name!r} reaches {np.nanmax(np.abs(values)):g}; allowed: -1 to 1")
    return dataset


def check_dataset(value, name: str):
    """Return `value` if it is a Dataset, whatever it holds.

    Raises: ContractError for anything else.
    """
    if "xarray" not in sys.modules or not isinstance(value, sys.modules["xarray"].Dataset):
        raise ContractError(f"{name}: given is {described(value)}; allowed: a Dataset, as {MAKERS[name]} return")
    return value


Faces = Annotated["xr.Dataset", lambda value, name: check(value, "faces")]
Results = Annotated["xr.Dataset", lambda value, name: check(value, "results")]
ResultsOrStatistics = Annotated["xr.Dataset", check_dataset]


def usable(faces) -> np.ndarray:
    """Return (sample,) bool: True where the face is 'ok' in every condition."""
    return good(faces).all(axis=0)


def usable_rows(faces) -> np.ndarray:
    """Return the rows of the faces that are 'ok' in every condition.

    Raises: InputError where there is none, with how many faces have which status.
    """
    if len(rows := np.flatnonzero(usable(faces))):
        return rows
    status = faces["status"].values
    worst = status[(status != "ok").argmax(axis=0), np.arange(status.shape[1])]
    counts = ", ".join(f"{count} {name!r}" for name, count in Counter(map(str, worst)).most_common())
    raise InputError(f"no face is usable in every condition: {counts or 'there is none at all'}")


def good(faces) -> np.ndarray:
    """Return (condition, sample) bool: True where the status is 'ok'.

    Some faces are read at a time: the status of 300,000, as text, takes 576 MB, and an open store keeps what is read.
    """
    starts = range(0, max(1, faces.sizes["sample"]), FACES_READ)
    return np.concatenate([faces["status"][:, i : i + FACES_READ].values == "ok" for i in starts], axis=1)


def twin(faces) -> str:
    """Return the condition whose alpha is the region `mask` where none is worn.

    Raises: InputError for faces that wear several masks: the region is one of them.
    """
    have = [str(name) for name in faces["condition"].values]
    if "twin" not in faces.coords:
        return "masked" if "masked" in have else have[0]
    worn = [name for name in dict.fromkeys(map(str, faces["twin"].values)) if name in have]
    if len(worn) > 1:
        raise InputError(
            f"these faces wear several masks ({', '.join(worn)}), and the region 'mask' is that of one: select it, "
            f"as in faces.sel(condition=['plain', {worn[0]!r}])"
        )
    return (worn or have)[0]


def family_and_seed(name: str) -> tuple[str, int]:
    """Return the family and the seed of a training's name; a name without a number is the first of its family.

    >>> family_and_seed("plain_scratch-2"), family_and_seed("plain_scratch")
    (('plain_scratch', 1), ('plain_scratch', 0))
    """
    named = re.fullmatch(r"(.+)-([1-9]\d*)", name, re.ASCII)
    return (named[1], int(named[2]) - 1) if named else (name, 0)


def match(results, faces) -> np.ndarray:
    """Return (sample,) int: for each sample of `results` its row in `faces`.

    Raises: ContractError where the two do not hold the same samples, each once, or where their crop
    rules differ; UnknownNameError for a condition that `faces` does not have.
    """
    for condition in np.atleast_1d(results["condition"].values) if "condition" in results.coords else ():
        choose(str(condition), map(str, faces["condition"].values), "condition")
    given, have = ([str(name) for name in dataset["sample"].values] for dataset in (results, faces))
    row = {name: i for i, name in enumerate(have)}
    if len(row) < len(have) or len(set(given)) < len(given):
        raise ContractError("a sample id stands twice in the faces or the results: ids must be unique")
    if row.keys() != set(given):
        odd = sorted(row.keys() ^ set(given))
        raise ContractError(
            f"results hold {len(given)} samples and faces {len(have)}, and they are not the same ones "
            f"({odd[0]!r} stands in one only): select the same samples in both"
        )
    crops = [dataset.attrs["crop"] for dataset in (results, faces) if "crop" in dataset.attrs]
    if len(set(crops)) > 1:
        raise ContractError(f"results were made with crop {crops[0]!r}, faces have {crops[1]!r}: use the same faces")
    return np.array([row[name] for name in given], int)


def column(faces, name: str) -> np.ndarray:
    """Return a text coordinate of the samples, (sample,) str, "" where it is not there."""
    if name not in faces.coords:
        return np.full(faces.sizes["sample"], "")
    return np.array([str(value) for value in faces[name].values], str)


EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
