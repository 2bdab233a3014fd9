"""Where networks look, as statements: only what all methods tell alike is told, and claims by every method."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from fcx.figures.opening import Verdict, Verdicts
from fcx.figures.tables import Absent, Finding, Findings, Table
from fcx.figures.wording import ends_of, how_many, listed, method_title, plain_name
from fcx.statistics.method_agreement import AGREES, agreement_of_methods
from fcx.studies.attention_claims import attention_verdicts, by_all_methods
from fcx.studies.claims import FAILS, HOLDS, OPEN, UNASKED

VERDICTS = {HOLDS: "holds", FAILS: "does not hold", OPEN: "is undecided", UNASKED: "cannot be asked"}
NO_CLAIM = Absent("The paper's claims are about networks of which some are not among these: none can be asked.")
SUMS = ("uncovered",)  # regions that are made of others: told by their parts


def attention_findings(comparisons: xr.Dataset, statistics: xr.Dataset) -> Findings:
    """Return the differences between networks, and of the mask, that all methods tell alike, a statement for each pair.

    `comparisons` is from `compare_all` on the enrichment of `statistics`, by several methods. Networks are compared
    with the first; all pairs are in `attention_table`. More and less are of attribution for the area of a region.
    """
    told = differences_told(comparisons)
    methods = listed(_titles(comparisons, statistics))
    first = str(comparisons["model_b"].values[0])
    findings = []
    for number, rows in told[told.badge == AGREES].groupby("comparison", sort=True):
        row = rows.iloc[0]
        if row.model_a == row.model_b or row.model_b == first:
            numbers = f"Agrees: {methods}; {how_many(comparisons['n'].isel(comparison=number))} faces. {_spread(rows)}."
            outputs = told[told.comparison == number].target.unique()
            findings.append(Finding(f"{_start(row)} {directions(rows, outputs)}{_than(row)}.", numbers))
    if not findings:
        many = comparisons.sizes["method"] > 1
        words = f"No difference is told alike by {methods}" if many else f"{methods} tells no clear difference"
        between = ["networks"] * (len(set(told.model_b)) > 1) + ["faces with and without a mask"]
        findings = [Finding(f"{words} between {' or between '.join(between)}.",
                            f"{how_many(comparisons['n'])} faces; each difference is in the table.")]  # fmt: skip
    return Findings(findings)


def attention_table(comparisons: xr.Dataset, statistics: xr.Dataset) -> Table:
    """Return every difference with its badge and what each method says of it: how many times, with its interval."""
    told = differences_told(comparisons).rename(columns={"agreement": "badge"})
    rows = []
    for row in told.itertuples():
        what = f"{plain_name(row.model_a)}, masked over plain faces" if row.model_a == row.model_b else (
            f"{plain_name(row.model_a)} over {plain_name(row.model_b)}, {row.condition_a} faces")  # fmt: skip
        cell = comparisons.sel(target=row.target, region=row.region).isel(comparison=row.comparison)
        times = [f"{2 ** d:.2f} [{2 ** low:.2f}, {2 ** high:.2f}]" for d, low, high in
                 zip(*(cell[name].values for name in ("difference", "low", "high")), strict=True)]  # fmt: skip
        rows.append([what, row.target, row.region, row.badge, *times])
    columns = ["difference", "output", "region", "methods say", *_titles(comparisons, statistics)]
    return Table("method_agreement", "Every difference, by every method: how many times as dense",
                 pd.DataFrame(rows, columns=columns), folded=True)  # fmt: skip


def attention_claim_verdicts(table: pd.DataFrame, statistics: xr.Dataset) -> Verdicts | Absent:
    """Return what every method says of each claim of where networks look, or that none can be asked.

    `table` is from `fcx.studies.attention_claim_table`.
    """
    verdicts, rows = attention_verdicts(table), []
    if not any(verdicts.values()):
        return NO_CLAIM
    for name, part in table.groupby("claim", sort=False):
        claim = f"({name}) {part['statement'].iloc[0]}"
        verdict = by_all_methods(verdicts[name])
        if verdict == UNASKED:
            continue
        words = [f"{measured[:1].upper()}{measured[1:]}: {_by_target(of_measured)}"
                 for measured, of_measured in part.groupby("measured", sort=False)]  # fmt: skip
        each = verdicts[name]
        if len(set(each.values())) > 1:
            groups = {said: [method_title(m, statistics) for m in each if each[m] == said] for said in each.values()}
            words.append("; ".join(f"{said} by {listed(names)}" for said, names in groups.items()))
        faces = f"{how_many(part['n'])} faces, {_trainings(part['seeds'])}"
        rows.append(Verdict(claim, VERDICTS.get(verdict, verdict), f"{'. '.join(words)}.", faces))
    rows += unasked_row([name for name, of in verdicts.items() if not of])
    return Verdicts(rows, "What the paper claims of where networks look")


def unasked_row(names: list[str], faces: str = "") -> list[Verdict]:
    """Return one row for all claims that cannot be asked, or none."""
    about = "Not all of the networks that " + ("it is about" if len(names) == 1 else "they are about") + " are there."
    return [Verdict(listed([f"({name})" for name in names]), VERDICTS[UNASKED], about, faces)] if names else []


def _trainings(seeds) -> str:
    """Return 'one training of each family', or '2 to 3 trainings of each family'."""
    return "one training of each family" if int(seeds.max()) < 2 else f"{how_many(seeds)} trainings of each family"


def attention_claims_folded(table: pd.DataFrame, statistics: xr.Dataset) -> Table:
    """Return what every method says of each claim, a row for each number: how many times, with its interval."""
    asked = table.dropna(subset="method")
    rows = asked.assign(method=[method_title(name, statistics) for name in asked["method"]])
    columns = {"claim": "claim", "measured": "measured", "method": "method", "target": "output", "estimate": "times",
               "low": "low", "high": "high", "verdict": "verdict", "seeds": "trainings", "n": "faces"}  # fmt: skip
    frame = rows.reindex(columns=[*columns]).rename(columns=columns)
    return Table("attention_claims", "Every claim, by every method", frame, folded=True)


def _by_target(rows: pd.DataFrame) -> str:
    """Return for each output the smallest and the largest of all methods, and the ends of all their intervals."""
    words = []
    for target, part in rows.groupby("target", sort=False):
        times = ends_of(part["estimate"].min(), part["estimate"].max())
        words.append(f"{target} {times} times [{part['low'].min():.2f}, {part['high'].max():.2f}]")
    return ", ".join(words)


def differences_told(comparisons) -> pd.DataFrame:
    """Return a row for each difference: who, where, which output, its badge, mean and ends over methods.

    An output that one of two networks lacks makes no difference.
    """
    regions = [name for name in comparisons["region"].values.tolist() if name not in SUMS]
    comparisons = comparisons.sel(region=regions)
    table = agreement_of_methods(comparisons).rename("badge").to_dataset()
    table["mean"], table["low"], table["high"] = (
        comparisons["difference"].mean("method"), comparisons["low"].min("method"), comparisons["high"].max("method")
    )  # fmt: skip
    table["least"], table["most"] = comparisons["difference"].min("method"), comparisons["difference"].max("method")
    table["asked"] = (comparisons["n"] > 0).any("method")
    rows = table.to_dataframe(dim_order=["comparison", "target", "region"]).reset_index()
    return rows[rows.pop("asked")].reset_index(drop=True)


def _titles(comparisons, statistics) -> list[str]:
    return [method_title(name, statistics) for name in comparisons["method"].values]


def _start(row) -> str:
    if row.model_a == row.model_b:
        return f"When the mask is worn, {plain_name(row.model_a)} attends"
    return f"On {row.condition_a} faces {plain_name(row.model_a)} attends"


def _than(row) -> str:
    return " than without it" if row.model_a == row.model_b else f" than {plain_name(row.model_b)}"


def directions(rows: pd.DataFrame, targets, to: str = "to") -> str:
    """Return 'more to the eyes and the brows (valence only), and less to the mouth', of rows of `differences_told`."""
    parts = []
    for word, some in (("more", rows[rows["mean"] > 0]), ("less", rows[rows["mean"] < 0])):
        places = []
        for region, of_region in some.groupby("region", sort=False):
            known = list(of_region.target.unique())
            place = "place of the mask" if region == "mask" and "plain" in set(rows.condition_b) else region
            places.append(f"the {place}" + ("" if len(known) == len(targets) else f" ({listed(known)} only)"))
        if places:
            parts.append(f"{word} {to} {listed(places)}")
    return ", and ".join(parts)


def _spread(rows: pd.DataFrame) -> str:
    """Return for each region the smallest and the largest of all methods, and the ends of all intervals."""
    words = []
    for region, some in rows.groupby("region", sort=False):
        least, most, low, high = (2 ** float(value) for value in
                                  (some.least.min(), some.most.max(), some.low.min(), some.high.max()))  # fmt: skip
        words.append(f"{region} {ends_of(least, most)} times [{low:.2f}, {high:.2f}]")
    return "; ".join(words)
