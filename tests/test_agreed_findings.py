"""What reports say of where networks look: composed from comparisons and shares whose truth is known."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import make_faces
from test_attention_claims import shares_of
from test_drawn import pairs

from fcx import figures
from fcx.core.contract import CONDITIONS, TARGETS
from fcx.figures.agreed_findings import differences_told
from fcx.figures.average_face import face_enrichment
from fcx.figures.openings import faces_named, fates, networks_named
from fcx.reporting.notebook_inputs import first_trainings
from fcx.statistics.comparison import compare_all
from fcx.studies.attention_claims import attention_claim_table

MODELS = ("plain_scratch", "masked_scratch", "my <own>")
METHODS, PLACES = ("gradient", "region_ablation"), ("eyes", "mouth", "mask", "uncovered")
TITLES = {"gradient": {"title": "Gradient"}, "region_ablation": {"title": "Region ablation"}}
MORE, LESS, OPEN = (0, 0, 1.0, 0.5, 1.5, 0.01), (0, 0, -1.0, -1.5, -0.5, 0.01), (0, 0, 0.1, -0.2, 0.4, 1)


def cells(**places):
    """Return method, target, region -> numbers: a place is given for both methods and targets, or for each."""
    made = {}
    for region in PLACES:
        given = places.get(region, OPEN)
        for i, method in enumerate(METHODS):
            for j, target in enumerate(TARGETS):
                made[method, target, region] = given if isinstance(given[0], int | float) else given[i][j]
    return made


@pytest.fixture(scope="module")
def statistics():
    return shares_of(masked_scratch=2).assign(
        area=(("sample", "region"), np.full((40, 10), 0.1))
    ).assign_attrs(methods={"lrp_gamma": {"title": "LRP gamma"}, "gradient": {"title": "Gradient"}})  # fmt: skip


@pytest.fixture(scope="module")
def comparisons():
    plain, scratch, own = MODELS
    told = {"uncovered": MORE, "eyes": MORE, "mouth": ((LESS, OPEN), (LESS, LESS))}  # mouth: one target only
    rows = [
        (plain, "masked", plain, "plain", cells(mask=((MORE, MORE), (LESS, LESS)))),
        (scratch, "masked", plain, "masked", cells(**told)),
        (own, "masked", plain, "masked", cells(eyes=MORE)),
        (own, "masked", scratch, "masked", cells(mask=MORE)),
    ]
    table = pairs(rows, {"method": METHODS, "target": TARGETS, "region": PLACES})
    return table.assign(n=table["p"] * 0 + 40).assign_attrs(methods=TITLES)


def test_only_what_all_methods_tell_alike_is_a_finding(comparisons):
    items = {item.statement: item.numbers for item in figures.attention_findings(comparisons, comparisons).items}
    assert list(items) == [
        "On masked faces masked scratch attends more to the eyes, and less to the mouth (arousal only) than "
        "plain scratch.",
        "On masked faces my <own> attends more to the eyes than plain scratch.",
    ]
    assert items[next(iter(items))] == (
        "Agrees: Gradient and Region ablation; 40 faces. eyes 2.00 times [1.41, 2.83]; mouth 0.50 times [0.35, 0.71]."
    )


def test_where_nothing_is_agreed_on_that_is_said(comparisons):
    nothing = comparisons.isel(comparison=[0])
    [item] = figures.attention_findings(nothing, comparisons).items
    assert item.statement.startswith("No difference is told alike by Gradient and Region ablation")
    assert "[1.41" not in item.numbers


def test_the_folded_table_holds_every_difference_with_what_each_method_says(comparisons):
    table = figures.attention_table(comparisons, comparisons)
    assert len(table.frame) == 4 * len(TARGETS) * 3  # the sum of regions is not told twice
    rows = table.frame.set_index(["difference", "output", "region"])
    row = rows.loc["plain scratch, masked over plain faces", "valence", "mask"]
    assert row["methods say"] == "contradicted"
    assert row["Gradient"] == "2.00 [1.41, 2.83]"
    assert row["Region ablation"] == "0.50 [0.35, 0.71]"
    assert rows.loc["my <own> over masked scratch, masked faces", "arousal", "mask"]["methods say"] == "agrees"
    shown = table._repr_mimebundle_()["text/html"]
    assert shown.startswith('<details class="fold"><summary>')
    assert "<own>" not in shown


def test_verdicts_name_methods_and_numbers(statistics):
    table = attention_claim_table(statistics, draws=50)
    verdicts = figures.attention_claim_verdicts(table, statistics)
    assert [row.claim[:3] for row in verdicts.rows] == ["(e)", "(f)", "(g)"]
    assert verdicts.rows[0].verdict == "does not hold"
    low = table[(table.claim == "e") & (table.target == "arousal")]["low"].min()
    assert re.search(
        rf"over masked scratch: arousal (1|0)\.\d\d( to 1\.\d\d)? times \[{low:.2f}, ", verdicts.rows[0].numbers
    )
    folded = figures.attention_claims_folded(table, statistics).frame
    assert len(folded) == 4 * 2 * 2  # numbers, methods, outputs
    assert set(folded["method"]) == {"LRP gamma", "Gradient"}
    assert verdicts.rows[0].faces == "40 faces, 3 trainings of each family"
    alone = statistics.sel(model=["plain_scratch-1"])
    none = figures.attention_claim_verdicts(attention_claim_table(alone, draws=20), alone)
    assert none == figures.Absent(
        "The paper's claims are about networks of which some are not among these: none can be asked."
    )
    pair = statistics.sel(model=["plain_scratch-1", "masked_scratch-1"])
    first, rest = figures.attention_claim_verdicts(attention_claim_table(pair, draws=20), pair).rows
    assert first.claim.startswith("(e) On plain faces")
    assert rest[:3] == ("(f) and (g)", "cannot be asked", "Not all of the networks that they are about are there.")
    differ = table.assign(verdict=["holds" if method == "gradient" else "does not hold" for method in table.method])
    row = figures.attention_claim_verdicts(differ, statistics).rows[0]
    assert row.verdict == "depends on the method"
    assert "does not hold by LRP gamma; holds by Gradient" in row.numbers


def opened(statistics, source="demo", models=None):
    some = statistics if models is None else statistics.sel(model=models)
    faces = make_faces(40).assign_coords(sample=np.arange(40))
    first = first_trainings(some).assign_coords(sample=np.arange(40))
    told = compare_all(first, faces, quantity="enrichment", draws=100)
    claims = attention_claim_table(some, draws=50)
    cells = [("plain", "nose", 1.5, True), ("plain", "jaw", 2, False), ("plain", "mask", 2, True),
             ("plain", "eyes", 1.6, True), ("masked", "eyes", -1, True)]  # fmt: skip
    rows = [(first["model"].values[0], *cell) for cell in cells]
    columns = ["model", "condition", "region", "log2 enrichment", "methods agree"]
    picture = figures.Picture("face", "Face", "<svg/>", table=pd.DataFrame(rows, columns=columns))
    return figures.comparison_opening(told, claims, some, picture, source=source, given=40 if models is None else 50)


def test_the_opening_reads_naturally_for_one_network_two_and_twelve(statistics):
    statistics = statistics.assign(enrichment=np.log2(statistics["share"] / statistics["area"]))
    twelve = opened(statistics).answer
    assert twelve[0] == (
        "Four networks, each trained three times, were shown the same 40 demo faces, plain and with a drawn mask, and "
        "two methods were asked where each, in its first training, looks."
    )
    assert "Of the" in " ".join(twelve) or "of the paper's three claims about this" in twelve[-1]
    two = opened(statistics, "my/faces.csv", ["plain_scratch-1", "masked_scratch-1"]).answer
    assert two[0].startswith("Two networks were shown the same 40 of 50 faces of “faces.csv”, plain")
    assert (
        "the network trained on masked faces looks more at the mask than the network trained on plain faces" in two[1]
    )
    one = opened(statistics, "demo", ["plain_scratch-1"])
    assert one.question == "Where does this network look, and what does a mask change?"
    assert one.answer[0].startswith("One network was shown the same 40 of 50 demo faces, plain and with a drawn mask, ")
    assert one.answer[0].endswith("and two methods were asked where it looks.")
    assert one.answer[1] == (
        "By both methods, the network trained on plain faces looks more than size would explain at the eyes and the "
        "nose on plain faces and at no region on masked faces."
    )
    assert len(one.answer) == 3
    assert one.answer[2].startswith("When the mask is put on, by both methods ")
    assert "; the methods contradict each other on one of 18 possible changes." in one.answer[2]
    assert "claims" not in " ".join(one.answer)
    for sentence in (*twelve, *two, *one.answer):
        assert "CCC" not in sentence
        assert re.search(r"[a-z0-9)]\.$", sentence)


def test_fates_and_names_are_sentences(statistics):
    verdicts = {"a": "holds", "b": "holds", "c": "does not hold", "d": "undecided"}
    assert fates(verdicts) == "paper's four claims about this, two hold, one does not hold and one is undecided"
    assert fates({"e": "depends on the method"}) == "paper's one claim about this, one depends on the method"
    assert networks_named(statistics) == "Four networks, each trained three times,"
    assert networks_named(statistics.isel(model=[0])) == "One network"
    assert networks_named(statistics.isel(model=[0, 1])) == "One network, trained two times,"
    assert networks_named(statistics.isel(model=[0, 1, 3])) == "Two networks, one of them trained two times,"
    assert networks_named(statistics.isel(model=[0, 1, 3, 4, 5])) == "Two networks, each trained several times,"
    assert faces_named("/x/mine.csv") == "faces of “mine.csv”"


def test_the_face_is_coloured_where_methods_agree_only():
    rng = np.random.default_rng(0)
    faces = make_faces(40)
    shares = np.full((1, 2, 2, 2, 40, 10), 0.1) * rng.uniform(0.9, 1.1, (1, 2, 2, 2, 40, 10))
    shares[..., 0] *= 4  # eyes: more by both methods
    shares[:, :, 0, ..., 3] *= 4  # mouth: more by the first, less by the second
    shares[:, :, 1, ..., 3] /= 4
    dims = ("model", "condition", "method", "target", "sample", "region")
    names = [*faces["region"].values, "mask", "uncovered"]
    statistics = xr.Dataset({"share": (dims, shares), "area": (("sample", "region"), np.full((40, 10), 0.1))},
                            {"model": ["my <own>"], "condition": list(CONDITIONS), "method": ["gradient", "occlusion"],
                             "target": list(TARGETS), "region": names})  # fmt: skip
    table = face_enrichment(statistics, draws=100).sel(model="my <own>", condition="plain")
    assert bool(table["agrees"].sel(region="eyes"))
    assert not bool(table["agrees"].sel(region="mouth"))
    assert float(table["enrichment"].sel(region="eyes")) == pytest.approx(2, abs=0.05)
    picture = figures.face_picture(statistics, faces, draws=100)
    assert "<own>" not in picture.svg
    assert "<b>plain</b>: eyes, 4.0 times" in picture.svg
    assert picture.svg.count("<svg") == 2
    assert "#D55E00" in picture.svg
    assert len(picture.table) == 2 * 10
    assert "The average face of 40 faces" in picture.reading


def test_networks_of_different_outputs_are_each_asked_of_their_own(statistics):
    statistics = statistics.assign(enrichment=np.log2(statistics["share"] / statistics["area"]))
    alone = statistics.sel(model=["plain_scratch-1"]).reset_coords(drop=True)
    other = alone.assign_coords(model=["smiles"], target=["happy", "sad"])
    mixed = xr.concat([alone, other], "model", join="outer", data_vars="minimal", compat="override", coords="minimal")
    mixed = mixed.assign_attrs(statistics.attrs)
    assert mixed.sizes["target"] == 4
    faces = make_faces(40).assign_coords(sample=np.arange(40))
    told = differences_told(
        compare_all(mixed.assign_coords(sample=np.arange(40)), faces, quantity="enrichment", draws=100)
    )
    assert set(zip(told.model_a, told.target, strict=True)) == {
        *(("plain_scratch-1", name) for name in TARGETS), *(("smiles", name) for name in ("happy", "sad"))
    }  # fmt: skip
    table, own = (face_enrichment(some, draws=100) for some in (mixed, alone))
    assert own["agrees"].any()
    for number in (0, 1):  # the same numbers under other names
        np.testing.assert_array_equal(table["agrees"][number].transpose(*own["agrees"][0].dims), own["agrees"][0])
    assert table.attrs["n"] == "40"


def test_a_region_without_any_mass_neither_breaks_the_picture_nor_is_the_densest():
    faces = make_faces(40)
    shares = np.zeros((1, 2, 1, 1, 40, 10))
    shares[..., 7] = 1.0  # all beside the face
    dims = ("model", "condition", "method", "target", "sample", "region")
    names = [*faces["region"].values, "mask", "uncovered"]
    statistics = xr.Dataset({"share": (dims, shares), "area": (("sample", "region"), np.full((40, 10), 0.1))},
                            {"model": ["mine"], "condition": list(CONDITIONS), "method": ["gradient"],
                             "target": ["valence"], "region": names})  # fmt: skip
    picture = figures.face_picture(statistics, faces, draws=50)
    assert "inf" not in picture.reading
    assert picture.svg.count("no region agreed on") == 2
