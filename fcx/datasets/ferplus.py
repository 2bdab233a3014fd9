"""FER2013 faces with FER+ votes, and the valence and arousal that the votes stand for (`proxy`).

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI 2016 (the votes).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.checks import choose, whole_number
from fcx.core.errors import InputError
from fcx.datasets.pictures import enlarge
from fcx.datasets.records import EXCLUDED, Record, adapter, expression_name
from fcx.statistics.noise_ceiling import vote_ceiling

# Mean human (valence, arousal) of each category on the AffectNet-8 validation set, n = 500 (contempt 499).
PROXY = {
    "neutral": (-0.03, -0.02),
    "happy": (0.67, 0.08),
    "sad": (-0.63, -0.27),
    "surprise": (0.18, 0.70),
    "fear": (-0.12, 0.76),
    "disgust": (-0.68, 0.45),
    "anger": (-0.43, 0.55),
    "contempt": (-0.51, 0.58),
}
ARRAYS = ("images", "name", "usage", "usage_names", "votes", "vote_columns", "dup_group", "seen_in_private_test")
SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
UNUSABLE = ("unknown", "NF")  # votes for no expression
ENLARGED = 192  # pixels: the 48x48 crops are enlarged before detection


def _is_ferplus(path: Path) -> bool:
    """Return whether a file holds the arrays of FER+, by their names."""
    if path.suffix.lower() != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {f"{name}.npy" for name in ARRAYS} <= set(archive.namelist())


@adapter("ferplus", takes=lambda path: path.suffix.lower() == ".npz" and not path.is_dir(), evident=_is_ferplus)
def open_ferplus(path: Path, minimum_votes: int = 5) -> list[Record]:
    """Return a record for each face, labelled with the vote-weighted mean of PROXY and its spread.

    Votes for 'unknown' and 'not a face' are set aside. Rows with fewer than `minimum_votes` others,
    training rows that also stand in a test set and validation rows that also stand in training are
    kept with split 'excluded' and the reason.

    Raises: InputError where `path` is no such array.
    """
    whole_number(minimum_votes, "minimum_votes", 0)
    data = _load(path)
    splits = [SPLITS[name] for name in data["usage_names"][data["usage"]]]
    reads = [partial(enlarge, image, ENLARGED) for image in data["images"]]
    return voted(data["name"].astype(str).tolist(), reads, data["votes"], data["vote_columns"].tolist(), splits,
                 data["dup_group"], data["seen_in_private_test"], minimum_votes)  # fmt: skip


def voted(ids: list[str], reads: list[Callable], votes: np.ndarray, columns: list[str], splits: list[str],
          groups: np.ndarray, tested: np.ndarray, minimum: int) -> list[Record]:  # fmt: skip
    """Return the records of faces from their `votes` (sample, column).

    Faces of one picture share a group (-1: alone); `tested` says which pictures stand in the last test set too.
    """
    kept = [i for i, name in enumerate(columns) if name not in UNUSABLE]
    names = [expression_name(columns[i]) for i in kept]
    votes = votes[:, kept].astype(float)  # (sample, category)
    mean, spread = proxy(votes, names)
    reasons = _reasons(splits, groups, tested, votes.sum(axis=1), minimum)
    return [
        Record(
            id=ids[i],
            read=reads[i],
            valence=float(mean[i, 0]),
            arousal=float(mean[i, 1]),
            expression=_majority(votes[i], names),
            split=EXCLUDED if reasons[i] else split,
            source="FER+ proxy",
            reason=reasons[i],
            valence_spread=float(spread[i, 0]),
            arousal_spread=float(spread[i, 1]),
        )
        for i, split in enumerate(splits)
    ]


def ferplus_ceiling(path: Path, split: str = "validation", minimum_votes: int = 5, splits: int = 100) -> dict:
    """Return `fcx.statistics.noise_ceiling.vote_ceiling` (valence, arousal) of the votes for the faces of a split.

    The faces are those that `open_ferplus` gives this split: what it excludes does not count.

    Raises: UnknownNameError for a split that the file does not have; InputError as in `open_ferplus`.

    >>> ferplus_ceiling(Path("ferplus_train_valid.npz"))["network"]  # doctest: +SKIP
    """
    data = _load(path)
    columns = data["vote_columns"].tolist()
    kept = [i for i, name in enumerate(columns) if name not in UNUSABLE]
    votes = data["votes"][:, kept]
    every = [SPLITS[name] for name in data["usage_names"][data["usage"]]]
    choose(split, dict.fromkeys(every), "split")
    reasons = _reasons(every, data["dup_group"], data["seen_in_private_test"], votes.sum(axis=1), minimum_votes)
    chosen = [each == split and not reason for each, reason in zip(every, reasons, strict=True)]
    return vote_ceiling(votes[chosen], [PROXY[expression_name(columns[i])] for i in kept], splits=splits)


def proxy(votes: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (sample, 2: valence, arousal) of PROXY under `votes` (sample, category).

    NaN where a sample has no vote.

    >>> mean, spread = proxy(np.array([[5.0, 5.0]]), ["happy", "neutral"])
    >>> mean.round(2).tolist()
    [[0.32, 0.03]]
    """
    points = np.array([PROXY[name] for name in names])  # (category, 2)
    total = votes.sum(axis=1, keepdims=True)
    weights = np.divide(votes, total, out=np.full(votes.shape, np.nan), where=total > 0)
    mean = weights @ points
    variance = np.einsum("sc,sct->st", weights, (points[None] - mean[:, None]) ** 2)
    return mean, np.sqrt(variance)


def _reasons(splits: list[str], groups: np.ndarray, tested: np.ndarray, total: np.ndarray, minimum: int) -> list[str]:
    """Return, for each row, why it must not be used, or ''."""
    trained = {int(g) for g, split in zip(groups, splits, strict=True) if split == "train" and g >= 0}
    reasons = []
    for i, split in enumerate(splits):
        if total[i] < minimum:
            reasons.append(f"{total[i]:.0f} usable votes, fewer than {minimum}")
        elif split == "train" and tested[i]:
            reasons.append("the same image stands in a test set")
        elif split == "validation" and int(groups[i]) in trained:
            reasons.append("the same image stands in training")
        else:
            reasons.append("")
    return reasons


def _majority(votes: np.ndarray, names: list[str]) -> str:
    """Return the category with the most votes, '' where two share them."""
    best = np.flatnonzero(votes == votes.max())
    return names[best[0]] if len(best) == 1 else ""


def _load(path: Path) -> dict[str, np.ndarray]:
    if path.exists() and not path.is_file():  # reading a pipe may never end
        raise InputError(f"{path} cannot be read as a FER+ array (.npz): it is not a file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if missing := [name for name in ARRAYS if name not in archive]:
                raise InputError(
                    f"{path} is no FER+ array: it lacks {', '.join(missing)}; it holds {', '.join(archive)}"
                )
            data = {name: archive[name] for name in ARRAYS}
        for name in ("name", "usage_names", "vote_columns"):
            data[name] = data[name].astype(str)
    except InputError:
        raise
    except Exception as error:  # zip files raise BadZipFile, zlib.error, RuntimeError, NotImplementedError ...
        raise InputError(f"{path} cannot be read as a FER+ array (.npz): it is damaged, or another format") from error
    _check_arrays(path, data)
    return data | {"images": data["images"].astype(np.uint8), "usage": data["usage"].astype(int)}


def _check_arrays(path: Path, data: dict[str, np.ndarray]) -> None:
    """Refuse arrays that do not belong together, and numbers out of range."""
    count, columns, usages = data["name"].size, data["vote_columns"].tolist(), data["usage_names"].tolist()
    if not count or data["name"].ndim != 1:
        raise InputError(f"{path} holds no face: name is {data['name'].shape}, should be one for each")
    shapes = {"images": (count, 48, 48), "usage": (count,), "votes": (count, np.size(columns)), "dup_group": (count,)}
    for name, shape in {**shapes, "seen_in_private_test": (count,)}.items():
        if data[name].shape != shape or data[name].dtype.kind not in "uib":
            raise InputError(
                f"{path}: {name} is {data[name].dtype} {data[name].shape}, should be whole numbers {shape}"
            )
    if data["usage_names"].ndim != 1 or set(usages) - set(SPLITS):
        raise InputError(f"{path}: usage_names are {usages}; allowed: {', '.join(SPLITS)}, numbered by usage")
    named = [name for name in np.ravel(columns) if name not in UNUSABLE]
    if data["vote_columns"].ndim != 1 or not named or len({expression_name(name) for name in named}) < len(named):
        raise InputError(
            f"{path}: vote_columns are {columns}; allowed: expressions, each once, and {', '.join(UNUSABLE)}"
        )
    most = np.iinfo(np.int64).max
    for name, high in {"images": 255, "usage": len(usages) - 1, "votes": most}.items():
        if data[name].min() < 0 or data[name].max() > high:
            raise InputError(
                f"{path}: {name} goes from {data[name].min()} to {data[name].max()}; "
                f"allowed: {f'0 to {high}' if high < most else 'whole numbers from 0'}"
            )
