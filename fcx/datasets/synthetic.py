"""Drawn faces whose arousal and valence are carried by one thing only: known truth for attribution methods.

Every face has five carriers, each moved by two numbers in [-1, 1]: the `mouth` opens and bends, the `eyes` open and
tilt, the `brows` thicken and tilt, the `outline` of a worn mask sinks and bends at its lower edge, and the `brightness`
of the whole picture changes in level and contrast. All but the last can be read from the carrier and what touches it:
were brows to rise, a network would have to look at the eyes to tell how far.

The first number of one carrier is the arousal and the second the valence; those of the other four are nuisance, as
are head, skin, hair, ground, side light, place, tilt and noise. So the same pictures serve every carrier, and whatever
depends on pictures alone, such as an edge detector, answers the same for all of them.

Shapes are drawn in the coordinates of the canonical mesh, which is placed the same way and does not move with the
expression, at 4 x 4 points to a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from fcx.core.arguments import Count, Seed, Switch, Words, checked
from fcx.core.checks import check_memory, choose_all
from fcx.core.contract import CONDITIONS, GRID, PICTURE, REGIONS, TARGETS, check
from fcx.core.provenance import flat_attrs, run_provenance
from fcx.geometry.landmarks import canonical
from fcx.geometry.regions import OVERSAMPLING, region_maps

FACE_BYTES = 3e5  # of a face while it is drawn and kept, without its display pictures
CARRIERS = ("mouth", "eyes", "brows", "outline", "brightness")
# Nuisance: name -> what is drawn evenly. Grey values are of 255 and before the light, lengths in pixels of the grid.
IDENTITY = {
    "scale": (2.7, 3.05),  # pixels per cm
    "aspect": (0.94, 1.06),  # width over height
    "tilt": (-5.0, 5.0),  # degrees
    "right": (-2.0, 2.0),
    "down": (-2.0, 2.0),
    "skin": (140.0, 160.0),
    "hair": (55.0, 75.0),
    "hairline": (6.2, 7.4),  # cm above the origin of the mesh
    "ground": (95.0, 115.0),
    "cloth": (190.0, 205.0),
    "lips": (55.0, 85.0),
    "white": (185.0, 220.0),  # of the eyes: a place of known grey would hold the brightness
    "iris": (35.0, 65.0),
    "side_light": (-12.0, 12.0),  # grey at 10 cm from the middle
    "noise": (1.0, 3.0),  # standard deviation
}
LEVEL, CONTRAST = 25.0, 0.25  # how far brightness goes: grey, and share of the distance from grey 128
VALIDATION = 5  # every fifth face
EDGE = 1e-3  # cm: what rounding may move


@dataclass(frozen=True)
class Face:
    """One face before it is drawn: `identity` (nuisance, as in `IDENTITY`), what moves each carrier, and its noise."""

    identity: dict[str, float]
    moves: dict[str, tuple[float, float]]  # carrier -> (arousal, valence)
    grain: tuple[int, ...]  # seed of the noise


def synthetic_face(index: int, seed: int = 0) -> Face:
    """Return the face `index` of the series `seed`, whatever other faces there are."""
    rng = np.random.default_rng([seed, index])
    moves = {carrier: tuple(rng.uniform(-1, 1, len(TARGETS)).tolist()) for carrier in CARRIERS}
    return Face({name: float(rng.uniform(*ends)) for name, ends in IDENTITY.items()}, moves, (seed, index, 1))


class DrawnShape:
    """Where |v - middle| <= half, with `middle` and `half` linear in a carrier's two numbers.

    `bend` and `grow` (2, y, x) are their slopes. Each number may move only one of the two, so that what no
    value of the numbers can reach, and what none can leave, are known exactly.
    """

    def __init__(self, v, middle, half, bend=(0.0, 0.0), grow=(0.0, 0.0)):
        self.distance, self.half, self.bend, self.grow = v - middle, half, bend, grow

    def drawn(self, moves) -> np.ndarray:
        """Return where it is with these numbers."""
        middle, half = (sum(m * by for m, by in zip(moves, slopes, strict=True)) for slopes in (self.bend, self.grow))
        return np.abs(self.distance - middle) <= self.half + half

    def moving(self) -> np.ndarray:
        """Return where it is for some numbers in [-1, 1] and not for others."""
        reach = sum(np.abs(by) for slopes in (self.bend, self.grow) for by in slopes) + EDGE
        distance = np.abs(self.distance)
        return (distance <= self.half + reach) & (distance > self.half - reach)


class Drawing:
    """A face on the fine grid (OVERSAMPLING points a pixel), in cm of the mesh: u to the right, v up."""

    def __init__(self, face: Face):
        self.face, self.of = face, face.identity
        down, right = _points()
        turned = self.turn.T @ np.stack([(right - self.centre[0]).ravel(), (down - self.centre[1]).ravel()])
        u, v = (turned / self.size[:, None]).reshape(2, *right.shape).astype(np.float32)
        self.u, self.v = u, -v
        self.shapes = {name: getattr(self, f"_{name}")() for name in ("mouth", "eyes", "brows", "outline")}
        self.worn = self.shapes["outline"].drawn(face.moves["outline"])
        moving = {name: shape.moving() for name, shape in self.shapes.items()}
        hidden = {name: part & ~self.worn for name, part in moving.items()}
        unworn = np.zeros_like(self.worn)
        # Which points each carrier moves; what lies under the mask is not seen, and without one no outline is.
        self.moving = {"plain": {**moving, "outline": unworn}, "masked": {**hidden, "outline": moving["outline"]}}

    @property
    def centre(self) -> np.ndarray:
        """Where the mesh's origin is, (xy) in pixels; the middle of the mesh is in the middle of the grid."""
        return np.array([self.of["right"], self.of["down"] - 1.6]) + (GRID - 1) / 2

    @property
    def size(self) -> np.ndarray:
        """Pixels per cm, (xy)."""
        return self.of["scale"] * np.array([self.of["aspect"] ** 0.5, self.of["aspect"] ** -0.5])

    @property
    def turn(self) -> np.ndarray:
        """The tilt of the head as a rotation of the picture plane."""
        cos, sin = np.cos(np.radians(self.of["tilt"])), np.sin(np.radians(self.of["tilt"]))
        return np.array([[cos, -sin], [sin, cos]])

    def mesh(self) -> np.ndarray:
        """The mesh (vertex, xyz) in grid pixels."""
        xyz = canonical()["xyz"]
        flat = (xyz[:, :2] * [1, -1] * self.size) @ self.turn.T + self.centre
        return np.column_stack([flat, -xyz[:, 2] * self.of["scale"]])

    def _mouth(self) -> DrawnShape:
        t2 = (self.u / 2.3) ** 2
        return DrawnShape(self.v, -4.15, _within(t2, 0.55 * (1 - t2)), (0, 0.7 * (t2 - 0.4)), (0.35 * (1 - t2), 0))

    def _eyes(self) -> DrawnShape:
        t = (np.abs(self.u) - 3.2) / 1.6
        return DrawnShape(self.v, 2.6, _within(t**2, 0.55 * (1 - t**2)), (0, -0.45 * t), (0.3 * (1 - t**2), 0))

    def _brows(self) -> DrawnShape:
        t = (np.abs(self.u) - 3.4) / 1.7
        return DrawnShape(self.v, 4.35 - 0.15 * t**2, _within(t**2, 0.26), (0, -0.28 * t), (0.15, 0))

    def _outline(self) -> DrawnShape:
        t2 = (self.u / 6.2) ** 2
        low, high = -8.4 + 3.2 * t2, 1.2 - 1.2 * t2
        # Only the lower edge moves: half of each slope goes to the middle, half to the half.
        sink, bend = -0.3, 0.6 * (t2 - 0.35)
        return LowerEdge(self.v, (low + high) / 2, _within(t2, (high - low) / 2), (sink, bend / 2), (-sink, -bend / 2))

    def paint(self) -> np.ndarray:
        """Return the picture (condition, y, x) in grey levels, float, without noise."""
        of, u, v = self.of, self.u, self.v
        skin = _filled(self.mesh()[_hull(), :2])
        grey = np.full(u.shape, of["ground"], np.float32)
        grey[(np.abs(u) < 3.6) & (v < -6)] = of["skin"] - 25  # the neck
        grey[skin] = of["skin"]
        grey[skin & (v > of["hairline"] - 0.05 * u**2)] = of["hair"]
        grey[((np.abs(u) - 0.7) ** 2 + (v + 1.6) ** 2 < 0.1)] -= 60  # nostrils
        grey[(np.abs(u - 0.35 - 0.15 * (1.5 - v)) < 0.16) & (v > -1.2) & (v < 3)] -= 18  # the nose's shadow
        grey[self.shapes["mouth"].drawn(self.face.moves["mouth"])] = of["lips"]
        eyes = self.shapes["eyes"].drawn(self.face.moves["eyes"])
        grey[eyes] = of["white"]
        grey[eyes & ((np.abs(u) - 3.2) ** 2 + (v - 2.6) ** 2 < 0.35)] = of["iris"]
        grey[self.shapes["brows"].drawn(self.face.moves["brows"])] = of["hair"]
        both = np.stack([grey, np.where(self.worn, of["cloth"], grey)])
        both += of["side_light"] / 10 * u
        level, contrast = self.face.moves["brightness"]
        return 128 + (1 + CONTRAST * contrast) * (both - 128) + LEVEL * level


class LowerEdge(DrawnShape):
    """A shape of which only the lower edge moves."""

    def moving(self) -> np.ndarray:
        """Return where it is for some numbers in [-1, 1] and not for others."""
        reach = 2 * sum(np.abs(by) for by in self.bend) + EDGE
        return (self.half > 0) & (np.abs(self.distance + self.half) <= reach)


def draw(face: Face, picture: bool = False) -> dict[str, np.ndarray]:
    """Return `image` and `alpha` (condition, y, x), `regions`, `mesh`, `landmarks` and `truth`, as in a faces Dataset.

    `truth` (carrier, condition, y, x) is 255 at each pixel that other numbers of that carrier would change, else 0.
    With `picture` there is the display picture as well.
    """
    drawing = Drawing(face)
    fine = drawing.paint()
    noise = np.random.default_rng(face.grain).normal(0, face.identity["noise"], (GRID, GRID))
    mesh = drawing.mesh()
    moving = [{**drawing.moving[c], "brightness": np.ones_like(drawing.worn)} for c in CONDITIONS]
    truth = [[_coarse(of[carrier]) > 0 for of in moving] for carrier in CARRIERS]
    drawn = {
        "image": np.rint(_coarse(fine) + noise).clip(0, 255).astype(np.uint8),
        "alpha": np.rint(255 * np.stack([0 * noise, _coarse(drawing.worn)])).astype(np.uint8),
        "regions": region_maps(mesh),
        "mesh": mesh,
        "landmarks": mesh[canonical()["ibug68"], :2],
        "truth": 255 * np.array(truth, np.uint8),
    }
    return drawn | {"picture": np.stack([_display(part) for part in fine])} if picture else drawn


def synthetic_faces(carrier: str = "mouth", count: int = 1000, seed: int = 0, *, pictures: bool = False):
    """Return a faces Dataset whose arousal and valence only `carrier` shows: see `CARRIERS`.

    Beside the contract's variables it holds `truth (condition, sample, y, x)` uint8: 255 at each pixel that would
    change with the labels, found in closed form, else 0 (everywhere 0 where the carrier is not to be seen, such as
    a mouth under its mask); and `nuisance (sample, quantity)`, the numbers that the labels are independent of.
    A face depends on `seed` and its place only, not on `count`; every fifth is for validation, the rest to train
    with. `pictures` keeps the display pictures.

    Raises: UnknownNameError for a carrier that does not exist; InputError for a count or seed that cannot be used.

    >>> faces = synthetic_faces("mouth", count=4)
    >>> bool((faces["truth"].sel(condition="plain") > 0).any(("y", "x")).all())
    True
    """
    return synthetic_sets([carrier], count, seed, pictures=pictures)[carrier]


@checked
def synthetic_sets(
    carriers: Words = CARRIERS, count: Count = 1000, seed: Seed = 0, *, pictures: Switch = False
) -> dict:
    """Return carrier -> faces Dataset: the same pictures, drawn once, with the labels and truth of each carrier.

    Raises: as `synthetic_faces`.
    """
    choose_all(carriers, CARRIERS, "carrier")
    check_memory(count * FACE_BYTES * (1 + pictures), f"count {count}")
    faces = [synthetic_face(index, seed) for index in range(count)]
    drawn: dict[str, list] = {}
    for face in faces:
        for name, part in draw(face, pictures).items():
            drawn.setdefault(name, []).append(part)
    return {carrier: _dataset(carrier, faces, drawn, seed) for carrier in dict.fromkeys(carriers)}


def _dataset(carrier: str, faces: list[Face], drawn: dict[str, list], seed: int):
    import xarray

    number, count = CARRIERS.index(carrier), len(faces)
    moves = np.array([[face.moves[name] for name in CARRIERS] for face in faces], np.float32)  # (sample, carrier, 2)
    others = [(f"{name}, {part}", moves[:, i, j]) for i, name in enumerate(CARRIERS) if i != number
              for j, part in enumerate(("first", "second"))]  # fmt: skip
    others += [(name, np.array([face.identity[name] for face in faces])) for name in IDENTITY]
    per_condition = ("condition", "sample", "y", "x")
    variables = {
        "image": (per_condition, np.stack(drawn["image"], axis=1)),
        "alpha": (per_condition, np.stack(drawn["alpha"], axis=1)),
        "regions": (("sample", "region", "y", "x"), np.stack(drawn["regions"])),
        "landmarks": (("sample", "point", "xy"), np.float32(drawn["landmarks"])),
        "mesh": (("sample", "vertex", "xyz"), np.float32(drawn["mesh"])),
        **{target: ("sample", moves[:, number, i]) for i, target in enumerate(TARGETS)},
        "status": (("condition", "sample"), np.full((len(CONDITIONS), count), "ok")),
        "truth": (per_condition, np.stack([truth[number] for truth in drawn["truth"]], axis=1)),
        "nuisance": (("sample", "quantity"), np.stack([values for _, values in others], axis=1)),
    }
    if "picture" in drawn:
        dims = ("condition", "sample", "row", "column", "channel")
        variables["picture"] = (dims, np.stack(drawn["picture"], axis=1))
    names = [f"{seed}-{index:05d}" for index in range(count)]
    split = ["validation" if index % VALIDATION == VALIDATION - 1 else "train" for index in range(count)]
    coords = {
        "condition": list(CONDITIONS), "region": list(REGIONS), "quantity": [name for name, _ in others],
        "sample": names, "subject": ("sample", names), "expression": ("sample", [""] * count),
        "split": ("sample", split), "source": ("sample", [f"synthetic {carrier}"] * count),
    }  # fmt: skip
    attrs = {"crop": "face", "carrier": carrier, "mask_style": "drawn", "seed": seed, "kind": "faces",
             "provenance": run_provenance(step="synthetic")}  # fmt: skip
    return check(xarray.Dataset(variables, coords, flat_attrs(attrs)), "faces")


@cache
def _points() -> np.ndarray:
    """Return (down, right) of the fine grid's points in pixels of the grid."""
    return (np.indices((GRID * OVERSAMPLING,) * 2) + 0.5) / OVERSAMPLING - 0.5


@cache
def _hull() -> np.ndarray:
    return cv2.convexHull(canonical()["xyz"][:, :2].astype(np.float32), returnPoints=False).ravel()


def _within(t2: np.ndarray, half) -> np.ndarray:
    """Return `half` where t2 <= 1, and a half that nothing fills elsewhere."""
    return np.where(t2 <= 1, half, np.float32(-100))


def _filled(polygon: np.ndarray) -> np.ndarray:
    """Return which points of the fine grid a convex polygon (corner, xy) in pixels holds."""
    fine = (polygon + 0.5) * OVERSAMPLING - 0.5
    filled = np.zeros((GRID * OVERSAMPLING,) * 2, np.uint8)
    return cv2.fillConvexPoly(filled, np.rint(fine * 16).astype(np.int32), 1, cv2.LINE_8, shift=4) > 0


def _coarse(fine: np.ndarray) -> np.ndarray:
    """Return means over the points of each pixel, (..., y, x)."""
    rows = fine.reshape(*fine.shape[:-2], GRID, OVERSAMPLING, -1).sum(-2, dtype=np.float32)
    return rows.reshape(*rows.shape[:-1], GRID, OVERSAMPLING).sum(-1) / OVERSAMPLING**2


def _display(fine: np.ndarray) -> np.ndarray:
    """Return the display picture (row, column, channel) of a fine picture; it has no noise."""
    small = cv2.resize(np.rint(fine).clip(0, 255).astype(np.uint8), (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, axis=-1)
