"""How often the strongest logit of a network is the expression that a face is labelled with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from fcx.core.contract import EXPRESSIONS, column, match, usable
from fcx.core.errors import InputError
from fcx.core.provenance import nested_attr
from fcx.statistics.bootstrap import estimates, means


def answers_logits(results) -> dict[str, list[str]]:
    """Return the networks of results that answer logits: name -> their outputs. Older results know ratings only."""
    declared = nested_attr(results, "outputs") or {}
    models = map(str, np.atleast_1d(results["model"].values))
    return {name: declared[name]["outputs"] for name in models if declared.get(name, {}).get("kind") == "logit"}


def accuracies(prediction: xr.DataArray, faces, logits: Mapping[str, Sequence[str]], *, draws: int, seed: int,
               tick: Callable[[int], object] = lambda draws: None) -> xr.Dataset:  # fmt: skip
    """Return the share of faces whose strongest logit is their expression, with 95 % intervals.

    `prediction` (model, condition, target, sample); `logits` names the outputs of each model that answers logits;
    `tick` is that of `resample`.
    (model, condition): accuracy; (model, condition, expression): expression_accuracy, of the faces of each expression;
    each with a `_low` and a `_high`. accuracy_n (model): how many faces count, which are usable in every condition and
    labelled with an expression that the model can answer.

    Raises: InputError where no face counts for any model; ContractError where results and faces do not match.
    """
    rows = match(prediction, faces)
    label, able, subject = column(faces, "expression")[rows], usable(faces)[rows], column(faces, "subject")[rows]
    expressions = [name for name in EXPRESSIONS if name in set(label[able])]
    hits, faults = [], []
    for model, outputs in logits.items():
        answers = prediction.sel(model=model, target=list(outputs)).transpose("sample", "condition", "target").values
        counts = able & np.isin(label, list(outputs)) & np.isfinite(answers).all((1, 2))
        if not counts.any():
            faults.append(f"no face has an expression that model {model!r} answers ({', '.join(outputs)})")
        strongest = np.array(outputs)[np.nan_to_num(answers).argmax(-1)]  # (sample, condition)
        hits.append(np.where(counts[:, None], strongest == label[:, None], np.nan))
    if len(faults) == len(logits):
        raise InputError(faults[0])
    for fault in faults:
        warnings.warn(f"{fault}: it has no accuracy", stacklevel=2)
    coords = {"model": list(logits), "condition": prediction["condition"].values, "expression": expressions}
    hit = xr.DataArray(np.stack(hits, 1).astype(np.float64), dims=("sample", "model", "condition"))
    of = xr.DataArray(label[:, None] == np.array(expressions), dims=("sample", "expression"))
    found = {"accuracy_n": np.isfinite(hit).any("condition").sum("sample")}
    for name, values in (("accuracy", hit), ("expression_accuracy", hit.where(of))):
        found |= estimates(*means(values, subject, draws, seed, tick), name, f"{name}_low", f"{name}_high")
    return xr.Dataset(found).assign_coords(coords)
