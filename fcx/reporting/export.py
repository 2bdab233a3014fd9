"""An executed notebook -> one HTML file that needs no network, and its numbers as JSON and CSV."""

from __future__ import annotations

import copy
import html
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fcx.core.files import replacing
from fcx.figures.opening import Verdict, Verdicts
from fcx.figures.plotly_library import plotly_text
from fcx.figures.tables import MIME, Finding, Findings, Provenance, html_table
from fcx.figures.theme import CONFIG, DARK, POLICY
from fcx.reporting.outline import Link, outlined
from fcx.reporting.sections import visible, without_absent

LONG = 12  # rows, from which a table is folded
TOGETHER = "The claims, and what became of them"
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
HEADING = re.compile(r"(?m)^# +(.+)$")
TEMPLATES = Path(__file__).parent / "template"


@dataclass
class Page:
    """What one executed notebook holds: its text for people and its numbers for machines."""

    name: str
    title: str
    summary: str
    html: str = ""
    kinds: set[str] = field(default_factory=set)
    opening: dict = field(default_factory=dict)
    verdicts: list[dict] = field(default_factory=list)
    tables: list[dict] = field(default_factory=list)
    findings: list[dict] = field(default_factory=list)
    provenance: dict = field(default_factory=dict)

    def keep(self, kind: str, carried: dict) -> str:
        """Keep the table of a figure or a table, and return its name: one that is free and can be a file's."""
        name, taken = re.sub(r"[^\w.-]", "_", carried["name"]), {table["name"] for table in self.tables}
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        free = next(candidate for candidate in names if candidate not in taken)
        kept = {key: carried[key] for key in ("title", "alt", "table") if key in carried}
        self.tables.append({"kind": kind, "name": free, **kept})
        return free

    def write(self, folder: Path) -> Path:
        """Write NAME.html, NAME.json and NAME/TABLE.csv into `folder`, each whole or not at all."""
        import pandas as pd

        for table in self.tables:
            with replacing(folder / self.name / f"{table['name']}.csv") as path:
                pd.DataFrame(table["table"]).to_csv(path, index=False, lineterminator="\n")
        opening = {key: self.opening[key] for key in ("question", "answer") if key in self.opening}
        numbers = {"title": self.title, **opening, "verdicts": self.verdicts, "findings": self.findings,
                   "tables": self.tables, "provenance": self.provenance}  # fmt: skip
        _write(folder / f"{self.name}.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
        return _write(folder / f"{self.name}.html", self.html)


def notebook_page(notebook, name: str, links: Sequence[Link] = ()) -> Page:
    """Turn an executed notebook (an nbformat node) into a Page, with links to others.

    Plotly's library is written once, in the head; figures become <figure> with their alternative text, a caption
    and the table of their numbers; code, long tables and provenance are folded away; the kernel's stderr (progress
    bars) is left out, and so is a section without anything to show. The same notebook gives the same bytes.
    """
    from nbconvert import HTMLExporter

    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)  # what papermill keeps of them makes nbconvert ask a network
    page = Page(name, *_title(notebook, name))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # papermill's own cells have random ones
    without_absent(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    _open(notebook)
    for number, cell in enumerate(cells):
        cell.outputs = [_output(o, page, f"{number}-{i}") for i, o in enumerate(visible(cell))]
    extras = {
        "policy": POLICY, "title": page.title, "css": _style(), "js": (TEMPLATES / "report.js").read_text(),
        "plotlyjs": plotly_text(page.kinds) if page.kinds else "",
        "settings": json.dumps({"config": CONFIG, "dark": DARK}), "links": links,
    }  # fmt: skip
    exporter = HTMLExporter(
        template_name=TEMPLATES.name, extra_template_basedirs=[str(TEMPLATES.parent)],
        exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True,
    )  # fmt: skip
    text, _ = exporter.from_notebook_node(notebook, resources={"fcx": extras})
    page.html = outlined(text)
    return page


def _style() -> str:
    """Return the style of a page, with that of code for light and for dark."""
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    css = (TEMPLATES / "report.css").read_text()
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}\n{css}"


def contents(pages: list[Page], folder: Path) -> Path:
    """Write index.html: a link and a summary for each page, the findings and the provenance of the run."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    findings = [(page, Findings([Finding(**finding) for finding in page.findings]).html())
                for page in pages if page.findings]  # fmt: skip
    asked = [(page, Verdict(**row)) for page in pages for row in page.verdicts]
    links = [f'<a href="{quote(page.name)}.html">{html.escape(page.title)}</a>' for page, _ in asked]
    provenance = next((page.provenance for page in reversed(pages) if page.provenance), None)
    text = environment.get_template("contents.html.j2").render(
        pages=pages, policy=POLICY, css=(TEMPLATES / "report.css").read_text(),
        verdicts=asked and Verdicts([row for _, row in asked], TOGETHER).html(report=links),
        findings=findings, provenance=provenance and Provenance(provenance).html(),
    )  # fmt: skip
    return _write(folder / "index.html", text + "\n")


def page_links(notebooks: Mapping) -> dict[str, list[Link]]:
    """Return the links of each of several pages (name -> notebook): to the index, to the page before and after it."""
    titles = {name: _title(copy.deepcopy(notebook), name)[0] for name, notebook in notebooks.items()}
    names, links = list(titles), {}
    for at, name in enumerate(names):
        links[name] = [Link("index", "index.html", "All reports")]
        for kind, word, other in (("prev", "Previous", names[:at][-1:]), ("next", "Next", names[at + 1 :][:1])):
            links[name] += [Link(kind, f"{quote(page)}.html", f"{word}: {titles[page]}") for page in other]
    return links


def _title(notebook, name: str) -> tuple[str, str]:
    """Return the first heading and the first paragraph under it; a notebook without a heading gets its name."""
    import nbformat

    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := HEADING.search(cell.source)):
            paragraphs = cell.source[heading.end() :].strip().split("\n\n")
            return heading[1].strip(), re.sub(r"[*_`]|\[(.+?)\]\(.+?\)", r"\1", " ".join(paragraphs[0].split()))
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"# {html.escape(name)}"))
    return name, ""


def _open(notebook) -> None:
    """Move the cell that shows an Opening to directly under the title, for the answer comes first."""
    import nbformat

    cells = notebook.cells
    opens = [any(o.get("data", {}).get(MIME, {}).get("kind") == "opening" for o in c.get("outputs", [])) for c in cells]
    if True not in opens:
        return
    opening = cells.pop(opens.index(True))
    opening.metadata["fcx"] = "opening"
    at = next(i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and HEADING.search(cell.source))
    end = HEADING.search(cells[at].source).end()
    below = nbformat.v4.new_markdown_cell(cells[at].source[end:].strip(), id=f"{cells[at].id}-text")
    cells[at].source = cells[at].source[:end]
    cells[at + 1 : at + 1] = [opening, below]


def _output(output, page: Page, identity: str):
    """Return the output as HTML where it is one of ours, and keep its numbers."""
    data = output.get("data", {})
    if PLOTLY in data:
        output.data = {"text/html": _figure(data[PLOTLY], page, identity)}
    elif WIDGET in data:  # which needs the kernel that made it
        output.data = {"text/html": data.get("text/html", "")}
    elif MIME in data:
        output.data = {"text/html": _ours(data[MIME], data["text/html"], page)}
    return output


def _ours(carried: dict, shown: str, page: Page) -> str:
    """Return the HTML of what one of fcx's values shows, and keep what it carries."""
    kind = carried["kind"]
    if kind == "picture":
        return _framed(carried["html"], carried, page)
    if kind in ("table", "verdicts"):
        page.keep(kind, carried)
        rows = [dict(zip(carried["table"], row, strict=True)) for row in zip(*carried["table"].values(), strict=True)]
        page.verdicts += rows if kind == "verdicts" else []
        long = kind == "table" and len(rows) > LONG and not shown.startswith("<details")
        return _folded(carried["title"], shown, "part") if long else shown
    if kind == "opening":
        page.opening = carried
    elif kind == "findings":
        page.findings += carried["findings"]
    elif kind == "provenance":
        page.provenance = carried["facts"]
        return _folded("What was run, on what, and with which versions", shown, "provenance")
    return shown


def _folded(title: str, shown: str, kind: str) -> str:
    return f'<details class="{kind}"><summary>{html.escape(title)}</summary>{shown}</details>'


def _figure(drawn: dict, page: Page, identity: str) -> str:
    """Return a Plotly figure as an empty frame and its data, which the page's script draws."""
    layout = dict(drawn["layout"])
    meta = layout.pop("meta", None)
    meta = meta if isinstance(meta, dict) and "table" in meta else {}  # a figure of the user's own carries nothing
    if width := meta.get("least_width"):
        layout["meta"] = {"least_width": width}
    page.kinds |= {trace.get("type", "scatter") for trace in drawn["data"]} | {"scatter"}
    data = json.dumps({"data": drawn["data"], "layout": layout}, separators=(",", ":")).replace("<", "\\u003c")
    plot = (f'<div class="plotly-graph-div" id="figure-{identity}"></div>'
            f'<script type="application/json" id="figure-{identity}-data">{data}</script>')  # fmt: skip
    return _framed(plot, meta, page)


def _framed(plot: str, meta: dict, page: Page) -> str:
    """Return what is drawn as <figure> with its title, alternative text, caption and the table of its numbers."""
    alt = html.escape(meta.get("alt", "A figure without a description"))
    head = caption = ""
    if meta:
        name, title = page.keep("figure", meta), html.escape(html.unescape(meta["title"]))
        head = f'<p class="title">{title}</p>'
        source = (
            f'Numbers: “{html.escape(name)}” in <a href="{quote(page.name)}.json">{html.escape(page.name)}.json</a>.'
        )
        table = _folded("Data table", html_table(meta["table"], meta["title"]), "data")
        caption = f"<figcaption>{html.escape(html.unescape(meta['reading']))} {source}</figcaption>{table}"
    return f'<figure aria-label="{alt}">{head}<div class="plot">{plot}</div>{caption}</figure>'


def _write(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
