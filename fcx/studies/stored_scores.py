"""Predictions with ids and labels, kept so that anyone can recompute what is said of them.

A file holds the models of one part of the experiment on one set of faces: `SET-PART.zarr` as xarray reads it, and the
same as `SET-PART.csv.gz`, a row for each face and condition, a column for each model and target.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.arguments import FilePath, checked
from fcx.core.contract import REGIONS, SIZES, TARGETS, column, family_and_seed, usable
from fcx.core.errors import InputError, StoreError
from fcx.core.files import replacing, temporary_name
from fcx.core.provenance import flat_attrs, nested_attr
from fcx.core.reading import open_store

WORDS = ("expression", "subject", "split", "source")  # what is known of a face, beside its labels
CSV, ZARR = ".csv.gz", ".zarr"
DIGITS = 4  # of predictions in the table
CEILINGS = ["set", "target", "half", "full", "network", "n"]


@dataclass
class Study:
    """What an experiment leaves: how each network was trained, its learning curves, and (set, part) -> predictions.

    `ceilings` says how high a CCC can be where votes are known: set, target, half, full, network, n, of
    `fcx.statistics.noise_ceiling.vote_ceiling`.
    """

    trainings: pd.DataFrame
    curves: pd.DataFrame
    scores: dict[tuple[str, str], xr.Dataset]
    ceilings: pd.DataFrame


def study_of(study: Study, names: Iterable[str]) -> Study:
    """Return of a study what is of some trainings, and of no smaller networks; a family stands for its trainings."""
    names, scores = set(names), {}

    def named(name: str) -> bool:
        return name in names or family_and_seed(name)[0] in names

    for (of_set, part), predicted in study.scores.items():
        ends = [re.sub("@[^-]*", "", str(name)) for name in predicted["model"].values]  # of "tuned@0.25-1"
        if part == "forgetting":  # which is told from the plain network of the same seed
            kept = [named(end) and named(f"plain_scratch-{family_and_seed(end)[1] + 1}") for end in ends]
        else:
            kept = [part == "table2" and named(end) for end in ends]
        if any(kept):
            scores[of_set, part] = predicted.isel(model=kept)
    trainings = study.trainings
    trainings = trainings[trainings["name"].isin(names) | trainings["family"].isin(names)]
    curves = study.curves[study.curves["name"].isin(trainings["name"])]
    return replace(study, trainings=trainings, curves=curves, scores=scores)


@checked
def read_study(folder: FilePath) -> Study:
    """Return what `experiment` left in a folder of scores.

    Raises: InputError where nothing is there, or something else.

    >>> read_study("experiment/scores").scores["validation", "table2"]  # doctest: +SKIP
    """
    folder = Path(folder)
    if not (folder / "trainings.csv").is_file():
        raise InputError(f"{folder} holds no scores: give the folder 'scores' that fcx experiment wrote")
    trainings, curves = (pd.read_csv(folder / f"{name}.csv") for name in ("trainings", "curves"))
    known = (folder / "ceilings.csv").is_file()
    ceilings = pd.read_csv(folder / "ceilings.csv") if known else pd.DataFrame(columns=CEILINGS)
    return Study(trainings, curves, _read_scores(folder), ceilings)


def scored(hashes: Mapping[str, str], faces, path: Path, predicted: Callable) -> xr.Dataset:
    """Return the predictions of models for `faces`, kept at `path` (without suffix).

    `hashes` maps the name of a model to what identifies its weights; predictions of the same weights for the same
    faces that are there already are taken as they are, others come from `predicted` (name -> results). An
    interrupted call goes on after the last model that was done.
    """
    finished, unfinished = Path(f"{path}{ZARR}"), path.with_name(f".{path.name}{ZARR}")
    known = [scores for scores in (_known(place, faces) for place in (finished, unfinished)) if scores is not None]
    parts, made = {}, None
    for name, weights in hashes.items():
        there = [scores for scores in known if nested_attr(scores, "checkpoints").get(name) == weights]
        results = there[0].sel(model=[name]) if there else predicted(name)
        parts[name] = _bare(results["prediction"])
        made = _with_labels(xr.concat(list(parts.values()), "model"), faces)
        weights_of = {done: hashes[done] for done in parts}
        made = made.assign_attrs(flat_attrs({**results.attrs, "kind": "results", "checkpoints": weights_of}))
        if not there:
            _write_zarr(made, unfinished)
    save_scores(made, path)
    shutil.rmtree(unfinished, ignore_errors=True)
    return made


def _bare(prediction: xr.DataArray) -> xr.DataArray:
    """Return predictions with the names of their dimensions only."""
    beside = [name for name in prediction.coords if name not in prediction.dims]
    return prediction.drop_vars(beside).astype("f8").transpose("model", "condition", "target", "sample")


def _with_labels(prediction: xr.DataArray, faces) -> xr.Dataset:
    """Return predictions with what has to be known to judge them: labels, expressions, subjects and status."""
    names = prediction["model"].values.tolist()
    family, seed = zip(*map(family_and_seed, names), strict=True)
    status = faces["status"].values.astype(str)
    return xr.Dataset(
        {
            "prediction": prediction,
            "status": (("condition", "sample"), status),
            **{name: ("sample", faces[name].values.astype("f8")) for name in TARGETS},
        },
        coords={
            "family": ("model", list(family)), "seed": ("model", list(seed)),
            **{name: ("sample", column(faces, name)) for name in WORDS},
        },
    )  # fmt: skip


def _known(place: Path, faces) -> xr.Dataset | None:
    """Return predictions that are kept in a Zarr for the same faces, else None."""
    if not place.exists():
        return None
    try:
        known = open_scores(place)
    except (StoreError, InputError):
        return None  # half of one, or what another version wrote: it is made again
    same = [known[name].values.tolist() == faces[name].values.astype(str).tolist()
            for name in ("sample", "condition", "status") if known[name].shape == faces[name].shape]  # fmt: skip
    labels = [np.array_equal(known[name].values, faces[name].values.astype("f8"), equal_nan=True) for name in TARGETS]
    return known if len(same) == 3 and all(same) and all(labels) else None


def save_scores(scores: xr.Dataset, path: Path) -> None:
    """Write scores as `path`.zarr and as a table, `path`.csv.gz, each whole or not at all."""
    _write_zarr(scores, Path(f"{path}{ZARR}"))
    with replacing(Path(f"{path}{CSV}")) as temporary:
        # Without the time in gzip's header the same numbers give the same bytes.
        scores_table(scores).to_csv(temporary, index=False, lineterminator="\n", float_format=f"%.{DIGITS}f",
                                    compression={"method": "gzip", "mtime": 0})  # fmt: skip


def _write_zarr(scores: xr.Dataset, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    new, old = temporary_name(place), temporary_name(place)
    try:
        scores.to_zarr(new, mode="w", zarr_format=2, consolidated=True)
        if place.exists():
            os.rename(place, old)
        os.rename(new, place)
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def scores_table(scores: xr.Dataset) -> pd.DataFrame:
    """Return predictions with ids and labels as a table: a row for each face and condition.

    Columns: sample, condition, status, expression, subject, split, source, the labels arousal and valence, and
    MODEL:TARGET for each model and target.
    """
    conditions, samples = scores["condition"].values, scores["sample"].values
    rows = {"sample": np.tile(samples, len(conditions)), "condition": np.repeat(conditions, len(samples)),
            "status": scores["status"].values.ravel()}  # fmt: skip
    rows |= {name: np.tile(scores[name].values, len(conditions)) for name in (*WORDS, *TARGETS)}
    for model in scores["model"].values:
        for target in TARGETS:
            rows[f"{model}:{target}"] = scores["prediction"].sel(model=model, target=target).values.ravel()
    return pd.DataFrame(rows)


def open_scores(path: str | Path) -> xr.Dataset:
    """Return the predictions that a file holds, a .zarr or a .csv.gz: `prediction`, `status`, labels, family and seed.

    Raises: StoreError, InputError where it holds something else.
    """
    if str(path).endswith(ZARR):
        scores = open_store(path, "results").load()
        if missing := [name for name in ("status", *TARGETS, "family", "seed") if name not in scores.variables]:
            raise InputError(f"{path} holds results without {missing[0]!r}: give predictions that fcx experiment wrote")
        return scores
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values={c: [""] for c in TARGETS}, low_memory=False)
        return _scores_of_table(table)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no predictions that fcx experiment wrote: {error}") from error


def _scores_of_table(table: pd.DataFrame) -> xr.Dataset:
    conditions, samples = (table[name].drop_duplicates().tolist() for name in ("condition", "sample"))
    models = list(dict.fromkeys(name.rpartition(":")[0] for name in table.columns if ":" in name))
    cube = table.set_index(["condition", "sample"]).loc[pd.MultiIndex.from_product([conditions, samples])]
    shape = len(conditions), len(samples)
    values = [[pd.to_numeric(cube[f"{model}:{target}"]).to_numpy("f8").reshape(shape) for target in TARGETS]
              for model in models]  # fmt: skip
    first = cube.loc[conditions[0]]
    family, seed = zip(*map(family_and_seed, models), strict=True)
    return xr.Dataset(
        {
            "prediction": (("model", "target", "condition", "sample"), np.array(values)),
            "status": (("condition", "sample"), cube["status"].to_numpy(str).reshape(shape)),
            **{name: ("sample", pd.to_numeric(first[name]).to_numpy("f8")) for name in TARGETS},
        },
        coords={
            "model": models, "condition": conditions, "target": list(TARGETS), "sample": [str(s) for s in samples],
            "family": ("model", list(family)), "seed": ("model", list(seed)),
            **{name: ("sample", first[name].to_numpy(str)) for name in WORDS},
        },
    ).transpose("model", "condition", "target", "sample")  # fmt: skip


def labelled_faces(scores: xr.Dataset) -> xr.Dataset:
    """Return the faces of predictions as a faces Dataset with labels and status, but without pixels or landmarks.

    It is what statistics of predictions take as faces, wherever the pictures are.
    """
    count, conditions = scores.sizes["sample"], scores.sizes["condition"]
    empty = np.empty((conditions, count, 0, 0), np.uint8)
    nowhere = {name: np.broadcast_to(np.float32(np.nan), (count, *(SIZES[dim] for dim in dims)))
               for name, dims in (("landmarks", ("point", "xy")), ("mesh", ("vertex", "xyz")))}  # fmt: skip
    return xr.Dataset(
        {
            "image": (("condition", "sample", "y", "x"), empty), "alpha": (("condition", "sample", "y", "x"), empty),
            "regions": (("sample", "region", "y", "x"), np.empty((count, len(REGIONS), 0, 0), np.uint8)),
            "landmarks": (("sample", "point", "xy"), nowhere["landmarks"]),
            "mesh": (("sample", "vertex", "xyz"), nowhere["mesh"]),
            **{name: ("sample", scores[name].values) for name in TARGETS},
            "status": (("condition", "sample"), scores["status"].values.astype(str)),
        },
        coords={"condition": scores["condition"].values, "sample": scores["sample"].values, "region": list(REGIONS),
                **{name: ("sample", column(scores, name)) for name in WORDS}},
        attrs={"crop": scores.attrs["crop"]} if "crop" in scores.attrs else {},
    )  # fmt: skip


def _read_scores(folder: Path) -> dict[tuple[str, str], xr.Dataset]:
    """Return (set, part) -> predictions of a folder of scores, validation first, the Zarr where both are there.

    Raises: as `open_scores`.
    """
    files = {}
    for path in sorted(Path(folder).glob("*-*")):
        for suffix in (CSV, ZARR):  # a Zarr, which is exact, replaces its table
            if path.name.endswith(suffix) and not path.name.startswith("."):
                of_set, _, of_part = path.name.removesuffix(suffix).rpartition("-")
                files[of_set, of_part] = path
    return {key: open_scores(files[key]) for key in sorted(files, key=lambda key: (key[0] != "validation", key))}


def has_labels(scores: xr.Dataset) -> bool:
    """Return whether at least two faces are labelled and usable in every condition, without which nothing is scored."""
    labelled = np.isfinite([scores[target].values for target in TARGETS]).any(0)
    return bool((labelled & usable(scores)).sum() > 1)
