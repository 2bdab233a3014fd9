"""What a report opens with, and its verdicts: the answer first, as values that an exporter and the index can read."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from fcx.core.errors import InputError
from fcx.figures.tables import MIME
from fcx.figures.theme import plain_table

SENTENCES = 3  # of an answer, at most
MARKS = {"holds": "✓", "does not hold": "✗", "is undecided": "?", "cannot be asked": "–"}


@dataclass
class Picture:
    """A picture in SVG that carries what a figure carries: a name, a title, a caption, and the table of its numbers.

    `svg` is mark-up as it stands in a page, its names escaped; ink is `currentColor`, so that it follows the
    reader's light or dark. `reading` says how it is read, `numbers` what it shows (both make its alternative text).
    """

    name: str
    title: str
    svg: str
    reading: str = ""
    numbers: str = ""
    table: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def meta(self) -> dict:
        """What an exporter reads, as of a figure: `name`, `title`, `reading`, `alt` and `table`."""
        alt = " ".join(filter(None, (f"{self.title}.", self.reading, self.numbers)))
        return {"name": self.name, "title": self.title, "reading": self.reading, "alt": alt,
                "table": plain_table(self.table)}  # fmt: skip

    def html(self) -> str:
        """The picture alone, with its alternative text."""
        return f'<div class="picture" role="img" aria-label="{html.escape(self.meta["alt"])}">{self.svg}</div>'

    def _repr_mimebundle_(self, *args, **kwargs):
        text = f"<p><strong>{html.escape(self.title)}</strong></p>{self.html()}<p>{html.escape(self.reading)}</p>"
        return {MIME: {"kind": "picture", **self.meta, "html": self.html()}, "text/html": text,
                "text/plain": self.meta["alt"]}  # fmt: skip


@dataclass
class Opening:
    """What a report opens with: its question, the answer in up to three plain sentences, and one headline figure.

    `question` is one sentence that ends with "?"; `answer` its sentences, each composed from the run; `headline` a
    figure of `fcx.figures` or a `Picture`; `picture` a small Picture for the card of the index, where the headline
    is none itself. Displayed as the value of a cell, it shows its headline under it; an export moves that cell,
    with all that it shows, to the top of the page.

    Raises: InputError for a question without "?", for no answer, or for one of more than three sentences.
    """

    question: str
    answer: Sequence[str]
    headline: object = None
    picture: Picture | None = None

    def __post_init__(self):
        self.answer = [self.answer] if isinstance(self.answer, str) else list(self.answer)
        if not self.question.endswith("?"):
            raise InputError(f"the question is {self.question!r}; allowed: one sentence that ends with ?")
        if not 1 <= len(self.answer) <= SENTENCES:
            raise InputError(f"the answer has {len(self.answer)} sentences; allowed: 1 to {SENTENCES}")

    def html(self) -> str:
        """The question and the answer."""
        answer = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.answer)
        return f'<div class="opening"><p class="question">{html.escape(self.question)}</p>{answer}</div>'

    def _repr_mimebundle_(self, *args, **kwargs):
        picture = self.picture or (self.headline if isinstance(self.headline, Picture) else None)
        content = {"kind": "opening", "name": "opening", "question": self.question, "answer": self.answer,
                   "picture": picture.html() if picture else ""}  # fmt: skip
        return {MIME: content, "text/html": self.html(), "text/plain": "\n".join([self.question, *self.answer])}

    def _ipython_display_(self):
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)
        if self.headline is not None:
            display(self.headline)


class Verdict(NamedTuple):
    """One claim, what became of it, and the numbers behind that, with their intervals.

    `verdict` is "holds", "does not hold", "is undecided" or "cannot be asked"; `faces` says which faces were asked.
    """

    claim: str
    verdict: str
    numbers: str
    faces: str = ""


@dataclass
class Verdicts:
    """Claims and what became of them: a table, which the index gathers over all reports."""

    rows: list[Verdict]
    title: str = "What became of each claim"

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {"kind": "verdicts", "name": "verdicts", "title": self.title, "table": self.table}
        text = "\n".join(f"{claim}: {verdict}. {numbers}" for claim, verdict, numbers, _ in self.rows)
        return {MIME: content, "text/html": self.html(), "text/plain": text}

    @property
    def table(self) -> dict[str, list]:
        """The table, column -> values; faces only where a row names some."""
        columns = ("claim", "verdict", "numbers", *(["faces"] if any(row.faces for row in self.rows) else []))
        return {name: [getattr(row, name) for row in self.rows] for name in columns}

    def html(self, **links: Sequence[str]) -> str:
        """The table as HTML, each verdict with its mark; `links` are further columns of ready HTML."""
        columns = [*self.table, *links]
        head = "".join(f'<th scope="col">{name.capitalize()}</th>' for name in columns)
        body = "".join(f"<tr>{self._row(number, links)}</tr>" for number in range(len(self.rows)))
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return (f'<div class="wide"><table class="verdicts">{caption}<thead><tr>{head}</tr></thead>'
                f"<tbody>{body}</tbody></table></div>")  # fmt: skip

    def _row(self, number: int, links) -> str:
        cells = {name: html.escape(str(values[number])) for name, values in self.table.items()}
        verdict = self.rows[number].verdict
        mark, kind = MARKS.get(verdict, ""), verdict.replace(" ", "-") if verdict in MARKS else "other"
        cells["verdict"] = (
            f'<span class="verdict {kind}"><span aria-hidden="true">{mark}</span> {cells["verdict"]}</span>'
        )
        cells |= {name: values[number] for name, values in links.items()}
        return "".join(f"<td>{cell}</td>" for cell in cells.values())
