"""Tables, findings and provenance as values that show themselves in a notebook and that an exporter can read."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.checks import choose
from fcx.core.provenance import nested_attr, run_provenance
from fcx.datasets.usable_faces import coverage_rows
from fcx.figures.theme import plain_table
from fcx.figures.wording import method_title

MIME = "application/vnd.fcx+json"  # what the exporter reads: {"kind", "name", ...}


@dataclass
class Table:
    """A table of numbers with a name and a caption; `folded` shows its caption until the reader opens it."""

    name: str
    title: str
    frame: pd.DataFrame
    folded: bool = False

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "table", "name": self.name, "title": self.title, "table": plain_table(self.frame)}
        shown = html_table(content["table"], self.title)
        if self.folded and len(self.frame):
            shown = f'<details class="fold"><summary>{html.escape(self.title)}</summary>{shown}</details>'
        return {MIME: content, "text/html": shown, "text/plain": str(self.frame)}


@dataclass
class Absent:
    """What a section would have shown and cannot: why, in a sentence. An export lists such sections at its end."""

    why: str

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "absent", "name": "absent", "why": self.why}
        return {MIME: content, "text/html": f"<p>{html.escape(self.why)}</p>", "text/plain": self.why}


class Finding(NamedTuple):
    """One statement and the numbers behind it."""

    statement: str
    numbers: str


@dataclass
class Findings:
    """Statements composed from the numbers of one run."""

    items: list[Finding]

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "findings", "name": "findings", "findings": [item._asdict() for item in self.items]}
        text = "\n".join(f"{statement} {numbers}" for statement, numbers in self.items)
        return {MIME: content, "text/html": self.html(), "text/plain": text}

    def html(self) -> str:
        """The statements as an HTML list, each with its numbers under it."""
        rows = (f"<li>{html.escape(statement)}<p>{html.escape(behind)}</p></li>" for statement, behind in self.items)
        return f'<ul class="findings">{"".join(rows)}</ul>'


@dataclass
class Provenance:
    """What was run on what: nested names and values."""

    facts: dict

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "provenance", "name": "provenance", "facts": self.facts}
        return {MIME: content, "text/html": self.html(), "text/plain": json.dumps(self.facts, indent=1)}

    def html(self) -> str:
        """The facts as an HTML table, one row a fact."""
        rows = pd.json_normalize(self.facts, sep=" · ").to_dict("records")[0]
        values = [", ".join(map(str, value)) if isinstance(value, list) else str(value) for value in rows.values()]
        return html_table({"what": list(rows), "value": values}, "Provenance of this run")


# Words for names of columns; what is not here has its underscores written as spaces.
HEADS = {"ccc": "CCC", "n": "faces", "p": "p", "p_holm": "p, corrected (Holm)", "rmse": "RMSE",
         "auc": "AUC", "by_seed": "each training", "se_faces": "standard error over faces",
         "se_seeds": "standard error over seeds", "dof": "degrees of freedom", "sheet": "authors' sheet",
         "share_seeds": "share of variance between seeds",
         "t": "share of the way"}  # fmt: skip
ENDS = {"_low": ", low end", "_high": ", high end", "_mean": "", "_a": ", first", "_b": ", second"}


def html_table(table: Mapping[str, list], caption: str) -> str:
    """Return a table (column -> values) as HTML: names escaped and in words, numbers to three digits.

    A column in which nothing is known is not shown. Of a table without rows only its caption is left, with words that
    say so.
    """
    words = html.escape(html.unescape(caption))
    table = {name: values for name, values in table.items() if any(value is not None for value in values)}
    if not any(map(len, table.values())):
        return f"<p>{words}: nothing to list.</p>"
    numbers = [any(_is_number(v) for v in values) for values in table.values()]
    heads = zip(map(column_words, table), numbers, strict=True)
    head = "".join(f'<th scope="col"{" class=n" * number}>{html.escape(words)}</th>' for words, number in heads)
    rows = ["".join(map(_cell, row)) for row in zip(*table.values(), strict=True)]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (f'<div class="wide" role="group" aria-label="{words}"><table><caption>{words}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")  # fmt: skip


def column_words(name) -> str:
    """Return the name of a column in words.

    >>> column_words("within_ccc_low")
    'within CCC, low end'
    """
    stem, end = next(((name.removesuffix(end), words) for end, words in ENDS.items() if str(name).endswith(end)),
                     (str(name), ""))  # fmt: skip
    words = HEADS[stem] if stem in HEADS else " ".join(HEADS.get(w, w) if len(w) > 1 else w for w in stem.split("_"))
    return words + end


def _is_number(value) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _cell(value) -> str:
    return f'<td class="n">{_shown(value)}</td>' if _is_number(value) else f"<td>{_shown(value)}</td>"


def _shown(value) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        fixed = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
        return f"{value:.{fixed}f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"
    return html.escape(str(value))


def coverage_table(faces: xr.Dataset) -> Table:
    """Return how many faces were given and can be used: of all, by expression and by pose, with the reasons.

    A face is used only where it is usable in every condition, so that the conditions stay paired. Columns: see
    `fcx.datasets.usable_faces.coverage_rows`.
    """
    return Table("coverage", "Faces given and faces used", pd.DataFrame(coverage_rows(faces)))


def agreement_table(evaluation: xr.Dataset) -> Table:
    """Return the parts of the CCC by target, model and condition: correlation, scale, shift and error."""
    dims, parts = ["target", "model", "condition"], ["ccc", "ccc_low", "ccc_high", "pearson", "scale", "shift", "rmse"]
    parts = ["n", *parts, "within_ccc", "within_ccc_low", "within_ccc_high"]
    rows = evaluation[parts].to_dataframe(dim_order=dims).reset_index()
    return Table("agreement", "Agreement with the labels and its parts", rows[[*dims, *parts]])


def accuracy_table(accuracy: xr.Dataset) -> Table:
    """Return how often the strongest logit is the expression of the face, of all and of each, by model and condition.

    `accuracy` is from `fcx.evaluate` or `fcx.statistics.accuracy.accuracies`.
    """
    parts = ["accuracy", "accuracy_low", "accuracy_high", "accuracy_n"]
    rows = accuracy[parts].to_dataframe(dim_order=["model", "condition"]).dropna().reset_index()
    each = accuracy["expression_accuracy"].to_series().unstack("expression").reindex(columns=accuracy["expression"])
    rows = rows.rename(columns={"accuracy_n": "n"}).merge(each.reset_index(), on=["model", "condition"])
    return Table("accuracy", "How often the strongest output is the expression that people gave", rows)


def method_table(results: xr.Dataset) -> Table:
    """Return what each method declares and does: sign, resolution, empty maps, how well maps sum to outputs, caution.

    The gap is the median over faces of |sum of map - prediction|, also as a share of |prediction|; only a method
    that conserves promises a small one, and biases absorb some of the output even then.
    """
    rows = []
    for method in results["method"].values.tolist():
        declared = nested_attr(results, "methods").get(method, {})
        gaps, parts, empty = [], [], []
        for model in results["model"].values:  # one model at a time: all maps at once may not fit into memory
            maps = results["attribution"].sel({"method": method, "model": model})
            output = results["prediction"].sel(model=model)
            gap = np.abs(maps.sum(("y", "x"), skipna=False) - output)
            gaps.append(gap.values.ravel())
            parts.append((gap / np.abs(output)).values.ravel())
            empty.append((np.abs(maps).max(("y", "x"), skipna=False).values.ravel() == 0)[~np.isnan(gaps[-1])])
        names = {"signed": "signed", "conserves": "conserves without biases", "resolution": "resolution"}
        properties = {name: declared.get(key) for key, name in names.items()}
        rows.append({"method": method_title(method, results), **properties,
                     "empty maps %": 100 * np.concatenate(empty).mean(),
                     "median |sum of map - prediction|": np.nanmedian(np.concatenate(gaps)),
                     "the same, % of |prediction|": 100 * np.nanmedian(np.concatenate(parts)),
                     "caution": declared.get("caution", "")})  # fmt: skip
    return Table("methods", "What the methods declare, and how their maps add up", pd.DataFrame(rows))


def place_table(null: xr.Dataset, *, target: str) -> Table:
    """Return the regions whose enrichment lies outside what 95 % of the shifts of `shift_null` have."""
    rows = null.drop_vars("null").sel(target=choose(target, null["target"].values.tolist(), "target"), drop=True)
    frame = rows.to_dataframe(dim_order=["method", "model", "condition", "region"]).reset_index()
    frame["method"] = [method_title(name, null) for name in frame["method"]]
    frame = frame[(frame.enrichment < frame.low) | (frame.enrichment > frame.high)].reset_index(drop=True)
    title = f"Regions whose enrichment (log2) is not that of a shifted map, {target}"
    return Table("places", title, frame.rename(columns={"low": "shifted maps, low", "high": "shifted maps, high"}))


def inhibition_table(index: xr.DataArray, *, target: str) -> Table:
    """Return the median over faces of `fcx.attribution.inhibition_index`, a column for each region."""
    median = index.sel(target=choose(target, index["target"].values.tolist(), "target"), drop=True).median("sample")
    frame = median.to_series().dropna().unstack("region").reindex(columns=index["region"].values)
    frame.columns.name = None
    title = f"Relevance of inhibition over that of excitation less inhibition, {target}"
    return Table("inhibition", title, frame.reset_index())


def provenance_table(*datasets: xr.Dataset, **parameters: object) -> Provenance:
    """Return the provenance of this run: its parameters, versions and commit, and what the stores say of themselves."""
    facts = run_provenance(parameters=parameters)
    for dataset in datasets:
        kind = dataset.attrs.get("kind", "results" if "prediction" in dataset else "faces")
        stored = {k: _parsed(v) for k, v in dataset.attrs.items() if k != "kind"}
        facts[kind] = _without(stored, facts["versions"])
    return Provenance(json.loads(json.dumps(facts, default=str)))


def _without(facts, versions: dict):
    """Return nested facts without the versions that are those of this run."""
    if not isinstance(facts, Mapping):
        return facts
    return {name: _without(value, versions) for name, value in facts.items() if value != versions}


def _parsed(value):
    """Return an attribute as a value: what is nested is JSON text."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
