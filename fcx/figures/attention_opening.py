"""What the report on where networks look opens with: who was asked, how they differ, and what a mask changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.contract import REGIONS
from fcx.figures.agreed_findings import differences_told, directions
from fcx.figures.opening import Opening, Picture
from fcx.figures.openings import count_word, faces_named, fates, networks_named, the_network
from fcx.figures.wording import all_of, listed, method_title
from fcx.statistics.families import family_members
from fcx.statistics.method_agreement import AGREES, CONTRADICTED
from fcx.studies.attention_claims import attention_verdicts, by_all_methods
from fcx.studies.claims import UNASKED

MOST = 3  # regions of a network that are told


def comparison_opening(comparisons: xr.Dataset, claims: pd.DataFrame, statistics: xr.Dataset, picture: Picture, *,
                       source: str, given: int) -> Opening:  # fmt: skip
    """Return the opening of the comparison of networks: who was asked, how they differ, and what a mask changes.

    `comparisons` is from `compare_all` on the enrichment of first trainings, `claims` from
    `fcx.studies.attention_claim_table` of `statistics`, both by all methods; `picture` is `face_picture`.
    `given` is how many faces there are, of which `statistics` may have a part.
    """
    methods = [method_title(name, statistics) for name in statistics["method"].values]
    members = family_members(statistics)
    many, count = len(members) > 1, statistics.sizes["sample"]
    count = f"{count}" if count == given else f"{count} of {given}"
    asked = f"{count_word(len(methods))} methods were asked" if len(methods) > 1 else f"{methods[0]} was asked"
    asked += f" where {'each' if many else 'it'}"
    asked += ", in its first training," * any(len(of) > 1 for of in members.values())
    first = (f"{networks_named(statistics)} {'were' if many else 'was'} shown the same {count} {faces_named(source)}, "
             f"plain and with a drawn mask, and {asked} looks.")  # fmt: skip
    told, by = differences_told(comparisons), _by(len(methods))
    middle = _between(told, len(methods)) or _where(picture.table, by)
    answer = [first, *middle, *_by_the_mask(told, claims, len(methods), by)]
    question = "Where do networks that read faces look, and what does a mask change?"
    return Opening(question if many else "Where does this network look, and what does a mask change?", answer, picture)


def _by(methods: int) -> str:
    return f"by {all_of(methods)} methods" if methods > 1 else "by the one method asked"


def _where(table: pd.DataFrame, by: str) -> list[str]:
    """Say at which three regions of the face one or two networks look more than their size would explain."""
    if table["model"].nunique() > 2:
        return []  # the picture shows it
    sentences = []
    for model, of_model in table.groupby("model", sort=False):
        parts = []
        for condition, rows in of_model.groupby("condition", sort=False):
            rows = rows[rows["methods agree"] & (rows["log2 enrichment"] > 0)].sort_values("log2 enrichment")[::-1]
            at = [f"the {name}" for name in rows.region if name in REGIONS and name != "background"]
            parts.append(f"at {listed(at[:MOST]) or 'no region'} on {condition} faces")
        sentences.append(f"{the_network(str(model))} looks more than size would explain {listed(parts)}")
    return [f"{_upper(by)}, {'; '.join(sentences)}."]


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
    whose = "the other networks all look"
    if len(others) < told.model_a.nunique() - 1 or len(others) == 1:  # the rest has other outputs
        whose = f"{listed([the_network(name) for name in others])} look{'s' * (len(others) == 1)}"
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


def _by_the_mask(told: pd.DataFrame, claims: pd.DataFrame, methods: int, by: str) -> list[str]:
    """Say what putting on the mask changes by all methods, where they contradict each other, and of the claims."""
    own, parts = told[told.model_a == told.model_b], []
    if len(own):
        moved = []
        for model, rows in own.groupby("model_a", sort=False):
            alike = rows[rows.badge == AGREES]
            if len(alike):
                moved.append(f"{the_network(model)} looks {directions(alike, rows.target.unique(), 'at')}")
        parts.append(f"When the mask is put on, {by} {'; '.join(moved) or 'nothing changes clearly'}")
        against = int((own.badge == CONTRADICTED).sum())
        if methods > 1:
            contradicted = f"{count_word(against) if against else 'none'} of {len(own)} possible changes"
            parts.append(f"the methods contradict each other on {contradicted}")
    verdicts = {name: by_all_methods(of) for name, of in attention_verdicts(claims).items()}
    if set(verdicts.values()) != {UNASKED}:
        about = f"about this{', asked of all trainings' * bool((claims['seeds'] > 1).any())}"
        parts.append(f"of the {fates(verdicts, about)}")
    return [f"{_upper('; '.join(parts))}."] if parts else []


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
