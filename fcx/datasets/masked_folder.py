"""Masked pictures as files, same names and same size: what MaskedAffectNet is."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.arguments import FilePath, Switch, Workers, checked
from fcx.core.contract import ANGLES
from fcx.core.errors import InputError
from fcx.core.files import digest, replacing
from fcx.core.parallel import in_order
from fcx.core.provenance import STEP_VERSIONS
from fcx.datasets import SUFFIXES, mark, open_source
from fcx.datasets.wearing import MASKED, FaceOptions, begin_workers, donors_of, masked_face
from fcx.geometry.landmarks import find_all_landmarks, find_landmarks
from fcx.geometry.pose import find_pose
from fcx.masks import mask_options

PICTURES_A_BLOCK = 16  # pictures after which the table is written
TABLE = "masks.csv"
TABLE_COLUMNS = ("path", "status", "faces_found", "faces_masked", "detector_score", "yaw", "pitch", "roll", "worn",
                 "source", "picture_hash", "masked_hash", "settings")  # fmt: skip


@checked
def mask_pictures(source, out: FilePath, *, several: str = "largest", workers: Workers = 1, overwrite: Switch = False,
                  progress: Switch = True, **options) -> list[dict]:  # fmt: skip
    """Write each picture of `source` with a mask on its face below the folder `out`, and return a row for each.

    `options` are the fields of `fcx.masks.MaskOptions`. Of `several` faces the `largest` wears the mask, or `all` do,
    or the picture is left out (`refuse`). Names and sizes stay; `out`/masks.csv has a row for every input: "ok" or
    the reason, how many faces were found and masked, the pose of the head (degrees), the look of its mask (`worn`,
    JSON; with `all` a list, the largest face first, whose are the pose and the score), hashes of the pixels read and
    written, and the settings. A picture file as `source` may have a picture file as `out`. The same call after an
    interruption goes on where it stopped, and makes again what came from a file that changed since.

    Raises: InputError where `out` is no folder, or would write over its source or files of other settings.

    >>> mask_pictures("photos", "masked")                                    # doctest: +SKIP
    [{'path': 'ada.jpg', 'status': 'ok', ...}]
    """
    settings = FaceOptions({MASKED: mask_options(**options)}, "whole", several=several)
    start = begin_workers([settings.only]) if workers > 1 else None
    records, out = open_source(source).records, Path(out)
    file = isinstance(source, str | os.PathLike) and Path(source).is_file()
    one = len(records) == 1 and file and out.suffix.lower() in SUFFIXES
    folder = out.parent if one else out
    if not one:  # a folder of masks inside the source is not masked again
        records = [record for record in records if not _lies_in(_origin(record), folder)] or records
    targets = {record.id: out if one else folder / record.id for record in records}
    _refuse_overwriting(records, targets, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be a folder for masked pictures: {error.strerror}") from error
    if one and out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another name, or pass overwrite (--overwrite)")
    jobs = list(zip(records, donors_of(records, records, settings.only), strict=True))
    rows = {record.id: _row(record, donors, settings) for record, donors in jobs}
    done = {} if one or overwrite else _done(folder, rows, targets)
    todo = [job for job in jobs if job[0].id not in done]
    blocks = [todo[i : i + PICTURES_A_BLOCK] for i in range(0, len(todo), PICTURES_A_BLOCK)]

    def save() -> None:
        if not one:
            _write_table(folder / TABLE, [done.get(name) or {**row, "status": "pending"} for name, row in rows.items()])

    save()  # an interrupted run must know its own files again
    work = partial(_mask_block, targets=targets, settings=settings)
    for _, made in in_order(work, blocks, workers, progress, "masks", start):
        done |= {row["path"]: row for row in made}
        save()
    return [done[record.id] for record in records]


def _mask_block(jobs, targets, settings) -> list[dict]:
    return [_mask_one(record, targets[record.id], settings, donors) for record, donors in jobs]


def _mask_one(record, target: Path, settings, donors=()) -> dict[str, str]:
    row = _row(record, donors, settings)
    try:
        if not record.reason:
            picture = record.read()
            row["picture_hash"] = digest(picture)
            every = settings.several == "all"
            faces = find_all_landmarks(picture) if every else [find_landmarks(picture, several=settings.several)]
            angles = zip(ANGLES, find_pose(faces[0].mesh).angles, strict=True)
            row |= {"faces_found": str(faces[0].faces), "detector_score": f"{faces[0].score:.3f}"}
            row |= {name: f"{angle:.1f}" for name, angle in angles}
            masked, looks = picture, []
            for number in reversed(range(len(faces))):  # the largest is the nearest
                one = replace(record, id=f"{record.id}#{number + 1}") if number else record
                masked, _, look = masked_face(masked, faces[number].mesh, one, MASKED, settings, donors)
                looks.insert(0, look)
            _write_picture(target, masked)
            row |= {"worn": json.dumps(looks if every else looks[0], ensure_ascii=False),
                    "faces_masked": str(len(faces)), "masked_hash": digest(masked)}  # fmt: skip
    except InputError as error:
        row["status"] = str(error)
    return row


def _row(record, donors, settings) -> dict[str, str]:
    """Return the row of a record before anything is known of its face."""
    how = {name: value for name, value in settings.attrs().items() if name not in ("crop", "landmarks")}
    how |= {"drawn_from": settings.drawn_from(), "version": STEP_VERSIONS["faces"]}
    return dict.fromkeys(TABLE_COLUMNS, "") | {
        "path": record.id, "status": record.reason or "ok", "settings": json.dumps(how, ensure_ascii=False),
        "source": digest(repr([mark(one.read) for one in (record, *donors)]).encode(errors="surrogateescape")),
    }  # fmt: skip


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


def _refuse_overwriting(records, targets, folder) -> None:
    for record in records:
        if not Path(os.path.abspath(targets[record.id])).is_relative_to(os.path.abspath(folder)):
            raise InputError(f"{record.id} would be written outside {folder}: give paths below the table's own folder")
        origin = _origin(record)
        if origin and os.path.realpath(targets[record.id]) == os.path.realpath(origin):
            raise InputError(f"{origin} would be written over by its masked self: choose another folder")


def _origin(record) -> str:
    """Return the path of the file behind a record, '' where there is none."""
    origin = record.read.args[0] if isinstance(record.read, partial) and record.read.args else None
    return os.fspath(origin) if isinstance(origin, str | os.PathLike) else ""


def _lies_in(path: str, folder: Path) -> bool:
    return bool(path) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _done(folder: Path, wanted: dict[str, dict], targets) -> dict[str, dict]:
    """Return the rows of an earlier run with the same settings whose sources are as they were, and pictures there."""
    rows = []
    if (folder / TABLE).is_file():
        with open(folder / TABLE, newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
        if rows and not {"path", "status"} <= rows[0].keys():
            raise InputError(f"{folder / TABLE} is no table of masked pictures: choose another folder, or move it away")
    settings = next(iter(wanted.values()))["settings"]
    if any(row.get("settings") != settings for row in rows):
        raise InputError(
            f"{folder} holds masks of other settings, or of another version of fcx (see {TABLE}): choose another "
            "folder, or pass overwrite (--overwrite)"
        )
    known = {row["path"]: row for row in rows}
    for name, target in targets.items():
        if name not in known and target.exists():
            raise InputError(f"{target} is there already and is no mask of this run: choose another folder, or pass "
                             "overwrite (--overwrite)")  # fmt: skip
    return {name: row for name, row in known.items() if name in targets and row["status"] == "ok"
            and row["source"] == wanted[name]["source"] and targets[name].exists()}  # fmt: skip


def _write_table(path: Path, rows: list[dict]) -> None:
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, TABLE_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
