"""How well predictions agree with labels: the concordance correlation coefficient and its parts.

All moments are population moments (divided by n), as in Lin, "A concordance correlation
coefficient to evaluate reproducibility", Biometrics 45(1), 1989, 255-268; torchmetrics divides
by n - 1. A CCC belongs to a whole set: averaged over batches it is biased.

Intervals are 95 % bootstrap intervals (`fcx.statistics.bootstrap.interval`). Subjects are drawn, not samples,
where subjects are known; one draw serves every model, condition and target, so that differences are paired.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import xarray as xr
from tqdm.std import tqdm

from fcx.core import printed as printed  # scores print as a table
from fcx.core.arguments import Count, Seed, Switch, checked
from fcx.core.checks import choose
from fcx.core.contract import TARGETS, Faces, Results, column, match, ordered, usable
from fcx.core.errors import InputError
from fcx.core.provenance import nested_attr
from fcx.core.targets import answered, parse, ratings
from fcx.statistics.accuracy import accuracies, answers_logits
from fcx.statistics.bootstrap import INTERVAL, cluster_totals, clusters, estimates, resample
from fcx.statistics.concordance import parts_of_moments

SCOPES = ("", "expression_", "within_", "oracle_")


def moments(prediction, faces, *, draws: int, seed: int,
            tick: Callable[[int], object] = lambda draws: None) -> xr.Dataset:  # fmt: skip
    """Return bootstrap sums of 1, t, tt, p, pp, pt over samples, (draw, expression, ..., target), by cluster `present`.

    `prediction` is a DataArray (..., target, sample). Samples count that are usable in every condition,
    labelled, and predicted by every model. Row 0 of `draw` is the data themselves; expression "" holds
    the faces whose expression is unknown. `signed` counts labels other than 0, and `agreed` those of them whose
    prediction has the same sign. Predictions and labels are centred by their own means, which
    `offset` gives back (the difference, (..., target)); `present` (cluster, expression, target) says which clusters
    have a sample. `tick` is that of `resample`.

    Raises: InputError where no sample counts; ContractError as in `match`.
    """
    rows = match(prediction, faces)
    targets = [str(name) for name in prediction["target"].values]
    lead = prediction.dims[:-2]
    p = prediction.transpose(..., "target", "sample").values.astype(np.float64)
    t = np.stack([ratings(faces, name)[rows] for name in targets]).astype(np.float64)  # (target, sample)
    known = usable(faces)[rows] & np.isfinite(t) & np.isfinite(p).all(tuple(range(len(lead))))
    keep = known.any(0)
    if not keep.any():
        predicted = np.isfinite(p).all(tuple(range(len(lead)))).any(0)
        counts = [side.sum() for side in (usable(faces)[rows], np.isfinite(t).any(0), predicted)]
        raise InputError(
            "of {} faces {} are usable in every condition, {} labelled and {} predicted by every model, and none is "
            "all of that: nothing to evaluate".format(len(rows), *counts)
        )
    p, t, known, rows = p[..., keep], t[:, keep], known[:, keep], rows[keep]
    names, group = np.unique(np.append("", column(faces, "expression")[rows]), return_inverse=True)
    member = np.eye(len(names))[group[1:]]  # (sample, expression), one-hot
    cluster = clusters(column(faces, "subject")[rows])
    with np.errstate(invalid="ignore"):
        mean_p, mean_t = (np.where(known, side, 0).sum(-1) / known.sum(-1) for side in (p, t))
    signed = known & (t != 0)
    agreed = signed & (np.sign(p) == np.sign(t))
    p, t = (np.where(known, side - mean[..., None], 0) for side, mean in ((p, mean_p), (t, mean_t)))
    sums = {}
    for keys, dims, features in (
        (("n", "t", "tt", "signed"), (), np.stack([known, t, t * t, signed])),
        (("p", "pp", "pt", "agreed"), lead, np.stack([p, p * p, p * t, agreed])),
    ):
        values = np.einsum("se,...s->se...", member, features)  # (sample, expression, feature, ..., target)
        drawn = resample(values, cluster, draws, seed, tick)
        sums.update({key: (("draw", "expression", *dims, "target"), drawn[:, :, i]) for i, key in enumerate(keys)})
    coords = {name: prediction[name].values for name in (*lead, "target") if name in prediction.coords}
    made = xr.Dataset(sums, {"expression": names, **coords})
    made["offset"] = ((*lead, "target"), mean_p - mean_t)
    totals = cluster_totals(np.einsum("se,ts->set", member, known), cluster)
    made["present"] = (("cluster", "expression", "target"), totals.reshape(-1, len(names), len(targets)) > 0)
    return made.assign_attrs(rows=prediction.sizes["sample"], clusters=made.sizes["cluster"])


def scope_parts(sums: xr.Dataset, scope: str = "") -> xr.Dataset:
    """Return the parts of the CCC from `moments`, in one of four scopes.

    "": over all samples. "expression_": for each known expression. "within_": over all known expressions
    with chance agreement taken within each, 2 sum(n_e cov_e) / sum(n_e (var_p + var_t + gap^2)_e), which is
    0 for a prediction that knows the expression only; with the pooled within-group correlation as pearson.
    "oracle_": the CCC of an oracle that predicts the mean label of each expression, 2 B / (B + T) with B
    and T the sums of squares between expressions and in total.

    Raises: UnknownNameError for another scope.
    Source: Lin 1989; within: the stratified CCC after King and Chinchilli, Statistics in Medicine 20(14), 2001.
    """
    choose(scope, SCOPES, "scope")
    known = sums.sel(expression=sums["expression"] != "")
    with np.errstate(invalid="ignore", divide="ignore"):
        if scope == "":
            return _parts(sums.sum("expression"))
        if scope == "expression_":
            return _parts(known).transpose(..., "expression")
        gap, var_p, var_t, cov = _central(known)
        cov, var_p, var_t, square = ((known["n"] * v).sum("expression") for v in (cov, var_p, var_t, gap**2))
        if scope == "within_":
            spread = var_p + var_t + square
            return xr.Dataset({"ccc": 2 * cov / spread, "pearson": cov / np.sqrt(var_p * var_t)})
        pooled = known[["n", "t", "tt"]].sum("expression")
        total = pooled["tt"] - pooled["t"] ** 2 / pooled["n"]
        return xr.Dataset({"ccc": 2 * (total - var_t) / (2 * total - var_t)})


def scope_sizes(sums: xr.Dataset, scope: str = "") -> tuple[xr.DataArray, xr.DataArray]:
    """Return how many samples and how many clusters count in a scope, each (target) or (target, expression)."""
    n, present = sums["n"].isel(draw=0).astype(int), sums["present"]
    if scope:
        n, present = (each.sel(expression=sums["expression"] != "") for each in (n, present))
    if scope != "expression_":
        n, present = n.sum("expression"), present.any("expression")
    return n.transpose("target", ...), present.sum("cluster").transpose("target", ...)


def _parts(sums: xr.Dataset) -> xr.Dataset:
    sign_agreement = sums["agreed"] / sums["signed"].where(sums["signed"] > 0)
    return xr.Dataset(parts_of_moments(*_central(sums)) | {"sign_agreement": sign_agreement})


def _central(sums: xr.Dataset) -> tuple:
    """Return the difference of means, the variances and the covariance; NaN for fewer than two samples."""
    n = sums["n"].where(sums["n"] > 1)
    mean_p, mean_t = sums["p"] / n, sums["t"] / n
    square_p, square_t = sums["pp"] / n, sums["tt"] / n
    var_p, var_t = square_p - mean_p**2, square_t - mean_t**2
    # What is left of equal values is the rounding error of the difference above.
    var_p, var_t = var_p.where(var_p > 1e-12 * square_p, 0 * n), var_t.where(var_t > 1e-12 * square_t, 0 * n)
    cov = (sums["pt"] / n - mean_p * mean_t).where((var_p > 0) & (var_t > 0), 0 * n)
    return mean_p - mean_t + sums["offset"], var_p, var_t, cov


@checked
def evaluate(results: Results, faces: Faces, *, draws: Count = 2000, seed: Seed = 0,
             progress: Switch = True) -> xr.Dataset:  # fmt: skip
    """Return how well each model agrees with the labels, with 95 % intervals, whole and within expression.

    Of models that answer logits it is their accuracy (`fcx.statistics.accuracy.accuracies`); what follows is NaN for
    them. What only some models answer is compared among these. Every quantity has a `_low` and a `_high`.
    (model, condition, target): ccc, pearson, scale, shift, bias_correction, mse, rmse, sign_agreement, within_ccc,
    within_pearson. (model, condition, target, expression): the same eight with the prefix `expression_`. (target):
    oracle_ccc, the CCC that a prediction of each expression's mean label would get on these faces. n (target),
    expression_n (target, expression) and coverage (target), n over all rows, count the samples that are usable in every
    condition, labelled and predicted. sign_agreement is the share of labels other than 0 whose prediction has the same
    sign: a label of 0 has none to agree with, and a prediction of 0 agrees with none. A bar on stderr counts
    the draws where they take longer than two seconds; none without `progress`.

    Raises: InputError where no sample counts; ContractError where results and faces do not match.
    Source: `scope_parts`; `fcx.statistics.bootstrap.interval`; sign agreement, Nicolaou, Gunes and Pantic, IEEE
    Transactions on Affective Computing 2(2), 2011.

    >>> evaluate(results, faces)["ccc"].sel(condition="masked", target="valence")  # doctest: +SKIP
    """
    prediction = results["prediction"].assign_attrs(results.attrs)
    logits = answers_logits(results)
    asked = [partial(accuracies, prediction, faces, logits, draws=draws, seed=seed)] if logits else []
    for targets, models in _rated(results, logits).items():
        part = prediction.sel(model=models, target=list(targets))
        asked.append(partial(_concordance, part, faces, draws, seed))
    if not asked:
        raise InputError(f"no model answers what can be scored: {' and '.join(TARGETS)}, or logits of expressions")
    parts, faults = [], []
    with tqdm(total=2 * draws * len(asked), desc="evaluate", unit="draw", file=sys.stderr, disable=not progress,
              delay=2) as bar:  # fmt: skip
        for ask in asked:  # each draws twice
            try:
                parts.append(ask(tick=bar.update))
            except InputError as error:  # faces may be labelled for some of the models only
                faults.append(error)
    if not parts:
        raise faults[0]
    for fault in faults:
        warnings.warn(str(fault), stacklevel=3)
    table = reduce(xr.Dataset.combine_first, parts) if len(parts) > 1 else parts[0]
    order = {dim: [name for name in results[dim].values if name in table[dim]] for dim in ("model", "target")
             if dim in table.dims}  # fmt: skip
    return ordered(table.sel(order)).assign_attrs(parts[-1].attrs)


def _rated(results, logits) -> dict[tuple[str, ...], list[str]]:
    """Return the targets that people rate which each model answers: targets -> models that answer the same."""
    declared, groups = nested_attr(results, "outputs") or {}, {}
    targets = [parse(str(name), answered(results)) for name in results["target"].values]
    for model in map(str, results["model"].values):
        rated = set(TARGETS) & set(declared.get(model, {}).get("outputs", TARGETS))
        own = tuple(target.name for target in targets if target.of_outputs(rated))
        if own and model not in logits:
            groups.setdefault(own, []).append(model)
    return groups


def _concordance(prediction: xr.DataArray, faces, draws: int, seed: int, tick) -> xr.Dataset:
    sums = moments(prediction, faces, draws=draws, seed=seed, tick=tick)
    made = {}
    for scope in SCOPES:
        _, count = scope_sizes(sums, scope)
        for name, drawn in scope_parts(sums, scope).items():
            made |= estimates(drawn, count, scope + name, f"{scope}{name}_low", f"{scope}{name}_high")
    made["n"], made["expression_n"] = (scope_sizes(sums, scope)[0] for scope in ("", "expression_"))
    made["coverage"] = made["n"] / sums.attrs["rows"]
    return ordered(xr.Dataset(made)).assign_attrs(
        rows=sums.attrs["rows"], clusters=sums.attrs["clusters"], draws=draws, seed=seed,
        interval=INTERVAL, moments="population (divided by n)",
    )  # fmt: skip
