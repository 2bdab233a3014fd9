"""Makes torchvision importable beside a torch without its compiled operators; import it before zennit.

zennit imports torchvision for canonizers that fcx does not use. Where torchvision's compiled library
does not load (it was built for another torch, or for CUDA), its import stops with "operator
torchvision::nms does not exist". The cure is to declare the two operators that the import looks up.
They stay without an implementation: calling them still fails, with torchvision's own message.
"""

from __future__ import annotations

import torch

MISSING = ("nms", "qnms")

try:
    import torchvision
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # The declarations live as long as this object, so the module keeps it.
    library = torch.library.Library("torchvision", "DEF")
    for operator in MISSING:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
