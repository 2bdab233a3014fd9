"""The faces around a batch: what a method may ask of the Dataset besides the pictures it explains."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.checks import choose
from fcx.statistics.overlays import region_names
from fcx.statistics.region_mass import region_cover

FACES_AT_ONCE = 64  # faces read at once


class FaceReader:
    """A faces Dataset, read piece by piece; what it answers depends on no batch and on no order."""

    def __init__(self, faces: xr.Dataset):
        self.faces = faces
        self.conditions = [str(name) for name in faces["condition"].values]
        self.good = faces["status"].values == "ok"  # (condition, sample)
        self._means: dict[str, np.ndarray] = {}
        self._backgrounds: dict[tuple, np.ndarray] = {}
        self._cover: tuple[bytes, np.ndarray] = (b"", np.empty(0))
        self._memory = np.empty(0)  # of coverage, used again

    def images(self, condition: str, rows: np.ndarray) -> np.ndarray:
        """Return the pictures (sample, y, x) uint8 of some faces in a condition.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        number = self.conditions.index(choose(condition, self.conditions, "condition"))
        return np.ascontiguousarray(self.faces["image"].isel(condition=number, sample=rows).values)

    def mean(self, condition: str) -> np.ndarray:
        """Return the mean picture (y, x) float64 in [0, 1] of all usable faces in a condition.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        if condition not in self._means:
            number = self.conditions.index(choose(condition, self.conditions, "condition"))
            rows = np.flatnonzero(self.good[number])
            total = np.zeros(self.faces["image"].shape[2:], np.uint64)  # exact: the same in any order
            for first in range(0, len(rows), FACES_AT_ONCE):
                total += self.images(condition, rows[first : first + FACES_AT_ONCE]).sum(0, dtype=np.uint64)
            self._means[condition] = total / (255 * len(rows))
        return self._means[condition]

    def background(self, condition: str, count: int, seed: int) -> np.ndarray:
        """Return the pictures (face, y, x) uint8 of at most `count` usable faces in a condition, drawn by `seed`.

        Raises: UnknownNameError for a condition that the faces do not have.
        """
        number = self.conditions.index(choose(condition, self.conditions, "condition"))
        if (condition, count, seed) not in self._backgrounds:
            drawn = np.random.default_rng(seed).permutation(np.flatnonzero(self.good[number]))[:count]
            self._backgrounds[condition, count, seed] = self.images(condition, np.sort(drawn))
        return self._backgrounds[condition, count, seed]

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
