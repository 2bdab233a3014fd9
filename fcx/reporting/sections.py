"""Sections of an executed notebook that have nothing to show: they make room for a list that says why, at the end."""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from fcx.figures.tables import MIME

HEADING = re.compile(r"(?m)^(#{1,6}) +(.+?)\s*$")
LEFT_OUT = "What this page leaves out"


class Section(NamedTuple):
    """A heading, how deep it is, whether its cell has no other, and the cells under it up to the next heading."""

    title: str
    depth: int
    alone: bool
    cells: list


def without_absent(notebook) -> None:
    """Take out each section that shows nothing but `fcx.figures.Absent`, and list them before the last section.

    A section with sections under it that show something stays, as does a cell of several headings.
    """
    import nbformat

    sections, kept, left_out = _sections(notebook.cells), [], {}
    for section in reversed(sections):
        shown = [output for cell in section.cells if cell.cell_type == "code" for output in visible(cell)]
        reasons = [_why(output) for output in shown]
        holds_others = kept and kept[-1].depth > section.depth
        if section.depth > 1 and section.alone and reasons and all(reasons) and not holds_others:
            left_out[section.title] = " ".join(dict.fromkeys(reasons))
        else:
            kept.append(section)
    if not left_out:
        return
    kept.reverse()
    groups: dict[str, list[str]] = {}
    for title, why in reversed(left_out.items()):
        groups.setdefault(why, []).append(f"<strong>{html.escape(title)}</strong>")
    rows = "".join(f"<li>{', '.join(titles)}: {html.escape(why)}</li>" for why, titles in groups.items())
    cell = nbformat.v4.new_markdown_cell(f"## {LEFT_OUT}\n\n<ul>{rows}</ul>", id="left-out")
    told = Section(LEFT_OUT, 2, True, [cell])
    last = next((at for at in reversed(range(len(kept))) if kept[at].depth == 2), len(kept))
    kept.insert(last, told)
    notebook.cells = [cell for section in kept for cell in section.cells]


def visible(cell) -> list:
    """Return the outputs of a cell that a page shows: not what the kernel says on stderr, such as progress."""
    outputs = cell.get("outputs", [])
    return [one for one in outputs if not (one.output_type == "stream" and one.name == "stderr")]


def _sections(cells) -> list[Section]:
    """Return cells as sections, the first of which is what comes before any heading."""
    sections = [Section("", 1, False, [])]
    for cell in cells:
        headings = HEADING.findall(cell.source) if cell.cell_type == "markdown" else []
        if headings:
            marks, title = headings[0]
            sections.append(Section(title, len(marks), len(headings) == 1, []))
        sections[-1].cells.append(cell)
    return sections


def _why(output) -> str:
    """Return why an output is absent, "" of one that shows something."""
    carried = output.get("data", {}).get(MIME, {})
    return carried["why"] if carried.get("kind") == "absent" else ""
