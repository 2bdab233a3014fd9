"""README and docs: their Python runs, their commands are those of fcx; `make docs` runs those that take minutes."""

import re

import pytest
import typer
from examples import PAGES, ROOT, commands_of, python_of, workplace
from typer.testing import CliRunner

from fcx.attribution import METHODS
from fcx.attribution.fills import FILLS
from fcx.attribution.lrp_rules import CONVOLUTION_RULES, SHUNT_RULES
from fcx.cli import app
from fcx.datasets import ADAPTERS, open_source
from fcx.faithfulness.measures import MEASURES
from fcx.masks import STYLES
from fcx.reporting.execute import find_notebook, fit_parameters
from fcx.statistics.overlays import OVERLAYS
from fcx.studies import PARTS, Scale, trainings_of

REGISTRIES = (METHODS, FILLS, CONVOLUTION_RULES, SHUNT_RULES, STYLES, ADAPTERS, OVERLAYS, MEASURES, PARTS)
SLOW = ("docs/explorer.md", "docs/faithfulness.md", "docs/validity.md")  # the first in `make docs`, the others by hand
WITH_PYTHON = [page for page in PAGES if python_of(page)]
COMMANDS = sorted({(page, tuple(words)) for page in PAGES for words in commands_of(page)})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work where the examples find what they name, and forget afterwards what they registered."""
    before = [dict(registry) for registry in REGISTRIES]
    monkeypatch.chdir(workplace(tmp_path))
    yield tmp_path
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def run_python(page):
    names = {"__name__": "example"}
    exec(compile(python_of(page), page, "exec"), names)
    return names


@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page not in (*SLOW, "docs/extending.md")])
def test_the_python_of_a_page_runs(place, page):
    run_python(page)


def test_the_extensions_of_the_page_on_extending_are_there(place):
    (place / "studio").mkdir()
    (place / "studio" / "ratings.txt").write_text("a.jpg 0.5 -0.2\nb.jpg none\n")
    names = run_python("docs/extending.md")
    assert {"steepness", "lrp_doubled"} <= set(METHODS)
    assert float(abs(names["gap"]).max()) < 1e-5
    assert set(names["scores"]["measure"].values.tolist()) == {"halves"}
    good, bad = open_source("studio").records
    assert (good.valence, good.arousal, good.reason) == (0.5, -0.2, "")
    assert "ratings.txt, line 2" in bad.reason
    assert {"plain_scratch-1", "plain_still-1"} == {row.name for row in trainings_of(["blurless"], Scale(seeds=1))}
    image = names["striped_faces"]["image"]
    assert float(abs(image.sel(condition="masked").astype(int) - image.sel(condition="plain")).max()) > 0


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[1])
def test_a_command_of_a_page_is_one_that_fcx_has(page, words):
    tool, name, *rest = words
    if tool == "papermill":
        given = dict(zip(rest[2::3], rest[3::3], strict=True))
        assert set(rest[1::3]) <= {"-p"}
        fit_parameters(given, [find_notebook(str(ROOT / name))])
        return
    group = typer.main.get_command(app)
    context = group.make_context("fcx", ["plan"])
    command = group.get_command(context, name)
    assert command is not None, f"{page}: fcx has no command {name}"
    command.make_context(name, rest, parent=context)  # reads the words, and runs nothing


def test_the_photograph_of_the_first_page_is_explained(place):
    done = CliRunner().invoke(app, ["predict", "fcx/data/demo/portraits/nasa_astronaut.jpg"])
    assert done.exit_code == 0
    assert (place / done.stdout.split()[-1]).is_file()


def test_your_faces_and_your_network_become_a_report(place):
    """The commands of the page, one after the other, with fewer draws."""
    for words in commands_of("docs/your-network.md"):
        settings = ["-p", "methods=lrp_gamma"] if words[1] == "report" else []
        done = CliRunner().invoke(app, [*words[1:], *settings])
        assert done.exit_code == 0, (words, done.output)
    assert (place / "mine_report" / "03_attribution.html").is_file()
    assert "smile" in (place / "mine_report" / "03_attribution.html").read_text(encoding="utf-8")


def test_every_method_has_its_place_in_the_chapter_on_methods_with_what_known_truth_says():
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^### `(\S+)`\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert set(parts) == set(METHODS)
    table = (ROOT / "docs/validity.md").read_text(encoding="utf-8").partition("One training says little")[0]
    rows = re.findall(r"^\| \**`([^`]+)`\**[^|]*\|((?: \d+ / \d+ \|){4})", table, re.M)
    lowest = {name: min(map(int, re.findall(r"\d+", cells))) for name, cells in rows}
    asked = {name: part for name, part in parts.items() if not re.search(r"Known\s+truth: not asked", part)}
    told = {name: int(re.search(r"Known\s+truth: (\d+) %", part)[1]) for name, part in asked.items()}
    assert told == {name: lowest[name] for name in METHODS if name in asked}
    assert not set(lowest) & (set(METHODS) - set(asked))
