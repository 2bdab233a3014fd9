"""Methods that weigh the channels of one layer.

The layer is the last of the trunk that gives a map of more than one cell, unless another is named: of a FaceChannel the
shunting layer, or conv10's ReLU where there is no inhibition (8x8 cells for 64x64 faces), of other networks what
`fcx.attribution.layers` says. The results name it (`methods` in their attributes). A cell becomes a constant block of
pixels that share its value, so that every map on the grid has exactly the sum of its cells, and the mass of a region
counts cells by their overlap with it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from fcx.attribution.batch import Batch, spread
from fcx.attribution.layers import Layers, laid_out, last_map
from fcx.attribution.lrp_values import Constants, Value
from fcx.attribution.registry import method
from fcx.core.arguments import switch
from fcx.core.checks import choose
from fcx.core.errors import InputError
from fcx.networks.facechannel import FaceChannel

CELL = 8  # pixels: three poolings lie before the last convolutions
COARSE = (
    "its cells are wide, and what speaks against the output is left out: where the answer is known it mostly names "
    "another region (docs/validity.md)"
)


def on_grid(batch: Batch, cells: torch.Tensor) -> torch.Tensor:
    """Spread (..., row, column) over the grid of a batch, whose maps then have the resolution of a cell."""
    side = {size / count for size, count in zip(batch.grid, cells.shape[-2:], strict=True)}
    batch.resolution = max(1, math.gcd(*map(int, side))) if all(s.is_integer() for s in side) else 1
    return spread(cells, batch.grid)


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of a model that can be named: of a FaceChannel those up to its last map, of others all.

    >>> list(named_layers(FaceChannel.preset("code2020")))[-3:]
    ['relu9', 'conv10', 'relu10']
    """
    if not isinstance(model, FaceChannel):
        return {name: module for name, module in model.named_modules() if name}
    last = ("conv10", "relu10", "inhibitory", "relu_inhibitory", "shunt")
    return {**dict(model.trunk.named_children()), **{n: getattr(model, n) for n in last if hasattr(model, n)}}


def last_layer(batch: Batch, tokens: bool) -> str:
    """Return the name of the last layer of a FaceChannel that gives a map, or of the trunk of another network.

    Raises: InputError where there is none.
    """
    known = named_layers(batch.model)
    if isinstance(batch.model, FaceChannel):
        return [*known][-1]
    like = batch.images
    if name := batch.subject.once(last_map, like.shape[1:], like.dtype, like.device, tokens):
        return name
    ask = "" if tokens else ", or lay out tokens on their grid, tokens=True"
    raise InputError(
        f"model {batch.subject.name!r} has no layer that everything goes through and that gives several cells, patches "
        f"of pixels and what lies before attention aside: name another, layer=...{ask}; allowed: "
        f"{', '.join(known) or 'none'}"
    )


def channels_and_slopes(batch: Batch, layer: str, tokens: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the channels of a layer (sample, channel, row, column), and d target / d channel (target, sample, ...).

    What lies before the layer is computed once for all targets, without a graph; the last map of a
    FaceChannel once for all methods. The batch then knows the name of the layer.

    Raises: UnknownNameError for a layer that the model does not have; InputError for one that gives no maps.
    """
    model, owner, tokens = batch.model, f"model {batch.subject.name!r}", switch(tokens, "tokens")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError(f"{owner} is TorchScript, which hides its layers: give the module that it was made from")
    known = named_layers(model)
    name = choose(layer, ["last", *known], f"layer of {owner}")
    batch.layer = name = last_layer(batch, tokens) if name == "last" else name
    if isinstance(model, FaceChannel) and name == [*known][-1]:
        channels = batch.features.detach().requires_grad_()
        values = batch.values(model.tail(channels))
        slopes = [torch.autograd.grad(value.sum(), channels, retain_graph=True)[0] for value in values.T]
        return channels.detach(), torch.stack(slopes)
    if (key := (name, tokens, batch.images.shape[1:])) not in batch.engine.memory:
        layers = Layers(
            batch.explained, batch.images.repeat(2, 1, 1, 1)[:2], batch.subject.once(Constants), {name: known[name]}
        )
        _, batch.engine.memory[key] = _map_of(layers, name, f"layer {name!r} of {owner}", tokens)
    axis = batch.engine.memory[key]
    if (found := _by_hook(batch, known[name]) or _by_tape(batch, name, known[name])) is None:
        raise InputError(f"layer {name!r} of {owner} does not lead to its outputs")
    channels, slopes = found
    return laid_out(channels, axis), torch.stack([laid_out(of_target, axis) for of_target in slopes])


def _by_hook(batch: Batch, layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return what a layer gave, and its slopes (target, ...), by autograd; None where that does not go back."""
    given = []

    def cut(module, inputs, output):
        given.append(output.detach().requires_grad_())
        return given[0].clone()  # what follows may work in place

    hook = layer.register_forward_hook(cut)
    try:
        values = batch.values(batch.explained(batch.images))
        slopes = [torch.autograd.grad(value.sum(), given[0], retain_graph=True)[0] for value in values.T]
    except RuntimeError:
        return None
    finally:
        hook.remove()
    return given[0].detach(), torch.stack(slopes)


def _by_tape(batch: Batch, name: str, layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return what `_by_hook` does, by a tape."""
    layers = Layers(batch.explained, batch.images, batch.subject.once(Constants), {name: layer})
    value = layers.tape.marks[name]
    slopes = layers.slopes(value, batch.weights)
    return None if slopes is None else (value.tensor, slopes)


def _map_of(layers: Layers, name: str, owner: str, tokens: bool) -> tuple[Value, int]:
    """Return what a layer gave, and the dimension of it that holds the channels."""
    if not layers.runs[name]:
        raise InputError(f"{owner} does not run: name another")
    value = layers.tape.marks.get(name)
    shape, again = value and tuple(value.tensor.shape), ", again" if layers.runs[name] > 1 else ""
    if not shape or again or len(shape) not in (3, 4) or not layers.tape.owners.has_rows(value):
        given = f"{_said(shape) if shape else 'nothing that depends on the picture'}{again}"
        raise InputError(
            f"{owner} gives {given}: a layer must run once and give (sample, channel, row, column) or tokens"
        )
    if len(shape) == 3 and not tokens:
        raise InputError(f"{owner} gives tokens, {_said(shape)}: with tokens=True they are laid out on their grid")
    if (axis := layers.axes[value]) is None:
        raise InputError(f"{owner} gives {_said(shape)}, of which it is not known what are its channels: name another")
    return value, axis


def _said(shape: tuple) -> str:
    return f"({', '.join(['sample', *map(str, shape[1:])])})"


@method("gradcam", title="Grad-CAM", signed=False, conserves=False, resolution=CELL, caution=COARSE)
def gradcam(batch: Batch, *, layer: str = "last", tokens: bool = False) -> torch.Tensor:
    """Return Grad-CAM of each target as (target, sample, y, x), from one pass through the trunk for all targets.

    alpha_k = mean over cells of d target / d A_k; map = ReLU(sum_k alpha_k A_k), with the output before its
    activation and without any scaling, so that maps of different faces and models compare. `layer` is the
    name of a module ("conv10" is before its ReLU, "relu10" behind it); the resolution of a map follows from it.
    With `tokens` the layer may give tokens (sample, token, channel), which are laid out on their grid.

    Raises: UnknownNameError for a layer that the model does not have; InputError for one that gives no maps.
    Source: Selvaraju et al. 2017 (1610.02391), equations (1) and (2).
    """
    channels, slopes = channels_and_slopes(batch, layer, tokens)
    alpha = slopes.mean((-2, -1))  # (target, sample, channel)
    cells = torch.einsum("tsc,scyx->tsyx", alpha, channels).relu()
    return on_grid(batch, cells)


@method("gradcam++", title="Grad-CAM++", signed=False, conserves=False, resolution=CELL, caution=COARSE)
def gradcam_plus_plus(batch: Batch, *, layer: str = "last", tokens: bool = False) -> torch.Tensor:
    """Return Grad-CAM++ of each target as (target, sample, y, x).

    Weights are w_k = sum over cells of a ReLU(g), a = g^2 / (2 g^2 + g^3 sum A_k), g = d target / d A_k; what
    lowers the target never counts. Its derivation takes the exponential of a class score for the output; the
    factor that this gives each face is left out, as in the authors' code.

    Raises: as in `gradcam`.
    Source: Chattopadhyay et al. 2018 (1710.11063), equations (10) and (19).
    """
    channels, slopes = channels_and_slopes(batch, layer, tokens)
    below = 2 + slopes * channels.sum((-2, -1), keepdim=True)  # g^2 is cancelled
    parts = torch.where((slopes != 0) & (below != 0), slopes.relu() / below, 0)
    cells = torch.einsum("tsc,scyx->tsyx", parts.sum((-2, -1)), channels).relu()
    return on_grid(batch, cells)


@method("layercam", title="LayerCAM", signed=False, conserves=False, resolution=CELL, caution=COARSE)
def layercam(batch: Batch, *, layer: str = "last", tokens: bool = False) -> torch.Tensor:
    """Return LayerCAM of each target as (target, sample, y, x): ReLU(sum_k ReLU(d target / d A_k) A_k), cell by cell.

    Raises: as in `gradcam`.
    Source: Jiang et al. 2021, IEEE Transactions on Image Processing 30, equations (6) and (7).
    """
    channels, slopes = channels_and_slopes(batch, layer, tokens)
    return on_grid(batch, (slopes.relu() * channels).sum(2).relu())


@method("mean_activation", signed=True, conserves=False, resolution=CELL, needs=FaceChannel, units="of the activation",
        caution="the same for every output, so that it explains none",
        shows="where the last convolutional layer is active (the same for every output)")  # fmt: skip
def mean_activation(batch: Batch) -> torch.Tensor:
    """Return plus or minus the mean activation, (target, sample, y, x): what the authors' code in effect drew.

    Their loop multiplies every channel by one and the same pooled gradient, that of the channel whose number
    is the index of the image, and a division by the maximum removes its size: only its sign is left. The
    gradient is that of the sum of both outputs, so the map is the same for every target. Where the sign is
    negative their drawing is empty.

    Deviations: the index is the face's position along `sample`, modulo the number of channels (their code
    fails silently beyond it); the negative sign is kept, and nothing is divided by the maximum, both left to
    whoever draws; the map is that after the shunt where the model has one (their code has none: conv10).
    Source: Barros and Sciutti 2021, Figure 3, and the code published with it.
    """
    features = batch.features.detach().requires_grad_()
    output = batch.model.activation(batch.model.tail(features)).sum()
    (gradient,) = torch.autograd.grad(output, features)
    pooled = gradient.mean((2, 3))  # (sample, channel)
    picked = pooled.gather(1, (batch.position % pooled.shape[1])[:, None])  # (sample, 1)
    cells = picked.sign()[..., None] * features.detach().mean(1)
    return on_grid(batch, cells).expand(len(batch.weights), -1, -1, -1)
