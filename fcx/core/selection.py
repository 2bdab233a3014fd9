"""`results.fcx.sel(method="lrp_gamma", condition="masked")`: every dimension by its name, also `method`.

xarray's own `sel` keeps the words `method`, `drop` and `tolerance` for itself.
"""

from __future__ import annotations

import xarray as xr

from fcx.core.checks import choose, choose_all


@xr.register_dataset_accessor("fcx")
@xr.register_dataarray_accessor("fcx")
class Selection:
    """What fcx adds to a Dataset or DataArray, as its attribute `fcx`."""

    def __init__(self, values):
        self._values = values

    def sel(self, **names):
        """Return the values of one name, or of a list of names, along each dimension given.

        Raises: UnknownNameError for a dimension or a name that is not there.

        >>> import xarray as xr
        >>> maps = xr.DataArray([1, 2], {"method": ["gradient", "lrp_gamma"]}, ["method"])
        >>> maps.fcx.sel(method="lrp_gamma").item()
        2
        """
        choose_all(names, [str(dim) for dim in self._values.dims], "dimension")
        for dim, wanted in names.items():
            if isinstance(wanted, str) and dim in self._values.indexes:
                choose(wanted, [str(name) for name in self._values[dim].values], dim)
        return self._values.sel(names)
