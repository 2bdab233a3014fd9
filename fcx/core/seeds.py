"""Random numbers that depend on what they are for, never on the batch, the order or the number of workers."""

from __future__ import annotations

import hashlib

import numpy as np

from fcx.core.files import digest


def sample_generator(sample: str, seed: int) -> np.random.Generator:
    """Return the random numbers of a sample: the same whatever the order, the batch or the number of workers."""
    mark = hashlib.sha256(f"{seed}:{sample}".encode(errors="surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(mark[:8], "little"))


def worded_generator(seed: int, *words) -> np.random.Generator:
    """Return a random generator that depends on `seed` and `words` only, not on the batch or the order."""
    return np.random.default_rng(int(digest(" ".join(map(str, (seed, *words))).encode()), 16))
