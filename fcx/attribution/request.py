"""What `attribute` is asked for, checked: names, options, shares of work, and models that fit the faces."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping

from torch import nn

from fcx.attribution.registry import METHODS
from fcx.core.arguments import words
from fcx.core.checks import choose_all, whole_number
from fcx.core.contract import check
from fcx.core.errors import InputError
from fcx.core.targets import Target, parse_all
from fcx.networks.checkpoints import check_crop
from fcx.networks.inputs import all_outputs, outputs_of, read_variable

LOG = logging.getLogger(__name__)


def chosen_names(given, allowed: Iterable[str], what: str) -> list[str]:
    """Return names given as a list or as one text with commas.

    Raises: UnknownNameError for one that is not allowed; InputError where there is none, or one twice.
    """
    names = choose_all(words(given, f"{what}s"), allowed, what)
    if not names or len(set(names)) < len(names):
        raise InputError(f"{what}s are {names}: give at least one, each once; allowed: {', '.join(allowed)}")
    return names


def model_targets(models: Mapping[str, nn.Module], targets: str | Iterable[str] | None = None) -> list[Target]:
    """Return the targets that a text or a list names, of the outputs of some models; None is every output.

    Raises: UnknownNameError for a name that no model answers; InputError for a target of outputs that no model has
    together; else as `parse_all`.
    """
    outputs = all_outputs(models.values())
    parsed = parse_all(outputs if targets is None else targets, outputs)
    for target in parsed:
        if not any(target.of_outputs(outputs_of(model)) for model in models.values()):
            raise InputError(f"target {target.name!r} needs {', '.join(target.needs)}, which no model answers together")
    return parsed


def tell_lacking(models: Mapping[str, nn.Module], targets: Iterable[Target]) -> None:
    """Warn of the targets that a model does not answer."""
    for name, model in models.items():
        if names := [target.name for target in targets if not target.of_outputs(outputs_of(model))]:
            LOG.warning("model %r answers %s: NaN for %s", name, ", ".join(outputs_of(model)), ", ".join(names))


def method_options(given: Mapping, seed: int) -> dict[str, dict]:
    """Return the options of every method, defaults filled in.

    Raises: UnknownNameError for an option that no method has.
    """
    known = sorted({name for method in METHODS.values() for name in method.options})
    given = {**choose_all(given, known, "option of attribute"), "seed": seed}
    return {name: {o: given.get(o, default) for o, default in m.options.items()} for name, m in METHODS.items()}


def share_of_work(rank, ranks, out, overwrite: bool) -> tuple[int, int]:
    """Return which process of how many this is; in memory there is only one.

    Raises: InputError where the numbers do not fit, or where one of several would overwrite what others write.
    """
    ranks = whole_number(_of_environment("WORLD_SIZE", 1) if ranks is None else ranks, "ranks")
    rank = whole_number(_of_environment("RANK", 0) if rank is None else rank, "rank", 0, ranks - 1)
    if out is None:
        return 0, 1
    if overwrite and ranks > 1:
        raise InputError("several ranks cannot overwrite one store: remove it first, or choose another path")
    return rank, ranks


def _of_environment(name: str, default: int):
    """Return a whole number of the environment, or the text that stands there instead of one."""
    text = os.environ.get(name, str(default))
    return int(text) if text.isdecimal() else text


def check_models(models: Mapping[str, nn.Module], faces, methods: Iterable[str]) -> None:
    """Refuse faces that cannot be explained, and models that do not fit them or a method.

    Raises: ContractError for a Dataset that holds no faces; InputError for the others.
    """
    check(faces, "faces")
    status = faces["status"].values
    if not (status == "ok").any():
        reasons = ", ".join(sorted(set(status.astype(str).ravel()))) or "`sample` is empty"
        raise InputError(f"there is no face to explain: {reasons}")
    for name, model in models.items():
        check_crop(getattr(model, "metadata", {}), faces, f"the model {name!r}")
        read_variable(model, faces)
        for method in methods:
            check_needs(method, name, model)


def check_needs(method: str, name: str, model: nn.Module) -> None:
    """Refuse a model of a type that a method does not explain.

    Raises: InputError naming the methods that do.
    """
    if not isinstance(model, needs := METHODS[method].needs):
        able = [other for other, m in METHODS.items() if isinstance(model, m.needs)]
        raise InputError(
            f"method {method!r} explains a {needs.__name__}, and model {name!r} is a {type(model).__name__}: for it "
            f"use {', '.join(able)}"
        )
