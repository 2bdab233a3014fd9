"""Masked pictures as files, same names and same size: what MaskedAffectNet is."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np

from fcx.contract import InputError, replacing
from fcx.datasets import SUFFIXES, open_source
from fcx.faces import Settings, in_order
from fcx.landmarks import find_landmarks
from fcx.masks import wear_mask

BLOCK = 16  # pictures after which the table is written
TABLE = "masks.csv"
COLUMNS = ("path", "status", "style", "fit", "seed", "faces_found", "detector_score")


def mask_pictures(source, out, *, style="surgical", fit="rigid", seed=0, several="largest", workers=1,
                  overwrite=False, progress=True) -> list[dict]:  # fmt: skip
    """Write each picture of `source` with a mask on its face below the folder `out`, and return a row for each.

    Names and sizes stay; `out`/masks.csv has a row for every input, with "ok" or the reason. A
    picture file as `source` may have a picture file as `out`. The same call after an interruption
    goes on where it stopped.

    Raises: InputError where `out` would write over its source, or over files of other settings.

    >>> mask_pictures("photos", "masked")                                    # doctest: +SKIP
    [{'path': 'ada.jpg', 'status': 'ok', 'style': 'surgical', ...}]
    """
    settings = Settings("whole", style, fit, seed, several=several)
    records, out = open_source(source).records, Path(out)
    one = len(records) == 1 and Path(source).is_file() and out.suffix.lower() in SUFFIXES
    folder = out.parent if one else out
    targets = {record.id: out if one else folder / record.id for record in records}
    _refuse_overwriting(records, targets)
    done = {} if one or overwrite else _done(folder, settings, targets)
    todo = [record for record in records if record.id not in done]
    blocks = [todo[i : i + BLOCK] for i in range(0, len(todo), BLOCK)]
    work = partial(_mask_block, targets=targets, settings=settings)
    for _, rows in in_order(work, blocks, workers, progress, "masks"):
        done |= {row["path"]: row for row in rows}
        if not one:
            _write_table(folder / TABLE, [done[record.id] for record in records if record.id in done])
    return [done[record.id] for record in records]


def _mask_block(records, targets, settings) -> list[dict]:
    return [_mask_one(record, targets[record.id], settings) for record in records]


def _mask_one(record, target: Path, settings) -> dict:
    row = {"path": record.id, "status": record.reason or "ok", "style": settings.style, "fit": settings.fit,
           "seed": settings.seed, "faces_found": "", "detector_score": ""}  # fmt: skip
    try:
        if not record.reason:
            picture = record.read()
            found = find_landmarks(picture, several=settings.several)
            row |= {"faces_found": found.faces, "detector_score": f"{found.score:.3f}"}
            masked, _ = wear_mask(
                picture, found.mesh, settings.style, fit=settings.fit, seed=settings.seed, sample=record.id
            )
            _write_picture(target, masked)
    except InputError as error:
        row["status"] = str(error)
    return row


def _write_picture(target: Path, picture: np.ndarray) -> None:
    from PIL import Image

    grey = (picture[:, :, :1] == picture).all()
    image = Image.fromarray(picture[:, :, 0] if grey else picture)
    options = {"quality": 95, "subsampling": 0} if target.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif") else {}
    with replacing(target) as temporary:
        try:
            image.save(temporary, **options)
        except (ValueError, KeyError) as error:
            raise InputError(f"{target} cannot be written: the format {target.suffix} can only be read") from error


def _refuse_overwriting(records, targets) -> None:
    for record in records:
        origin = record.read.args[0] if isinstance(record.read, partial) and record.read.args else None
        if isinstance(origin, str | Path) and targets[record.id].resolve() == Path(origin).resolve():
            raise InputError(f"{origin} would be written over by its masked self: choose another folder")


def _done(folder: Path, settings, targets) -> dict[str, dict]:
    """Return the rows of an earlier run with the same settings whose pictures are there."""
    rows = []
    if (folder / TABLE).is_file():
        with open(folder / TABLE, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    for row in rows:
        if (row.get("style"), row.get("fit"), row.get("seed")) != (settings.style, settings.fit, str(settings.seed)):
            raise InputError(
                f"{folder} holds masks of other settings (see {TABLE}): choose another folder, or pass overwrite "
                "(--overwrite)"
            )
    known = {row["path"]: row for row in rows}
    for name, target in targets.items():
        if name not in known and target.exists():
            raise InputError(f"{target} is there already and is no mask of this run: choose another folder, or pass "
                             "overwrite (--overwrite)")  # fmt: skip
    return {name: row for name, row in known.items() if name in targets
            and row["status"] == "ok" and targets[name].exists()}  # fmt: skip


def _write_table(path: Path, rows: list[dict]) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
