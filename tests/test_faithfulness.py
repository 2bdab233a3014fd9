"""Measures of faithfulness: equal to slow oracles, right where the answer is known, and independent of the batch."""

import copy

import numpy as np
import oracles
import pytest
import torch
from conftest import make_faces
from torch import nn

from fcx.attribution.batch import Batch, Subject
from fcx.attribution.face_reader import FaceReader
from fcx.attribution.registry import METHODS
from fcx.core.contract import TARGETS
from fcx.core.errors import InputError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.faithfulness import measurement as home, randomisation, removal
from fcx.faithfulness.measurement import contrast, faithfulness_scores
from fcx.faithfulness.measures import CONTROLS, MEASURES, MeasureOptions, Scene, Trial
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inputs import as_network

SIZE = 16
QUICK = {"steps": 4, "orders": 2, "percentages": (20, 60), "perturbations": 2, "stages": 2, "bins": 20}


class Linear(nn.Module):
    """Two outputs that are linear in the pixels: what each pixel contributes is known exactly."""

    def __init__(self, size=SIZE, seed=0):
        super().__init__()
        self.layer = nn.Linear(size * size, len(TARGETS))
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(2, size * size, generator=torch.Generator().manual_seed(seed)))
            self.layer.bias.copy_(torch.tensor([0.3, -0.2]))

    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.fixture(scope="module")
def channel():
    return oracles.random_facechannel(seed=3, size=SIZE, batch_norm=True)


@pytest.fixture(scope="module")
def tiny():
    return make_faces(5, seed=1, size=SIZE)


def scene_of(model, faces, **settings):
    images = torch.from_numpy(faces["image"].values[0]).double()[:, None] / 255
    subject = Subject("m", copy.deepcopy(model).double().eval())
    batch = Batch(subject, images, reader=FaceReader(faces), condition="plain")
    return Scene(batch, MeasureOptions(**{**QUICK, **settings}))


def trial_of(scene, method="gradient", **options):
    known = {**{o: d for o, d in METHODS[method].options.items() if o != "seed"}, **options}
    return Trial(scene, METHODS[method].function, known)


def ask(scene, target):
    return lambda image: float(scene.batch.subject.model(torch.from_numpy(image)[None, None])[0, target].detach())


@pytest.fixture(scope="module", params=["lrp", "gradcam"])
def trial(request, channel, tiny):
    return trial_of(scene_of(channel, tiny), request.param)


def cases(trial):
    """Yield (target, sample, ask, image, heat) for two faces."""
    for target in (0, 1):
        for sample in (0, 3):
            image, heat = trial.images[sample, 0].numpy(), trial.maps[target, sample].numpy()
            yield target, sample, ask(trial.scene, target), image, heat


def sequences(trial, sample, heat):
    """Return flat pixel numbers, the highest first and the lowest first, ties by the scene's own draw."""
    ties = trial.draw("ties", lambda rng: rng.permutation(trial.size))[sample].tolist()
    values = heat.ravel().tolist()
    first = sorted(range(trial.size), key=lambda i: (-values[i], ties[i]))
    return first, first[::-1]


@pytest.mark.parametrize("fill", ["mean", "blur", "black"])
def test_deletion_and_insertion_are_areas_between_curves_in_output_units(channel, tiny, fill):
    trial = trial_of(scene_of(channel, tiny, fills=(fill,)), "lrp")
    scores, steps = MEASURES["deletion"].function(trial), trial.settings.steps
    instead = removal.filling(trial.scene, fill)[:, 0].numpy()
    orders = trial.draw("orders", lambda rng: rng.permuted(np.tile(np.arange(trial.size), (2, 1)), axis=1)).numpy()
    for target, sample, f, image, heat in cases(trial):

        def curve(sequence, f=f, image=image, other=instead[sample]):
            return oracles.curve_by_removal(f, image, other, list(sequence), steps)

        def moved(curve, start):
            return oracles.mean_height([abs(value - start) for value in curve])

        chance = [curve(np.argsort(order)) for order in orders[sample]]
        start, middle = f(image), np.mean([oracles.mean_height(c) for c in chance])
        far = np.mean([moved(c, start) for c in chance])
        down, up = (curve(s) for s in sequences(trial, sample, heat))
        small, large = (curve(s) for s in reversed(sequences(trial, sample, np.abs(heat))))
        expected = {
            "deletion": middle - oracles.mean_height(down),
            "insertion": oracles.mean_height(up) - middle,
            "deletion_absolute": moved(large, start) - far,
            "insertion_absolute": far - moved(small, start),
        }
        for name, value in expected.items():
            assert float(scores[f"{name}_{fill}"][target, sample]) == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_imputation_solves_every_gone_pixel_from_its_neighbours():
    rng = np.random.default_rng(0)
    picture, gone = rng.random((7, 9)), rng.random((7, 9)) < 0.6
    gone[0, :3] = gone[-1, -1] = True  # borders and corners have fewer neighbours
    np.testing.assert_allclose(
        removal.linear_imputation(picture, gone), oracles.imputed_by_equations(picture, gone), atol=1e-12
    )
    assert (removal.linear_imputation(picture, gone & False) == picture).all()
    flat = removal.linear_imputation(np.full((7, 9), 0.3), gone)
    np.testing.assert_allclose(flat, 0.3, atol=1e-14)  # nothing to see in a picture of one grey


def test_road_is_half_the_gap_between_the_two_ends_of_the_map(trial):
    scores = MEASURES["road"].function(trial)
    noise = trial.draw("road", lambda rng: removal.NOISE * rng.standard_normal((SIZE, SIZE))).numpy()
    for target, sample, f, image, heat in cases(trial):
        signed, absolute = [], []
        for kept, values in ((signed, heat), (absolute, np.abs(heat))):
            for percentage in trial.settings.percentages:
                ends = []
                for sequence in sequences(trial, sample, values):
                    gone = np.zeros((SIZE, SIZE), bool)
                    gone.ravel()[sequence[: int(trial.size * percentage / 100)]] = True
                    shown = oracles.imputed_by_equations(image, gone)
                    ends.append(f(np.where(gone, shown + noise[sample], image)))
                kept.append(ends)
        start = f(image)
        expected = np.mean([low - high for high, low in signed]) / 2
        assert float(scores["road"][target, sample]) == pytest.approx(expected, rel=1e-7, abs=1e-12)
        expected = np.mean([abs(high - start) - abs(low - start) for high, low in absolute]) / 2
        assert float(scores["road_absolute"][target, sample]) == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_regions_are_removed_and_kept_alone(trial):
    gains, ranks = (MEASURES[name].function(trial) for name in ("regions", "region_ranks"))
    instead = removal.filling(trial.scene, "mean")[:, 0].numpy()
    for target, sample, f, image, heat in cases(trial):
        cover = trial.batch.regions[sample].numpy()
        there = [i for i, region in enumerate(cover) if region.sum() > 0]
        assert len(there) < len(cover) or len(there) == 8
        effects = oracles.region_effects(f, image, instead[sample], cover[there])
        for kind, effect in zip(("necessity", "sufficiency"), effects, strict=True):
            for suffix, values, change in (("", heat, effect), ("_absolute", np.abs(heat), list(map(abs, effect)))):
                mass = [(region * values).sum() for region in cover[there]]
                gain = change[int(np.argmax(mass))] - np.mean(change)
                found = float(gains[f"{kind}{suffix}_mean"][target, sample])
                if max(mass) > 0 or suffix == "":
                    assert found == pytest.approx(gain, rel=1e-9, abs=1e-12)
                found = float(ranks[f"{kind}_rank{suffix}_mean"][target, sample])
                assert found == pytest.approx(oracles.rank_correlation(mass, change), abs=1e-9)


def test_a_region_that_covers_nothing_is_left_out_of_a_face_not_scored(channel, tiny):
    faces = tiny.copy(deep=True)
    faces["regions"][0, 7] += faces["regions"][0, 3]  # the mouth of the first face has no pixel
    faces["regions"][0, 3] = 0
    effects = removal.effects_of_filling(scene_of(channel, faces), "mean")["necessity"]
    gone = effects.isnan().numpy()
    assert gone[:, 0, 3].all()
    assert gone.sum() == 2 * sum((faces["regions"].values[s].sum((1, 2)) == 0).sum() for s in range(5))
    gains = MEASURES["regions"].function(trial_of(scene_of(channel, faces), "lrp"))
    assert all(torch.isfinite(values).all() for values in gains.values())


def test_sensitivity_is_the_largest_move_of_the_map(channel, tiny):
    trial = trial_of(scene_of(channel, tiny, radius=0.2), "lrp")
    largest = MEASURES["sensitivity"].function(trial)["max_sensitivity"]
    share = MEASURES["relative_sensitivity"].function(trial)["relative_sensitivity"]
    for sample in (0, 3):
        alone = scene_of(channel, make_faces(5, seed=1, size=SIZE).isel(sample=[sample]))
        own = trial_of(alone, "lrp").maps[:, 0].numpy()
        moves = []
        for number in range(2):
            noise = trial.rng(sample, f"noise {number}").uniform(-0.2, 0.2, (SIZE, SIZE))
            shown = torch.from_numpy(np.clip(trial.images[sample, 0].numpy() + noise, 0, 1))[None, None]
            moves.append([np.linalg.norm(m - o) for m, o in zip(trial_of(alone, "lrp").explain(shown)[:, 0].numpy(),
                                                               own, strict=True)])  # fmt: skip
        np.testing.assert_allclose(largest[:, sample], np.max(moves, axis=0), rtol=1e-9)
        norms = [np.linalg.norm(o) for o in own]
        np.testing.assert_allclose(share[:, sample], np.max(moves, axis=0) / norms, rtol=1e-9)


def test_completeness_is_a_residual_in_output_units(tiny):
    bare = oracles.random_facechannel(seed=3, size=SIZE, bias=False)
    exact = MEASURES["completeness"].function(trial_of(scene_of(bare, tiny), "lrp"))["completeness"]
    trial = trial_of(scene_of(oracles.random_facechannel(seed=3, size=SIZE), tiny), "lrp")
    biased = MEASURES["completeness"].function(trial)["completeness"]
    np.testing.assert_allclose(exact, 0, atol=1e-9)
    for target, sample, f, image, heat in cases(trial):
        assert float(biased[target, sample]) == pytest.approx(heat.sum() - f(image), rel=1e-9)
        assert abs(float(biased[target, sample])) > 1e-6  # what the biases absorb shows, and nothing hides it


def test_a_path_method_is_complete_to_its_baseline(channel, tiny):
    trial = trial_of(scene_of(channel, tiny), "integrated_gradients", baseline="black", steps=200)
    left = MEASURES["completeness"].function(trial)["completeness"]
    scale = (trial.output - trial.answer(torch.zeros_like(trial.images))).abs()
    assert (left.abs() < 0.02 * scale).all()
    assert ((trial.maps.sum((2, 3)) - trial.output).abs() > left.abs()).all()  # it does not sum to f itself


def test_cascade_ruins_from_the_output_down_and_leaves_the_model_alone(channel):
    before = copy.deepcopy(channel.state_dict())
    generator_state = torch.random.get_rng_state()
    found = randomisation.weighted_layers(channel)
    names = [layer[-1][0] for layer in found]
    assert names[:5] == ["head", "hidden", "shunt", "inhibitory", "conv10"]
    assert names[-1] == "trunk.conv1"
    assert [name for name, _ in found[-1]] == ["trunk.bn1", "trunk.conv1"]
    stages = randomisation.cascade(channel, len(found), seed=0)
    assert [name for name, _ in stages] == names
    for number, (_, ruined) in enumerate(stages, start=1):
        state = ruined.model.state_dict()
        changed = {key.rsplit(".", 1)[0] for key, value in state.items() if not torch.equal(value, before[key])}
        assert changed == {name for layer in found[:number] for name, _ in layer}
    assert all(torch.equal(value, before[key]) for key, value in channel.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator_state)
    state = stages[-1][1].model.state_dict()
    assert not torch.equal(state["conv10.weight"], state["inhibitory.weight"])  # twins of one shape, not one draw
    [(last, ruined)] = randomisation.cascade(channel, 1, seed=0)
    assert last == names[-1]
    for key, value in ruined.model.state_dict().items():
        assert torch.equal(value, state[key])  # where one stage is asked for, it is the last: nothing is left
    assert [name for name, _ in randomisation.cascade(channel, 3, seed=0)] == [
        names[0],
        "trunk.conv7",
        names[-1],
    ]


def test_randomisation_compares_ranks_and_entropies_with_the_ruined_model(channel, tiny):
    trial = trial_of(scene_of(channel, tiny), "lrp")
    scores = MEASURES["randomisation"].function(trial)
    rise = MEASURES["efficient_randomisation"].function(trial)["efficient_randomisation"]
    stages = [ruined for _, ruined in randomisation.cascade(trial.batch.subject.model, 2, seed=0)]
    for target, sample, _, image, heat in list(cases(trial))[::3]:
        alone = scene_of(channel, tiny.isel(sample=[sample]))
        maps = [
            trial_of(alone, "lrp").explain(torch.from_numpy(image)[None, None], ruined)[target, 0] for ruined in stages
        ]
        for suffix, side in (("", np.asarray), ("_absolute", np.abs)):
            alike = [oracles.rank_correlation(side(heat).ravel(), side(m.numpy()).ravel()) for m in maps]
            assert float(scores[f"randomisation{suffix}"][target, sample]) == pytest.approx(np.mean(alike), abs=1e-6)
            assert float(scores[f"randomisation_all{suffix}"][target, sample]) == pytest.approx(alike[-1], abs=1e-6)
        before, after = (oracles.entropy_of_bins(values.ravel(), 20) for values in (heat, maps[-1].numpy()))
        assert float(rise[target, sample]) == pytest.approx((after - before) / before, rel=1e-6)


def test_edges_are_the_pictures_own(tiny, channel):
    scene = scene_of(channel, tiny)
    maps = CONTROLS["edges"](scene.batch)
    np.testing.assert_allclose(maps[0, 2], oracles.edge_strength(scene.images[2, 0].numpy()), atol=1e-12)
    assert torch.equal(maps[0], maps[1])


@pytest.fixture(scope="module")
def linear():
    """Scores of a linear model under a black fill, for which input x gradient is what every pixel contributes."""
    faces = make_faces(24, seed=2, size=SIZE).sel(condition=["plain"])
    return faithfulness_scores(
        {"linear": Linear()}, faces, {"exact": "input_x_gradient", "slope": "gradient"},
        "deletion,road,regions,region_ranks,completeness", count=None, fills="black", steps=8, percentages=(50,),
        dtype="float64",
    )  # fmt: skip


def test_the_exact_attribution_of_a_linear_model_is_the_best_possible(linear):
    model, faces = Linear().double(), make_faces(24, seed=2, size=SIZE)
    value = linear["value"].sel(model="linear", condition="plain")
    x = faces["image"].values[0].reshape(24, -1) / 255
    for number, target in enumerate(TARGETS):
        contributions = x * model.layer.weight[number].detach().numpy()
        bias = float(model.layer.bias[number].detach())
        one = value.sel(target=target)
        for sample in range(0, 24, 9):
            least, most = (
                oracles.mean_height([bias + np.sort(sign * contributions[sample])[: SIZE * SIZE * k // 8].sum() * sign
                                     for k in range(8, -1, -1)])
                for sign in (1, -1)
            )  # fmt: skip
            spread = one.sel({"measure": ["deletion_black", "insertion_black"], "method": "exact"}).isel(sample=sample)
            assert float(spread.sum()) == pytest.approx(most - least, rel=1e-9)
    for name in ("deletion_black", "insertion_black"):
        best = value.sel(measure=name)
        assert (best.sel({"method": "exact"}) >= best - 1e-12).all()
    assert (
        linear["mean"].sel({"method": "exact", "measure": ["necessity_rank_black", "sufficiency_rank_black"]}) == 1
    ).all()
    gain = value.sel(measure="necessity_black")
    assert (gain.sel({"method": "exact"}) >= gain - 1e-12).all()
    for number, target in enumerate(TARGETS):  # the sum lacks the bias, and says so
        gap = value.sel({"method": "exact", "measure": "completeness", "target": target})
        np.testing.assert_allclose(gap, -float(model.layer.bias[number].detach()), rtol=1e-9)


def test_random_attribution_is_centred_on_what_chance_does(linear):
    names = [n for n in linear["measure"].values if n.startswith(("deletion", "insertion", "road", "necessity_black"))]
    random = linear.sel({"method": "random", "measure": names})
    sure = linear.sel({"method": "exact", "measure": names})["mean"]
    inside = (random["low"] <= 0) & (random["high"] >= 0)
    assert float(inside.mean()) >= 0.8  # 95 % intervals, of which several are looked at
    assert (np.abs(random["mean"]).sel(measure="deletion_black") < 0.2 * sure.sel(measure="deletion_black")).all()


def test_values_do_not_depend_on_the_batch_and_calls_repeat(channel, tiny):
    def scores(**options):
        some = tiny.isel(sample=slice(3)).sel(condition=["masked"])
        return faithfulness_scores({"m": channel}, some, "lrp", count=None, fills="blur", dtype="float64", draws=20,
                            **{**QUICK, "perturbations": 1}, **options)  # fmt: skip

    whole = scores(batch_size=64)
    for size in (1, 2):
        np.testing.assert_array_equal(whole["value"], scores(batch_size=size)["value"])
    assert whole.identical(scores(batch_size=64))
    assert not np.allclose(whole["value"], scores(seed=1)["value"], equal_nan=True)


def test_faces_that_cannot_be_used_are_nan_and_do_not_count(channel, tiny):
    faces = tiny.copy(deep=True)
    faces["status"][1, 2] = "no face"
    scores = faithfulness_scores(
        {"m": channel}, faces, "gradient", "deletion,completeness", count=None, draws=20, **QUICK
    )
    missing = scores["value"].isnull()
    assert missing.sel(condition="masked").isel(sample=2).all()
    assert int(missing.sum()) == int(missing.sel(condition="masked").isel(sample=2).sum())
    assert (scores["n"].sel(condition="masked") == 4).all()
    assert (scores["n"].sel(condition="plain") == 5).all()
    some = faithfulness_scores({"m": channel}, faces, "gradient", "completeness", count=3, draws=20)
    assert some.sizes["sample"] == 3
    assert "face2" not in some["sample"].values
    shared = scores["value"].sel(measure=["completeness"], sample=some["sample"].values)
    np.testing.assert_allclose(some["value"], shared, rtol=1e-4, atol=1e-5)  # a face's value is its own


def test_means_and_intervals_are_over_faces_and_differences_are_paired(channel, tiny):
    scores = faithfulness_scores({"m": channel}, tiny, "gradient,lrp", "deletion", fills="mean", count=None, **QUICK)
    np.testing.assert_allclose(scores["mean"], scores["value"].mean("sample"), rtol=1e-12)
    assert (scores["low"] <= scores["mean"]).all()
    assert (scores["mean"] <= scores["high"]).all()
    assert list(scores["control"].values) == [False, False, True, True]
    apart = contrast(scores, "lrp", "random")
    gaps = scores["value"].sel({"method": "lrp"}) - scores["value"].sel({"method": "random"})
    np.testing.assert_allclose(apart["difference"], gaps.mean("sample"), rtol=1e-12)
    pooled = contrast(scores[["value"]].mean(("model", "target")), "lrp", "random")
    np.testing.assert_allclose(pooled["difference"], gaps.mean(("model", "target", "sample")), rtol=1e-9)
    none = contrast(scores, "lrp", "lrp")
    assert (none["low"] == 0).all()
    assert (none["high"] == 0).all()
    with pytest.raises(UnknownNameError, match="unknown method 'lpr': did you mean 'lrp'"):
        contrast(scores, "lpr", "random")


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_map_is_chance_and_what_is_not_defined_is_nan(channel, tiny, value):
    trial = Trial(
        scene_of(channel, tiny), lambda batch: torch.full_like(batch.images[:, 0], value).expand(2, -1, -1, -1), {}
    )
    scores = {name: m.function(trial) for name, m in MEASURES.items()}
    assert all(torch.isfinite(v).all() for name in ("deletion", "road", "regions") for v in scores[name].values())
    for values in (*scores["randomisation"].values(), *scores["efficient_randomisation"].values()):
        assert values.isnan().all()
    assert scores["relative_sensitivity"]["relative_sensitivity"].isnan().all() == (value == 0)
    assert (scores["sensitivity"]["max_sensitivity"] == 0).all()
    assert (scores["completeness"]["completeness"] == value * SIZE**2 - trial.output).all()
    if value == 0:  # all regions tie, so that none is said to be first
        np.testing.assert_allclose(scores["regions"]["necessity_mean"], 0, atol=1e-12)
        assert scores["region_ranks"]["necessity_rank_mean"].isnan().all()


def test_ties_go_in_random_order_not_down_the_picture(channel, tiny):
    order = removal.removal_order(scene_of(channel, tiny), torch.zeros(1, 5, SIZE, SIZE))
    places = torch.arange(SIZE * SIZE).double()
    slopes = [abs(np.corrcoef(places, row.double())[0, 1]) for row in order[0]]
    assert max(slopes) < 0.3
    assert all(sorted(row.tolist()) == list(range(SIZE * SIZE)) for row in order[0])


def test_shuffled_labels_take_a_second_model_for_each(channel, tiny):
    twin = copy.deepcopy(channel)
    scores = faithfulness_scores({"m": channel, "n": channel}, tiny, "lrp", "shuffled_labels", count=2,
                                 shuffled={"m": twin}, draws=20)  # fmt: skip
    own = scores["value"].sel({"model": "m", "method": "lrp"})
    np.testing.assert_allclose(own, 1, atol=1e-6)  # the same weights give the same map
    assert scores["value"].sel(model="n").isnull().all()
    assert (scores["n"].sel(model="n") == 0).all()


def test_the_models_that_are_given_stay_as_they_are(channel, tiny):
    model = copy.deepcopy(channel).float().train()
    before = copy.deepcopy(model.state_dict())
    faithfulness_scores({"m": model}, tiny, "lrp", count=2, draws=20, **QUICK)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_target_is_any_operator_on_the_outputs(tiny):
    model = Linear()
    scores = faithfulness_scores({"m": model}, tiny, "input_x_gradient", "completeness,deletion",
                                 "valence,valence - arousal", count=None, fills="black", dtype="float64", draws=20,
                                 **QUICK)  # fmt: skip
    gap = scores["value"].sel({"method": "input_x_gradient", "measure": "completeness"})
    arousal, valence = model.layer.bias.detach().double().tolist()
    for target, bias in (("valence", valence), ("valence - arousal", valence - arousal)):
        np.testing.assert_allclose(gap.sel(target=target), -bias, rtol=1e-6)
    best = scores["value"].sel(measure="deletion_black")
    assert (best.sel({"method": "input_x_gradient"}) >= best).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": "deletoin"}, "unknown measure 'deletoin': did you mean 'deletion'"),
        ({"methods": "lpr"}, "unknown method 'lpr': did you mean 'lrp'"),
        ({"methods": {"edges": "lrp"}}, "'edges', as a control is"),
        ({"methods": {"a": ("lrp", {"rule": 1})}}, "unknown option of lrp 'rule'"),
        ({"fills": "blak"}, "unknown fill 'blak': did you mean 'black'"),
        ({"step": 4}, "unknown setting of faithfulness 'step': did you mean 'steps'"),
        ({"steps": 0}, "steps is 0"),
        ({"percentages": (0, 50)}, "above 0 and below 100"),
        ({"radius": 0}, "radius is 0"),
        ({"count": 0}, "count is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"shuffled": {"other": Linear()}}, "'other'"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(channel, tiny, change, message):
    with pytest.raises(InputError, match=message):
        faithfulness_scores({"m": channel}, tiny, **{"methods": "gradient", "measures": "completeness", **change})


def test_no_usable_face_is_said(channel, tiny):
    faces = tiny.copy(deep=True)
    faces["status"][0] = "no face"
    with pytest.raises(InputError, match="no face is usable in every condition"):
        faithfulness_scores({"m": channel}, faces, "gradient", "completeness")


def test_every_measure_says_what_it_is():
    assert home.MEASURES is MEASURES
    assert all(m.best in ("high", "low", "zero") and m.unit and m.function.__doc__ for m in MEASURES.values())


def coloured(faces, side=SIZE):
    """Return faces whose colour pictures are their grey ones, of another size."""
    grey = np.kron(faces["image"].values, np.ones((side // SIZE, side // SIZE), "u1"))
    dims = ("condition", "sample", "row", "column", "channel")
    return faces.assign(picture=(dims, np.repeat(grey[..., None], 3, -1)))


def test_a_colour_network_is_measured_as_the_grey_one_that_it_amounts_to(tiny):
    """On pictures without colour, weights of three channels are their sum: every measure must say the same."""
    weights = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    networks = {}
    for name, channels, kernel in (("colour", 3, weights), ("grey", 1, weights.sum(1, keepdim=True))):
        layer = nn.Conv2d(channels, 3, SIZE).double()
        with torch.no_grad():
            layer.weight.copy_(kernel), layer.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
        networks[name] = as_network(nn.Sequential(layer, nn.Flatten()), size=SIZE, channels=channels,
                                    outputs=["happy", "sad", "neutral"], kind="logit")  # fmt: skip
    models = {**networks, "ratings": Linear()}
    measures = "deletion,road,regions,region_ranks,completeness"
    scores = faithfulness_scores(models, coloured(tiny), "input_x_gradient", measures, ["happy - sad", "valence"],
                                 dtype="float64", draws=20, **QUICK)  # fmt: skip
    of = scores["value"].sel({"method": "input_x_gradient"})
    asked = of.sel(target="happy - sad")
    np.testing.assert_allclose(asked.sel(model="colour"), asked.sel(model="grey"), rtol=1e-6, atol=1e-9)
    assert asked.sel(model=["colour", "grey"]).notnull().any(("condition", "sample")).all()
    assert asked.sel(model="ratings").isnull().all()
    assert of.sel(target="valence", model=["colour", "grey"]).isnull().all()
    assert of.sel(target="valence", model="ratings").notnull().any()


def test_maps_of_the_grid_are_asked_of_finer_pixels(tiny):
    layer = nn.Conv2d(3, 2, 2 * SIZE)
    network = as_network(nn.Sequential(layer, nn.Flatten()), size=2 * SIZE, channels=3, outputs=["a", "b"])
    scores = faithfulness_scores({"m": network}, coloured(tiny, 2 * SIZE), "occlusion,gradient", count=2, draws=20,
                                 **QUICK)  # fmt: skip
    told = scores["value"].sel(measure=["deletion_mean", "road", "necessity_mean", "max_sensitivity"])
    assert np.isfinite(told).all()


def test_a_method_that_refuses_a_model_is_left_out_for_it(channel, tiny):
    models = {"channel": channel, "plain": Linear()}
    scores = faithfulness_scores(models, tiny, "mean_activation,gradient", "deletion", count=2, draws=20, **QUICK)
    there = scores["value"].notnull().all(("condition", "target", "measure", "sample"))
    assert there.sel({"method": "mean_activation"}).values.tolist() == [True, False]
    assert there.sel({"method": ["gradient", "random"]}).all()
    refused = nested_attr(scores, "refused")
    assert list(refused) == ["mean_activation"]
    assert "explains a FaceChannel" in refused["mean_activation"]["plain"]
    for methods in ("mean_activation", {"a": ("lrp", {"epsilon": -1.0}), "b": "gradient"}):
        with pytest.raises(InputError, match=r"explains a FaceChannel|epsilon is -1"):
            faithfulness_scores(models, tiny, methods, "deletion", count=2, draws=20, **QUICK)


def test_faces_channel_of_any_preset_and_a_plain_module_can_be_measured(tiny):
    tanh = FaceChannel.preset("code2020", width=8, hidden=8, size=SIZE)
    scores = faithfulness_scores({"tanh": tanh, "plain": Linear()}, tiny, "gradient", count=2, draws=20, **QUICK)
    assert np.isfinite(scores["mean"].sel(measure="deletion_mean")).all()
