"""Slow, independent oracles, written from the papers: each section checks one module."""

import numpy as np

# --- evaluation -------------------------------------------------------------------------------


def ccc_by_chance(prediction, truth, groups=None):
    """Return 1 - E(p - t)^2 / E_chance(p - t)^2 (Lin 1989, equation 1), chance being every pair of a group."""
    groups = groups or [""] * len(truth)
    seen = chance = 0.0
    for name in set(groups):
        pairs = [(p, t) for p, t, g in zip(prediction, truth, groups, strict=True) if g == name]
        if len(pairs) < 2:
            continue
        seen += sum((p - t) ** 2 for p, t in pairs)
        chance += sum((p - t) ** 2 for p, _ in pairs for _, t in pairs) / len(pairs)
    return 1 - seen / chance


def class_means(truth, groups):
    """Return the prediction of an oracle that knows the group only: the mean label of each group."""
    mean = {}
    for name in set(groups):
        labels = [t for t, g in zip(truth, groups, strict=True) if g == name]
        mean[name] = sum(labels) / len(labels)
    return [mean[g] for g in groups]


def bootstrap_rows(subjects, draws, seed):
    """Return for each draw the list of rows: as many subjects as there are, picked with replacement."""
    keys = [subject or f"\t{i:09d}" for i, subject in enumerate(subjects)]
    rows = [[i for i, key in enumerate(keys) if key == name] for name in sorted(set(keys))]
    picked = np.random.default_rng(seed).integers(len(rows), size=(draws, len(rows)))
    return [[i for k in draw for i in rows[k]] for draw in picked]
