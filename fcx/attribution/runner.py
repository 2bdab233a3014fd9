"""`attribute`: models x conditions x methods x targets over faces, into memory or a Zarr store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import xarray as xr

from fcx.attribution.lrp_rules import SHUNT_RULES
from fcx.attribution.plan import Plan
from fcx.attribution.registry import METHODS
from fcx.attribution.request import (
    check_models,
    chosen_names,
    method_options,
    model_targets,
    share_of_work,
    tell_lacking,
)
from fcx.attribution.storage import MAPS_A_BLOCK, STEPS, Memory, decoded, layout
from fcx.core.arguments import Count, FilePath, Seed, Switch, Word, Words, Workers, checked
from fcx.core.checks import choose
from fcx.core.contract import Faces
from fcx.core.files import digest
from fcx.core.provenance import flat_attrs, nested_attr, run_provenance
from fcx.core.store import Store
from fcx.core.targets import Target
from fcx.networks.checkpoints import network_hash
from fcx.networks.inference import family_of, usable_device
from fcx.networks.inputs import declarations, read_variable
from fcx.networks.resolving import Models, resolve_models
from fcx.statistics.overlays import region_names

DEFAULT = ("lrp_gamma", "gradient")  # what finds the truth where it is known: docs/validity.md
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@checked
def attribute(models: Models, faces: Faces, methods: Words = DEFAULT, targets: str | Iterable[str] | None = None, *,
              out: FilePath | None = None, batch_size: Count = MAPS_A_BLOCK, device: str | torch.device = "cpu",
              dtype: str = "float32", seed: Seed = 0, overwrite: Switch = False, store: Word = "",
              maps: Switch = True, statistics: Switch | None = None, workers: Workers = 1, rank: int | None = None,
              ranks: int | None = None, **options: object) -> xr.Dataset:  # fmt: skip
    """Return a results Dataset with `prediction` and `attribution (model, condition, method, target, sample, y, x)`.

    `models` is what `fcx.networks.resolving.resolve_models` takes, `faces` a faces Dataset; `methods` are names,
    a list or comma-separated, and so are `targets`: outputs, quadrants or linear expressions, with or without a
    reference value (see `fcx.core.targets`); None is every output. A target is NaN for a model that lacks one of its
    outputs; the attribute `outputs` says which model has which. A reference changes the maps of methods with the
    property `relative` only: a gradient of f - 0.2 is that of f. Maps are on the grid of the faces, into which those of
    networks that read finer pictures or colours are summed. They are never scaled, explain the output before the
    activation of a tanh head, and are NaN for faces that could not be used; the attributes say in what units they are.
    Computed as `dtype`, "float32" or "float64"; at most `batch_size` faces at once, of a FaceChannel always eight,
    so that a map depends on no other face. What a method records beside its maps is a variable (model, condition,
    method, target, sample); these and `prediction` are float64 in either case, so that the ledger of LRP adds up.

    With `out` (a folder) everything streams into a Zarr store, and the same call after an
    interruption goes on where it stopped; without, it stays in memory. `store` is how maps are kept: as they are
    computed (""), or as "float32", "float16" or "int8", the last two with a scale and the measured largest error
    for each map (`attribution_error`); they read as float32. `statistics` adds those of
    `fcx.statistics.map_scores.QUANTITIES` (..., sample, region), computed before that; by default where maps are
    compressed, or not kept at all (`maps=False`).

    `workers` processes of one thread each share the work. The same call may also run in several processes or on
    several machines, each with its `rank` out of `ranks` (default: RANK and WORLD_SIZE of the environment, as
    torchrun and accelerate set them); all write to one store, what one of them does not finish the others
    do, and each returns the whole. `options` are those of the methods, such as `shunt_rule` and `epsilon` of
    `lrp`; `seed` goes to methods that draw random numbers. The models that are given stay as they are: copies run.

    Raises: InputError for faces of another crop rule or size than a model's, for no faces, or for a model that
    a method cannot explain; UnknownNameError for a method, target, option or rule that does not exist;
    ContractError for a Dataset that holds no faces; StoreError where `out` holds something else, or is a URL.

    >>> results = attribute("plain_scratch", faces, "lrp,gradcam")  # doctest: +SKIP
    """
    methods = chosen_names(methods, METHODS, "method")
    options = method_options(options, seed)
    kept = choose(store or choose(dtype, DTYPES, "dtype"), [*DTYPES, *STEPS], "store")
    rank, ranks = share_of_work(rank, ranks, out, overwrite)
    device, resolved = usable_device(device), resolve_models(models)
    targets = model_targets(resolved, targets)
    check_models(resolved, faces, methods)
    tell_lacking(resolved, targets)
    chosen = [METHODS[name] for name in methods]
    read = [read_variable(model, faces) for model in resolved.values()]
    needed = [name for name in dict.fromkeys(("image", "alpha", "regions", "status", *read)) if name in faces]
    statistics = (not maps or kept in STEPS) if statistics is None else statistics
    coords = _coords(resolved, faces, methods, targets)
    variables = layout(coords, chosen, options, kept=kept, maps=maps, statistics=statistics)
    used = {dim for dims, _, _ in variables.values() for dim in dims}
    coords = {name: (dims, values) for name, (dims, values) in coords.items() if used.issuperset(dims)}
    plan = Plan(resolved, faces[needed], chosen, targets, options, batch_size, device, DTYPES[dtype], variables)
    facts = plan.rehearse()
    parameters = {"batch_size": batch_size, "device": str(device), "dtype": dtype, "seed": seed, "workers": workers}
    attrs = _attrs(resolved, faces, chosen, targets, options, facts, parameters)
    if out is None:
        results = Memory(variables, coords, attrs, len(plan.blocks()))
    else:
        settings = {name: attrs[name] for name in ("targets", "checkpoints")}
        settings["methods"] = {name: options[name] for name in methods}  # not their words
        settings["faces"] = _digest(faces[needed])
        chunks = {**dict.fromkeys(("model", "condition", "method", "target"), 1), "sample": MAPS_A_BLOCK}
        results = Store(out, variables, coords, kind="results", blocks=("model", "sample", "condition"), attrs=attrs,
                        chunks=chunks, settings=settings, overwrite=overwrite)  # fmt: skip
    plan.run(results, workers, rank, ranks)
    return decoded(results.finish())


@checked
def check_request(models: Models, methods: Words, targets, *, out: FilePath, batch_size: Count, device, store: Word,
                  workers: Workers, rank, ranks, overwrite: Switch, shunt_rule: str) -> None:  # fmt: skip
    """Refuse what `attribute` refuses of anything but faces: before faces are prepared for it.

    Raises: as `attribute`.
    """
    (
        chosen_names(methods, METHODS, "method"),
        model_targets(resolve_models(models), targets),
        choose(shunt_rule, SHUNT_RULES, "shunt rule"),
    )
    choose(store or "float32", [*DTYPES, *STEPS], "store"), usable_device(device)
    share_of_work(rank, ranks, out, overwrite)


def _coords(resolved, faces, methods, targets: list[Target]) -> dict:
    """Return the coordinates of the results as name -> (dims, values)."""
    values = {
        "model": list(resolved), "condition": faces["condition"].values, "method": methods,
        "target": [target.name for target in targets], "region": region_names(faces),
    }  # fmt: skip
    values |= {dim: np.arange(faces.sizes[dim]) for dim in ("y", "x")}
    coords = {name: ((name,), np.asarray(value)) for name, value in values.items()}
    families = zip(*(family_of(name, model) for name, model in resolved.items()), strict=True)
    coords |= {name: (("model",), np.asarray(of)) for name, of in zip(("family", "seed"), families, strict=True)}
    for name, coord in faces.coords.items():
        if coord.dims == ("sample",):
            text = coord.dtype.kind in "OT"  # fixed-width text is what a Zarr store keeps cleanly
            coords[name] = (("sample",), coord.values.astype(str) if text else coord.values)
    coords.setdefault("sample", (("sample",), np.arange(faces.sizes["sample"])))
    return coords


def _attrs(resolved, faces, methods, targets: list[Target], options, facts, parameters) -> dict:
    attrs = {
        **{name: faces.attrs[name] for name in faces.attrs if name == "crop" or name.startswith("mask")},
        "methods": {m.name: {**m.properties(), **facts[m.name], "options": options[m.name]} for m in methods},
        "targets": {
            target.name: {
                "weights": dict(zip(target.outputs, target.weights, strict=True)),
                "reference": target.reference,
            }
            for target in targets
        },
        "outputs": declarations(resolved),
        "checkpoints": {name: network_hash(model) for name, model in resolved.items()},
        "provenance": run_provenance(step="attribute", **parameters, faces=nested_attr(faces, "provenance")),
    }
    return flat_attrs({**attrs, "kind": "results"})


def _digest(faces) -> str:
    """Return a hash of what is explained: pictures that are read, regions and status, in pieces."""
    pieces = [digest(faces["status"].values.astype(str))]
    for first in range(0, faces.sizes["sample"], MAPS_A_BLOCK):
        some = faces.drop_vars("status").isel(sample=slice(first, first + MAPS_A_BLOCK))
        pieces += [digest(values.values) for values in some.values()]
    return digest(" ".join(pieces).encode())
