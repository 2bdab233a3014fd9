"""Whether masks show what they hide: valence and arousal predicted from nothing but the mask, against chance.

A mask can leak in two ways: its outline follows the hidden mouth, or its paint shows it. So the audit takes
a mask's own light (`pixels`) and its binary `outline` apart, for several fits, beside references that say where
a leak may come from: the head's `pose`, which every mask follows, the `light` on the upper face, in which it is
painted, and the whole unmasked `face`, which shows that the procedure finds what is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from fcx.core.arguments import Switch, Words, checked
from fcx.core.checks import check_memory, choose_all, whole_number
from fcx.core.contract import GRID, TARGETS, Faces, column, usable
from fcx.core.errors import InputError
from fcx.geometry.pose import find_pose
from fcx.masks.light import find_light
from fcx.masks.options import mask_options
from fcx.masks.wear import paint_mask
from fcx.statistics.bootstrap import clusters
from fcx.statistics.concordance import ccc
from fcx.statistics.corrections import holm

AUDITED_FITS = {"rigid": {"fit": "rigid"}, "jaw": {"fit": "jaw"}, "published": {"style": "published"}}
SOURCES = ("pixels", "outline")  # of a mask: these are the tests
REFERENCES = ("pose", "light", "face")  # the same for every fit
LABELS = ("rated", "beyond")
FEWEST = 30  # faces, below which ten folds tell nothing
ALPHAS = np.logspace(-4, 4, 9)  # ridge penalties for inputs of total variance 1: from next to none to the mean alone


@checked
def leakage_audit(faces: Faces, fits: Words = tuple(AUDITED_FITS), *, style: str = "surgical", folds: int = 10,
                  permutations: int = 200, limit: int = 1000, seed: int = 0, progress: Switch = True,
                  **look: object) -> xr.Dataset:  # fmt: skip
    """Return how well ridge regression predicts the labels from a mask alone, against shuffled labels.

    On each labelled face of a faces Dataset a mask is worn anew for each of `fits` ("rigid", "jaw", and
    "published", which is a style of its own), on the stored display picture (on the grid where none is stored);
    `look` are other fields of `fcx.masks.MaskOptions`. More than `limit` faces are thinned at random.

    Dimension `source`, all on the 64x64 grid: "pixels", the grey light of the mask without the photograph (alpha
    times paint); "outline", alpha above one half; and the references "pose", yaw, pitch, roll and height of the
    head (`fcx.geometry.pose`), "light", level and slope of the light on the upper face, which masks
    are lit with, both with squares and products; and "face", the unmasked grey face. Dimension `labels`: "rated",
    and "beyond", what linear regression on pose and light leaves of them: a mask sits on the head and in its
    light, so that it shows both, and this tells whether it shows more.

    Variables (labels, fit, source, target): ccc, over all predictions of a cross-validation in which no subject
    is trained and tested on; null_low and null_high, between which lie 90 % of the CCC of shuffled labels;
    p, one-sided, at most 0.05 exactly where ccc is above null_high; p_holm, over the masks' own sources and
    all fits, for each target and kind of labels apart (NaN for references). n counts faces. Labels are shuffled
    jointly for both targets, and as blocks of a subject where subjects are known (exact for equal blocks).
    The null is not centred at 0: who knows only the mean of the other folds predicts with a negative correlation.

    Raises: UnknownNameError for a fit or style; InputError for fewer than 30 labelled faces, labels that do
    not vary, or numbers that cannot be used; ContractError for what is not a faces Dataset.
    Source: Ojala and Garriga, JMLR 11, 2010 (test 1); p: Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9(1),
    2010; beyond: Winkler et al., NeuroImage 92, 2014 (the method of Still and White).

    >>> leakage_audit(faces, ["rigid"])["p"].sel(source="outline", labels="beyond")  # doctest: +SKIP
    """
    fits = [fits] if isinstance(fits, str) else list(fits)
    _check(faces, fits, folds=(folds, 2), permutations=(permutations, 19), limit=(limit, FEWEST), seed=(seed, 0))
    chosen = _chosen(faces, limit, seed)
    cluster = clusters(column(chosen, "subject"))
    check_memory(40 * permutations * len(cluster), f"{permutations} permutations")
    shuffles, parts = shuffled(cluster, permutations, seed), split(cluster, folds, seed)
    references = _references(chosen)
    rated = np.stack([chosen[target].values for target in TARGETS], axis=1).astype(np.float64)
    beyond = residuals(rated, np.concatenate([references["pose"], references["light"]], axis=1))
    labels = np.concatenate([rated, beyond], axis=1)
    steps = len(fits) * (len(rated) + len(SOURCES) * folds) + len(REFERENCES) * folds
    # The matrices are small: threads would only wait for each other, and round differently on another machine.
    with threadpool_limits(1), _bar(steps, progress) as bar:
        known = [against_chance(references[name], labels, parts, shuffles, bar) for name in REFERENCES]
        rows = []
        for fit in fits:
            worn = _worn(chosen, {"style": style, "seed": seed, **look, **AUDITED_FITS[fit]}, bar)
            rows.append([against_chance(worn[name], labels, parts, shuffles, bar) for name in SOURCES] + known)
    table = _table(np.array(rows), fits)
    return table.assign(n=len(rated)).assign_attrs(
        style=style, folds=folds, permutations=permutations, seed=seed, family=len(fits) * len(SOURCES),
        given=faces.sizes["sample"], subjects=int(cluster.max()) + 1, **look,
    )  # fmt: skip


def _check(faces, fits, **numbers) -> None:
    choose_all(fits, AUDITED_FITS, "fit")
    if not fits or len(set(fits)) < len(fits):
        raise InputError(f"fits are {fits}; give at least one of {', '.join(AUDITED_FITS)}, each once")
    for name, (value, least) in numbers.items():
        whole_number(value, name, least, 2**32 - 1)  # scikit-learn takes no larger seed


def _table(values: np.ndarray, fits) -> xr.Dataset:
    """Return values (fit, source, number, labels x target) as a Dataset, with p_holm."""
    numbers = ("ccc", "null_low", "null_high", "p")
    values = values.reshape(*values.shape[:3], len(LABELS), len(TARGETS)).transpose(2, 3, 0, 1, 4)
    corrected = np.full(values.shape[1:], np.nan)
    for kind in range(len(LABELS)):
        for target in range(len(TARGETS)):
            tested = (kind, slice(None), slice(len(SOURCES)), target)
            corrected[tested] = holm(values[-1][tested])
    dims = ("labels", "fit", "source", "target")
    made = {name: (dims, value) for name, value in zip(numbers, values, strict=True)}
    coords = {"labels": list(LABELS), "fit": fits, "source": [*SOURCES, *REFERENCES], "target": list(TARGETS)}
    return xr.Dataset({**made, "p_holm": (dims, corrected)}, coords)


def residuals(labels: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Return what linear regression on inputs (sample, feature) leaves of labels (sample, target)."""
    design = np.column_stack([np.ones(len(inputs)), inputs])
    return labels - design @ np.linalg.lstsq(design, labels)[0]


def shuffled(cluster: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Return (permutation, sample) int: whose label each sample takes, the blocks of a subject kept together.

    Subjects' labels follow each other in random order and are dealt out again to the samples, in the order of
    their subjects: a free shuffle where each subject has one sample, an exchange of whole subjects where all
    have as many.
    """
    rng = np.random.default_rng(seed)
    place = np.argsort(cluster, kind="stable")  # samples by subject
    blocks = np.split(place, np.cumsum(np.bincount(cluster))[:-1])
    shuffles = np.empty((permutations, len(cluster)), int)
    for row in shuffles:
        row[place] = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
    return shuffles


def split(cluster: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) rows of each fold; no subject is on both sides.

    Raises: InputError for fewer subjects than folds.
    """
    from sklearn.model_selection import GroupKFold

    if (count := int(cluster.max()) + 1) < folds:
        raise InputError(f"there are {count} subjects and {folds} folds: give at most {count} folds")
    return list(GroupKFold(folds, shuffle=True, random_state=seed).split(cluster, groups=cluster))


def against_chance(inputs, labels, parts, shuffles, bar) -> np.ndarray:
    """Return ccc, null_low, null_high and p (number, target) of labels (sample, target) predicted from inputs.

    `parts` are the (train, test) rows of the folds, `shuffles` (permutation, sample) whose label each takes. The
    penalty is chosen in each fold, for each target and shuffle by itself, by leave-one-out.
    """
    from sklearn.linear_model import RidgeCV

    # One scale for all features: scaling each would blow up the pixels that only a few masks reach, and the
    # noise in these hides a leak (measured: a CCC of 0.42 falls to 0.00). Ridge is blind to the rotation to
    # principal axes, which are fewer than pixels.
    axes, spread, _ = np.linalg.svd(inputs - inputs.mean(axis=0), full_matrices=False)
    inputs = axes * (spread / (np.linalg.norm(spread) or 1) * np.sqrt(len(inputs)))
    count, targets = labels.shape
    # The labels themselves, then each shuffle: as columns of one regression they share its decomposition.
    order = np.concatenate([np.arange(count)[None], shuffles])
    truth = labels[order].transpose(1, 0, 2).reshape(count, -1)  # (sample, permutation x target)
    predicted = np.empty_like(truth)
    for train, test in parts:
        ridge = RidgeCV(ALPHAS, alpha_per_target=True).fit(inputs[train], truth[train])
        predicted[test] = ridge.predict(inputs[test])
        bar.update()
    found = ccc(predicted.T, truth.T).reshape(-1, targets)
    value, null = found[0], np.sort(found[1:], axis=0)
    p = (1 + (null >= value).sum(axis=0)) / (1 + len(null))
    rank = (1 + len(null)) // 20  # ccc is above the null's rank-th highest exactly where p is at most 1 in 20
    return np.stack([value, null[rank - 1], null[-rank], p])


def _chosen(faces, limit: int, seed: int):
    """Return the faces that are usable and labelled, at most `limit`, in the order of their ids."""
    labels = np.stack([faces[target].values for target in TARGETS])
    known = np.flatnonzero(usable(faces) & np.isfinite(labels).all(axis=0))
    if len(known) < FEWEST:
        raise InputError(
            f"{len(known)} of {faces.sizes['sample']} faces are usable and have valence and arousal; "
            f"a leakage audit needs at least {FEWEST}"
        )
    for target, values in zip(TARGETS, labels[:, known], strict=True):
        if np.ptp(values) == 0:
            raise InputError(f"{target} is {values[0]:g} for every face: there is nothing to predict")
    # By id, so that the order in which faces are given changes nothing.
    known = known[np.argsort(faces["sample"].values[known].astype(str), kind="stable")]
    if len(known) > limit:
        known = np.sort(np.random.default_rng(seed).choice(known, limit, replace=False))
    names = [name for name in ("image", "mesh", "picture", *TARGETS) if name in faces]
    return faces[names].isel(sample=known).load()


def _references(faces) -> dict[str, np.ndarray]:
    """Return reference -> (sample, feature)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    poses, lights = [], []
    for picture, mesh in _pictures(faces):
        pose = find_pose(mesh)
        level, slope = find_light(picture, pose, np.zeros(picture.shape[:2]))
        poses.append((*pose.angles, pose.height))
        lights.append((level, slope[0]))
    squares = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler())
    face = faces["image"].sel(condition="plain").values.reshape(len(poses), -1)
    return {
        "pose": squares.fit_transform(poses), "light": squares.fit_transform(lights), "face": face.astype(np.float64)
    }  # fmt: skip


def _worn(faces, how: dict, bar) -> dict[str, np.ndarray]:
    """Return source -> (sample, feature) of masks that are worn anew."""
    worn = {"pixels": [], "outline": []}
    for (picture, mesh), sample in zip(_pictures(faces), faces["sample"].values, strict=True):
        paint, alpha = paint_mask(picture, mesh, mask_options(**how), sample=str(sample))
        light = cv2.cvtColor(paint, cv2.COLOR_RGB2GRAY) * (alpha / np.float32(255))
        light, alpha = (cv2.resize(part, (GRID, GRID), interpolation=cv2.INTER_AREA) for part in (light, alpha))
        worn["pixels"].append(light.ravel())
        worn["outline"].append(alpha.ravel() > 127)
        bar.update()
    return {name: np.array(values, np.float64) for name, values in worn.items()}


def _pictures(faces) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the plain picture of each face, (row, column, channel), and the mesh in its pixels."""
    if "picture" in faces:
        plain = faces["picture"].sel(condition="plain").values
    else:
        plain = np.repeat(faces["image"].sel(condition="plain").values[..., None], 3, axis=-1)
    scale = plain.shape[1] / GRID
    for picture, mesh in zip(plain, faces["mesh"].values * np.float64(scale), strict=True):
        mesh[:, :2] += (scale - 1) / 2  # pixel centres lie at whole numbers
        yield picture, mesh


def _bar(total: int, progress: bool):
    from tqdm.std import tqdm

    return tqdm(total=total, desc="leakage", unit="step", file=sys.stderr, disable=not progress, delay=1)
