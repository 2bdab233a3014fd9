"""Are attribution maps of a regression true to the model? Several measures, each beside two controls.

`MEASURES` is the registry (`fcx.faithfulness.measures` says how to add one): deletion and insertion, ROAD, effects of
regions (`fcx.faithfulness.removal`); completeness, sensitivity to noise, random weights, shuffled labels
(`fcx.faithfulness.randomisation`). A control ("random", "edges") knows nothing of the model: a method that does not
beat both has shown nothing. Values are in units of the output unless the coordinate `unit` says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from functools import partial

import numpy as np
import torch
import xarray as xr
from tqdm.std import tqdm

from fcx.attribution.batch import Batch, Subject, own_mode
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.fills import FILLS
from fcx.attribution.registry import METHODS
from fcx.attribution.request import check_models, check_needs, chosen_names, model_targets, tell_lacking
from fcx.attribution.runner import DEFAULT, DTYPES
from fcx.core.arguments import Count, Names, Seed, Words, checked
from fcx.core.checks import choose, real_number, whole_number
from fcx.core.contract import Faces, column, usable
from fcx.core.errors import InputError
from fcx.core.provenance import flat_attrs, run_provenance
from fcx.faithfulness.measures import (
    CONTROLS,
    MEASURES,
    MeasureOptions,
    Scene,
    Trial,
    described_methods,
    labelled_methods,
)  # fmt: skip
from fcx.networks.checkpoints import network_hash
from fcx.networks.inference import piece_size, pieces, usable_device
from fcx.networks.inputs import outputs_of
from fcx.networks.resolving import resolve_models
from fcx.statistics.bootstrap import INTERVAL, estimates, means

SCORE_DIMS = ("model", "condition", "method", "target", "measure", "sample")
PATIENCE = 2  # seconds, after which a bar is shown
LEAST = {"steps": 1, "orders": 1, "perturbations": 1, "stages": 1, "bins": 2, "seed": 0}


@checked
def faithfulness_scores(models, faces: Faces, methods=DEFAULT, measures: Words | None = None, targets=None, *,
                        count: Count | None = 64, shuffled: Names | None = None, batch_size: Count = 64, device="cpu",
                        dtype: str = "float32", draws: Count = 2000, seed: Seed = 0,
                        **settings) -> xr.Dataset:  # fmt: skip
    """Return what each measure says of each method: `value (model, condition, method, target, measure, sample)`.

    `mean`, `low` and `high` (..., measure) are over faces, with 95 % bootstrap intervals over subjects;
    `n` counts the faces with a value. Coordinates of `measure` are `family`, `unit` and `best` (high, low or
    zero); `control` says which methods are controls: "random" and "edges" are always there.

    `models` and `targets` are as in `attribute`. `methods` are names, or a dict from a label to (name, options), so
    that one method may stand there with several options. `measures` are names in `MEASURES`; None is all of them,
    "shuffled_labels" only where `shuffled` is given: a dict from names of models to torch modules that were trained
    on shuffled labels. `count` faces are drawn from those that are usable in every condition; None takes all, with
    NaN for those that are not usable. A value depends on `seed` and the face, not on `batch_size`. What is removed are
    pixels as a model reads them, of all its colours. A target is NaN for a model that lacks one of its outputs. A
    method that refuses a model is left out for it, or for a measure, unless it was given options: its values are NaN,
    and the attribute `refused` says why, label -> model -> reason.

    `settings`: `fills` for removed pixels ("black", "grey", "mean", "blur", "mask"), `steps` of a removal curve,
    random `orders` that it is compared with, `percentages` removed for ROAD, `radius` (grey in [0, 1]) and number
    of `perturbations` for the sensitivity, `stages` of the cascade of random weights that are looked at, `bins`
    of the histogram whose entropy is compared.

    Raises: UnknownNameError for a model, method, measure, target, fill or setting that does not exist; InputError
    for numbers out of range, for faces of another crop rule than a model's, where no face is usable, and where no
    method explains a model.

    >>> faithfulness_scores("plain_scratch", faces, "lrp,gradcam", "deletion")["mean"]  # doctest: +SKIP
    """
    settled, measures = _settings(settings, seed), _measures(measures, shuffled)
    explainers, fixed = _explainers(methods, seed)
    kind, device = DTYPES[choose(dtype, DTYPES, "dtype")], usable_device(device)
    resolved, rivals = resolve_models(models), resolve_models(dict(shuffled)) if shuffled else {}
    for name in rivals:
        choose(name, resolved, "model that `shuffled` has a twin of")
    for every in (resolved, rivals):
        check_models(every, faces, ())
    targets = model_targets(resolved, targets)
    tell_lacking(resolved, targets)
    rows = _rows(faces, count, seed)
    lead = (len(resolved), faces.sizes["condition"], len(explainers), len(targets))
    values: dict[str, np.ndarray] = {}
    refusals = Refusals(list(explainers), fixed)
    total = len(resolved) * len(explainers) * int((faces["status"].values[:, rows] == "ok").sum())
    bar = tqdm(total=total, desc="faithfulness", unit="face", file=sys.stderr, delay=PATIENCE, leave=False)
    with own_mode(device), bar:
        for scene, (m, c, own, some) in _scenes(resolved, rivals, faces, rows, targets, settled, batch_size, device,
                                                kind):  # fmt: skip
            for e, (label, explainer) in enumerate(explainers.items()):
                for name, scores in _scores(scene, *explainer, measures, partial(refusals.note, label)):
                    kept = values.setdefault(name, np.full((*lead, len(rows)), np.nan))
                    kept[m, c, e][np.ix_(own, some)] = scores[:, : len(some)].double().cpu().numpy()
                bar.update(len(some))
    coords = {
        "model": list(resolved), "condition": faces["condition"].values, "method": list(explainers),
        "target": [target.name for target in targets],
        "control": ("method", [name in CONTROLS for name, _ in explainers.values()]),
    }  # fmt: skip
    attrs = {
        **{name: faces.attrs[name] for name in faces.attrs if name == "crop" or name.startswith("mask")},
        "methods": described_methods(explainers),
        "checkpoints": {name: network_hash(model) for name, model in resolved.items()},
        "refused": refusals.reasons,
        "settings": asdict(settled),
        "interval": INTERVAL,
        "provenance": run_provenance(step="faithfulness", dtype=dtype, seed=seed, draws=draws),
    }
    return _summary(values, coords, faces.isel(sample=rows), draws, seed, flat_attrs(attrs))


class Refusals:
    """Which methods refuse which models, label -> model, or model and measure -> reason."""

    def __init__(self, labels: list[str], fixed: set[str]):
        self.labels, self.fixed = labels, fixed
        self.reasons: dict[str, dict[str, str]] = {}

    def note(self, label: str, model: str, error: InputError) -> None:
        """Leave a method out for a model.

        Raises: the error, of controls and of methods that were given options, or where no method is left.
        """
        if label in self.fixed:
            raise error
        self.reasons.setdefault(label, {}).setdefault(model, str(error))
        if all(model in self.reasons.get(other, ()) for other in self.labels if other not in CONTROLS):
            raise error


def _scores(scene: Scene, name: str, options: Mapping, measures: list[str], refuse) -> Iterator:
    """Yield ("family measure", values (target, sample)) of one method for the faces of a scene.

    `refuse` is called with the model, or the model and the measure, and the error, where the method refuses it.
    """
    subject = scene.batch.subject
    trial = Trial(scene, METHODS[name].function if name in METHODS else CONTROLS[name], options)
    try:
        if name in METHODS:
            check_needs(name, subject.name, subject.model)
        trial.maps  # noqa: B018  what measures share
    except InputError as error:
        return refuse(subject.name, error)
    for family in measures:
        try:
            parts = MEASURES[family].function(trial)
        except InputError as error:  # of the model with other weights
            refuse(f"{subject.name}, {family}", error)
            continue
        for part, scores in parts.items():
            yield f"{family} {part}", scores


@checked
def contrast(scores: xr.Dataset, a: str, b: str, *, draws: Count = 2000, seed: Seed = 0) -> xr.Dataset:
    """Return the paired difference of two methods, a - b: difference, low, high, n (..., target, measure).

    Faces count for which both have a value; 95 % bootstrap intervals over subjects.

    Raises: UnknownNameError for a method that is not in `scores`.

    >>> contrast(scores, "lrp", "random")["low"] > 0  # doctest: +SKIP
    """
    for name in (a, b):
        choose(name, [str(method) for method in scores["method"].values], "method")
    one, other = (scores["value"].sel({"method": name}, drop=True) for name in (a, b))
    made = _intervals(one - other, column(scores, "subject"), draws, seed)
    return made.rename(mean="difference").assign_coords(a=a, b=b)


def _summary(values: dict[str, np.ndarray], coords: dict, faces, draws: int, seed: int, attrs: dict) -> xr.Dataset:
    """Return the scores (name of a measure -> (model, condition, method, target, sample)) with means and intervals."""
    families, parts = zip(*(name.split(" ") for name in values), strict=True)
    value = xr.DataArray(np.stack(list(values.values()), axis=-2), coords, SCORE_DIMS)
    value = value.assign_coords(
        measure=list(parts),
        family=("measure", list(families)),
        unit=("measure", [MEASURES[name].unit for name in families]),
        best=("measure", [MEASURES[name].best for name in families]),
        **{name: ("sample", coord.values) for name, coord in faces.coords.items() if coord.dims == ("sample",)},
    )
    table = _intervals(value, column(faces, "subject"), draws, seed)
    return table.assign(value=value).assign_attrs(attrs)


def _intervals(values: xr.DataArray, subjects: np.ndarray, draws: int, seed: int) -> xr.Dataset:
    """Return mean, low, high and n over samples of values (..., sample), NaN left out; one draw serves all."""
    made = estimates(*means(values, subjects, draws, seed), "mean", "low", "high")
    return xr.Dataset(made).assign(n=np.isfinite(values).sum("sample"))


def _scenes(resolved, rivals, faces, rows, targets, settings, batch_size, device, dtype):
    """Yield (scene, (model, condition, targets, samples)) for each batch of usable faces."""
    reader = FaceReader(faces)
    for m, name in enumerate(resolved):
        has = outputs_of(resolved[name])
        if not (own := [number for number, target in enumerate(targets) if target.of_outputs(has)]):
            continue
        weights, reference = (
            torch.tensor(values, dtype=dtype, device=device)
            for values in ([[targets[t].needs.get(output, 0.0) for output in has] for t in own],
                           [targets[t].reference for t in own])
        )  # fmt: skip
        subject = Subject.of(name, resolved[name], device, dtype)
        rival = Subject.of(name, rivals[name], device, dtype) if name in rivals else None
        for c, condition in enumerate(reader.conditions):
            usable_rows = np.flatnonzero(reader.good[c, rows])
            for piece, count in pieces(len(usable_rows), piece_size(subject.model, batch_size)):
                some = usable_rows[piece]
                images = reader.pixels(condition, rows[some], subject.model, weights)
                place = torch.from_numpy(rows[some]).to(device)
                batch = Batch(subject, images, place, weights, reference, reader=reader, condition=condition)
                yield Scene(batch, settings, rival), (m, c, own, some[:count])


def _rows(faces, count: int | None, seed: int) -> np.ndarray:
    """Return which faces are measured, in their order."""
    if count is None:
        return np.arange(faces.sizes["sample"])
    whole_number(count, "count")
    able = np.flatnonzero(usable(faces))
    if not len(able):
        raise InputError("no face is usable in every condition: select one condition, or prepare the faces again")
    return np.sort(np.random.default_rng(seed).permutation(able)[:count])


def _explainers(methods, seed: int) -> tuple[dict[str, tuple[str, dict]], set[str]]:
    """Return label -> (name, options with defaults filled in) of the methods, then of the controls, and the labels of
    controls and of methods whose options were given."""
    explainers, fixed = {}, set(CONTROLS)
    for label, (name, options) in labelled_methods(methods).items():
        given = {**options, "seed": seed}
        explainers[label] = name, {o: given.get(o, default) for o, default in METHODS[name].options.items()}
        fixed |= {label} if options else set()
    return explainers | {name: (name, {"seed": seed}) for name in CONTROLS}, fixed


def _measures(measures, shuffled) -> list[str]:
    if measures is None:
        return [name for name in MEASURES if shuffled or name != "shuffled_labels"]
    return chosen_names(measures, MEASURES, "measure")


def _settings(given: Mapping, seed: int) -> MeasureOptions:
    """Return the settings, checked."""
    known = [f.name for f in fields(MeasureOptions) if f.name != "seed"]
    for name in given:
        choose(name, known, "setting of faithfulness")
    settings = {**asdict(MeasureOptions()), **given, "seed": seed}
    for name in LEAST:
        whole_number(settings[name], name, LEAST[name])
    settings["fills"] = tuple(chosen_names(settings["fills"], FILLS, "fill"))
    settings["percentages"] = tuple(settings["percentages"])
    if not settings["percentages"] or not all(0 < p < 100 for p in settings["percentages"]):
        raise InputError(f"percentages are {settings['percentages']}; allowed: numbers above 0 and below 100")
    real_number(settings["radius"], "radius", high=1, above=0, unit="of grey in [0, 1]")
    return MeasureOptions(**settings)
