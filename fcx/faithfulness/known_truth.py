"""Known truth: does a method find where the information is, on faces made so that this is known?

`fcx.datasets.synthetic` draws faces whose labels one carrier shows, and `fcx.datasets.planted` puts such a carrier on
photographs. A network that has learnt them can have read them only there, so that a method that explains this network
has a right answer. What the method says of the same network with random weights, which knows nothing, is its control.

What is scored is |map|. Where several pixels share the maximum, as in the 8x8 blocks of Grad-CAM or in an ablated
region, the hit is the share of these pixels that lie in the truth; a map of zeros hits by its area, has no share,
density or AUC (NaN), and finds nothing.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from scipy import ndimage

from fcx.attribution.batch import Batch, Subject, spread
from fcx.attribution.registry import METHODS
from fcx.attribution.request import chosen_names
from fcx.attribution.runner import attribute
from fcx.core.arguments import Count, Names, Seed, Words, checked
from fcx.core.checks import whole_number
from fcx.core.contract import GRID, REGIONS, TARGETS, check, column, usable
from fcx.core.errors import InputError
from fcx.core.provenance import flat_attrs, run_provenance
from fcx.datasets.truth import truth_condition
from fcx.faithfulness.measures import CONTROLS, described_methods, labelled_methods
from fcx.faithfulness.randomisation import cascade
from fcx.networks.inputs import as_pixels, read_variable
from fcx.networks.resolving import resolve_models
from fcx.statistics.bootstrap import estimates, means
from fcx.statistics.concordance import ccc
from fcx.statistics.map_scores import score_maps

TRUTH_QUANTITIES = {
    "found": "the truth is the densest place",
    "hit": "share of the maximum of |map| that lies in the truth",
    "share": "share of absolute attribution in the truth",
    "density": "share of absolute attribution in the truth over its share of the area",
    "auc": "P(absolute attribution is larger inside the truth than outside)",
    "empty": "the map is zero everywhere",
    "untrained": "the truth is the densest place in the map of the same network with random weights",
}
TRUTH_MARGIN = 1  # pixels: the first convolution, 3x3, reads what lies in the truth from one pixel beside it
TIE = 1e-6  # relative


@checked
def known_truth_scores(models: Names, faces: Names, methods=None, *, targets: Words = TARGETS,
                       margin: int = TRUTH_MARGIN, draws: Count = 2000, seed: Seed = 0, batch_size: Count = 64,
                       device="cpu", progress=None) -> xr.Dataset:  # fmt: skip
    """Return how often and how well each method finds the truth, by carrier, beside its controls.

    `models` and `faces` map the same names (carriers) to a model, or several by name, that learnt it, and to a faces
    Dataset with `truth` (condition, sample, y, x), as `fcx.datasets.synthetic.synthetic_sets` and
    `fcx.datasets.planted.planted_sets` return; a condition without any truth is left out. `methods` are names (None:
    all), or a dict from a label to (name, options). A method that refuses a network is left out for it, unless it was
    given options: its values are NaN, or it has none at all, and the attribute `refused` says why, label -> carrier ->
    reason. The truth is grown by `margin` pixels. Controls: "random" (normal noise) and "edges" (of the picture), and
    each method's `untrained`.

    Variables (carrier, method, target): each of `TRUTH_QUANTITIES` by `sample`, a mean over the networks of a carrier,
    and its `_mean`, `_low` and `_high` over faces, 95 % bootstrap intervals over subjects, of these networks;
    `found_each` (carrier, network, method, target) is each network's. `found`: attribution is denser in the truth than
    in each region of the partition that lies mostly outside it (less what the truth covers of it), which is the
    question that a user of region statistics asks, and than in each of the `decoys` that planted faces have;
    `untrained` is `found` of the same networks with random weights, NaN for a control; `densest` (..., region) is how
    often each region is the densest. `area` (carrier): the truth's mean share of the grid, the chance level of hit and
    share. `ccc` (carrier, target): how well the labels of these faces are learnt by the network that has learnt them
    least. Where the truth is everywhere there is nothing outside it: found and AUC are NaN. `progress` is called with
    each label.

    Raises: InputError where models and faces have different names, or no method explains a network; ContractError for
    faces without truth; else as `fcx.attribute`.
    Source: the pointing game, Zhang et al. 2016 (1608.00507), section 4; planted truth, Arras, Osman and Samek
    2022 (2003.07258).

    >>> known_truth_scores({"mouth": model}, {"mouth": faces}, "lrp,gradient")["found_mean"]  # doctest: +SKIP
    """
    if set(models) != set(faces) or not models:
        raise InputError(f"models are {sorted(models)} and faces {sorted(faces)}: give both, by the same names")
    whole_number(margin, "margin", 0, GRID)
    targets = chosen_names(targets, TARGETS, "target")
    explainers = labelled_methods(list(METHODS) if methods is None else methods)
    rows, refused = [], {}
    for carrier, of_carrier in faces.items():
        given = models[carrier]
        networks = list(resolve_models({carrier: given} if isinstance(given, torch.nn.Module) else given).values())
        shown = check(of_carrier, "faces").sel(condition=[truth_condition(of_carrier)]).isel(sample=usable(of_carrier))
        row = _scored(carrier, networks, shown, explainers, targets, margin, seed, refused,
                      {"batch_size": batch_size, "device": device}, progress)  # fmt: skip
        for name in TRUTH_QUANTITIES:
            drawn = means(row[name], column(shown, "subject"), draws, seed)
            row = row.assign(estimates(*drawn, f"{name}_mean", f"{name}_low", f"{name}_high"))
        rows.append(row)
    table = xr.concat(rows, "carrier", join="outer", data_vars="all", coords="minimal", compat="override")
    table = table.isel(method=table["hit"].notnull().any(("carrier", "target", "sample")).values)
    attrs = {"margin": margin, "draws": draws, "seed": seed, "methods": described_methods(explainers),
             "refused": refused}  # fmt: skip
    return table.assign_attrs(flat_attrs({**attrs, "provenance": run_provenance(step="validity")}))


def _scored(carrier, networks, faces, explainers, targets, margin, seed, refused, how, progress) -> xr.Dataset:
    """Return the scores of one carrier by (carrier, method, target, sample), and note in `refused` what is left out."""
    truth = faces["truth"].values[0] > 0
    if margin:
        truth = ndimage.binary_dilation(truth, np.ones((1, 3, 3)), iterations=margin)
    regions = faces["regions"].values / 255
    # What is compared with the truth: each region without it, unless that leaves less than half of the region, a rim.
    # The whole regions name the densest.
    rest = regions * ~truth[:, None]
    rest[rest.sum((-2, -1)) < regions.sum((-2, -1)) / 2] = 0
    decoys = _decoys(faces, margin) & ~truth[:, None]
    cover = np.concatenate([truth[:, None], rest, decoys, regions], axis=1).astype(np.float64)
    rows, agreement = [], []
    for network in networks:
        row, learnt = _of_network(carrier, network, faces, explainers, targets, seed, refused, how, progress,
                                  lambda maps: _score(maps, truth, cover))  # fmt: skip
        rows.append(row), agreement.append(learnt)
    labels = list(row)
    dims = ("carrier", "method", "target", "sample")
    # (network, method, target, sample), and of `densest` (network, method, target, region)
    each = {
        name: np.array([[row[label][name] for label in labels] for row in rows])
        for name in (*TRUTH_QUANTITIES, "densest")
    }
    variables = {n: (dims, _mean(each[n])[None], {"long_name": text}) for n, text in TRUTH_QUANTITIES.items()}
    variables["densest"] = (
        (*dims[:3], "region"),
        _mean(each["densest"])[None],
        {"long_name": "how often it is the densest"},
    )
    variables["found_each"] = (("carrier", "network", *dims[1:3]), each["found"].mean(-1)[None])
    variables["area"] = (("carrier",), [truth.mean()], {"long_name": "share of the grid that is truth"})
    variables["ccc"] = (("carrier", "target"), np.min(agreement, axis=0)[None])
    coords = {
        "carrier": [carrier], "network": np.arange(len(networks)), "method": labels, "target": targets,
        "region": list(REGIONS), "control": ("method", [label in CONTROLS for label in labels]),
        "condition": ("carrier", [str(faces["condition"].values[0])]),
        "sample": faces["sample"].values.astype(str),
    }  # fmt: skip
    return xr.Dataset(variables, coords)


def _decoys(faces, margin: int) -> np.ndarray:
    """Return what looks like the truth and is not, (sample, decoy, y, x), but for what is hidden by half or more."""
    if "decoys" not in faces:
        return np.zeros((faces.sizes["sample"], 0, GRID, GRID), bool)
    there = faces["decoys"].values[:, 0].transpose(1, 0, 2, 3) > 0
    area = there.sum((-2, -1))
    there = there & (2 * area > area.max(0))[..., None, None]
    return ndimage.binary_dilation(there, np.ones((1, 1, 3, 3)), iterations=margin) if margin else there


def _of_network(carrier, network, faces, explainers, targets, seed, refused, how, progress, score) -> tuple:
    """Return label -> scores of the methods and controls on one network, and the CCC (target,) that it reaches."""
    ruined, maps, answers = cascade(network, 1, seed)[-1][1].model, {}, None
    for label, (name, options) in explainers.items():
        if progress is not None:
            progress(f"{carrier}: {label}")
        for what, one in (("", network), (", untrained", ruined)):
            try:
                results = attribute({carrier: one}, faces, [name], targets, seed=seed, **how, **options)
            except InputError as error:
                if options:
                    raise
                refused.setdefault(label, {}).setdefault(carrier + what, str(error))
                continue
            maps[label, what] = results["attribution"].values[0, 0, 0]
            if one is network:
                answers = results["prediction"].values[0, 0].astype("f8")
    if answers is None:
        raise InputError(f"no method of {', '.join(explainers)} explains the network of {carrier}: "
                         f"{next(refused[label][carrier] for label in explainers)}")  # fmt: skip
    controls = _control_maps(network, faces, targets, seed)
    blank = {name: np.full_like(values, np.nan) for name, values in score(next(iter(controls.values()))).items()}
    rows = {}
    for label in (*explainers, *controls):
        trained, untrained = controls.get(label, maps.get((label, ""))), maps.get((label, ", untrained"))
        rows[label] = blank | (score(trained) if trained is not None else {})
        rows[label]["untrained"] = blank["found"] if untrained is None else score(untrained)["found"]
    labels = np.stack([faces[target].values for target in targets])
    return rows, ccc(answers, labels.astype("f8"))


def _mean(each: np.ndarray) -> np.ndarray:
    """Return the mean over networks (the first axis) of what is not NaN; NaN where all are."""
    count = np.isfinite(each).sum(0)
    return np.where(count > 0, np.nansum(each, axis=0) / np.maximum(count, 1), np.nan)


def _control_maps(network, faces, targets, seed: int) -> dict[str, np.ndarray]:
    """Return (target, sample, y, x) of each control."""
    images = as_pixels(network, faces[read_variable(network, faces)].values[0])
    weights = torch.eye(len(TARGETS))[[TARGETS.index(target) for target in targets]]
    batch = Batch(Subject("control", network), images, weights=weights)
    return {name: spread(function(batch, seed=seed), (GRID, GRID)).numpy() for name, function in CONTROLS.items()}


def _score(maps: np.ndarray, truth: np.ndarray, cover: np.ndarray) -> dict[str, np.ndarray]:
    """Return `QUANTITIES` (target, sample) and `densest` (target, region) of maps (target, sample, y, x)."""
    size = np.abs(maps)
    highest = size >= size.max((-2, -1), keepdims=True) * (1 - TIE)
    scores, count = score_maps(maps, cover), len(REGIONS)
    density = np.nan_to_num(scores["density"], nan=-1.0)  # nothing is denser in a region of no area
    empty = ~size.any((-2, -1))
    found = (density[..., 0] > density[..., 1:-count].max(-1)).astype(float)
    named = density[..., -count:]
    densest = (named == named.max(-1, keepdims=True)) & ~empty[..., None]
    return {
        "found": np.where(truth.all((-2, -1)), np.nan, found),
        "hit": (highest & truth).sum((-2, -1)) / highest.sum((-2, -1)),
        **{name: scores[name][..., 0] for name in ("share", "density", "auc")},
        "empty": empty.astype(float),
        "densest": densest.mean(1),
    }
