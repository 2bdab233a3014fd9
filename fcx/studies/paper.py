"""What the paper reports, beside the results sheet in its authors' repository.

Barros and Sciutti, "I Only Have Eyes for You: The Impact of Masks On Convolutional-Based Facial Expression
Recognition", CVPR Workshops 2021, Tables 2 and 3. Their faces, training data and masks are others than those of
fcx: the numbers are for orientation.
"""

from __future__ import annotations


def _cells(plain: tuple[float, float], masked: tuple[float, float]) -> dict:
    return {condition: dict(zip(("arousal", "valence"), pair, strict=True))
            for condition, pair in (("plain", plain), ("masked", masked))}  # fmt: skip


# CCC (arousal, valence) on AffectNet and on MaskedAffectNet: family -> condition -> target.
TABLE3 = {
    "plain_scratch": _cells((0.46, 0.61), (0.18, 0.16)),
    "masked_scratch": _cells((0.25, 0.33), (0.43, 0.48)),
    "masked_last_conv": _cells((0.34, 0.39), (0.33, 0.43)),
    "masked_all_layers": _cells((0.38, 0.45), (0.45, 0.53)),
}
SHEET = {
    "plain_scratch": _cells((0.38, 0.48), (0.18, 0.16)),
    "masked_scratch": _cells((0.25, 0.33), (0.33, 0.38)),
    "masked_last_conv": _cells((0.35, 0.45), (0.31, 0.31)),
    "masked_all_layers": _cells((0.29, 0.43), (0.36, 0.43)),
}
# Masked CCC (arousal, valence) by the number of images to tune with, of the sheet: scheme -> count -> pair.
SHEET_BY_FACES = {
    "last_conv": {1000: (0.20, 0.16), 10_000: (0.27, 0.24), 100_000: (0.27, 0.28), 250_000: (0.31, 0.31)},
    "all_layers": {1000: (0.20, 0.22), 10_000: (0.26, 0.28), 100_000: (0.34, 0.39), 250_000: (0.36, 0.43)},
}
# The rows of Table 2, and the family that is trained so. The third has no result of its own in Table 3.
TABLE2 = (
    ("AffectNet, from scratch", "plain_scratch"),
    ("MaskedAffectNet, from scratch", "masked_scratch"),
    ("AffectNet → MaskedAffectNet, scratch (read as: asked about masked faces, not trained on them)", "plain_scratch"),
    ("AffectNet → MaskedAffectNet, last convolution", "masked_last_conv"),
    ("AffectNet → MaskedAffectNet, all layers", "masked_all_layers"),
)
NOTES = (
    "The text of the paper gives .53 arousal and .45 valence for all layers on masked faces; Table 3 has them the "
    "other way round, and is followed here.",
    "Table 2 has five rows and Table 3 four: “AffectNet → MaskedAffectNet, scratch” has no result of its own. It is "
    "read as the network of plain faces asked about masked ones without further training, which is the first row's "
    "column of masked faces.",
    "The results sheet in the authors' repository differs from Table 3 in most cells, by up to .13.",
    "The paper's test sets of plain and masked faces are not paired: its masker keeps only the pictures in which it "
    "finds a face. Here every network is asked about the same faces, plain and masked.",
)
