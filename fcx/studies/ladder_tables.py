"""The occluder ladder: networks trained on one kind of mask, scored on all, and why training on masks gains.

The paper explains the gain of masked training by the shape of the mask, which follows the jaw. A grey patch of one
outline shows nothing of the face below it, a rigid mask nothing of the mouth; a mask that follows the jaw shows the
jaw, and the published clip-art may show what lies under its paint.
"""

from __future__ import annotations

import pandas as pd
import xarray as xr

from fcx.studies.contrasts import Cell, contrast, families_of
from fcx.studies.study_tables import FIRST, SOURCES, table3
from fcx.studies.training_plan import LADDER

# What a difference says: family and condition, less family and condition.
REASONS: dict[str, tuple[Cell, Cell]] = {
    "the upper face suffices: patch-trained less plain-trained, on the patch":
        (("small_patch", "patch"), ("small_plain", "patch")),
    "the mask shows the jaw: jaw-fitted less rigid masks, each trained and scored on its own":
        (("small_jaw", "jaw"), ("small_rigid", "rigid")),
    "the paint leaks: published less rigid masks, each trained and scored on its own":
        (("small_published", "published"), ("small_rigid", "rigid")),
}  # fmt: skip


def ladder_matrix(drawn: xr.DataArray) -> pd.DataFrame:
    """Return the CCC of networks trained on each condition, scored on each: trained on, scored on, and as `table3`."""
    table = table3(drawn).drop(columns=["paper", "sheet"])
    table = table[table["family"].isin([f"small_{name}" for name in LADDER]) & table["condition"].isin(LADDER)]
    table = table.assign(family=table["family"].str.removeprefix("small_"))
    return table.rename(columns={"family": "trained on", "condition": "scored on"}).reset_index(drop=True)


def ladder_reasons(drawn: xr.DataArray) -> pd.DataFrame:
    """Return what of the gain each reason makes: reason, target, estimate, low, high, p, and `SOURCES`.

    A reason whose networks or condition are not there is left out.
    """
    there = {(family, condition) for family in families_of(drawn) for condition in drawn["condition"].values.tolist()}
    rows = [contrast(drawn, {a: 1, b: -1}).to_dataframe().reset_index().assign(reason=reason)
            for reason, (a, b) in REASONS.items() if {a, b} <= there]  # fmt: skip
    columns = ["reason", *FIRST[2:], "p", *SOURCES]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
