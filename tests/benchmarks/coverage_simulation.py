"""How often 95 % intervals hold the truth and how often a true null is rejected: the tables of docs/statistics.md.

`python tests/benchmarks/coverage_simulation.py --repeats 1500` prints them in a quarter of an hour, 50 repeats in half
a minute. Faces are drawn from laws whose CCC and density are known, in clusters (subjects) that have something in
common; `interval`, `p_values` and `holm` are those of fcx, and stand beside what else was tried.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from fcx.statistics.bootstrap import interval, p_values, resample
from fcx.statistics.corrections import holm

SIZES = ((5, 10), (10, 10), (20, 10), (50, 10), (10, 1), (30, 1), (100, 1), (400, 1))  # clusters, faces of each
LAWS = {"normal": lambda rng, shape: rng.standard_normal(shape),
        "skewed": lambda rng, shape: rng.standard_exponential(shape) - 1}  # fmt: skip
AREA = np.array([0.15, 0.08, 0.12, 0.15, 0.15, 0.10, 0.10, 0.15])  # of eight regions of a crop
# Four models in two conditions are eight cells: pairs that share a model or a condition, as in `compare_all`.
PAIRS = [(i, j) for i in range(8) for j in range(i) if (i // 2 == j // 2) != (i % 2 == j % 2)]
KINDS = ("percentile", "widened", "t", "BCa", "widened BCa")


def noise(rng, law: str, shape: tuple) -> np.ndarray:
    """Return (..., cluster, face) of mean 0 and variance 1, of which 0.3 is common to a cluster's faces."""
    common = 0.3 if shape[-1] > 1 else 0
    return np.sqrt(common) * LAWS[law](rng, (*shape[:-1], 1)) + np.sqrt(1 - common) * LAWS[law](rng, shape)


def ratings(rng, law: str, clusters: int, faces: int, gains) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of 1, t, tt, p, pp, tp (cluster, cell, 6) of labels t and predictions p, and each cell's CCC."""
    gains = np.asarray(gains)
    t = noise(rng, law, (1, clusters, faces))
    error = np.sqrt(0.7) * noise(rng, law, (1, clusters, faces))  # networks err alike
    error = error + np.sqrt(0.3) * noise(rng, law, (len(gains), clusters, faces))
    p = gains[:, None, None] * t + 0.8 * error + 0.1
    t = np.broadcast_to(t, p.shape)
    totals = np.stack([np.ones_like(p), t, t * t, p, p * p, t * p], -1).sum(2).swapaxes(0, 1)
    return totals, 2 * gains / (1 + gains**2 + 0.8**2 + 0.1**2)


def ccc(sums: np.ndarray) -> np.ndarray:
    n, t, tt, p, pp, tp = np.moveaxis(sums, -1, 0)
    twice = 2 * (tp - t * p / n)
    return twice / (tt + pp - 2 * tp + twice)


def dirichlet(rng, strength: float, means) -> np.ndarray:
    parts = rng.standard_gamma(strength * means)
    return parts / parts.sum(-1, keepdims=True)


def shares(rng, clusters: int, faces: int, tilt) -> np.ndarray:
    """Return sums over faces of the shares of regions (cluster, cell, region); without tilt, means are AREA."""
    subject = dirichlet(rng, 60, np.tile(AREA, (clusters, 1, 1, 1)))
    cell = subject * np.asarray(tilt)[:, None]
    cell = dirichlet(rng, 80, cell / cell.sum(-1, keepdims=True))
    return dirichlet(rng, 12, cell.repeat(faces, 2)).sum(2)


def intervals(draws, jackknife, clusters: int, scale, back) -> dict[str, np.ndarray]:
    """Return (2, ...) for each kind of interval from draws (1 + draw, ...) and values without one cluster."""
    t = stats.t.ppf(0.975, clusters - 1)
    wide = t * np.sqrt(clusters / (clusters - 1))
    error = scale(draws[1:]).std(0) * wide / t
    made = {"percentile": interval(draws[1:], np.inf), "widened": interval(draws[1:], clusters),
            "t": back(scale(draws[0]) + np.multiply.outer([-t, t], error))}  # fmt: skip
    apart = jackknife.mean(0) - jackknife
    bend = (apart**3).sum(0) / (6 * (apart**2).sum(0) ** 1.5)
    shift = ndtri(np.clip((draws[1:] < draws[0]).mean(0), 1e-4, 1 - 1e-4))
    ordered = np.sort(draws[1:], 0)
    for name, z in (("BCa", 1.96), ("widened BCa", wide)):
        ends = shift + np.multiply.outer([-z, z], np.ones_like(shift))
        levels = ndtr(shift + ends / (1 - bend * ends))
        made[name] = np.take_along_axis(ordered, np.rint(levels * (len(ordered) - 1)).astype(int), 0)
    return made


def coverage(rng, clusters: int, faces: int, law: str | None, repeats: int, draws: int) -> dict:
    """Return quantity -> kind of interval -> share of repeats in which it holds the truth."""
    hits: dict = {}
    for _ in range(repeats):
        seed = int(rng.integers(2**31))
        if law:
            totals, truth = ratings(rng, law, clusters, faces, (0.6, 0.6))
            value, truth, scales = ccc, truth[0], (np.arctanh, np.tanh)
        else:
            totals, truth, scales = shares(rng, clusters, faces, np.ones((2, 8))), 1.0, (np.log, np.exp)
            value = lambda sums: sums / sums.sum(-1, keepdims=True) / AREA  # noqa: E731
        drawn = value(resample(totals, np.arange(clusters), draws, seed))
        without = value(totals.sum(0) - totals)
        one, none = (drawn[:, 0], without[:, 0], clusters, *scales), (lambda x: x,) * 2
        apart = [np.log2(x) if law is None else x for x in (drawn, without)]
        both = (*(x[:, 0] - x[:, 1] for x in apart), clusters, *none)
        for name, given, true in (("", one, truth), (" difference", both, 0)):
            for kind, (low, high) in intervals(*given).items():
                hits.setdefault(name, {}).setdefault(kind, []).append(np.mean((low <= true) & (true <= high)))
    return {name: {kind: np.mean(values) for kind, values in kinds.items()} for name, kinds in hits.items()}


def families(rng, clusters: int, quantity: str, repeats: int, draws: int) -> dict:
    """Return kind of p -> (share of repeats with a true null rejected, share of true differences that are seen)."""
    kinds: dict = {}
    for _ in range(repeats):
        seed = int(rng.integers(2**31))
        for effect in (False, True):
            if quantity == "CCC":
                gains = [0.7, 0.2 if effect else 0.7] * 4
                totals = np.stack([ratings(rng, "normal", clusters, 10, gains)[0] for _ in range(2)], 2)
                value = ccc
            else:
                tilt = np.stack([np.ones(8), np.tile([1.5, 0.6], 4) if effect else np.ones(8)] * 4)
                totals = np.stack([shares(rng, clusters, 10, tilt) for _ in range(2)], 2)
                value = np.log2
            drawn = value(resample(totals, np.arange(clusters), draws, seed))
            apart = np.stack([drawn[:, i] - drawn[:, j] for i, j in PAIRS], -1).reshape(1 + draws, -1)
            side = np.minimum((apart[1:] <= 0).sum(0), (apart[1:] >= 0).sum(0))
            share = np.minimum(2 * (side + 1) / (draws + 1), 1)
            only = 2 * stats.t.sf(-ndtri(share / 2) * np.sqrt(1 - 1 / clusters), clusters - 1)
            for kind, p in (("percentile", share), ("widened", only), ("fcx", p_values(apart, clusters))):
                seen = (holm(p) < 0.05).reshape(-1, len(PAIRS))
                true = np.array([effect and i % 2 != j % 2 for i, j in PAIRS])
                kinds.setdefault(kind, ([], []))[effect].append(seen[:, true].mean() if effect else seen.any())
    return {kind: tuple(map(np.mean, both)) for kind, both in kinds.items()}


def head(*names: str) -> None:
    print(f"\n| {' | '.join(names)} |\n{'|---' * len(names)}|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="data sets of each size; a tenth for the families")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap; ten times as many for the families")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # that subjects are few
    rng, few = np.random.default_rng(0), {}
    head("subjects x faces", *(f"{clusters} x {faces}" for clusters, faces in SIZES))
    for quantity, law in (("CCC", "normal"), ("CCC", "skewed"), ("density", "")):
        sizes = [coverage(rng, *size, law, given.repeats, given.draws) for size in SIZES]
        for name in sizes[0]:
            label = f"{quantity}{name}{law and f', {law} law'}"
            cells = [f"{hits[name]['percentile']:.3f} {hits[name]['widened']:.3f}" for hits in sizes]
            print(f"| {label} | {' | '.join(cells)} |", flush=True)
            some = [hits[name] for hits, (clusters, _) in zip(sizes, SIZES, strict=True) if clusters <= 30]
            few[label] = [np.mean([hits[kind] for hits in some]) for kind in KINDS]
    head("30 subjects or fewer", *KINDS)
    for label, means in few.items():
        print(f"| {label} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    head("family", *(f"{kind}, {what}" for what in ("rejected", "seen") for kind in ("percentile", "widened", "fcx")))
    for quantity in ("CCC", "enrichment"):
        for clusters in (10, 20, 50):
            kinds = families(rng, clusters, quantity, max(1, given.repeats // 10), 10 * given.draws)
            cells = [f"{kind[side]:.2f}" for side in (0, 1) for kind in kinds.values()]
            print(f"| {quantity}, {clusters} x 10 | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
