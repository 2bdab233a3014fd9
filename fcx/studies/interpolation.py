"""Networks between two networks: every weight on the straight line from one to the other.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (2109.01903).
"""

from __future__ import annotations

import torch

from fcx.core.arguments import Number, checked
from fcx.core.checks import real_number
from fcx.core.errors import InputError
from fcx.networks.facechannel import FaceChannel

STEPS = (0.25, 0.5, 0.75)  # between the plain network (0) and the tuned one (1)


@checked
def interpolate(model_a: FaceChannel, model_b: FaceChannel, t: Number) -> FaceChannel:
    """Return the network whose weights are (1 - t) times those of one and t times those of the other.

    The statistics of batch norm are interpolated as weights are. They are not those that the network between would
    measure on faces, so that what is lost on the way may be theirs; where both ends share their trunk, as after
    tuning the last convolution, there is no such difference. At t = 0 and t = 1 it is one of the two, bit by bit.

    Raises: InputError for networks of different shapes, or a `t` outside 0 to 1.

    >>> a, b = FaceChannel.preset(width=4, hidden=4), FaceChannel.preset(width=4, hidden=4)
    >>> bool((interpolate(a, b, 1).head.weight == b.head.weight).all())
    True
    """
    for name, model in (("model_a", model_a), ("model_b", model_b)):
        if not isinstance(model, FaceChannel):
            raise InputError(f"{name} is a {type(model).__name__}; allowed: a FaceChannel")
    if model_a.config != model_b.config:
        raise InputError(f"networks of different shapes have none between them: {model_a.config} and {model_b.config}")
    t = real_number(t, "t", 0, 1)
    a, b = model_a.state_dict(), model_b.state_dict()
    # A sum of shares, not a + t (b - a), which would miss b by rounding.
    between = {name: (1 - t) * a[name] + t * b[name] if a[name].is_floating_point() else (a, b)[t >= 0.5][name]
               for name in a}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = FaceChannel(model_a.config).to(a["head.weight"].dtype)
    model.load_state_dict(between)
    if crop := getattr(model_a, "metadata", {}).get("crop"):
        model.metadata = {"crop": crop}
    return model.eval()
