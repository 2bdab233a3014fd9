"""The leakage audit: it finds what was planted, keeps quiet otherwise, and its null is that of its own procedure."""

import numpy as np
import oracles
import pytest
from conftest import make_faces

from fcx import figures
from fcx.core.contract import GRID, TARGETS
from fcx.core.errors import InputError, UnknownNameError
from fcx.geometry.landmarks import canonical
from fcx.masks import leakage
from fcx.masks.leakage import against_chance, leakage_audit, residuals, shuffled, split
from fcx.statistics.concordance import ccc


class Bar:
    def update(self):
        pass


def headed(count=60, seed=0):
    """Return faces with real meshes: heads that nod at random, jaws that drop with arousal; subjects of two."""
    rng = np.random.default_rng(seed)
    faces = make_faces(count, seed)
    shape = canonical()["xyz"].astype(np.float64)
    below = np.clip((-2 - shape[:, 1]) / 4, 0, 1)  # 0 from the upper lip upwards, 1 at the chin
    for i in range(count):
        face = shape.copy()
        face[:, 1] -= 1.5 * below * (faces["arousal"].values[i] + 1)
        nod = rng.normal(0, 0.15)
        turn = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
        faces["mesh"][i] = face @ turn.T * [2.6, -2.6, -2.6] + [GRID / 2, 0.42 * GRID, 0]
    return faces


def audit(faces, fits=("rigid", "jaw"), **options):
    return leakage_audit(faces, fits, **{"folds": 5, "permutations": 59, "progress": False, **options})


@pytest.fixture(scope="module")
def heads():
    return headed()


@pytest.fixture(scope="module")
def audited(heads):
    return audit(heads)


def test_an_outline_that_follows_the_jaw_is_found_and_a_rigid_one_is_not(audited):
    jaw, rigid = (audited.sel(fit=fit, target="arousal") for fit in ("jaw", "rigid"))
    for labels in ("rated", "beyond"):
        for source in ("outline", "pixels"):
            found = jaw.sel(source=source, labels=labels)
            assert found["p"] == pytest.approx(1 / 60)
            assert found["ccc"] > 0.3
            assert found["p_holm"] == pytest.approx(4 / 60)  # two fits, two sources
            assert rigid["p"].sel(source=source, labels=labels) > 0.05
    assert (audited["p"].sel(target="valence", source=["outline", "pixels"]) > 0.02).all()


def test_the_table_says_what_was_done(audited, heads):
    assert audited["ccc"].dims == ("labels", "fit", "source", "target")
    assert list(audited["target"].values) == list(TARGETS)
    assert audited["p_holm"].sel(source=["pose", "light", "face"]).isnull().all()
    assert audited["p_holm"].sel(source=["pixels", "outline"]).notnull().all()
    assert int(audited["n"]) == 60
    said = {name: audited.attrs[name] for name in ("given", "subjects", "folds", "permutations", "family", "style")}
    assert said == {"given": 60, "subjects": 30, "folds": 5, "permutations": 59, "family": 4, "style": "surgical"}
    references = audited[["ccc", "p"]].sel(source=["pose", "light", "face"])
    assert references.sel(fit="jaw", drop=True).equals(references.sel(fit="rigid", drop=True))
    above = audited["ccc"] > audited["null_high"]
    assert (above == (audited["p"] <= 0.05)).all()
    assert (audited["null_low"] <= audited["null_high"]).all()


def test_a_label_that_is_the_pose_leaks_through_the_outline_but_not_beyond_the_pose(heads):
    faces = heads.copy(deep=True)
    pitch = np.array([leakage.find_pose(mesh).angles[1] for mesh in faces["mesh"].values])
    noise = np.random.default_rng(3).normal(0, 0.05, 60)
    faces["valence"][:] = 0.3 * (pitch - pitch.mean()) / pitch.std() / 3 + noise
    found = audit(faces, ["rigid"]).sel(fit="rigid", target="valence")
    for source in ("outline", "pose"):
        assert found["p"].sel(labels="rated", source=source) == pytest.approx(1 / 60)
    assert found["ccc"].sel(labels="rated", source="outline") > 0.4
    assert found["p"].sel(labels="beyond", source="outline") > 0.05


def test_neither_order_nor_repetition_changes_a_digit(heads, audited):
    again = audit(heads.isel(sample=np.random.default_rng(0).permutation(60)), ["jaw"])
    assert again.drop_vars("p_holm").equals(audited.sel(fit=["jaw"]).drop_vars("p_holm"))  # Holm counts the fits
    assert not audit(heads, ["jaw"], seed=1)["ccc"].equals(again["ccc"])


def test_faces_without_labels_or_mask_are_left_out_and_many_are_thinned(heads):
    faces = heads.copy(deep=True)
    faces["status"][1, 3] = "no face"
    faces["valence"][5] = np.nan
    few = audit(faces, ["rigid"], permutations=19)
    assert int(few["n"]) == 58
    assert few.attrs["given"] == 60
    without = faces.isel(sample=[i for i in range(60) if i not in (3, 5)])
    assert few.equals(audit(without, ["rigid"], permutations=19))
    assert int(audit(faces, ["rigid"], permutations=19, limit=40)["n"]) == 40


def refused(heads):
    unlabelled, constant = heads.copy(deep=True), heads.copy(deep=True)
    unlabelled["arousal"][25:] = np.nan
    constant["valence"][:] = 0.5
    same = heads.assign_coords(subject=("sample", np.arange(60) // 20))
    return [
        (unlabelled, {}, InputError, "25 of 60 faces .* at least 30"),
        (constant, {}, InputError, "valence is 0.5 for every face"),
        (same, {}, InputError, "3 subjects and 5 folds"),
        (heads, {"fits": ["tight"]}, UnknownNameError, "unknown fit 'tight'"),
        (heads, {"fits": ["jaw", "jaw"]}, InputError, "each once"),
        (heads, {"fits": []}, InputError, "at least one of rigid"),
        (heads, {"permutations": 18}, InputError, "permutations is 18; allowed: whole numbers from 19"),
        (heads, {"folds": 1}, InputError, "folds is 1"),
        (heads, {"limit": 10}, InputError, "limit is 10"),
        (heads, {"seed": 0.5}, InputError, "seed is 0.5"),
        (heads, {"style": "surgicl"}, UnknownNameError, "surgicl"),
    ]


def test_what_cannot_be_audited_is_refused_with_a_reason(heads):
    for faces, options, error, text in refused(heads):
        with pytest.raises(error, match=text):
            audit(faces, **{"fits": ["rigid"], **options})


def test_predictions_and_null_are_those_of_a_plain_loop():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(24, 3)) * [1, 5, 0.2], rng.normal(size=(24, 2))
    y[:, 0] += x[:, 0]
    cluster = np.arange(24) // 2
    parts, shuffles = split(cluster, 4, seed=2), shuffled(cluster, 19, seed=2)
    value, low, high, p = against_chance(x, y, parts, shuffles, Bar())
    for target in range(2):
        made = [
            float(ccc(oracles.ridge_out_of_fold(x, labels, parts, leakage.ALPHAS), labels))
            for labels in (y[order, target] for order in [np.arange(24), *shuffles])
        ]
        assert value[target] == pytest.approx(made[0], abs=1e-6)
        assert low[target] == pytest.approx(min(made[1:]), abs=1e-6)  # of 19, 90 % lie between the outermost
        assert high[target] == pytest.approx(max(made[1:]), abs=1e-6)
        assert p[target] == (1 + sum(null >= made[0] for null in made[1:])) / 20


def test_unrelated_labels_lie_within_the_null_nineteen_times_in_twenty():
    rng = np.random.default_rng(5)
    p = []
    for seed in range(150):
        x, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
        alone = np.arange(40)
        p.append(against_chance(x, y, split(alone, 5, seed), shuffled(alone, 39, seed), Bar())[3])
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09  # 300 draws: 0.05 within three standard errors
    assert np.mean(p) == pytest.approx(0.51, abs=0.06)


def test_shuffles_are_permutations_that_keep_the_labels_of_a_subject_together():
    cluster = np.array([2, 0, 1, 0, 2, 1])
    shuffles = shuffled(cluster, 50, seed=0)
    assert (np.sort(shuffles, axis=1) == np.arange(6)).all()
    for row in shuffles:
        dealt = cluster[row]  # whose labels each sample gets
        assert all(len(set(dealt[cluster == subject])) == 1 for subject in range(3))
    assert len({tuple(row) for row in shuffles}) == 6  # every order of three subjects
    assert (shuffled(cluster, 10, seed=0) == shuffles[:10]).all()
    unequal = shuffled(np.array([0, 0, 0, 1, 2]), 20, seed=0)
    assert (np.sort(unequal, axis=1) == np.arange(5)).all()


@pytest.mark.parametrize("sizes", [[1] * 40, [4] * 10, [20, 10, 5, 1, 1, 1, 1, 1]])
def test_folds_hold_every_sample_once_and_no_subject_twice(sizes):
    cluster = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = split(cluster, 5, seed=3)
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(40))
    for train, test in parts:
        assert not set(cluster[train]) & set(cluster[test])
        assert len(train) + len(test) == 40


def test_residuals_do_not_depend_on_the_inputs():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(30, 2)), np.ones(30)])  # the constant is one too many
    left = residuals(x @ rng.normal(size=(3, 2)) + rng.normal(size=(30, 2)), x)
    assert np.abs(x.T @ left).max() < 1e-10
    assert left.std() > 0.5


def test_masks_are_worn_where_the_faces_are(demo):
    worn = leakage._worn(demo, {"style": "surgical", "fit": "rigid", "seed": 0}, Bar())
    stored = demo["alpha"].sel(condition="masked").values.reshape(8, -1)
    masked = demo["image"].sel(condition="masked").values.reshape(8, -1)
    for outline, pixels, alpha, image in zip(worn["outline"], worn["pixels"], stored, masked, strict=True):
        kept = alpha > 127
        assert (outline[kept].sum() + (1 - outline[~kept]).sum()) / GRID**2 > 0.985
        assert (pixels[alpha == 0] < 30).all()  # nothing of the photograph: the two differ by a pixel at most
        inside = alpha == 255
        assert np.abs(pixels - image)[inside].mean() < 8


def test_the_chart_draws_every_number_over_its_range_of_chance(audited):
    figure = figures.leakage_chart(audited)
    rows = figure.table.set_index(["target", "input", "labels"])
    assert len(rows) == 2 * 7 * 2  # targets, two masks by two sources and three references, kinds of labels
    drawn = {}
    for trace in (trace for trace in figure.data if trace.mode == "markers" and trace.x[0] is not None):
        for x, symbol, text in zip(trace.x, trace.marker.symbol, trace.hovertext, strict=True):
            label, target, kind = text.split(":")[0].rsplit(", ", 2)
            drawn[target, label, "rated" if kind == "labels as rated" else "beyond"] = x, symbol
    assert set(drawn) == set(rows.index)
    for key, (x, symbol) in drawn.items():
        row = rows.loc[key]
        fit, source = (row.fit, row.source) if row.fit else ("jaw", row.source)
        given = audited.sel(target=key[0], labels=key[2], fit=fit, source=source)
        assert x == row.ccc == float(given["ccc"])
        p = given["p_holm"] if row.fit else given["p"]
        assert symbol.endswith("-open") == bool(p > 0.05)
    bands = [trace for trace in figure.data if trace.mode == "lines"]
    ends = sorted((x, y) for trace in bands for x, y in zip(trace.x[::3], trace.x[1::3], strict=True))
    assert ends == sorted(zip(rows.null_low, rows.null_high, strict=True))


def test_findings_follow_the_corrected_tests(audited):
    made = audited.copy(deep=True)
    made["ccc"][:] = 0.2
    made["null_high"][:] = 0.1
    for fit, rated, beyond in (("rigid", 0.01, 0.3), ("jaw", 0.01, 0.01)):
        made["p_holm"].loc[{"fit": fit, "labels": "rated"}] = rated
        made["p_holm"].loc[{"fit": fit, "labels": "beyond"}] = beyond
    made["p_holm"].loc[{"target": "valence"}] = 0.2
    made["p"][:] = 0.001  # must not be what decides
    arousal, valence = figures.leakage_findings(made).items
    assert arousal.statement == (
        "Arousal, predicted from the mask alone: better than chance, but not beyond what pose and light give, from "
        "rigid pixels and rigid outline; better than chance, also beyond what pose and light give, from jaw pixels "
        "and jaw outline."
    )
    assert "rigid, outline: CCC 0.20 (chance up to 0.10, p = 0.01 (Holm)); beyond pose and light CCC" in arousal.numbers
    assert arousal.numbers.endswith("head pose 0.20, light on the upper face 0.20, unmasked face 0.20.")
    assert valence.statement == (
        "Valence, predicted from the mask alone: no better than chance from rigid pixels, rigid outline, jaw pixels "
        "and jaw outline."
    )


def test_the_opening_says_where_the_best_of_several_masks_may_pass_chance_by_luck(heads, audited):
    arousal = figures.masks_opening(heads, audited, source="demo", style="surgical").answer[1]
    assert arousal.startswith("From nothing but the mask, arousal cannot be guessed clearly better than by chance: ")
    assert " (which the best of 4 attempts can pass by luck); from the plain face it is " in arousal
    sure = audited.assign(p_holm=audited["p_holm"] / 2)
    arousal = figures.masks_opening(heads, sure, source="demo", style="surgical").answer[1]
    assert arousal.startswith("From nothing but the mask, arousal can be guessed better than by chance: ")
    assert "luck" not in arousal
    worn = figures.masks_opening(heads.assign_attrs(mask_fit="rigid"), sure, source="demo", style="surgical").answer[1]
    assert worn.startswith("From nothing but the mask, arousal cannot be guessed clearly better than by chance: ")
    number = audited["ccc"].sel(fit="rigid", target="arousal", labels="rated", source=["outline", "pixels"]).max()
    assert f"agreement {float(number):.2f}, where" in worn
    assert "; from jaw masks it is " in worn
    without = figures.masks_opening(heads, figures.Absent("No audit."), source="demo", style="surgical")
    assert without.question == "What do drawn masks hide?"
    assert len(without.answer) == 1
