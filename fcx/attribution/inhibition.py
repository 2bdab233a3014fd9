"""How much of an explanation is inhibition: the relevance that the shunt hands to I, by region of the face."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from fcx.attribution.batch import Subject
from fcx.attribution.cam import CELL
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.lrp_engine import Engine
from fcx.attribution.lrp_operations import as_shunt
from fcx.attribution.lrp_rules import SHUNT_RULES, Rule
from fcx.attribution.lrp_sweep import Sweep
from fcx.attribution.request import check_models
from fcx.core.arguments import checked
from fcx.core.contract import TARGETS, Faces
from fcx.core.provenance import flat_attrs, run_provenance
from fcx.networks.checkpoints import network_hash
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import PIECE, pieces
from fcx.networks.resolving import Models, resolve_models
from fcx.statistics.overlays import region_names


@checked
def inhibition_index(models: Models, faces: Faces, *, shunt_rule: str = "aumann_shapley") -> xr.DataArray:
    """Return sum |R_I| / sum |R_y| at the shunt, (model, condition, target, sample, region), 0 where I is silent.

    Both sums are over the channels of the cells of 8x8 pixels of a region, each weighted by how much of the cell
    the region covers; region `mask` is the alpha of the masked twin. R_I = -k R_y, so the index is a mean of
    k(I / a) weighted by relevance: it depends on `shunt_rule`, a name in `SHUNT_RULES`. NaN for models without
    inhibition, for faces that could not be used, for regions that cover nothing or have no relevance.

    Raises: InputError for a model of another crop rule or size than the faces;
    UnknownNameError for another rule; ContractError for a Dataset that holds no faces.

    >>> inhibition_index("plain_scratch", faces).sel(region="mouth").median("sample")  # doctest: +SKIP
    """
    rule, resolved = Rule(shunt=shunt_rule), resolve_models(models)
    check_models(resolved, faces, ())
    reader, regions = FaceReader(faces), region_names(faces)
    index = np.full((len(resolved), *reader.good.shape, len(TARGETS), len(regions)), np.nan)
    for m, (name, model) in enumerate(resolved.items()):
        if not isinstance(model, FaceChannel) or model.config.shunt == "none":
            continue
        wide = model.head.weight.dtype == torch.float64
        subject = Subject.of(name, model, torch.device("cpu"), torch.float64 if wide else torch.float32)
        engine = subject.once(Engine)
        for c, condition in enumerate(reader.conditions):
            rows = np.flatnonzero(reader.good[c])
            for piece, count in pieces(len(rows), PIECE):
                some = rows[piece]
                images = reader.pixels(condition, some, model, engine.model.head.weight)
                values = _index(engine, images, reader.cover(some), rule)
                index[m, c, some[:count]] = values[:count]
    coords = {name: coord for name, coord in faces.coords.items() if coord.dims in (("sample",), ("condition",))}
    attrs = {
        "long_name": "inhibition index: absolute relevance of I over that of y",
        "checkpoints": {name: network_hash(model) for name, model in resolved.items()},
        "provenance": run_provenance(step="inhibition_index", shunt_rule=shunt_rule),
    }
    return xr.DataArray(
        index.swapaxes(2, 3),
        {**coords, "model": list(resolved), "target": list(TARGETS), "region": regions},
        ("model", "condition", "target", "sample", "region"),
        "inhibition_index",
        flat_attrs(attrs),
    )


def _index(engine: Engine, images: torch.Tensor, cover: np.ndarray, rule: Rule) -> np.ndarray:
    """Return (sample, target, region) for images (sample, 1, y, x) and cover (sample, region, y, x)."""
    tape = engine.tape(images)
    map_ = tape.marks["features"]
    sweep = Sweep(tape, torch.eye(len(TARGETS)).to(images), rule).start().run(map_)
    of_map = sweep.take(map_).times(map_.tensor).whole.abs()
    decay, inhibition = as_shunt(map_.node.args[1])
    k = SHUNT_RULES[rule.shunt](inhibition.tensor / decay)
    parts = [v.sum(2).double().cpu().numpy() for v in (k * of_map, of_map)]  # (target, sample, row, column)
    rows, columns = (size // CELL for size in cover.shape[-2:])
    cells = cover.reshape(*cover.shape[:2], rows, CELL, columns, CELL).mean((3, 5))
    of_inhibition, of_output = (np.einsum("tsyx,sryx->str", part, cells) for part in parts)
    return of_inhibition / np.where(of_output > 0, of_output, np.nan)
