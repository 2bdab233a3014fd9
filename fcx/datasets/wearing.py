"""How faces are made and masks are worn: the options, the donors of outlines, and styles for worker processes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.checks import choose
from fcx.core.contract import CROPS
from fcx.core.errors import FaceError, InputError
from fcx.core.files import digest
from fcx.core.parallel import portable
from fcx.geometry.landmarks import BACKENDS, GIVEN, SEVERAL, Landmarks, find_landmarks
from fcx.masks import STYLES, MaskOptions, choose_look, composite, paint_mask

DONORS = 4  # faces that are tried as the donor of an outline


@dataclass(frozen=True)
class FaceOptions:
    """How faces are made; all of it is recorded in the store."""

    mask: MaskOptions
    crop: str = "face"
    backend: str = "mesh"
    several: str = "largest"
    pictures: bool = True

    def __post_init__(self):
        choose(self.crop, CROPS, "crop rule")
        choose(self.backend, [*BACKENDS, GIVEN], "landmark backend")
        choose(self.several, (*SEVERAL, "all"), "policy for several faces")

    def attrs(self) -> dict:
        """Return the options under the names that stores and checkpoints use."""
        return {"crop": self.crop, **self.mask.attrs(), "landmarks": self.backend, "several": self.several}


def landmarks_of(record, picture: np.ndarray, options: FaceOptions) -> Landmarks:
    """Return the landmarks of the face of a record in its picture.

    Raises: what `find_landmarks` raises.
    """
    return find_landmarks(picture, options.backend, several=options.several, box=record.box, points=record.points)


def drawn_from(mask: MaskOptions) -> list:
    """Return what tells the styles that `mask` draws from: their names, and a hash of a style that is a file."""
    if mask.style == "mixed":
        return sorted(name for name, style in STYLES.items() if style.worn)
    if mask.style in STYLES:
        return [mask.style]
    return [digest(file.read_bytes()) for file in (Path(mask.style), Path(mask.style).with_suffix(".json"))]


def masked_face(picture, mesh, record, options: FaceOptions, donors=()) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return the masked picture, its alpha, and the look of the mask as plain values.

    Raises: FaceError where the outline is to come from another face, and none of `donors` has one.
    """
    mask, outline = options.mask, None
    worn = choose_look(mask, record.id).described()
    if mask.fit == "donor":
        worn["donor"], outline = _outline(donors, options)
    paint, alpha = paint_mask(picture, mesh, mask, donor=outline, sample=record.id)
    return composite(picture, paint, alpha), alpha, worn


def _outline(donors, options: FaceOptions) -> tuple[str, np.ndarray]:
    """Return the id and the mesh of the first of `donors` that has a face."""
    backend = GIVEN if options.backend == GIVEN else "mesh"  # points are not needed
    options = replace(options, backend=backend, several="refuse" if options.several == "refuse" else "largest")
    for donor in donors:
        try:
            return donor.id, landmarks_of(donor, donor.read(), options).mesh
        except InputError:
            continue
    raise FaceError(f"no outline of another face: none was found in {', '.join(donor.id for donor in donors)}")


def with_donors(records, others, mask: MaskOptions) -> list[tuple]:
    """Return each record with those whose outline may be taken, in the order drawn for it (none for another fit)."""
    if mask.fit != "donor":
        return [(record, ()) for record in records]
    pool = sorted((record for record in others if not record.reason), key=lambda record: record.id)
    if len(pool) < 2:
        raise InputError("the fit 'donor' takes the outline of another face: give a source of at least two pictures")
    jobs = []
    for record in records:
        generator = np.random.default_rng(int(digest(f"donor:{mask.seed}:{record.id}".encode()), 16))
        drawn = generator.choice(len(pool), min(DONORS + 1, len(pool)), replace=False)
        jobs.append((record, tuple([pool[i] for i in drawn if pool[i].id != record.id][:DONORS])))
    return jobs


def begin_workers(mask: MaskOptions):
    """Return what makes known to worker processes the styles that this session added.

    Raises: InputError where such a style cannot be sent.
    """
    names = drawn_from(mask) if mask.style == "mixed" else [mask.style]
    textures = {name: STYLES[name].texture for name in names if name in STYLES}
    # The styles of fcx are known wherever it is imported.
    added = [name for name, texture in textures.items()
             if not (inspect.isfunction(texture) and texture.__module__.startswith("fcx.masks"))]  # fmt: skip
    return partial(_register, {name: portable(STYLES[name], f"the mask style {name!r}") for name in added})


def _register(styles: dict) -> None:
    STYLES.update(styles)
