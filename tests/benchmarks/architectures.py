"""What fcx answers to architectures of torchvision and timm (`pip install timm`), with weights as they are drawn.

    python tests/benchmarks/architectures.py torchvision/resnet18 timm/vit_tiny_patch16_224:img_size=64

Prints a row of a table for each: by how much the ledger of LRP (epsilon, gamma, z+) misses the output, of sum |R|,
which layer Grad-CAM weighs, or why it is refused. Norms have seen pictures and what is constant is drawn, so that no
bias is 0.
"""

import sys

import torch

from fcx.attribution import METHODS
from fcx.attribution.batch import Batch, Subject
from fcx.attribution.lrp_rules import Rule
from fcx.core.errors import InputError
from fcx.networks import torchvision_operators  # noqa: F401
from fcx.networks.inputs import as_network

SIZE, OUTPUTS, RULES = 64, 3, (Rule("epsilon", "rule"), Rule("gamma", "rule"), Rule("zplus", "flat"))


def network(name: str) -> torch.nn.Module:
    """Return a network by "library/architecture:option=number", whose constants are drawn."""
    library, _, architecture = name.partition("/")
    architecture, *options = architecture.split(":")
    options = {key: int(number) for key, number in (option.split("=") for option in options)}
    torch.manual_seed(0)
    if library == "timm":
        import timm

        net = timm.create_model(architecture, num_classes=OUTPUTS, **options)
    else:
        from torchvision import models

        net = models.get_model(architecture, weights=None, num_classes=OUTPUTS, **options)
    with torch.no_grad():
        for weight in net.parameters():
            if (first := float(weight.flatten()[0])) == 0 or (weight == first).all():
                weight.copy_((first if first in (0, 1) else 0.3) + 0.1 * torch.randn(weight.shape))
        net.train()(torch.rand(3, 3, options.get("img_size", SIZE), options.get("img_size", SIZE)))
    return net.eval()


def row(name: str, size: int) -> str:
    """Return what LRP and Grad-CAM answer to an architecture, as a row of a table."""
    net = as_network(network(name), size=size, channels=3, mean=0.5, std=0.3, outputs=[f"o{i}" for i in range(OUTPUTS)])
    subject = Subject.of(name, net, torch.device("cpu"), torch.float32)
    batch = Batch(subject, torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)))
    try:
        gaps = []
        for rule in RULES:
            found = batch.engine.relevance(batch.images, batch.weights, rule)
            left = found.maps.sum((-1, -2), dtype=torch.float64) + found.absorbed.sum(0) - found.value
            gaps.append(f"{float((left.abs() / found.maps.abs().sum((-1, -2))).max()):.0e}")
        lrp = ", ".join(gaps)
    except InputError as error:
        lrp = str(error).split(" (there are rules")[0]
    for tokens in (False, True):
        try:
            METHODS["gradcam"].function(batch, tokens=tokens)
            layer = f"`{batch.layer.removeprefix('module.')}`" + (", tokens" if tokens else "")
            break
        except InputError as error:
            layer = str(error).split(":")[0]
    return f"| {name} | {lrp} | {layer} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[1:]:
        side = int(each.partition("img_size=")[2] or SIZE)
        print(row(each, side), flush=True)
