"""AFEW-VA: clips of films, a folder of frames each, rated frame by frame in a JSON file.

Kossaifi et al., "AFEW-VA database for valence and arousal estimation in-the-wild", Image and Vision Computing 2017.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

from fcx.core.errors import InputError
from fcx.datasets.layouts import Rows, folders_below, names_in, number, points_of, text_lines
from fcx.datasets.pictures import SUFFIXES, read_picture
from fcx.datasets.records import Record, adapter

RANGE = 10  # ratings are whole numbers from -10 to 10


def _is_clip(folder: Path) -> bool:
    return folder.name.isdigit() and (folder / f"{folder.name}.json").is_file()


def _is_afewva(path: Path, depth: int) -> bool:
    return path.is_dir() and any(map(_is_clip, folders_below(path, depth)))


def _clips(path: Path) -> list[Path]:
    """Return the folders of the clips, those without ratings too."""
    if _is_clip(path):
        return [path]
    parents = sorted({folder.parent for folder in folders_below(path, 2) if _is_clip(folder)})
    return [parent / name for parent in parents for name in sorted(names_in(parent))
            if name.isdigit() and (parent / name).is_dir()]  # fmt: skip


@adapter("afewva", takes=lambda path: _is_afewva(path, 2), evident=lambda path: _is_afewva(path, 0))
def open_afewva(path: Path, strict: bool = False) -> list[Record]:
    """Return a record for each rated frame of the clips in a folder, and for each picture that nobody rated.

    A clip is a folder `001` with `001.json` and pictures `00000.png`, ...; it is the subject of its frames. Ratings
    from -10 to 10 become -1 to 1, and the 68 landmarks are kept. A frame without a picture or with a faulty rating,
    a picture without a rating, and all pictures of a clip whose JSON is missing or damaged have the reason.

    Raises: InputError, where `strict`, for a faulty frame.
    """
    rows = Rows("AFEW-VA", strict)
    for clip in _clips(path):
        pictures = {os.path.splitext(name)[0]: name for name in sorted(names_in(clip))
                    if os.path.splitext(name)[1].lower() in SUFFIXES}  # fmt: skip
        file = clip / f"{clip.name}.json"
        try:
            frames, twice = _frames(file)
        except InputError as error:
            frames, twice, missing = {}, set(), str(error)
        else:
            missing = "it has no entry below 'frames'"
        for frame in sorted({*frames, *pictures}):
            name = f"{clip.name}/{pictures.get(frame, f'{frame}.png')}"
            read, where = partial(read_picture, str(clip.parent / name)), f"{file}, frame {frame}"
            if frame not in frames:
                rows.refuse(where, name, read, missing, subject=clip.name)
                continue
            wrong = "it stands there more than once" if frame in twice else ""
            wrong = wrong or ("" if frame in pictures else f"its picture {name} is missing")
            rows.add(where, name, read, partial(_known, frames[frame], wrong), subject=clip.name)
    return rows.records


def _frames(file: Path) -> tuple[dict, set[str]]:
    """Return the ratings of a clip by frame, and the frames that stand in the file more than once."""
    twice = set()

    def once(pairs: list) -> dict:
        names = [name for name, _ in pairs]
        twice.update(name for name in names if names.count(name) > 1 and name.isdigit())
        return dict(pairs)

    text = "\n".join(line for _, line in text_lines(file))
    try:
        frames = json.loads(text, object_pairs_hook=once)["frames"]
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (KeyError, TypeError, RecursionError) as error:
        raise InputError("it has no entry 'frames'") from error
    if not isinstance(frames, dict):
        raise InputError("'frames' is no table of frames")
    return frames, twice


def _known(frame, wrong: str) -> dict:
    """Return what the JSON says of a frame."""
    if wrong or not isinstance(frame, dict):
        raise InputError(wrong or "it holds no table of landmarks, valence and arousal")
    if missing := [name for name in ("valence", "arousal") if name not in frame]:
        raise InputError(f"it has no {' and no '.join(missing)}")
    known = {name: number(frame[name], name, -RANGE, RANGE) / RANGE for name in ("valence", "arousal")}
    points = frame.get("landmarks")
    return known | {"points": points_of(points, "landmarks") if points else None}
