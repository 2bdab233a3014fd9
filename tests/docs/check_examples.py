"""The commands of README and of the first chapters, one after another, as somebody types them: `make docs`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples import ROOT, commands_of, python_of, workplace

PAGES = ("README.md", "docs/start.md", "docs/faces.md")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return workplace(tmp_path_factory.mktemp("examples"))


def run(words, place):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(words, cwd=place, env={**os.environ, "PATH": programs}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout


COMMANDS = list(dict.fromkeys(tuple(words) for page in PAGES for words in commands_of(page)))  # each once, in order


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_a_command_runs_after_those_before_it(place, words):
    run(words, place)


def test_the_page_of_the_explorer_runs(place):
    run([sys.executable, "-c", python_of("docs/explorer.md")], place)
    assert (place / "explorer.html").stat().st_size > 100_000


def test_the_line_that_installs_for_users_finds_everything():
    line = "-m pip install --dry-run --quiet --disable-pip-version-check -c constraints.txt .[explore]"
    assert "pip install -c constraints.txt '.[explore]'" in (ROOT / "README.md").read_text(encoding="utf-8")
    run([sys.executable, *line.split()], ROOT)
