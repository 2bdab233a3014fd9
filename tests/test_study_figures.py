"""Charts, findings and the report of the experiment say what its tables hold."""

import json
import re

import pandas as pd
import pytest
from test_studies import PAPER_LIKE, SHAPES, made_scores

import fcx
from fcx import figures
from fcx.figures.theme import Figure
from fcx.reporting.notebook_inputs import stored_study, trained_checkpoints
from fcx.studies import (
    by_expression,
    calibration_table,
    claim_table,
    differences_table,
    drawn_scores,
    efficiency_table,
    error_shares,
    forgetting_table,
    gains_table,
    ladder_matrix,
    ladder_reasons,
    multiply_adds,
    parts_table,
    table2_rows,
    table3,
)
from fcx.studies.stored_scores import Study, save_scores, study_of
from fcx.studies.training_plan import LADDER

UNRATED = figures.Absent("No face carries ratings.")

NAMES = {"small_plain": ("scratch", "", 27_000), "small_last_conv_500": ("last_conv", "small_plain-1", 500)}
LEVELS = {f"small_{name}": dict.fromkeys(LADDER, 0.8) for name in LADDER}


def records(families):
    """Return what `Study.trainings` holds of two trainings of each family."""
    rows = []
    for family in families:
        scheme, start, count = NAMES.get(family, ("scratch", "", 27_000))
        rows += [{"name": f"{family}-{k + 1}", "family": family, "seed": k, "condition": "masked", "scheme": scheme,
                  "start": start, "train": count, "epochs": 10, "passes": 1e5, "seconds": 10.0,
                  "parameters trained": 1000, **multiply_adds(SHAPES[1], scheme)} for k in range(2)]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def scores():
    return made_scores(PAPER_LIKE | {"shuffled": {"plain": 9.0, "masked": 9.0}}, seeds=2, count=60)


@pytest.fixture(scope="module")
def drawn(scores):
    return drawn_scores(scores, draws=50)


@pytest.fixture(scope="module")
def charts(scores, drawn):
    between = made_scores(
        {f"masked_all_layers@{t}": {"plain": 0.5, "masked": 0.5} for t in (0.25, 0.5)}, seeds=2, count=60
    )
    efficiency = drawn_scores(
        made_scores({n: {"plain": 0.5, "masked": 0.5} for n in NAMES}, seeds=2, count=60), draws=50
    )
    ladder = drawn_scores(made_scores(LEVELS, seeds=2, count=60), draws=50)
    reasons, table = ladder_reasons(ladder), table3(drawn)
    taught = records(PAPER_LIKE)
    curves = taught[["name", "family", "condition"]].assign(epoch=1, loss=1.0, target="arousal", ccc=0.5)
    return [
        figures.family_chart(table, faces="made"),
        figures.contrast_chart(reasons, reasons.reason, name="reasons", title="Why"),
        figures.curve_chart(curves, taught),
        figures.forgetting_chart(forgetting_table(drawn, drawn_scores(between, draws=50)), faces="made"),
        figures.efficiency_chart(efficiency_table(efficiency, records(NAMES)), faces="made"),
        figures.ladder_chart(ladder_matrix(ladder), faces="made"),
        figures.cost_chart(gains_table(table, taught), faces="made"),
        figures.expression_chart(by_expression(scores, "plain"), target="arousal", faces="made"),
    ]


def test_every_chart_carries_its_numbers_and_a_text(charts):
    for chart in charts:
        assert isinstance(chart, Figure)
        assert len(chart.table) > 1
        assert len(chart.meta["alt"]) > 80
        assert "nan" not in chart.meta["alt"]
    assert len({chart.meta["name"] for chart in charts}) == len(charts)


def test_the_chart_of_families_draws_every_training_and_the_paper(charts):
    chart = charts[0]
    small = [trace for trace in chart.data if trace.marker.size == 5]
    assert sum(len(trace.x) for trace in small) == 5 * 2 * 2 * 2  # families, seeds, conditions, targets
    crosses = [trace for trace in chart.data if trace.name == "paper, Table 3"]
    assert sum(len(trace.x) for trace in crosses) == 4 * 2 * 2
    assert {0.46, 0.61} <= {value for trace in crosses for value in trace.x}


def test_findings_say_the_verdict_and_on_what_it_stands(scores, drawn):
    table = claim_table(drawn)
    found = figures.claim_verdicts(table, faces="made").rows
    first = table.iloc[0]
    assert found[0].claim.startswith("(a) The plain network")
    assert (found[0].verdict, found[0].faces) == ("holds", "made")
    assert f"arousal {first.estimate:+.2f} [{first.low:+.2f}, {first.high:+.2f}] (holds)" in found[0].numbers
    assert "60 faces and 2 trainings of each family" in found[0].numbers
    alone = claim_table(drawn_scores(scores.isel(model=(scores["seed"] == 0).values), draws=50))
    assert "with one training of each family" in figures.claim_verdicts(alone, faces="made").rows[0].numbers
    _, rest = figures.claim_verdicts(claim_table(drawn.isel(model=slice(2))), faces="made").rows
    assert rest[:2] == ("(b), (c) and (d)", "cannot be asked")
    others = drawn.isel(model=(drawn["family"] == "masked_scratch").values)
    assert isinstance(figures.claim_verdicts(claim_table(others), faces="made"), figures.Absent)


def test_the_opening_of_training_reads_naturally_with_one_family_and_without_labels(drawn):
    tables, claims = {"made": table3(drawn)}, {"made": claim_table(drawn)}
    answer = figures.training_opening(tables, claims, style="mixed", absent=UNRATED).answer
    row = tables["made"].set_index(["family", "condition", "target"]).loc["plain_scratch", "masked", "valence"]
    number = f" and {row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] on masked faces"
    start = "On 60 faces of “made”, plain and with a drawn mask (style mixed), a network trained on plain faces"
    assert answer[0].startswith(start)
    assert number in answer[0]
    assert answer[1].startswith(
        "Of the others a network tuned on masked faces in all layers does best on masked faces: "
    )
    assert answer[2].startswith("Of the paper's four claims about this, ")
    alone = drawn.isel(model=slice(1))
    one = figures.training_opening({"made": table3(alone)}, {"made": claim_table(alone)}, absent=UNRATED).answer
    assert len(one) == 2  # nothing to compare with; one claim can be asked
    assert "others" not in " ".join(one)
    card = figures.training_picture(tables["made"])
    assert card.svg.count("<circle") == len(tables["made"]) / 2  # a dot for each family and condition
    assert "masked all layers" in card.svg
    renamed = tables["made"].assign(
        family=tables["made"].family.replace("masked_all_layers", "a_network_with_a_long_name")
    )
    cut = figures.training_picture(renamed).svg
    assert ">…rk_with_a_long_name<" in cut
    names = re.findall(r'<text x="(\d+)" y="[^"]*" text-anchor="end"[^>]*>([^<]*)<', cut)
    assert len(names) == renamed.family.nunique()
    assert all(float(x) >= 7 * len(name) for x, name in names)  # none begins before the picture does
    below = tables["made"].assign(estimate=tables["made"]["estimate"] * 0 - 0.33)
    below.loc[below.index[below.family == "plain_scratch"], "estimate"] = float("nan")
    below = figures.training_picture(below).svg
    assert ">-0.4<" in below
    assert len(set(re.findall(r'<circle cx="([^"]*)"', below))) == 1  # all at -0.33; no dot for what is not known
    assert figures.training_opening({}, {}, absent=UNRATED).answer == [UNRATED.why]


def test_findings_of_the_study_name_the_best_and_the_control(drawn):
    found = figures.family_findings(table3(drawn), differences_table(drawn), faces="made")
    statements = " ".join(item.statement for item in found.items)
    assert "the highest CCC is that of plain scratch on plain faces" in statements
    assert "masked all layers on masked faces" in statements
    assert "taught shuffled labels" in statements


def test_what_is_missed_and_how_high_a_score_can_be_is_said(scores, drawn):
    missed = parts_table(scores), error_shares(scores, "plain"), calibration_table(scores, "plain")
    found = figures.missed_findings(*missed, target="arousal", faces="made").items
    assert found[0].statement.startswith("Arousal, “made”, plain faces, plain scratch: answers have 1.0")
    assert "scale and shift 0.9" in found[-1].statement
    row = {"set": "made", "target": "arousal", "half": 0.8, "full": 0.88, "network": 0.94, "n": 60}
    [ceiling] = figures.ceiling_findings(pd.DataFrame([row]), table3(drawn), faces="made").items
    assert ceiling.statement.startswith(
        "Arousal, “made”: no prediction can have a CCC above 0.94; the highest here is 0.9"
    )
    [unknown] = figures.ceiling_findings(pd.DataFrame([row]), table3(drawn), faces="demo").items
    assert unknown.statement == "demo: no ceiling of agreement is known."
    within = figures.family_chart(table3(drawn_scores(scores, "within_ccc", draws=20)), faces="made", within=True)
    assert within.meta["title"] == "CCC of every family within expression, “made”"
    assert "paper" not in within.meta["reading"]
    chart = figures.family_chart(table3(drawn), faces="made", ceilings=pd.DataFrame([row]))
    assert [trace.x for trace in chart.data if "ceiling" in (trace.name or "")] == [(0.94, 0.94)]


def test_table_2_has_five_rows_of_which_one_trains_nothing():
    table = table2_rows(records([*PAPER_LIKE, "shuffled", "small_plain"]))
    assert table["family"].tolist() == ["plain_scratch", "masked_scratch", "plain_scratch", *list(PAPER_LIKE)[2:],
                                        "shuffled"]  # fmt: skip
    assert set(table["trainings"]) == {2}
    assert table["row of Table 2"].iloc[-1] == "none"


def test_reasons_say_what_gains(drawn):
    levels = LEVELS | {"small_plain": {**LEVELS["small_plain"], "patch": 2.5}}
    reasons = ladder_reasons(drawn_scores(made_scores(levels, count=200), draws=50))
    assert (
        figures.reason_findings(reasons, faces="made").items[0].statement
        == "“made”: that the upper face suffices explains a gain in arousal and valence."
    )


def test_the_report_runs_on_stored_scores(scores, tmp_path):
    folder = tmp_path / "scores"
    save_scores(scores.assign_attrs(kind="results"), folder / "validation-table2")
    records(PAPER_LIKE).to_csv(folder / "trainings.csv", index=False)
    curves = records(PAPER_LIKE)[["name", "family", "condition"]]
    curves.assign(epoch=1, loss=1.0, target="arousal", ccc=0.5).to_csv(folder / "curves.csv", index=False)
    assert set(stored_study(str(folder), "demo").scores) == {("validation", "table2")}
    out = tmp_path / "report"
    fcx.report(out, notebooks="02_training", scores=str(folder), draws=20, progress=False)
    numbers = json.loads((out / "02_training.json").read_text())
    assert [row["claim"][:3] for row in numbers["verdicts"]] == [f"({name})" for name in "abcd"]
    assert numbers["question"].startswith("Does training on masked faces")
    table = pd.read_csv(out / "02_training" / "table3_validation.csv")
    expected = table3(drawn_scores(scores, draws=20))
    assert table["estimate"].tolist() == pytest.approx(expected["estimate"].tolist(), abs=1e-6)


def test_findings_compare_families_without_the_plain_network_too():
    mine = made_scores(
        {"mine": {"plain": 0.2, "masked": 0.9}, "masked_scratch": {"plain": 0.9, "masked": 0.2}}, seeds=2
    )
    drawn = drawn_scores(mine, draws=50)
    found = figures.family_findings(table3(drawn), differences_table(drawn), faces="demo").items
    assert any(re.search(r"plain: mine is .* masked scratch\.$", item.statement) for item in found)


def test_a_study_of_some_networks_is_of_these_and_their_trainings_only(scores):
    between = made_scores({"masked_all_layers@0.5": {"plain": 0.5, "masked": 0.5}}, seeds=2, count=60)
    parts = {("made", "table2"): scores, ("made", "forgetting"): between, ("made", "ladder"): scores}
    curves = records(PAPER_LIKE)[["name"]].assign(epoch=1)
    whole = Study(records(PAPER_LIKE), curves, parts, pd.DataFrame())
    one = study_of(whole, ["plain_scratch", "mine"])
    assert set(one.scores) == {("made", "table2")}
    assert one.scores["made", "table2"]["model"].values.tolist() == ["plain_scratch-1", "plain_scratch-2"]
    assert one.trainings.name.tolist() == one.curves.name.tolist() == ["plain_scratch-1", "plain_scratch-2"]
    seed = study_of(whole, ["plain_scratch-2", "masked_all_layers-1", "masked_all_layers-2"])
    assert seed.scores["made", "forgetting"]["model"].values.tolist() == ["masked_all_layers@0.5-2"]
    assert study_of(whole, []).scores == {}
    assert study_of(whole, []).trainings.empty


def test_the_report_tells_of_the_networks_that_are_named(monkeypatch):
    monkeypatch.setattr("fcx.studies.experiment", lambda faces, out, *, models, runs: (out.name, models))
    shipped = stored_study("", "demo", models="masked_scratch,mini_xception")
    assert set(shipped.scores) == {("validation", "table2"), ("demo", "table2")}
    assert set(shipped.trainings.family) == {"masked_scratch"}
    none = stored_study("", "demo", models="mini_xception")
    assert none.scores == {}
    assert none.trainings.empty
    monkeypatch.setattr("fcx.datasets.face_stores.has_ratings", lambda source: True)
    out, asked = stored_study("", "mine.csv", models="plain_scratch,mini_xception")
    assert asked == ["plain_scratch-1", "plain_scratch-2", "plain_scratch-3"]
    assert out != stored_study("", "mine.csv")[0]
    assert trained_checkpoints("all")[:2] == ["plain_scratch-1", "plain_scratch-2"]
