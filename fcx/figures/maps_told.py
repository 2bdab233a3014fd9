"""Words of the report on maps: whose answers are explained, of which training, and what its methods show."""

from __future__ import annotations

import html

import numpy as np
import xarray as xr

from fcx.core.provenance import nested_attr
from fcx.figures.openings import count_word, the_network
from fcx.figures.wording import listed, method_title, readable
from fcx.statistics.families import family_members

LRP = (
    "**LRP** passes the output back through the network layer by layer, in shares; its map sums to the output, less "
    "what biases absorb (the table below says how much that is). Red pixels speak for a higher value, blue ones for a "
    "lower value."
)
METHODS_TOLD = {
    "lrp_gamma": "goes down to the pixels by one rule, and finds a region that is known to carry the labels in nearly "
                 "every drawn face",
    "lrp_zbox": "ends in a rule for pixels between black and white, is easier to read, and its signs are the truest "
                "when pixels are removed",
    "gradcam": "weights the channels of a late layer by their gradient, keeps what is positive, and sees no finer than "
               "the cells of that layer",
    "gradient": "is how much the output would change with each pixel: sensitivity, not contribution",
    "mean_activation": "is what the published code of the paper in effect drew: the mean of the last map's channels, "
                       "with one sign. It does not depend on the output that it is said to explain, and is kept for "
                       "comparison",
}  # fmt: skip


def methods_told(results: xr.Dataset) -> str:
    """Return what the methods of results show, as a list in Markdown."""
    names, declared = [str(name) for name in results["method"].values], nested_attr(results, "methods")
    lines = [LRP] if any(name.startswith("lrp") for name in names) else []
    for name in names:
        shows = f"shows {declared.get(name, {}).get('shows', 'where {} comes from').format('the output')}"
        lines.append(f"**{method_title(name, results)}** {METHODS_TOLD.get(name, shows)}.")
    return "\n".join(f"- {line}" for line in lines)


def families_told(results: xr.Dataset) -> str:
    """Return what each family of networks has learnt, or answers, and how often it was trained, in Markdown."""
    lines = []
    for family, of in family_members(results).items():
        shown = the_network(family, "a")
        answers = results["share"].sel(model=list(of.values())).notnull()
        outputs = answers.any([dim for dim in answers.dims if dim != "target"])
        named = [html.escape(str(name)) for name in results["target"].values[outputs.values]]
        what = f"is {shown}" if shown.startswith("a network") else f"answers {listed(named)}"
        times = f", asked in {count_word(len(of))} trainings" * (len(of) > 1)
        lines.append(f"- **{readable(family)}** {what}{times}.")
    return "\n".join(lines)


def networks_told(results: xr.Dataset) -> str:
    """Return which outputs each network answers, and of which training of a family maps are, in Markdown.

    `results` holds all trainings that were given.
    """
    answers = results["prediction"].notnull().any(("condition", "sample")).transpose("model", "target").values
    groups: dict[str, list[str]] = {}
    for family, of in family_members(results).items():
        of_family = np.isin(results["model"].values, list(of.values()))
        outputs = listed([str(name) for name in results["target"].values[answers[of_family].any(0)]])
        groups.setdefault(outputs, []).append(readable(family))
    words = [f"of {outputs or 'nothing'} for {listed(names)}" for outputs, names in groups.items()]
    several = [readable(family) for family, of in family_members(results).items() if len(of) > 1]
    trained = f" Of {listed(several)} several trainings were given: maps that are drawn are of the first."
    return f"There are maps {', and '.join(words)}.{trained * bool(several)}"
