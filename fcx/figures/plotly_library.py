"""Plotly's library for the browser: the bundle of Cartesian charts that ships, or all of it where a figure needs more.

The bundle is plotly.js-cartesian-dist-min of the version that the package plotly draws for, 1.5 MB instead of 5.
"""

from __future__ import annotations

from collections.abc import Iterable

from fcx.core.paths import DATA

BUNDLE = DATA / "plotly" / "plotly-cartesian.min.js"
CARTESIAN = frozenset(("bar", "box", "contour", "heatmap", "histogram", "histogram2d", "histogram2dcontour", "image",
                       "pie", "scatter", "scatterternary", "violin"))  # fmt: skip


def bundle_version() -> str:
    """Return the version of the bundle, as its notice says it."""
    with BUNDLE.open(encoding="utf-8") as file:
        return next(line for line in file if "plotly.js" in line).split()[-1].removeprefix("v")


def plotly_text(kinds: Iterable[str]) -> str:
    """Return the library that draws traces of these kinds: all of plotly.js where the bundle is too small or too old.

    >>> len(plotly_text(["scatter", "heatmap"])) < 1_600_000
    True
    """
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    if set(kinds) <= CARTESIAN and bundle_version() == get_plotlyjs_version():
        return BUNDLE.read_text(encoding="utf-8")
    return get_plotlyjs()
