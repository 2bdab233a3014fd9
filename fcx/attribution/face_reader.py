"""The faces around a batch: what a method may ask of the Dataset besides the pictures it explains."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import nn

from fcx.core.checks import choose
from fcx.networks.inputs import as_pixels, read_variable
from fcx.statistics.overlays import region_names
from fcx.statistics.region_mass import region_cover

FACES_AT_ONCE = 64  # faces read at once


class FaceReader:
    """A faces Dataset, read piece by piece; what it answers depends on no batch and on no order."""

    def __init__(self, faces: xr.Dataset):
        self.faces = faces
        self.conditions = [str(name) for name in faces["condition"].values]
        self.good = faces["status"].values == "ok"  # (condition, sample)
        self._means: dict[tuple, np.ndarray] = {}
        self._backgrounds: dict[tuple, np.ndarray] = {}
        self._cover: tuple[bytes, np.ndarray] = (b"", np.empty(0))
        self._memory = np.empty(0)  # of coverage, used again

    def pictures(self, condition: str, rows: np.ndarray, model: nn.Module) -> np.ndarray:
        """Return the pictures of some faces in a condition, uint8, of which `as_pixels` makes what a model reads.

        Raises: UnknownNameError for a condition that the faces do not have; InputError where a model cannot read them.
        """
        number = self.conditions.index(choose(condition, self.conditions, "condition"))
        return self.faces[read_variable(model, self.faces)].isel(condition=number, sample=rows).values

    def alpha(self, condition: str, rows: np.ndarray) -> np.ndarray:
        """Return what masks cover of some faces in a condition, (sample, y, x) float64 in [0, 1]."""
        return self.faces["alpha"].isel(condition=self.conditions.index(condition), sample=rows).values / 255

    def pixels(self, condition: str, rows: np.ndarray, model: nn.Module, like: torch.Tensor) -> torch.Tensor:
        """Return what a model reads of some faces in a condition, (sample, channel, y, x) in [0, 1].

        Raises: as `pictures`.
        """
        return as_pixels(model, self.pictures(condition, rows, model), like.device, like.dtype)

    def mean(self, condition: str, model: nn.Module) -> np.ndarray:
        """Return the mean of the pictures of all usable faces in a condition, (1, ...) float64 in [0, 1].

        Raises: as `pictures`.
        """
        key = condition, read_variable(model, self.faces)
        if key not in self._means:
            number = self.conditions.index(choose(condition, self.conditions, "condition"))
            rows, total = np.flatnonzero(self.good[number]), 0
            for first in range(0, len(rows), FACES_AT_ONCE):
                some = self.pictures(condition, rows[first : first + FACES_AT_ONCE], model)
                total = total + some.sum(0, dtype=np.uint64)  # exact: the same in any order
            self._means[key] = (total / (255 * len(rows)))[None]
        return self._means[key]

    def background(self, condition: str, count: int, seed: int, model: nn.Module) -> np.ndarray:
        """Return the pictures of at most `count` usable faces in a condition, drawn by `seed`.

        Raises: as `pictures`.
        """
        number = self.conditions.index(choose(condition, self.conditions, "condition"))
        key = condition, count, seed, read_variable(model, self.faces)
        if key not in self._backgrounds:
            drawn = np.random.default_rng(seed).permutation(np.flatnonzero(self.good[number]))[:count]
            self._backgrounds[key] = self.pictures(condition, np.sort(drawn), model)
        return self._backgrounds[key]

    def cover(self, rows: np.ndarray) -> np.ndarray:
        """Return the coverage (sample, region, y, x) in [0, 1]: the partition, then the overlays.

        It is good until other rows are asked for, which are written to the same memory.
        """
        if self._cover[0] != rows.tobytes():  # the next condition asks for the same faces
            if len(self._memory) < len(rows):
                regions = self.faces["regions"].shape
                self._memory = np.empty((max(len(rows), FACES_AT_ONCE), len(region_names(self.faces)), *regions[2:]))
            self._cover = b"", self._memory  # should what follows fail, nothing is remembered
            self._cover = rows.tobytes(), region_cover(self.faces, rows, self._memory)
        return self._cover[1]
