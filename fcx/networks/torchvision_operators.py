"""Makes torchvision importable beside a torch without its compiled operators, without importing it.

zennit, torchmetrics and many a network import torchvision. Where its compiled library does not load (it was built for
another torch, or for CUDA), `import torchvision` stops with "operator torchvision::nms does not exist". The cure is to
declare the two operators that the import looks up. They stay without an implementation: calling them still fails, with
torchvision's own message.
"""

from __future__ import annotations

import contextlib
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import torch

MISSING = ("nms", "qnms")

for _folder in spec.submodule_search_locations if (spec := find_spec("torchvision")) else ():
    for _library in (path for suffix in EXTENSION_SUFFIXES if (path := Path(_folder, f"_C{suffix}")).exists()):
        with contextlib.suppress(OSError):
            torch.ops.load_library(_library)
if not hasattr(torch.ops.torchvision, "nms"):
    # The declarations live as long as this object, so the module keeps it.
    library = torch.library.Library("torchvision", "DEF")
    for _operator in MISSING:
        library.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
