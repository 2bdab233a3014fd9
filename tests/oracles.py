"""Slow, independent oracles, written from the papers: each section checks one module."""

import functools
import itertools
import math

import numpy as np
from scipy import stats

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


def bootstrap_interval(drawn, clusters):
    """Return the draws at the levels to which Student's t and the factor (K - 1) / K of a variance widen .025, .975."""
    reach = stats.t(clusters - 1).ppf(0.975) * math.sqrt(clusters / (clusters - 1))
    drawn = sorted(drawn)
    return [drawn[round(stats.norm.cdf(side) * (len(drawn) - 1))] for side in (-reach, reach)]


def bootstrap_p(difference, drawn, clusters):
    """Return the two-sided p whose interval just touches 0; beyond the draws, their root mean square counts."""
    tail = min(sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn))
    z = stats.norm.isf((tail + 1) / (len(drawn) + 1))
    if tail == 0:
        z = max(z, abs(difference) / math.sqrt(sum((d - difference) ** 2 for d in drawn) / len(drawn)))
    return min(1, 2 * stats.t(clusters - 1).sf(z * math.sqrt((clusters - 1) / clusters)))


def crossed_components(values):
    """Return variances that faces and seeds give a mean of `values` (face, seed), by two-way analysis of variance."""
    n, k = len(values), len(values[0])
    grand = sum(map(sum, values)) / (n * k)
    by_face = [sum(row) / k for row in values]
    by_seed = [sum(row[j] for row in values) / n for j in range(k)]
    face = k * sum((m - grand) ** 2 for m in by_face) / (n - 1)
    seed = n * sum((m - grand) ** 2 for m in by_seed) / (k - 1)
    rest = sum((values[i][j] - by_face[i] - by_seed[j] + grand) ** 2 for i in range(n) for j in range(k))
    return face / (n * k), max(seed - rest / ((n - 1) * (k - 1)), 0) / (n * k)


def crossed_interval(estimate, low, high, between, clusters, seeds, level=0.95):
    """Return an interval over faces whose sides and the seeds' own t interval are added as squares."""
    reach = stats.t(seeds - 1).ppf((1 + level) / 2) * math.sqrt(between)
    return estimate - math.hypot(estimate - low, reach), estimate + math.hypot(high - estimate, reach)


def share_ratio(one, other, subjects, draws, seed):
    """Return how many times the mean share of `other` (seed, face) `one` has, with its interval, draw by draw.

    The variance between seeds is what log2 ratios of the seeds have beyond what draws of faces show of it.
    """

    def log_ratios(rows):
        means = [[sum(shares[i] for i in rows) / len(rows) for shares in side] for side in (one, other)]
        return [math.log2(a / b) for a, b in zip(*means, strict=True)]

    data, seeds = log_ratios(range(len(subjects))), len(one)
    drawn = [log_ratios(rows) for rows in bootstrap_rows(subjects, draws, seed)]
    estimate, clusters = sum(data) / seeds, len(set(subjects))
    low, high = bootstrap_interval([sum(each) / seeds for each in drawn], clusters)
    if seeds > 1:
        spread = sum((value - estimate) ** 2 for value in data) / (seeds - 1)
        alone = sum(np.var([each[k] - sum(each) / seeds for each in drawn]) for k in range(seeds)) / (seeds - 1)
        between = max(0, spread - alone * clusters / (clusters - 1)) / seeds
        low, high = crossed_interval(estimate, low, high, between, clusters, seeds)
    return [2**value for value in (estimate, low, high)]


# --- model ------------------------------------------------------------------------------------


def facechannel_forward(weights, image, *, preset, batch_norm):
    """Return (arousal, valence) of one (y, x) image, layer by layer from the paper's table of layers.

    `weights` maps "conv1".."conv10", "inhibitory", "hidden" (to "hidden3"), "head" to (weight, bias), "bn1".."bn9"
    to (gamma, beta, mean, variance), and "decay" to a (channel,) for presets that inhibit.
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
    units = flat
    for name in ("hidden", "hidden2", "hidden3"):
        if name in weights:
            units = [max(0.0, float(np.dot(w, units) + b)) for w, b in zip(*weights[name], strict=True)]
    out = [float(np.dot(w, units) + b) for w, b in zip(*weights["head"], strict=True)]
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


def facechannel_multiply_adds(width, hidden, size, inhibits, hidden_layers=1):
    """Return the multiply-adds of one face forward, and backward by scheme, from the paper's table of layers.

    Backward: where `trained` names a layer, the gradient of its weights; and the gradient of what a layer reads,
    where a trained layer lies before it.
    """
    quarter, half = width // 4, width // 2
    channels = [1, quarter, quarter, half, half, half, half, half, width, width]
    sides = [size, size, size // 2, size // 2, *[size // 4] * 3, *[size // 8] * 3]
    layers = [(f"conv{i + 1}", 9 * channels[i] * [*channels[1:], width][i] * sides[i] ** 2, i) for i in range(10)]
    layers += [("inhibitory", layers[-1][1], 9)] if inhibits else []
    layers += [("hidden", width * (size // 16) ** 2 * hidden, 10)]
    layers += [(f"hidden{i}", hidden * hidden, 9 + i) for i in range(2, hidden_layers + 1)]
    layers += [("head", 2 * hidden, 10 + hidden_layers)]
    dense = {name for name, *_ in layers[-1 - hidden_layers :]}
    schemes = {"head": dense, "last_conv": dense | {"conv10", "inhibitory"}, "scratch": {name for name, *_ in layers}}
    backward = {}
    for scheme, trained in schemes.items():
        first = min(depth for name, _, depth in layers if name in trained)
        backward[scheme] = sum(count * ((name in trained) + (depth > first)) for name, count, depth in layers)
    return sum(count for _, count, _ in layers), backward | {"all_layers": backward["scratch"]}


def training_loss(prediction, truth):
    """Return MSE + 1 - CCC, averaged over targets, for lists (sample, target)."""
    total = 0.0
    for p, t in zip(zip(*prediction, strict=True), zip(*truth, strict=True), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / len(p) + 1 - ccc_by_chance(p, t)
    return total / len(prediction[0])


# --- attribution ------------------------------------------------------------------------------


def random_facechannel(preset="paper", *, seed=0, width=8, size=16, hidden=6, **options):
    """Return a FaceChannel in float64 in which nothing is trivial: biases, decays, batch norm, no dead layer."""
    import torch

    from fcx.networks.facechannel import FaceChannel

    generator = torch.Generator().manual_seed(seed)
    model = FaceChannel.preset(preset, width=width, size=size, hidden=hidden, **options).double().eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
            if name.endswith(("running_var", "rho")) or (value.ndim == 1 and name.endswith("weight")):
                value.copy_(0.5 + noise)
            elif value.ndim == 1:  # biases and running means, of either sign
                value.copy_(0.2 * (noise - 0.5))
            elif value.ndim > 1:  # positive on average, or random layers die one after the other
                value.copy_((noise - 0.4) * 6 / value[0].numel() ** 0.75)
    return model


def shunt_by_path(u, inhibition, a, steps=20_000):
    """Return (R_u, R_I) of y = u / (a + I): the gradient integrated along the straight path from (0, 0)."""
    import torch

    alpha = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps  # midpoints
    path_u = (alpha * u).requires_grad_()
    path_i = (alpha * inhibition).requires_grad_()
    du, di = torch.autograd.grad((path_u / (a + path_i)).sum(), (path_u, path_i))
    return float(u * du.mean()), float(inhibition * di.mean())


def shunt_by_taylor(u, inhibition, a):
    """Return (R_u, R_I) of y = u / (a + I): u df/du at (u, 0) and I df/dI at (u, I), scaled to sum to y."""
    at_u, at_i = u / a, -inhibition * u / (a + inhibition) ** 2
    y = u / (a + inhibition)
    return at_u * y / (at_u + at_i), at_i * y / (at_u + at_i)


def dense_of_conv(kernel, size):
    """Return the matrix (out y x, in y x) of a 3x3 convolution with zero padding on a size x size grid."""
    out, inp = kernel.shape[:2]
    matrix = np.zeros((out, size, size, inp, size, size))
    for y, x, dy, dx in np.ndindex(size, size, 3, 3):
        if 0 <= y + dy - 1 < size and 0 <= x + dx - 1 < size:
            matrix[:, y, x, :, y + dy - 1, x + dx - 1] = kernel[:, :, dy, dx]
    return matrix.reshape(out * size * size, inp * size * size)


def pool_winners(values):
    """Return for each 2x2 window of (channel, y, x) the flat index of its largest value."""
    channels, height, width = values.shape
    index = np.arange(values.size).reshape(values.shape)
    winners = np.empty((channels, height // 2, width // 2), int)
    for c, y, x in np.ndindex(winners.shape):
        window = np.s_[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        winners[c, y, x] = index[window].ravel()[values[window].argmax()]
    return winners


def share(contributions, denominator, relevance):
    """Return R_j = sum_k z_kj / d_k R_k, nothing from units with d_k = 0."""
    received = np.zeros(contributions.shape[1])
    for row, d, r in zip(contributions, denominator, relevance, strict=True):
        if d != 0:
            received += row / d * r
    return received


class SlowFaceChannel:
    """A FaceChannel of one picture in plain NumPy: every layer a matrix, everything remembered on the way."""

    def __init__(self, model, image):
        self.state = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
        self.config, self.steps = model.config, []
        value = np.asarray(image, float)[None]  # (channel, y, x)
        number = 0
        for convolutions in (2, 2, 3, 2):
            for _ in range(convolutions):
                number += 1
                value = self.convolve(f"trunk.conv{number}", f"trunk.bn{number}", value, self.steps)
            if number < 9:
                value = self.pool(value, self.steps)
        self.left, self.right = [], []
        u = self.convolve("conv10", None, value, self.left)
        self.a = self.inhibition = None
        self.map = u
        if model.config.shunt != "none":
            self.inhibition = self.convolve("inhibitory", None, value, self.right)
            rho = self.state.get("shunt.rho")
            self.a = (np.full(len(u), 0.5) if rho is None else np.log1p(np.exp(rho)) + 0.05)[:, None, None]
            self.map = u / (self.a + self.inhibition)
        self.top = []
        flat = self.pool(self.map, self.top).ravel()
        self.hidden_layers = [name for name in ("hidden", "hidden2", "hidden3") if f"{name}.weight" in self.state]
        self.hidden_in, self.hidden_z, units = {}, {}, flat
        for name in self.hidden_layers:
            self.hidden_in[name] = units
            self.hidden_z[name] = self.state[f"{name}.weight"] @ units + self.state.get(f"{name}.bias", 0)
            units = np.maximum(self.hidden_z[name], 0)
        self.hidden = units
        self.output = self.state["head.weight"] @ self.hidden + self.state.get("head.bias", 0)

    def convolve(self, name, norm, value, steps):
        kernel, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias", np.zeros(1))
        bias = np.broadcast_to(bias, len(kernel))
        if f"{norm}.weight" in self.state:
            gamma, beta, mean, var = (
                self.state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / np.sqrt(var + 1e-3)
            kernel, bias = kernel * scale[:, None, None, None], (bias - mean) * scale + beta
        size = value.shape[-1]
        matrix, offset = dense_of_conv(kernel, size), bias.repeat(size * size)
        steps.append(("conv", value.ravel(), matrix, offset, value.shape))
        return np.maximum(matrix @ value.ravel() + offset, 0).reshape(len(kernel), size, size)

    def pool(self, value, steps):
        winners = pool_winners(value)
        steps.append(("pool", winners.ravel(), value.shape))
        return value.ravel()[winners]

    def down(self, steps, relevance):
        """Return relevance below `steps`: z+ in convolutions, flat in the first, winner-take-all in poolings."""
        for step in reversed(steps):
            if step[0] == "pool":
                below = np.zeros(np.prod(step[2]))
                np.add.at(below, step[1], relevance.ravel())
                relevance = below.reshape(step[2])
                continue
            _, x, matrix, offset, shape = step
            if step is self.steps[0]:
                contributions = (dense_of_conv(np.ones((len(relevance), 1, 3, 3)), shape[-1]) != 0).astype(float)
                denominator = contributions.sum(1)
            else:
                contributions = np.maximum(matrix, 0) * x
                denominator = contributions.sum(1) + np.maximum(offset, 0)
            relevance = share(contributions, denominator, relevance.ravel()).reshape(shape)
        return relevance

    def relevance(self, target, k):
        """Return LRP of one output as (y, x); `k` is the shunt rule, a function of t = I / a."""
        top = share(self.state["head.weight"][[target]] * self.hidden, self.output[[target]], self.output[[target]])
        flat = top
        for name in reversed(self.hidden_layers):
            flat = share(self.state[f"{name}.weight"] * self.hidden_in[name], self.hidden_z[name], flat)
        of_map = self.down(self.top, flat.reshape(len(self.map), *(np.array(self.map.shape[1:]) // 2)))
        if self.inhibition is None:
            below = self.down(self.left, of_map)
        else:
            share_i = k(self.inhibition / self.a)
            below = self.down(self.left, (1 + share_i) * of_map) + self.down(self.right, -share_i * of_map)
        return self.down(self.steps, below)[0]


def grad_cam(model, images, target):
    """Return (sample, row, column): Selvaraju et al. 2017, equations (1) and (2), one loop for each symbol."""
    import torch

    kept = {}
    layer = model.relu10 if model.config.shunt == "none" else model.shunt
    hooks = [
        layer.register_forward_hook(lambda _, __, output: kept.update(A=output)),
        model.head.register_forward_hook(lambda _, __, output: kept.update(y=output)),
    ]
    maps = []
    for image in images:
        model(image[None])
        (slope,) = torch.autograd.grad(kept["y"][0, target], kept["A"])
        total = 0
        for channel, gradient in zip(kept["A"][0], slope[0], strict=True):
            alpha = sum(gradient.ravel()) / gradient.numel()
            total = total + alpha * channel
        maps.append(np.maximum(total.detach().numpy(), 0))
    for hook in hooks:
        hook.remove()
    return np.stack(maps)


def published_map(model, image, index):
    """Return (row, column) before clipping and division by the maximum: every channel times one pooled gradient."""
    import torch

    features = model.features(image[None]).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.activation(model.tail(features)).sum(), features)
    pooled = slope.mean((0, 2, 3)).numpy()
    activations = features.detach()[0].numpy().copy()
    for channel in activations:
        channel *= pooled[index % len(pooled)]
    return activations.mean(0)


# --- datasets -------------------------------------------------------------------------------


def proxy_of_votes(votes: dict, points: dict):
    """Mean and standard deviation of (valence, arousal) over the single votes, one vote at a time."""
    ballots = [points[name] for name, count in votes.items() for _ in range(count)]
    means, spreads = [], []
    for axis in (0, 1):
        values = [ballot[axis] for ballot in ballots]
        mean = sum(values) / len(values)
        means.append(mean)
        spreads.append((sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)
    return means, spreads


# --- localisation and statistics --------------------------------------------------------------


def region_scores(heat, cover):
    """Return the statistics of one map (y, x) in one region (y, x), pixel by pixel."""
    pixels = [
        (float(m), float(c)) for row, line in zip(heat, cover, strict=True) for m, c in zip(row, line, strict=True)
    ]
    mass = sum(abs(m) for m, _ in pixels)
    area = sum(c for _, c in pixels) / len(pixels)
    share = sum(c * abs(m) for m, c in pixels) / mass
    wins = sum(c * (1 - d) * ((abs(m) > abs(k)) + (abs(m) == abs(k)) / 2) for m, c in pixels for k, d in pixels)
    return {
        "share": share,
        "net": sum(c * m for m, c in pixels),
        "positive": sum(c * m for m, c in pixels if m > 0),
        "negative": sum(c * m for m, c in pixels if m < 0),
        "density": share / area,
        "enrichment": float(np.log2(share / area)),
        "auc": wins / (sum(c for _, c in pixels) * sum(1 - c for _, c in pixels)),
    }


def holm(p):
    """Return Holm's adjusted p-values from their definition: max over smaller ones of (m - rank) p, at most 1."""
    ranked = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    for place, i in enumerate(ranked):
        adjusted[i] = max(min(1.0, (len(p) - k) * p[ranked[k]]) for k in range(place + 1))
    return adjusted


# --- Mesh geometry -------------------------------------------------------------------------


def rasterise(vertices, triangles, shape):
    """Return which triangle is seen at each pixel by testing every pixel against every triangle, and where
    that is beyond doubt: farther than a pixel from every edge of the triangles that are drawn."""
    drawn = np.full(shape, -1)
    sure = np.ones(shape, bool)
    order = sorted(range(len(triangles)), key=lambda t: -vertices[triangles[t], 2].mean())
    for number in order:
        a, b, c = vertices[triangles[number], :2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area >= 0:  # turned away (y points down)
            continue
        for y in range(shape[0]):
            for x in range(shape[1]):
                distances = []
                for p, q in ((a, b), (b, c), (c, a)):
                    cross = (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])
                    distances.append(-cross / np.hypot(*(q - p)))
                if min(distances) > 1:
                    drawn[y, x], sure[y, x] = number, True
                elif min(distances) > -1:
                    sure[y, x] = False
    return drawn, sure


# --- Leakage audit -------------------------------------------------------------------------


def ridge_out_of_fold(inputs, labels, folds, penalties):
    """Return out-of-fold ridge predictions of one label vector, by the normal equations.

    The penalty of each fold is the one with the least squared error when every training row is really left out.
    Inputs are scaled as a whole to a total variance of 1.
    """
    inputs = (inputs - inputs.mean(axis=0)) / np.sqrt(inputs.var(axis=0).sum())

    def fit(x, y, penalty):
        mean = x.mean(axis=0)
        weights = np.linalg.solve(
            (x - mean).T @ (x - mean) + penalty * np.eye(x.shape[1]), (x - mean).T @ (y - y.mean())
        )
        return lambda new: y.mean() + (new - mean) @ weights

    predicted = np.full(len(labels), np.nan)
    for train, test in folds:
        x, y = inputs[train], labels[train]
        errors = [
            sum((fit(np.delete(x, i, 0), np.delete(y, i), penalty)(x[i]) - y[i]) ** 2 for i in range(len(y)))
            for penalty in penalties
        ]
        predicted[test] = fit(x, y, penalties[int(np.argmin(errors))])(inputs[test])
    return predicted


# --- faithfulness ----------------------------------------------------------------------------


def mean_height(curve):
    """Return the area under a curve over [0, 1], one trapezium after the other."""
    return sum((curve[i] + curve[i + 1]) / 2 for i in range(len(curve) - 1)) / (len(curve) - 1)


def curve_by_removal(ask, image, instead, sequence, steps):
    """Return ask(image) as the pixels of `sequence` (flat numbers) go one by one, at steps + 1 even points."""
    shown, gone, curve = image.copy(), 0, []
    for step in range(steps + 1):
        while gone < round(step * image.size / steps):
            at = np.unravel_index(sequence[gone], image.shape)
            shown[at] = instead[at]
            gone += 1
        curve.append(ask(shown))
    return curve


def imputed_by_equations(image, gone):
    """Return an image whose gone pixels are each the weighted mean of their neighbours: a dense linear system."""
    height, width = image.shape
    places = [(y, x) for y in range(height) for x in range(width) if gone[y, x]]
    number = {place: i for i, place in enumerate(places)}
    system, right = np.zeros((len(places), len(places))), np.zeros(len(places))
    for (y, x), i in number.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = (y + dy, x + dx)
                if near == (y, x) or not (0 <= near[0] < height and 0 <= near[1] < width):
                    continue
                weight = 1 / 6 if dy == 0 or dx == 0 else 1 / 12
                system[i, i] += weight
                if near in number:
                    system[i, number[near]] -= weight
                else:
                    right[i] += weight * image[near]
    filled = image.copy()
    for place, value in zip(places, np.linalg.solve(system, right), strict=True):
        filled[place] = value
    return filled


def region_effects(ask, image, instead, cover):
    """Return (necessity, sufficiency) of each region, lists in the order of `cover` (region, y, x)."""
    need, enough = [], []
    for region in cover:
        without, only = image.copy(), image.copy()
        for y, x in np.ndindex(image.shape):
            share = region[y, x]
            without[y, x] = (1 - share) * image[y, x] + share * instead[y, x]
            only[y, x] = share * image[y, x] + (1 - share) * instead[y, x]
        need.append(ask(image) - ask(without))
        enough.append(ask(only) - ask(instead))
    return need, enough


def rank_correlation(a, b):
    """Return Spearman's correlation from ranks counted pair by pair."""

    def ranks(values):
        return [sum((w < v) + (w == v) / 2 for w in values) for v in values]

    left, right = ranks(list(a)), ranks(list(b))
    mid_l, mid_r = sum(left) / len(left), sum(right) / len(right)
    top = sum((i - mid_l) * (j - mid_r) for i, j in zip(left, right, strict=True))
    return top / (sum((i - mid_l) ** 2 for i in left) * sum((j - mid_r) ** 2 for j in right)) ** 0.5


def entropy_of_bins(values, bins):
    """Return the entropy in nats of values counted in equal bins between their extremes."""
    values = [float(v) for v in values]
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    return -sum(c / len(values) * np.log(c / len(values)) for c in counts if c)


def edge_strength(image):
    """Return the magnitude of the Sobel gradient, the border repeated outwards."""
    height, width = image.shape
    strength = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            across = down = 0.0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    value = image[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
                    across += dx * (2 - abs(dy)) * value
                    down += dy * (2 - abs(dx)) * value
            strength[y, x] = (across**2 + down**2) ** 0.5
    return strength


# --- attribution by gradients, channels and perturbation --------------------------------------


def weighted_channels(model, layer, image, target, rule):
    """Return (row, column) of one image: Grad-CAM++ or LayerCAM at a module, cell by cell as their papers write it."""
    import torch

    kept = {}

    def keep(module, inputs, output):
        kept["A"] = output

    hooks = [
        model.get_submodule(layer).register_forward_hook(keep),
        model.head.register_forward_hook(lambda _, __, output: kept.update(y=output)),
    ]
    model(image[None].clone().requires_grad_())
    for hook in hooks:
        hook.remove()
    (slope,) = torch.autograd.grad(kept["y"][0, target], kept["A"])
    channels, slopes = kept["A"][0].detach().numpy(), slope[0].numpy()
    total = np.zeros(channels.shape[1:])
    for channel, g in zip(channels, slopes, strict=True):
        if rule == "layercam":
            for cell in np.ndindex(*total.shape):
                total[cell] += max(g[cell], 0) * channel[cell]
            continue
        weight = 0.0
        for cell in np.ndindex(*total.shape):
            if g[cell] != 0:
                alpha = g[cell] ** 2 / (2 * g[cell] ** 2 + channel.sum() * g[cell] ** 3)
                weight += alpha * max(g[cell], 0)
        total += weight * channel
    return np.maximum(total, 0)


def occlusion_of_one(answer, image, fill, window, stride):
    """Return (y, x) for one output of one image: each pixel's mean over the windows that cover it, pixel by pixel."""
    size = len(image)
    effects = {}
    for top in range(0, size - window + stride, stride):
        for left in range(0, size - window + stride, stride):
            changed = image.copy()
            changed[top : top + window, left : left + window] = fill[top : top + window, left : left + window]
            effects[top, left] = answer(image) - answer(changed)
    found = np.zeros(image.shape)
    for y in range(size):
        for x in range(size):
            over = [e for (t, s), e in effects.items() if t <= y < t + window and s <= x < s + window]
            found[y, x] = sum(over) / len(over)
    return found


def ablation_of_one(answer, image, cover, fill):
    """Return the effect of each region (region,) of one image, and the map (y, x) of the first eight."""
    effects, found = [], np.zeros(image.shape)
    for number, part in enumerate(cover):
        changed = image.copy()
        for pixel in np.ndindex(*image.shape):
            changed[pixel] = (1 - part[pixel]) * image[pixel] + part[pixel] * fill[pixel]
        effects.append(answer(image) - answer(changed))
        if number < 8 and part.sum() > 0:
            for pixel in np.ndindex(*image.shape):
                found[pixel] += effects[-1] * part[pixel] / part.sum()
    return np.array(effects), found


def shapley_by_orders(value, players):
    """Return what each player adds to the value (of a frozenset) of those before it, on average over all orders."""
    gains = {player: [] for player in players}
    for order in itertools.permutations(players):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            gains[player].append(value(before | {player}) - value(before))
    return {player: np.mean(all_) for player, all_ in gains.items()}


def interaction_by_orders(value, players, pair):
    """Return what two players add together beyond what each adds alone, over all orders in which they come as one."""
    one, other = ({player} for player in pair)
    pair, gains = frozenset(pair), []
    for order in itertools.permutations([pair, *(player for player in players if player not in pair)]):
        before = frozenset(order[: order.index(pair)])
        gains.append(value(before | pair) - value(before | one) - value(before | other) + value(before))
    return np.mean(gains)


def value_of_coalition(answer, image, fill, cover):
    """Return a function of a coalition (frozenset of rows of `cover`): the answer to what of the image it keeps."""

    @functools.cache
    def value(coalition):
        mixed = np.empty(image.shape)
        for pixel in np.ndindex(*image.shape):
            kept = sum(cover[player][pixel] for player in coalition)
            mixed[pixel] = kept * image[pixel] + (1 - kept) * fill[pixel]
        return answer(mixed)

    return value


def shapley_of_two(function, ends, starts):
    """Return the Shapley values of two players, by both orders in which they can come."""
    (x, y), (x0, y0) = ends, starts
    of_x = (function(x, y0) - function(x0, y0) + function(x, y) - function(x0, y)) / 2
    of_y = (function(x0, y) - function(x0, y0) + function(x, y) - function(x, y0)) / 2
    return of_x, of_y


# --- LRP by other rules, and what each layer absorbs ------------------------------------------


class SlowRelevance(SlowFaceChannel):
    """LRP of one output by any rule, and the biases' share of it, layer by layer, in `absorbed`.

    `convolution` gives the contributions and the offsets of a layer as a list of (share, W, b) from its (W, b).
    """

    RULES = {  # noqa: RUF012
        "zplus": lambda w, b, number: [(1, np.maximum(w, 0), np.maximum(b, 0))],
        "epsilon": lambda w, b, number: [(1, w, b)],
        "gamma": lambda w, b, number: [(1, w + number * np.maximum(w, 0), b + number * np.maximum(b, 0))],
        "alpha_beta": lambda w, b, number: [
            (number, np.maximum(w, 0), np.maximum(b, 0)),
            (1 - number, np.minimum(w, 0), np.minimum(b, 0)),
        ],
    }

    def explain(self, target, k, rule, first, number):
        """Return LRP as (y, x); `k` the shunt rule, `number` gamma or alpha."""
        self.rule, self.first, self.number, self.absorbed = self.RULES[rule], first, number, []
        self.absorbed.append(self.state.get("head.bias", np.zeros(2))[target])
        flat = self.state["head.weight"][target] * self.hidden  # its own share of the output
        for name in reversed(self.hidden_layers):
            above, x, z = flat, self.hidden_in[name], self.hidden_z[name]
            flat, lost = np.zeros(len(x)), 0
            for unit, relevance in enumerate(above):
                if relevance == 0:
                    continue
                flat += self.state[f"{name}.weight"][unit] * x / z[unit] * relevance
                lost += self.state.get(f"{name}.bias", np.zeros(len(above)))[unit] / z[unit] * relevance
            self.absorbed.append(lost)
        of_map = self.down(self.top, flat.reshape(len(self.map), *(np.array(self.map.shape[1:]) // 2)))
        if self.inhibition is None:
            below = self.down(self.left, of_map)
        else:
            t = k(self.inhibition / self.a)
            below = self.down(self.right, -t * of_map)
            below = self.down(self.left, (1 + t) * of_map) + below
        return self.down(self.steps, below)[0]

    def down(self, steps, relevance):
        for step in reversed(steps):
            if step[0] == "pool":
                below = np.zeros(np.prod(step[2]))
                for place, value in zip(step[1], relevance.ravel(), strict=True):
                    below[place] += value
                relevance = below.reshape(step[2])
                continue
            _, x, matrix, offset, shape = step
            relevance, total, lost = relevance.ravel(), 0, 0
            if step is self.steps[0] and self.first == "flat":
                inside = dense_of_conv(np.ones((len(matrix) // shape[-1] ** 2, 1, 3, 3)), shape[-1])
                parts = [(1, inside, np.zeros(len(matrix)), np.ones_like(x))]
            elif step is self.steps[0] and self.first == "zbox":
                total = self.boxed(matrix, x, relevance)
                parts = []
            else:
                parts = [(c, w, b, x) for c, w, b in self.rule(matrix, offset, self.number)]
            for c, w, b, inputs in parts:
                for row, bias, r in zip(w, b, relevance, strict=True):
                    z = row @ inputs + bias
                    if r != 0 and z != 0:
                        total = total + c * row * inputs / z * r
                        lost += c * bias / z * r
            self.absorbed.append(lost)
            relevance = np.reshape(total, shape)
        return relevance

    def boxed(self, matrix, x, relevance):
        """Between black, 0, and white, 1: what a pixel adds beyond the least that it could."""
        total = np.zeros(len(x))
        for row, r in zip(matrix, relevance, strict=True):
            least = np.where(row < 0, row, 0)
            if r != 0:
                total += (row * x - least) / (row * x - least).sum() * r
        return total


def expected_gradients(model, faces, sample, target, samples, background, seed):
    """Return (y, x): each path one at a time, with its numbers drawn a second time."""
    import zlib

    import torch

    usable = np.flatnonzero(faces["status"].values[0] == "ok")
    others = np.sort(np.random.default_rng(seed).permutation(usable)[:background])
    name = str(faces["sample"].values[sample])
    random = np.random.default_rng([seed, zlib.crc32(f"{name}\nexpected_gradients".encode())])
    chosen, within = random.integers(0, background, samples), random.random(samples)
    face, total = torch.from_numpy(faces["image"].values[0, sample]).double() / 255, 0
    for k in range(samples):
        other = torch.from_numpy(faces["image"].values[0, others[chosen[k]]]).double() / 255
        point = (other + (k + within[k]) / samples * (face - other)).requires_grad_()
        (slope,) = torch.autograd.grad(model(point[None, None])[0, target], point)
        total = total + slope * (face - other)
    return (total / samples).numpy()


# --- mini-XCEPTION ----------------------------------------------------------------------------


def keras_answers(layers, weights, images):
    """Return what a Keras network answers before its softmax, from its definition: images (sample, y, x, channel).

    `layers`: dicts of `class`, `name`, `config` and `from`, the names of the layers that it reads; `weights`: layer ->
    Keras's name of a weight -> array.
    """
    values = {}
    for layer in layers:
        kind, config, own = layer["class"], layer["config"], weights.get(layer["name"], {})
        read = [values[name] for name in layer["from"]]
        if kind == "InputLayer":
            value = images
        elif kind == "Conv2D":
            value = keras_windows(read[0], config, 0, lambda tap, w: tap @ w, own["kernel"])
            value = value + own["bias"] if config["use_bias"] else value
        elif kind == "SeparableConv2D":
            by_channel = keras_windows(read[0], config, 0, lambda tap, w: tap * w[:, 0], own["depthwise_kernel"])
            value = by_channel @ own["pointwise_kernel"][0, 0]
        elif kind == "BatchNormalization":
            spread = np.sqrt(np.asarray(own["moving_variance"], "f8") + config["epsilon"])
            value = (read[0] - own["moving_mean"]) / spread * own["gamma"] + own["beta"]
        elif kind == "MaxPooling2D":
            config = {**config, "kernel_size": config["pool_size"]}
            value = keras_windows(read[0], config, -np.inf)
        elif kind == "Add":
            value = read[0] + read[1]
        elif kind == "GlobalAveragePooling2D":
            value = read[0].mean((1, 2))
        elif config["activation"] == "relu":
            value = np.maximum(read[0], 0)
        else:  # the softmax, after which nothing comes
            return read[0]
        values[layer["name"]] = value
    return value


def keras_windows(x, config, outside, times=None, kernel=None):
    """Return the sum over windows of taps times a kernel, or their maximum; of what "same" adds, more falls behind."""
    size, step = config["kernel_size"], config["strides"]
    counts, pads = [], []
    for n, k, s in zip(x.shape[1:3], size, step, strict=True):
        count = -(-n // s) if config["padding"] == "same" else (n - k) // s + 1
        spare = max((count - 1) * s + k - n, 0)
        counts, pads = [*counts, count], [*pads, (spare // 2, spare - spare // 2)]
    x = np.pad(np.asarray(x, "f8"), [(0, 0), *pads, (0, 0)], constant_values=outside)
    total = None
    for i in range(size[0]):
        for j in range(size[1]):
            rows, columns = (slice(at, at + (n - 1) * s + 1, s) for at, n, s in zip((i, j), counts, step, strict=True))
            tap = x[:, rows, columns]
            tap = tap if kernel is None else times(tap, np.asarray(kernel[i, j], "f8"))
            total = tap if total is None else np.maximum(total, tap) if kernel is None else total + tap
    return total
