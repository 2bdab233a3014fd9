"""Work in blocks by several processes: order, deaths at any moment, errors, threads, Ctrl-C."""

import errno
import multiprocessing
import os
import re
import subprocess
import sys
from functools import partial

import cv2
import pytest
import torch
import work_in_blocks as work

from fcx.core.errors import InputError, WorkerError
from fcx.core.parallel import in_order

BLOCKS = [[3 * i, 3 * i + 1] for i in range(6)]
SQUARES = [(block, work.square(block)) for block in BLOCKS]
BALLAST = bytes(2**20)  # more than a pipe holds


def run(function, workers=2, blocks=BLOCKS, **options):
    return list(in_order(function, blocks, workers, False, "work", **options))


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_order(workers):
    assert run(work.square, workers) == SQUARES
    assert run(work.square, workers, []) == []


def test_a_helper_that_dies_while_it_starts_is_replaced_and_nobody_waits_for_it(tmp_path):
    mark = tmp_path / "died"
    assert run(partial(work.after, mark=mark, ballast=BALLAST), start=partial(work.die_once, mark)) == SQUARES


def test_a_helper_that_dies_at_a_block_is_replaced_and_the_block_done_again(tmp_path):
    assert run(partial(work.die_at_first_block, folder=tmp_path)) == SQUARES
    assert multiprocessing.active_children() == []


def test_helpers_that_never_start_are_not_tried_for_ever(monkeypatch):
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(WorkerError, match=r"died 3 times in a row.*with fewer workers"):
        run(partial(work.alone, ballast=BALLAST))


@pytest.mark.parametrize(
    "error", [InputError("no face"), OSError(errno.ENOSPC, "No space left on device"), EOFError("no more")]
)
def test_an_error_of_a_helper_is_that_of_the_work(error, tmp_path):
    with pytest.raises(type(error), match=re.escape(str(error))):
        run(partial(work.fail, mark=tmp_path / "failed", error=error))


def test_every_process_uses_one_thread_and_the_caller_gets_its_own_back(tmp_path):
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(3), torch.set_num_threads(3)
    try:
        found = {result for _, result in run(partial(work.who, folder=tmp_path), start=work.begin)}
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (3, 3)
    finally:
        cv2.setNumThreads(before[0]), torch.set_num_threads(before[1])
    assert len(found) == 2
    for process, *threads, started in found:
        assert threads == [1, 1]
        assert started == (process != os.getpid())


SCRIPT = """
import work_in_blocks as work
from functools import partial
from fcx.core.parallel import in_order
print(*in_order(partial(work.alone, ballast=b""), [[1], [2]], 2, False, "work"))
"""


def test_a_script_that_helpers_would_run_again_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert "does so below `if __name__ == '__main__':`" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("fcx.core.errors.WorkerError: worker processes died 3 times")
