"""What a shift and a scale learned from other faces would mend of predictions, and which expressions they miss."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.arguments import Count, Seed, checked
from fcx.core.checks import whole_number
from fcx.core.contract import Faces, Results, column, match, ordered, usable
from fcx.core.errors import InputError
from fcx.core.targets import ratings
from fcx.statistics.agreement import evaluate
from fcx.statistics.bootstrap import clusters

CALIBRATIONS = ("none", "mean", "affine")


@checked
def calibrated(results: Results, faces: Faces, *, folds: Count = 10, draws: Count = 2000, seed: Seed = 0) -> xr.Dataset:
    """Return `evaluate` of predictions as they are, and with a shift, or scale and shift, learned on other subjects.

    Subjects (faces, where subjects are not known) are dealt into `folds` at random, and each fold is mended by what the
    others teach: `mean` moves predictions so that their mean is that of the labels; `affine` regresses labels on
    predictions. Dimension `calibration` (none, mean, affine); variables as `evaluate` has. The intervals are over
    faces, the learned numbers being taken as they are.

    Raises: InputError for more folds than subjects, or fewer than 2; else as in `evaluate`.
    Source: cross-fitting, Stone, Journal of the Royal Statistical Society B 36(2), 1974.

    >>> calibrated(results, faces)["ccc"].sel(target="arousal", calibration="affine")  # doctest: +SKIP
    """
    rows = match(results, faces)
    subjects = clusters(column(faces, "subject")[rows])
    whole_number(folds, "folds", 2, len(np.unique(subjects)))
    fold = (np.random.default_rng(seed).permutation(subjects.max() + 1) % folds)[subjects]
    prediction = results["prediction"].astype(np.float64)
    labels = np.stack([ratings(faces, str(name))[rows] for name in prediction["target"].values]).astype(np.float64)
    known = usable(faces)[rows] & np.isfinite(labels) & np.isfinite(prediction.values)
    made = {name: prediction.copy(deep=True) for name in CALIBRATIONS}
    for place in np.ndindex(prediction.shape[:-1]):
        p, t = prediction.values[place], labels[place[-1]]
        for number in range(folds):
            taught, here = known[place] & (fold != number), fold == number
            if taught.sum() < 2:
                raise InputError(
                    f"fold {number + 1} leaves {taught.sum()} labelled faces to learn from: give fewer folds"
                )
            made["mean"].values[place][here] += (t[taught] - p[taught]).mean()
            scale, shift = _line(p[taught], t[taught])
            made["affine"].values[place][here] = scale * p[here] + shift
    each = [evaluate(results.assign(prediction=made[name]), faces, draws=draws, seed=seed) for name in CALIBRATIONS]
    return xr.concat(each, xr.Variable("calibration", list(CALIBRATIONS)), data_vars="all").assign_attrs(folds=folds)


def _line(p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Return the scale and shift of the least squares of t on p; a p that does not vary has scale 0."""
    apart = p - p.mean()
    scale = (apart * t).sum() / square if (square := (apart**2).sum()) > 0 else 0.0
    return scale, t.mean() - scale * p.mean()


@checked
def error_by_expression(results: Results, faces: Faces) -> xr.Dataset:
    """Return what each expression's faces are rated and predicted, and their share of the squared error.

    Variables: n (target, expression), label (target, expression) and prediction (model, condition, target, expression),
    means; error_share (model, condition, target, expression) of the sum of squared errors over all faces, those of
    unknown expression ("") included, so that it sums to 1. Faces count as in `evaluate`.

    Raises: ContractError where results and faces do not match.

    >>> error_by_expression(results, faces)["error_share"].sel(target="arousal")  # doctest: +SKIP
    """
    rows = match(results, faces)
    prediction = results["prediction"].astype(np.float64)
    labels = np.stack([ratings(faces, str(name))[rows] for name in prediction["target"].values])
    known = usable(faces)[rows] & np.isfinite(labels) & np.isfinite(prediction.values).all((0, 1))
    labels, prediction = (
        xr.DataArray(np.where(known, labels, np.nan), dims=("target", "sample")),
        prediction.where(known),
    )
    group = xr.DataArray(column(faces, "expression")[rows], dims="sample", name="expression")
    prediction = prediction.drop_vars("sample")
    by = {"n": labels.notnull(), "label": labels, "prediction": prediction, "square": (prediction - labels) ** 2}
    by = xr.Dataset(by).assign_coords(expression=group)
    by = by[["n", "square"]].groupby("expression").sum().merge(by[["label", "prediction"]].groupby("expression").mean())
    by["error_share"] = by["square"] / by["square"].sum("expression")
    return ordered(by.drop_vars("square"))
