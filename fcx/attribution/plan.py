"""What is to be computed, block by block: some faces of one model and one condition, by every method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import nn

from fcx.attribution.batch import Batch, Subject, check_alone, own_mode, spread
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.fills import FILLS
from fcx.attribution.lrp_rules import CONVOLUTION_RULES, FIRST_RULES, OPERATIONS, SHUNT_RULES
from fcx.attribution.registry import Method
from fcx.attribution.storage import MAPS_A_BLOCK, compress
from fcx.core.errors import FcxError
from fcx.core.parallel import in_order, portable
from fcx.core.store import Store
from fcx.core.targets import Target
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import piece_size, pieces
from fcx.networks.inputs import as_pixels, outputs_of
from fcx.statistics.map_scores import QUANTITIES, score_maps
from fcx.statistics.overlays import OVERLAYS, region_names

REGISTRIES = (CONVOLUTION_RULES, FIRST_RULES, SHUNT_RULES, OPERATIONS, FILLS, OVERLAYS)


@dataclass(frozen=True)
class Block:
    """Some rows of the faces, in one condition, for one model."""

    number: int
    model: str
    condition: int
    rows: slice
    usable: tuple[int, ...]  # of the rows

    def __len__(self) -> int:
        return len(self.usable)


@dataclass
class Plan:
    """Models x conditions x methods x targets over faces."""

    models: Mapping[str, nn.Module]
    faces: xr.Dataset
    methods: list[Method]
    targets: list[Target]
    options: Mapping[str, Mapping]
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    variables: Mapping[str, tuple]  # name -> (dims, dtype, attributes)
    # What this session may have added, which a worker process learns with its plan.
    registered: tuple[Mapping, ...] = field(default_factory=lambda: tuple(map(dict, REGISTRIES)))

    def __post_init__(self):
        for registry, entries in zip(REGISTRIES, self.registered, strict=True):
            registry.update(entries)
        self.reader = FaceReader(self.faces)
        self.resolutions: dict[str, set[int]] = {method.name: set() for method in self.methods}
        self.layers: dict[str, dict[str, str]] = {method.name: {} for method in self.methods}
        self._subject: Subject | None = None

    @property
    def extras(self) -> list[str]:
        """The names of what the methods record beside their maps, each once."""
        return list(dict.fromkeys(e for method in self.methods for e in method.records(self.options[method.name])))

    def blocks(self) -> list[Block]:
        """Return all blocks; those of the same faces in several conditions are neighbours and share their regions."""
        blocks, good, count = [], self.reader.good, self.faces.sizes["sample"]
        for name in self.models:
            for first in range(0, count, MAPS_A_BLOCK):
                rows = slice(first, min(first + MAPS_A_BLOCK, count))
                for condition in range(len(good)):
                    usable = first + np.flatnonzero(good[condition, rows])
                    blocks.append(Block(len(blocks), name, condition, rows, tuple(usable.tolist())))
        return blocks

    def rehearse(self) -> dict[str, dict]:
        """Explain one face by every model, so that what cannot work fails before a store is laid out.

        Return the resolution of each method with these options and models, and the layers that it weighs by model.
        """
        condition, sample = np.argwhere(self.reader.good)[0]
        for name in self.models:
            some, model = np.array([sample]), self.models[name]
            if self.own_targets(model):
                images = self.reader.pictures(self.reader.conditions[condition], some, model)
                self.explain(self.subject(name), condition, some, images)
                if not isinstance(model, FaceChannel):
                    with own_mode(self.device):
                        pixels = as_pixels(self.subject(name).model, images, self.device, self.dtype)
                        check_alone(self.subject(name), pixels)
        if "area" in self.variables:
            self.reader.cover(np.array([sample]))
        return {
            name: {"resolution": math.gcd(*sides)} | ({"layers": layers} if (layers := self.layers[name]) else {})
            for name, sides in self.resolutions.items()
        }

    def own_targets(self, model: nn.Module) -> list[int]:
        """Return the numbers of the targets whose outputs a model has; the others are NaN for it."""
        return [number for number, target in enumerate(self.targets) if target.of_outputs(outputs_of(model))]

    def run(self, store, workers: int = 1, rank: int = 0, ranks: int = 1) -> None:
        """Compute the blocks that `store` still lacks: a share of them first, then what others have not done."""
        pending, blocks = store.pending(), self.blocks()
        pending = sorted(pending) if ranks > 1 else pending
        mine = [blocks[number] for number in pending if number % ranks == rank]
        # From the end, so that two that help each other meet in at most one block.
        theirs = [blocks[number] for number in reversed(pending) if number % ranks != rank]
        if workers > 1:
            portable(self.models, "the models")
            portable(self.methods, "the methods")
            portable(self.registered, "the LRP rules, fills and overlay regions")
        work = partial(_work, self, store if isinstance(store, Store) else None)
        for _, values in in_order(work, mine + theirs, workers, True, "attribute"):
            if values is not None:
                store.write(values)

    def __reduce__(self):
        return Plan, tuple(getattr(self, each.name) for each in fields(self))  # without what was derived here

    def block(self, block: Block) -> dict[str, tuple]:
        """Return the index and values of each variable for the faces of a block, NaN where a face is unusable."""
        subject, rows = self.subject(block.model), block.rows
        arrays = self._empty(block)
        own = self.own_targets(subject.model)
        usable = np.array(block.usable if own else (), int)
        images = self.reader.pictures(self.reader.conditions[block.condition], usable, subject.model)
        for piece, count in pieces(len(usable), piece_size(subject.model, self.batch_size)):
            explained = self.explain(subject, block.condition, usable[piece], images[piece])
            places = np.ix_(own, usable[piece[:count]] - rows.start)
            for name, values in explained.items():
                lead = (slice(None),) * (0 if name == "prediction" else 1)  # dimensions before `target`
                arrays[name][(*lead, *places)] = values[(*lead, slice(None), slice(count))]
        arrays |= self._statistics(block, arrays["attribution"])
        maps = arrays.pop("attribution")
        if "attribution" in self.variables:
            arrays |= compress(maps, self.variables["attribution"][1])
        lead = (list(self.models).index(block.model), block.condition)
        index = {name: (*lead, *[slice(None)] * (1 if name == "prediction" else 2), rows) for name in arrays}
        return {name: ((rows,) if name == "area" else index[name], arrays[name]) for name in arrays}

    def _empty(self, block: Block) -> dict[str, np.ndarray]:
        shape = (len(self.targets), block.rows.stop - block.rows.start)
        each = (len(self.methods), *shape)
        arrays = {name: np.full(each, np.nan) for name in self.extras}
        arrays["prediction"] = np.full(shape, np.nan)
        kind = str(self.dtype).removeprefix("torch.")
        arrays["attribution"] = np.full((*each, *self.faces["image"].shape[2:]), np.nan, kind)
        return arrays

    def _statistics(self, block: Block, maps: np.ndarray) -> dict[str, np.ndarray]:
        """Return `QUANTITIES` (method, target, sample, region) and area of the faces usable in every condition."""
        if "area" not in self.variables:
            return {}
        rows = np.arange(block.rows.start, block.rows.stop)
        good = self.reader.good[:, block.rows].all(0)
        regions = len(region_names(self.faces))
        arrays = {name: np.full((*maps.shape[:3], regions), np.nan, np.float32) for name in QUANTITIES}
        if not good.any():
            return arrays
        cover = self.reader.cover(rows[good])
        if block.model == next(iter(self.models)) and not block.condition:  # once for each face
            arrays["area"] = np.full((len(rows), regions), np.nan, np.float32)
            arrays["area"][good] = cover.mean((-2, -1))
        for name, values in score_maps(maps if good.all() else maps[:, :, good], cover).items():
            arrays[name][:, :, good] = values
        return arrays

    def explain(self, subject: Subject, condition: int, some: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return prediction (target, sample), maps (method, target, sample, y, x), extras (method, target, sample).

        Targets are those that the model has the outputs of; maps are summed into the grid.
        """
        with own_mode(self.device):
            pixels = as_pixels(subject.model, images, self.device, self.dtype)
            targets = [self.targets[number] for number in self.own_targets(subject.model)]
            has = outputs_of(subject.model)
            weights = torch.tensor([[target.needs.get(name, 0.0) for name in has] for target in targets]).to(pixels)
            reference = torch.tensor([target.reference for target in targets], dtype=torch.float64).to(self.device)
            batch = Batch(subject, pixels, torch.from_numpy(some).to(self.device), weights, reference,
                          reader=self.reader, condition=self.reader.conditions[condition])  # fmt: skip
            arrays = {"prediction": batch.values(batch.prediction).T.double()}
            maps, recorded = [], {name: [] for name in self.extras}
            for method in self.methods:
                batch.recorded, batch.resolution, batch.layer = {}, method.resolution, ""
                found = method.function(batch, **self.options[method.name])
                maps.append(found if found.shape[-2:] == batch.grid else spread(found, batch.grid))
                self.resolutions[method.name].add(batch.resolution)
                if batch.layer:
                    self.layers[method.name][subject.name] = batch.layer
                declared = method.records(self.options[method.name])
                if set(batch.recorded) != set(declared):
                    raise FcxError(f"method {method.name!r} declares {declared}, recorded {[*batch.recorded]}")
                for extra, values in recorded.items():
                    values.append(batch.recorded.get(extra, torch.full_like(arrays["prediction"], torch.nan)))
            arrays |= {"attribution": torch.stack(maps)} | {extra: torch.stack(v) for extra, v in recorded.items()}
            return {name: values.detach().cpu().numpy() for name, values in arrays.items()}

    def subject(self, name: str) -> Subject:
        """Return a private copy of a model, ready to be explained, whatever state the caller's is in.

        Raises: InputError for a module that cannot be copied.
        """
        if self._subject is None or self._subject.name != name:
            self._subject = Subject.of(name, self.models[name], self.device, self.dtype)
        return self._subject


def _work(plan: Plan, store: Store | None, block: Block) -> dict | None:
    """Compute a block and write it to the store, or return it where there is none."""
    if store is None:
        return plan.block(block)
    if not store.done(block.number):
        store.write(plan.block(block))
    return None
