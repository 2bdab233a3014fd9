"""Layer-wise relevance propagation (LRP) of regressions, through the FaceChannel and its shunting inhibition.

Relevance starts as the output f itself (before the activation of a tanh head; never |f| or 1), so that
positive relevance pushes toward +arousal or +valence and sums are in output units. Dense layers take the
epsilon rule (Bach et al. 2015), max-pooling hands everything to the winner, and convolutions take the rule that
names the method; `fcx.attribution.lrp_rules.Rule` lists what there is. Biases (batch norm's shift is one, once it is
fused) take part in the denominators and absorb their share, or with `biases="share"` leave it to the inputs: not
in convolutions by epsilon or gamma, whose denominators then come near zero.

Each method records for each face what biases and stabilisers absorbed, summed layer by layer as that happens:
`bias` and `stabiliser` (target, sample). |sum R + bias + stabiliser - f| <= 1e-5 sum |R|, f being the
prediction that stands beside the map, from the same pass: before the tanh of a tanh head, and less the reference value
of a target that has one. Faces for which rounding of float32 would break that are done again in float64.
"""

from __future__ import annotations

import torch

from fcx.attribution.batch import Batch
from fcx.attribution.lrp_rules import Rule
from fcx.attribution.lrp_sweep import Reference, last_layers
from fcx.attribution.registry import method
from fcx.core.errors import InputError

NEAREST = 32  # faces near a reference value whose hidden activations are averaged
SEARCHED = 1024  # faces of the Dataset, evenly spaced, among which they are searched
CONSERVING = {"signed": True, "conserves": True, "resolution": 1, "relative": True, "extras": ("bias", "stabiliser")}
ONE_SIDED = (
    "it follows what excites and not what cancels: where the answer is known it often names a place of strong "
    "edges beside it (docs/validity.md)"
)


@method("lrp", title="LRP z+", **CONSERVING, caution=ONE_SIDED)
def lrp(batch: Batch, *, shunt_rule: str = "aumann_shapley", epsilon: float = 1e-12, first_rule: str = "flat",
        biases: str = "absorb", sums: str = "proportional") -> torch.Tensor:  # fmt: skip
    """Return LRP z+ of each target, (target, sample, y, x), in output units.

    z+ in convolutions, the flat rule in the first. `shunt_rule` is a name in `SHUNT_RULES`, `epsilon` that of
    the dense layers, in units of their outputs.

    Raises: UnknownNameError for a rule that does not exist; InputError where a number is out of range, or the
    model cannot be explained.
    Source: Montavon et al. 2017 (1512.02479), section 4.1; Lapuschkin et al. 2019 (1902.10178) for the first.
    """
    return explain(batch, Rule("zplus", first_rule, shunt_rule, biases, sums, epsilon))


@method("lrp_epsilon", title="LRP epsilon", **CONSERVING)
def lrp_epsilon(batch: Batch, *, shunt_rule: str = "aumann_shapley", epsilon: float = 1e-12,
                first_rule: str = "rule", sums: str = "proportional") -> torch.Tensor:  # fmt: skip
    """Return LRP epsilon of each target, (target, sample, y, x), in output units.

    The epsilon rule everywhere; with a small epsilon and no inhibition it is input times gradient.

    Raises: as `lrp`. Source: Bach et al. 2015 (https://doi.org/10.1371/journal.pone.0130140), equation (58).
    """
    return explain(batch, Rule("epsilon", first_rule, shunt_rule, sums=sums, epsilon=epsilon))


@method("lrp_gamma", title="LRP gamma", **CONSERVING)
def lrp_gamma(batch: Batch, *, shunt_rule: str = "aumann_shapley", epsilon: float = 1e-12, gamma: float = 0.03,
              first_rule: str = "rule", sums: str = "proportional") -> torch.Tensor:  # fmt: skip
    """Return LRP gamma of each target, (target, sample, y, x), in output units.

    Every convolution with w + gamma w+. A small gamma keeps what cancels: on faces whose labels lie in a known
    place it finds that place, which z+ (a gamma without end) does not (docs/validity.md).

    Raises: as `lrp`. Source: Montavon et al. 2019 (https://doi.org/10.1007/978-3-030-28954-6_10), section 10.2.1.
    """
    return explain(batch, Rule("gamma", first_rule, shunt_rule, sums=sums, epsilon=epsilon, gamma=gamma))


@method("lrp_zbox", title="LRP zBox", **CONSERVING)
def lrp_zbox(batch: Batch, *, shunt_rule: str = "aumann_shapley", epsilon: float = 1e-12,
             gamma: float = 0.03, sums: str = "proportional") -> torch.Tensor:  # fmt: skip
    """Return LRP gamma that ends in the zBox rule, (target, sample, y, x), in output units.

    The first convolution hands on to pixels between black and white, so that a dark pixel may speak for an output
    as a bright one does. Its signs are the truest to the model (docs/faithfulness.md).

    Raises: as `lrp`. Source: Montavon et al. 2017 (1512.02479), section 4.2; for gamma as `lrp_gamma`.
    """
    return explain(batch, Rule("gamma", "zbox", shunt_rule, sums=sums, epsilon=epsilon, gamma=gamma))


@method("lrp_alpha_beta", title="LRP alpha-beta", **CONSERVING, caution=ONE_SIDED)
def lrp_alpha_beta(batch: Batch, *, shunt_rule: str = "aumann_shapley", epsilon: float = 1e-12, alpha: float = 2.0,
                   first_rule: str = "flat", biases: str = "absorb",
                   sums: str = "proportional") -> torch.Tensor:  # fmt: skip
    """Return LRP alpha-beta of each target, beta = alpha - 1, (target, sample, y, x), in output units.

    Positive contributions hand on alpha, negative ones -beta of the relevance; the flat rule in the first.

    Raises: as `lrp`. Source: Bach et al. 2015 (https://doi.org/10.1371/journal.pone.0130140), equation (60).
    """
    return explain(batch, Rule("alpha_beta", first_rule, shunt_rule, biases, sums, epsilon, alpha=alpha))


def explain(batch: Batch, rule: Rule) -> torch.Tensor:
    """Return the relevance of a batch (target, sample, y, x), and record `bias` and `stabiliser`.

    Raises: InputError where the model cannot be explained.
    """
    relative = batch.reference != 0
    maps = batch.images.new_empty(len(batch.weights), *batch.images[:, 0].shape)
    absorbed = maps.new_empty(2, *maps.shape[:2], dtype=torch.float64)
    for some, reference in ((~relative, None), (relative, find_reference)):
        if some.any():
            reference = reference and reference(batch, some)
            part = batch.engine.relevance(batch.images, batch.weights[some], rule, reference, batch.tapes)
            maps[some], absorbed[:, some] = part.maps, part.absorbed
            if not batch.shares_a_pass:  # the answer beside the maps is of another pass, and rounds otherwise
                absorbed[1, some] += (
                    batch.values(batch.prediction).T[some].double() - batch.reference[some, None] - part.value
                )
    batch.record("bias", absorbed[0])
    batch.record("stabiliser", absorbed[1])
    return maps


def find_reference(batch: Batch, some: torch.Tensor) -> Reference:
    """Return the reference values of the targets `some` (target,) bool, and the last hidden activations near them.

    The mean over those `NEAREST` of at most `SEARCHED` usable faces of the Dataset, in the condition of the
    batch, for which the model gives a target a value nearest to its reference.

    Raises: InputError for a batch without a Dataset.
    Source: Letzgus et al. 2022 (2112.11407).
    """
    faces, engine = batch.reader, batch.engine
    if faces is None:
        raise InputError("LRP from a reference value needs faces near it: use fcx.attribute")
    if (key := (faces, batch.condition)) not in engine.memory:
        usable = faces.good[faces.conditions.index(batch.condition)].nonzero()[0]
        rows = usable[:: -(-len(usable) // SEARCHED)]
        hidden, outputs = [], []
        for first in range(0, len(rows), engine.piece):
            images = faces.pixels(batch.condition, rows[first : first + engine.piece], batch.model, batch.images)
            for tape in engine.tapes(images):
                head, _ = last_layers(tape)
                hidden.append(head.args[-2].tensor[: len(images)].double())
                outputs.append(tape.outputs.tensor[: len(images)].double())
        engine.memory[key] = torch.cat(hidden), torch.cat(outputs)
    hidden, outputs = engine.memory[key]
    values, targets = batch.reference[some].double(), batch.weights[some].double()
    distance = (outputs @ targets.T - values).abs()  # (face, target)
    near = distance.topk(min(NEAREST, len(distance)), dim=0, largest=False).indices
    return Reference(values, hidden[near].mean(0))
