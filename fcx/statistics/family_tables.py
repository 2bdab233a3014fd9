"""What charts of networks are drawn from, by family where several trainings of one are there: means with intervals."""

from __future__ import annotations

import xarray as xr

from fcx.statistics.agreement import evaluate
from fcx.statistics.comparison import compare_all
from fcx.statistics.families import compare_all_families, family_members, family_scores

SCORES = ("ccc", "within_ccc")


def has_seeds(results) -> bool:
    """Return whether results hold several trainings of a family."""
    return any(len(of) > 1 for of in family_members(results).values())


def score_tables(results, faces, *, draws: int = 2000, seed: int = 0) -> tuple:
    """Return `evaluate`, `compare_all` on the CCC, and None; or with several trainings of a family the same by family.

    By family `model` names families, CCC and CCC within expression have intervals over faces and seeds and the other
    parts are means over trainings; the third value is `evaluate` of the single trainings.

    Raises: as `evaluate` and `compare_all_families`.
    """
    each = evaluate(results, faces, draws=draws, seed=seed)
    if not has_seeds(results):
        return each, compare_all(results, faces, seed=seed), None
    each = each.assign_coords({name: results[name] for name in ("family", "seed")})
    members = family_members(results)
    means = [each.sel(model=list(of.values())).mean("model", keep_attrs=True) for of in members.values()]
    table = xr.concat(means, "model", data_vars="all").assign_coords(model=list(members))
    table = table.assign({name: each[name] for name in each if "model" not in each[name].dims})
    for name in SCORES:
        scores = family_scores(results, faces, quantity=name, draws=draws, seed=seed).rename(family="model")
        table = table.assign({name: scores["estimate"], f"{name}_low": scores["low"], f"{name}_high": scores["high"]})
    comparisons = compare_all_families(results, faces, draws=draws, seed=seed)
    return table, comparisons.rename(family_a="model_a", family_b="model_b"), each


def region_tables(statistics, faces, *, draws: int = 2000, seed: int = 0) -> tuple:
    """Return `region_statistics` and None; or with several trainings the enrichment by family, and the statistics."""
    if not has_seeds(statistics):
        return statistics, None
    scores = family_scores(statistics, faces, quantity="enrichment", draws=draws, seed=seed).rename(family="model")
    table = xr.Dataset({"enrichment_mean": scores["estimate"], "enrichment_low": scores["low"],
                        "enrichment_high": scores["high"], "n": scores["n"]})  # fmt: skip
    return table.assign_attrs(statistics.attrs), statistics
