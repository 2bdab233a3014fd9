"""How well predictions agree with labels: the concordance correlation coefficient and its parts.

All moments are population moments (divided by n), as in Lin, "A concordance correlation
coefficient to evaluate reproducibility", Biometrics 45(1), 1989, 255-268; torchmetrics divides
by n - 1. A CCC belongs to a whole set: averaged over batches it is biased.
"""

from __future__ import annotations

import numpy as np

from fcx.contract import InputError


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
    p, t = _paired(prediction, truth, axis)
    _, mean_p, mean_t, var_p, var_t, cov = _moments(p, t)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(var_p + var_t > 0, 2 * cov / (var_p + var_t + (mean_p - mean_t) ** 2), np.nan)


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


def _moments(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return n, means, population variances and covariance over the last axis, without NaN pairs."""
    valid = ~np.isnan(p)
    n = valid.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_p, mean_t = (np.where(valid, v, 0).sum(-1) / np.where(n > 1, n, np.nan) for v in (p, t))
        # Two passes; a side that does not vary has deviations of exactly 0, not of rounding size.
        dev_p, dev_t = (_deviations(v, mean, valid) for v, mean in ((p, mean_p), (t, mean_t)))
        var_p, var_t, cov = ((a * b).sum(-1) / n for a, b in ((dev_p, dev_p), (dev_t, dev_t), (dev_p, dev_t)))
    return n, mean_p, mean_t, var_p, var_t, cov


def _deviations(values: np.ndarray, mean: np.ndarray, valid: np.ndarray) -> np.ndarray:
    low = np.where(valid, values, np.inf).min(-1, initial=np.inf)
    high = np.where(valid, values, -np.inf).max(-1, initial=-np.inf)
    return np.where(valid & (high > low)[..., None], values - mean[..., None], 0.0)
