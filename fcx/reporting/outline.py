"""The outline of a page: every heading gets an anchor, and the headings make its list of contents."""

from __future__ import annotations

import html
import itertools
import re
from typing import NamedTuple

HEADING = re.compile(r"<h([23])(?: [^>]*)?>(.*?)</h\1>", re.DOTALL)
PLACE = "<!--contents-->"


class Link(NamedTuple):
    """A link from one page to another: what it is ("next"), the other's address, and words."""

    kind: str
    href: str
    words: str


def outlined(page: str) -> str:
    """Return a page (HTML) with an anchor at every h2 and h3, and the list of them in the place for contents."""
    entries, taken = [], set()

    def anchored(heading: re.Match) -> str:
        words = re.sub(r"<[^>]+>", "", heading[2]).strip()
        name = re.sub(r"[^a-z0-9]+", "-", html.unescape(words).lower()).strip("-") or "part"
        free = next(n for n in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))) if n not in taken)
        taken.add(free)
        entries.append(f'<li{" class=sub" * (heading[1] == "3")}><a href="#{free}">{words}</a></li>')
        link = f'<a class="anchor" href="#{free}" aria-label="Link to: {words}">#</a>'
        return f'<h{heading[1]} id="{free}">{heading[2]}{link}</h{heading[1]}>'

    start = page.index(PLACE)
    body = HEADING.sub(anchored, page[start:])
    listed = "".join(entries)
    nav = f'<nav aria-label="Contents"><ol>{listed}</ol></nav>'
    contents = f'<details class="contents"><summary>Contents</summary>{nav}</details>' if entries else ""
    return page[:start] + body.replace(PLACE, contents, 1)
