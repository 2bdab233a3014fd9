"""Recipes: how a network is taught, as settings.

Barros and Sciutti, "I Only Have Eyes for You", 2021, Table 1, and the code they published for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from fcx.core.arguments import count, switch
from fcx.core.checks import choose, choose_all, option, real_number, whole_number


@dataclass(frozen=True)
class Recipe:
    """How weights are found; `filled_in` names what the paper does not say.

    Raises: UnknownNameError for a name; InputError for a number that is out of range.

    >>> Recipe(epochs=3).optimiser
    'adamw'
    """

    optimiser: str = option("adamw", "adamw, adam or sgd")
    learning_rate: float = option(2e-3, "peak learning rate of a new network")
    fine_rate: float = option(5e-4, "peak learning rate where a checkpoint is trained further")
    schedule: str = option("one_cycle", "one_cycle, or plateau of the training loss")
    epochs: int = option(10, "passes over the training faces")
    steps: int = option(0, "batches in an epoch; 0: as many as the faces fill")
    batch_size: int = option(32, "faces in a batch")
    weight_decay: float = option(0.05, "pull of weights towards zero")
    dropout: float = option(0.0, "share of units left out; a checkpoint that is trained further keeps its own")
    zero_head: bool = option(True, "a new network starts with outputs of 0")
    ccc_loss: bool = option(True, "the loss is MSE + (1 - CCC) of a batch, not MSE alone")
    augmented: bool = option(True, "pictures are changed at random")
    keep: str = option("best", "the best epoch on validation faces, or the last")
    precision: str = option("float32", "of convolutions while learning: float32, bfloat16, or float16 on a GPU")
    filled_in: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self):
        choose(self.optimiser, OPTIMISERS, "optimiser")
        choose(self.schedule, SCHEDULES, "schedule")
        choose(self.keep, KEEPS, "epoch to keep")
        choose(self.precision, PRECISIONS, "precision")
        for name in ("learning_rate", "fine_rate"):
            real_number(getattr(self, name), name, above=0)
        count(self.epochs, "epochs")
        whole_number(self.steps, "steps", 0)
        whole_number(self.batch_size, "batch_size", 2)
        real_number(self.weight_decay, "weight_decay", 0)
        real_number(self.dropout, "dropout", 0, below=1)
        for name in ("zero_head", "ccc_loss", "augmented"):
            switch(getattr(self, name), name)

    def changed(self, **changes) -> Recipe:
        """Return this recipe with some of its fields changed.

        Raises: UnknownNameError for a field that does not exist; else as `Recipe`.
        """
        return replace(self, **choose_all(changes, RECIPE_OPTIONS, "option of a recipe"))


OPTIMISERS, SCHEDULES, KEEPS = ("adamw", "adam", "sgd"), ("one_cycle", "plateau"), ("best", "last")
PRECISIONS = ("float32", "bfloat16", "float16")
RECIPE_OPTIONS = tuple(each.name for each in fields(Recipe) if each.metadata)
RECIPES = {
    # Dropout in front of batch norm shifts its variances (Li et al., CVPR 2019), and the head's first random
    # weights take long to unlearn. Five epochs on 8,000 faces at width 32 reached a validation CCC
    # (arousal/valence) of .34/.18 with .25 and .47/.46 without dropout; in batches of 64, .54/.52, and with
    # a head that starts at zero, .64/.66.
    "modern": Recipe(),
    # Table 1 selects SGD and .05. The rest is what the authors' published code does.
    "paper": Recipe(
        optimiser="sgd", learning_rate=0.05, fine_rate=0.05, schedule="plateau", epochs=100, batch_size=80,
        weight_decay=0.0, dropout=0.25, zero_head=False, ccc_loss=False, augmented=False, keep="last",
        filled_in=("fine_rate", "schedule", "epochs", "steps", "batch_size", "weight_decay", "dropout", "zero_head",
                   "ccc_loss", "augmented", "keep", "precision"),
    ),
}  # fmt: skip
