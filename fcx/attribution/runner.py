"""Runs models x conditions x methods over faces, block by block, into memory or a Zarr store."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm.std import tqdm

from fcx.attribution.gallery import Gallery
from fcx.attribution.methods import METHODS, Batch, Subject
from fcx.checkpoints import check_crop, check_size, resolve_models, weights_hash
from fcx.contract import TARGETS, FcxError, InputError, Store, check, choose, digest, open_store, provenance
from fcx.inference import usable_device
from fcx.model import FaceChannel

DEFAULT = ("lrp", "gradcam", "gradient", "mean_activation")
BLOCK = 64  # faces: what is written at once, and lost at most when a run is interrupted
DTYPES = {"float32": torch.float32, "float64": torch.float64}
PATIENCE = 2  # seconds, after which a bar is shown


def attribute(
    models,
    faces: xr.Dataset,
    methods=DEFAULT,
    targets=TARGETS,
    *,
    out=None,
    batch_size: int = BLOCK,
    device="cpu",
    dtype: str = "float32",
    seed: int = 0,
    overwrite: bool = False,
    **options,
) -> xr.Dataset:
    """Return a results Dataset with `prediction` and `attribution (model, condition, method, target, sample, y, x)`.

    `models` is what `fcx.checkpoints.resolve_models` takes, `faces` a faces Dataset; `methods` and `targets`
    are names, a list or comma-separated. Maps are in units of the output (the gradient: per unit of grey in
    [0, 1]; `mean_activation`: of the activation, for it explains no output) and explain it before the
    activation of a tanh head; they are never scaled, and NaN for faces that could not be used. Computed
    and stored as `dtype`, "float32" or "float64"; at most 64 faces at once.

    With `out` (a folder or an fsspec URL) the maps stream into a Zarr store, and the same call after an
    interruption goes on where it stopped; without, they stay in memory. `options` are those of the methods,
    such as `shunt_rule` ("signal_take_all", "aumann_shapley", "normalised_taylor") and `epsilon` of `lrp`;
    `seed` goes to methods that draw random numbers. The models that are given stay as they are: copies run.

    Raises: InputError for faces of another crop rule or size than a model's, for no faces, or for a model that
    a method cannot explain; UnknownNameError for a method, target, option or rule that does not exist;
    ContractError for a Dataset that holds no faces; StoreError where `out` holds something else.

    >>> results = attribute("plain_scratch", faces, "lrp,gradcam")  # doctest: +SKIP
    """
    methods, targets = _names(methods, METHODS, "method"), _names(targets, TARGETS, "target")
    options = _check_options(options, seed)
    choose(dtype, DTYPES, "dtype")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; allowed: 1 or more")
    device = usable_device(device)
    resolved = resolve_models(models)
    _check_inputs(resolved, faces, methods)
    weights = np.array([[name == target for name in TARGETS] for target in targets], float)
    plan = _Plan(resolved, faces, methods, weights, options, batch_size, device, DTYPES[dtype])
    plan.rehearse()
    variables, coords, chunks = _layout(resolved, faces, methods, targets, dtype)
    parameters = {"batch_size": batch_size, "device": str(device), "dtype": dtype, "seed": seed}
    attrs = _attrs(resolved, faces, methods, options, parameters)
    if out is None:
        store = _Memory(variables, coords, attrs, len(plan.blocks))
    else:
        settings = {"methods": attrs["methods"], "checkpoints": attrs["checkpoints"], "faces": _digest(faces)}
        store = Store(out, variables, coords, kind="results", blocks=len(plan.blocks), settings=settings,
                      attrs=attrs, chunks=chunks, overwrite=overwrite)  # fmt: skip
    plan.run(store)
    return store.finish()


def open_results(path) -> xr.Dataset:
    """Open a finished store of results, lazily.

    Raises: StoreError where there is none, where it was interrupted, or where it holds something else.

    >>> open_results("results.zarr")["attribution"].sel({"method": "lrp"})  # doctest: +SKIP
    """
    return open_store(path, "results")


def _names(given, allowed: Iterable[str], what: str) -> list[str]:
    names = [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)
    for name in names:
        choose(name, allowed, what)
    if not names or len(set(names)) < len(names):
        raise InputError(f"{what}s are {names}: give at least one, each once; allowed: {', '.join(allowed)}")
    return names


def _check_options(options: Mapping, seed: int) -> dict[str, dict]:
    """Return the options of every method, defaults filled in."""
    known = {name for method in METHODS.values() for name in method.options}
    for name in options:
        choose(name, sorted(known), "option of attribute")
    given = {**options, "seed": seed}
    return {name: {o: given.get(o, default) for o, default in m.options.items()} for name, m in METHODS.items()}


def _check_inputs(resolved: Mapping[str, nn.Module], faces, methods: list[str]) -> None:
    check(faces, "faces")
    status = faces["status"].values
    if not (status == "ok").any():
        reasons = ", ".join(sorted(set(status.astype(str).ravel()))) or "`sample` is empty"
        raise InputError(f"there is no face to explain: {reasons}")
    for name, model in resolved.items():
        check_crop(getattr(model, "metadata", {}), faces, f"the model {name!r}")
        check_size(model, faces)
        if any(tensor.is_meta for tensor in model.state_dict().values()):
            raise InputError(f"model {name!r} has no weights (they are on the device 'meta'): load them first")
        for method in methods:
            if not isinstance(model, needs := METHODS[method].needs):
                able = [other for other, m in METHODS.items() if isinstance(model, m.needs)]
                raise InputError(
                    f"method {method!r} explains a {needs.__name__}, and model {name!r} is a "
                    f"{type(model).__name__}: for it use {', '.join(able)}"
                )


def _extras(methods: list[str]) -> list[str]:
    """Return the names of what the methods record beside their maps, each once."""
    return list(dict.fromkeys(extra for name in methods for extra in METHODS[name].extras))


def _layout(resolved, faces, methods, targets, dtype) -> tuple[dict, dict, dict]:
    """Return the variables, coordinates and chunks of the results."""
    dims = ("model", "condition", "method", "target", "sample", "y", "x")
    variables = {
        "prediction": (("model", "condition", "target", "sample"), dtype),
        "attribution": (dims, dtype),
        **{extra: (dims[:5], dtype) for extra in _extras(methods)},
    }
    values = {"model": list(resolved), "condition": faces["condition"].values, "method": methods, "target": targets}
    values |= {dim: np.arange(faces.sizes[dim]) for dim in ("y", "x")}
    coords = {name: ((name,), np.asarray(value)) for name, value in values.items()}
    for name, coord in faces.coords.items():
        if coord.dims == ("sample",):
            text = coord.dtype.kind in "OT"  # fixed-width text is what a Zarr store keeps cleanly
            coords[name] = (("sample",), coord.values.astype(str) if text else coord.values)
    coords.setdefault("sample", (("sample",), np.arange(faces.sizes["sample"])))
    return variables, coords, {**dict.fromkeys(dims[:4], 1), "sample": BLOCK}


def _attrs(resolved, faces, methods, options, parameters) -> dict:
    attrs = {
        **{name: faces.attrs[name] for name in faces.attrs if name == "crop" or name.startswith("mask")},
        "methods": {name: {**METHODS[name].properties(), "options": options[name]} for name in methods},
        "checkpoints": {name: weights_hash(model.state_dict()) for name, model in resolved.items()},
        "provenance": provenance(step="attribute", **parameters, faces=faces.attrs.get("provenance", {})),
    }
    return json.loads(json.dumps(attrs, default=str))  # what a store can hold, in memory too


def _digest(faces) -> str:
    """Return a hash of what is explained: pictures and status, read in pieces."""
    pieces = [digest(faces["status"].values.astype(str))]
    for first in range(0, faces.sizes["sample"], BLOCK):
        pieces.append(digest(faces["image"].isel(sample=slice(first, first + BLOCK)).values))
    return digest(" ".join(pieces).encode())


class _Memory:
    """What `Store` is, in memory."""

    def __init__(self, variables: Mapping, coords: Mapping, attrs: Mapping, blocks: int):
        self.coords, self.attrs, self.blocks = coords, attrs, blocks
        self.values = {
            name: (dims, np.full([len(coords[dim][1]) for dim in dims], np.nan, dtype))
            for name, (dims, dtype) in variables.items()
        }

    def pending(self) -> list[int]:
        return list(range(self.blocks))

    def write(self, block: int, values: Mapping[str, tuple]) -> None:
        for name, (index, array) in values.items():
            self.values[name][1][index] = array

    def finish(self) -> xr.Dataset:
        return check(xr.Dataset(self.values, self.coords, self.attrs), "results")


@contextlib.contextmanager
def _own_mode(device: torch.device):
    """Compute gradients in full precision, whatever mode the caller is in."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        # A GPU's default for convolutions, TF32, keeps three digits: too few for relevance to be conserved.
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    ):
        yield


@dataclass
class _Plan:
    """What is to be computed: blocks of faces of one model and one condition."""

    models: Mapping[str, nn.Module]
    faces: xr.Dataset
    methods: list[str]
    weights: np.ndarray  # (target, output)
    options: Mapping[str, Mapping]
    batch_size: int
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self):
        self.gallery = Gallery(self.faces)
        self.good = self.gallery.good  # (condition, sample)
        count = self.faces.sizes["sample"]
        self.blocks = [
            (name, condition, slice(first, min(first + BLOCK, count)))
            for name in self.models
            for condition in range(len(self.good))
            for first in range(0, count, BLOCK)
        ]

    def rehearse(self) -> None:
        """Explain one face by every model, so that what cannot work fails before a store is laid out."""
        condition, sample = np.argwhere(self.good)[0]
        for name in self.models:
            self.explain(self.subject(name), condition, np.array([sample]))

    def run(self, store) -> None:
        """Compute the blocks that `store` still lacks."""
        subject, pending = None, store.pending()
        total = sum(
            int(self.good[condition, rows].sum()) for _, condition, rows in map(self.blocks.__getitem__, pending)
        )
        with tqdm(total=total, desc="attribute", unit="face", file=sys.stderr, delay=PATIENCE, leave=False) as bar:
            for number in pending:
                name, condition, rows = self.blocks[number]
                if subject is None or subject.name != name:
                    subject = self.subject(name)
                store.write(number, self.block(subject, condition, rows, bar))

    def block(self, subject: Subject, condition: int, rows: slice, bar) -> dict[str, tuple]:
        """Return the index and values of each variable for the faces `rows`, NaN where a face is unusable."""
        shape = (len(self.weights), rows.stop - rows.start)
        kind = str(self.dtype).removeprefix("torch.")
        made = {"prediction": np.full(shape, np.nan, kind)}
        made["attribution"] = np.full((len(self.methods), *shape, *self.faces["image"].shape[2:]), np.nan, kind)
        made |= {name: np.full((len(self.methods), *shape), np.nan, kind) for name in _extras(self.methods)}
        usable = rows.start + np.flatnonzero(self.good[condition, rows])
        for first in range(0, len(usable), self.batch_size):
            some = usable[first : first + self.batch_size]
            for name, values in self.explain(subject, condition, some).items():
                lead = (slice(None),) * (1 if name == "prediction" else 2)
                made[name][*lead, some - rows.start] = values
            bar.update(len(some))
        model = list(self.models).index(subject.name)
        lead = {name: 1 if name == "prediction" else 2 for name in made}  # dimensions before `sample`
        return {name: ((model, condition, *[slice(None)] * lead[name], rows), made[name]) for name in made}

    def explain(self, subject: Subject, condition: int, some: np.ndarray) -> dict[str, np.ndarray]:
        """Return prediction (target, sample), maps (method, target, sample, y, x), extras (method, target, sample)."""
        name = self.gallery.conditions[condition]
        images = self.gallery.images(name, some)
        with _own_mode(self.device):
            pixels = torch.from_numpy(images).to(self.device)[:, None].to(self.dtype) / 255
            batch = Batch(subject, pixels, torch.from_numpy(some).to(self.device),
                          torch.from_numpy(self.weights).to(pixels), gallery=self.gallery, condition=name)  # fmt: skip
            made = {"prediction": batch.values(batch.prediction).T}
            maps, recorded = [], {name: [] for name in _extras(self.methods)}
            for name in self.methods:
                batch.recorded = {}
                maps.append(METHODS[name].function(batch, **self.options[name]))
                if set(batch.recorded) != set(METHODS[name].extras):
                    raise FcxError(f"method {name!r} declares {METHODS[name].extras}, recorded {[*batch.recorded]}")
                for extra, values in recorded.items():
                    values.append(batch.recorded.get(extra, torch.full_like(made["prediction"], torch.nan)))
            made |= {"attribution": torch.stack(maps)} | {extra: torch.stack(v) for extra, v in recorded.items()}
            return {name: values.detach().cpu().numpy() for name, values in made.items()}

    def subject(self, name: str) -> Subject:
        """Return a private copy of a model, ready to be explained, whatever state the caller's is in.

        Raises: InputError for a module that cannot be copied.
        """
        with _own_mode(self.device):
            try:
                private = copy.deepcopy(self.models[name]).to(device=self.device, dtype=self.dtype).eval()
            except (RuntimeError, TypeError) as error:
                raise InputError(f"model {name!r} cannot be copied: {error}") from error
            for parameter in private.parameters():
                parameter.grad = None
                parameter.requires_grad_(False)
            if isinstance(private, FaceChannel):
                private.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        return Subject(name, private)
