"""What each report opens with: its question, and the answer in up to three plain sentences, composed from the run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.contract import REGIONS, usable
from fcx.core.provenance import nested_attr
from fcx.figures.agreed_findings import differences_told, directions
from fcx.figures.opening import Opening, Picture
from fcx.figures.theme import Figure
from fcx.figures.wording import all_of, how_many, listed, method_title, plain_name
from fcx.statistics.families import family_members
from fcx.statistics.method_agreement import AGREES, CONTRADICTED
from fcx.studies.attention_claims import attention_verdicts, by_all_methods
from fcx.studies.claims import FAILS, HOLDS, OPEN, UNASKED, overall
from fcx.studies.study_tables import LONGER

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TAUGHT = {"plain_scratch": "trained on plain faces", "masked_scratch": "trained on masked faces",
          "masked_last_conv": "tuned on masked faces in its last convolution",
          "masked_all_layers": "tuned on masked faces in all layers"}  # fmt: skip
FATES = {HOLDS: "{} hold{}", FAILS: "{} do{} not hold", OPEN: "{} {} undecided", UNASKED: "{} could not be asked"}


def count_word(count: int) -> str:
    """Return a count as a sentence has it: 'four', or '473'.

    >>> count_word(4), count_word(473)
    ('four', '473')
    """
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def faces_named(source: str) -> str:
    """Return what faces are called by where they are from: 'demo faces', or 'faces of “mine.csv”'.

    >>> faces_named("demo"), faces_named("pictures/mine.csv")
    ('demo faces', 'faces of “mine.csv”')
    """
    return "demo faces" if source == "demo" else f"faces of “{Path(source).name or source}”"


def networks_named(results) -> str:
    """Return how many networks there are: 'One network', 'Four networks', or 'Twelve networks of four kinds'."""
    members = family_members(results)
    trainings = sum(map(len, members.values()))
    kinds = "" if trainings == len(members) else f" of {count_word(len(members))} kind{'s' * (len(members) > 1)}"
    return f"{count_word(trainings).capitalize()} network{'s' * (trainings > 1)}{kinds}"


def comparison_opening(
    comparisons: xr.Dataset, claims: pd.DataFrame, statistics: xr.Dataset, picture: Picture, *, source: str
) -> Opening:
    """Return the opening of the comparison of networks: who was asked, how they differ, and what a mask changes.

    `comparisons` is from `compare_all` on the enrichment of first trainings, `claims` from
    `fcx.studies.attention_claim_table` of `statistics`, both by all methods; `picture` is `face_picture`.
    """
    methods = [method_title(name, statistics) for name in statistics["method"].values]
    many = statistics.sizes["model"] > 1
    asked = f"{count_word(len(methods))} methods were asked" if len(methods) > 1 else f"{methods[0]} was asked"
    first = (f"{networks_named(statistics)} {'were' if many else 'was'} shown the same {statistics.sizes['sample']} "
             f"{faces_named(source)}, plain and with a drawn mask, and {asked} where "
             f"{'each of them' if many else 'it'} looks.")  # fmt: skip
    told = differences_told(comparisons)
    answer = [first, *_between(told, len(methods)), *_by_the_mask(told, claims, len(methods))]
    question = "Where do networks that read faces look, and what does a mask change?"
    return Opening(question if many else "Where does this network look, and what does a mask change?", answer, picture)


def _between(told: pd.DataFrame, methods: int) -> list[str]:
    """Say in what all other networks differ from the first, by all methods; or the surest difference, or none."""
    pairs = told[(told.model_a != told.model_b) & (told.model_b == told.model_b.iloc[0])]
    if pairs.empty:
        return []
    condition = "masked" if "masked" in set(pairs.condition_a) else pairs.condition_a.iloc[0]
    here = pairs[pairs.condition_a == condition]
    alike = here[here.badge == AGREES]
    first, others = the_network(here.model_b.iloc[0]), here.model_a.unique()
    cells = len(others) * here.target.nunique()
    sure = [rows for _, rows in alike.groupby("region", sort=False)
            if len(rows) == cells and rows["mean"].gt(0).nunique() == 1]  # fmt: skip
    whose = "the other networks all look" if len(others) > 1 else f"{the_network(others[0])} looks"
    by = f"{all_of(methods)} methods say so" if methods > 1 else "by the one method asked"
    if sure:
        rows = pd.concat(sure)
        far = max(sure, key=_certainty)
        return [f"On {condition} faces {whose} {directions(rows, here.target.unique(), 'at')} than {first}; {by}, most "
                f"clearly of the {far.region.iloc[0]} ({_times(far)} as much, for its size)."]  # fmt: skip
    if alike.empty:
        told = f"told alike by {all_of(methods)} methods" if methods > 1 else "clear"
        return [f"On {condition} faces no difference between the networks is {told}."]
    row = max((alike.loc[[index]] for index in alike.index), key=_certainty)
    return [f"On {condition} faces the clearest difference is that {the_network(row.model_a.iloc[0])} looks "
            f"{directions(row, here.target.unique(), 'at')} than {first} ({_times(row)} as much); {by}."]  # fmt: skip


def _certainty(rows: pd.DataFrame) -> float:
    """Return how far from 0 the nearest end of the intervals lies."""
    return float(np.where(rows["mean"] > 0, rows["low"], -rows["high"]).min())


def _times(rows: pd.DataFrame) -> str:
    least, most, low, high = (
        2**value for value in (rows.least.min(), rows.most.max(), rows.low.min(), rows.high.max())
    )
    return f"{least:.2f} to {most:.2f} times [{low:.2f}, {high:.2f}]"


def _by_the_mask(told: pd.DataFrame, claims: pd.DataFrame, methods: int) -> list[str]:
    """Say on how many changes by the mask the methods agree, and what becomes of the claims."""
    own = told[told.model_a == told.model_b]
    sentence = ""
    if len(own):
        alike, against = (int((own.badge == badge).sum()) for badge in (AGREES, CONTRADICTED))
        sentence = f"Of {len(own)} changes that putting on the mask could make (region by region, for each output"
        sentence += " and network), " if own.model_a.nunique() > 1 else "), "
        alike, against = (count_word(count) if count else "none" for count in (alike, against))
        several = f"{all_of(methods)} methods tell {alike} alike, and they contradict each other on {against}"
        sentence += several if methods > 1 else f"{alike} {'is' if alike == 'one' else 'are'} clear"
    verdicts = {name: by_all_methods(of) for name, of in attention_verdicts(claims).items()}
    if set(verdicts.values()) != {UNASKED}:
        sentence += "; of" * bool(sentence) or "Of"
        sentence += f" the {fates(verdicts)}"
    return [f"{sentence}."] if sentence else []


def fates(verdicts: dict[str, str]) -> str:
    """Return 'paper's four claims about this, two hold and two are undecided' from claim -> verdict."""
    counts, words = Counter(verdicts.values()), []
    for verdict, count in counts.items():
        one = count == 1
        form = FATES.get(verdict, "{} " + verdict.replace("depends", "depend" + "s" * one))
        ends = {HOLDS: "s" if one else "", FAILS: "es" if one else "", OPEN: "is" if one else "are"}
        words.append(form.format(count_word(count), ends.get(verdict, "")))
    return f"paper's {count_word(len(verdicts))} claim{'s' * (len(verdicts) > 1)} about this, {listed(words)}"


def training_opening(tables: dict[str, pd.DataFrame], claims: dict[str, pd.DataFrame],
                     headline: Figure | Picture | None = None,
                     picture: Picture | None = None) -> Opening:  # fmt: skip
    """Return the opening of the report on training: agreement with and without a mask, and what training changes.

    `tables` maps a set of faces to `fcx.studies.table3`, `claims` to `claim_table`; the first set is told.
    """
    question = "Does training on masked faces help a network to read them, and what does it cost?"
    if not tables:
        return Opening(question, "None of these faces carries a rating, so that nothing can be said of agreement.")
    name, table = next(iter(tables.items()))
    families = [family for family in dict.fromkeys(table["family"]) if family != "shuffled"]
    base = "plain_scratch" if "plain_scratch" in families else families[0]
    rated, numbers = listed(list(dict.fromkeys(table["target"]))), _by_condition(table, base)
    answer = [f"On {how_many(table['n'])} faces ({name}), {the_network(base, 'a')} agrees with people's ratings of "
              f"{rated} by {numbers}; 0 is none, 1 is perfect."]  # fmt: skip
    others = table[table.family.isin(families) & (table.family != base) & (table.condition == "masked")]
    if len(others):
        best = others.groupby("family", sort=False)["estimate"].mean().idxmax()
        numbers = _by_condition(table, best, ", and ")
        answer.append(f"Of the others {the_network(best, 'a')} does best on masked faces: {numbers}.")
    verdicts = overall(claims[name]) if name in claims else {}
    if set(verdicts.values()) - {UNASKED}:
        answer.append(f"Of the {fates(verdicts)}.")
    return Opening(question, answer, headline, picture)


def the_network(family: str, article: str = "the") -> str:
    """Return what people call a network by how it was taught: 'the network trained on plain faces', or its name.

    >>> the_network("masked_scratch_16", "a")
    'a network trained on masked faces for 16 epochs'
    """
    if LONGER.fullmatch(family):
        shorter, _, epochs = family.rpartition("_")
        return f"{the_network(shorter, article)} for {epochs} epochs"
    return f"{article} network {TAUGHT[family]}" if family in TAUGHT else plain_name(family)


def _by_condition(table: pd.DataFrame, family: str, join: str = ", and by ") -> str:
    """Return '0.86 [0.85, 0.87] and 0.89 [0.88, 0.90] on plain faces, and by ... on masked faces', by target."""
    words = []
    for condition, part in table[table.family == family].groupby("condition", sort=False):
        each = listed([f"{r.estimate:z.2f} [{r.low:z.2f}, {r.high:z.2f}]" for r in part.itertuples()])
        words.append(f"{each} on {condition} faces")
    return join.join(words)


def attribution_opening(results: xr.Dataset, statistics: xr.Dataset, headline: Figure | Picture | None = None,
                        picture: Picture | None = None, *, target: str, source: str) -> Opening:  # fmt: skip
    """Return the opening of the report on maps: where one method sees the target come from, and how many agree.

    `statistics` is from `region_statistics` of `results`.
    """
    named = {}
    density = statistics["density_mean"].sel(target=target, region=list(REGIONS))
    for method in density["method"].values:
        of_method = density.sel({"method": method})
        known = (of_method > 0).any("region")
        top = of_method.fillna(-1).argmax("region")
        named[str(method)] = of_method["region"].values[top.values]
        named[str(method)][~known.values] = "no region"
    method = next(iter(named))
    plain = density["condition"].values.tolist().index("plain") if "plain" in density["condition"].values else 0
    groups: dict[str, list[str]] = {}
    for model, region in zip(density["model"].values, named[method][:, plain], strict=True):
        groups.setdefault(str(region), []).append(str(model))
    cell = statistics.sel({"method": method, "target": target}).isel(condition=plain)
    parts = [f"the {region} for {listed([plain_name(model) for model in models])} ({_density(cell, models, region)})"
             for region, models in groups.items()]  # fmt: skip
    n = how_many(statistics["n"].sel({"method": method, "target": target}))
    answer = [f"By {method_title(method, results)}, on {n} {faces_named(source)}, {target} hangs most, for the size of "
              f"the region, on {'; '.join(parts)}."]  # fmt: skip
    if len(named) > 1:
        table = np.stack(list(named.values()))
        same = int((table == table[:1]).all(0).sum())
        all_named = "both" if len(named) == 2 else f"all {count_word(len(named))}"
        answer.append(f"Another method may say otherwise: {all_named} methods name the same region in "
                      f"{same or 'none'} of {table[0].size} cases (network, with and without mask).")  # fmt: skip
    declared = nested_attr(results, "outputs") or {}
    logits = any(declared.get(str(name), {}).get("kind") == "logit" for name in results["model"].values)
    what = f"answer “{target}”" if logits else f"rating of {target}"
    return Opening(f"Which parts of a face move a network's {what}?", answer, headline, picture)


def _density(cell, models: list[str], region: str) -> str:
    """Return how many times as much as its area a region holds, the lowest and the highest of models."""
    if region == "no region":
        return "empty maps"
    ends = [cell[f"density_{end}"].sel(model=models, region=region).values for end in ("mean", "low", "high")]
    mean, low, high = ends[0], ends[1].min(), ends[2].max()
    value = (
        f"{mean.min():.1f}" if f"{mean.min():.1f}" == f"{mean.max():.1f}" else f"{mean.min():.1f} to {mean.max():.1f}"
    )
    return f"{value} times its share of the area [{low:.1f}, {high:.1f}]"


def masks_opening(faces: xr.Dataset, audit: xr.Dataset, headline: Figure | Picture | None = None,
                  picture: Picture | None = None, *, source: str, style: str) -> Opening:  # fmt: skip
    """Return the opening of the report on masks: how many faces, how much is covered, and what masks give away.

    `audit` is from `fcx.masks.leakage_audit`, or None where it was left out or could not be made.
    """
    from fcx.figures.leakage_charts import FAMILY_LEVEL, leakage_rows

    shown = faces.isel(sample=usable(faces))
    share = shown["alpha"].sel(condition="masked").mean(("y", "x")).values / 255
    low, middle, high = np.quantile(share, [0.025, 0.5, 0.975]) if len(share) else [np.nan] * 3
    answer = [f"{shown.sizes['sample']} of {faces.sizes['sample']} {faces_named(source)} can be used, each plain and "
              f"with a drawn mask ({style}) that covers {middle:.0%} of the picture ({low:.0%} to {high:.0%} in 95 of "
              "100 faces)."]  # fmt: skip
    if audit is None:
        return Opening("What do drawn masks hide?", answer, headline, picture)
    rows = leakage_rows(audit)
    for target, part in rows[rows.labels == "rated"].groupby("target", sort=False):
        masks, face = part[part.fit != ""], part[part.source == "face"]
        best = masks.loc[masks.ccc.idxmax()]
        guessed = "can be guessed better than by chance" if (masks.p_shown <= FAMILY_LEVEL).any() else (
            "cannot be guessed better than by chance")  # fmt: skip
        beside = f"; from the plain face it is {face.ccc.iloc[0]:z.2f}" if len(face) else ""
        answer.append(f"From nothing but the mask, {target} {guessed}: agreement {best.ccc:z.2f}, where 0 is none, 1 "
                      f"is perfect, and shuffled ratings reach up to {best.null_high:z.2f}{beside}.")  # fmt: skip
    return Opening("What do drawn masks hide, and what do they give away?", answer[:3], headline, picture)


DEMO_LIMIT = ("The rated demo faces are synthetic, and the two people who made the set rated them: what holds for them "
              "need not hold for photographs.")  # fmt: skip


def faces_limits(source: str) -> str:
    """Return what limits these faces, as a list in Markdown: "" of those that fcx does not know."""
    return f"- {DEMO_LIMIT}" if source == "demo" else ""


def run_limits(results: xr.Dataset, *, source: str) -> str:
    """Return what limits this run, as a list in Markdown: what its networks learnt from, and what its faces are."""
    from fcx.networks.shipped_networks import shipped

    limits = []
    if set(family_members(results)) & {name.rpartition("-")[0] for name in shipped()}:
        limits.append("The networks that ship are small and were trained on proxy labels made from votes on 48 × 48 "
                      "pictures: numbers of this page say how these networks behave on these faces.")  # fmt: skip
    if source == "demo":
        limits.append(DEMO_LIMIT)
    declared = nested_attr(results, "outputs") or {}
    if unknown := [plain_name(name) for name, of in declared.items() if of.get("crop") == "unknown"]:
        limits.append(f"How faces were cut that {listed(unknown)} learnt from is not known: from faces that are cut "
                      "otherwise it may answer otherwise.")  # fmt: skip
    alone = [plain_name(name) for name, of in family_members(results).items() if len(of) == 1]
    if alone:
        limits.append(f"There is one training of {listed(alone)}: its intervals cover the choice of faces, not that of "
                      "the seed, so that a difference may be the luck of one training.")  # fmt: skip
    return "\n".join(f"- {limit}" for limit in limits)
