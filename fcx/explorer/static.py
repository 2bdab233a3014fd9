"""The explorer without a kernel: a section for a report, and a page of its own, which hold all that they show."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Iterable
from pathlib import Path

from fcx.explorer.packing import Pack
from fcx.explorer.view import View
from fcx.figures.theme import POLICY

ROOM = Path(__file__).parent
STYLE = ROOM / "explorer.css"
# The module of the page in pieces, the first needed by those that follow; their names are known in all of them.
PIECES = ("sources", "elements", "shapes", "state", "controls", "faces", "pictures", "regions", "mask", "copies",
          "explorer")  # fmt: skip
TITLE = "Where networks look: faces and maps by hand"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title} · fcx</title>
<style>body {{ margin: 0; font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Arial, sans-serif; }}
main {{ max-width: 1360px; margin: 0 auto; padding: 20px 20px 60px; }}
h1 {{ font-size: 26px; line-height: 1.25; margin: 4px 0 2px; letter-spacing: -.01em; }}
main > p {{ margin: 0 0 14px; max-width: 820px; font-size: 15px; }}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{words}</p>
{section}
</main>
</body>
</html>
"""


def explorer_section(pack: Pack, rows: Iterable[int], view: View) -> str:
    """Return the explorer of the faces `rows` as HTML that can stand in any page: it asks for nothing."""
    store = json.dumps(payload(pack, rows, view), ensure_ascii=False, separators=(",", ":"))
    store = store.replace("<", "\\u003c")  # no name of a file can end the script
    name = f"fcx-explorer-{hashlib.sha256(store.encode()).hexdigest()[:12]}"
    start = f'const home = document.getElementById("{name}");\n' + (
        "mount(home, packed(JSON.parse(home.previousElementSibling.textContent)));"
    )
    style = STYLE.read_text(encoding="utf-8")
    return (f'<style>{style}</style>\n<script type="application/json">{store}</script><div id="{name}"></div>\n'
            f'<script type="module">{module_text()}\n{start}</script>')  # fmt: skip


def module_text() -> str:
    """Return the one ES module of `PIECES`: a page that is opened from a folder may not import any other."""
    return "\n".join((ROOM / "page" / f"{name}.js").read_text(encoding="utf-8") for name in PIECES)


def explorer_page(pack: Pack, rows: Iterable[int], view: View) -> str:
    """Return the explorer of the faces `rows` as a page of its own."""
    part, all_faces = explorer_section(pack, rows, view), len(pack.samples)
    words = "Choose a face and one or two networks, and see where in the face their predictions come from."
    if len(rows) < all_faces:
        words += f" {len(rows)} of {all_faces} faces are in this page; means and intervals are over all of them."
    return PAGE.format(policy=POLICY, title=html.escape(TITLE), words=words, section=part)


def payload(pack: Pack, rows: Iterable[int], view: View) -> dict:
    """Return all that the page shows, as JSON knows it: bytes as base64, frames compressed before."""
    rows = list(rows)
    header = {
        **pack.header(rows),
        "view": view.plain() | {"mask": None},
        "plain": View().plain(),
        "error": pack.share_error(rows),
    }
    return {
        "header": header,
        "sprite": _text(pack.sprite(rows)),
        "pictures": [[_text(pack.picture(row, condition)) for condition in pack.conditions] for row in rows],
        "frames": {
            name: [_text(gzip.compress(pack.frame(row, name), 9, mtime=0)) for row in rows] for name in pack.methods
        },
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
