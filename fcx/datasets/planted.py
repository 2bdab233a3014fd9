"""Photographs with a planted carrier of arousal and valence: known truth for attribution methods on real faces.

Every picture has five plants, each moved by two numbers in [-1, 1]: square patches on the `forehead`, each cheek and
the `chin`, and the `stripes` of a worn mask. The first number is how strong a plant's upright stripes are and the
second how strong its level ones; of one carrier they are the arousal and the valence, those of the others are nuisance,
as is the whole face, whose own expression and ratings say nothing of them. The other plants are decoys: they look
alike, so that a map which follows what strikes the eye, as that of a network with random weights does, has no reason to
choose the right one. A patch shows half of the contrast of what lies under it, so that no grey value is cut off, and a
mask hides it.
"""

from __future__ import annotations

import numpy as np

from fcx.core.arguments import Count, Seed, Words, checked
from fcx.core.checks import check_memory, choose_all
from fcx.core.contract import CONDITIONS, GRID, TARGETS, Faces, check, usable
from fcx.core.errors import InputError
from fcx.core.provenance import flat_attrs, run_provenance

FACE_BYTES = 6e5  # of a face while it is planted and kept
# Vertex of the mesh in the middle of each patch; left is the wearer's left.
PLACES = {"forehead": 151, "left_cheek": 280, "right_cheek": 50, "chin": 199}
PLANTS = (*PLACES, "stripes")
PATCH = 9  # pixels
STRONGEST = 28.0  # grey levels of the strongest stripes of one direction
FADED = 0.5  # share of its contrast that a face keeps under a plant
STRIPES = np.sin(np.pi / 2 * (np.arange(GRID) + 0.5)) * 2**0.5  # +1, +1, -1, -1, ...: no pixel that never changes
VALIDATION = 5  # every fifth face


@checked
def planted_sets(faces: Faces, carriers: Words = PLANTS, count: Count = 2000, seed: Seed = 0) -> dict:
    """Return carrier -> faces Dataset: the same pictures, planted once, with the labels and truth of each carrier.

    `faces` are real ones, plain and masked, with meshes; the usable are taken in turn, in an order that `seed` draws,
    until there are `count`, each time with other numbers. Variables are those of the contract, `truth` (condition,
    sample, y, x) uint8: 255 at each pixel that would change with the labels, else 0; and `decoys` (decoy, condition,
    sample, y, x) uint8, the same of the other plants. Faces that are to test a method must be others than those which
    taught the network.

    Raises: UnknownNameError for a carrier that does not exist; InputError for faces that cannot be planted.

    >>> planted_sets(fcx.prepare("demo"), "forehead", count=100)["forehead"]  # doctest: +SKIP
    """
    choose_all(carriers, PLANTS, "carrier")
    check_memory(count * FACE_BYTES, f"count {count}")
    there = faces["condition"].values.astype(str).tolist()
    if lacking := [name for name in CONDITIONS if name not in there]:
        raise InputError(f"planting needs the conditions {', '.join(CONDITIONS)}, and the faces lack {lacking[0]}")
    faces = faces.sel(condition=list(CONDITIONS))
    faces = faces[["image", "alpha", "regions", "landmarks", "mesh", "status"]].isel(sample=usable(faces)).load()
    if not faces.sizes["sample"]:
        raise InputError("none of the faces can be used in both conditions: nothing to plant in")
    rng = np.random.default_rng(seed)
    turns = [rng.permutation(faces.sizes["sample"]) for _ in range(-(-count // faces.sizes["sample"]))]
    photographs = np.concatenate(turns)[:count]
    moves = rng.uniform(-1, 1, (count, len(PLANTS), len(TARGETS))).astype(np.float32)
    planted = faces.isel(sample=photographs)
    cover = plant_cover(planted["mesh"].values, planted["alpha"].values)
    planted["image"] = planted["image"].copy(data=with_plants(planted["image"].values, cover, moves))
    names = [f"{seed}-{index:05d}" for index in range(count)]
    split = ["validation" if index % VALIDATION == VALIDATION - 1 else "train" for index in range(count)]
    coords = {
        "sample": names, "subject": ("sample", planted["sample"].values.astype(str)), "split": ("sample", split),
        "expression": ("sample", [""] * count),
    }  # fmt: skip
    planted = planted.assign_coords(coords)
    return {carrier: _of_carrier(carrier, planted, cover, moves, faces, seed) for carrier in dict.fromkeys(carriers)}


def plant_cover(mesh: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return how much of each pixel each plant covers, (plant, condition, sample, y, x) in [0, 1].

    `mesh` (sample, vertex, xyz) in pixels; `alpha` (condition, sample, y, x) uint8.
    """
    worn, at = alpha / np.float32(255), np.arange(GRID)
    squares = []
    for vertex in PLACES.values():
        middle = np.rint(mesh[:, vertex, :2]).clip(PATCH // 2, GRID - 1 - PATCH // 2)  # (sample, xy), whole patches
        within = np.abs(at - middle[..., None]) <= PATCH // 2  # (sample, xy, pixel)
        squares.append((within[:, 1, :, None] & within[:, 0, None, :]) * (1 - worn))
    return np.stack([*squares, worn])


def with_plants(images: np.ndarray, cover: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Return images (condition, sample, y, x) uint8 with the plants that `moves` (sample, plant, target) say.

    `cover` (plant, condition, sample, y, x) is how much of each pixel a plant takes.
    """
    upright, level = STRONGEST * (1 + moves.transpose(2, 1, 0)[..., None, None]) / 2  # (plant, sample, 1, 1)
    stripes = upright * STRIPES + level * STRIPES[:, None]  # (plant, sample, y, x)
    planted = images.astype(np.float32)
    for covered, drawn in zip(cover, stripes, strict=True):
        planted += covered * ((1 - FADED) * (128 - planted) + drawn)
    return np.rint(planted).astype(np.uint8)


def _of_carrier(carrier: str, planted, cover, moves, faces, seed: int):
    number = PLANTS.index(carrier)
    places = np.where(cover > 0, np.uint8(255), np.uint8(0))  # (plant, condition, sample, y, x)
    dims = ("condition", "sample", "y", "x")
    labels = {target: ("sample", moves[:, number, i]) for i, target in enumerate(TARGETS)}
    one = planted.assign(
        **labels, truth=(dims, places[number]), decoys=(("decoy", *dims), np.delete(places, number, 0))
    )
    one = one.assign_coords(decoy=[name for name in PLANTS if name != carrier])
    one = one.assign_coords(source=("sample", [f"planted {carrier}"] * planted.sizes["sample"]))
    attrs = {"crop": faces.attrs["crop"], "carrier": carrier, "mask_style": faces.attrs.get("mask_style", ""),
             "seed": seed, "kind": "faces", "provenance": run_provenance(step="planted")}  # fmt: skip
    return check(one.assign_attrs(flat_attrs(attrs)), "faces")
