"""What a second worker is worth to the commands `prepare` and `attribute`, start included, on two cores: `make bench`.

Agreement is asserted before anything is printed; no timing can fail a run. Beside the seconds that passed stand those
of the processors, whose ratio a busy machine does not change: all of one worker over the caller's share of two.
FCX_BENCH_WORKERS sets the faces (default 96,1000).
"""

import os
import subprocess
import sys
import time

import cv2
import pytest
import xarray as xr

from fcx.attribution import open_results
from fcx.datasets import open_source
from fcx.datasets.preparation import open_faces, prepare

COUNTS = [int(count) for count in os.environ.get("FCX_BENCH_WORKERS", "96,1000").split(",")]
# The command, which says what its own process took of the processor.
COMMAND = """
import resource, sys
from fcx.cli import run_command
try:
    run_command()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of the demo set, some of them more than once."""
    folder, records = tmp_path_factory.mktemp("pictures"), open_source("demo").records
    for number in range(max(COUNTS)):
        picture = records[number % len(records)].read()
        cv2.imwrite(str(folder / f"{number:05d}.png"), picture[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("faces") / "faces.zarr"
    prepare(pictures, path, progress=False)
    return path


@pytest.mark.parametrize("count", COUNTS)
def test_prepare(count, capsys, tmp_path, pictures):
    compare(capsys, tmp_path, f"prepare, {count} faces", open_faces, "prepare", pictures, "OUT", "--limit", count)


@pytest.mark.parametrize("count", COUNTS)
def test_attribute_with_two_networks(count, capsys, tmp_path, store):
    faces = tmp_path / "faces.zarr"
    open_faces(store).isel(sample=slice(0, count)).to_zarr(faces, zarr_format=2)
    compare(capsys, tmp_path, f"attribute, {count} faces, two networks", open_results, "attribute", faces, "OUT",
            "--models", "plain_scratch,masked_scratch")  # fmt: skip


def compare(capsys, folder, name, opened, *words):
    taken = {workers: seconds(folder / f"{workers}.zarr", workers, *words) for workers in (1, 2)}
    one, two = (opened(folder / f"{workers}.zarr") for workers in (1, 2))
    xr.testing.assert_equal(one, two)
    (wall, own), (wall_two, own_two) = taken[1], taken[2]
    with capsys.disabled():
        print(f"\n{name}: {wall:.1f} s with one worker, {wall_two:.1f} s with two, ratio {wall / wall_two:.2f}; "
              f"by the processors {own:.1f} s and {own_two:.1f} s, {own / own_two:.2f} (load {os.getloadavg()[0]:.1f})",
              end="")  # fmt: skip


def seconds(out, workers, *words) -> tuple[float, float]:
    """Return how long a command took, and what its own process took of the processor."""
    words = [str(out) if word == "OUT" else str(word) for word in words]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", COMMAND, *words, "--workers", str(workers)], check=True,
                          capture_output=True, text=True)  # fmt: skip
    return time.perf_counter() - start, float(done.stdout.split()[-1])
