"""Networks that are asked at once about a face whose mask is moved by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from fcx.attribution.face_reader import FaceReader
from fcx.attribution.lrp_engine import Engine
from fcx.attribution.plan import Plan
from fcx.attribution.registry import METHODS
from fcx.attribution.runner import DTYPES
from fcx.core.contract import GRID, twin
from fcx.core.errors import FcxError, InputError
from fcx.core.provenance import nested_attr
from fcx.core.targets import parse_all
from fcx.datasets import open_source
from fcx.datasets.preparation import resize_to
from fcx.datasets.records import Record
from fcx.datasets.wearing import FaceOptions, donors_of, landmarks_of, masked_face
from fcx.explorer.packing import SHOWN, Pack
from fcx.geometry.crops import crop_face, scaled
from fcx.masks import MASK_OPTIONS, STYLES, MaskOptions, mask_options
from fcx.masks.shapes import WEARINGS
from fcx.networks.checkpoints import network_hash
from fcx.networks.inference import piece_of, piece_size, usable_device
from fcx.networks.inputs import all_outputs, read_variable
from fcx.networks.resolving import resolve_models
from fcx.statistics.map_scores import score_maps
from fcx.statistics.region_mass import region_cover

FACES_KEPT = 16  # sources that were read again


@dataclass(frozen=True)
class WornFace:
    """A face as it was read again: the crop on which masks are worn; `exact` where that gives what the store holds."""

    record: Record
    crop: np.ndarray
    mesh: np.ndarray
    exact: bool


@dataclass(frozen=True)
class Answer:
    """A face in another mask: its picture (224, 224, RGB), `image` and `alpha` on the grid, and what networks see.

    `prediction` (model, target), `maps` (model, target, y, x), `scores` name -> (model, target, region), `cover`
    (region, y, x); `exact` says whether the source was read again.
    """

    picture: np.ndarray
    image: np.ndarray
    alpha: np.ndarray
    prediction: np.ndarray
    maps: np.ndarray
    scores: dict[str, np.ndarray]
    cover: np.ndarray
    exact: bool


class WornReader(FaceReader):
    """The faces, of which one wears another mask: what a method asks of that one is answered so."""

    worn: tuple = (-1, "", None, None)  # its row, the condition, its image and alpha on the grid
    _one: tuple = (-1, None)  # a row and its regions, read once

    def pictures(self, condition: str, rows: np.ndarray, model) -> np.ndarray:
        """Return the pictures (sample, y, x) uint8 of some faces in a condition, that of the worn mask where asked."""
        images, (row, worn, image, _) = super().pictures(condition, rows, model), self.worn
        if condition == worn and (rows == row).all():  # not those that a mean is taken over
            images[:] = image
        return images

    def cover(self, rows: np.ndarray) -> np.ndarray:
        """Return the coverage (sample, region, y, x) of the face, whose mask is the worn one."""
        row, worn, _, alpha = self.worn
        if self._one[0] != row:
            self._one = row, self.faces[["regions", "alpha"]].isel(sample=[row]).copy(deep=True).load()
        face = self._one[1]
        face["alpha"].values[self.conditions.index(worn), 0] = alpha
        return np.repeat(region_cover(face, np.array([0])), len(rows), axis=0)


class Live:
    """The networks of results, ready to be asked; `why` says why a mask cannot be moved, where it cannot."""

    def __init__(self, pack: Pack, models: Mapping | None):
        self.pack, self.why, self.models = pack, "", {}
        try:
            self.condition = self._condition()
            self.models = _models_of(pack, models)
            self.settings = _settings(pack.faces, self.condition)
        except InputError as error:
            if models is not None:
                raise
            self.why = str(error)
        if not self.why and (
            colour := [n for n in pack.models if read_variable(self.models[n], pack.faces) != "image"]
        ):
            self.why = f"the network {colour[0]!r} reads pictures, and masks are moved by hand on the grey grid"
        self.reader = WornReader(pack.faces)
        self.face = lru_cache(FACES_KEPT)(self._read_again)
        self._plans: dict[tuple[str, str], Plan] = {}

    @property
    def stored(self) -> MaskOptions:
        """How masks are worn in the store."""
        return self.settings.masks[self.condition]

    def _condition(self) -> str:
        if len(self.pack.conditions) < 2:
            raise InputError("the results have one condition, and no mask to move")
        return twin(self.pack.faces)

    @cached_property
    def _records(self) -> dict[str, Record]:
        try:
            source = self.pack.faces.attrs["source"], nested_attr(self.pack.faces, "options")
            found = open_source(source[0], **source[1]).records
        except (FcxError, KeyError, OSError):  # elsewhere, or made of objects: what is shown is a preview
            found = []
        return {record.id: record for record in found}

    def choices(self) -> dict:
        """Return what the page can choose of a mask, and how it is worn in the store."""
        if self.why:
            return {"why": self.why}
        stored = {"stored": asdict(self.stored), "condition": self.condition}
        return {"styles": ["mixed", *STYLES], "wearings": list(WEARINGS), **stored}

    def _read_again(self, row: int) -> WornFace:
        """Return the face of a row from its source, or where that is gone or gives another, from its stored picture."""
        faces, name = self.pack.faces.isel(sample=row), self.pack.samples[row]
        if name in self._records:
            record = self._records[name]
            try:
                picture = record.read()
                found = landmarks_of(record, picture, self.settings)
                crop, mesh, _ = crop_face(picture, found.mesh, found.points, self.settings.crop)
                face = WornFace(record, crop, mesh, True)
                if np.array_equal(self.wear(face, self.stored)[1], faces["image"].sel(condition=self.condition)):
                    return face
            except (InputError, OSError):  # gone since, or changed
                pass
        plain = self.pack.pixels(self.pack.conditions[0], [row])[0]
        mesh = scaled(faces["mesh"].values.astype(float), len(plain) / GRID)
        return WornFace(Record(name, lambda: plain), plain, mesh, False)

    def wear(self, face: WornFace, mask: MaskOptions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the masked crop, and image and alpha (y, x) on the grid, as `fcx.prepare` makes them.

        Raises: FaceError where the outline is to come from another face, and there is none.
        """
        settings = replace(self.settings, masks={self.condition: mask})
        donors = donors_of([face.record], list(self._records.values()), mask)[0]
        masked, alpha, _ = masked_face(face.crop, face.mesh, face.record, self.condition, settings, donors)
        return masked, resize_to(cv2.cvtColor(masked, cv2.COLOR_RGB2GRAY), GRID), resize_to(alpha, GRID)

    def ask(self, row: int, mask: MaskOptions, networks: list[str], method: str, exact: bool = True) -> Answer:
        """Return what networks see in the face of a row that wears `mask`.

        With `exact` they see it as `fcx.attribute` shows it to them, as many at once, which convolutions round by;
        without, alone, in a fraction of the time.

        Raises: as `wear`.
        """
        face = self.face(row)
        masked, image, alpha = self.wear(face, mask)
        self.reader.worn = row, self.condition, image, alpha
        cover = self.reader.cover(np.array([row]))
        made = [self._explain(name, method, row, image, exact) for name in networks]
        maps = np.stack([arrays["attribution"][0, :, 0] for arrays in made])
        scores = score_maps(maps[:, :, None], cover)
        return Answer(
            picture=masked, image=image, alpha=alpha, prediction=np.stack([a["prediction"][:, 0] for a in made]),
            maps=maps, scores={name: scores[name][:, :, 0] for name in SHOWN}, cover=cover[0], exact=face.exact,
        )  # fmt: skip

    def _explain(self, network: str, method: str, row: int, image: np.ndarray, exact: bool) -> dict:
        plan = self._plan(network, method)
        subject = plan.subject(network)
        subject.once(Engine).piece = piece_of(subject.model) if exact else 1
        rows = np.full(piece_size(subject.model, plan.batch_size) if exact else 1, row)
        images = np.repeat(image[None], len(rows), axis=0)
        return plan.explain(subject, self.reader.conditions.index(self.condition), rows, images)

    def _plan(self, network: str, method: str) -> Plan:
        """Return what is kept ready to explain by one network: its copy, with what was derived of it."""
        if (network, method) not in self._plans:
            results = self.pack.results
            how = nested_attr(results, "provenance")
            options = {method: nested_attr(results, "methods")[method]["options"]}
            device, dtype = usable_device(how.get("device", "cpu")), DTYPES[how.get("dtype", "float32")]
            targets = parse_all(self.pack.targets, all_outputs(self.models.values()))
            plan = Plan({network: self.models[network]}, self.pack.faces, [METHODS[method]], targets, options,
                        how.get("batch_size", 1), device, dtype, {})  # fmt: skip
            plan.reader = self.reader
            self._plans[network, method] = plan
        return self._plans[network, method]


def _models_of(pack: Pack, given) -> dict:
    """Return the networks of results by name: those given, or those that ship, with the weights of the results.

    Raises: InputError where one is not there, or has other weights.
    """
    made_by = nested_attr(pack.results, "checkpoints")
    models = resolve_models(pack.models if given is None else given)
    for name in pack.models:
        if name not in models:
            raise InputError(f"the network {name!r} of the results is not among the models: give all of them")
        if name not in made_by or network_hash(models[name]) != made_by[name]:
            raise InputError(f"the network {name!r} is another than the one that made the results: give that one")
    return models


def _settings(faces, condition: str) -> FaceOptions:
    """Return how faces were made, from what their store says.

    Raises: InputError where it does not say.
    """
    if "masks" in faces.attrs:
        mask = mask_options(**nested_attr(faces, "masks")[condition])
    else:
        given = {name: faces.attrs[f"mask_{name}"] for name in MASK_OPTIONS if f"mask_{name}" in faces.attrs}
        if len(given) < len(MASK_OPTIONS):
            raise InputError("the faces do not say how their masks are worn: make them with fcx.prepare")
        mask = mask_options(**{**given, "shift": tuple(map(float, given["shift"]))})
    return FaceOptions({condition: mask}, faces.attrs["crop"], faces.attrs["landmarks"], faces.attrs["several"])


def mask_of(given: Mapping, stored: MaskOptions) -> MaskOptions:
    """Return the options of a mask that the page sends; what it leaves out is as it is stored.

    Raises: as `MaskOptions`.
    """
    return mask_options(**{**asdict(stored), **given})
