"""Fixtures: small contract-true Datasets, and faces from the demo set."""

import multiprocessing

import numpy as np
import pytest
import xarray as xr

from fcx.core.contract import CONDITIONS, GRID, REGIONS


def make_faces(count=6, seed=0, size=GRID):
    """Return a faces Dataset of smooth random pictures with a partition and a mask: no face in it."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2, count, size, size), dtype=np.uint8)
    alpha = np.zeros((2, count, size, size), np.uint8)
    alpha[:, :, size * 5 // 8 :, size // 4 : size * 3 // 4] = 255
    alpha[:, :, size * 5 // 8, size // 4 : size * 3 // 4] = 100  # a soft edge
    labels = rng.integers(0, len(REGIONS), (count, size // 8, size // 8)).repeat(8, 1).repeat(8, 2)
    region = np.stack([(labels == i) * np.uint8(255) for i in range(len(REGIONS))], axis=1)
    return xr.Dataset(
        {
            "image": (("condition", "sample", "y", "x"), image),
            "alpha": (("condition", "sample", "y", "x"), alpha),
            "regions": (("sample", "region", "y", "x"), region),
            "landmarks": (("sample", "point", "xy"), rng.uniform(0, size, (count, 68, 2)).astype("f4")),
            "mesh": (("sample", "vertex", "xyz"), rng.uniform(0, size, (count, 468, 3)).astype("f4")),
            "valence": (("sample",), rng.uniform(-1, 1, count).astype("f4")),
            "arousal": (("sample",), rng.uniform(-1, 1, count).astype("f4")),
            "status": (("condition", "sample"), np.full((2, count), "ok")),
        },
        coords={
            "condition": list(CONDITIONS),
            "region": list(REGIONS),
            "sample": [f"face{i}" for i in range(count)],
            "expression": ("sample", np.array(["happy", "neutral"])[np.arange(count) % 2]),
            "subject": ("sample", [f"s{i // 2}" for i in range(count)]),
            "split": ("sample", ["test"] * count),
            "source": ("sample", ["made"] * count),
        },
        attrs={"crop": "face"},
    )


def at_once(function, *arguments, count=2):
    """Run a function in several processes, which meet at a barrier."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count, timeout=60)
    processes = [context.Process(target=function, args=(barrier, *arguments)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def few_steps(method):
    """Return options with which a method that goes step by step takes three, for tests that ask nothing of its maps."""
    from fcx.attribution import METHODS

    return {name: 3 for name in ("steps", "samples", "descent_steps") if name in METHODS[method].options}


@pytest.fixture
def faces():
    return make_faces()


@pytest.fixture(scope="session")
def demo():
    """Eight demo faces (rated synthetic ones and portraits), prepared once."""
    from fcx.datasets import open_source
    from fcx.datasets.preparation import prepare

    names = [record.id for record in open_source("demo").records]
    every = prepare("demo", limit=8, progress=False)
    assert list(every["sample"].values) == names[:8]
    return every


@pytest.fixture(scope="session")
def pictures():
    """Six demo pictures (row, column, channel) of different expressions and kinds."""
    from fcx.datasets import open_source

    records = open_source("demo").records
    return [records[i].read() for i in (0, 90, 180, 270, 400, len(records) - 2)]


@pytest.fixture(scope="module")
def one_thread():
    """Benchmarks compare what one thread does."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1), cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0]), cv2.setNumThreads(before[1])
