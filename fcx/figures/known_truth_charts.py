"""Known truth (`fcx.faithfulness.known_truth`): the drawn faces, where each method looks, tables and statements."""

from __future__ import annotations

import re
from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.checks import choose
from fcx.core.provenance import nested_attr
from fcx.datasets.truth import truth_condition
from fcx.figures.forest_plots import forest, heights, shifts
from fcx.figures.montage import Montage, picture, resize
from fcx.figures.tables import Finding, Findings, Table
from fcx.figures.theme import INK, PALETTE, SHADE, Figure, bars, dots, finish, looks
from fcx.figures.wording import listed, method_title, readable

TRUTH_AXES = {
    "found": "share of faces in which the truth is the densest place",
    "hit": "share of faces whose maximum lies in the truth",
    "share": "share of absolute attribution in the truth",
    "auc": "AUC, truth against the rest",
}
WANTED = 0.95  # of faces, in which a method must find the truth
LEAD = 0.5  # how much more often at least than in the map of an untrained network
LEARNT = 0.9  # the CCC below which a network cannot be asked
DRAWN = "drawn faces"
UNTRAINED = ", untrained"
TINT = np.array([213, 94, 0])


def truth_gallery(sets: Mapping[str, xr.Dataset], *, count: int = 6, on: str = DRAWN) -> Figure:
    """Draw the same faces for each carrier (a row), with the pixels that depend on its labels tinted."""
    carriers, tiles, words, rows = list(sets), [], [], []
    for carrier in carriers:
        faces = sets[carrier].isel(sample=slice(0, count)).load()
        condition = truth_condition(faces)
        truth = faces["truth"].sel(condition=condition).values
        tiles.append([_tinted(picture(faces, condition, i), truth[i]) for i in range(faces.sizes["sample"])])
        labels = list(zip(faces["arousal"].values, faces["valence"].values, strict=True))
        words.append([f"{a:+.1f}, {v:+.1f}" for a, v in labels])
        rows += [{"carrier": carrier, "condition": condition, "face": str(s), "arousal": a, "valence": v,
                  "truth (share of area)": (t > 0).mean()}
                 for s, (a, v), t in zip(faces["sample"].values, labels, truth, strict=True)]  # fmt: skip
    montage = Montage(np.array(tiles), words, left=110, top=60)
    montage.label_rows([f"<b>{readable(carrier)}</b>" for carrier in carriers])
    reading = (
        "One face a column, one carrier a row: the faces are the same (a carrier that is the mask's is shown with it), "
        "the labels (arousal, valence; under each face) are not. Orange: the pixels that other labels would change."
    )
    table = pd.DataFrame(rows)
    areas = table.groupby("carrier", sort=False)["truth (share of area)"].mean()
    numbers = f"Mean share of the area: {'; '.join(f'{name} {area:.0%}' for name, area in areas.items())}."
    return montage.finish(
        _named("truth", on), f"{on.capitalize()} whose labels one carrier shows", reading, numbers, table
    )


def validity_chart(scores: xr.Dataset, *, quantity: str = "found", on: str = DRAWN) -> Figure:
    """Draw how well each method finds the truth, a panel for each carrier, with the chance level and the controls.

    `on` says what the faces are. In "found", hollow points are the same networks with random weights.
    """
    axis = TRUTH_AXES[choose(quantity, TRUTH_AXES, "quantity")]
    table = validity_rows(scores)
    table = table[table[f"{quantity}_mean"].notna() & (table.area < 1)]
    carriers, titles = list(dict.fromkeys(table.carrier)), _titles(scores, dict.fromkeys(table.method))
    figure = forest([readable(carrier) for carrier in carriers], titles.values(), spacing=0.02, showgrid=True)
    targets, controls = list(dict.fromkeys(table.target)), int(scores["control"].sum())
    up = shifts(targets, 0.14)
    for at, carrier in enumerate(carriers, start=1):
        part = table[table.carrier == carrier]
        for target, (colour, symbol) in looks(targets).items():
            one = part[part.target == target]
            mean, low, high = (one[f"{quantity}_{end}"] for end in ("mean", "low", "high"))
            y, marker = heights(list(titles), one.method, up[target]), {"color": colour, "symbol": symbol, "size": 9}
            hover = [f"{readable(titles[r.method])}, {carrier}, {target}: {m:.2f} [{a:.2f}, {b:.2f}]"
                     for r, m, a, b in zip(one.itertuples(), mean, low, high, strict=True)]  # fmt: skip
            spread = {**bars(mean, low, high), "color": colour}
            trace = dots(mean, y, hover, marker=marker, error_x=spread, name=target, showlegend=at == 1)
            figure.add_trace(trace, row=1, col=at)
            if quantity == "found":
                hover = [
                    f"{words.split(':')[0]}, untrained: {m:.2f}"
                    for words, m in zip(hover, one.untrained_mean, strict=True)
                ]
                hollow = {**marker, "symbol": f"{symbol}-open"}
                trace = dots(
                    one.untrained_mean, y, hover, marker=hollow, name=f"{target}, untrained", showlegend=at == 1
                )
                figure.add_trace(trace, row=1, col=at)
        # After the points: Plotly leaves out panels that are still empty.
        figure.add_hrect(y0=-0.5, y1=controls - 0.5, fillcolor=SHADE, line_width=0, layer="below", row=1, col=at)
        figure.add_vline(x=_chance(part, quantity), line={"color": INK, "width": 1.5, "dash": "dot"}, row=1, col=at)
    figure.update_xaxes(range=[-0.04, 1.04], tickvals=[0, 0.5, 1])
    title = f"Known truth on {on}: {axis}"
    reading = (
        "Points are means over faces with 95 % intervals, a panel for each carrier. Dotted: chance. Shaded: controls "
        "that know nothing of the network." + (" Hollow: the same networks with random weights, which know nothing."
                                               if quantity == "found" else "")
    )  # fmt: skip
    best = table[~table.control].groupby("method", sort=False)[f"{quantity}_mean"].min()
    numbers = f"Lowest of all carriers and targets: {'; '.join(f'{titles[m]} {v:z.2f}' for m, v in best.items())}."
    return finish(figure, _named(f"validity_{quantity}", on), title, reading, numbers, table, 190 + 34 * len(titles))


def _chance(part: pd.DataFrame, quantity: str) -> float:
    """Return the chance level: the area of the truth, 1/2 for the AUC, what random maps score where none is exact."""
    if quantity == "found":
        return float(part[part.method == "random"].found_mean.mean())
    return 0.5 if quantity == "auc" else float(part.area.iloc[0])


def validity_rows(scores) -> pd.DataFrame:
    """Return the scores as rows: carrier, method, target, control, area, CCC, and each mean with its interval.

    A method has no row where it refuses every network of a carrier.
    """
    names = [f"{name}_{end}" for name in (*TRUTH_AXES, "density", "untrained") for end in ("mean", "low", "high")]
    keys = ["carrier", "method", "target"]
    rows = scores[[*names, "empty_mean", "area", "ccc"]].to_dataframe(dim_order=keys).reset_index()
    return rows.loc[rows.hit_mean.notna(), [*keys, "control", "area", "ccc", *names, "empty_mean"]]


def validity_table(scores: xr.Dataset, *, on: str = DRAWN) -> Table:
    """Return found, hit, mass share, density and AUC by carrier, method and target, with the chance level."""
    rows = validity_rows(scores)
    named = {"area": "area (chance of hit and share)", "ccc": "CCC of the network", "empty_mean": "empty maps"}
    named |= {f"{name}_mean": name for name in (*TRUTH_AXES, "density")}
    named["untrained_mean"] = "found in an untrained network"
    kept = rows[["carrier", "method", "target", *named]].rename(columns=named)
    kept["method"] = [method_title(name, scores) for name in kept["method"]]
    return Table(_named("validity", on), f"What each method finds where the truth is known, on {on}", kept)


def architecture_table(by: Mapping[str, xr.Dataset]) -> Table:
    """Return how often each method finds the truth in networks of several architectures, by the carriers they share."""
    shared, parts = [], []
    for name, scores in by.items():
        rows = validity_rows(scores)
        rows["method"] = [method_title(method, scores) for method in rows.method]
        shared.append(set(rows.carrier))
        part = rows.set_index(["carrier", "method", "target"])[["ccc", "found_mean", "untrained_mean"]]
        part.columns = [f"CCC, {name}", f"found, {name}", f"found, {name} untrained"]
        parts.append(part)
    table = pd.concat(parts, axis=1).sort_index(axis=1).reset_index()
    table = table[table.carrier.isin(set.intersection(*shared))]
    return Table("architectures", f"In how many {DRAWN} the truth is found, by architecture", table)


def _named(name: str, on: str) -> str:
    """Return the name of a figure or table, which says what the faces are where they are not drawn."""
    return name if on == DRAWN else f"{name}_{re.sub(r'[^a-z0-9]+', '_', on).strip('_')}"


def densest_table(scores: xr.Dataset, *, on: str = DRAWN) -> Table:
    """Return which region each method names: the region that is densest in most faces, and in how many."""
    titles = _titles(scores, scores["method"].values)
    columns = {carrier: [_densest(scores, carrier, method) for method in titles]
               for carrier in scores["carrier"].values.tolist()}  # fmt: skip
    table = pd.DataFrame({"method": titles.values(), **columns})
    return Table(_named("densest", on), f"The region that is densest in most {on}, by carrier", table)


def _densest(scores, carrier: str, method: str) -> str:
    share = scores["densest"].sel({"carrier": carrier, "method": method}).mean("target")
    if share.isnull().any():
        return "not asked"
    return f"{share['region'].values[int(share.values.argmax())]} {float(share.max()):.0%}"


def _titles(scores, methods) -> dict[str, str]:
    return {method: method_title(method, scores) for method in methods}


def validity_findings(scores: xr.Dataset, *, on: str = DRAWN) -> Findings:
    """Return what the numbers say: which methods find the truth, which fail and where, and what brightness does."""
    rows = validity_rows(scores)
    rows["title"] = [method_title(name, scores) for name in rows.method]
    findings = [_learnt(rows, on), *_refused(scores)]
    asked = rows[(rows.area < 1) & (rows.ccc >= LEARNT)]
    if len(asked):
        methods, controls = asked[~asked.control], asked[asked.control]
        findings += _passed(methods, scores.sizes["sample"]) + _untrained(methods) + _controls(controls)
    for carrier in dict.fromkeys(rows[rows.area == 1].carrier):
        titles = _titles(scores, scores["method"].values[~scores["control"].values])
        numbers = "; ".join(f"{title}: {_densest(scores, carrier, name)}" for name, title in titles.items())
        findings.append(Finding(
            f"{carrier.capitalize()} is everywhere, and no region holds it; every method still has a densest region.",
            f"The region named most often, and in how many faces: {numbers}.",
        ))  # fmt: skip
    return Findings(findings)


def _learnt(rows, on: str) -> Finding:
    least = rows.groupby("carrier", sort=False).ccc.min()
    failed = list(least.index[least < LEARNT])
    numbers = "; ".join(f"{carrier} {ccc:z.2f}" for carrier, ccc in least.items())
    numbers = f"Lower CCC of the two targets, on faces that taught no network: {numbers}."
    if failed:
        return Finding(f"On {on}, the networks of {listed(failed)} have not learnt their labels (CCC below {LEARNT}) "
                       "and prove nothing; the statements below leave them out.", numbers)  # fmt: skip
    every = f"On {on}, every network has learnt its labels (CCC at least {LEARNT}), so it reads its carrier."
    return Finding(every, numbers)


def _refused(scores) -> list[Finding]:
    """Say which methods were not asked of which networks, and why."""
    refused = nested_attr(scores, "refused")
    if not refused:
        return []
    where = {name: [key for key in of if key.removesuffix(UNTRAINED) not in of or not key.endswith(UNTRAINED)]
             for name, of in refused.items()}  # fmt: skip
    names = listed([f"{method_title(name, scores)} ({'; '.join(of)})" for name, of in where.items()])
    reasons = "; ".join(refused[name][of[0]].partition(": for it use")[0] for name, of in where.items())
    return [Finding(f"Some networks are not explained by every method; left out: {names}.", f"Why: {reasons}.")]


def _passed(rows, count: int) -> list[Finding]:
    """Say which methods find the truth in enough faces for every carrier and target, and where the others fail."""
    worst = rows.loc[rows.groupby("method", sort=False).found_mean.idxmin()]
    good, bad = worst[worst.found_mean >= WANTED], worst[worst.found_mean < WANTED]
    always = f"In at least {WANTED:.0%} of {count} faces, for every carrier and target, the truth is found by"
    findings = []
    for part, start in ((good, always), (bad, f"In less than {WANTED:.0%}, for some carrier or target, by")):
        if len(part):
            numbers = "; ".join(
                f"{r.title} {r.found_mean:.0%} [{r.found_low:.0%}, {r.found_high:.0%}] "
                f"({r.carrier}, {r.target})" for r in part.itertuples()
            )  # fmt: skip
            names = listed(list(part.title))
            findings.append(Finding(f"{start} {names}.", f"Lowest share of faces of each: {numbers}."))
    return findings


def _untrained(rows) -> list[Finding]:
    """Say which methods find the truth in networks that have learnt nothing, which is no merit of theirs."""
    apart = rows.assign(lead=rows.found_mean - rows.untrained_mean)
    least = apart.loc[apart.groupby("method", sort=False).lead.idxmin()]
    numbers = "; ".join(f"{r.title} {r.found_mean:.0%} against {r.untrained_mean:.0%} ({r.carrier}, {r.target})"
                        for r in least.itertuples())  # fmt: skip
    numbers = f"Where they are nearest, trained against random weights: {numbers}."
    behind, near = list(least.title[least.lead < 0]), list(least.title[least.lead.between(0, LEAD, "left")])
    parts = [f"by {listed(near)} in less than {100 * LEAD:.0f} percentage points more of the faces"] * bool(near)
    parts += [f"by {listed(behind)} in fewer"] * bool(behind)
    statement = (f"The trained network's map finds the truth in at least {100 * LEAD:.0f} percentage points more of "
                 "the faces than that of the same network with random weights, by every method.")  # fmt: skip
    if parts:
        statement = ("For some carrier or target, the trained network's map does not find the truth much more often "
                     f"than that of the same network with random weights: {', and '.join(parts)}.")  # fmt: skip
    return [Finding(statement, numbers)]


def _controls(rows) -> list[Finding]:
    means = rows.groupby("title", sort=False)[["found_mean", "hit_mean", "auc_mean"]].mean()
    shares = listed([f"{title} in {share:.0%}" for title, share in means.found_mean.items()])
    parts = [f"{r.Index}: hit {r.hit_mean:.0%}, AUC {r.auc_mean:z.2f}" for r in means.itertuples()]
    return [Finding(f"Of the controls, which know nothing of the network, the truth is found by {shares} of faces.",
                    f"Means over carriers: {'; '.join(parts)}; area {rows.area.mean():.0%}.")]  # fmt: skip


def _tinted(tile: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return a face with the truth in colour, its border stronger."""
    inside = resize(truth, cv2.INTER_NEAREST) > 0
    border = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    strength = np.where(border, 0.8, 0.3 * inside)[..., None]
    return np.uint8((1 - strength) * tile + strength * TINT)


def found_chart(scores: xr.Dataset, *, on: str = DRAWN) -> Figure:
    """Draw in how many faces each method finds the truth: the mean over carriers and targets, and the worst of them."""
    rows = validity_rows(scores)
    rows = rows[rows.area < 1].assign(title=[method_title(name, scores) for name in rows[rows.area < 1].method])
    means = rows.groupby("title", sort=False)["found_mean"].agg(["mean", "min"]).sort_values(["min", "mean"])[::-1]
    names, figure = list(means.index), forest([""], list(means.index), showgrid=True)
    for column, symbol, words in (("mean", "circle", "mean over carriers"), ("min", "line-ns", "worst carrier")):
        marker = {"symbol": symbol, "size": 11, "color": PALETTE[0], "line": {"width": 2.5, "color": PALETTE[0]}}
        hover = [f"{readable(name)}, {words}: {value:.0%}" for name, value in means[column].items()]
        figure.add_trace(dots(means[column], heights(names, names), hover, marker=marker, name=words))
    chance = rows[rows.method == "random"].found_mean.mean()
    figure.add_vline(x=chance, line={"color": INK, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", title_text="share of faces")
    reading = "Points: means over all carriers; strokes: the carrier with which the method does worst. Dotted: noise."
    numbers = f"Worst: {'; '.join(f'{name} {value:.0%}' for name, value in means['min'].items())}."
    table = means.reset_index().rename(columns={"title": "method", "min": "worst"})
    title = f"In how many {on} each method finds the truth"
    return finish(figure, _named("found", on), title, reading, numbers, table, 170 + 26 * len(names))
