"""What the notebooks start from: faces prepared and results computed once, and found again in a folder."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

from fcx.core.contract import TARGETS, usable
from fcx.core.errors import InputError
from fcx.core.provenance import STEP_VERSIONS
from fcx.core.store import digest


def prepared(faces: str, runs: str = "runs", **settings):
    """Return a faces Dataset: a store that `prepare` wrote, or any source of `prepare`, kept in the folder `runs`.

    `settings` go to `fcx.prepare`; a source with its settings has a store of its own, found at the second call.

    Raises: what `fcx.prepare` and `fcx.open_faces` raise.
    """
    from fcx.datasets import open_source
    from fcx.datasets.preparation import open_faces, prepare

    if (Path(faces) / ".zgroup").is_file():
        return open_faces(faces)
    inputs = open_source(faces).fingerprint()
    return prepare(faces, _store(runs, "faces", Path(faces).stem, inputs, settings, STEP_VERSIONS["faces"]), **settings)


def computed(models: str, faces, methods: str, runs: str = "runs", **settings):
    """Return a results Dataset of these models, faces and methods, kept in the folder `runs`.

    What is there is opened, what an interrupted run left is finished, and what is missing is computed; weights,
    faces and settings decide, not names alone. `settings` go to `fcx.attribute`.

    Raises: what `fcx.attribute` raises.
    """
    from fcx.attribution import attribute
    from fcx.networks.checkpoints import resolve_models, weights_hash

    resolved = resolve_models(models)
    weights = {name: weights_hash(model.state_dict()) for name, model in resolved.items()}
    shown = [digest(faces[name].values) for name in ("image", "status")]
    out = _store(
        runs,
        "results",
        f"{len(resolved)}-models",
        weights,
        shown,
        methods.replace(" ", ""),
        settings,
        STEP_VERSIONS["results"],
    )
    return attribute(resolved, faces, methods, out=out, **settings)


def taught(sets, runs: str = "runs", **settings) -> dict:
    """Return carrier -> model, trained on the faces drawn for it (`synthetic_sets`) and kept in the folder `runs`.

    The recipe is `modern` with a higher rate, smaller batches, and without augmentation, which would relight the
    faces whose labels are their brightness. One thread is as fast for networks this small, and gives the same bits
    on every number of cores. `settings` go to `fcx.train`.
    """
    from fcx.datasets.synthetic import WORN_BY
    from fcx.networks.recipes import RECIPES
    from fcx.networks.training import train

    recipe = replace(RECIPES["modern"], augmented=False, rate=5e-3, batch_size=32)
    models = {}
    for carrier, faces in sets.items():
        shown = [digest(faces[name].values) for name in ("image", *TARGETS)]
        out = _store(runs, "synthetic", carrier, shown, asdict(recipe), settings).with_suffix(".safetensors")
        models[carrier] = train(faces, out, condition=WORN_BY[carrier], recipe=recipe, batch_norm=True, threads=1,
                                progress=False, **settings)  # fmt: skip
    return models


def rated_targets(faces) -> list[str]:
    """Return the targets that are labelled for at least two faces usable in every condition."""
    return [name for name in TARGETS if (faces[name].notnull().values & usable(faces)).sum() > 1]


def audited(faces, permutations: int, **settings):
    """Return the leakage audit of the masks on these faces, or None where it is left out or cannot be made.

    `permutations` 0 leaves it out; `settings` go to `fcx.masks.leakage_audit`. Why it cannot be made is printed.
    """
    from fcx.masks import leakage_audit

    if permutations == 0:
        return print("The audit is left out (permutations = 0).")
    try:
        return leakage_audit(faces, permutations=permutations, **settings)
    except InputError as error:
        return print(f"No audit: {error}.")


def tested(faces, count: int, **settings):
    """Return name -> Dataset of what puts landmarks to the test, or None where it is left out or cannot be made.

    `count` faces are used, 0 leaves it out; `settings` go to `fcx.masks.landmark_shift.mask_shift`. Why it
    cannot be made is printed.
    """
    from fcx.geometry.landmark_quality import backend_agreement, display_pictures, robustness
    from fcx.masks.landmark_shift import mask_shift

    if count == 0:
        return print("The test of landmarks is left out (landmarks = 0).")
    try:
        pictures = display_pictures(faces, count)
        return {"robustness": robustness(pictures), "mask_shift": mask_shift(pictures, **settings),
                "agreement": backend_agreement(pictures)}  # fmt: skip
    except InputError as error:
        return print(f"No test of landmarks: {error}.")


def doubtful(faces, source: str, count: int = 12) -> tuple:
    """Return the faces to look at for failures, and the records of the source, where pictures of refused ones are."""
    from fcx.datasets import open_source
    from fcx.geometry.landmark_quality import lowest

    return lowest(faces, count), () if (Path(source) / ".zgroup").is_file() else open_source(source).records


def _store(runs: str, kind: str, name: str, *parts) -> Path:
    """Return the path of the store that holds what `parts` describe."""
    return Path(runs) / f"{kind}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:40]}-{digest(repr(parts).encode())[:8]}.zarr"
