"""Work done in blocks, in order, by one process or several."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

from fcx.core.errors import InputError


def in_order(work: Callable, blocks: list, workers: int, progress: bool, name: str,
             start: Callable | None = None) -> Iterator[tuple[list, object]]:  # fmt: skip
    """Yield (block, work(block)) in order, with a progress bar, from one process or several.

    `start` is called once in each worker process before its first block.
    """
    from tqdm.std import tqdm

    bar = tqdm(total=sum(map(len, blocks)), desc=name, unit="face", file=sys.stderr, disable=not progress, delay=1)
    with bar:
        if workers == 1:
            made = map(work, blocks)
        else:
            # Fresh processes: OpenCV's networks do not survive a fork. They inherit that Ctrl-C is not for them.
            context = multiprocessing.get_context("spawn")
            with _deaf_to_interrupts():
                pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(start,))
                made = pool.map(work, blocks)
        try:
            for block, result in zip(blocks, made, strict=True):
                yield block, result
                bar.update(len(block))
        finally:
            if workers > 1:
                with _deaf_to_interrupts():  # a second Ctrl-C in here would never end
                    pool.shutdown(cancel_futures=True)


def portable(value, what: str):
    """Return `value` if another process can be given it.

    Raises: InputError where it lives in this session only, as what a notebook defines does.
    """
    names = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if callable(item) and getattr(item, "__module__", None) == "__main__":
                names.append(getattr(item, "__name__", str(item)))

    try:
        with open(os.devnull, "wb") as nowhere:
            Pickler(nowhere).dump(value)
        fault = names and not hasattr(sys.modules["__main__"], "__file__") and "it is defined in this session only"
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        fault = str(error)
    if fault:
        raise InputError(
            f"{what} cannot be sent to worker processes ({fault}): use workers=1, or define it in a module that "
            "can be imported"
        )
    return value


def _begin(start: Callable | None) -> None:
    """Make a worker ready: one thread, and an end with its parent, however that ends."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if start is not None:
        start()


def _end_with(sentinel) -> None:
    wait([sentinel])
    os._exit(1)  # a parent that was killed would otherwise leave its workers waiting for ever


@contextlib.contextmanager
def _deaf_to_interrupts():
    """Ignore Ctrl-C for a moment, where this is the thread that hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
