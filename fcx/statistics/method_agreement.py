"""Do several attribution methods say the same of a difference? One method may tell its own habit, not the network's."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.errors import ContractError

AGREES, CONTRADICTED, MIXED = "agrees", "contradicted", "mixed"


def agreement_of_methods(comparisons: xr.Dataset) -> xr.DataArray:
    """Return what methods make of each difference, (...): the dimensions of `difference` without `method`.

    `comparisons` is from `compare` or `compare_all` of a quantity by region. "agrees": the intervals of all methods
    leave out 0 with one sign; "contradicted": two of them leave out 0 with opposite signs; "mixed": all else.

    Raises: ContractError for comparisons without the dimension method.

    >>> interval = {"low": ("method", [0.1, 0.2]), "high": ("method", [0.5, 0.3])}
    >>> str(agreement_of_methods(xr.Dataset(interval)).item())
    'agrees'
    """
    if "method" not in comparisons["low"].dims:
        raise ContractError("comparisons have no dimension 'method': only maps of methods can agree")
    higher, lower = comparisons["low"] > 0, comparisons["high"] < 0
    alike = higher.all("method") | lower.all("method")
    opposed = higher.any("method") & lower.any("method")
    return alike.copy(data=np.where(alike, AGREES, np.where(opposed, CONTRADICTED, MIXED))).rename("agreement")
