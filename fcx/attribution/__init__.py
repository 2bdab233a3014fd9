"""What in a face moved the outputs of a model, by several methods, streamed to a store.

`attribute` runs the methods of the registry `METHODS` (see `fcx.attribution.registry` for how to add one);
`open_results` opens what it wrote. Results are values, which keep their units and provenance (xarray 2025.11 and
later keep attributes in arithmetic):

    results.sel(model="masked_scratch") - results.sel(model="plain_scratch")
    (results.sel(condition="masked") - results.sel(condition="plain")).mean("sample")
"""

import lazy_loader

from fcx.core.rooms import load_modules

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
load_modules(__name__, __path__)  # methods, rules and fills register themselves
