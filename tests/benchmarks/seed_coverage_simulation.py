"""How often 95 % intervals over faces and seeds hold the truth: the table of seeds in docs/statistics.md.

`python tests/benchmarks/seed_coverage_simulation.py --repeats 400` prints it in some ten minutes. Two families of
networks are trained with K seeds each and asked about the same n faces; the CCC of a network is known, and differs from
seed to seed. Networks err alike: of the variance of an error .56 is common to all, .14 to a family, .30 one network's.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from fcx.statistics.bootstrap import interval, resample
from fcx.statistics.variance_components import crossed

KINDS = ("faces only", "seeds only", "two-way", "t, sum", "t, components", "fcx")
RATIOS = (0, 0.5, 1, 3)  # deviation between seeds over the standard error that faces give one network


def law(target: float, spread: float) -> tuple[float, float, float, float]:
    """Return gain, its deviation between seeds, variance of the error, and the mean CCC over seeds."""
    gain = target / (2 - target)
    error = gain * (1 - gain)  # a prediction that is the mean label given what it sees
    value = lambda g: 2 * g / (1 + g * g + error)  # noqa: E731
    deviation = 2e-4 * spread / abs(value(gain + 1e-4) - value(gain - 1e-4))
    return gain, deviation, error, value(gain + deviation * np.random.default_rng(0).standard_normal(200_000)).mean()


def drawn_scores(rng, faces: int, seeds: int, given: tuple, draws: int) -> np.ndarray:
    """Return the CCC of the networks of two families (1 + draw, family, seed), the data first."""
    gain, deviation, error, _ = given
    t, common = rng.standard_normal((2, faces, 1, 1))
    family, own = rng.standard_normal((faces, 2, 1)), rng.standard_normal((faces, 2, seeds))
    noise = np.sqrt(0.56) * common + np.sqrt(0.14) * family + np.sqrt(0.3) * own
    p = (gain + deviation * rng.standard_normal((2, seeds))) * t + np.sqrt(error) * noise
    t = np.broadcast_to(t, p.shape)
    totals = np.stack([t, t * t, p, p * p, t * p], -1)
    sums = resample(totals, np.arange(faces), draws, int(rng.integers(2**31)))
    t, tt, p, pp, tp = np.moveaxis(sums / faces, -1, 0)
    return 2 * (tp - t * p) / (tt - t**2 + pp - p**2 + (t - p) ** 2)


def intervals(rng, drawn: np.ndarray, faces: int) -> dict[str, tuple]:
    """Return low and high (trial) of each kind of interval, from draws (draw, seed, trial)."""
    seeds, mean = drawn.shape[1], drawn.mean(1)
    made = {"faces only": interval(mean[1:], faces)}
    spread = drawn[0].var(0, ddof=1) / seeds
    reach = stdtrit(seeds - 1, 0.975) * np.sqrt(spread)
    made["seeds only"] = mean[0] - reach, mean[0] + reach
    picked = rng.integers(seeds, size=(len(drawn) - 1, seeds, drawn.shape[2]))
    made["two-way"] = np.quantile(np.take_along_axis(drawn[1:], picked, 1).mean(1), [0.025, 0.975], axis=0)
    out = crossed(xr.DataArray(drawn, dims=("draw", "seed", "trial")), xr.DataArray(faces))
    over_faces = out["se_faces"].values ** 2
    for name, between in (("t, sum", spread), ("t, components", out["se_seeds"].values ** 2)):
        total = over_faces + between
        dof = total**2 / (over_faces**2 / (faces - 1) + spread**2 / (seeds - 1))
        reach = stdtrit(dof, 0.975) * np.sqrt(total)
        made[name] = mean[0] - reach, mean[0] + reach
    return made | {"fcx": (out["low"].values, out["high"].values)}


def coverage(rng, faces: int, seeds: int, target: float, ratio: float, repeats: int, draws: int) -> dict:
    """Return quantity -> kind of interval -> share of repeats in which it holds the truth."""
    given = law(target, ratio * (1 - target**2) / np.sqrt(faces))
    drawn = np.stack([drawn_scores(rng, faces, seeds, given, draws) for _ in range(repeats)], -1)
    hits = {}
    for name, values, truth in (("CCC", drawn[:, 0], given[3]), ("difference", drawn[:, 0] - drawn[:, 1], 0)):
        ends = intervals(rng, values, faces)
        hits[name] = {kind: np.mean((low <= truth) & (truth <= high)) for kind, (low, high) in ends.items()}
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="data sets of each kind")
    parser.add_argument("--draws", type=int, default=400, help="of the bootstrap")
    parser.add_argument("--faces", type=int, nargs="+", default=[60, 400, 3000])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    print(f"| quantity, seeds, faces | deviation | {' | '.join(KINDS)} |\n{'|---' * (2 + len(KINDS))}|")
    rows: dict = {}
    for faces in given.faces:
        for seeds in (3, 5):
            for ratio in RATIOS:
                cells = [
                    coverage(rng, faces, seeds, target, ratio, given.repeats, given.draws)
                    for target in (0.1, 0.6, 0.9)
                    if (target, faces, ratio) != (0.9, 60, 3)
                ]  # CCC beyond 1
                for quantity in ("CCC", "difference"):
                    row = [np.mean([cell[quantity][kind] for cell in cells]) for kind in KINDS]
                    rows[quantity, seeds, faces, ratio] = row
                    shown = " | ".join(f"{share:.3f}" for share in row)
                    print(f"| {quantity}, {seeds}, {faces} | {ratio:g} | {shown} |", flush=True)
    ends = [f"{min(shares):.3f} to {max(shares):.3f}" for shares in zip(*rows.values(), strict=True)]
    print(f"| all, from least to most | | {' | '.join(ends)} |")


if __name__ == "__main__":
    main()
