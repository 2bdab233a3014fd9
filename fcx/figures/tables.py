"""Tables, findings and provenance as values that show themselves in a notebook and that an exporter can read."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fcx.contract import provenance, usable
from fcx.figures.style import plain_table

MIME = "application/vnd.fcx+json"  # what the exporter reads: {"kind", "name", ...}


@dataclass
class Table:
    """A table of numbers with a name and a caption."""

    name: str
    title: str
    frame: pd.DataFrame

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "table", "name": self.name, "title": self.title, "table": plain_table(self.frame)}
        return {MIME: content, "text/html": html_table(content["table"], self.title), "text/plain": str(self.frame)}


@dataclass
class Findings:
    """Sentences composed from the numbers of one run."""

    sentences: list[str]

    def _repr_mimebundle_(self, *args, **kwargs):
        lines = "".join(f"<li>{html.escape(s)}</li>" for s in self.sentences)
        content = {"kind": "findings", "name": "findings", "sentences": self.sentences}
        return {
            MIME: content,
            "text/html": f'<ul class="findings">{lines}</ul>',
            "text/plain": "\n".join(self.sentences),
        }


@dataclass
class Provenance:
    """What was run on what: nested names and values."""

    facts: dict

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "provenance", "name": "provenance", "facts": self.facts}
        return {MIME: content, "text/html": self.html(), "text/plain": json.dumps(self.facts, indent=1)}

    def html(self) -> str:
        """The facts as an HTML table, one row a fact."""
        rows = dict(_flat(self.facts))
        return html_table({"what": list(rows), "value": [str(v) for v in rows.values()]}, "Provenance of this run")


def html_table(table: Mapping[str, list], caption: str) -> str:
    """Return a table (column -> values) as HTML: names escaped, numbers to three digits, a head for each column."""
    head = "".join(f'<th scope="col">{html.escape(str(c))}</th>' for c in table)
    rows = ["".join(f"<td{' class=n' if isinstance(v, float | int) else ''}>{_shown(v)}</td>" for v in row)
            for row in zip(*table.values(), strict=True)]  # fmt: skip
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    title = f"<caption>{html.escape(caption)}</caption>"
    return f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _shown(value) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return html.escape(str(value))


def coverage_table(faces) -> Table:
    """Return how many faces were given and can be used, by expression, with the reasons for those that cannot.

    A face is used only where it is usable in every condition, so that the conditions stay paired.
    """
    status, expression = faces["status"].values.astype(str), faces["expression"].values.astype(str)
    rows = []
    for name in [*sorted(set(expression)), None]:
        chosen = np.ones(len(expression), bool) if name is None else expression == name
        row = {"expression": "all" if name is None else name or "unlabelled", "given": int(chosen.sum())}
        for condition, found in zip(faces["condition"].values.astype(str), status, strict=True):
            row[f"usable {condition}"] = int((found[chosen] == "ok").sum())
        row["usable, paired"] = int(usable(faces)[chosen].sum())
        row["coverage %"] = 100 * row["usable, paired"] / max(1, row["given"])
        reasons = [r for r in status[:, chosen].T.ravel() if r != "ok"]
        row["reasons"] = "; ".join(f"{reason}: {reasons.count(reason)}" for reason in dict.fromkeys(reasons)) or "–"
        rows.append(row)
    return Table("coverage", "Faces given and faces used", pd.DataFrame(rows))


def agreement_table(evaluation) -> Table:
    """Return the parts of the CCC by target, model and condition: correlation, scale, shift and error."""
    dims, parts = ["target", "model", "condition"], ["ccc", "ccc_low", "ccc_high", "pearson", "scale", "shift", "rmse"]
    within = ["within_ccc", "within_ccc_low", "within_ccc_high"]
    flat = evaluation[[*parts, *within]].transpose(*dims, ...).to_dataframe(dim_order=dims).reset_index()
    n = {str(t): int(evaluation["n"].sel(target=t)) for t in evaluation["target"].values}
    flat.insert(3, "n", [n[t] for t in flat["target"]])
    return Table("agreement", "Agreement with human ratings and its parts", flat[[*dims, "n", *parts, *within]])


def provenance_table(*datasets, **parameters) -> Provenance:
    """Return the provenance of this run: its parameters, versions and commit, and what the stores say of themselves."""
    facts = provenance(parameters=parameters)
    for dataset in datasets:
        kind = dataset.attrs.get("kind", "results" if "prediction" in dataset else "faces")
        hidden = ("kind", "complete", "fingerprint")
        facts[kind] = {k: _parsed(v) for k, v in dataset.attrs.items() if k not in hidden}
    return Provenance(json.loads(json.dumps(facts, default=str)))


def _parsed(value):
    """Return a store's attribute as a value: attributes may hold JSON as text."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _flat(facts, prefix: str = ""):
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} · ")
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else value
