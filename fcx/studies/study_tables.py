"""Table 3 of the paper and what goes with it, computed from stored predictions alone."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.contract import FAMILIES, column, family_and_seed, usable
from fcx.statistics.agreement import evaluate
from fcx.statistics.bootstrap import clusters
from fcx.statistics.calibration import CALIBRATIONS, calibrated, error_by_expression
from fcx.statistics.corrections import holm
from fcx.studies.contrasts import Cell, contrast, families_of
from fcx.studies.paper import SHEET, TABLE2, TABLE3
from fcx.studies.stored_scores import labelled_faces

PARTS_SHOWN = ("ccc", "pearson", "scale", "shift", "rmse", "within_ccc", "sign_agreement")
FIRST = ["family", "condition", "target", "estimate", "low", "high"]
LONGER = re.compile(r"(plain|masked)_scratch_\d+")  # as many epochs from scratch as tuning has seen in both trainings
SOURCES = ["se_faces", "se_seeds", "share_seeds", "dof", "seeds", "n"]  # of the interval: `crossed`


def table3(drawn: xr.DataArray) -> pd.DataFrame:
    """Return the CCC of every family on every condition, with intervals over faces and seeds, beside the paper's.

    `drawn` is from `fcx.studies.drawn_scores`, of the CCC or another quantity, which the paper does not have. Columns:
    family, condition, target, estimate, low, high, by_seed (the CCC of each training), paper, sheet (NaN where the
    paper has no such row), and `SOURCES` of the interval.
    """
    known = drawn.attrs.get("quantity", "ccc") == "ccc"
    published = {"paper": TABLE3 if known else {}, "sheet": SHEET if known else {}}
    rows = []
    for family in families_of(drawn):
        for condition in drawn["condition"].values.tolist():
            part = contrast(drawn, {(family, condition): 1}).drop_vars("p").to_dataframe().reset_index()
            each = drawn.isel(draw=0, model=drawn["family"].values == family).sel(condition=condition)
            by_seed = [" ".join(f"{value:.3f}" for value in each.sel(target=t).values) for t in part["target"]]
            beside = {name: [numbers.get(family, {}).get(condition, {}).get(t, np.nan) for t in part["target"]]
                      for name, numbers in published.items()}  # fmt: skip
            rows.append(part.assign(family=family, condition=condition, by_seed=by_seed, **beside))
    table = pd.concat(rows, ignore_index=True)
    return table[[*FIRST, "by_seed", "paper", "sheet", *SOURCES]]


def differences_table(drawn: xr.DataArray) -> pd.DataFrame:
    """Return paired differences of families, on each condition, and of conditions within a family, Holm-corrected.

    The paper's families come first; the control is left out, as are pairs that have no seed in common. Columns: a,
    condition_a, b, condition_b, target, estimate (a - b), low, high, p, p_holm, and `SOURCES`. p_holm is over the whole
    table.
    """
    known = families_of(drawn)
    there = [family for family in FAMILIES if family in known]
    there += [family for family in known if family not in (*there, "shuffled")]
    seeds = {family: set(drawn["seed"].values[drawn["family"].values == family]) for family in there}
    cells = [(family, condition) for family in there for condition in drawn["condition"].values.tolist()]
    pairs = [(a, b) for j, b in enumerate(cells) for a in cells[j + 1 :]
             if (a[0] == b[0]) != (a[1] == b[1]) and seeds[a[0]] & seeds[b[0]]]  # fmt: skip
    return paired(drawn, pairs)


def paired(drawn: xr.DataArray, pairs: list[tuple[Cell, Cell]]) -> pd.DataFrame:
    """Return the differences of pairs of cells as rows, with p-values corrected over all of them."""
    rows = [contrast(drawn, {a: 1, b: -1}).to_dataframe().reset_index().assign(
                a=a[0], condition_a=a[1], b=b[0], condition_b=b[1]) for a, b in pairs]  # fmt: skip
    columns = ["a", "condition_a", "b", "condition_b", *FIRST[2:], "p", "p_holm", *SOURCES]
    if not rows:
        return pd.DataFrame(columns=columns)
    table = pd.concat(rows, ignore_index=True)
    return table.assign(p_holm=holm(table["p"].to_numpy()))[columns]


def parts_table(scores: xr.Dataset) -> pd.DataFrame:
    """Return the parts of the agreement of every family, each the mean over its seeds.

    Columns: family, condition, target, ccc, pearson, scale, shift, rmse, within_ccc, sign_agreement, n, seeds.
    `within_ccc` takes chance agreement within each expression. `sign_agreement` is the share of faces on which
    prediction and label have the same sign, of those whose label is not 0.
    """
    evaluation = evaluate(scores, labelled_faces(scores), draws=2)  # for the numbers; intervals are those of table3
    return _family_means(evaluation[[*PARTS_SHOWN, "n"]], scores, ["condition", "target"])


def _family_means(evaluation: xr.Dataset, scores: xr.Dataset, dims: list[str]) -> pd.DataFrame:
    """Return means over the seeds of each family, with how many there are; n is the same for all."""
    rows = evaluation.to_dataframe(dim_order=["model", *dims]).reset_index()
    rows["family"] = rows["model"].map(dict(zip(scores["model"].values, scores["family"].values, strict=True)))
    grouped = rows.groupby(["family", *dims], sort=False)
    means = grouped[list(evaluation.data_vars)].mean()
    return means.assign(seeds=grouped.size()).reset_index()


def calibration_table(scores: xr.Dataset, condition: str) -> pd.DataFrame:
    """Return the CCC of every family as it answers, and with a shift, or scale and shift, learned on other faces.

    Columns: family, target, none, mean, affine: means over seeds, of `fcx.statistics.calibration.calibrated`.
    """
    faces = labelled_faces(scores)
    folds = min(10, len(np.unique(clusters(column(faces, "subject")[usable(faces)]))))
    found = calibrated(scores.sel(condition=[condition]), faces.sel(condition=[condition]), folds=folds, draws=2)
    rows = _family_means(found[["ccc"]].isel(condition=0, drop=True), scores, ["calibration", "target"])
    wide = rows.pivot_table("ccc", ["family", "target"], "calibration", sort=False).reset_index()
    wide.columns.name = None
    return wide[["family", "target", *CALIBRATIONS]]


def error_shares(scores: xr.Dataset, condition: str) -> pd.DataFrame:
    """Return each expression's share of the squared error: target, expression, a family a column, and n."""
    return _of_expressions(scores, condition, "error_share", families_of(scores)).drop(columns="rated")


def by_expression(scores: xr.Dataset, condition: str) -> pd.DataFrame:
    """Return what is rated and what each family answers on average, by known expression.

    The control and longer trainings are left out. Columns: target, expression, a family's mean over its seeds, n,
    rated; what a network misses is in the difference.
    """
    families = [name for name in families_of(scores) if name != "shuffled" and not LONGER.fullmatch(name)]
    families = families or families_of(scores)
    table = _of_expressions(scores, condition, "prediction", families)
    return table[(table.expression != "") & (table.n > 0)].reset_index(drop=True)


def _of_expressions(scores: xr.Dataset, condition: str, quantity: str, families: list[str]) -> pd.DataFrame:
    """Return a quantity of `error_by_expression` with a family a column, its mean over seeds, n and the mean rating."""
    found = error_by_expression(scores.sel(condition=[condition]), labelled_faces(scores).sel(condition=[condition]))
    found = found.isel(condition=0, drop=True).assign_coords(family=("model", scores["family"].values))
    table = found[quantity].groupby("family").mean().sel(family=families).to_series().unstack("family")[families]
    table.columns.name = None
    return table.join(found[["n", "label"]].rename(label="rated").to_dataframe()).reset_index()


def table2_rows(records: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the paper's Table 2 and how they are trained here, then the trainings that it does not have.

    `records` is `Study.trainings`. Columns: row of Table 2, family, trained on, scheme, starts from, epochs, faces,
    trainings, parameters trained, seconds (mean of a training).
    """
    own = records[~records["family"].str.startswith("small_")]
    families, named = list(dict.fromkeys(own["family"])), {family for _, family in TABLE2}
    rows = [(row, family) for row, family in TABLE2 if family in families]
    made = []
    for row, family in [*rows, *(("none", family) for family in families if family not in named)]:
        some = own[own["family"] == family]
        first = some.iloc[0]
        start = "" if pd.isna(first["start"]) else family_and_seed(first["start"])[0]
        made.append({"row of Table 2": row, "family": family, "trained on": first["condition"],
                     "scheme": first["scheme"], "starts from": start, "epochs": first["epochs"],
                     "faces": first["train"], "trainings": len(some), "parameters trained": first["parameters trained"],
                     "seconds": some["seconds"].mean()})  # fmt: skip
    return pd.DataFrame(made, columns=None if made else ["row of Table 2", "family"])


def forgetting_table(table2: xr.DataArray, between: xr.DataArray) -> pd.DataFrame:
    """Return the CCC that tuning on masks loses on plain faces and gains on masked ones, along the way to it.

    `table2` and `between` are draws of the networks at both ends and of those between them. Columns: family, t (0
    plain, 1 tuned), target, condition, estimate (against the plain network, paired), low, high, and `SOURCES`.
    """
    drawn = xr.concat([table2, between], "model")
    rows = []
    for name in dict.fromkeys(each.split("@")[0] for each in families_of(between)):
        steps = [float(each.split("@")[1]) for each in families_of(between) if each.split("@")[0] == name]
        for t, family in [*((t, f"{name}@{t:g}") for t in sorted(steps)), (1.0, name)]:
            for condition in drawn["condition"].values.tolist():
                part = contrast(drawn, {(family, condition): 1, ("plain_scratch", condition): -1})
                rows.append(part.to_dataframe().reset_index().assign(family=name, t=t, condition=condition))
    return pd.concat(rows, ignore_index=True)[["family", "t", *FIRST[1:], *SOURCES]]


def efficiency_table(drawn: xr.DataArray, records: pd.DataFrame) -> pd.DataFrame:
    """Return the CCC by number of faces that a small network was tuned with, and by scheme.

    `records` is `Study.trainings`. Columns: scheme, faces (0: not tuned), and those of `table3`.
    """
    table = table3(drawn).drop(columns=["paper", "sheet"])
    known = records.drop_duplicates("family").set_index("family")
    tuned = table["family"].map(known["start"]).fillna("") != ""
    table["scheme"] = table["family"].map(known["scheme"]).where(tuned, "not tuned")
    table["faces"] = table["family"].map(known["train"]).where(tuned, 0)
    return table[["scheme", "faces", *[name for name in table if name not in ("scheme", "faces")]]]


def efficiency_differences(drawn: xr.DataArray, records: pd.DataFrame, condition: str = "masked") -> pd.DataFrame:
    """Return paired differences between small networks tuned on some number of faces, Holm-corrected.

    Of as many faces, one scheme less another; within a scheme, fewer faces less all. Columns: those of
    `differences_table`, and scheme_a, faces_a, scheme_b, faces_b.
    """
    known = efficiency_table(drawn, records).drop_duplicates("family").set_index("family")[["scheme", "faces"]]
    tuned = known[known.faces > 0].sort_values("faces", kind="stable")
    most = tuned.groupby("scheme")["faces"].transform("max")
    pairs = [((a.Index, condition), (b.Index, condition)) for a in tuned.itertuples() for b in tuned.itertuples()
             if (a.faces == b.faces and a.scheme < b.scheme)
             or (a.scheme == b.scheme and a.faces < b.faces == most[b.Index])]  # fmt: skip
    table = paired(drawn, pairs)
    for end in ("a", "b"):
        for name in known:
            table[f"{name}_{end}"] = table[end].map(known[name])
    return table


def gains_table(table: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Return what each family costs beside what it reaches: `table` is from `table3`, `records` is `Study.trainings`.

    Columns: family, parameters trained, multiply-adds a face (forward, backward), multiply-adds of the training and
    of those it starts from, seconds, and the CCC on each condition, averaged over targets.
    """
    cost = records.assign(total=records["passes"] * (records["forward"] + records["backward"]))
    kinds = {name: "first" for name in ("parameters trained", "forward", "backward")}
    own = cost.groupby("family", sort=False).agg({**kinds, "total": "mean", "seconds": "mean"})
    starts = records.drop_duplicates("family").set_index("family")["start"].fillna("")
    before = starts.map(lambda name: own["total"].get(name.rpartition("-")[0] or name, 0.0))
    reached = table.pivot_table("estimate", "family", "condition", "mean", sort=False)
    reached.columns = [f"CCC, {name}" for name in reached.columns]
    made = own.rename(columns={"total": "multiply-adds of the training"})
    made["with those of its start"] = made["multiply-adds of the training"] + before
    return made.join(reached, how="inner").reset_index()
