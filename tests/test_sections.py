"""Sections of a page that have nothing to show: out of the page, and told together why."""

import nbformat
import pandas as pd
import pytest

from fcx import figures
from fcx.figures.tables import html_table
from fcx.reporting.export import notebook_page
from fcx.reporting.sections import LEFT_OUT, without_absent

markdown = nbformat.v4.new_markdown_cell
WHY = "No face carries <ratings>."


def code(*values, stderr=""):
    outputs = [nbformat.v4.new_output("display_data", value._repr_mimebundle_()) for value in values]
    if stderr:
        outputs.append(nbformat.v4.new_output("stream", name="stderr", text=stderr))
    return nbformat.v4.new_code_cell("...", outputs=outputs)


def headings(*cells):
    notebook = nbformat.v4.new_notebook(cells=[markdown("# Page\n\nText."), *cells])
    without_absent(notebook)
    return [cell.source.split("\n")[0] for cell in notebook.cells if cell.cell_type == "markdown"]


@pytest.fixture(scope="module")
def table():
    return figures.Table("some", "Some numbers", pd.DataFrame({"a": [1.0]}))


def test_a_section_that_shows_only_why_it_is_absent_goes_and_is_listed_before_the_last(table):
    absent = figures.Absent(WHY)
    cells = [markdown("## Shown"), code(table), markdown("## Gone\n\nWords."), code(absent, stderr="50 %"), code(),
             markdown("### Gone <b>too</b>"), code(absent), markdown("## Other"), code(figures.Absent("None.")),
             markdown("## Limits\n\n- One.\n\n## Provenance"), code(absent)]  # fmt: skip
    assert headings(*cells) == ["# Page", "## Shown", f"## {LEFT_OUT}", "## Limits"]
    notebook = nbformat.v4.new_notebook(cells=[markdown("# Page\n\nText."), *cells])
    page = notebook_page(notebook, "page").html
    assert page.count("<h2") == 4
    listed = "<li><strong>Gone</strong>, <strong>Gone &lt;b&gt;too&lt;/b&gt;</strong>: No face carries &lt;ratings&gt;."
    assert listed in page
    assert "<li><strong>Other</strong>: None.</li>" in page
    assert "Words." not in page
    assert page.count("<p>No face carries &lt;ratings&gt;.</p>") == 1  # under Provenance, whose cell has two headings


def test_a_section_stays_that_shows_something_or_has_sections_that_do(table):
    absent = figures.Absent(WHY)
    assert headings(markdown("## Both"), code(absent, table), markdown("## End"), code(table))[1] == "## Both"
    parent = headings(markdown("## Parent"), code(absent), markdown("### Child"), code(table))
    assert parent == ["# Page", "## Parent", "### Child"]
    silent = headings(markdown("## Silent"), code(), markdown("## Text"))
    assert silent == ["# Page", "## Silent", "## Text"]  # which shows nothing, and does not say why
    family = headings(markdown("## Parent"), code(absent), markdown("### Child"), code(absent), markdown("## End"))
    assert family == ["# Page", f"## {LEFT_OUT}", "## End"]


def test_what_is_absent_says_why_in_a_notebook():
    bundle = figures.Absent(WHY)._repr_mimebundle_()
    assert bundle["text/html"] == "<p>No face carries &lt;ratings&gt;.</p>"
    assert bundle["text/plain"] == WHY


def test_a_column_in_which_nothing_is_known_is_not_shown():
    shown = html_table({"face": ["a", "b"], "valence": [None, None], "arousal": [0.5, None]}, "Faces")
    assert "valence" not in shown
    assert shown.count("<th ") == 2
    assert shown.count("<td") == 4
    assert html_table({"valence": [None]}, "Faces") == "<p>Faces: nothing to list.</p>"
