"""What a second worker is worth in `prepare`, measured in one run on two cores: `make bench`.

Agreement is asserted before anything is timed; no timing can fail a run. A start of worker processes (imports) is paid
once, so the ratio is that of the time for more faces, and the times of a small run are printed beside it.
"""

import os
import time

import cv2

from fcx.datasets.preparation import prepare

FEW, MANY = 96, 416  # faces; both whole blocks


def test_two_workers_beside_one(capsys, tmp_path):
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        seconds = {(n, workers): _seconds(tmp_path, n, workers) for n in (FEW, MANY) for workers in (1, 2)}
    finally:
        cv2.setNumThreads(threads)
    one, two = ((seconds[MANY, workers] - seconds[FEW, workers]) / (MANY - FEW) for workers in (1, 2))
    with capsys.disabled():
        print(f"\n{1 / one:.1f} faces/s with one worker, {1 / two:.1f} with two: ratio {one / two:.2f} ({FEW} faces, "
              f"start included: {seconds[FEW, 1]:.1f} s and {seconds[FEW, 2]:.1f} s; load {os.getloadavg()[0]:.1f})",
              end="")  # fmt: skip


def _seconds(folder, count, workers) -> float:
    """Return the time of a run whose store is that of one worker, file by file."""
    out = folder / f"{count}-{workers}.zarr"
    start = time.perf_counter()
    prepare("demo", out, limit=count, workers=workers, progress=False)
    taken = time.perf_counter() - start
    files = [file.relative_to(out) for file in out.rglob("*") if file.is_file()]
    assert len(files) > 100
    assert [f for f in files if (out / f).read_bytes() != (folder / f"{count}-1.zarr" / f).read_bytes()] == []
    return taken
