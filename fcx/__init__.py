"""fcx: where does a network that reads facial expressions look, and what changes under a mask?

Public names and rooms load on first use, so that `import fcx` needs neither torch nor OpenCV;
`__init__.pyi` lists them, for laziness and for types alike.
"""

import sys

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _dataset_html(dataset) -> str:
    from fcx.figures.display import dataset_html

    return dataset_html(dataset)


if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):  # in a notebook
    shell.display_formatter.formatters["text/html"].for_type_by_name("xarray.core.dataset", "Dataset", _dataset_html)


def __getattr__(name: str):
    if name != "__version__":
        return _load(name)
    from importlib import metadata

    return metadata.version("fcx-faces")
