"""FaceChannel, whole in one file.

Barros and Sciutti, "I Only Have Eyes for You", 2021, section 2 and equation (1); Barros,
Churamani and Sciutti, "The FaceChannel", SN Computer Science 1(6), 2020. Three presets:

- `paper`: what the paper's text says; learned passive decay, 256 hidden units, linear outputs.
- `code2020`: what the authors' code for the paper builds; no inhibition, 200 units, tanh.
- `v1`: the FaceChannel V1 that they published; constant decay .5, batch norm on conv1-9.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from fcx.core.arguments import switch
from fcx.core.checks import check_memory, choose, choose_all, described, real_number, whole_number
from fcx.core.contract import GRID, TARGETS
from fcx.core.errors import InputError

DECAY_INIT, DECAY_FLOOR = 0.5, 0.05
MOST_LAYERS = 3  # Table 1 of the paper


@dataclass(frozen=True)
class Config:
    """What a FaceChannel is made of; `width` is the channels of the last block."""

    preset: str = "paper"
    width: int = 256
    hidden: int = 256
    layers: int = 1  # hidden layers, of `hidden` units each: "hidden", "hidden2", "hidden3"
    batch_norm: bool = False
    shunt: str = "learned"  # "learned", "constant" or "none"
    head: str = "linear"  # "linear" or "tanh"
    dropout: float = 0.25
    bias: bool = True
    size: int = GRID

    def __post_init__(self):
        choose(self.shunt, ("learned", "constant", "none"), "shunt")
        choose(self.head, ("linear", "tanh"), "head")
        switch(self.batch_norm, "batch_norm"), switch(self.bias, "bias")
        for name, step in (("width", 4), ("size", 16), ("hidden", 1)):
            if whole_number(getattr(self, name), name, step) % step:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: positive multiples of {step}")
        whole_number(self.layers, "layers", 1, MOST_LAYERS)
        real_number(self.dropout, "dropout", 0, below=1)

    def weights(self) -> int:
        """Return about how many weights there are: those of convolutions and of the hidden layers."""
        full, half, quarter = self.width, self.width // 2, self.width // 4
        pairs = quarter**2 + quarter * half + 4 * half**2 + half * full + full**2 * (2 if self.shunt == "none" else 3)
        dense = full * (self.size // 16) ** 2 * self.hidden + (self.layers - 1) * self.hidden**2
        return 9 * (quarter + pairs) + dense

    def hidden_layers(self) -> list[str]:
        """Return the names of the hidden layers, in the order in which they are read."""
        return ["hidden", *(f"hidden{number}" for number in range(2, self.layers + 1))]

    def activations(self) -> int:
        """Return about how many numbers the maps of one face hold."""
        return self.size**2 * self.width

    def as_dict(self) -> dict:
        """Return the fields as a plain dict (what a checkpoint stores)."""
        return asdict(self)


PRESETS = {
    "paper": Config("paper"),
    "code2020": Config("code2020", hidden=200, shunt="none", head="tanh"),
    "v1": Config("v1", hidden=200, batch_norm=True, shunt="constant", head="tanh"),
}


class Shunt(nn.Module):
    """Shunting inhibition S = u / (a + I), equation (1) of the paper, with one decay a > 0 per filter.

    A learned a is softplus(rho) + 0.05: left free it crosses zero within a few steps of SGD.
    The division is done in float32 at least (bfloat16 errs by up to 1.1 %).
    """

    def __init__(self, channels: int, learned: bool = True):
        super().__init__()
        self.learned = learned
        if learned:
            # On the CPU, as `load_model` makes shapes first: without a device, expm1 loads torch's compiler.
            rho = torch.tensor(DECAY_INIT - DECAY_FLOOR, device="cpu").expm1().log().item()
            self.rho = nn.Parameter(torch.full((channels,), rho))
        else:
            self.register_buffer("constant", torch.full((channels,), DECAY_INIT), persistent=False)

    @property
    def decay(self) -> torch.Tensor:
        """The passive decay a, (channel,), positive."""
        return F.softplus(self.rho) + DECAY_FLOOR if self.learned else self.constant

    def forward(self, u: torch.Tensor, inhibition: torch.Tensor) -> torch.Tensor:
        wide = u.dtype if u.dtype == torch.float64 else torch.float32
        a = self.decay.to(wide)[:, None, None]
        return (u.to(wide) / (a + inhibition.to(wide))).to(u.dtype)


class FaceChannel(nn.Module):
    """Ten 3x3 convolutions in four pooled blocks, shunting inhibition in the last, arousal and valence out.

    Input (sample, 1, y, x) float in [0, 1]; output (sample, target), targets in the order
    `fcx.core.contract.TARGETS`. `trunk` ends before conv10; `conv10` and `inhibitory` both read it;
    `shunt` divides one by the other; `tail` pools, and ends in the hidden layers and `head`.

    >>> FaceChannel.preset("paper", width=64)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 2])
    """

    def __init__(self, config: Config = PRESETS["paper"], **fields):
        super().__init__()
        if fields:
            raise InputError(f"FaceChannel takes a Config: give {', '.join(fields)} to FaceChannel.preset, as in "
                             "FaceChannel.preset('paper', width=64)")  # fmt: skip
        if not isinstance(config, Config):
            raise InputError(f"config is {described(config)}; allowed: a Config, or FaceChannel.preset with a name")
        check_memory(4 * config.weights(), f"a network of width {config.width}, hidden {config.hidden} and size "
                     f"{config.size}")  # fmt: skip
        self.config = config
        full, half, quarter = config.width, config.width // 2, config.width // 4
        plan = [[quarter] * 2, [half] * 2, [half] * 3, [full] * 2]
        layers: list[tuple[str, nn.Module]] = []
        channels, number = 1, 0
        for block, widths in enumerate(plan, start=1):
            for width in widths:
                number += 1
                layers.append((f"conv{number}", self._conv(channels, width)))
                if config.batch_norm:
                    layers.append((f"bn{number}", nn.BatchNorm2d(width, eps=1e-3)))
                layers.append((f"relu{number}", nn.ReLU()))
                channels = width
            if block < 4:
                layers += [(f"pool{block}", nn.MaxPool2d(2)), (f"dropout{block}", nn.Dropout(config.dropout))]
        self.trunk = nn.Sequential()
        for name, layer in layers:
            self.trunk.add_module(name, layer)
        self.conv10, self.relu10 = self._conv(full, full), nn.ReLU()
        if config.shunt != "none":
            self.inhibitory, self.relu_inhibitory = self._conv(full, full), nn.ReLU()
            self.shunt = Shunt(full, learned=config.shunt == "learned")
        self.pool4, self.dropout4, self.flatten = nn.MaxPool2d(2), nn.Dropout(config.dropout), nn.Flatten()
        units = full * (config.size // 16) ** 2
        for name in config.hidden_layers():
            self.add_module(name, nn.Linear(units, config.hidden, bias=config.bias))
            self.add_module(f"relu_{name}", nn.ReLU())
            units = config.hidden
        self.head = nn.Linear(config.hidden, len(TARGETS), bias=config.bias)
        self.activation = nn.Tanh() if config.head == "tanh" else nn.Identity()
        self._initialise()

    def _conv(self, inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, padding=1, bias=self.config.bias)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def preset(cls, name: str = "paper", **options: object) -> FaceChannel:
        """Build a preset (`paper`, `code2020`, `v1`), with any field of `Config` changed.

        Raises: UnknownNameError for a name or an option that does not exist.
        """
        config = PRESETS[choose(name, PRESETS, "preset")]
        allowed = [name for name in config.as_dict() if name != "preset"]
        return cls(replace(config, **choose_all(options, allowed, "option of FaceChannel")))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Map (sample, 1, y, x) to the last convolutional map (sample, channel, y/8, x/8): after the
        shunt, or after conv10's ReLU where the model has none. The values are not checked."""
        return self.inhibited(self.trunk(images))

    def inhibited(self, shared: torch.Tensor) -> torch.Tensor:
        """Map what the trunk answers to the last convolutional map, both (sample, channel, y/8, x/8)."""
        u = self.relu10(self.conv10(shared))
        if self.config.shunt == "none":
            return u
        return self.shunt(u, self.relu_inhibitory(self.inhibitory(shared)))

    def tail_layers(self) -> list[nn.Module]:
        """Return the layers behind the last convolutional map, in the order in which `tail` asks them."""
        dense = [self.get_submodule(f"{kind}{name}") for name in self.config.hidden_layers() for kind in ("", "relu_")]
        return [self.pool4, self.dropout4, self.flatten, *dense, self.head]

    def tail(self, features: torch.Tensor) -> torch.Tensor:
        """Map the last convolutional map to (sample, target), before the outputs' activation."""
        for layer in self.tail_layers():
            features = layer(features)
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map checked faces (sample, 1, y, x) in [0, 1] to (sample, target)."""
        check_input(images, self.config.size)
        return self.activation(self.tail(self.features(images)))


def check_input(images: torch.Tensor, size: int = GRID) -> None:
    """Refuse what a FaceChannel cannot read.

    Raises: InputError for another type, shape or range; 0-255 input is told to divide by 255.
    """
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise InputError(f"FaceChannel takes a floating-point tensor in [0, 1], not {given}: divide bytes by 255")
    if images.ndim != 4 or images.shape[1:] != (1, size, size):
        raise InputError(f"FaceChannel takes (sample, 1, {size}, {size}), not {tuple(images.shape)}")
    if images.device.type == "meta" or images.numel() == 0:
        return
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if not (low >= 0 and high <= 1):  # also refuses NaN
        hint = ": it looks like 0-255, divide by 255" if high > 2 and low >= 0 else ""
        raise InputError(f"FaceChannel takes values in [0, 1], not [{low:g}, {high:g}]{hint}")
