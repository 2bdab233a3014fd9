"""How a mask is worn: the options that travel together, from the command line to the paint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from fcx.core.arguments import seed, word
from fcx.core.checks import choose, choose_all, described, option, read_number, real_number
from fcx.core.errors import InputError


@dataclass(frozen=True)
class MaskOptions:
    """How masks are worn; what is left open is drawn for each face from hash(sample, seed).

    `style` is a name of `STYLES`, a PNG (see `picture_style`), or "mixed": one of the masks that people wear, in
    one of its colours. `scale` and `shift` (centimetres to the right and up) change size and place. `colour` is a
    name, #rrggbb, "any" (one of the style's) or "" (the style's own). `jitter` scales how much size, place, tilt,
    upper edge and brightness differ from face to face. `fit`: "rigid" places the mask by the pose of the upper face
    alone; "jaw" bends it after nose, cheeks and jaw; "donor" bends it after those of another face.

    Raises: UnknownNameError for a name; InputError for a number that is out of range.

    >>> MaskOptions("ffp2", shift="0.5,-1").shift
    (0.5, -1.0)
    """

    style: str = option("surgical", "mask style")
    wearing: str = option("proper", "how the mask is worn: proper, under_nose or under_chin")
    scale: float = option(1.0, "size of the mask, 1 is its own")
    shift: tuple[float, float] | str = option("0,0", "centimetres right and up, with a comma between")
    colour: str = option("", "a name, #rrggbb, or any to draw one; default: the style's own")
    jitter: float = option(1.0, "how far masks differ in how they sit, 0 for not at all")
    seed: int = option(0, "seed of what is random")
    fit: str = option("rigid", "what the mask is fitted to")

    def __post_init__(self):
        from fcx.masks.shapes import FITS, WEARINGS  # with OpenCV, which the command line does not wait for
        from fcx.masks.styles import find_style, rgb

        word(self.style, "style"), word(self.colour, "colour")
        choose(self.fit, FITS, "fit")
        choose(self.wearing, WEARINGS, "wearing")
        real_number(self.scale, "scale", 0.3, 3)
        real_number(self.jitter, "jitter", 0, 5)
        seed(self.seed, "seed")
        object.__setattr__(self, "shift", two_numbers(self.shift))
        style = None if self.style == "mixed" else find_style(self.style)
        if style and style.paste:
            choose(self.colour or "any", [*style.colours, "any"], f"colour of a mask of the style {self.style!r}")
        elif self.colour not in ("", "any"):
            rgb(self.colour)

    def attrs(self) -> dict:
        """Return the options under the names that stores and checkpoints use."""
        return {f"mask_{name}": value for name, value in asdict(self).items()} | {"mask_shift": list(self.shift)}


MASK_OPTIONS = tuple(field.name for field in fields(MaskOptions))


def mask_options(**given: object) -> MaskOptions:
    """Return the options that keywords give.

    Raises: UnknownNameError for an option that does not exist; else as `MaskOptions`.
    """
    return MaskOptions(**choose_all(given, MASK_OPTIONS, "option of a mask"))


def two_numbers(shift) -> tuple[float, float]:
    """Return a shift given as two numbers, or as text with a comma between, as floats."""
    try:
        right, up = map(read_number, shift.split(",")) if isinstance(shift, str) else map(float, shift)
    except (TypeError, ValueError):
        right = up = math.nan
    if not (abs(right) <= 10 and abs(up) <= 10):  # nor NaN
        raise InputError(
            f"shift is {described(shift)}; allowed: two numbers from -10 to 10, centimetres right and up, as in 0.5,-1"
        )
    return right, up
