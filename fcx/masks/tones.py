"""The tone of cloth, which colours are multiplied by: seams and pleats of a kind of mask, folds and weave of each one.

Every tone is (row, column) float32 over the texture, about 1. What a number `pattern` draws differs from
mask to mask: creases that run in from the bands, bulges, how deep a pleat is where, the grain of the weave.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

TEXTURE = (192, 256)  # rows, columns
ACROSS, DOWN = np.meshgrid(
    np.linspace(0, 1, TEXTURE[1], dtype=np.float32), np.linspace(0, 1, TEXTURE[0], dtype=np.float32)
)
TEXTURE_SIDE = np.abs(2 * ACROSS - 1)
SPAN = (13.0, 11.0)  # centimetres that a texture spans, about: across, down
CREASED = 16  # different fields of creases, of which every mask has a mixture of two
CREASES = 11  # in each


def line(distance, width) -> np.ndarray:
    """Return the darkness (0 to 1) of a line at a distance from it."""
    return np.exp(-((distance / width) ** 2))


def pleats(pattern: int) -> np.ndarray:
    """Return the tone of a pleated mask: three folds, hems, a nose wire and side seams."""
    seams, folds = _pleated()
    depth = 1.4 + 1.2 * _bulges(pattern)
    return _worn(seams + folds * depth, pattern, 0.75)


def sewn(pattern: int) -> np.ndarray:
    """Return the tone of a sewn mask: a seam down the middle, hems with stitches, soft folds at the sides."""
    return _worn(_seamed(), pattern, 1.0)


def welded(pattern: int) -> np.ndarray:
    """Return the tone of a folded respirator: a keel down the middle, welded edges, embossed lines, a nose wire."""
    return _worn(_respirator(), pattern, 0.7)


def beaked(pattern: int) -> np.ndarray:
    """Return the tone of a duckbill: two panels that meet in a horizontal edge, the lower one in the shade."""
    return _worn(_panelled(), pattern, 0.7)


def _worn(tone: np.ndarray, pattern: int, amount: float) -> np.ndarray:
    """Return a tone with the folds and the weave of one mask; `amount` says how limp its cloth is."""
    draw = np.random.default_rng(pattern)
    first, second = draw.choice(CREASED, 2, replace=False)
    deep, other, rough = draw.uniform([0.5, 0.2, 0.8], [1.3, 0.8, 1.4]) * [amount, amount, 0.08]
    folds = np.float32(deep) * _creases(int(first)) + np.float32(other) * _creases(int(second))[:, ::-1]
    row, column = draw.integers(0, 64, 2)
    weave = _weave()[row : row + TEXTURE[0], column : column + TEXTURE[1]]
    return tone + folds + np.float32(rough) * weave


def _bulges(pattern: int) -> np.ndarray:
    """Return smooth noise (row, column) of about -1 to 1, a few centimetres wide."""
    small = np.random.default_rng(pattern).uniform(-1, 1, (4, 6)).astype(np.float32)
    small = cv2.resize(small, (36, 28), interpolation=cv2.INTER_CUBIC)  # at full size it takes ten times as long
    return cv2.resize(small, TEXTURE[::-1], interpolation=cv2.INTER_LINEAR)


@cache
def _weave() -> np.ndarray:
    """Return the grain of cloth, standard deviation 1, a field larger than a texture."""
    draw = np.random.default_rng(0)
    field = np.zeros((TEXTURE[0] + 64, TEXTURE[1] + 64))
    for grain, share in ((0.7, 1.0), (1.3, 0.5)):
        noise = cv2.GaussianBlur(draw.normal(0, 1, field.shape), (0, 0), grain)
        field += share * noise / noise.std()
    return (field / field.std()).astype(np.float32)


@cache
def _creases(number: int) -> np.ndarray:
    """Return what bulges and creases add to a tone: each is dark, and bright below, where it faces the light."""
    draw = np.random.default_rng(number)
    size = TEXTURE[1] // 2, TEXTURE[0] // 2

    def noise(width):
        small = draw.normal(0, 1, (max(3, round(SPAN[1] / width)), max(3, round(SPAN[0] / width)))).astype(np.float32)
        return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)

    x, y = np.meshgrid(np.linspace(-1, 1, size[0]) * SPAN[0] / 2, np.linspace(0, 1, size[1]) * SPAN[1])
    x, y = x + 0.25 * noise(1.5), y + 0.35 * noise(1.5)  # no crease is straight
    tone = 0.015 * noise(3.0)
    for _ in range(CREASES):
        side = draw.choice([-1, 1])
        start = side * draw.uniform(0.2, 1.0) * SPAN[0] / 2, draw.uniform(0.05, 0.95) * SPAN[1]
        # From the bands to the middle of the mouth, more or less; some hang down.
        aim = np.arctan2(0.5 * SPAN[1] - start[1], -start[0]) + draw.normal(0, 0.5)
        length, width, depth = draw.uniform([1.5, 0.12, 0.04], [6.0, 0.6, 0.20])
        along = (x - start[0]) * np.cos(aim) + (y - start[1]) * np.sin(aim)
        below = (y - start[1]) * np.cos(aim) - (x - start[0]) * np.sin(aim) - draw.normal(0, 0.05) * along**2
        below = below * np.sign(np.cos(aim))
        reach = line(along - length / 2, 0.6 * length)
        tone -= depth * reach * (line(below, width) - 0.55 * line(below - 1.5 * width, 1.3 * width))
    return cv2.resize(tone.astype(np.float32), TEXTURE[::-1], interpolation=cv2.INTER_CUBIC)


@cache
def _pleated() -> tuple[np.ndarray, np.ndarray]:
    folds = np.zeros(TEXTURE, np.float32)
    for pleat in (0.30, 0.50, 0.70):
        below = DOWN - pleat
        folds -= 0.16 * line(below, 0.008)  # the fold itself
        folds -= 0.09 * np.where((below > 0) & (below < 0.09), 1 - below / 0.09, 0)  # its shadow
        folds += 0.05 * np.where((below < 0) & (below > -0.06), 1 + below / 0.06, 0)
    seams = 1 - 0.10 * (line(DOWN - 0.06, 0.005) + line(DOWN - 0.955, 0.005))
    seams += 0.06 * line(DOWN - 0.035, 0.012) * (np.abs(ACROSS - 0.5) < 0.2)
    edge = np.minimum(ACROSS, 1 - ACROSS)
    return seams - 0.10 * line(edge - 0.035, 0.006) - 0.05 * line(edge, 0.03), folds


@cache
def _seamed() -> np.ndarray:
    tone = 1 - 0.25 * line(ACROSS - 0.5, 0.005) + 0.07 * line(np.abs(ACROSS - 0.5) - 0.012, 0.004)
    edge = np.minimum(np.minimum(DOWN, 1 - DOWN), 0.75 * np.minimum(ACROSS, 1 - ACROSS))
    stitches = np.sin(200 * (ACROSS + DOWN)) > -0.3
    return tone - 0.20 * line(edge - 0.045, 0.007) * stitches - 0.08 * line(edge, 0.015)


@cache
def _respirator() -> np.ndarray:
    tone = 1 - 0.20 * line(ACROSS - 0.5, 0.003) + 0.05 * line(np.abs(ACROSS - 0.5) - 0.01, 0.006)
    edge = np.minimum(DOWN, 1 - DOWN)
    dots = np.sin(300 * ACROSS) * np.sin(220 * DOWN) > 0
    tone -= 0.10 * dots * (line(edge - 0.03, 0.008) + line(np.minimum(ACROSS, 1 - ACROSS) - 0.03, 0.007))
    arc = np.abs(TEXTURE_SIDE - 0.42 - 0.18 * np.cos(np.pi * (DOWN - 0.5)))
    return tone - 0.09 * line(arc, 0.008) + 0.10 * line(DOWN - 0.06, 0.012) * (TEXTURE_SIDE < 0.3)


@cache
def _panelled() -> np.ndarray:
    tone = 1 - 0.14 * line(DOWN - 0.55, 0.006) - 0.10 * np.clip((DOWN - 0.55) / 0.45, 0, 1)
    tone -= 0.12 * line(TEXTURE_SIDE - 0.80 + 0.5 * np.abs(DOWN - 0.55), 0.012)
    return tone - 0.09 * (line(DOWN - 0.05, 0.006) + line(DOWN - 0.955, 0.006))


@cache
def window() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of a clear window before the mouth: where it is, its hem, and the light that it reflects."""
    radius = (TEXTURE_SIDE / 0.62) ** 4 + (np.abs(DOWN - 0.56) / 0.27) ** 4
    shine = line(ACROSS - 0.36 - 0.12 * (DOWN - 0.5), 0.03) + 0.5 * line(ACROSS - 0.64 + 0.1 * (DOWN - 0.5), 0.015)
    return np.clip((1.06 - radius) / 0.12, 0, 1), line(radius - 1.1, 0.08), shine
