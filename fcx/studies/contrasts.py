"""Sums and differences of families of networks, with intervals over faces and over seeds.

A family is several trainings that differ by their seed only. A contrast is a weighted sum of cells (family,
condition), such as one family minus another; the trainings of one seed are paired in it, because what is tuned starts
from the plain network of its seed, and so are the faces.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from fcx.core.errors import InputError
from fcx.statistics.agreement import moments, scope_parts, scope_sizes
from fcx.statistics.variance_components import crossed
from fcx.studies.stored_scores import labelled_faces

DRAWS = 2000
Cell = tuple[str, str]  # family, condition


def drawn_scores(scores: xr.Dataset, quantity: str = "ccc", *, draws: int = DRAWS, seed: int = 0) -> xr.DataArray:
    """Return a part of the CCC of every model, (draw, model, condition, target), row 0 of the data themselves.

    `quantity` is one of `fcx.statistics.concordance.PARTS`, or one within expression, such as "within_ccc". One draw
    of faces serves all models and conditions. n and clusters (target) count the faces and subjects.
    """
    faces, scope = labelled_faces(scores), "within_" if quantity.startswith("within_") else ""
    if not scope:  # sums by expression are needed within expressions only
        faces = faces.drop_vars("expression")
    sums = moments(scores["prediction"], faces, draws=draws, seed=seed)
    n, clusters = scope_sizes(sums, scope)
    drawn = scope_parts(sums, scope)[quantity.removeprefix(scope)].transpose("draw", "model", "condition", "target")
    return drawn.assign_coords(family=("model", scores["family"].values), seed=("model", scores["seed"].values),
                               n=("target", n.values), clusters=("target", clusters.values)
                               ).assign_attrs(quantity=quantity)  # fmt: skip


def families_of(scores: xr.Dataset | xr.DataArray) -> list[str]:
    """Return the families of scores in the order of their models."""
    return list(dict.fromkeys(scores["family"].values.tolist()))


def contrast(drawn: xr.DataArray, weights: Mapping[Cell, float]) -> xr.Dataset:
    """Return a weighted sum of cells, with a 95 % interval over faces and seeds.

    `drawn` is from `drawn_scores`. Only seeds that every family of `weights` has count. Variables (target): estimate,
    low, high, p (two-sided, of 0), se_faces, se_seeds, dof, seeds, n. With one seed the interval is over faces only,
    and se_seeds is NaN.

    Raises: InputError where a family or a condition is missing, or where the families have no seed in common.
    """
    by_seed = [_of_family(drawn, family).sel(condition=_known(drawn, condition)) * weight
               for (family, condition), weight in weights.items()]  # fmt: skip
    total = sum(xr.align(*[each.drop_vars("condition") for each in by_seed], join="inner"))
    if not total.sizes["seed"]:
        raise InputError(f"no seed is common to the families {', '.join(dict.fromkeys(f for f, _ in weights))}")
    count = total["clusters"].reset_coords(drop=True)
    return crossed(total.reset_coords(drop=True), count).assign(n=total["n"].reset_coords(drop=True))


def _of_family(drawn: xr.DataArray, family: str) -> xr.DataArray:
    """Return the trainings of a family by seed: (draw, seed, condition, target)."""
    rows = drawn["family"].values == family
    if not rows.any():
        raise InputError(f"there is no network of the family {family!r}; there are {', '.join(families_of(drawn))}")
    return drawn.isel(model=rows).swap_dims(model="seed").drop_vars(["model", "family"])


def _known(drawn: xr.DataArray, condition: str) -> str:
    if condition not in drawn["condition"].values:
        raise InputError(f"these faces have no condition {condition!r}: {', '.join(drawn['condition'].values)}")
    return condition
