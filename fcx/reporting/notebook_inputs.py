"""What the notebooks start from: results computed once and found again in a folder, tests that may be left out."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from fcx.core.checks import choose, parts_of
from fcx.core.contract import CONDITIONS, FAMILIES, TARGETS, family_and_seed, usable
from fcx.core.errors import InputError
from fcx.core.files import digest
from fcx.core.paths import run_path, runs_folder, shipped_folder
from fcx.core.provenance import STEP_VERSIONS
from fcx.core.store import FORMAT
from fcx.datasets import face_stores
from fcx.statistics.families import family_members


def paired_faces(source: str, runs: str = "", **settings):
    """Return the faces plain and masked, as `fcx.datasets.face_stores.stored_faces` does.

    Raises: InputError for a store of other conditions, which reports do not show.
    """
    faces = face_stores.stored_faces(source, runs, **settings)
    if (have := tuple(map(str, faces["condition"].values))) != CONDITIONS:
        raise InputError(f"reports show faces {' and '.join(CONDITIONS)}, and these are {', '.join(have)}: give faces "
                         "that were prepared with one mask")  # fmt: skip
    return faces


def stored_results(models: str, faces, methods: str, runs: str = "", **settings):
    """Return a results Dataset of these models, faces and methods, kept in the folder `runs`.

    What is there is opened, what an interrupted run left is finished, and what is missing is computed; weights,
    faces and settings decide, not names alone. `settings` go to `fcx.attribute`.

    Raises: what `fcx.attribute` raises.
    """
    from fcx.attribution import attribute
    from fcx.networks.checkpoints import network_hash
    from fcx.networks.inputs import read_variable
    from fcx.networks.resolving import resolve_models

    resolved = resolve_models(models)
    weights = {name: network_hash(model) for name, model in resolved.items()}
    variables = [read_variable(model, faces) for model in resolved.values()]
    shown = [digest(faces[name].values) for name in sorted({"image", "status", *variables})]
    parts = weights, shown, ",".join(parts_of(methods)), settings, FORMAT, STEP_VERSIONS["results"]
    out = run_path(runs, "results", f"{len(resolved)}-models", *parts)
    return attribute(resolved, faces, methods, out=out, **settings)


def asked_statistics(models: str, faces, methods: str, runs: str = "", *, count: int = 0, **settings) -> tuple:
    """Return statistics of single maps by all trainings of these families, and the faces that were asked.

    Of `faces`, `count` usable ones in even steps are asked (0: all), since every method is asked of every training;
    maps are not kept. Of `methods` those are asked that can explain every network; the others are named.

    Raises: InputError where no method is left; else what `fcx.attribute` raises.
    """
    able = able_methods(models, methods)
    rows = np.flatnonzero(usable(faces))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count or len(rows), len(rows))).round().astype(int))]
    chosen = faces.isel(sample=rows)
    return stored_results(all_trainings(models), chosen, able, runs, maps=False, **settings), chosen


def able_methods(models: str, methods: str) -> str:
    """Return those of some methods that can explain every network, comma-separated; the others are named in a sentence.

    Raises: InputError where none is left; UnknownNameError for a method that does not exist.
    """
    from IPython.display import display

    from fcx.attribution import METHODS
    from fcx.attribution.request import chosen_names
    from fcx.networks.resolving import resolve_models

    names, networks = chosen_names(methods, METHODS, "method"), resolve_models(models).values()
    able = [name for name in names if all(isinstance(network, METHODS[name].needs) for network in networks)]
    if unable := [METHODS[name].title for name in names if name not in able]:
        sentence = f"Not asked, because it cannot explain every network: {', '.join(unable)}."
        display({"text/markdown": sentence, "text/plain": sentence}, raw=True)
    if not able:
        raise InputError(f"no method of {methods} can explain these networks: give others")
    return ",".join(able)


def all_trainings(models: str) -> str:
    """Return the names of models, comma-separated, a family that ships as every training of it that ships.

    >>> all_trainings("mine.safetensors")
    'mine.safetensors'
    """
    from fcx.networks.shipped_networks import all_seeds

    names = []
    for name in parts_of(models):
        trainings = [training for training in all_seeds() if family_and_seed(training)[0] == name]
        names += trainings if name in FAMILIES and trainings else [name] if name else []
    return ",".join(dict.fromkeys(names))


def first_trainings(results):
    """Return the results of the first training of each family, called by its family, or as before where it is alone."""
    members = family_members(results)
    first = results.sel(model=[next(iter(of.values())) for of in members.values()])
    names = [family if len(of) > 1 or 0 in of else next(iter(of.values())) for family, of in members.items()]
    return first.assign_coords(model=names)


def partly_asked(results, trainings) -> list[str]:
    """Return the families of which results have one training and `trainings`, other results of them, several."""
    there = family_members(results)
    return [family for family, of in family_members(trainings).items() if len(there.get(family, of)) == 1 < len(of)]


# What teaches networks on faces made for it: `modern` at a higher rate, without augmentation, which would relight the
# faces whose labels are their brightness.
DRAWN_RECIPE = {"augmented": False, "learning_rate": 5e-3, "batch_size": 32}


def stored_models(sets, runs: str = "", **settings) -> dict:
    """Return carrier -> model, trained on the faces made for it (`synthetic_sets`, `planted_sets`) and kept in `runs`.

    The recipe is `modern` with `DRAWN_RECIPE`. One thread is as fast for networks this small, and gives the same bits
    on every number of cores. `settings` go to `fcx.train`.
    """
    from fcx.core.recipes import RECIPES
    from fcx.datasets.truth import truth_condition
    from fcx.networks.training import train

    recipe = RECIPES["modern"].changed(**DRAWN_RECIPE)
    models = {}
    for carrier, faces in sets.items():
        out = _taught_path(runs, "synthetic", carrier, faces, recipe, settings)
        models[carrier] = train(faces, out, condition=truth_condition(faces), recipe=recipe, batch_norm=True, threads=1,
                                progress=False, **settings)  # fmt: skip
    return models


def stored_residual(sets, runs: str = "", *, epochs: int, seed: int = 0) -> dict:
    """Return carrier -> small residual network, taught as `stored_models` teaches FaceChannels and kept in `runs`."""
    from fcx.core.recipes import RECIPES
    from fcx.datasets.truth import truth_condition
    from fcx.networks.residual_training import train_residual

    recipe, models = RECIPES["modern"].changed(**DRAWN_RECIPE, epochs=epochs), {}
    for carrier, faces in sets.items():
        out = _taught_path(runs, "residual", carrier, faces, recipe, seed)
        models[carrier] = train_residual(faces, out, condition=truth_condition(faces), recipe=recipe, seed=seed,
                                         threads=1)  # fmt: skip
    return models


def _taught_path(runs, kind: str, carrier: str, faces, recipe, *parts) -> Path:
    shown = [digest(faces[name].values) for name in ("image", *TARGETS)]
    return run_path(runs, kind, carrier, shown, asdict(recipe), *parts).with_suffix(".safetensors")


def planted_photographs(source: str, plants: str, taught: int, asked: int, runs: str = "", seed: int = 0):
    """Return carrier -> faces with planted truth, `taught` and `asked`, or an Absent where they are left out.

    Every sixth photograph is for asking, the others for teaching. "" as source leaves them out.
    """
    from fcx.datasets.planted import planted_sets

    def plant():
        faces = paired_faces(source, runs)
        held = np.arange(faces.sizes["sample"]) % 6 == 5
        return {"taught": planted_sets(faces.isel(sample=~held), plants, taught, seed),
                "asked": planted_sets(faces.isel(sample=held), plants, asked, seed + 1)}  # fmt: skip

    return _unless_left_out("planting in photographs", "photographs", source, plant)


def stored_study(scores: str, faces: str, runs: str = "", models: str = ""):
    """Return the `Study` of a folder of scores that `fcx experiment` wrote, or of those that ship.

    Where `scores` is "" and none ship, or `faces` is not the demo, the networks that ship are asked about `faces`,
    and what they answer is kept in the folder `runs`; not where no face has a rating. Nothing is trained. `models`
    names networks as elsewhere: those of them that are checkpoints of fcx are told of, in every training that ships,
    and are asked where the scores do not have them; "" tells of all.

    Raises: what `fcx.studies.read_study` and `fcx.experiment` raise.
    """
    from fcx.networks.shipped_networks import shipped
    from fcx.studies import experiment, read_study, study_of

    if scores:
        names = FAMILIES if models == "all" else parts_of(models)
        return study_of(read_study(scores), [Path(name).stem for name in names]) if models else read_study(scores)
    asked, ours = trained_checkpoints(models) if models else list(shipped()), shipped_folder("checkpoints") / "scores"
    if ours.is_dir() and (not asked or (faces == "demo" and set(asked) <= set(shipped()))):
        study = _shipped_study(ours)
    elif ours.is_dir() and not face_stores.has_ratings(faces):
        study = replace(_shipped_study(ours), scores={})
    else:
        out = run_path(runs, "experiment", Path(faces).stem, faces, *(asked if models else ())).with_suffix("")
        return experiment(faces, out, models=asked, runs=runs_folder(runs))
    return study_of(study, [Path(name).stem for name in asked]) if models else study


def _shipped_study(folder: Path):
    """Return the study that ships, whose faces wore the masks that its networks were trained on."""
    from fcx.networks.checkpoints import read_metadata
    from fcx.networks.shipped_networks import shipped
    from fcx.studies import read_study

    study = read_study(folder)
    masks = [read_metadata(path).get("mask", {}) for name, path in shipped().items() if name.startswith("masked")]
    styles = {of.get("style", "") for of in masks}
    style = styles.pop() if len(styles) == 1 else ""
    worn = {key: of.assign_attrs(mask_style=style) for key, of in study.scores.items() if key[1] == "table2"}
    return replace(study, scores=study.scores | worn)


def trained_checkpoints(models: str) -> list[str]:
    """Return those of some models that are checkpoints of fcx, a family that ships as every training of it."""
    from fcx.networks.facechannel import FaceChannel
    from fcx.networks.resolving import resolve_models
    from fcx.networks.shipped_networks import all_seeds, find

    checkpoints = []
    for name in all_seeds() if models == "all" else parts_of(all_trainings(models)):
        network = next(iter(resolve_models(name).values()))
        with contextlib.suppress(InputError):  # CheckpointError: made by a function, which no experiment can read
            checkpoints += [name] if isinstance(network, FaceChannel) and find(name) else []
    return checkpoints


def stored_search(scores: str, faces: str):
    """Return what `fcx search` left in the folder `search` of some scores, or of those that ship; None without one.

    Raises: what `fcx.networks.search.read_search` raises.
    """
    from fcx.networks.search import read_search

    folder = Path(scores) if scores else shipped_folder("checkpoints") / "scores"
    folder = folder / "search"
    return read_search(folder) if folder.is_dir() and (scores or faces == "demo") else None


def shown_targets(results, target: str = "") -> list[tuple]:
    """Return (target, results of the networks that answer it) to show, so that each network is in one of them.

    First `target` where it is given, then valence, then outputs of the networks that are left.

    Raises: UnknownNameError where no network answers `target`.
    """
    have, groups = [str(name) for name in results["target"].values], []
    if target:
        choose(target, have, "target")
    answers = results["prediction"].notnull().any(("condition", "sample")).transpose("model", "target").values
    left = list(range(len(answers)))
    while left:
        wanted = (name for name in (target, "valence", *have) if name in have)
        name = next((name for name in wanted if answers[left, have.index(name)].any()), have[0])
        members = [m for m in left if answers[m, have.index(name)]] or left
        groups.append((name, results.isel(model=members)))
        left = [m for m in left if m not in members]
    return groups


def rated_predictions(results, faces):
    """Return the predictions of what people rated, by the networks that answer it, or None where there are none."""
    targets = [name for name in rated_targets(faces) if name in results["target"].values]
    if not targets:
        return None
    scored = results[["prediction"]].sel(target=targets)
    able = scored["prediction"].notnull().any(("condition", "sample")).all("target")
    return scored.isel(model=np.flatnonzero(able.values)) if able.any() else None


def logit_accuracies(results, faces, **settings):
    """Return `fcx.statistics.accuracy.accuracies` of the networks that answer logits, or None where none does.

    Where a network answers logits and has no accuracy, an Absent says why; `settings` are draws and seed.
    """
    from fcx.statistics.accuracy import accuracies, answers_logits

    if not (logits := answers_logits(results)):
        return None
    return _unless_left_out("accuracy", "logits", logits,
                            lambda: accuracies(results["prediction"], faces, logits, **settings))  # fmt: skip


def rated_targets(faces) -> list[str]:
    """Return the targets that are labelled for at least two faces usable in every condition."""
    return [name for name in TARGETS if (faces[name].notnull().values & usable(faces)).sum() > 1]


def mask_audit(faces, permutations: int, **settings):
    """Return the leakage audit of the masks on these faces, or an Absent where it is left out or cannot be made.

    `permutations` 0 leaves it out; `settings` go to `fcx.masks.leakage_audit`.
    """
    from fcx.masks import leakage_audit

    return _unless_left_out("audit", "permutations", permutations,
                            lambda: leakage_audit(faces, permutations=permutations, **settings))  # fmt: skip


def landmark_tests(faces, count: int, **settings):
    """Return name -> Dataset of what puts landmarks to the test, or an Absent where it is left out or cannot be made.

    `count` faces are used, 0 leaves it out; `settings` go to `fcx.masks.landmark_shift.mask_shift`.
    """
    from fcx.geometry.landmark_quality import backend_agreement, display_pictures, robustness
    from fcx.masks.landmark_shift import mask_shift

    def tests():
        pictures = display_pictures(faces, count)
        return {"robustness": robustness(pictures), "mask_shift": mask_shift(pictures, **settings),
                "agreement": backend_agreement(pictures)}  # fmt: skip

    return _unless_left_out("test of landmarks", "landmarks", count, tests)


def _unless_left_out(what: str, parameter: str, value, compute):
    """Return what is computed, or an `Absent` that says why it is left out or cannot be."""
    from fcx.figures import Absent

    if not value:
        return Absent(f"The {what} is left out ({parameter} = {value!r}).")
    try:
        return compute()
    except InputError as error:
        return Absent(f"No {what}: {error}.")


def doubtful_faces(faces, source: str, count: int = 12) -> tuple:
    """Return the faces to look at for failures, and the records of the source, where pictures of refused ones are."""
    from fcx.datasets import open_source
    from fcx.geometry.landmark_quality import lowest

    return lowest(faces, count), () if face_stores.is_store(source) else open_source(source).records
