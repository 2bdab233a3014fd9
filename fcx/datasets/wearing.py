"""How faces are made and masks are worn: the settings, the donors of outlines, and styles for worker processes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.checks import choose
from fcx.core.contract import CROPS
from fcx.core.errors import FaceError, InputError
from fcx.core.parallel import portable
from fcx.core.store import digest
from fcx.geometry.landmarks import BACKENDS, SEVERAL, find_landmarks
from fcx.masks import FITS, STYLES, choose_look
from fcx.masks.wear import wear_mask


@dataclass(frozen=True)
class Settings:
    """How faces are made; all of it is recorded in the store."""

    crop: str = "face"
    style: str = "surgical"
    fit: str = "rigid"
    seed: int = 0
    wearing: str = "proper"
    scale: float = 1.0
    shift: tuple[float, float] | str = (0.0, 0.0)
    colour: str = ""
    jitter: float = 1.0
    backend: str = "mesh"
    several: str = "largest"
    pictures: bool = True

    def __post_init__(self):
        choose(self.crop, CROPS, "crop rule")
        choose(self.fit, FITS, "fit")
        choose(self.backend, BACKENDS, "landmark backend")
        choose(self.several, (*SEVERAL, "all"), "policy for several faces")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed is {self.seed!r}; allowed: whole numbers from 0")
        object.__setattr__(self, "shift", two_numbers(self.shift))
        choose_look(**self.look())  # what is wrong in the others is said before any face is looked at

    def look(self) -> dict:
        """Return what decides, with a sample's id, the look of its mask."""
        names = ("style", "wearing", "scale", "shift", "colour", "jitter", "seed")
        return {name: getattr(self, name) for name in names}

    def attrs(self) -> dict:
        """Return the settings under the names that stores and checkpoints use."""
        look = {f"mask_{name}": value for name, value in self.look().items()}
        return {"crop": self.crop, **look, "mask_shift": list(self.shift), "mask_fit": self.fit,
                "landmarks": self.backend, "several": self.several}  # fmt: skip


def two_numbers(shift) -> tuple[float, float]:
    """Return a shift given as two numbers, or as text with a comma between, as floats."""
    try:
        right, up = (float(part) for part in (shift.split(",") if isinstance(shift, str) else shift))
    except (TypeError, ValueError) as error:
        raise InputError(f"shift is {shift!r}; allowed: two numbers, centimetres right and up, as in 0.5,-1") from error
    return right, up


def drawn_from(settings: Settings) -> list:
    """Return what tells the styles that `settings` draw from: their names, and a hash of a style that is a file."""
    if settings.style == "mixed":
        return sorted(name for name, style in STYLES.items() if style.worn)
    if settings.style in STYLES:
        return [settings.style]
    files = [Path(settings.style), Path(settings.style).with_suffix(".json")]
    return [digest(file.read_bytes()) for file in files]


DONORS = 4  # faces that are tried as the donor of an outline


def masked_face(picture, mesh, record, settings: Settings, donors=()) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return the masked picture, its alpha, and the look of the mask as plain values.

    Raises: FaceError where the outline is to come from another face, and none of `donors` has one.
    """
    worn, outline = choose_look(**settings.look(), sample=record.id).described(), None
    if settings.fit == "donor":
        worn["donor"], outline = _outline(donors, settings)
    masked, alpha = wear_mask(picture, mesh, fit=settings.fit, donor=outline, sample=record.id, **settings.look())
    return masked, alpha, worn


def _outline(donors, settings) -> tuple[str, np.ndarray]:
    """Return the id and the mesh of the first of `donors` that has a face."""
    for donor in donors:
        try:
            several = "refuse" if settings.several == "refuse" else "largest"
            return donor.id, find_landmarks(donor.read(), several=several).mesh
        except InputError:
            continue
    raise FaceError(f"no outline of another face: none was found in {', '.join(donor.id for donor in donors)}")


def with_donors(records, others, settings: Settings) -> list[tuple]:
    """Return each record with those whose outline may be taken, in the order drawn for it (none for another fit)."""
    if settings.fit != "donor":
        return [(record, ()) for record in records]
    pool = sorted((record for record in others if not record.reason), key=lambda record: record.id)
    if len(pool) < 2:
        raise InputError("the fit 'donor' takes the outline of another face: give a source of at least two pictures")
    jobs = []
    for record in records:
        generator = np.random.default_rng(int(digest(f"donor:{settings.seed}:{record.id}".encode()), 16))
        drawn = generator.choice(len(pool), min(DONORS + 1, len(pool)), replace=False)
        jobs.append((record, tuple([pool[i] for i in drawn if pool[i].id != record.id][:DONORS])))
    return jobs


def begin_workers(settings: Settings):
    """Return what makes known to worker processes the styles that this session added.

    Raises: InputError where such a style cannot be sent.
    """
    names = drawn_from(settings) if settings.style == "mixed" else [settings.style]
    textures = {name: STYLES[name].texture for name in names if name in STYLES}
    # The styles of fcx are known wherever it is imported.
    added = [name for name, texture in textures.items()
             if not (inspect.isfunction(texture) and texture.__module__.startswith("fcx.masks"))]  # fmt: skip
    return partial(_register, {name: portable(STYLES[name], f"the mask style {name!r}") for name in added})


def _register(styles: dict) -> None:
    STYLES.update(styles)
