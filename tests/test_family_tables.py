"""Tables of charts by family: means over trainings with their intervals, and the single trainings beside them."""

import numpy as np
import pytest
from test_families import faces, results, statistics_of  # noqa: F401  fixtures

from fcx import figures
from fcx.statistics.agreement import evaluate
from fcx.statistics.comparison import compare_all
from fcx.statistics.families import family_scores
from fcx.statistics.family_tables import has_seeds, region_tables, score_tables


def test_with_one_training_of_each_they_are_those_of_the_networks(results, faces):  # noqa: F811
    some = results[["prediction"]].sel(model=["plain-1", "masked-1"])
    assert not has_seeds(some)
    evaluation, comparisons, trainings = score_tables(some, faces, draws=50)
    assert trainings is None
    assert evaluation.identical(evaluate(some, faces, draws=50))
    assert comparisons.identical(compare_all(some, faces))


def test_with_several_they_are_means_of_families_with_intervals_over_both(results, faces):  # noqa: F811
    given = results[["prediction"]]
    evaluation, comparisons, trainings = score_tables(given, faces, draws=50)
    assert evaluation["model"].values.tolist() == ["plain", "masked"]
    expected = family_scores(given, faces, quantity="ccc", draws=50)
    np.testing.assert_array_equal(evaluation["ccc_low"], expected["low"])
    rmse = trainings["rmse"].sel(model=["masked-1", "masked-2"]).mean("model")
    np.testing.assert_allclose(evaluation["rmse"].sel(model="masked"), rmse)
    np.testing.assert_array_equal(evaluation["oracle_ccc"], trainings["oracle_ccc"])
    assert set(comparisons["model_a"].values) == {"plain", "masked"}
    chart = figures.ccc_chart(evaluation, trainings=trainings, paper={})
    strokes = [trace for trace in chart.data if trace.marker.symbol == "line-ns"]
    drawn = sorted(value for trace in strokes for value in trace.x)
    assert drawn == pytest.approx(sorted(trainings["ccc"].values.ravel()))
    assert "short strokes the single trainings" in chart.meta["reading"]
    assert len(figures.difference_chart(comparisons, between="model").table) == 2 * 2
    findings = figures.comparison_findings(faces, evaluation, comparisons).items
    assert any("compared with plain, the CCC is" in item.statement for item in findings)


def test_regions_of_families_have_the_points_of_their_trainings(results, faces):  # noqa: F811
    single = statistics_of(results, faces)
    single = single.assign(enrichment_mean=single["enrichment"].mean("sample"))
    table, trainings = region_tables(single.assign_attrs(methods={}), faces, draws=50)
    assert trainings is not None
    chart = figures.region_chart(table, method="lrp", trainings=trainings)
    points = [trace for trace in chart.data if trace.marker.symbol == "line-ew"]
    assert len(points) == 5 * 2 * 2  # trainings, conditions, targets
    assert set(chart.table["model"]) == {"plain", "masked"}
