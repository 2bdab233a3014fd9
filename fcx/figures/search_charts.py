"""A search of Table 1 of the paper: its trials, what mattered, and the best choice beside the paper's."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fcx.core.contract import TARGETS
from fcx.figures.forest_plots import heights, shifts
from fcx.figures.tables import Finding, Findings
from fcx.figures.theme import Figure, dots, finish, looks
from fcx.figures.wording import listed

WORDS = {
    "layers": "hidden layers",
    "hidden": "units a layer",
    "learning_rate": "learning rate",
    "optimiser": "optimiser",
}
OPTIMISERS, GREY = ("adam", "sgd"), "#8b93a1"


def search_chart(searched: Any) -> Figure:
    """Draw trials, their learning rates, what mattered, and the best choice beside the paper's with fresh seeds.

    `searched` is what `fcx.networks.search.search` or `read_search` returns.
    """
    trials = searched.trials
    heads = ["Trials in their order", "Scores by learning rate", "What the scores depend on", "Trained anew"]
    parameters = searched.importance.sort_values("importance", ascending=False)
    sizes = [230, 230, 40 + 40 * max(1, len(parameters)), 150]
    gap = 110
    height = sum(sizes) + gap * 3 + 210
    figure = make_subplots(4, 1, figure=Figure(), row_heights=sizes, vertical_spacing=gap / (sum(sizes) + 3 * gap),
                           subplot_titles=[f"<b>{head}</b>" for head in heads])  # fmt: skip
    _history(figure, trials)
    _points(figure, trials[trials.ccc.notna()], "learning_rate", 2)
    figure.update_xaxes(title_text="learning rate", type="log", dtick=1, row=2, col=1)
    _importance(figure, parameters)
    _checks(figure, searched.checks)
    reading = (
        "The score of a trial is the mean CCC over arousal and valence on faces of the training split that it did not "
        "learn. Open symbols were pruned and show their last score, crosses diverged and have none. What the scores "
        "depend on is each parameter's share of their variance over trials that came to their end (fANOVA). In the "
        "last panel the best and the paper's choice are trained with fresh seeds and scored on validation faces, "
        "which chose nothing."
    )
    title = "Search by Table 1 of the paper"
    return finish(
        figure, "search", title, reading, _sentences(searched), trials.drop(columns="reason"), height, margin_t=150
    )


def search_findings(searched: Any) -> Findings:
    """Return how far the best choice of a search leads the paper's, and how sure that is.

    `searched` is what `fcx.networks.search.search` or `read_search` returns.
    """
    scores = {
        choice: part[list(TARGETS)].mean(axis=1, skipna=False)
        for choice, part in searched.checks.groupby("choice", sort=False)
    }
    best, paper = next(iter(scores.values())), list(scores.values())[-1]
    if len(scores) == 1:
        statement = "The paper's choice is the best."
    elif best.isna().any() or paper.isna().any():
        statement = "Of the best and the paper's choice not all trainings with fresh seeds came to their end."
    elif best.min() > paper.max() or paper.min() > best.max():
        verb = "beats" if best.mean() > paper.mean() else "stays behind"
        statement = f"The best choice {verb} the paper's in every training, by {abs(best.mean() - paper.mean()):.3f}."
    else:
        statement = f"The best choice cannot be told from the paper's: it differs by {best.mean() - paper.mean():+.3f}."
    ranges = "; ".join(f"{name} {values.mean():.3f} ({values.min():.3f} to {values.max():.3f} in {len(values)} "
                       "trainings)" for name, values in scores.items())  # fmt: skip
    behind = f"Mean CCC over arousal and valence on validation faces, trained with fresh seeds: {ranges}. "
    return Findings([Finding(statement, behind + _sentences(searched))])


def _history(figure: Figure, trials: pd.DataFrame) -> None:
    best = trials.ccc.where(trials.state == "complete").cummax().ffill()
    line = {"color": GREY, "width": 2, "shape": "hv"}
    figure.add_trace(go.Scatter(x=trials.trial, y=best, mode="lines", line=line, name="best so far",
                                hoverinfo="skip"), row=1, col=1)  # fmt: skip
    _points(figure, trials.assign(ccc=trials.ccc.fillna(trials.ccc.min())), "trial", 1)
    for row in trials[trials.choice != ""].itertuples():
        figure.add_annotation(x=row.trial, y=row.ccc, text=row.choice.replace(" ", ", "), showarrow=False, yshift=16,
                              row=1, col=1)  # fmt: skip
    figure.update_xaxes(title_text="trial", zeroline=False, row=1, col=1)


def _points(figure: Figure, trials: pd.DataFrame, column: str, row: int) -> None:
    """Draw a score for each trial over a column: a colour for each optimiser, a symbol that says how it ended."""
    for name, (colour, symbol) in looks(OPTIMISERS).items():
        part = trials[trials.optimiser == name]
        ends = {"complete": symbol, "pruned": f"{symbol}-open", "diverged": "x-thin", "unfinished": "line-ns"}
        marker = {"symbol": part.state.map(ends), "size": 9, "color": colour, "line": {"width": 2, "color": colour}}
        figure.add_trace(dots(part[column], part.ccc, _hover(part), marker=marker, showlegend=False), row=row, col=1)
        if row == 1:
            key = {"symbol": symbol, "size": 9, "color": colour}
            figure.add_trace(dots([None], [None], [""], marker=key, name=name), row=1, col=1)
    figure.update_yaxes(title_text="mean CCC", row=row, col=1)


def _importance(figure: Figure, parameters: pd.DataFrame) -> None:
    names = [WORDS[name] for name in parameters.parameter]
    figure.add_trace(go.Bar(x=parameters.importance, y=names, orientation="h", marker_color=GREY,
                            text=[f"{value:.2f}" for value in parameters.importance], textposition="outside",
                            hoverinfo="skip", showlegend=False), row=3, col=1)  # fmt: skip
    figure.update_xaxes(title_text="share of the variance", range=[0, 1.1], row=3, col=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, row=3, col=1)


def _checks(figure: Figure, checks: pd.DataFrame) -> None:
    rows, up = list(checks.choice.unique()), shifts(TARGETS, 0.15)
    for target, (colour, symbol) in looks(TARGETS).items():
        y = heights(rows, checks.choice, up[target])
        hover = [
            f"{row.choice}, training {row.training}: {target} {getattr(row, target):.3f}" for row in checks.itertuples()
        ]
        marker = {"symbol": symbol, "size": 11, "color": colour}
        figure.add_trace(dots(checks[target], y, hover, marker=marker, name=target), row=4, col=1)
    figure.update_xaxes(title_text="CCC on validation faces", row=4, col=1)
    ticks = {"tickvals": list(range(len(rows)))[::-1], "ticktext": rows, "range": [-0.6, len(rows) - 0.4]}
    figure.update_yaxes(**ticks, showgrid=False, zeroline=False, row=4, col=1)


def _hover(part: pd.DataFrame) -> list[str]:
    return [f"trial {row.trial}: {_named(row)}: {row.state}, CCC {row.ccc:.3f}" for row in part.itertuples()]


def _named(row) -> str:
    return f"{row.layers} x {row.hidden} units, {row.optimiser} at {row.learning_rate:.3g}"


def _sentences(searched) -> str:
    """Say how the trials ended, what mattered, and how far the best and the paper's choice reach with fresh seeds."""
    counts = searched.trials.state.value_counts()
    sentences = [f"{len(searched.trials)} trials: {listed([f'{count} {state}' for state, count in counts.items()])}."]
    if len(searched.importance):
        first = searched.importance.loc[searched.importance.importance.idxmax()]
        sentences.append(
            f"The {WORDS[first.parameter]} explains {first.importance:.0%} of the variance of {first.trials} scores."
        )
    for choice, part in searched.checks.groupby("choice", sort=False):
        means = listed([f"{target} {part[target].mean():.3f}" for target in TARGETS])
        row = next(part.itertuples())
        sentences.append(f"{choice.capitalize()} choice ({_named(row)}), mean of {len(part)} trainings: {means}.")
    return " ".join(sentences)
