"""Work done in blocks by this process and, where there are several workers, by helpers beside it.

This process takes its turn, so that the work begins at once and is never slower than without helpers, which need
seconds to start. A helper is given the work through a pipe that it reads when it is there, and breaks when it dies.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback

from fcx.core.errors import InputError, WorkerError

PATIENCE = 3  # deaths of helpers, with no block done in between, after which the work is given up
GRACE = 5  # seconds that a helper has to end in
# For what a helper loads later; what it has loaded is told by one_thread.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")


def in_order(work: Callable, blocks: list, workers: int, progress: bool, name: str,
             start: Callable | None = None, unit: str = "face") -> Iterator[tuple[list, object]]:  # fmt: skip
    """Yield (block, work(block)) in order, with a progress bar, from `workers` processes of one thread each.

    `start` is called once in each other process before its first block. One that dies is replaced, and its block
    is done again. The bar counts as many `unit`s as a block is long.

    Raises: WorkerError where they die again and again.
    """
    from tqdm.std import tqdm

    bar = tqdm(total=sum(map(len, blocks)), desc=name, unit=unit, file=sys.stderr, disable=not progress, delay=1)
    with bar, one_thread(), Team(work, blocks, min(workers, len(blocks)) - 1, start) as team:
        for block, result in zip(blocks, team.results(), strict=True):
            yield block, result
            bar.update(len(block))


@contextlib.contextmanager
def one_thread():
    """Use one thread in BLAS, and in OpenCV and torch where they are loaded."""
    from threadpoolctl import threadpool_limits

    cv2, torch = sys.modules.get("cv2"), sys.modules.get("torch")
    switches = [(cv2.getNumThreads(), cv2.setNumThreads)] if cv2 else []
    switches += [(torch.get_num_threads(), torch.set_num_threads)] if torch else []
    with threadpool_limits(1):
        try:
            for _, switch in switches:
                switch(1)
            yield
        finally:
            for before, switch in switches:
                switch(before)


class Team:
    """This process and its helpers, and the blocks that they share; each helper has a thread here that feeds it."""

    def __init__(self, work: Callable, blocks: list, helpers: int, start: Callable | None):
        if helpers > 0 and getattr(multiprocessing.current_process(), "_inheriting", False):
            raise InputError("a script that uses several workers does so below `if __name__ == '__main__':`, because "
                             "each of them reads the script too")  # fmt: skip
        self.work, self.blocks = work, blocks
        self.todo, self.done = deque(range(len(blocks))), {}
        self.deaths, self.closed, self.fault = 0, False, None
        self.change = threading.Condition()  # of any of these
        self.processes: set = set()
        # As bytes, because torch's own way to hand tensors on would move the caller's into shared memory.
        self.job = pickle.dumps((start, work)) if helpers > 0 else b""
        self.threads = [threading.Thread(target=self._assist, name=f"helper {n}", daemon=True) for n in range(helpers)]

    def __enter__(self):
        with deaf_to_interrupts():
            for thread in self.threads:
                thread.start()
        return self

    def __exit__(self, *_):
        with deaf_to_interrupts():  # a second Ctrl-C in here would never end
            with self.change:
                self.closed = True
                for process in self.processes:
                    process.terminate()
            for thread in self.threads:
                thread.join()

    def results(self) -> Iterator:
        """Yield the result of each block in order."""
        for number in range(len(self.blocks)):
            while number not in self.done:
                if (mine := self._take()) is not None:
                    self.done[mine] = self.work(self.blocks[mine])
                    continue
                with self.change:
                    self.change.wait_for(lambda number=number: number in self.done or self.todo or self.fault)
                if self.fault:
                    raise self.fault
            yield self.done.pop(number)

    def _take(self) -> int | None:
        with self.change:
            return self.todo.popleft() if self.todo and not (self.fault or self.closed) else None

    def _done(self, number: int, result) -> None:
        with self.change:
            self.done[number], self.deaths = result, 0
            self.change.notify_all()

    def _died(self, number: int | None) -> None:
        with self.change:
            self.deaths += 1
            if number is not None:
                self.todo.appendleft(number)
            if self.deaths >= PATIENCE:
                self.fault = WorkerError(f"worker processes died {PATIENCE} times in a row, most often for want of "
                                         "memory: run the same again with fewer workers")  # fmt: skip
            self.change.notify_all()

    def _failed(self, error: Exception) -> None:
        with self.change:
            self.fault = error
            self.change.notify_all()

    def _assist(self) -> None:
        """Start helpers, one after the death of another, and hand them blocks until none is left."""
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # which would clear the mask when a helper starts
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for this thread and the helpers it starts
        while self.todo and not (self.closed or self.fault):
            mine = None
            try:
                with self._helper() as ask:
                    good, result = ask(self.job)
                    while good and (mine := self._take()) is not None:
                        good, result = ask(pickle.dumps(self.blocks[mine]))
                        if good:
                            self._done(mine, result)
                    if not good:
                        self._failed(result)
                return
            except (EOFError, OSError):  # of the pipe
                self._died(mine)
            except Exception as error:
                self._failed(error)

    @contextlib.contextmanager
    def _helper(self):
        """Yield a function that sends a message to a new process and returns what it answers."""
        context = multiprocessing.get_context("spawn")  # fresh ones: OpenCV's networks do not survive a fork
        line, theirs = context.Pipe()
        process = context.Process(target=_help, args=(theirs,), daemon=True)

        def ask(message: bytes) -> tuple[bool, object]:
            if self.closed:
                raise EOFError
            line.send_bytes(message)
            return line.recv()

        with line:
            with theirs:  # what is only the helper's breaks when it dies
                process.start()
            with self.change:
                self.processes.add(process)
            try:
                yield ask
            finally:
                with self.change:
                    self.processes.remove(process)
                process.terminate()
                process.join(GRACE)
                process.kill()


def _help(line: Connection) -> None:
    """Answer what comes through `line`, first the work and then its blocks, until it is closed."""
    from tqdm.std import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(ONE_THREAD)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which nobody would clear away
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError), contextlib.ExitStack() as limits:
        work = None
        while True:
            message = line.recv_bytes()
            try:
                if work is None:
                    start, work = pickle.loads(message)
                    if start is not None:
                        start()
                    limits.enter_context(one_thread())
                    result = None
                else:
                    signal.signal(signal.SIGTERM, _leave)  # what is begun is cleaned up
                    result = work(pickle.loads(message))
                answer = True, result
            except Exception as error:
                answer = False, ExceptionWithTraceback(error, error.__traceback__)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            line.send(answer)


def _leave(*_) -> None:
    sys.exit(1)


def _end_with(sentinel) -> None:
    wait([sentinel])
    os._exit(1)  # a parent that was killed would otherwise leave its workers waiting for ever


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


@contextlib.contextmanager
def deaf_to_interrupts():
    """Ignore Ctrl-C for a moment, where this is the thread that hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
