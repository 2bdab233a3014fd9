"""Adapters, one file a format: a path in, source pictures with labels out.

A new format is one module with one function below `@adapter(name, takes)`.
"""

import lazy_loader

from fcx.core.rooms import load_modules

load_modules(__name__, __path__, "adapter")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
