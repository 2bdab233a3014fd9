"""What a network answers where some parts of a face are left: for every coalition of players that share a picture."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from fcx.attribution.batch import Batch
from fcx.attribution.fills import passes
from fcx.networks.facechannel import FaceChannel

# What a cell of a FaceChannel's first block reads: two 3x3 convolutions and a pooling by 2.
CELL = {"kernel_size": 6, "stride": 2, "padding": 2}  # pixels


def coalition_values(batch: Batch, face: torch.Tensor, instead: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Return the targets of a face of which a coalition of players stays, (target, coalition) float64.

    `face` and `instead` are pictures (channel, y, x); `cover` (player, y, x) says how much of each pixel each player
    has. Player i is in coalition c where bit i of c is 1.
    """
    if type(batch.model) is FaceChannel and len(cover):  # nothing is changed between its blocks
        outputs = _by_cells(batch.model, face, instead, cover)
    else:
        outputs = map(batch.explained, coalition_pictures(face, instead, cover))
    return torch.cat([batch.values(some) for some in outputs]).T.double().contiguous()


def coalition_pictures(face: torch.Tensor, instead: torch.Tensor, cover: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield pictures (coalition, channel, y, x), some at a time: what the coalition has of the face, else `instead`."""
    member = _members(len(cover), cover)
    for some in passes(len(member), 1):
        kept = (member[some] @ cover.flatten(1)).view(-1, 1, *cover.shape[1:])
        yield torch.lerp(instead, face, kept.to(face))


def _members(count: int, like: torch.Tensor) -> torch.Tensor:
    """Return (coalition, player): 1 where the player is in the coalition."""
    bits = torch.arange(2**count, device=like.device)[:, None] >> torch.arange(count, device=like.device)
    return (bits & 1).to(like)


def _by_cells(model: FaceChannel, face, instead, cover: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what is explained of a FaceChannel, (coalition, output), with a first block that coalitions share.

    A cell of that block reads few pixels, and these belong to few players. Players of whom no cell reads two have one
    colour. The block is asked about coalitions of colours, which are fewer, and what it says of a coalition of players
    is put together from them, cell by cell.
    """
    reads = F.max_pool2d((cover > 0).to(cover)[:, None], **CELL)[:, 0]  # (player, row, column)
    together = (reads.flatten(1) @ reads.flatten(1).T > 0).tolist()
    colours: list[int] = []
    for near in together:
        taken = {colour for colour, beside in zip(colours, near, strict=False) if beside}
        colours.append(min(set(range(len(cover))) - taken))
    has_colour = F.one_hot(torch.tensor(colours, device=cover.device)).to(cover)  # (player, colour)
    block = list(dict(model.trunk.named_children())).index("pool1") + 1
    pictures = coalition_pictures(face, instead, torch.einsum("pc,pyx->cyx", has_colour, cover))
    # (coalition of colours, row, column, channel)
    cells = torch.cat([model.trunk[:block](some) for some in pictures]).permute(0, 2, 3, 1)
    number = reads * 2.0 ** torch.tensor(colours, device=cover.device)[:, None, None]
    row, column = (torch.arange(side, device=cover.device) for side in cells.shape[1:3])
    member = _members(len(cover), cover)
    for some in passes(len(member), 1):
        which = (member[some] @ number.flatten(1)).long().view(-1, len(row), len(column))  # coalition of colours
        first = cells[which, row[:, None], column].permute(0, 3, 1, 2)
        yield model.tail(model.inhibited(model.trunk[block:](first)))
