"""The plan of an experiment in hours: its trainings by the speed of each scheme, which is measured."""

import pytest
from typer.testing import CliRunner

from fcx.cli import app
from fcx.core.errors import UnknownNameError
from fcx.core.recipes import Recipe
from fcx.networks.facechannel import Config
from fcx.studies import images_a_second, training_hours, training_speed


def test_hours_are_passes_by_speed(monkeypatch):
    speeds = {(64, "scratch"): 100.0, (64, "last_conv"): 250.0, (64, "all_layers"): 50.0, (32, "scratch"): 400.0}
    measured = []
    monkeypatch.setattr(training_speed, "images_a_second", lambda config, scheme, *_: measured.append(scheme) or speeds[
        config.width, scheme])  # fmt: skip
    table = training_hours(9000, parts="table2,ladder").set_index("family")
    assert len(measured) == 4  # each once
    assert table.hours["plain_scratch"] == pytest.approx(3 * 10 * 9000 / 100 / 3600)
    assert table.hours["masked_last_conv"] == pytest.approx(3 * 6 * 9000 / 250 / 3600)
    assert table.hours["masked_all_layers"] == pytest.approx(3 * 6 * 9000 / 50 / 3600)
    assert table.hours["small_patch"] == pytest.approx(3 * 10 * 9000 / 400 / 3600)
    assert dict(table.trainings[["plain_scratch", "shuffled"]]) == {"plain_scratch": 3, "shuffled": 1}
    with pytest.raises(UnknownNameError, match="unknown precision 'float8'"):
        training_hours(9000, precision="float8")


def test_speed_is_faces_by_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    times = iter([10.0, 12.0])
    speed = images_a_second(Config(width=4, hidden=4), "scratch", Recipe(batch_size=8), "cpu", 5, lambda: next(times))
    assert speed == 5 * 8 / 2
    assert not list(tmp_path.iterdir())


def test_the_plan_is_printed():
    done = CliRunner().invoke(app, ["plan", "1000", "--width", "4", "--seeds", "1", "--batch-size", "4"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [
        "plain_scratch", "masked_scratch", "masked_scratch_16", "plain_scratch_16", "shuffled",
        "masked_last_conv", "masked_all_layers",
    ]  # fmt: skip
    assert lines[-1].endswith("hours, one training after the other, without validation")
