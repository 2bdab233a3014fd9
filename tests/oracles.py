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


# --- model ------------------------------------------------------------------------------------


def facechannel_forward(weights, image, *, preset, batch_norm):
    """Return (arousal, valence) of one (y, x) image, layer by layer from the paper's table of layers.

    `weights` maps "conv1".."conv10", "inhibitory", "hidden", "head" to (weight, bias), "bn1".."bn9" to
    (gamma, beta, mean, variance), and "decay" to a (channel,) for presets that inhibit.
    """
    maps = [image]
    for number in range(1, 10):
        maps = convolve3x3(maps, *weights[f"conv{number}"])
        if batch_norm:
            for c, (gamma, beta, mean, variance) in enumerate(zip(*weights[f"bn{number}"], strict=True)):
                maps[c] = gamma * (maps[c] - mean) / np.sqrt(variance + 1e-3) + beta
        maps = [np.where(m > 0, m, 0) for m in maps]
        if number in (2, 4, 7):
            maps = [halve(m) for m in maps]
    last = [np.where(m > 0, m, 0) for m in convolve3x3(maps, *weights["conv10"])]
    if preset != "code2020":
        inhibition = [np.where(m > 0, m, 0) for m in convolve3x3(maps, *weights["inhibitory"])]
        last = [u / (a + i) for u, a, i in zip(last, weights["decay"], inhibition, strict=True)]
    flat = np.concatenate([halve(m).reshape(-1) for m in last])
    hidden = [max(0.0, float(np.dot(w, flat) + b)) for w, b in zip(*weights["hidden"], strict=True)]
    out = [float(np.dot(w, hidden) + b) for w, b in zip(*weights["head"], strict=True)]
    return out if preset == "paper" else [float(np.tanh(value)) for value in out]


def convolve3x3(maps, weight, bias):
    """Return the same-size cross-correlation of (y, x) maps with weight (output, input, 3, 3), zeros outside."""
    height, width = maps[0].shape
    padded = [np.pad(m, 1) for m in maps]
    return [
        sum(
            kernel[dy, dx] * m[dy : dy + height, dx : dx + width]
            for kernel, m in zip(kernels, padded, strict=True)
            for dy in range(3)
            for dx in range(3)
        )
        + b
        for kernels, b in zip(weight, bias, strict=True)
    ]


def halve(values):
    """Return the maximum of each 2x2 block."""
    return np.array([[values[y : y + 2, x : x + 2].max() for x in range(0, values.shape[1], 2)]
                     for y in range(0, values.shape[0], 2)])  # fmt: skip


def training_loss(prediction, truth):
    """Return MSE + 1 - CCC, averaged over targets, for lists (sample, target)."""
    total = 0.0
    for p, t in zip(zip(*prediction, strict=True), zip(*truth, strict=True), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / len(p) + 1 - ccc_by_chance(p, t)
    return total / len(prediction[0])
