"""Adapters, one file a format: a path in, source pictures with labels out.

A new format is one module with one function below `@adapter(name, takes)`; import it here.
"""

import lazy_loader

from fcx.datasets import demo, ferplus, folder, memory, table  # noqa: F401  registers the formats

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
