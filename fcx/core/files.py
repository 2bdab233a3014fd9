"""Files that are there whole or not at all, and short hashes of what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import uuid
from functools import cache
from pathlib import Path

import numpy as np

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.([0-9a-f]{16})-(\d+)-[0-9a-f]{8}\.partial(\..*)?", re.DOTALL)


@contextlib.contextmanager
def replacing(path: str | os.PathLike):
    """Yield a temporary name beside `path`; on success it becomes `path`, on failure it is gone.

    The temporary name keeps the suffix, so that writers that look at it still work. The file may be read by whom
    the umask says, or by whom could read the file that was there, whatever its writer thinks of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent.absolute())
    temporary = temporary_name(path)
    try:
        temporary.touch()
        mode = (path if path.exists() else temporary).stat().st_mode
        yield temporary
        temporary.chmod(mode & 0o777)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside `path`, of which `sweep` can tell whether its process is still alive."""
    # Short, because the name itself may be as long as the file system allows.
    name, host = (digest(text.encode(errors="surrogateescape")) for text in (path.name, platform.node()))
    return path.with_name(f".{name}.{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial{path.suffix}")


def sweep(folder: Path) -> list[str]:
    """Return the names in a folder, less what processes of this machine that were killed left there, which is removed.

    A folder that is not there, or may not be read, holds nothing.
    """
    names = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
    for left in (match for match in map(TEMPORARY.fullmatch, names) if match):
        host, process = left.groups()[:2]
        if host == digest(platform.node().encode()) and not _alive(int(process)):
            path = folder / left.string
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return [name for name in names if not TEMPORARY.fullmatch(name)]


@cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)  # not at every file, for there may be many


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # where signal 0 is not a question
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def read_json(path: Path):
    """Return what a JSON file holds, or None where it is not there or holds something else."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, into a folder that is made if only the folder itself is not there."""
    temporary = temporary_name(path)
    path.parent.mkdir(exist_ok=True)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(values) -> str:
    """Return a short hash of an array's values (or of bytes)."""
    if isinstance(values, bytes):
        return hashlib.sha256(values).hexdigest()[:16]
    values = np.ascontiguousarray(values)
    total = hashlib.sha256(f"{values.shape}{values.dtype.kind}".encode())
    total.update(np.ascontiguousarray(values.astype(str)) if values.dtype.kind in "OT" else values)  # not copied
    return total.hexdigest()[:16]
