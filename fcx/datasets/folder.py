"""A folder of pictures, or one picture: no labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fcx.core.errors import InputError
from fcx.datasets.neighbours import labels_beside
from fcx.datasets.pictures import SUFFIXES, read_picture
from fcx.datasets.records import Record, adapter

# What accompanies pictures and is passed over without a row: text and tables, arrays and landmarks, notes of cameras
# and desktops, code. Whatever else is no picture may be one that somebody counts on: it has a row that says why not.
COMPANIONS = frozenset((
    ".txt", ".md", ".rst", ".log", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg",
    ".html", ".htm", ".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl",
    ".parquet", ".safetensors", ".pts", ".xmp", ".aae", ".thm", ".db", ".url", ".lnk", ".md5", ".sha256", ".py",
    ".ipynb", ".m", ".r", ".sh", "license", "licence", "readme", "notice", "copying", "authors", "changelog",
))  # fmt: skip
STORE = ".zarr"  # a folder that holds arrays
KERNEL = frozenset((
    "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "bpf",
    "mqueue", "pstore", "efivarfs",
))  # fmt: skip
MOST = 5_000_000  # files; larger data sets are given as a CSV


@adapter("folder", takes=Path.is_dir, last=True)
def open_folder(path: Path) -> list[Record]:
    """Return a record for each picture below `path`, sorted; its id is the path inside the folder.

    Pictures are known by their suffix. What is named like a picture and is none, a file of another suffix,
    and a folder below that is not entered, has a row with the reason. Hidden files and folders, Zarr stores
    and what accompanies pictures (`COMPANIONS`) are passed over. A linked folder is entered, each real
    folder once. A warning says where labels of the pictures lie in a format that fcx reads.

    Raises: InputError where there is no picture, or more than 5,000,000 files, or `path` cannot be listed
    or is the root of the file system.
    """
    records = pictures_below(path)
    if labels := labels_beside(path):
        warnings.warn(labels, stacklevel=3)
    return records


def pictures_below(path: Path) -> list[Record]:
    """Return the records of `open_folder`, without looking for labels.

    Raises: as `open_folder`.
    """
    unused = {}  # path inside -> reason
    kernel = _kernel_devices()

    def note(error: OSError) -> None:
        if Path(error.filename) == path:
            raise InputError(f"the folder {path} cannot be listed: {error.strerror}") from error
        unused[os.path.relpath(error.filename, path)] = f"the folder cannot be listed: {error.strerror}"

    if os.path.realpath(path) == os.path.realpath(path.absolute().anchor):
        raise InputError(f"the folder {path} is the root of the file system: give the one that holds the pictures")
    if kind := kernel.get(path.stat().st_dev):
        raise InputError(f"the folder {path} lies on a file system of the kernel ({kind}): it holds no pictures")
    pictures = set()
    for number, inside in enumerate(_files(path, note, kernel, unused)):
        suffix = os.path.splitext(inside)[1].lower()
        if number == MOST:
            raise InputError(f"{path} holds more than {MOST:,} files: give a folder below it, or a CSV of the pictures")
        if suffix in SUFFIXES:
            pictures.add(inside)
        elif (suffix or os.path.basename(inside).lower()) not in COMPANIONS:
            named = f"its suffix {suffix!r} is that of no picture that fcx reads" if suffix else "it has no suffix"
            unused[inside] = f"not read, because {named}: {', '.join(sorted(SUFFIXES))}"
    if not pictures and not any(reason.startswith("the folder") for reason in unused.values()):
        others = sorted({os.path.splitext(inside)[1].lower() or "no suffix" for inside in unused})[:8]
        raise InputError(
            f"{path} holds no picture: looked in it and below for {', '.join(sorted(SUFFIXES))}"
            + (f"; it holds {len(unused)} other files ({', '.join(others)})" if others else "")
        )
    return [Record(id=_name(inside), read=partial(read_picture, path / inside), source=path.name,
                   reason=unused.get(inside, "")) for inside in sorted({*pictures, *unused})]  # fmt: skip


@adapter("picture", takes=lambda path: path.is_file() or path.is_symlink(), last=True)
def open_picture(path: Path) -> list[Record]:
    """Return the record of one picture file; whether it can be read shows when it is read."""
    return [Record(id=_name(path.name), read=partial(read_picture, path), source=path.parent.name)]


def _files(top: Path, note: Callable, kernel: dict[int, str], unused: dict[str, str]) -> Iterator[str]:
    """Yield the paths, relative to `top`, of all files that are not hidden, and of folders named like a picture."""
    entered = {os.path.realpath(top)}
    for folder, below, files in os.walk(top, followlinks=True, onerror=note):
        inside = os.path.relpath(folder, top)
        names = [name for name in sorted(below) if not name.startswith(".") and not name.lower().endswith(STORE)]
        # A folder named like a picture has a row that says so, as have a dangling link, a pipe and a socket.
        like = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
        for name in (*(name for name in files if not name.startswith(".")), *like):
            yield os.path.normpath(os.path.join(inside, name))
        # Assigning in place tells os.walk where to go; a link back to a folder already entered is not followed.
        below[:] = []
        for name in names:
            real = os.path.realpath(os.path.join(folder, name))
            if kind := kernel.get(_device(real)):
                unused[os.path.normpath(os.path.join(inside, name))] = (
                    f"the folder is not entered: it lies on a file system of the kernel ({kind})"
                )
            elif real not in entered:
                entered.add(real)
                below.append(name)


def _device(path: str) -> int:
    try:
        return os.stat(path).st_dev
    except OSError:  # gone since, or not allowed: listing it will say so
        return -1


def _kernel_devices() -> dict[int, str]:
    """Return the devices whose files the kernel makes up while they are looked at, with their kind (on Linux)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    devices = {}
    for line in lines:  # 22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
        mount, _, kind = line.partition(" - ")
        if (name := kind.split(" ")[0]) in KERNEL:
            devices[os.makedev(*map(int, mount.split(" ")[2].split(":")))] = name
    return devices


def _name(path: str) -> str:
    """Return `path` as an id: forward slashes, and bytes that are no UTF-8 written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")
