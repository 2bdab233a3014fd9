"""What in a face moved the outputs of a model, by several methods, streamed to a store.

`attribute` runs the methods of the registry `METHODS` (see `fcx.attribution.registry` for how to add one);
`open_results` opens what it wrote. Results are values, which keep their units and provenance (xarray 2025.11 and
later keep attributes in arithmetic):

    results.sel(model="masked_scratch") - results.sel(model="plain_scratch")
    (results.sel(condition="masked") - results.sel(condition="plain")).mean("sample")
"""

from fcx.attribution import cam, deeplift, gradient, lrp, perturbation  # noqa: F401  registers the methods
from fcx.attribution.batch import Batch
from fcx.attribution.fills import FILLS
from fcx.attribution.inhibition import inhibition_index
from fcx.attribution.perturbation import region_effects
from fcx.attribution.registry import METHODS, Method, method
from fcx.attribution.runner import attribute
from fcx.attribution.storage import open_results

__all__ = [
    "FILLS", "METHODS", "Batch", "Method", "attribute", "inhibition_index", "method", "open_results", "region_effects",
]  # fmt: skip
