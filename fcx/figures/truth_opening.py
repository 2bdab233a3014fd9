"""What the report on known truth opens with: which methods find it, and how often mere noise does."""

from __future__ import annotations

import pandas as pd

from fcx.figures.known_truth_charts import LEARNT, WANTED, validity_rows
from fcx.figures.opening import Opening, Picture
from fcx.figures.openings import count_word
from fcx.figures.theme import Figure
from fcx.figures.wording import listed, method_title


def validity_opening(sets: dict, headline: Figure | Picture | None = None, picture: Picture | None = None) -> Opening:
    """Return the opening of the report on known truth.

    `sets` maps what the faces are ("drawn faces") to scores of `fcx.faithfulness.known_truth.known_truth_scores`; the
    first two are told.
    """
    answer = [_finders(on, scores, validity_rows(scores)) for on, scores in sets.items()][:2]
    name, scores = next(iter(sets.items()))
    rows = validity_rows(scores)
    rows = rows[rows.area < 1]
    words = f"A map of noise finds the known part in {rows[rows.method == 'random'].found_mean.mean():.0%} of {name}"
    untrained = rows[~rows.control & rows.untrained_mean.notna()]
    if len(untrained):
        most = untrained.loc[untrained.untrained_mean.idxmax()]
        words += f"; a map of a network that learnt nothing, in up to {most.untrained_mean:.0%}"
        words += f" ({method_title(most.method, scores)})"
    return Opening("Do the methods find what is known to be there?", [*answer, f"{words}."], headline, picture)


def _finders(on: str, scores, rows: pd.DataFrame) -> str:
    """Say which methods find the truth in enough faces for every carrier and target, or which comes nearest."""
    asked = rows[(rows.area < 1) & (rows.ccc >= LEARNT) & ~rows.control]
    if asked.empty:
        return f"On {on} no network learnt its labels, so that nothing can be asked."
    worst = asked.loc[asked.groupby("method", sort=False).found_mean.idxmin()].set_index("method")
    good, best = worst[worst.found_mean >= WANTED], worst.loc[worst.found_mean.idxmax()]
    parts = listed(list(dict.fromkeys(asked.carrier)))
    start = f"On {scores.sizes['sample']} {on} in which one known part alone (in turn: {parts}) carries the ratings"
    if good.empty:
        return (f"{start}, no method finds that part in at least {WANTED:.0%} of the faces; nearest is "
                f"{method_title(best.name, scores)}, with {best.found_mean:.0%} [{best.found_low:.0%}, "
                f"{best.found_high:.0%}] for the part that it finds worst.")  # fmt: skip
    names, failed = [method_title(name, scores) for name in good.index], len(worst) - len(good)
    rest = f"; {count_word(failed)} of {count_word(len(worst))} methods do not" if failed else ""
    return (
        f"{start}, {listed(names)} find{'s' * (len(names) == 1)} that part in at least {WANTED:.0%} of the faces{rest}."
    )
