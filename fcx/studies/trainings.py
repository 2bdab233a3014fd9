"""`experiment`: the networks of a plan, trained where they are missing, and their predictions with ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from fcx.core.arguments import Count, FilePath, Switch, Words, Workers, checked, words
from fcx.core.checks import choose
from fcx.core.contract import TARGETS, check, column, family_and_seed, usable
from fcx.core.errors import FcxError, InputError
from fcx.core.files import digest, replacing
from fcx.core.provenance import nested_attr
from fcx.core.recipes import RECIPES
from fcx.datasets.face_stores import stored_faces
from fcx.datasets.ferplus import ferplus_ceiling
from fcx.masks import MASK_OPTIONS
from fcx.networks.checkpoints import load_facechannel, read_metadata
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import predict, usable_device
from fcx.networks.resolving import Models
from fcx.networks.shipped_networks import find, shipped
from fcx.studies.costs import learning_curves, training_records
from fcx.studies.interpolation import STEPS, interpolate
from fcx.studies.stored_scores import CEILINGS, Study, read_study, scored
from fcx.studies.training_plan import PARTS, Scale, Seeds
from fcx.studies.training_queue import train_missing

TUNED = ("masked_last_conv", "masked_all_layers")


@checked
def experiment(faces: xr.Dataset | str | Path | Iterable, out: FilePath, *, parts: Words = ("table2",),
               seeds: Seeds = 3, width: Count = 64, models: Models = None, also: Words = (), recipe: str = "modern",
               epochs: Count | None = None, batch_size: Count | None = None, workers: Workers = 1,
               device: str | torch.device = "cpu", runs: FilePath = "runs",
               progress: Switch = True) -> Study:  # fmt: skip
    """Train the networks of the paper's experiment where they are missing, and keep what each answers to each face.

    `faces` is a faces Dataset, a store that `prepare` wrote or any source of it. Where its faces have the splits
    train and validation, the trainings of `parts` (`table2`, `ladder`, `efficiency`) are made, `seeds` of each, into
    out/checkpoints, where those that lie there already are taken as they are, and the validation faces are scored.
    Otherwise, or where `models` names checkpoints, nothing is trained, and these (or all that ship) are scored.
    `also` are further sources of faces to score, such as "demo", which wear the same masks. `width` is that of the
    networks of `table2`; those of the other parts have half of it. `workers` trainings run side by side, of one
    thread each; an interrupted experiment goes on where it stopped, and one training that fails loses no other.

    out/scores then holds trainings.csv, curves.csv, ceilings.csv and, for each set of faces and part, the predictions
    as .zarr and .csv.gz, from which `fcx.studies.read_study` and all tables start.

    Raises: InputError for faces or options that cannot be used; CheckpointError for a checkpoint that is not what
    the plan says; FcxError that names the trainings that failed, after the others are trained and scored.

    >>> experiment("faces.zarr", "experiment", parts="table2,ladder", workers=2)  # doctest: +SKIP
    """
    for name in parts:
        choose(name, PARTS, "part of the experiment")
    defaults, out, device = RECIPES[choose(recipe, RECIPES, "recipe")], Path(out), usable_device(device)
    FaceChannel.preset(width=width)  # refuses what is no width before anything begins
    given, source = _opened(faces, runs, models)
    files, failures = {}, {}
    if models is None and (count := _trainable(given)):
        scale = Scale(seeds, width, epochs or defaults.epochs, count, batch_size or defaults.batch_size)
        files, failures = train_missing(parts, scale, given, out / "checkpoints", workers, progress,
                                   recipe=recipe, batch_size=scale.batch_size, device=str(device))  # fmt: skip
    else:
        files = {"table2": _files_of(models)}
    sets = {"validation" if _has_splits(given) else source: _to_score(given)}
    for name in also:
        more, stem = _opened(name, runs, models, given)
        if stem in sets:
            raise InputError(f"two sets of faces are called {stem!r}: rename one")
        sets[stem] = _to_score(more)
    for title, some in sets.items():
        for part, of_part in files.items():
            _score(of_part, some, out / "scores" / f"{title}-{part}", device)
        _score_between(files.get("table2", {}), some, out / "scores" / f"{title}-forgetting", device)
    _add(noise_ceilings(sets), out / "scores" / "ceilings.csv", "set")
    every = {name: file for of_part in files.values() for name, file in of_part.items()}
    _add(training_records(every), out / "scores" / "trainings.csv")
    _add(learning_curves(every), out / "scores" / "curves.csv")
    if failures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise FcxError(f"{len(failures)} trainings failed, the others are trained and scored: {reasons}")
    return read_study(out / "scores")


def noise_ceilings(sets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Return how high a CCC can be on sets of faces (name -> faces) whose votes are where they came from.

    Columns: set, target, half, full, network, n. FER+ arrays have votes; where a face has one rating none is known.
    """
    rows = []
    for title, faces in sets.items():
        path, splits = Path(faces.attrs.get("source") or "."), set(column(faces, "split"))
        if faces.attrs.get("adapter") == "ferplus" and path.is_file() and len(splits) == 1:
            with contextlib.suppress(InputError):  # another file has its place now
                found = ferplus_ceiling(path, splits.pop())
                rows += [{"set": title, "target": target, **{name: float(found[name][i]) for name in CEILINGS[2:-1]},
                          "n": int(found["n"])} for i, target in enumerate(("valence", "arousal"))]  # fmt: skip
    return pd.DataFrame(rows, columns=CEILINGS)


def _opened(faces, runs, models, like=None) -> tuple[xr.Dataset, str]:
    """Return faces and what the set is called; a source that has to be prepared wears the masks of `like`.

    Where there is no other set, those are the masks on which the checkpoints were trained.
    """
    if isinstance(faces, xr.Dataset):
        return check(faces, "faces"), "faces"
    if like is not None:
        attrs = {name.removeprefix("mask_"): value for name, value in like.attrs.items()}
    else:
        attrs = next((read_metadata(file).get("mask", {}) for file in _files_of(models).values()), {})
    settings = {name: attrs[name] for name in MASK_OPTIONS if name in attrs}
    if like is not None and (several := nested_attr(like, "masks")):
        settings = {"masks": several}
    return stored_faces(str(faces), str(runs), **settings), Path(str(faces)).stem


def _has_splits(faces) -> bool:
    return "split" in faces.coords and {"train", "validation"} <= set(faces["split"].values.astype(str))


def _to_score(faces) -> xr.Dataset:
    """Return the faces of the split validation, or all where there is nothing to train on."""
    return faces.isel(sample=faces["split"].values.astype(str) == "validation") if _has_splits(faces) else faces


def _trainable(faces) -> int:
    """Return how many faces there are to train on."""
    if not _has_splits(faces):
        return 0
    labelled = np.isfinite([faces[target].values for target in TARGETS]).all(0) & usable(faces)
    return int((labelled & (faces["split"].values.astype(str) == "train")).sum())


def _files_of(models) -> dict[str, Path]:
    """Return name -> file of names or files of checkpoints; all that ship for None or "all".

    Raises: InputError for nothing, or for two of one name.
    """
    ours = models is None or (isinstance(models, str) and models == "all")
    files = shipped() if ours else {}
    for model in () if ours else words(models, "models"):
        if (path := find(model)).stem in files:
            raise InputError(f"two models are called {path.stem!r}: give one")
        files[path.stem] = path
    if not files:
        raise InputError(f"no model was given; these ship with fcx: {', '.join(shipped()) or 'none'}")
    return files


def _score(files: Mapping[str, Path], faces, path: Path, device) -> None:
    """Keep the predictions of checkpoints for faces."""
    hashes = {name: read_metadata(file)["sha256"] for name, file in files.items()}
    scored(hashes, faces, path, lambda name: predict({name: load_facechannel(files[name])}, faces, device=device))


def _score_between(files: Mapping[str, Path], faces, path: Path, device) -> None:
    """Keep the predictions of networks between each plain one and those that were tuned from it."""
    ends = {}
    for name, file in files.items():
        family, seed = family_and_seed(name)
        start = read_metadata(file).get("start", {}).get("sha256")
        starts = [other for other in files.values() if read_metadata(other)["sha256"] == start]
        if family in TUNED and starts:
            ends |= {f"{family}@{t:g}-{seed + 1}": (starts[0], file, t) for t in STEPS}
    if not ends:
        return
    hashes = {name: digest(f"{[read_metadata(each)['sha256'] for each in pair]} {t}".encode())
              for name, (*pair, t) in ends.items()}  # fmt: skip

    def between(name: str):
        one, other, t = ends[name]
        return predict({name: interpolate(load_facechannel(one), load_facechannel(other), t)}, faces, device=device)

    scored(hashes, faces, path, between)


def _add(table: pd.DataFrame, path: Path, key: str = "name") -> None:
    """Write rows beside those of other names that are there, such as of another part of the experiment."""
    if path.exists() and len(there := pd.read_csv(path)):
        others = there[~there[key].isin(table[key])]
        table = pd.concat([others, table], ignore_index=True) if len(others) else table
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
