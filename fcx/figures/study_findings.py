"""Statements of the experiment, composed from the tables of one run."""

from __future__ import annotations

import pandas as pd

from fcx.figures.agreed_findings import NO_CLAIM, VERDICTS, unasked_row
from fcx.figures.opening import Verdict, Verdicts
from fcx.figures.tables import Absent, Finding, Findings
from fcx.figures.wording import TAKEN_BACK, ends_of, how_many, listed, set_named, set_short
from fcx.studies.claims import UNASKED, overall
from fcx.studies.study_tables import LONGER
from fcx.studies.training_plan import family_title

SCHEMES = {"last_conv": "the last convolution", "all_layers": "all layers"}


def claim_verdicts(table: pd.DataFrame, *, faces: str) -> Verdicts | Absent:
    """Return what became of each claim of the paper, with the numbers behind it, or that none can be asked.

    `table` is from `fcx.studies.claim_table`; `faces` says which faces were scored.
    """
    verdicts, rows = overall(table), []
    if set(verdicts.values()) == {UNASKED}:
        return NO_CLAIM
    for name, part in table.groupby("claim", sort=False):
        claim, verdict = f"({name}) {part['statement'].iloc[0]}", VERDICTS[verdicts[name]]
        if verdicts[name] == UNASKED:
            continue
        words = []
        for measured, of_measured in part.groupby("measured", sort=False):
            each = [
                f"{r.target} {r.estimate:+z.2f} [{r.low:+z.2f}, {r.high:+z.2f}] ({r.verdict})"
                for r in of_measured.itertuples()
            ]
            words.append(f"{measured}, to be {of_measured['margin'].iloc[0]}: {'; '.join(each)}")
        numbers = f"{'. '.join(_upper(each) for each in words)}. {_basis(part)}"
        rows.append(Verdict(claim, verdict, numbers, faces))
    rows += unasked_row([name for name, verdict in verdicts.items() if verdict == UNASKED], faces)
    return Verdicts(rows, f"What the paper claims of training, on {set_named(faces)}")


def _basis(table: pd.DataFrame) -> str:
    """Say over what the intervals are."""
    seeds, faces = how_many(table["seeds"]), f"{how_many(table['n'])} faces"
    if int(table["seeds"].max()) < 2:
        return f"Intervals are over {faces} only: with one training of each family, what a seed decides is unknown."
    share = table["share_seeds"]
    between = ends_of(share.min(), share.max(), ".0%")
    return (f"Intervals are over {faces} and {seeds} trainings of each family; between seeds lies {between} of the "
            "variance.")  # fmt: skip


def family_findings(table: pd.DataFrame, differences: pd.DataFrame, *, faces: str) -> Findings:
    """Return what masks cost and training on them gains and forgets, from `table3` and `differences_table`."""
    findings = []
    for target, part in table.groupby("target", sort=False):
        best = part[part["family"] != "shuffled"]
        tops = best.loc[best.groupby("condition", sort=False)["estimate"].idxmax()]
        start = f"{target.capitalize()}, {set_short(faces)}, {how_many(part['n'])} faces"
        if best["family"].nunique() > 1:
            tops = [f"that of {family_title(r.family)} on {r.condition} faces, {_number(r)}" for r in tops.itertuples()]
            statement = f"{start}: the highest CCC is {listed(tops)}."
        else:
            tops = [f"{_number(r)} on {r.condition} faces" for r in tops.itertuples()]
            statement = f"{start}: the CCC of {family_title(best['family'].iloc[0])} is {listed(tops)}."
        each = "; ".join(f"{family_title(r.family)}, {r.condition} {r.estimate:z.2f}" for r in part.itertuples())
        findings.append(Finding(statement, f"{each}."))
        base = next(iter(differences.b), "")  # the first family of `differences_table`
        beside = "the plain network" if base == "plain_scratch" else family_title(base)
        gained = differences[(differences.target == target) & (differences.b == base)
                             & (differences.condition_a == differences.condition_b)]  # fmt: skip
        for condition, rows in gained.groupby("condition_a", sort=False):
            groups: dict[str, list[str]] = {}
            for row in rows.itertuples():
                groups.setdefault(_relation(row), []).append(family_title(row.a))
            parts = [
                f"{listed(names)} {'are' if len(names) > 1 else 'is'} {relation} {beside}"
                for relation, names in groups.items()
            ]
            numbers = "; ".join(f"{family_title(r.a)} {_number(r, '+z.2f')}" for r in rows.itertuples())
            findings.append(Finding(f"{start}, {condition}: {'; '.join(parts)}.", f"{numbers}."))
        findings += _longer(differences[differences.target == target], start)
    if (control := table[table["family"] == "shuffled"]).size:
        words = (
            f"On {set_short(faces)} the control, a network taught shuffled labels, reaches a CCC of at most "
            f"{control['estimate'].max():z.2f}."
        )
        numbers = "; ".join(f"{r.condition}, {r.target} {_number(r)}" for r in control.itertuples())
        findings.append(Finding(words, f"{numbers}."))
    return Findings(findings)


def _longer(differences: pd.DataFrame, start: str) -> list[Finding]:
    """Say how tuning all layers compares with as many epochs on masks from scratch."""
    on_masks = differences.a.str.fullmatch(LONGER) & differences.a.str.startswith("masked")
    rows = differences[on_masks & (differences.b == "masked_all_layers")]
    parts = [f"{_relation(r)} it on {r.condition_a} faces" for r in rows.itertuples()]
    numbers = "; ".join(f"{r.condition_a} {_number(r, '+z.2f')}" for r in rows.itertuples())
    if not parts:
        return []
    longer = f"{family_title(rows.a.iloc[0])}, with as many epochs as masked all layers has in both of its trainings"
    return [Finding(f"{start}: {longer}, is {listed(parts)}.", f"{numbers}.")]


def efficiency_findings(table: pd.DataFrame, differences: pd.DataFrame, *, faces: str) -> Findings:
    """Return how many masked faces tuning needs, from `efficiency_table` and `efficiency_differences`."""
    findings = []
    for target, rows in differences.groupby("target", sort=False):
        start, condition = f"{target.capitalize()}, {set_short(faces)}", rows["condition_a"].iloc[0]
        reached = table[(table.target == target) & (table.condition == condition)].sort_values("faces")
        for (a, b), pairs in rows.groupby(["scheme_a", "scheme_b"], sort=False):
            of_a, of_b = (f"tuning {SCHEMES.get(scheme, scheme)}" for scheme in (a, b))
            if a != b:
                words = [f"{of_a} is {relation} {of_b} with {listed(counts)} {condition} faces"
                         for relation, counts in _counts_by_relation(pairs)]  # fmt: skip
                numbers = "; ".join(f"{r.faces_a:,.0f} {_number(r, '+z.2f')}" for r in pairs.itertuples())
            else:
                everything = f"tuning with all {pairs['faces_b'].iloc[0]:,.0f}"
                words = [f"{of_a} with {listed(counts)} {condition} faces is {relation} {everything}"
                         for relation, counts in _counts_by_relation(pairs)]  # fmt: skip
                own = reached[reached.scheme.isin(["not tuned", a])]
                counts = ["before" if count == 0 else f"{count:,.0f}" for count in own["faces"]]
                numbers = "; ".join(f"{n} {_number(r)}" for n, r in zip(counts, own.itertuples(), strict=True))
            findings.append(Finding(f"{start}: {'; '.join(words)}.", f"{numbers}. {_basis(pairs)}"))
    return Findings(findings)


def _counts_by_relation(pairs: pd.DataFrame) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for row in pairs.itertuples():
        groups.setdefault(_relation(row), []).append(f"{row.faces_a:,.0f}")
    return list(groups.items())


def reason_findings(reasons: pd.DataFrame, *, faces: str) -> Findings:
    """Return what of the gain of training on masks each reason explains (`fcx.studies.ladder_reasons`)."""
    findings = []
    for reason, rows in reasons.groupby("reason", sort=False):
        what, _, how = reason.partition(": ")
        words = []
        for sign, words_of in (("above", "a gain in"), ("below", "a loss in"), ("", "nothing clear in")):
            if of_sign := [r.target for r in rows.itertuples() if _sign(r) == sign]:
                words.append(f"{words_of} {listed(of_sign)}")
        numbers = "; ".join(f"{r.target} {_number(r, '+z.2f')}" for r in rows.itertuples())
        statement = f"{_upper(set_short(faces))}: that {what} explains {listed(words)}."
        findings.append(Finding(statement, f"{_upper(how)}: {numbers}. {_basis(rows)}"))
    return Findings(findings)


def missed_findings(
    parts: pd.DataFrame, shares: pd.DataFrame, mended: pd.DataFrame, *, target: str, faces: str
) -> Findings:
    """Return what the plain network (or the first family) misses of a target on plain faces, and what mends it.

    `parts` is from `parts_table`, `shares` from `error_shares` and `mended` from `calibration_table`.
    """
    parts = parts[(parts.target == target) & (parts.condition == "plain")]
    first = next((name for name in ("plain_scratch", *parts.family) if name in set(parts.family)), None)
    if first is None:
        return Findings([])
    row = parts[parts.family == first].iloc[0]
    start = f"{target.capitalize()}, {set_short(faces)}, plain faces, {family_title(first)}"
    spread = f"{start}: answers have {row.scale:z.2f} times the deviation of the ratings, and lie "
    spread += f"{abs(row['shift']):z.2f} deviations {'below' if row['shift'] < 0 else 'above'} them."
    findings = [
        Finding(spread, f"CCC {row.ccc:z.2f}, correlation {row.pearson:z.2f}, RMSE {row.rmse:z.2f}; {row.n:.0f} faces.")
    ]
    shares = shares[shares.target == target].sort_values(first, ascending=False)
    everyone, shares = shares["n"].sum(), shares[shares.expression != ""]
    if len(shares) > 3:
        top = shares.head(3)
        words = f"{start}: {listed(top.expression.tolist())} make {top[first].sum():.0%} of the squared error"
        each = "; ".join(f"{r['expression']} {r[first]:.0%} ({r['n']:.0f} faces)" for _, r in shares.iterrows())
        findings.append(Finding(f"{words} and {top['n'].sum() / everyone:.0%} of the faces.", f"{each}."))
    row = mended[(mended.target == target) & (mended.family == first)].iloc[0]
    words = f"a shift learned on other faces gives a CCC of {row['mean']:z.2f}, scale and shift {row['affine']:z.2f}"
    behind = (
        f"As it answers {row['none']:z.2f}. Cross-fitted: a tenth of the people (or faces) is mended by what the "
        "others teach."
    )
    findings.append(Finding(f"{start}: {words}.", behind))
    return Findings(findings)


def ceiling_findings(ceilings: pd.DataFrame, table: pd.DataFrame, *, faces: str) -> Findings:
    """Return how high a CCC can be on these faces, by the noise of their labels, beside the highest that is reached."""
    known = ceilings[ceilings.set == faces]
    if known.empty:
        why = "each face has one label whose noise is unknown, as where it has one rating, or its votes are not at hand"
        return Findings([Finding(f"{set_short(faces)}: no ceiling of agreement is known.", f"{_upper(why)}.")])
    findings = []
    for row in known.itertuples():
        best = table.loc[table[table.target == row.target]["estimate"].idxmax()]
        start = f"{row.target.capitalize()}, {set_short(faces)}: no prediction can have a CCC above {row.network:z.2f}"
        behind = f"labels of as many other raters would agree with {row.full:z.2f}; {row.n:.0f} faces"
        findings.append(Finding(f"{start}; the highest here is {best.estimate:z.2f}.",
                                f"Halves of each face's votes agree with {row.half:z.2f}, {behind}."))  # fmt: skip
    return Findings(findings)


def _relation(row) -> str:
    """Return how a difference that is one of many is called, and whether the correction for all takes that back."""
    sign = _sign(row)
    if not sign:
        return "not clearly different from"
    return sign if row.p_holm < 0.05 else f"{sign} ({TAKEN_BACK})"


def _sign(row) -> str:
    """Return "above" or "below" where a whole interval lies so of 0, else ""."""
    return "above" if row.low > 0 else "below" if row.high < 0 else ""


def _number(row, form: str = "z.2f") -> str:
    return f"{row.estimate:{form}} [{row.low:{form}}, {row.high:{form}}]"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
