"""Words in figures and findings: names for people, numbers of faces, and names in a row."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache

import numpy as np

from fcx.core.contract import family_and_seed
from fcx.core.paths import shipped_folder
from fcx.core.provenance import nested_attr

TAKEN_BACK = "not after correction for all comparisons"  # of a difference whose interval leaves out 0


def method_title(method: str, dataset) -> str:
    """Return what people call a method: the title that the results or statistics hold of it, or its own name."""
    return nested_attr(dataset, "methods").get(str(method), {}).get("title", str(method))


def plain_name(name: str) -> str:
    """Return a name for people: 'masked_last_conv', a family that ships, is 'masked last conv'; names of users stay."""
    return str(name).replace("_", " ") if name in _shipped_models() else str(name)


def end_of(name: str, letters: int) -> str:
    """Return a name, or of a longer one its end, by which a user tells his own apart.

    >>> end_of("plain", 6), end_of("my/folder/plain", 6)
    ('plain', '…plain')
    """
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


@cache
def _shipped_models() -> set[str]:
    names = {path.stem for path in shipped_folder("checkpoints").glob("*.safetensors")}
    return names | {family_and_seed(name)[0] for name in names}


def readable(name: str) -> str:
    """Return a name (`plain_name`) that is safe in Plotly's and HTML's mark-up."""
    return html.escape(plain_name(name))


def set_named(name: str) -> str:
    """Return what a set of faces that was scored is called.

    >>> set_named("validation"), set_named("mine")
    ('validation faces', 'the faces of “mine”')
    """
    return f"{name} faces" if name in ("validation", "demo") else f"the faces of {set_short(name)}"


def set_short(name: str) -> str:
    """Return the name of a set of faces that was scored as it stands among others: a user's in quotation marks.

    >>> set_short("demo"), set_short("mine")
    ('demo', '“mine”')
    """
    return name if name in ("validation", "demo") else f"“{name}”"


def how_many(n) -> str:
    """Return numbers of faces: '412', or '408 to 412' where the cells of a table (n) differ that hold any."""
    n = np.asarray(n)
    low, high = int(n[n > 0].min(initial=n.max(initial=0))), int(n.max(initial=0))
    return f"{low}" if low == high else f"{low} to {high}"


def all_of(count: int) -> str:
    """Return 'all', or 'both' of two.

    >>> all_of(2), all_of(3)
    ('both', 'all')
    """
    return "both" if count == 2 else "all"


def ends_of(low: float, high: float, form: str = ".2f") -> str:
    """Return a range as '0.18 to 0.72', or its one number where both ends read alike.

    >>> ends_of(0.59, 0.594, ".0%")
    '59%'
    """
    return " to ".join(dict.fromkeys((f"{low:{form}}", f"{high:{form}}")))


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
