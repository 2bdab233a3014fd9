"""fcx: where does a network that reads facial expressions look, and what changes under a mask?

Public names and rooms load on first use, so that `import fcx` needs neither torch nor OpenCV;
`__init__.pyi` lists them, for laziness and for types alike.
"""

from importlib import metadata

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = metadata.version("fcx-faces")
