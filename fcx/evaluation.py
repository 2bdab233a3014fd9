"""How well predictions agree with labels: the concordance correlation coefficient and its parts.

All moments are population moments (divided by n), as in Lin, "A concordance correlation
coefficient to evaluate reproducibility", Biometrics 45(1), 1989, 255-268; torchmetrics divides
by n - 1. A CCC belongs to a whole set: averaged over batches it is biased.

Intervals are 95 % percentile bootstrap intervals. Subjects are drawn, not samples, where subjects
are known; one draw serves every model, condition and target, so that differences are paired.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import sparse

from fcx.contract import ContractError, InputError, check, choose, usable
from fcx.targets import rated

BLOCK = 2**22  # draws times clusters held at once: 32 MiB of float64
PARTS = ("ccc", "pearson", "scale", "shift", "bias_correction", "mse", "rmse")
SCOPES = ("", "expression_", "within_", "oracle_")


def ccc(prediction, truth, axis: int = -1) -> np.ndarray:
    """Return the concordance correlation coefficient along `axis`.

    `prediction` and `truth` broadcast against each other, e.g. (model, condition, target, sample) and
    (target, sample) give (model, condition, target). Pairs with a NaN on either side are left out.
    NaN where fewer than two pairs are left, or where neither side varies; 0 where only one does.

    Raises: InputError "prediction (3,) and truth (2,) cannot be paired ..." for shapes that do not match.
    Source: Lin 1989, equation (2): 2 cov / (var_p + var_t + (mean_p - mean_t)^2).

    >>> float(ccc([0.0, 1.0, 2.0], [1.0, 2.0, 3.0]).round(6))
    0.571429
    """
    return ccc_parts(prediction, truth, axis)["ccc"]


def ccc_parts(prediction, truth, axis: int = -1) -> dict[str, np.ndarray]:
    """Return the CCC with what it is made of: ccc = pearson * bias_correction.

    Keys: n, ccc, pearson, scale (sd_p / sd_t), shift ((mean_p - mean_t) / sqrt(sd_p sd_t)),
    bias_correction (2 / (scale + 1 / scale + shift^2)), mse, rmse. Shapes and NaN as in `ccc`;
    pearson and shift are NaN where one side does not vary.

    Raises: InputError for shapes that do not match.
    Source: Lin 1989, section 2 (C_b, scale shift v, location shift u).

    >>> parts = ccc_parts([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    >>> [float(parts[name].round(3)) for name in ("pearson", "scale", "shift", "bias_correction")]
    [1.0, 1.0, -1.225, 0.571]
    """
    p, t = _paired(prediction, truth, axis)
    valid = ~np.isnan(p)
    n = valid.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        (mean_p, dev_p), (mean_t, dev_t) = (_deviations(side, valid, n) for side in (p, t))
        var_p, var_t, cov = ((a * b).sum(-1) / n for a, b in ((dev_p, dev_p), (dev_t, dev_t), (dev_p, dev_t)))
        return {"n": n, **_parts(mean_p - mean_t, var_p, var_t, cov)}


def _paired(prediction, truth, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 twins of one shape, `axis` last, NaN on both sides where one is missing."""
    p, t = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    try:
        p, t = np.broadcast_arrays(p, t)
        p, t = np.moveaxis(p, axis, -1), np.moveaxis(t, axis, -1)
    except ValueError as error:
        raise InputError(
            f"prediction {p.shape} and truth {t.shape} cannot be paired along axis {axis}: "
            "give arrays of one shape, or shapes that broadcast"
        ) from error
    missing = np.isnan(p) | np.isnan(t)
    return np.where(missing, np.nan, p), np.where(missing, np.nan, t)


def _deviations(values: np.ndarray, valid: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (NaN for fewer than two values) and the deviations from it, 0 where not valid."""
    mean = np.where(valid, values, 0).sum(-1) / np.where(n > 1, n, np.nan)
    low = np.where(valid, values, np.inf).min(-1, initial=np.inf)
    high = np.where(valid, values, -np.inf).max(-1, initial=-np.inf)
    # A side that does not vary deviates by exactly 0, not by the rounding error of its mean.
    return mean, np.where(valid & (high > low)[..., None], values - mean[..., None], 0.0)


def _parts(gap, var_p, var_t, cov) -> dict:
    """Return the parts of the CCC from the difference of means and the second moments."""
    sd, spread = np.sqrt(var_p * var_t), var_p + var_t + gap**2
    # x / (x > 0) is x, or NaN for 0: a part that is not defined is NaN, never infinite.
    both, label = sd / (sd > 0), var_t / (var_t > 0)
    varies = (var_p + var_t) / (var_p + var_t > 0) + gap**2
    return {
        "ccc": 2 * cov / varies,
        "pearson": cov / both,
        "scale": np.sqrt(var_p / label),
        "shift": gap / np.sqrt(both),
        "bias_correction": 2 * sd / varies,
        "mse": spread - 2 * cov,
        "rmse": np.sqrt(np.maximum(spread - 2 * cov, 0)),
    }


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


def clusters(subjects: np.ndarray) -> np.ndarray:
    """Return (sample,) int cluster numbers: one for each subject, one of its own for each unknown ("").

    >>> clusters(np.array(["ann", "", "ann", ""])).tolist()
    [2, 0, 2, 1]
    """
    own = np.array([f"\t{i:09d}" for i in range(len(subjects))], str)
    return np.unique(np.where(subjects == "", own, subjects), return_inverse=True)[1]


def resample(values: np.ndarray, cluster: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return sums over samples, (1 + draw, ...), of `values` (sample, ...): the data first, then each draw.

    A draw takes as many clusters as there are, with replacement; the same (`cluster`, `draws`, `seed`)
    give the same draws whatever the values are. Draws are NaN where there is only one cluster.

    Raises: InputError for draws or a seed that is not a whole number of at least 1 or 0.
    Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8 (clusters).

    >>> resample(np.array([1.0, 2.0]), np.array([0, 1]), 3, seed=0).tolist()
    [3.0, 4.0, 3.0, 2.0]
    """
    for name, value, least in (("draws", draws, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} is {value!r}; allowed: a whole number of at least {least}")
    count = int(cluster.max(initial=-1)) + 1
    member = sparse.csr_array((np.ones(len(cluster)), (cluster, np.arange(len(cluster)))), (count, len(cluster)))
    totals = member @ values.reshape(len(values), math.prod(values.shape[1:]))  # (cluster, feature)
    sums = np.full((1 + draws, totals.shape[1]), np.nan)
    sums[0] = totals.sum(0)
    if count > 1:
        rng = np.random.default_rng(seed)
        for start in range(1, 1 + draws, step := max(1, BLOCK // count)):
            size = min(step, 1 + draws - start)
            picked = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
            times = np.bincount(picked.ravel(), minlength=size * count).reshape(size, count)
            sums[start : start + size] = times.astype(np.float64) @ totals
    return sums.reshape(1 + draws, *values.shape[1:])


def interval(draws, level: float = 0.95) -> np.ndarray:
    """Return (2, ...): the percentile interval of `draws` (draw, ...), of those that are not NaN.

    The ends are draws (the nearest order statistic), so that an infinite draw makes no NaN.
    """
    ordered = np.sort(np.asarray(draws, np.float64), axis=0)  # NaN last
    last = np.maximum((~np.isnan(ordered)).sum(0) - 1, 0)
    ends = [np.rint(last * share).astype(int) for share in ((1 - level) / 2, (1 + level) / 2)]
    return np.concatenate([np.take_along_axis(ordered, end[None], axis=0) for end in ends])


def moments(prediction, faces, *, draws: int, seed: int) -> xr.Dataset:
    """Return bootstrap sums of 1, t, tt, p, pp, pt over samples: (draw, expression, ..., target).

    `prediction` is a DataArray (..., target, sample). Samples count that are usable in every condition,
    labelled, and predicted by every model. Row 0 of `draw` is the data themselves; expression "" holds
    the faces whose expression is unknown. Predictions and labels are centred by their own means, which
    `offset` gives back (the difference, (..., target)).

    Raises: InputError where no sample counts; ContractError as in `match`.
    """
    rows = match(prediction, faces)
    targets = [str(name) for name in prediction["target"].values]
    lead = prediction.dims[:-2]
    p = prediction.transpose(..., "target", "sample").values.astype(np.float64)
    t = np.stack([rated(faces, name)[rows] for name in targets]).astype(np.float64)  # (target, sample)
    known = usable(faces)[rows] & np.isfinite(t) & np.isfinite(p).all(tuple(range(len(lead))))
    keep = known.any(0)
    if not keep.any():
        raise InputError(
            f"none of the {len(rows)} faces is labelled and usable in every condition: nothing to evaluate"
        )
    p, t, known, rows = p[..., keep], t[:, keep], known[:, keep], rows[keep]
    names, group = np.unique(np.append("", column(faces, "expression")[rows]), return_inverse=True)
    member = np.eye(len(names))[group[1:]]  # (sample, expression), one-hot
    cluster = clusters(column(faces, "subject")[rows])
    with np.errstate(invalid="ignore"):
        mean_p, mean_t = (np.where(known, side, 0).sum(-1) / known.sum(-1) for side in (p, t))
    p, t = (np.where(known, side - mean[..., None], 0) for side, mean in ((p, mean_p), (t, mean_t)))
    sums = {}
    for keys, dims, features in (
        (("n", "t", "tt"), (), np.stack([known.astype(float), t, t * t])),
        (("p", "pp", "pt"), lead, np.stack([p, p * p, p * t])),
    ):
        values = np.einsum("se,...s->se...", member, features)  # (sample, expression, feature, ..., target)
        drawn = resample(values, cluster, draws, seed)
        sums.update({key: (("draw", "expression", *dims, "target"), drawn[:, :, i]) for i, key in enumerate(keys)})
    coords = {name: prediction[name].values for name in (*lead, "target") if name in prediction.coords}
    made = xr.Dataset(sums, {"expression": names, **coords})
    made["offset"] = ((*lead, "target"), mean_p - mean_t)
    return made.assign_attrs(rows=prediction.sizes["sample"], clusters=int(cluster.max()) + 1)


def agreement(sums: xr.Dataset, scope: str = "") -> xr.Dataset:
    """Return the parts of the CCC from `moments`, in one of four scopes.

    "": over all samples. "expression_": for each known expression. "within_": over all known expressions
    with chance agreement taken within each, 2 sum(n_e cov_e) / sum(n_e (var_p + var_t + gap^2)_e), which is
    0 for a prediction that knows the expression only; with the pooled within-group correlation as pearson.
    "oracle_": the CCC of an oracle that predicts the mean label of each expression, 2 B / (B + T) with B
    and T the sums of squares between expressions and in total.

    Raises: UnknownNameError for another scope.
    Source: Lin 1989; within: the stratified CCC after King and Chinchilli, Statistics in Medicine 20(14), 2001.
    """
    choose(scope, SCOPES, "scope")
    known = sums.sel(expression=sums["expression"] != "")
    with np.errstate(invalid="ignore", divide="ignore"):
        if scope == "":
            return xr.Dataset(_parts(*_central(sums.sum("expression"))))
        gap, var_p, var_t, cov = _central(known)
        if scope == "expression_":
            return xr.Dataset(_parts(gap, var_p, var_t, cov)).transpose(..., "expression")
        cov, var_p, var_t, square = ((known["n"] * v).sum("expression") for v in (cov, var_p, var_t, gap**2))
        if scope == "within_":
            spread = var_p + var_t + square
            return xr.Dataset({"ccc": 2 * cov / spread, "pearson": cov / np.sqrt(var_p * var_t)})
        pooled = known[["n", "t", "tt"]].sum("expression")
        total = pooled["tt"] - pooled["t"] ** 2 / pooled["n"]
        return xr.Dataset({"ccc": 2 * (total - var_t) / (2 * total - var_t)})


def _central(sums: xr.Dataset) -> tuple:
    """Return the difference of means, the variances and the covariance; NaN for fewer than two samples."""
    n = sums["n"].where(sums["n"] > 1)
    mean_p, mean_t = sums["p"] / n, sums["t"] / n
    square_p, square_t = sums["pp"] / n, sums["tt"] / n
    var_p, var_t = square_p - mean_p**2, square_t - mean_t**2
    # What is left of equal values is the rounding error of the difference above.
    var_p, var_t = var_p.where(var_p > 1e-12 * square_p, 0 * n), var_t.where(var_t > 1e-12 * square_t, 0 * n)
    cov = (sums["pt"] / n - mean_p * mean_t).where((var_p > 0) & (var_t > 0), 0 * n)
    return mean_p - mean_t + sums["offset"], var_p, var_t, cov


def evaluate(results, faces, *, draws: int = 2000, seed: int = 0) -> xr.Dataset:
    """Return how well each model agrees with the labels, with 95 % intervals, whole and within expression.

    Every quantity has a `_low` and a `_high`. (model, condition, target): ccc, pearson, scale, shift,
    bias_correction, mse, rmse, within_ccc, within_pearson. (model, condition, target, expression): the same
    seven with the prefix `expression_`. (target): oracle_ccc, the CCC that a prediction of each expression's
    mean label would get on these faces. n (target), expression_n (target, expression) and coverage (target),
    n over all rows, count the samples that are usable in every condition, labelled and predicted.

    Raises: InputError where no sample counts; ContractError where results and faces do not match.
    Source: `agreement`; percentile intervals, Davison and Hinkley 1997, section 5.3.

    >>> evaluate(results, faces)["ccc"].sel(condition="masked", target="valence")  # doctest: +SKIP
    """
    check(results, "results")
    check(faces, "faces")
    prediction = results["prediction"].assign_attrs(results.attrs)
    sums = moments(prediction, faces, draws=draws, seed=seed)
    made = {}
    for scope in SCOPES:
        for name, drawn in agreement(sums, scope).items():
            low, high = interval(drawn.values[1:])
            made[scope + name] = drawn.isel(draw=0)
            made[f"{scope}{name}_low"], made[f"{scope}{name}_high"] = ((drawn.dims[1:], v) for v in (low, high))
    known = sums["n"].isel(draw=0).astype(int)
    made["n"] = known.sum("expression")
    made["expression_n"] = known.sel(expression=known["expression"] != "").transpose(..., "expression")
    made["coverage"] = made["n"] / sums.attrs["rows"]
    return xr.Dataset(made).assign_attrs(
        rows=sums.attrs["rows"], clusters=sums.attrs["clusters"], draws=draws, seed=seed,
        interval="95 % percentile bootstrap over subjects, paired", moments="population (divided by n)",
    )  # fmt: skip
