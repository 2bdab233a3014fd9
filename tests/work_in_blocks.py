"""Work for helpers in test_parallel.py, in a module that their processes can import."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path


def is_helper() -> bool:
    return multiprocessing.parent_process() is not None


def wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, file
        time.sleep(0.005)


def square(block):
    return [number**2 for number in block]


def die_once(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die_at_first_block(block, folder: Path):
    """Helpers: the first dies at its first block. The parent leaves blocks until the second has done one."""
    if is_helper():
        die_once(folder / "died")
        (folder / "replaced").touch()
    else:
        wait_for(folder / "replaced")
    return square(block)


def after(block, mark: Path, ballast: bytes):
    if not is_helper():
        wait_for(mark)
    return square(block)


def alone(block, ballast: bytes):
    """Wait until nobody starts helpers any more."""
    while any(thread.name.startswith("helper") for thread in threading.enumerate()):
        time.sleep(0.005)
    return square(block)


def fail(block, mark: Path, error: Exception):
    if is_helper():
        mark.touch()
        raise error
    wait_for(mark)
    return square(block)


def who(block, folder: Path):
    """Return the process and its threads of OpenCV and torch; both processes have done a block."""
    import cv2
    import torch

    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.005)
    return (
        os.getpid(),
        cv2.getNumThreads(),
        torch.get_num_threads(),
        "started" in {t.name for t in threading.enumerate()},
    )


def begin() -> None:
    threading.Thread(target=time.sleep, args=(60,), name="started", daemon=True).start()
