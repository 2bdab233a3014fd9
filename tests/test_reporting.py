"""Reports: strict parameters, errors in one sentence, and HTML that carries everything and asks for nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import plotly.graph_objects as go
import pytest

import fcx
from fcx import figures, reporting
from fcx.core import paths
from fcx.core.errors import FcxError, InputError, UnknownNameError
from fcx.figures import plotly_library, standalone
from fcx.figures.theme import Figure, finish
from fcx.reporting.execute import find_notebook, fit_parameters, parameters_of
from fcx.reporting.export import contents, notebook_page
from fcx.reporting.notebook_inputs import paired_faces, rated_targets, stored_results
from fcx.reporting.progress import Remaining, expected_seconds

CONNECTION = "import ipykernel.connect\nprint(ipykernel.connect.get_connection_file())"
HOSTILE = "<script>alert(1)</script>"
NOTEBOOKS = [find_notebook(name) for name in reporting.NOTEBOOKS]


def code(source, *outputs, tags=()):
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs))
    cell.metadata["tags"] = list(tags)
    return cell


def shown(value):
    """Return what a kernel sends for a displayed value."""
    return nbformat.v4.new_output("display_data", value._repr_mimebundle_())


def write(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


def a_figure(name="points"):
    figure = Figure(go.Scatter(x=[1, 2], y=[3, 4], name=HOSTILE))
    return finish(figure, name, "Two points", "Each is a point.", "Both rise.", pd.DataFrame({HOSTILE: [1.5, 2]}), 300)


def a_notebook():
    """Return an executed notebook with one of everything."""
    markdown = nbformat.v4.new_markdown_cell
    stream = nbformat.v4.new_output
    return nbformat.v4.new_notebook(cells=[
        markdown("# A report\n\nWhat it *says* in\none paragraph.\n\nMore."),
        code("a = 1", stream("stream", name="stderr", text="50%|#####"), stream("stream", name="stdout", text=HOSTILE)),
        code("figure", shown(a_figure())),
        code("figure", shown(a_figure("more"))),
        code("table", shown(figures.Table("numbers", HOSTILE, pd.DataFrame({"a": [1], "b": [HOSTILE]})))),
        code("said", shown(figures.Findings([figures.Finding(HOSTILE, "0.1 & 0.2")]))),
        code("facts", shown(figures.Provenance({"commit": "abc", "file": HOSTILE}))),
    ])  # fmt: skip


class Page(HTMLParser):
    """What a browser would load, and the elements it would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.labels = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if tag == "figure":
            self.labels.append(attrs.get("aria-label"))
        for name in ("src", "href", "data", "poster", "srcset"):
            if tag != "a" and attrs.get(name):
                self.loads.append(attrs[name])


@pytest.fixture(scope="module")
def page():
    return notebook_page(a_notebook(), "a")


def test_a_page_loads_nothing_and_carries_plotly_once(page):
    parsed = Page(page.html)
    assert parsed.loads == []
    assert len(re.findall(r"plotly\.js \(cartesian - minified\) v\d", page.html)) == 1
    assert "cdn.plot.ly/plotly" not in page.html.split("</head>")[1]
    assert not re.search(r"@import|url\(\s*['\"]?http", page.html.split("<script>")[0])
    assert "connect-src" not in page.html.split("</head>")[0]  # so that default-src 'none' holds
    assert "default-src 'none'" in page.html
    assert len(page.html) < 3_000_000


def test_a_page_is_one_document_with_a_heading_a_language_and_texts(page):
    parsed = Page(page.html)
    assert parsed.tags.count("h1") == 1
    assert '<html lang="en">' in page.html
    assert "<title>A report" in page.html
    assert parsed.labels == ["Two points. Each is a point. Both rise."] * 2
    assert parsed.tags.count("figcaption") == 2
    assert page.html.count("<summary>Data table</summary>") == 2
    assert page.html.count("<summary>Code</summary>") == 6
    assert "50%|" not in page.html


def test_a_page_keeps_its_numbers(page, tmp_path):
    assert (page.title, page.summary) == ("A report", "What it says in one paragraph.")
    assert [table["name"] for table in page.tables] == ["points", "more", "numbers"]
    page.write(tmp_path)
    assert (tmp_path / "a.html").read_text() == page.html
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["tables"][0]["table"] == {HOSTILE: [1.5, 2.0]}
    assert numbers["findings"] == [{"statement": HOSTILE, "numbers": "0.1 & 0.2"}]
    assert numbers["provenance"]["commit"] == "abc"
    assert pd.read_csv(tmp_path / "a" / "points.csv")[HOSTILE].tolist() == [1.5, 2]
    assert not list(tmp_path.rglob("*partial*"))


def test_nothing_that_a_user_named_becomes_markup(page, tmp_path):
    page.write(tmp_path)
    index = contents([page], tmp_path).read_text()
    for text in (page.html, index):
        assert HOSTILE not in text
        assert "&lt;script&gt;alert(1)" in text


def test_the_same_notebook_gives_the_same_bytes(page):
    again = a_notebook()
    for number, cell in enumerate(again.cells):
        cell.id = f"other-{number}"
        cell.metadata["papermill"] = {"duration": number, "start_time": "now"}
    assert notebook_page(again, "a").html == page.html


def test_a_users_own_figures_are_drawn_and_names_do_not_collide():
    own = nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": {
        "data": [{"x": [1], "y": [1]}], "layout": {"meta": "a note"}}})  # fmt: skip
    page = notebook_page(nbformat.v4.new_notebook(cells=[code("own", own)]), "own")
    assert "plotly.js (cartesian" in page.html
    assert Page(page.html).labels == ["A figure without a description"]
    page = notebook_page(
        nbformat.v4.new_notebook(cells=[code("x", shown(a_figure("../a b")), shown(a_figure("../a b")))]), "x"
    )
    assert [table["name"] for table in page.tables] == [".._a_b", ".._a_b-2"]


def test_a_notebook_without_heading_gets_its_name():
    page = notebook_page(nbformat.v4.new_notebook(cells=[code("1")]), "<b>")
    assert page.title == "<b>"
    assert "<h1>&lt;b&gt;</h1>" in re.sub(r"<h1[^>]*>", "<h1>", page.html)
    assert "plotly.js (" not in page.html  # no figure, no library


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_notebooks_are_clean_and_plainly_parametrised(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert {type(value) for value in parameters_of(path).values()} <= {str, int, float, bool}
    words = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert sum(len(re.findall(r"(?m)^# ", source)) for source in words) == 1
    assert notebook.cells[0].source.startswith("# ")


def test_notebooks_share_the_defaults_of_what_they_share():
    defaults = [parameters_of(path) for path in NOTEBOOKS[:4]]
    assert defaults[1].pop("models") == ""  # which tells of every training, also those that others do not ask
    shared = "faces", "runs", "crop", "style", "fit", "seed", "samples", "models", "methods", "shunt_rule", "device"
    for name in shared:
        values = [repr(each[name]) for each in defaults if name in each]
        assert len(values) > 1
        assert len(set(values)) == 1


def test_parameters_are_strict(tmp_path):
    path = write(tmp_path / "n.ipynb", code('a = 1\nb = 0.5\nc = True\nd = "x"  # = "y"', tags=["parameters"]))
    fitted = fit_parameters({"a": "3", "b": 2, "c": "false", "d": ["u", "v"]}, [path])
    assert fitted == {path: {"a": 3, "b": 2.0, "c": False, "d": "u,v"}}
    assert type(fitted[path]["b"]) is float
    with pytest.raises(UnknownNameError, match="unknown parameter 'modles': did you mean 'models'"):
        fit_parameters({"modles": "x"}, NOTEBOOKS)
    for name, value in {"a": "three", "b": "x", "c": "maybe", "d": 5}.items():
        with pytest.raises(InputError, match=f"parameter {name} is"):
            fit_parameters({name: value}, [path])


def test_each_parameter_goes_to_the_notebooks_that_have_it():
    fitted = fit_parameters({"draws": 5, "faces": "demo"}, NOTEBOOKS)
    assert [sorted(fitted[path]) for path in NOTEBOOKS] == [
        ["faces"],
        ["draws", "faces"],
        ["faces"],
        ["draws", "faces"],
        [],
    ]


def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean '01_masks'"):
        fcx.report(tmp_path / "r", notebooks="01_mask")
    with pytest.raises(InputError, match="there is no notebook"):
        fcx.report(tmp_path / "r", notebooks=[tmp_path / "none.ipynb"])
    with pytest.raises(InputError, match="each once"):
        fcx.report(tmp_path / "r", notebooks="01_masks,01_masks")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        fcx.report(tmp_path / "file", notebooks="01_masks")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("end", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_run_that_is_ended_leaves_nothing_half_done(tmp_path, monkeypatch, end, error):
    def ended(path, parameters, output, tick):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("half")
        os.kill(os.getpid(), end)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(reporting, "run_notebook", ended)
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background ignores
    with pytest.raises(error):
        fcx.report(tmp_path / "r", notebooks="01_masks", progress=False)
    signal.signal(signal.SIGINT, heard)
    assert list((tmp_path / "r").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


BROKEN = {
    "no JSON": "{", "a list": "[]", "empty": "", "too deep": "[" * 100_000, "no cells": "{}",
    "a number as cell": [5], "nothing as cell": [None], "no object of cells": {}, "no source": [{"cell_type": "raw"}],
    "no kind": [{"source": "", "metadata": {}}], "an unknown kind": [{"cell_type": "x", "source": "", "metadata": {}}],
    "tags that are none": [{"cell_type": "raw", "source": "", "metadata": {"tags": None}}],
    "half a character": [{"cell_type": "markdown", "source": "\ud800", "metadata": {}}],
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_notebook_is_refused(tmp_path, content):
    parts = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": content}
    path = tmp_path / "broken.ipynb"
    path.write_text(content if isinstance(content, str) else json.dumps(parts))
    with pytest.raises(InputError, match=r"broken\.ipynb cannot be read as a notebook: .") as caught:
        fcx.report(tmp_path / "r", notebooks=[path])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("source", ["a = = 1", "a = 1\0", f"a = {'9' * 5000}", f"a = {'(' * 5000}{')' * 5000}"])
def test_a_cell_of_parameters_that_is_no_python_is_refused(tmp_path, source):
    path = write(tmp_path / "n.ipynb", code(source, tags=["parameters"]))
    with pytest.raises(InputError, match="its cell of parameters is no Python"):
        parameters_of(path)


def test_parameters_are_what_is_set_to_literals(tmp_path):
    source = "%matplotlib inline\na: int = 1\nb = c = -0.5\nd, e = 1, 2\nf = g()\nh.i = 1\nj = 2 * 3\n!true"
    path = write(tmp_path / "n.ipynb", code(source, tags=["parameters"]))
    assert parameters_of(path) == {"a": 1, "b": -0.5, "c": -0.5}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with a CSV of six rated demo faces and one without a face, and two tiny checkpoints."""
    import cv2
    import numpy as np
    import torch

    folder = tmp_path_factory.mktemp("small")
    faces = fcx.prepare("demo", limit=6, progress=False)
    rows = []
    for number, sample in enumerate(faces["sample"].values):
        name = f"{number} <b>&.png"
        picture = faces["picture"].sel(condition="plain", sample=sample).values
        cv2.imwrite(str(folder / name), np.pad(picture, ((40, 40), (40, 40), (0, 0)), mode="edge")[..., ::-1])
        rows.append({"path": name, "valence": number / 6 - 0.5, "arousal": (number % 3) / 3,
                     "expression": ["happy", "sad"][number % 2]})  # fmt: skip
    cv2.imwrite(str(folder / "empty.png"), np.zeros((200, 200, 3), np.uint8))
    rows.append({"path": "empty.png", "valence": 0, "arousal": 0, "expression": "happy"})
    pd.DataFrame(rows).to_csv(folder / "faces.csv", index=False)
    torch.manual_seed(0)
    for name in ("one", "two"):
        fcx.save_model(
            fcx.FaceChannel.preset("paper", width=8, hidden=8), folder / f"{name}.safetensors", {"crop": "face"}
        )
    return folder


def test_faces_are_prepared_once_and_results_computed_once(small, tmp_path, monkeypatch):
    faces = paired_faces(str(small / "faces.csv"), tmp_path)
    assert rated_targets(faces) == ["arousal", "valence"]
    models = f"{small / 'one.safetensors'},{small / 'two.safetensors'}"
    results = stored_results(models, faces, "gradient", tmp_path)
    stores = sorted(tmp_path.iterdir())
    assert len(stores) == 2
    monkeypatch.setattr("fcx.core.store.Store.write", None)  # whatever is written from here on fails
    again = paired_faces(str(small / "faces.csv"), tmp_path)
    assert again.identical(faces)
    assert paired_faces(str(stores[0]), tmp_path).identical(faces)
    assert stored_results(models, again, "gradient", tmp_path).identical(results)
    assert sorted(tmp_path.iterdir()) == stores
    with pytest.raises(TypeError):  # another setting is another store, made anew
        paired_faces(str(small / "faces.csv"), tmp_path, seed=1)
    with pytest.raises(TypeError):
        stored_results(models, again, "gradcam", tmp_path)


def test_the_comparison_runs_and_a_notebook_that_fails_says_where(small, tmp_path, capfd):
    source = "import sys\n\nraise ValueError('first\\nlast word')"
    cells = [code("kept = 1"), code(CONNECTION), code(source)]
    failing = write(tmp_path / "failing.ipynb", nbformat.v4.new_markdown_cell("# x"), *cells)
    models = [small / "one.safetensors", small / "two.safetensors"]
    out = tmp_path / "reports"
    with pytest.raises(FcxError) as caught:
        fcx.report(out, notebooks=["04_comparison", failing], faces=small / "faces.csv", models=models, draws=20,
                   methods="gradient,gradcam", asked="gradient,gradcam", count=2, runs=tmp_path / "runs")  # fmt: skip
    text = str(caught.value)
    assert text.startswith("notebook failing, cell 3 (import sys): ValueError: last word")
    assert "\n" not in text
    assert caught.value.__suppress_context__
    kept = nbformat.read(out / "failing.failed.ipynb", as_version=4)
    assert any(cell.source == "kept = 1" for cell in kept.cells)
    [connection] = [cell.outputs[0].text.strip() for cell in kept.cells if cell.source == CONNECTION]
    assert Path(connection).parent == out  # not in the folder of temporary files, where a killed run would leave it
    assert not (out / "index.html").exists()
    assert not list(out.glob(".*"))
    page = (out / "04_comparison.html").read_text()
    parsed = Page(page)
    assert parsed.loads == []
    assert parsed.tags.count("h1") == 1
    assert len(parsed.labels) == 12
    assert "for mini xception the densest region is the" in page
    assert all(len(label) > 60 for label in parsed.labels)
    assert "6 of 7 faces given can be used" in page
    assert "<b>&.png" not in page
    numbers = json.loads((out / "04_comparison.json").read_text())
    assert {"ccc", "within_ccc", "enrichment_gradcam", "agreement"} <= {table["name"] for table in numbers["tables"]}
    assert numbers["provenance"]["parameters"]["draws"] == 20
    assert "04_comparison" in capfd.readouterr().err  # the progress bar


def test_the_demo_is_the_default_everywhere():
    assert {parameters_of(path).get("faces", "demo") for path in NOTEBOOKS} == {"demo"}


def test_notebooks_run_into_one_folder_from_anywhere(tmp_path, monkeypatch):
    assert {parameters_of(path)["runs"] for path in NOTEBOOKS} == {""}
    monkeypatch.chdir(tmp_path)
    assert paths.runs_folder("") == paths.PROJECT / "runs"
    assert paths.runs_folder("mine") == Path("mine")
    monkeypatch.setattr(paths, "PROJECT", tmp_path / "site-packages")
    assert paths.runs_folder("") == tmp_path / "runs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_knows_type_and_meaning_of_every_parameter(path):
    import papermill

    inferred = papermill.inspect_notebook(path)
    assert set(inferred) == set(parameters_of(path))
    assert {each["inferred_type_name"] for each in inferred.values()} <= {"str", "int", "float", "bool"}
    assert all(each["help"] for each in inferred.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_in_a_front_end_does_not_change_what_git_keeps(path):
    tracked = path.read_text(encoding="utf-8")
    ran = json.loads(tracked)
    ran["metadata"]["language_info"] = {"name": "python", "version": "3.12.1"}
    for cell in ran["cells"]:
        cell["metadata"]["execution"] = {"iopub.execute_input": "now"}
        if cell["cell_type"] == "code":
            cell.update(execution_count=3, outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}])
    script = path.parent.parent / ".ci" / "strip_outputs.py"
    run = subprocess.run([sys.executable, script], input=json.dumps(ran).encode(), capture_output=True, check=True)
    assert run.stdout.decode() == tracked


def test_the_estimate_is_corrected_by_the_pace_of_the_run():
    remaining = Remaining({"a": 100.0, "b": 100.0})
    remaining.begin("a", 0)
    assert remaining.seconds(0) == 200
    assert remaining.seconds(90) == 110
    slow = remaining.seconds(200)  # twice what was thought, and not yet done
    assert slow == pytest.approx(100 * 230 / 130 + 20)
    remaining.begin("b", 200)
    assert remaining.seconds(200) == pytest.approx(100 * 230 / 130)
    assert remaining.seconds(500) == 30
    assert remaining.seconds(500, ended=True) == 0


def test_a_report_takes_longer_with_more_faces_and_networks(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"not read")
    pd.DataFrame({"path": names, "valence": 0, "arousal": 0}).to_csv(tmp_path / "few.csv", index=False)
    demo = expected_seconds("04_comparison", {})
    assert expected_seconds("04_comparison", {"models": "a,b"}) == demo / 2
    assert expected_seconds("04_comparison", {"faces": str(tmp_path / "few.csv")}) < demo
    assert expected_seconds("04_comparison", {"faces": str(tmp_path / "missing.csv")}) == demo
    assert expected_seconds("02_training", {"models": "a,b"}) == expected_seconds("02_training", {})
    assert expected_seconds("02_training", {"faces": "photos"}) > 5 * expected_seconds("02_training", {})


def test_a_figure_is_html_too_and_the_first_brings_the_library(monkeypatch):
    monkeypatch.setattr(standalone, "_carrier", [])
    first, second = (a_figure()._repr_mimebundle_()["text/html"] for _ in range(2))
    assert len(second) < 20_000 < 500_000 < len(first) < 800_000
    assert "DecompressionStream" in first
    assert HOSTILE not in second
    monkeypatch.setattr(standalone, "_cell", lambda: "a cell")
    monkeypatch.setattr(standalone, "_carrier", ["a cell"])
    assert len(a_figure()._repr_mimebundle_()["text/html"]) > 500_000  # the same cell again


def an_opening():
    picture = figures.Picture("face", "A face", "<svg viewBox='0 0 9 9'><title>face</title></svg>", "Its regions.")
    return figures.Opening(f"Where does {HOSTILE} look?", ["At the mouth.", HOSTILE], a_figure(), picture)


def test_the_answer_comes_first_on_the_page_and_as_the_card_of_the_index(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# A report\n\nWhat it says."),
        code("a = 1", nbformat.v4.new_output("stream", name="stdout", text="before")),
        code("opening", shown(an_opening()), shown(a_figure())),
        code("verdicts", shown(figures.Verdicts([figures.Verdict(HOSTILE, "holds", "1.3 [1.2, 1.4]")]))),
    ]
    page = notebook_page(nbformat.v4.new_notebook(cells=cells), "a")
    body = page.html.split("<main ")[1]
    places = [body.index(text) for text in ("<h1", "At the mouth.", "<figure", "What it says.", "before")]
    assert places == sorted(places)
    page.write(tmp_path)
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["answer"] == ["At the mouth.", HOSTILE]
    assert numbers["verdicts"] == [{"claim": HOSTILE, "verdict": "holds", "numbers": "1.3 [1.2, 1.4]"}]
    index = contents([page], tmp_path).read_text()
    assert index.index("<svg") < index.index("At the mouth.") < index.index('<table class="verdicts">')
    assert '<a href="a.html">A report</a>' in index.split("verdicts")[-1]
    assert HOSTILE not in page.html + index


def test_an_opening_is_a_question_and_at_most_three_sentences():
    with pytest.raises(InputError, match="allowed: one sentence that ends with"):
        figures.Opening("Where", ["There."])
    with pytest.raises(InputError, match="the answer has 4 sentences; allowed: 1 to 3"):
        figures.Opening("Where?", ["There."] * 4)


def test_a_picture_carries_its_numbers_as_a_figure_does():
    page = notebook_page(nbformat.v4.new_notebook(cells=[code("x", shown(an_opening().picture))]), "x")
    assert Page(page.html).labels == ["A face. Its regions."]
    assert [table["kind"] for table in page.tables] == ["figure"]


def test_the_bundle_of_plotly_is_that_of_the_package():
    from plotly.offline import get_plotlyjs_version

    assert plotly_library.bundle_version() == get_plotlyjs_version()
    assert (plotly_library.BUNDLE.parent / "LICENSE").read_text().startswith("MIT License")
    assert "cartesian" in plotly_library.plotly_text(["scatter"])[:200]
    assert "cartesian" not in plotly_library.plotly_text(["scatter", "scatter3d"])[:200]


def test_headings_are_anchors_and_make_the_contents():
    cells = [nbformat.v4.new_markdown_cell(f"# A\n\n## <b>Two</b> & three\n\n### {HOSTILE}\n\n## Two three")]
    page = notebook_page(nbformat.v4.new_notebook(cells=cells), "a").html
    contents = page.split('<nav aria-label="Contents">')[1].split("</nav>")[0]
    addresses = re.findall(r'href="#([^"]+)"', contents)
    assert addresses[0] == "two-three"
    assert addresses[-1] == "two-three-2"
    assert len(set(addresses)) == len(addresses)
    assert all(page.count(f' id="{address}"') == 1 for address in addresses)
    assert "<script>alert" not in contents


def test_figures_say_where_their_numbers_are_and_long_tables_and_provenance_are_folded(page):
    assert 'Numbers: “points” in <a href="a.json">a.json</a>.' in page.html
    assert '<details class="provenance"><summary>' in page.html
    long = figures.Table("long", "A long table", pd.DataFrame({"within_ccc_low": range(13)}))
    folded = notebook_page(nbformat.v4.new_notebook(cells=[code("x", shown(long))]), "x").html
    assert '<details class="part"><summary>A long table</summary>' in folded
    assert ">within CCC, low end</th>" in folded
    long.folded = True  # by itself, and not once more
    folded = notebook_page(nbformat.v4.new_notebook(cells=[code("x", shown(long))]), "x").html
    assert folded.count("<summary>A long table</summary>") == 1
    assert '<details class="part">' not in page.html


def test_a_notebook_that_was_run_before_is_exported_without_running_it(tmp_path):
    for name in ("a", "b"):
        nbformat.write(a_notebook(), tmp_path / f"{name}.ipynb")
    [alone] = reporting.export_notebooks(tmp_path / "a.ipynb")
    assert alone == tmp_path / "a.html"
    assert 'href="index.html"' not in alone.read_text()
    pages = reporting.export_notebooks([tmp_path / "a.ipynb", tmp_path / "b.ipynb"], tmp_path / "out")
    first, second = (path.read_text() for path in pages)
    assert '<a href="b.html" rel="next">Next: A report</a>' in first
    assert '<a href="a.html" rel="prev">Previous: A report</a>' in second
    assert (tmp_path / "out" / "index.html").is_file()
    write(tmp_path / "never.ipynb", code("1"))
    with pytest.raises(InputError, match="holds no outputs: run it first"):
        reporting.export_notebooks(tmp_path / "never.ipynb")


def test_what_networks_answer_to_other_faces_is_kept_in_runs_where_no_folder_is_named(monkeypatch):
    from fcx.core.paths import runs_folder
    from fcx.reporting.notebook_inputs import stored_study

    given = {}
    monkeypatch.setattr("fcx.studies.experiment", lambda faces, out, **others: given.update(out=out, **others))
    monkeypatch.setattr("fcx.datasets.face_stores.has_ratings", lambda source: True)
    stored_study("", "photos")
    assert given["runs"] == runs_folder() == given["out"].parent


@pytest.mark.filterwarnings("ignore:.* is read as plain pictures")
def test_no_network_is_asked_to_be_scored_on_faces_without_ratings(tmp_path, monkeypatch):
    from fcx.reporting.notebook_inputs import stored_study

    monkeypatch.setattr("fcx.studies.experiment", lambda *given, **others: "asked")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"not read")
    table = tmp_path / "faces.csv"
    pd.DataFrame({"path": ["photos/a.png"], "valence": [None], "arousal": [None]}).to_csv(table, index=False)
    for source in (tmp_path / "photos", table):
        study = stored_study("", str(source))
        assert study.scores == {}
        assert len(study.trainings)
    pd.DataFrame({"path": ["photos/a.png"], "valence": [0.5], "arousal": [None]}).to_csv(table, index=False)
    assert stored_study("", str(table)) == "asked"
