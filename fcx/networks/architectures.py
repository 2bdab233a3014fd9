"""Architectures beside the FaceChannel whose weights a checkpoint may hold, each by the name in its header."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from fcx.core.checks import choose
from fcx.core.errors import CheckpointError, InputError
from fcx.networks.inputs import Network, as_network
from fcx.networks.mini_xception import MiniXception
from fcx.networks.residual import SmallResNet

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {"mini_xception": MiniXception, "small_resnet": SmallResNet}


def network_of(path, metadata: Mapping) -> Network:
    """Return the network that a checkpoint's header declares, with weights as they are drawn.

    Raises: CheckpointError where the header names no architecture, or declares what cannot be.
    """
    try:
        module = ARCHITECTURES[choose(metadata["architecture"], ARCHITECTURES, "architecture")]()
        network = as_network(module, **metadata["network"])
    except (KeyError, TypeError, InputError) as error:
        raise CheckpointError(f"{path} does not describe a network: {error}") from error
    network.metadata = dict(metadata)
    return network
