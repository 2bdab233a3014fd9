"""The contract: what is refused and how it is said; stores that survive an interruption."""

import numpy as np
import pytest

from fcx.core import store
from fcx.core.checks import choose
from fcx.core.contract import check
from fcx.core.errors import ContractError, StoreError, UnknownNameError
from fcx.core.store import Store, open_store, replacing

FILE = {"kind": "faces", "blocks": 1, "settings": {}, "attrs": {}, "chunks": {}}


@pytest.fixture
def faces(faces):
    return faces.assign_coords(y=np.arange(64), x=np.arange(64))


def layout(faces):
    variables = {name: (v.dims, v.dtype) for name, v in faces.data_vars.items()}
    coords = {name: (c.dims, c.values) for name, c in faces.coords.items()}
    return variables, coords


def test_a_good_dataset_passes(faces):
    assert check(faces, "faces") is faces


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.drop_vars("image"), "variable 'image' is missing"),
        (lambda f: f.assign(image=f["image"].astype(float)), "'image' is float64"),
        (lambda f: f.transpose("sample", ...), "should be"),
        (lambda f: f.isel(point=slice(60)), "'point' has size 60, should be 68"),
        (lambda f: f.assign(valence=f["valence"] + 2), "'valence' reaches"),
        (lambda f: f.drop_vars("region"), "'region' has no names"),
    ],
)
def test_a_broken_dataset_is_named(faces, change, text):
    with pytest.raises(ContractError, match=text):
        check(change(faces), "faces")


def test_the_nearest_name_is_offered():
    with pytest.raises(UnknownNameError, match="did you mean 'gradcam'"):
        choose("gradcma", ["gradcam", "lrp"], "method")
    with pytest.raises(UnknownNameError, match="unknown method 'x': allowed: gradcam, lrp"):
        choose("x", ["gradcam", "lrp"], "method")


def test_a_store_returns_what_was_written(faces, tmp_path):
    store = Store(tmp_path / "a.zarr", *layout(faces), **FILE)
    with pytest.raises(StoreError, match="1 blocks are not written"):
        store.finish()
    store.write(0, {name: (..., values.values) for name, values in faces.data_vars.items()})
    back = store.finish().load()
    for name in [*faces.data_vars, *faces.coords]:
        assert back[name].dtype.kind == faces[name].dtype.kind
        np.testing.assert_array_equal(back[name].values, faces[name].values)
    assert set(back.coords) == set(faces.coords)


def test_a_store_that_was_interrupted_while_laid_out_is_laid_out_again(faces, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.Store, "_lay_out", stop)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path / "a.zarr", *layout(faces), **FILE)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "a.zarr", "faces")
    assert Store(tmp_path / "a.zarr", *layout(faces), **FILE).pending() == [0]


def test_what_is_not_ours_is_never_written_over(faces, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis").write_text("mine")
    for name in ("file", "folder"):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="not a store of fcx"):
                Store(tmp_path / name, *layout(faces), **FILE, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "thesis").read_text() == "mine"


def test_other_settings_are_refused_and_overwritten_when_told(faces, tmp_path):
    Store(tmp_path / "a.zarr", *layout(faces), **FILE)
    other = {**FILE, "settings": {"seed": 1}}
    with pytest.raises(StoreError, match="other settings"):
        Store(tmp_path / "a.zarr", *layout(faces), **other)
    assert Store(tmp_path / "a.zarr", *layout(faces), **other, overwrite=True).pending() == [0]


def test_a_store_of_another_kind_is_not_written_over(faces, tmp_path):
    Store(tmp_path / "a.zarr", *layout(faces), **FILE)
    with pytest.raises(StoreError, match="holds faces"):
        Store(tmp_path / "a.zarr", *layout(faces), **{**FILE, "kind": "results"}, overwrite=True)


def test_stores_that_are_not_there_or_of_another_kind_are_named(faces, tmp_path):
    with pytest.raises(StoreError, match="not a store of fcx"):
        open_store(tmp_path / "nowhere", "faces")
    Store(tmp_path / "a.zarr", *layout(faces), **FILE)
    with pytest.raises(StoreError, match="holds faces, not results"):
        open_store(tmp_path / "a.zarr", "results")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
