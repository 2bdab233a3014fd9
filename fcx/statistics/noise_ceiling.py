"""What a perfect prediction could reach: the agreement of labels with labels from other raters' votes."""

from __future__ import annotations

import numpy as np

from fcx.core.checks import whole_number
from fcx.core.errors import InputError
from fcx.statistics.concordance import ccc


def vote_ceiling(votes, points, *, splits: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    """Return how well labels made of votes repeat: the CCC of two halves of each face's votes, and what follows.

    `votes` (sample, category) are whole numbers; `points` (category, target) is what a vote for a category stands for;
    a label is the mean point of its votes. Each face's votes are split at random into two halves of equal size (an odd
    one out is left aside), `splits` times; faces of fewer than two votes do not count.

    Keys, each (target): half, the mean CCC of two halves, with half_low and half_high, between which 95 % of the splits
    lie (how the split falls; not other faces); full, the CCC of two labels of as many votes each as a face has, 2 half
    / (1 + half); network, sqrt(full), the highest CCC that predictions can have with these labels. n, faces.

    The Spearman-Brown step is exact where raters of a face are exchangeable and votes are as many for each face. With
    label = T + e, of which e varies from rater to rater, full is var T / (var T + var e). A network that knew T would
    have the CCC 2 full / (1 + full) with the labels, and, stretched to
    the spread of the labels, sqrt(full), which no prediction exceeds.

    Raises: InputError where shapes do not fit, votes are no counts, or no face has two votes.
    Source: Spearman and Brown, British Journal of Psychology 3, 1910.

    >>> vote_ceiling([[4, 0], [0, 4], [4, 0]], [[1.0], [-1.0]])["full"].round(6).tolist()
    [1.0]
    """
    whole_number(splits, "splits"), whole_number(seed, "seed", 0)
    votes, points = np.asarray(votes), np.asarray(points, np.float64)
    if votes.ndim != 2 or votes.dtype.kind not in "uif" or points.ndim != 2 or len(points) != votes.shape[1]:
        raise InputError(f"votes are {votes.shape} and points {points.shape}; allowed: (sample, category), "
                         "(category, target)")  # fmt: skip
    if not (np.isfinite(votes) & (votes >= 0) & (votes == np.round(votes))).all():
        raise InputError("votes are no counts; allowed: whole numbers from 0")
    votes = votes[votes.sum(1) > 1].astype(np.int64)
    if len(votes) < 2:
        raise InputError(
            f"{len(votes)} faces have two votes or more: how labels repeat cannot be told from fewer than 2"
        )
    rng, size = np.random.default_rng(seed), votes.sum(1) // 2
    drawn = []
    for _ in range(splits):
        one = _some(rng, votes, size)
        other = _some(rng, votes - one, size)
        drawn.append(ccc(*((half @ points / size[:, None]).T for half in (one, other))))
    half = np.mean(drawn, 0)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    full = 2 * half / (1 + half)
    return {"half": half, "half_low": low, "half_high": high, "full": full, "network": np.sqrt(np.maximum(full, 0)),
            "n": np.array(len(votes))}  # fmt: skip


def _some(rng, votes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (sample, category) votes of `size` (sample) raters of each face, without replacement."""
    taken, left, wanted = np.zeros_like(votes), votes.sum(1), size.copy()
    for category in range(votes.shape[1]):
        here = votes[:, category]
        left = left - here
        taken[:, category] = rng.hypergeometric(here, left, wanted)
        wanted = wanted - taken[:, category]
    return taken
