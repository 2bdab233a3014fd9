"""A figure as HTML that draws itself wherever it is put: for front ends, and for nbconvert, that know no Plotly."""

from __future__ import annotations

import base64
import gzip
import html
import itertools
import json
import re
import sys
from collections.abc import Mapping
from functools import cache

from fcx.figures.plotly_library import CARTESIAN, plotly_text

_numbers = itertools.count(1)
_carrier: list = []  # the cell whose output carries the library: the first that draws, also when it is run again


def standalone_html(drawn: Mapping, name: str, alt: str) -> str:
    """Return a figure (data, layout, config) as HTML; the first of a session brings Plotly's library for all.

    It needs no network. The script waits for the library, wherever in the page it stands.
    """
    identity = f"fcx-{re.sub(r'[^A-Za-z0-9]', '-', name)}-{next(_numbers)}"
    cell, library = _cell(), ""
    if not _carrier or (cell is not None and cell == _carrier[0]):
        _carrier[:] = [cell]
        library = f"<script>{_unpacked()}</script>"
    data = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    return (f'{library}<div id="{identity}" role="img" aria-label="{html.escape(alt)}"></div>'
            f'<script type="application/json" id="{identity}-data">{data}</script><script>(async () => {{'
            "if (!window.fcxPlotly) await new Promise(resolve => addEventListener('load', resolve));"
            "if (!window.fcxPlotly) return; await window.fcxPlotly;"
            f"const {{data, layout, config}} = JSON.parse(document.getElementById('{identity}-data').textContent);"
            f"Plotly.newPlot('{identity}', data, layout, config); }})();</script>")  # fmt: skip


def _cell() -> str | None:
    """Return the front end's name of the cell that runs; None where it has none, as under papermill."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    parent = getattr(shell, "get_parent", dict)() or {}
    return parent.get("metadata", {}).get("cellId")


@cache
def _unpacked() -> str:
    """Return the script that unpacks the library, which is sent compressed, once for a page."""
    packed = base64.b64encode(gzip.compress(plotly_text(CARTESIAN).encode(), mtime=0)).decode()
    return ("window.fcxPlotly ||= (async () => {"
            f'const bytes = Uint8Array.from(atob("{packed}"), letter => letter.charCodeAt(0));'
            "const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));"
            "const script = document.createElement('script'); script.textContent = await new Response(stream).text();"
            "document.head.append(script); })();")  # fmt: skip
