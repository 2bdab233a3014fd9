"""What an adapter returns, and the one registry of adapters."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fcx.core.checks import choose, choose_all
from fcx.core.contract import EXPRESSIONS
from fcx.core.errors import InputError
from fcx.core.files import digest

UNKNOWN = float("nan")  # a label that nobody gave
EXCLUDED = "excluded"  # the split of a row that must not be used, whatever its picture looks like

# Spellings in use elsewhere. Numbers are not mapped: data sets number their categories differently.
_SPELLINGS = {
    **{name: name for name in EXPRESSIONS},
    **dict.fromkeys(("happiness", "joy"), "happy"),
    **dict.fromkeys(("sadness", "sorrow"), "sad"),
    **dict.fromkeys(("surprised", "astonishment"), "surprise"),
    **dict.fromkeys(("fearful", "afraid", "scared"), "fear"),
    **dict.fromkeys(("disgusted",), "disgust"),
    **dict.fromkeys(("angry",), "anger"),
    **dict.fromkeys(("contemptuous",), "contempt"),
    **dict.fromkeys(("", "unknown", "uncertain", "none", "nan"), ""),
}


@dataclass(frozen=True, eq=False)
class Record:
    """One picture with what is known about it; it can be pickled.

    `read()` returns the picture, RGB uint8 (row, column, channel), or raises ImageError.
    `valence` and `arousal` are in [-1, 1] or NaN, the spreads are the raters' standard deviations
    where they are known. `reason` is empty, or says why the row cannot be used. `box` (left, top, width, height)
    and `points`, 68 landmarks (point, xy), are what the data set itself says of the face, in picture pixels.
    """

    id: str
    read: Callable[[], np.ndarray] = field(repr=False)
    valence: float = UNKNOWN
    arousal: float = UNKNOWN
    expression: str = ""
    subject: str = ""
    split: str = ""
    source: str = ""
    reason: str = ""
    valence_spread: float = UNKNOWN
    arousal_spread: float = UNKNOWN
    box: tuple[float, float, float, float] | None = None
    points: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Source:
    """The records that an adapter found, in a fixed order, and how they were asked for."""

    records: list[Record]
    adapter: str
    path: str
    options: dict = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Return a hash of ids, labels and pictures (of files: path, size and time), to tell an input that changed."""
        marks = [repr((r.id, r.valence, r.arousal, r.expression, r.reason, mark(r.read), *_place(r)))
                 for r in self.records]  # fmt: skip
        return digest("\n".join(marks).encode(errors="surrogateescape"))


def _place(record: Record) -> tuple:
    """Return where the data set says that the face is, nothing where it does not."""
    points = () if record.points is None else (digest(np.ascontiguousarray(record.points, dtype=float)),)
    return (*(() if record.box is None else (record.box,)), *points)


def mark(read: Callable) -> tuple:
    """Return what tells the picture behind `read` from another one."""
    origin = read.args[0] if isinstance(read, partial) and read.args else None
    if isinstance(origin, np.ndarray):
        return (digest(origin),)
    try:
        found = os.stat(origin)
    except (OSError, TypeError, ValueError):
        return (str(origin),)
    return (os.path.realpath(origin), found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Adapter:
    """A format: `takes` says whether a path is of it (None: asked for by name), `open` returns its records.

    With `objects` both get what was given, which is no path: a list, a table in memory.

    `last`: it takes what no other format knows, as a folder of pictures does. `evident` says, more sceptically than
    `takes`, whether a path that nobody asked for is of the format.
    """

    name: str
    takes: Callable[[Path], bool] | None
    open: Callable[..., list[Record]]
    last: bool = False
    evident: Callable[[Path], bool] | None = None
    objects: bool = False


ADAPTERS: dict[str, Adapter] = {}


def adapter(
    name: str, takes: Callable | None, last: bool = False, evident: Callable | None = None, objects: bool = False
) -> Callable:
    """Register the function below as the adapter for the paths that `takes` accepts.

    The function gets a Path and its own keyword options, and returns a list of records. With an option `strict`, it
    gives each faulty row a record whose `reason` is `fault(text, strict)`.
    An adapter for which a path is `evident` gets it, else the first registered one that takes it, those that are
    `last` after all others. Where
    `takes` is None, the source is asked for by `name`. Where a folder is read as plain pictures, a warning names what
    lies in it or above it for which `evident` (else `takes`) holds: a `takes` that looks at a suffix only needs one.
    With `objects` the function takes what is no path.
    """

    def register(function: Callable[..., list[Record]]) -> Callable[..., list[Record]]:
        ADAPTERS[name] = Adapter(name, takes, function, last, None if objects else evident or takes, objects)
        return function

    return register


def open_source(
    source: str | os.PathLike | Iterable,
    *,
    strict: bool = False,
    split: str | Iterable[float] | None = None,
    split_seed: int = 0,
    **options: object,
) -> Source:
    """Return the records of `source`: 'demo', a folder, a CSV, a FER+ array (.npz), one picture; a DataFrame, a list.

    `options` are those of the adapter. A folder that is called demo is given as './demo'. A row that is faulty has a
    record with the reason, or, where `strict`, stops; rows that the data set itself excludes are no faults. `split`,
    such as "0.8,0.2", makes splits where the data set has none (`fcx.datasets.splits`).

    Raises: InputError where nothing is found, the table or an option is wrong, or two records share an id.

    >>> from fcx.datasets import open_source
    >>> len(open_source("demo").records)
    473
    """
    found, name = _find(source), _name(source)
    choose_all(options, source_options(source), f"option of a {found.name} source")
    told = {"strict": strict} if "strict" in inspect.signature(found.open).parameters else {}
    records = found.open(source if found.objects else _path(source), **options, **told)
    if strict:
        _refuse_faults(records, name)
    _check_ids(records, name)
    if split is not None:
        from fcx.datasets.splits import with_splits

        records = with_splits(records, split, split_seed, name)
    return Source(records, found.name, name, dict(options))


def _name(source) -> str:
    """Return what texts call a source: the path or name, or what kind of object it is."""
    return str(source) if isinstance(source, str | os.PathLike) else f"a {type(source).__name__} of {len(source)}"


def counts_of(records: list[Record]) -> dict[str, int]:
    """Return how many rows there are, are excluded by their data set or faulty, and of the others lack a value.

    >>> counts_of(open_source("demo").records)
    {'rows': 473, 'excluded': 0, 'faulty': 0, 'without valence': 61, 'without arousal': 61}
    """
    excluded = sum(record.split == EXCLUDED for record in records)
    good = [record for record in records if not record.reason and record.split != EXCLUDED]
    return {
        "rows": len(records),
        "excluded": excluded,
        "faulty": len(records) - excluded - len(good),
        **{f"without {name}": sum(math.isnan(getattr(record, name)) for record in good)
           for name in ("valence", "arousal")},
    }  # fmt: skip


def _refuse_faults(records: list[Record], name: str) -> None:
    for record in records:
        if record.reason and record.split != EXCLUDED:
            raise InputError(f"{name}, {record.id}: {record.reason}")


def fault(text: str, strict: bool) -> str:
    """Return `text`, which names file, line and column of a faulty row, as the `reason` of its record.

    Raises: InputError with the text where `strict`.

    >>> fault("labels.csv, line 3: valence is 'x'", strict=False)
    "labels.csv, line 3: valence is 'x'"
    """
    if strict:
        raise InputError(text)
    return text


def _check_ids(records: list[Record], source: str) -> None:
    """Refuse ids that cannot be the name of a file, and those that stand twice."""
    known = set()
    for record in records:
        name = posixpath.normpath(record.id)
        if "\0" in name or name == ".":
            raise InputError(f"{source}: the id {record.id!r} cannot be the name of a file")
        if name in known:
            raise InputError(f"{source}: the id {record.id!r} stands for more than one row: ids must be unique")
        known.add(name)


def source_options(source) -> list[str]:
    """Return the names of the options that the format of `source` takes."""
    return [name for name in list(inspect.signature(_find(source).open).parameters)[1:] if name != "strict"]


def _find(source) -> Adapter:
    """Return the adapter of `source`."""
    if not isinstance(source, str | os.PathLike) or not str(source):
        for candidate in ADAPTERS.values():
            if candidate.objects and candidate.takes(source):
                return candidate
        given = repr(source) if isinstance(source, str) else f"a {type(source).__name__}"
        raise InputError(f"a source is a name or a path, not {given}: allowed: {_formats()}")
    if "\0" in str(source):
        raise InputError(f"no path holds a NUL character, as {str(source)!r} does: allowed: {_formats()}")
    named = [name for name, candidate in ADAPTERS.items() if candidate.takes is None]
    if str(source) in named:
        return ADAPTERS[str(source)]
    path = _path(source)
    if not os.path.lexists(path):
        near = difflib.get_close_matches(str(source), named, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"there is no file or folder {str(source)!r}: {hint}allowed: {_formats()}")
    of_paths = [candidate for candidate in ADAPTERS.values() if candidate.takes and not candidate.objects]
    first = [(candidate.evident, candidate) for candidate in of_paths if not candidate.last]
    then = [(candidate.takes, candidate) for candidate in sorted(of_paths, key=lambda candidate: candidate.last)]
    for test, candidate in first + then:
        if test(path):
            return candidate
    raise InputError(f"{path} is of no known format: allowed: {_formats()}")


def _path(source: str | os.PathLike) -> Path:
    return Path(os.path.expanduser(source))  # Path.expanduser raises where there is no such user


def _formats() -> str:
    return ("'demo', a folder of pictures, a CSV with columns path, valence, arousal, a picture, or a data set: "
            "AffectNet (2017, 2021), FER+ (published files or an array .npz), RAF-DB, AFEW-VA, Aff-Wild2, pictures "
            "named ..__arousal__valence (docs/datasets.md); in Python a DataFrame with these columns, or a list of "
            "pictures")  # fmt: skip


def expression_name(text: str) -> str:
    """Return the name that fcx uses for an expression ('' for unknown).

    Raises: UnknownNameError for a name or number that stands for none.

    >>> expression_name("Happiness")
    'happy'
    """
    key = text.strip().casefold()
    if key in _SPELLINGS:
        return _SPELLINGS[key]
    return choose(key, EXPRESSIONS, "expression")


def label(value: float, name: str, where: str) -> float:
    """Return a valence or arousal that is in [-1, 1] or NaN (unknown).

    Raises: InputError naming `where` for anything else.
    """
    if math.isnan(value) or -1 <= value <= 1:
        return value
    hint = " (-2 and -5 mark 'unknown' in some data sets: leave the cell empty)" if value in (-2, -5) else ""
    raise InputError(f"{where}: {name} is {value:g}; allowed: -1 to 1, or empty where unknown{hint}")
