"""How faces are made and masks are worn: the options, the donors of outlines, and styles for worker processes."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.arguments import mapping
from fcx.core.checks import choose, described
from fcx.core.contract import CONDITIONS, CROPS
from fcx.core.errors import FaceError, InputError
from fcx.core.files import digest, read_json
from fcx.core.parallel import portable
from fcx.geometry.landmarks import BACKENDS, GIVEN, SEVERAL, Landmarks, find_landmarks
from fcx.masks import STYLES, MaskOptions, choose_look, composite, mask_options, paint_mask

DONORS = 4  # faces that are tried as the donor of an outline
PLAIN, MASKED = CONDITIONS
EXAMPLE = '{"rigid": {"style": "mixed"}, "jaw": {"style": "mixed", "fit": "jaw"}}'
NAME = re.compile(r"\w[\w.-]*")  # of a condition


@dataclass(frozen=True)
class FaceOptions:
    """How faces are made; all of it is recorded in the store. `masks` are the conditions in which one is worn."""

    masks: Mapping[str, MaskOptions]
    crop: str = "face"
    backend: str = "mesh"
    several: str = "largest"
    pictures: bool = True

    def __post_init__(self):
        choose(self.crop, CROPS, "crop rule")
        choose(self.backend, [*BACKENDS, GIVEN], "landmark backend")
        choose(self.several, (*SEVERAL, "all"), "policy for several faces")

    @property
    def only(self) -> MaskOptions | None:
        """The mask of the condition `masked`, where there is no other."""
        return self.masks[MASKED] if list(self.masks) == [MASKED] else None

    def attrs(self) -> dict:
        """Return the options under the names that stores and checkpoints use."""
        worn = self.only.attrs() if self.only else {"masks": {name: asdict(mask) for name, mask in self.masks.items()}}
        return {"crop": self.crop, **worn, "landmarks": self.backend, "several": self.several}

    def drawn_from(self):
        """Return what tells the styles that are drawn from, for each mask as `drawn_from`."""
        return drawn_from(self.only) if self.only else {name: drawn_from(mask) for name, mask in self.masks.items()}


def masks_worn(masks, **mask) -> dict[str, MaskOptions]:
    """Return the masks by condition: those that are given, in a dict or a JSON file, or one from keywords.

    Raises: InputError for both, or for what gives no conditions; as `MaskOptions`, with the name of the condition.
    """
    if masks is None:
        return {MASKED: mask_options(**mask)}
    if mask:
        raise InputError(f"masks were given, and {next(iter(mask))} besides: say it of each mask, or leave masks out")
    if isinstance(masks, str | os.PathLike) and not isinstance(masks := read_json(Path(file := masks)), dict):
        raise InputError(f"{file} cannot be read as JSON of masks, such as {EXAMPLE}")
    worn = {}
    for name, how in mapping(masks, "masks").items():
        if not NAME.fullmatch(name) or name == PLAIN:
            raise InputError(
                f"a mask is worn in the condition {name!r}; allowed: letters, digits, _ - . and not {PLAIN}"
            )
        try:
            worn[name] = how if isinstance(how, MaskOptions) else mask_options(**mapping(how, "its options"))
        except InputError as error:
            raise type(error)(f"the mask {name!r}: {error}") from None
    if not worn:
        raise InputError(
            f"masks is {described(masks)}; allowed: conditions and how a mask is worn in each, as in {EXAMPLE}"
        )
    return worn


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


def masked_face(picture, mesh, record, condition: str, options: FaceOptions, donors=()):
    """Return the picture as it is in a condition, the alpha of its mask, and the look of that as plain values.

    Raises: FaceError where the outline is to come from another face, and none of `donors` has one.
    """
    mask, outline = options.masks[condition], None
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


def donors_of(records, others, mask: MaskOptions) -> list[tuple]:
    """Return for each record those whose outline may be taken, in the order drawn for it (none for another fit)."""
    if mask.fit != "donor":
        return [()] * len(records)
    pool = sorted((record for record in others if not record.reason), key=lambda record: record.id)
    if len(pool) < 2:
        raise InputError("the fit 'donor' takes the outline of another face: give a source of at least two pictures")
    donors = []
    for record in records:
        generator = np.random.default_rng(int(digest(f"donor:{mask.seed}:{record.id}".encode()), 16))
        drawn = generator.choice(len(pool), min(DONORS + 1, len(pool)), replace=False)
        donors.append(tuple([pool[i] for i in drawn if pool[i].id != record.id][:DONORS]))
    return donors


def begin_workers(masks: Iterable[MaskOptions]):
    """Return what makes known to worker processes the styles that this session added.

    Raises: InputError where such a style cannot be sent.
    """
    names = {name for mask in masks for name in (drawn_from(mask) if mask.style == "mixed" else [mask.style])}
    textures = {name: STYLES[name].texture for name in names if name in STYLES}
    # The styles of fcx are known wherever it is imported.
    added = [name for name, texture in textures.items()
             if not (inspect.isfunction(texture) and texture.__module__.startswith("fcx.masks"))]  # fmt: skip
    return partial(_register, {name: portable(STYLES[name], f"the mask style {name!r}") for name in added})


def _register(styles: dict) -> None:
    STYLES.update(styles)
