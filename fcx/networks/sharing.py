"""Training by several processes, each with its share of every batch, as one process would do it.

Every process draws the random numbers of the whole batch, knows what all of them answered to it, and adds up
gradients and batch-norm statistics: loss, order and steps are those of one process, up to the rounding of sums.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from fcx.core.errors import FcxError, InputError
from fcx.networks.inference import usable_device

LOG = logging.getLogger(__name__)
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # set by launchers


@dataclass(frozen=True)
class Group:
    """The processes that train together: which of them this is, how many they are, and where it computes."""

    device: torch.device
    index: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def share(self, size: int) -> slice:
        """Return which of `size` rows are this process's."""
        return slice(size * self.index // self.count, size * (self.index + 1) // self.count)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up a tensor over all processes, in place.

        Raises: FcxError where another process has ended.
        """
        try:
            torch.distributed.all_reduce(tensor)
        except RuntimeError as error:
            raise FcxError("another process of this training has ended: the same command goes on where it stopped "
                           f"({str(error).splitlines()[0]})") from error  # fmt: skip
        return tensor

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.count > 1:
            self.sum(torch.zeros(1, device=self.device))

    def whole(self, mine: torch.Tensor, size: int) -> torch.Tensor:
        """Return the `size` rows of all processes; gradients flow to `mine` alone."""
        if self.count == 1:
            return mine
        share, every = self.share(size), mine.new_zeros(size, *mine.shape[1:])
        every[share] = mine.detach()
        self.sum(every)
        return torch.cat([every[: share.start], mine, every[share.stop :]])

    def sum_gradients(self, parameters) -> None:
        """Add up the gradients of parameters, of which each process has the part of its own faces."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sums = self.sum(torch.cat([each.reshape(-1) for each in gradients]))
        for each, part in zip(gradients, sums.split([each.numel() for each in gradients]), strict=True):
            each.copy_(part.view(each.shape))


def join(device) -> Group:
    """Return the group that `accelerate launch`, `torchrun` or mpirun made this process part of, else it alone.

    Raises: InputError for a device that is not there, or where several are launched and Accelerate is missing.
    """
    device = usable_device(device)
    count = max(int(os.environ.get(name) or 1) for name in SIZES)
    if count == 1:
        if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ and "RANK" not in os.environ:
            LOG.warning("accelerate launch was asked for several processes and started one, as it does on a CPU "
                        "without MPI: this one trains alone; give it --multi_gpu, and fcx --device cpu")  # fmt: skip
        return Group(device)
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise InputError(f"{count} processes were launched to train together, which needs Accelerate: "
                         "pip install accelerate, or start one process") from error  # fmt: skip
    state = PartialState(cpu=device.type == "cpu")
    return Group(device if device.type == "cpu" else state.device, state.process_index, state.num_processes)


class _Sum(torch.autograd.Function):
    """A sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx, tensor, group):
        ctx.group = group
        return group.sum(tensor.clone())

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.sum(gradient.clone()), None


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the whole batch, on a CPU, for which torch has none."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map (sample, channel, y, x) to the same shape."""
        if not self.training:
            return super().forward(maps)
        values, axes = maps.float(), (0, 2, 3)
        count = self.group.sum(torch.tensor(float(maps.numel() // maps.shape[1])))
        mean = _Sum.apply(values.sum(axes), self.group) / count
        values = values - mean[:, None, None]
        variance = _Sum.apply(values.square().sum(axes), self.group) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (values * scale[:, None, None] + self.bias[:, None, None]).to(maps.dtype)


class SharedDropout(nn.Dropout):
    """Dropout by the random numbers of the whole batch."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map (sample, ...) to the same shape."""
        if not self.training or not self.p:
            return maps
        ones = maps.new_ones(self.faces, *maps.shape[1:])
        if maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last):  # whose numbers are drawn so
            ones = ones.contiguous(memory_format=torch.channels_last)
        return maps * F.dropout(ones, self.p)[self.group.share(self.faces)]


def share_layers(model: nn.Module, group: Group, faces: int) -> nn.Module:
    """Return a model whose layers know that its batches are shares of `faces` rows, where there are others."""
    if group.count == 1:
        return model
    if group.device.type != "cpu":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in model.modules():
        if type(layer) in (nn.BatchNorm2d, nn.Dropout):
            layer.__class__ = SharedBatchNorm if isinstance(layer, nn.BatchNorm2d) else SharedDropout
            layer.group, layer.faces = group, faces
    return model
