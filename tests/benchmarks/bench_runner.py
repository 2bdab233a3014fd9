"""What statistics cost beside attribution, and the memory that a long run takes, on one thread: `make bench`.

Agreement is asserted before anything is timed; no timing and no size can fail a run. Seconds are those of the
processor. FCX_BENCH_FACES sets the faces of the long run (default 1,000; the documentation quotes 10,000).
"""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import make_faces

from fcx.attribution import attribute
from fcx.attribution.plan import Plan
from fcx.attribution.runner import DEFAULT
from fcx.core.contract import FACES
from fcx.core.store import Store
from fcx.networks.facechannel import FaceChannel
from fcx.statistics.map_scores import QUANTITIES
from fcx.statistics.region_mass import sample_statistics

COUNT = int(os.environ.get("FCX_BENCH_FACES", 1000))
METHODS = "lrp_gamma,gradient,lrp_zbox,gradcam,mean_activation"
pytestmark = pytest.mark.usefixtures("one_thread")


def test_statistics_beside_attribution(capsys, monkeypatch):
    torch.manual_seed(0)
    net, faces = FaceChannel.preset("paper", width=64, batch_norm=True), make_faces(1024)
    results = attribute(net_named(net), faces, statistics=True)
    expected = sample_statistics(results[["prediction", "attribution"]], faces)
    for name in QUANTITIES:
        np.testing.assert_allclose(results[name], expected[name], rtol=1e-5, atol=1e-6)
    spent = {name: 0.0 for name in ("explain", "_statistics")}
    for name in spent:
        monkeypatch.setattr(Plan, name, timed(getattr(Plan, name), name, spent))
    attribute(net_named(net), faces, statistics=True)
    maps = 2 * len(DEFAULT) * 2 * faces.sizes["sample"]
    with capsys.disabled():
        print(f"\nstatistics {1e6 * spent['_statistics'] / maps:.0f} us a map, attribution "
              f"{1e6 * spent['explain'] / maps:.0f} us: {100 * spent['_statistics'] / spent['explain']:.1f} % "
              f"(width 64, the default methods, two targets; load {os.getloadavg()[0]:.1f})", end="")  # fmt: skip


def net_named(net):
    return {"network": net}


def timed(function, name, spent):
    def wrapped(*arguments):
        start = time.process_time()
        try:
            return function(*arguments)
        finally:
            spent[name] += time.process_time() - start

    return wrapped


LONG = f"""
import resource, sys, time
import torch
from fcx.attribution import attribute
from fcx.datasets.preparation import open_faces
from fcx.networks.facechannel import FaceChannel
torch.set_num_threads(1)
nets = dict()
for seed in range(4):
    torch.manual_seed(seed)
    nets[str(seed)] = FaceChannel.preset("paper", width=64, batch_norm=True)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
results = attribute(nets, open_faces(sys.argv[1]), "{METHODS}", out=sys.argv[2], store="int8")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(base / 2**20, peak / 2**20, time.perf_counter() - start, results["attribution"].nbytes / 2**30)
"""


def test_memory_of_a_long_run(capsys, tmp_path):
    write_faces(tmp_path / "faces.zarr", COUNT)
    command = [sys.executable, "-c", LONG, tmp_path / "faces.zarr", tmp_path / "results.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    base, peak, seconds, size = map(float, done.stdout.split())
    files = (file for file in (tmp_path / "results.zarr").rglob("*") if file.is_file())
    stored = sum(file.stat().st_size for file in files) / 2**30
    with capsys.disabled():
        print(f"\n{COUNT} faces, 4 models, 2 conditions, 5 methods, 2 targets: peak {peak:.2f} GiB of memory "
              f"({base:.2f} before), {size:.1f} GiB of maps as float32, {stored:.2f} GiB stored as int8, "
              f"{seconds:.0f} s (width 64; load {os.getloadavg()[0]:.1f})", end="")  # fmt: skip


def write_faces(path, count, step=512):
    """Write a store of faces that are never in memory at once."""
    first = make_faces(step)
    names = [f"face{i}" for i in range(count)]
    coords = {name: (coord.dims, coord.values) for name, coord in first.coords.items() if "sample" not in coord.dims}
    coords["sample"] = (("sample",), np.array(names))
    for name in ("expression", "subject", "split", "source"):
        coords[name] = (("sample",), np.resize(first[name].values, count))
    coords |= {name: ((name,), np.arange(first.sizes[name])) for name in ("y", "x")}
    kept = [name for name in FACES if name in first]
    variables = {name: (first[name].dims, first[name].dtype) for name in kept}
    starts = range(0, count, step)
    store = Store(path, variables, coords, kind="faces", blocks=("sample",), settings={}, attrs={"crop": "face"},
                  chunks={"sample": 64, "condition": 1})  # fmt: skip
    for block, start in enumerate(starts):
        some = make_faces(min(step, count - start), seed=block)
        rows = slice(start, start + some.sizes["sample"])
        index = {name: tuple(rows if dim == "sample" else slice(None) for dim in some[name].dims) for name in kept}
        store.write({name: (index[name], some[name].values) for name in kept})
    store.finish()
