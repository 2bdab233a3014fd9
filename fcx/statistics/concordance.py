"""The concordance correlation coefficient (CCC) and its parts.

All moments are population moments (divided by n), as in Lin, "A concordance correlation
coefficient to evaluate reproducibility", Biometrics 45(1), 1989, 255-268; torchmetrics divides
by n - 1. A CCC belongs to a whole set: averaged over batches it is biased.
"""

from __future__ import annotations

import numpy as np

from fcx.core.errors import InputError

PARTS = ("ccc", "pearson", "scale", "shift", "bias_correction", "mse", "rmse")


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
        return {"n": n, **parts_of_moments(mean_p - mean_t, var_p, var_t, cov)}


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


def parts_of_moments(gap, var_p, var_t, cov) -> dict:
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
