"""Several masks in one faces store: each as alone, and what knows one mask works or says why not."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from typer.testing import CliRunner

import fcx
from fcx.attribution import attribute
from fcx.cli import app
from fcx.core.contract import twin
from fcx.core.errors import InputError, StoreError, UnknownNameError
from fcx.core.provenance import nested_attr
from fcx.datasets import preparation as rooms
from fcx.datasets.preparation import open_faces, prepare
from fcx.masks import MaskOptions
from fcx.networks.facechannel import FaceChannel
from fcx.reporting.notebook_inputs import paired_faces
from fcx.statistics.region_mass import region_statistics

MASKS = {
    "rigid": {"style": "mixed", "seed": 3},
    "jaw": MaskOptions("mixed", fit="jaw", shift="0.5,0"),
    "published": {"style": "published", "colour": "any"},
    "patch": {"style": "fixed_patch"},
    "other": {"fit": "donor"},
}
COUNT = 5


def fields(mask):
    return asdict(mask) if isinstance(mask, MaskOptions) else mask


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / "faces.zarr"
    return prepare("demo", path, masks=MASKS, limit=COUNT, progress=False).assign_attrs(path=str(path))


@pytest.mark.parametrize("name", MASKS)
def test_each_condition_is_that_of_a_store_of_its_own(several, name):
    alone = prepare("demo", limit=COUNT, progress=False, **fields(MASKS[name]))
    for variable in several.data_vars:
        pair = several[variable]
        if "condition" in pair.dims:
            pair = pair.sel(condition=["plain", name])
        if variable == "worn":
            assert [json.loads(worn)[name] for worn in pair.values] == [json.loads(w) for w in alone["worn"].values]
        else:
            np.testing.assert_array_equal(pair.values, alone[variable].values, err_msg=variable)
    how = nested_attr(several, "masks")[name]
    assert how == json.loads(json.dumps(asdict(MaskOptions(**fields(MASKS[name])))))
    assert MaskOptions(**how) == MaskOptions(**fields(MASKS[name]))  # what is stored can be worn again
    assert not [attr for attr in several.attrs if attr.startswith("mask_")]


def test_a_store_of_several_masks_goes_on_and_workers_change_nothing(several, tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "FACES_A_BLOCK", 2)
    path, done = tmp_path / "part.zarr", []

    def interrupted(record, settings, donors):
        done.append(record.id)
        if len(done) == 4:
            raise KeyboardInterrupt
        return make(record, settings, donors)

    make = rooms.make_face
    monkeypatch.setattr(rooms, "make_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("demo", path, masks=MASKS, limit=COUNT, progress=False)
    with pytest.raises(StoreError, match="other settings"):
        prepare("demo", path, masks=MASKS | {"rigid": {"style": "mixed"}}, limit=COUNT, progress=False)
    part = prepare("demo", path, masks=MASKS, limit=COUNT, workers=2, progress=False)
    assert done.count(done[0]) == 1
    for other in (part, open_faces(path)):
        assert other.drop_attrs().identical(several.drop_attrs())


def test_the_command_reads_the_masks_from_a_file(tmp_path, several):
    given = {name: fields(mask) for name, mask in MASKS.items()}
    (tmp_path / "masks.json").write_text(json.dumps(given))
    words = ["prepare", "demo", str(tmp_path / "faces.zarr"), "--limit", str(COUNT), "--masks"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "masks.json")])
    assert done.exit_code == 0, done.output
    assert open_faces(tmp_path / "faces.zarr").drop_attrs().identical(several.drop_attrs())


def test_one_mask_of_that_name_is_what_is_worn_without_saying(demo):
    named = prepare("demo", masks={"masked": {}}, limit=2, progress=False)
    assert named.drop_attrs().identical(prepare("demo", limit=2, progress=False).drop_attrs())
    assert named.attrs["mask_style"] == "surgical"


def test_a_mask_that_cannot_be_worn_leaves_the_others(tmp_path, pictures):
    from PIL import Image

    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    Image.fromarray(np.full((90, 120, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    alone = prepare(tmp_path, masks={"own": {}, "other": {"fit": "donor"}}, progress=False).sel(sample="a.png")
    assert alone["status"].values.tolist()[:2] == ["ok", "ok"]
    assert alone["status"].values[2].startswith("no outline of another face")
    assert list(json.loads(alone["worn"].item())) == ["own"]
    assert alone["alpha"].any(("y", "x")).values.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "masks is {}; allowed: conditions"),
        ({"plain": {}}, "worn in the condition 'plain'; allowed"),
        ({"a,b": {}}, "worn in the condition 'a,b'; allowed"),
        ({"a": {"styel": "mixed"}}, "the mask 'a': unknown option of a mask 'styel': did you mean 'style'"),
        ({"a": {"style": "scarf"}}, "the mask 'a': unknown mask style"),
        ({"a": 3}, "the mask 'a': its options is 3; allowed"),
        (5, "masks is 5; allowed"),
        ("nowhere.json", "nowhere.json cannot be read as JSON of masks, such as"),
    ],
)
def test_what_gives_no_masks_is_named(given, text):
    with pytest.raises(InputError) as caught:
        prepare("demo", masks=given, limit=1)
    assert text in str(caught.value)


def test_masks_and_the_options_of_one_are_not_given_together():
    with pytest.raises(InputError, match="masks were given, and fit besides"):
        prepare("demo", masks={"a": {}}, fit="jaw", limit=1)


def test_predictions_know_every_condition(several):
    found = fcx.predict({"net": FaceChannel.preset("paper", width=4, hidden=4)}, several)
    assert found["condition"].values.tolist() == ["plain", *MASKS]
    assert found["prediction"].notnull().all()
    scores = fcx.evaluate(found, several, draws=20)
    assert scores["condition"].values.tolist() == ["plain", *MASKS]
    assert nested_attr(found, "masks").keys() == MASKS.keys()


def test_a_network_learns_any_of_the_masks(several, tmp_path):
    parts = several.load().assign_coords(split=("sample", ["train"] * 3 + ["validation"] * 2))
    parts["valence"][:] = parts["arousal"][:] = np.linspace(-0.5, 0.5, COUNT)
    model = fcx.train(parts, tmp_path / "a.safetensors", condition="jaw", width=4, hidden=4, epochs=1, batch_size=2,
                      progress=False)  # fmt: skip
    assert MaskOptions(**model.metadata["mask"]) == MASKS["jaw"]
    assert list(model.metadata["scores"]["validation"]) == ["plain", *MASKS]
    with pytest.raises(UnknownNameError, match=r"unknown condition of these faces 'masked'.*jaw"):
        fcx.train(parts, tmp_path / "b.safetensors", condition="masked", width=4)


def test_the_region_of_the_mask_is_that_of_the_one_that_is_chosen(several):
    net = {"net": FaceChannel.preset("paper", width=4, hidden=4)}
    results = attribute(net, several, ["gradient"])
    assert results.sizes["condition"] == 1 + len(MASKS)
    for step in (
        lambda: region_statistics(results, several),
        lambda: attribute(net, several, ["gradient"], maps=False),
    ):
        with pytest.raises(
            InputError, match=r"several masks \(rigid, jaw, .*faces.sel\(condition=\['plain', 'rigid'\]"
        ):
            step()
    assert several["twin"].values.tolist() == ["rigid", *MASKS]
    for name in MASKS:
        pair = several.sel(condition=["plain", name])
        assert twin(pair) == name
        table = region_statistics(results.sel(condition=["plain", name]), pair, draws=20)
        covered = several["alpha"].sel(condition=name).mean(("y", "x")) / 255
        np.testing.assert_allclose(table["area"].sel(region="mask"), covered, atol=1e-12)
    assert attribute(net, pair, ["region_ablation"], fill="mask")["attribution"].notnull().all()


def test_reports_say_that_they_show_one_mask(several, tmp_path):
    with pytest.raises(InputError, match="reports show faces plain and masked, and these are plain, rigid, jaw"):
        paired_faces(several.attrs["path"], tmp_path)
