"""Known truth: does a method find where the information is, on faces drawn so that this is known?

`fcx.datasets.synthetic` draws faces whose labels one carrier shows. A network that has learnt them can have read
them only there, so that a method that explains this network has a right answer.

What is scored is |map|. Where several pixels share the maximum, as in the 8x8 blocks of Grad-CAM or in an ablated
region, the hit is the share of these pixels that lie in the truth; a map of zeros hits by its area, has no share,
density or AUC (NaN), and finds nothing.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from scipy import ndimage

from fcx.attribution.batch import Batch, Subject
from fcx.attribution.registry import METHODS
from fcx.attribution.request import chosen_names
from fcx.attribution.runner import attribute
from fcx.core.arguments import Count, Names, Seed, Words, checked
from fcx.core.checks import whole_number
from fcx.core.contract import GRID, REGIONS, TARGETS, check, column, usable
from fcx.core.errors import ContractError, InputError
from fcx.core.provenance import flat_attrs, run_provenance
from fcx.faithfulness.measures import CONTROLS, described_methods, labelled_methods
from fcx.networks.checkpoints import resolve_models
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
}
TRUTH_MARGIN = 1  # pixels: the first convolution, 3x3, reads what lies in the truth from one pixel beside it
TIE = 1e-6  # relative


@checked
def known_truth_scores(models: Names, faces: Names, methods=None, *, targets: Words = TARGETS,
                       margin: int = TRUTH_MARGIN, draws: Count = 2000, seed: Seed = 0, batch_size: Count = 64,
                       device="cpu", progress=None) -> xr.Dataset:  # fmt: skip
    """Return how often and how well each method finds the truth, by carrier, beside two controls.

    `models` and `faces` map the same names (carriers) to a model and to a faces Dataset with `truth` (condition,
    sample, y, x), as `fcx.datasets.synthetic.synthetic_sets` returns; a condition without any truth is left out.
    `methods` are names (None: all that explain these models), or a dict from a label to (name, options). The
    truth is grown by `margin` pixels. Controls: "random" (normal noise) and "edges" (of the picture).

    Variables (carrier, method, target): each of `QUANTITIES` by `sample`, and its `_mean`, `_low` and `_high` over
    faces, 95 % bootstrap intervals over subjects. `found`: attribution is denser in the truth than in
    each region of the partition that lies mostly outside it (less what the truth covers of it), which is the
    question that a user of region statistics asks; `densest` (..., region) is
    how often each region is the densest. `area` (carrier): the truth's mean share of the grid, the chance level of
    hit and share. `ccc` (carrier, target): how well the model has learnt its labels on these faces. Where the truth
    is everywhere there is nothing outside it: found and AUC are NaN. `progress` is called with each label.

    Raises: InputError where models and faces have different names, or nothing can be scored; ContractError for
    faces without truth; else as `fcx.attribute`.
    Source: the pointing game, Zhang et al. 2016 (1608.00507), section 4; planted truth, Arras, Osman and Samek
    2022 (2003.07258).

    >>> known_truth_scores({"mouth": model}, {"mouth": faces}, "lrp,gradient")["found_mean"]  # doctest: +SKIP
    """
    if set(models) != set(faces) or not models:
        raise InputError(f"models are {sorted(models)} and faces {sorted(faces)}: give both, by the same names")
    whole_number(margin, "margin", 0, GRID)
    targets = chosen_names(targets, TARGETS, "target")
    rows, described = [], {}
    for carrier, of_carrier in faces.items():
        given = models[carrier]
        given = {carrier: given} if isinstance(given, torch.nn.Module) else given
        model = {carrier: next(iter(resolve_models(given).values()))}
        shown = _shown(of_carrier, carrier)
        able = [name for name, known in METHODS.items() if isinstance(model[carrier], known.needs)]
        explainers = labelled_methods(able if methods is None else methods)
        described |= described_methods(explainers)
        row = _scored(carrier, model, shown, explainers, targets, margin, seed,
                      {"batch_size": batch_size, "device": device}, progress)  # fmt: skip
        for name in TRUTH_QUANTITIES:
            drawn = means(row[name], column(shown, "subject"), draws, seed)
            row = row.assign(estimates(*drawn, f"{name}_mean", f"{name}_low", f"{name}_high"))
        rows.append(row)
    table = xr.concat(rows, "carrier", join="outer", data_vars="all", coords="minimal", compat="override")
    attrs = {"margin": margin, "draws": draws, "seed": seed, "methods": described}
    return table.assign_attrs(flat_attrs({**attrs, "provenance": run_provenance(step="validity")}))


def _shown(faces, carrier: str):
    """Return the faces in the one condition in which their carrier is to be seen, usable ones only."""
    check(faces, "faces")
    if "truth" not in faces or faces["truth"].dims != ("condition", "sample", "y", "x"):
        raise ContractError(f"faces of {carrier!r} have no 'truth' (condition, sample, y, x): see synthetic_faces")
    faces = faces.isel(sample=usable(faces))
    seen = [c for c in faces["condition"].values if (faces["truth"].sel(condition=c) > 0).any(("y", "x")).all()]
    if not seen or not faces.sizes["sample"]:
        raise InputError(f"no condition of the faces of {carrier!r} shows the truth in every usable face")
    return faces.sel(condition=seen[:1])


def _scored(carrier, model, faces, explainers, targets, margin, seed, how, progress) -> xr.Dataset:
    """Return the scores of one carrier by (carrier, method, target, sample)."""
    truth = faces["truth"].values[0] > 0
    if margin:
        truth = ndimage.binary_dilation(truth, np.ones((1, 3, 3)), iterations=margin)
    regions = faces["regions"].values / 255
    # What is compared with the truth: each region without it, unless that leaves less than half of the region, a rim.
    # The whole regions name the densest.
    rest = regions * ~truth[:, None]
    rest[rest.sum((-2, -1)) < regions.sum((-2, -1)) / 2] = 0
    cover = np.concatenate([truth[:, None], rest, regions], axis=1).astype(np.float64)
    scores, prediction = [], None
    for label, (name, options) in explainers.items():
        if progress is not None:
            progress(f"{carrier}: {label}")
        results = attribute(model, faces, [name], targets, seed=seed, **how, **options)
        prediction = results["prediction"].values[0, 0]
        scores.append(_score(results["attribution"].values[0, 0, 0], truth, cover))
    maps = _control_maps(next(iter(model.values())), faces, targets, seed)
    scores += [_score(maps[name], truth, cover) for name in CONTROLS]
    dims = ("carrier", "method", "target", "sample")
    variables = {
        n: (dims, np.stack([s[n] for s in scores])[None], {"long_name": TRUTH_QUANTITIES[n]}) for n in TRUTH_QUANTITIES
    }
    densest = np.stack([s["densest"] for s in scores])[None]
    labels = np.stack([faces[target].values for target in targets])
    variables["densest"] = (
        ("carrier", "method", "target", "region"),
        densest,
        {"long_name": "how often it is the densest"},
    )
    variables["area"] = (("carrier",), [truth.mean()], {"long_name": "share of the grid that is truth"})
    variables["ccc"] = (("carrier", "target"), ccc(prediction.astype("f8"), labels.astype("f8"))[None])
    coords = {
        "carrier": [carrier], "method": [*explainers, *CONTROLS], "target": targets, "region": list(REGIONS),
        "control": ("method", [False] * len(explainers) + [True] * len(CONTROLS)),
        "condition": ("carrier", [str(faces["condition"].values[0])]),
        "sample": faces["sample"].values.astype(str),
    }  # fmt: skip
    return xr.Dataset(variables, coords)


def _control_maps(model, faces, targets, seed: int) -> dict[str, np.ndarray]:
    """Return (target, sample, y, x) of each control."""
    images = torch.from_numpy(faces["image"].values[0].astype(np.float32) / 255)[:, None]
    weights = torch.eye(len(TARGETS))[[TARGETS.index(target) for target in targets]]
    batch = Batch(Subject("control", model), images, weights=weights)
    return {name: function(batch, seed=seed).numpy() for name, function in CONTROLS.items()}


def _score(maps: np.ndarray, truth: np.ndarray, cover: np.ndarray) -> dict[str, np.ndarray]:
    """Return `QUANTITIES` (target, sample) and `densest` (target, region) of maps (target, sample, y, x)."""
    size = np.abs(maps)
    highest = size >= size.max((-2, -1), keepdims=True) * (1 - TIE)
    scores, count = score_maps(maps, cover), len(REGIONS)
    density = np.nan_to_num(scores["density"], nan=-1.0)  # nothing is denser in a region of no area
    empty = ~size.any((-2, -1))
    found = (density[..., 0] > density[..., 1 : 1 + count].max(-1)).astype(float)
    named = density[..., 1 + count :]
    densest = (named == named.max(-1, keepdims=True)) & ~empty[..., None]
    return {
        "found": np.where(truth.all((-2, -1)), np.nan, found),
        "hit": (highest & truth).sum((-2, -1)) / highest.sum((-2, -1)),
        **{name: scores[name][..., 0] for name in ("share", "density", "auc")},
        "empty": empty.astype(float),
        "densest": densest.mean(1),
    }
