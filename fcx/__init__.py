"""fcx: where does a network that reads facial expressions look, and what changes under a mask?

Public names and modules load on first use, so that `import fcx` needs neither torch nor OpenCV.
"""

from importlib import import_module, metadata

_HOMES = {
    "open_faces": "faces",
    "prepare": "faces",
    "wear_mask": "masks",
    "region_maps": "regions",
    "FaceChannel": "model",
    "load_model": "checkpoints",
    "save_model": "checkpoints",
    "predict": "inference",
    "train": "training",
    "evaluate": "evaluation",
    "attribute": "attribution",
    "open_results": "attribution",
    "region_statistics": "statistics",
    "compare": "statistics",
    "report": "reporting",
}
__all__ = sorted(_HOMES)
__version__ = metadata.version("fcx")


def __getattr__(name: str):
    if name not in _HOMES:
        try:
            return import_module(f"fcx.{name}")  # such as fcx.masks
        except ModuleNotFoundError as error:
            if error.name != f"fcx.{name}":
                raise
            raise AttributeError(f"module 'fcx' has no attribute {name!r}") from None
    value = getattr(import_module(f"fcx.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
