"""What families of trainings reach and how they differ, with intervals over faces and seeds.

A family is what a network was taught on and how (coordinate `family` (model) of results); its members differ in the
seed of their training (`seed` (model)). Results without these coordinates: each model is a family of one seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.arguments import Count, Names, Seed, checked
from fcx.core.checks import choose, choose_all
from fcx.core.contract import Faces, ResultsOrStatistics, ordered
from fcx.core.errors import ContractError, InputError
from fcx.core.provenance import flat_attrs
from fcx.statistics.comparison import cell_draws, names_of, statistics_table
from fcx.statistics.corrections import corrected
from fcx.statistics.map_scores import QUANTITIES
from fcx.statistics.variance_components import crossed

DIMS = ("family", "condition")


@checked
def family_scores(results: ResultsOrStatistics, faces: Faces, *, quantity: str = "ccc", draws: Count = 2000,
                  seed: Seed = 0) -> xr.Dataset:  # fmt: skip
    """Return a quantity of each family: the mean over its seeds, with a 95 % interval over faces and seeds.

    `quantity` is one that `compare` takes. The samples count that have a value in every model and condition.

    Variables (family, condition, ...), with the target, method, region or expression that the quantity has: estimate,
    low, high, se_faces, se_seeds, share_seeds and dof, as `fcx.statistics.variance_components.crossed` says; seeds
    (family), how many; n (...); and seed_estimate (family, seed, condition, ...), NaN where a family lacks a seed.

    Raises: ContractError where two models of a family have one seed; else as in `compare`.

    >>> family_scores(results, faces)["estimate"].sel(family="plain_scratch", condition="masked")  # doctest: +SKIP
    """
    members, conditions = family_members(results), names_of(results, "condition")
    cells = [{"model": m, "condition": c} for of in members.values() for m in of.values() for c in conditions]
    drawn, n, count = cell_draws(_table(results, faces, quantity), faces, cells, quantity, draws, seed)
    made, each, start = [], [], 0
    for of in members.values():
        rows = drawn.isel(cell=slice(start, start := start + len(of) * len(conditions)))
        places = pd.MultiIndex.from_product([list(of), conditions], names=["seed", "condition"])
        rows = (
            rows.assign_coords(xr.Coordinates.from_pandas_multiindex(places, "cell"))
            .unstack("cell")
            .sel(condition=conditions)
        )
        made.append(crossed(rows, count)), each.append(rows.isel(draw=0))
    sources = sorted({part.attrs["sources"] for part in made})
    table = xr.concat(made, "family", combine_attrs="drop").drop_vars("p")
    table = table.assign(n=n, seed_estimate=xr.concat(each, "family", join="outer")).assign_coords(family=list(members))
    return ordered(table).assign_attrs(quantity=quantity, draws=draws, seed=seed, sources="; ".join(sources))


@checked
def compare_families(results: ResultsOrStatistics, faces: Faces, a: Names, b: Names, *, quantity: str = "ccc",
                     draws: Count = 2000, seed: Seed = 0) -> xr.Dataset:  # fmt: skip
    """Return the difference a - b between two families or conditions, paired by seed and by face.

    `a` and `b` name a `family`, and both or neither a `condition`, such as {"family": "masked_scratch", "condition":
    "masked"}; the other dimensions stay. Seeds count that both families have.

    Variables: estimate_a, estimate_b, difference, low, high, p (below .05 where the interval leaves out 0), p_holm,
    se_faces, se_seeds, share_seeds and dof of the difference, as `fcx.statistics.variance_components.crossed` says;
    seed_difference (seed, ...), seeds, and n.

    Raises: InputError where the keys differ, or the families share no seed; else as in `compare`.

    >>> plain, masked = ({"family": "plain_scratch", "condition": name} for name in ("plain", "masked"))
    >>> compare_families(results, faces, masked, plain)["difference"]  # doctest: +SKIP
    """
    a, b = dict(a), dict(b)
    choose_all({**a, **b}, DIMS, "key of a comparison of families")
    if a.keys() != b.keys() or "family" not in a:
        raise InputError(f"a has the keys {sorted(a)} and b {sorted(b)}: give both the same, and a family")
    table = corrected(_difference(_table(results, faces, quantity), faces, a, b, quantity, draws, seed))
    return table.assign_attrs(flat_attrs({"a": a, "b": b, "quantity": quantity, "draws": draws, "seed": seed}))


@checked
def compare_all_families(results: ResultsOrStatistics, faces: Faces, *, quantity: str = "ccc", draws: Count = 2000,
                         seed: Seed = 0) -> xr.Dataset:  # fmt: skip
    """Return `compare_families` for all pairs of families within a condition and of conditions within a family.

    Dimension `comparison`, with coordinates family_a, condition_a, family_b, condition_b; a is the later of the two,
    so that differences are masked - plain. Pairs that share no seed are left out. p_holm corrects over the whole table,
    for each method apart.

    Raises: InputError where there is nothing to compare; else as in `compare_families`.
    """
    members = family_members(results)
    cells = [{"family": f, "condition": c} for f in members for c in names_of(results, "condition")]
    pairs = [(a, b) for j, b in enumerate(cells) for a in cells[j + 1 :] if sum(a[dim] == b[dim] for dim in DIMS) == 1
             and members[a["family"]].keys() & members[b["family"]].keys()]  # fmt: skip
    if not pairs:
        raise InputError("there is one family and one condition, or no two share a seed: nothing to compare")
    results = _table(results, faces, quantity)
    rows = [_difference(results, faces, *pair, quantity, draws, seed) for pair in pairs]
    sources = sorted({row.attrs["sources"] for row in rows})
    rows = xr.concat(rows, "comparison", join="outer", combine_attrs="drop")
    for side, end in enumerate("ab"):
        for dim in DIMS:
            rows = rows.assign_coords({f"{dim}_{end}": ("comparison", [pair[side][dim] for pair in pairs])})
    return corrected(rows).assign_attrs(quantity=quantity, draws=draws, seed=seed, sources="; ".join(sources))


def family_members(results) -> dict[str, dict[int, str]]:
    """Return for each family, in the order of the models, its models by seed, in the order of seeds.

    Raises: ContractError where results have no dimension model, or two models of a family have one seed.

    >>> family_members(results)  # doctest: +SKIP
    {'plain_scratch': {0: 'plain_scratch-1', 1: 'plain_scratch-2'}}
    """
    models = names_of(results, "model")
    families = [str(name) for name in results["family"].values] if "family" in results.coords else models
    seeds = [int(seed) for seed in results["seed"].values] if "seed" in results.coords else [0] * len(models)
    members: dict[str, dict[int, str]] = {}
    for model, family, seed in zip(models, families, seeds, strict=True):
        other = members.setdefault(family, {}).setdefault(seed, model)
        if other != model:
            raise ContractError(f"results: {other!r} and {model!r} are both of family {family!r} and seed {seed}: "
                                "give each training a seed of its own")  # fmt: skip
    return {family: dict(sorted(of.items())) for family, of in members.items()}


def _table(results, faces, quantity: str):
    """Return results, or for a quantity of maps the statistics of single maps, read once."""
    return statistics_table(results, faces, quantity) if quantity in QUANTITIES else results


def _difference(results, faces, a: dict, b: dict, quantity: str, draws: int, seed: int) -> xr.Dataset:
    """Return estimates, interval, p-value and n of the difference between two cells of families and conditions."""
    members = family_members(results)
    of = [members[choose(side["family"], members, "family")] for side in (a, b)]
    seeds = [number for number in of[0] if number in of[1]]
    if not seeds:
        raise InputError(f"{a['family']!r} has the seeds {list(of[0])} and {b['family']!r} {list(of[1])}: "
                         "families are paired by seed, and these share none")  # fmt: skip
    rest = [{key: name for key, name in side.items() if key != "family"} for side in (a, b)]
    cells = [{"model": models[number], **side} for models, side in zip(of, rest, strict=True) for number in seeds]
    drawn, n, count = cell_draws(results, faces, cells, quantity, draws, seed)
    one, other = (drawn.isel(cell=part).rename(cell="seed").assign_coords(seed=seeds)
                  for part in (slice(len(seeds)), slice(len(seeds), None)))  # fmt: skip
    with np.errstate(invalid="ignore"):
        apart = one - other
    table = crossed(apart, count).rename(estimate="difference")
    sides = {f"estimate_{end}": side.isel(draw=0).mean("seed") for end, side in (("a", one), ("b", other))}
    return table.assign(**sides, seed_difference=apart.isel(draw=0), n=n).map(ordered, keep_attrs=True)
