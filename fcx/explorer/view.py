"""What the explorer shows: a face, one or two networks, a method and a target, and how they are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from fcx.core.arguments import switch, word, words
from fcx.core.checks import choose, choose_all, described, real_number
from fcx.core.errors import InputError

MOVED = ("scale", "shift", "style", "wearing", "colour")  # of a mask, by hand


@dataclass(frozen=True)
class View:
    """What is chosen; "" is the first that there is.

    `networks` are one or two names; `quantity` is that of the bars; `opacity` and `scale` are those of the maps,
    1 where colours end at the 99.5th percentile; `region` is a polygon of grid points (x, y), or None; `mask` are the
    options of `MOVED` in which the mask that is worn in a notebook differs from that of the store, or None.
    """

    sample: str = ""
    networks: str | Iterable[str] = ""
    method: str = ""
    target: str = ""
    signed: bool = True
    quantity: str = "enrichment"
    opacity: float = 0.9
    scale: float = 1.0
    outlines: bool = True
    difference: bool = False
    region: Iterable | None = None
    mask: Mapping | None = None

    def of(self, pack) -> View:
        """Return the view with every name that `pack` has.

        Raises: UnknownNameError for a name that it has not; InputError for a number out of range, three networks,
        a region that is no polygon, or options that no mask can have.
        """
        from fcx.explorer.packing import SHOWN

        networks = [name for name in words(self.networks, "networks") if name] or pack.models[:2]
        choose_all(networks, pack.models, "network")
        if len(set(networks)) < len(networks) or len(networks) > 2:
            raise InputError(f"networks are {', '.join(networks)}; allowed: one, or two that differ")
        return replace(
            self, networks=networks, region=_polygon(self.region), mask=_moved(self.mask),
            sample=choose(word(self.sample, "sample") or pack.samples[0], pack.samples, "face"),
            method=choose(word(self.method, "method") or pack.methods[0], pack.methods, "method"),
            target=choose(word(self.target, "target") or ("valence" if "valence" in pack.targets else pack.targets[0]),
                          pack.targets, "target"),
            quantity=choose(self.quantity, SHOWN, "quantity"),
            opacity=real_number(self.opacity, "opacity", 0, 1), scale=real_number(self.scale, "scale", 0.05, 2),
            **{name: switch(getattr(self, name), name) for name in ("signed", "outlines", "difference")},
        )  # fmt: skip

    def plain(self) -> dict:
        """Return the view as JSON knows it."""
        return asdict(self)


VIEW_OPTIONS = tuple(field.name for field in fields(View))


def _polygon(region):
    if region is None:
        return None
    try:
        points = [[round(float(x), 1), round(float(y), 1)] for x, y in region]
    except (TypeError, ValueError):
        points = []
    if len(points) < 3:
        raise InputError(f"region is {described(region)}; allowed: at least three grid points (x, y), or None")
    return points


def _moved(mask):
    """Return the options of a mask that is moved by hand, in the order of `MOVED`."""
    if not mask:
        return None
    from fcx.masks import mask_options

    if not isinstance(mask, Mapping):
        raise InputError(f"mask is {described(mask)}; allowed: options such as {{'shift': [0, -1]}}, or None")
    worn = mask_options(**choose_all(mask, MOVED, "option of a moved mask"))
    if not re.fullmatch("#[0-9a-fA-F]{6}|", worn.colour):
        raise InputError(f"colour is {worn.colour!r}; allowed: #rrggbb")
    return {name: list(worn.shift) if name == "shift" else getattr(worn, name) for name in MOVED if name in mask}
