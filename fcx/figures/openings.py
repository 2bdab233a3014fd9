"""What each report opens with: its question, and the answer in up to three plain sentences, composed from the run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.contract import REGIONS, usable
from fcx.core.provenance import nested_attr
from fcx.figures.opening import Opening, Picture
from fcx.figures.tables import Absent
from fcx.figures.theme import Figure
from fcx.figures.wording import how_many, listed, method_title, plain_name, set_named
from fcx.statistics.families import family_members
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
    """Return how many networks there are: 'One network', or 'Four networks, each trained three times,'."""
    counts = [len(of) for of in family_members(results).values()]
    words = f"{count_word(len(counts)).capitalize()} network{'s' * (len(counts) > 1)}"
    if set(counts) == {1}:
        return words
    several = [count for count in counts if count > 1]
    who = f"{count_word(len(several))} of them " if len(several) < len(counts) else "each " if len(counts) > 1 else ""
    times = f"{count_word(several[0])} times" if len(set(several)) == 1 else "several times"
    return f"{words}, {who}trained {times},"


def fates(verdicts: dict[str, str], about: str = "about this") -> str:
    """Return 'paper's four claims about this, two hold and two are undecided' from claim -> verdict."""
    counts, words = Counter(verdicts.values()), []
    for verdict, count in counts.items():
        one = count == 1
        form = FATES.get(verdict, "{} " + verdict.replace("depends", "depend" + "s" * one))
        ends = {HOLDS: "s" if one else "", FAILS: "es" if one else "", OPEN: "is" if one else "are"}
        words.append(form.format(count_word(count), ends.get(verdict, "")))
    return f"paper's {count_word(len(verdicts))} claim{'s' * (len(verdicts) > 1)} {about}, {listed(words)}"


def training_opening(tables: dict[str, pd.DataFrame], claims: dict[str, pd.DataFrame],
                     headline: Figure | Picture | None = None, picture: Picture | None = None, *, style: str = "",
                     absent: Absent) -> Opening:  # fmt: skip
    """Return the opening of the report on training: agreement with and without a mask, and what training changes.

    `tables` maps a set of faces to `fcx.studies.table3`, `claims` to `claim_table`; the first set is told. `style`
    is that of the masks, and `absent` says why there is no table.
    """
    question = "Does training on masked faces help a network to read them, and what does it cost?"
    if not tables:
        return Opening(question, absent.why)
    name, table = next(iter(tables.items()))
    families = [family for family in dict.fromkeys(table["family"]) if family != "shuffled"]
    base = "plain_scratch" if "plain_scratch" in families else families[0]
    rated, numbers = listed(list(dict.fromkeys(table["target"]))), _by_condition(table, base)
    on = f"On {how_many(table['n'])} {set_named(name).removeprefix('the ')}, plain and with a drawn mask"
    on += f" (style {style})" * bool(style)
    whose = f"{the_network(base, 'a')} agrees with the labels that people gave for {rated}"
    answer = [f"{on}, {whose} by {numbers}; 0 is none, 1 is perfect."]
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


def attribution_opening(groups: list[tuple[str, xr.Dataset]], headline: Figure | Picture | None = None,
                        picture: Picture | None = None, *, source: str) -> Opening:  # fmt: skip
    """Return the opening of the report on maps: where one method sees each target come from, and how many agree.

    `groups` is (target, `region_statistics` of the networks that are shown with it), the first target first.
    """
    told, cases, alike, condition = [], 0, 0, ""
    for target, statistics in groups:
        named = _densest(statistics, target)
        method = next(iter(named))
        conditions = statistics["condition"].values.tolist()
        plain = conditions.index("plain") if "plain" in conditions else 0
        condition = conditions[plain]
        regions: dict[str, list[str]] = {}
        for model, region in zip(statistics["model"].values, named[method][:, plain], strict=True):
            regions.setdefault(str(region), []).append(str(model))
        cell = statistics.sel({"method": method, "target": target}).isel(condition=plain)
        parts = [f"the {region} for {listed([plain_name(model) for model in models])} "
                 f"({_density(cell, models, region)})" for region, models in regions.items()]  # fmt: skip
        told.append(f"{target} hangs most, for the size of the region, on {'; '.join(parts)}")
        table = np.stack(list(named.values()))
        cases, alike = cases + table[0].size, alike + int((table == table[:1]).all(0).sum())
    target, statistics = groups[0]
    n = how_many(
        np.concatenate([of["n"].sel({"method": method, "target": name}).values.ravel() for name, of in groups])
    )
    answer = [f"By {method_title(method, statistics)}, on {n} {condition} {faces_named(source)}, {'; '.join(told)}."]
    if len(named) > 1:
        titles = listed([method_title(name, statistics) for name in named])
        answer.append(f"Another method may say otherwise: {titles} name the same region in {alike or 'none'} of "
                      f"{cases} cases (network, with and without mask).")  # fmt: skip
    declared = nested_attr(statistics, "outputs") or {}
    logits = any(declared.get(str(name), {}).get("kind") == "logit" for name in statistics["model"].values)
    question = f"Which parts of a face move a network's {f'answer “{target}”' if logits else f'rating of {target}'}?"
    return Opening(question if len(groups) == 1 else "Which parts of a face move what a network answers?", answer,
                   headline, picture)  # fmt: skip


def _densest(statistics: xr.Dataset, target: str) -> dict[str, np.ndarray]:
    """Return method -> (model, condition) the region with the most attribution for its area, or "no region"."""
    named, density = {}, statistics["density_mean"].sel(target=target, region=list(REGIONS))
    for method in density["method"].values:
        of_method = density.sel({"method": method}).transpose("model", "condition", "region")
        top = of_method["region"].values[of_method.fillna(-1).argmax("region").values].astype(object)
        top[~(of_method > 0).any("region").values] = "no region"
        named[str(method)] = top
    return named


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


def masks_opening(faces: xr.Dataset, audit: xr.Dataset | Absent, headline: Figure | Picture | None = None,
                  picture: Picture | None = None, *, source: str, style: str) -> Opening:  # fmt: skip
    """Return the opening of the report on masks: how many faces, how much is covered, and what masks give away.

    `audit` is from `fcx.masks.leakage_audit`, or an Absent where it was left out or could not be made.
    """
    from fcx.figures.leakage_charts import leakage_rows

    shown = faces.isel(sample=usable(faces))
    share = shown["alpha"].sel(condition="masked").mean(("y", "x")).values / 255
    low, middle, high = np.quantile(share, [0.025, 0.5, 0.975]) if len(share) else [np.nan] * 3
    answer = [f"{shown.sizes['sample']} of {faces.sizes['sample']} {faces_named(source)} can be used, each plain and "
              f"with a drawn mask ({style}) that covers {middle:.0%} of the picture ({low:.0%} to {high:.0%} in 95 of "
              "100 faces)."]  # fmt: skip
    if isinstance(audit, Absent):
        return Opening("What do drawn masks hide?", answer, headline, picture)
    rows = leakage_rows(audit)
    fit = "published" if style == "published" else str(faces.attrs.get("mask_fit", ""))
    for target, part in rows.groupby("target", sort=False):
        answer.append(_given_away(target, part, fit if fit in set(part.fit) else ""))
    return Opening("What do drawn masks hide, and what do they give away?", answer[:3], headline, picture)


def _given_away(target: str, rows: pd.DataFrame, fit: str) -> str:
    """Say whether a target can be guessed from the mask of a fit ("": any), beside another mask and the face."""
    from fcx.figures.leakage_charts import FAMILY_LEVEL

    rated, beyond = (rows[rows.labels == kind].set_index(["fit", "source"]) for kind in ("rated", "beyond"))
    masks = rated[rated.index.get_level_values("fit") != ""]
    worn = masks.loc[[fit]] if fit else masks
    clear = worn[worn.p_shown <= FAMILY_LEVEL]
    best = (clear if len(clear) else worn).ccc.idxmax()
    row = masks.loc[best]
    guessed = f"can{'' if len(clear) else 'not'} be guessed {'' if len(clear) else 'clearly '}better than by chance"
    if len(clear) and beyond.loc[best].p_shown > FAMILY_LEVEL:
        guessed += ", but not beyond what the pose of the head and the light give"
    luck = f" (which the best of {len(masks)} attempts can pass by luck)" * bool(
        row.ccc > row.null_high and clear.empty
    )
    others = masks.drop(index=worn.index)
    others = others[others.p_shown <= FAMILY_LEVEL]
    beside = [f"from {others.ccc.idxmax()[0]} masks it is {others.ccc.max():z.2f}"] if len(others) else []
    face = rated[rated.index.get_level_values("source") == "face"].ccc
    beside += [f"from the plain face it is {value:z.2f}" for value in face]
    return (f"From nothing but the mask, {target} {guessed}: agreement {row.ccc:z.2f}, where 0 is none, 1 is perfect, "
            f"and 19 of 20 shuffled ratings stay below {row.null_high:z.2f}{luck}; {', '.join(beside)}.")  # fmt: skip


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
