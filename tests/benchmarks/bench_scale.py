"""What a data set of 300,000 faces costs beside its pictures: the bookkeeping of `prepare`, and reading it to train.

Faces that cost nothing take the place of those that are found and masked (about 40 ms each). Each part runs in a
process of its own, so that its peak of memory is its own; all take minutes and some gigabytes of disk.
"""

import resource
import subprocess
import sys
import time

import numpy as np

FACES = 300_000


def fill(out, count=FACES):
    """Prepare as many faces that are there already; one in 75 is for validation."""
    import fcx
    from fcx.datasets import ADAPTERS, Record, preparation, records

    pixels = np.random.default_rng(0).integers(0, 256, (64, 2, 64, 64), dtype=np.uint8)

    def open_many(path):
        splits = ("validation", *["train"] * 74)
        return [Record(f"{i // 500:03d}/face{i:08d}.jpg", None, i % 2001 / 1000 - 1, i % 1999 / 1000 - 0.999, "happy",
                       f"subject{i // 10}", splits[i % 75], "made") for i in range(count)]  # fmt: skip

    ADAPTERS["many"] = records.Adapter("many", None, open_many)
    preparation.make_face = lambda record, *_: {"status": "ok", "image": pixels[int(record.id[-8:-4]) % 64]}
    return fcx.prepare("many", out, pictures=False, progress=False)


def read(out):
    """Read what training on masked faces needs, and both conditions whole."""
    import fcx
    from fcx.networks.training import Data

    faces = fcx.open_faces(out)
    data = Data(faces, "masked")
    return {name: len(rows) for name, rows in data.rows.items()}


def read_both(out):
    """Read the images of both conditions whole, and the labels."""
    import fcx

    faces = fcx.open_faces(out)
    return faces["image"].values.nbytes, faces["valence"].values.nbytes


def test_300000_faces_are_kept_and_read(tmp_path, capsys):
    for part in (fill, fill, read, read_both):
        done = subprocess.run([sys.executable, __file__, part.__name__, str(tmp_path / "many.zarr")],
                              capture_output=True, text=True, check=True)  # fmt: skip
        with capsys.disabled():
            print(f"\n{part.__name__}: {done.stdout.strip()}", end="")


if __name__ == "__main__":
    start = time.perf_counter()
    globals()[sys.argv[1]](sys.argv[2])
    took, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{took:.0f} s, {FACES / took:,.0f} faces/s, peak {peak:.2f} GB")
