"""Words in figures and findings: names for people, numbers of faces, and names in a row."""

from __future__ import annotations

import html
from collections.abc import Sequence

NAMES = {
    "plain_scratch": "plain scratch", "masked_scratch": "masked scratch", "masked_last_conv": "masked last conv",
    "masked_all_layers": "masked all layers", "lrp": "LRP z+", "lrp_gamma": "LRP gamma", "lrp_zbox": "LRP zBox",
    "lrp_epsilon": "LRP epsilon", "lrp_alpha_beta": "LRP alpha-beta", "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++", "layercam": "LayerCAM", "mean_activation": "Mean activation", "gradient": "Gradient",
    "input_x_gradient": "Input x gradient", "integrated_gradients": "Integrated gradients",
    "expected_gradients": "Expected gradients", "smoothgrad": "SmoothGrad", "deeplift": "DeepLift",
    "guided_backprop": "Guided backpropagation", "occlusion": "Occlusion", "region_ablation": "Region ablation",
    "extremal_perturbation": "Extremal perturbation",
}  # fmt: skip


def plain_name(name: str) -> str:
    """Return a name for people ('masked_last_conv' -> 'masked last conv'); names that fcx did not give stay."""
    return NAMES.get(str(name), str(name))


def readable(name: str) -> str:
    """Return a name for people that is safe in Plotly's and HTML's mark-up."""
    return html.escape(plain_name(name))


def how_many(n) -> str:
    """Return numbers of faces: '412', or '408 to 412' where the cells of a table (n) differ."""
    low, high = int(n.min()), int(n.max())
    return f"{low}" if low == high else f"{low} to {high}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
