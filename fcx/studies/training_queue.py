"""Trainings of a plan, made where they are missing: side by side, resumable, one that fails loses no other."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fcx.core.errors import CheckpointError, FcxError, InputError
from fcx.core.files import replacing
from fcx.core.parallel import in_order
from fcx.networks.checkpoints import read_metadata
from fcx.networks.tensor_files import SUFFIX, read_tensors
from fcx.networks.training import train
from fcx.studies.training_plan import LADDER_MASKS, PARTS, Scale, Training, plan_table, trainings_of

LOG = logging.getLogger(__name__)
LOOK_EVERY = 10  # seconds between two looks at how far trainings are


def train_missing(
    parts, scale: Scale, faces, folder: Path, workers: int, progress: bool, **common
) -> tuple[dict, dict]:
    """Return part -> (name -> file) of the trainings of a plan, made where they are missing, and why some failed.

    Raises: CheckpointError for a checkpoint in the folder that has the name of a training and is another one;
    InputError where the faces lack a condition.
    """
    plan = trainings_of(parts, scale)
    _check_conditions(plan, faces)
    with replacing(folder / "plan.csv") as temporary:
        plan_table(plan).to_csv(temporary, index=False, lineterminator="\n")
    for row in plan:
        _check_there(row, folder)
    failures: dict[str, str] = {}
    work = partial(_teach, faces=faces, folder=folder, common=common)
    with _watched(plan, folder, progress):
        for with_start in (False, True):  # one after the other: a start has to be there
            missing = [row for row in plan if bool(row.start) == with_start and not _file(folder, row.name).exists()]
            missing.sort(key=len, reverse=True)  # the longest first, so that none is left over at the end
            for row, reason in in_order(work, missing, workers, False, "trainings"):
                if reason:
                    failures[row.name] = reason
                LOG.info("%s: %s", row.name, reason or "trained")
    files = {}
    for name in parts:
        rows = [row for row in PARTS[name](scale) if _file(folder, row.name).exists()]
        files[name] = {row.name: _file(folder, row.name) for row in rows}
    return {name: of_part for name, of_part in files.items() if of_part}, failures


def _check_conditions(plan: list[Training], faces) -> None:
    """Refuse faces that do not wear what the plan needs.

    Raises: InputError naming the conditions, and how faces come by those of the ladder.
    """
    there = faces["condition"].values.astype(str).tolist()
    if lacking := [name for name in dict.fromkeys(row.condition for row in plan) if name not in there]:
        hint = f", with masks={json.dumps(LADDER_MASKS)}" if set(lacking) & set(LADDER_MASKS) else ""
        raise InputError(f"the trainings need the conditions {', '.join(lacking)}, and the faces have "
                         f"{', '.join(there)}: prepare them so{hint}")  # fmt: skip


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def _check_there(row: Training, folder: Path) -> None:
    """Refuse a checkpoint that has the name of a training and is another one.

    Raises: CheckpointError naming what differs.
    """
    if not (path := _file(folder, row.name)).exists():
        return
    there = read_metadata(path)
    wanted = {"condition": row.condition, "scheme": row.scheme, "seed": row.seed}
    found = {name: there.get(name) for name in wanted}
    if "width" in row.options:
        wanted["width"], found["width"] = row.options["width"], there["config"]["width"]
    if row.start and (start := _file(folder, row.start)).exists():
        wanted["start"], found["start"] = (str(each)[:12] for each in (
            read_metadata(start)["sha256"], there.get("start", {}).get("sha256")))  # fmt: skip
    if differing := [
        f"{name} is {found[name]}, planned {wanted[name]}" for name in wanted if found[name] != wanted[name]
    ]:
        raise CheckpointError(f"{path} is another training than the plan's: {'; '.join(differing)}. Give another "
                              "folder, or the options it was trained with, or remove it")  # fmt: skip


def _teach(row: Training, faces, folder: Path, common: Mapping) -> str:
    """Train one network into the folder; return why it could not be, or ""."""
    start = _file(folder, row.start) if row.start else None
    if start is not None and not start.exists():
        return f"its start {row.start} is not trained"
    try:
        train(faces, _file(folder, row.name), condition=row.condition, scheme=row.scheme, start=start, seed=row.seed,
              threads=1, progress=False, **common, **row.options)  # fmt: skip
    except Exception as error:  # one training must not take the others with it
        return str(error) if isinstance(error, FcxError) else f"{type(error).__name__}: {error}"
    return ""


@contextlib.contextmanager
def _watched(plan: list[Training], folder: Path, progress: bool):
    """Show how many faces all trainings have passed through, of how many, and how long the rest may take."""
    from tqdm.std import tqdm

    done, total = threading.Event(), sum(map(len, plan))
    bar = tqdm(total=total, initial=min(total, _passed(plan, folder)), desc="trainings", unit="face", unit_scale=True,
               file=sys.stderr, disable=not progress, smoothing=0.05)  # fmt: skip

    def look():
        while not done.wait(LOOK_EVERY):
            bar.update(_passed(plan, folder) - bar.n)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        bar.update(_passed(plan, folder) - bar.n)
        bar.close()


def _passed(plan: list[Training], folder: Path) -> int:
    """Return how many faces the trainings have passed through, by what lies in the folder."""
    count = 0
    for row in plan:
        if (path := _file(folder, row.name)).exists():
            count += len(row)
        elif (state := path.with_name(path.name + ".state")).exists():
            with contextlib.suppress(CheckpointError, KeyError, OSError):  # it may be gone the next moment
                count += len(row) * read_tensors(state, header_only=True)[1]["epoch"] // row.options["epochs"]
    return count
