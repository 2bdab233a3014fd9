"""Corrections of p-values for many tests."""

from __future__ import annotations

import numpy as np
import xarray as xr


def corrected(table: xr.Dataset) -> xr.Dataset:
    """Add p_holm, over all tests with the same method, and how many tests these are."""
    p = table["p"].transpose("method", ...) if "method" in table["p"].dims else table["p"].expand_dims("method")
    corrected = p.copy(data=np.stack([holm(values) for values in p.values]))
    corrected = corrected if "method" in table["p"].dims else corrected.isel(method=0)
    tests = int(p.isel(method=0).notnull().sum())
    return table.assign(p_holm=corrected.transpose(*table["p"].dims)).assign_attrs(tests=tests)


def holm(p) -> np.ndarray:
    """Return p-values of one family corrected by Holm's step-down procedure, in the shape given; NaN stays out.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p.ravel()[tested], kind="stable")]
    steps = p.ravel()[order] * np.arange(len(order), 0, -1)
    corrected.flat[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
