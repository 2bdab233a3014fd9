"""The browser check finds what it is there to find: pages with planted faults, and one without."""

import importlib.util
from contextlib import closing
from pathlib import Path

import plotly.graph_objects as go
import pytest
from plotly.io import to_html

from fcx.figures.plotly_library import plotly_text

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("check_reports", HERE / "check_reports.py")
check_reports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_reports)

needs_browser = pytest.mark.skipif(check_reports.find_browser() is None, reason="no Chromium on this machine")


def plot(figure):
    """Return a figure as HTML, with the library before it."""
    figure.update_layout(width=340, height=300)
    library = f"<script>{plotly_text(['scatter'])}</script>"
    return library + to_html(figure, full_html=False, include_plotlyjs=False, include_mathjax=False, div_id="plot",
                             config={"displayModeBar": False})  # fmt: skip


PLOT, EMPTY = plot(go.Figure(go.Scatter(x=[1, 2], y=[1, 2]))), plot(go.Figure())
WORDS = {"mode": "text", "cliponaxis": False}
OVER = plot(go.Figure(go.Scatter(x=[1, 5, 5.01, 9], y=[1, 1, 1, 1], text=["", "one word", "another", ""], **WORDS)))
CUT = plot(go.Figure(go.Scatter(x=[1, 2], y=[1, 1], text=["", "words that are longer than there is room"], **WORDS)))


def write(path, body, lang="en"):
    style = "<style>figure { break-inside: avoid; margin: 0; } svg { width: auto; }</style>"
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>a page</title>{style}"
    path.write_text(f"<!DOCTYPE html><html lang='{lang}'><head>{head}</head><body><main>{body}</main></body></html>")
    return path


@pytest.fixture(scope="module")
def browser():
    with closing(check_reports.Browser(check_reports.find_browser())) as opened:
        yield opened


FAULTS = {
    "clean": (f"<h1>a</h1><figure aria-label='two points'>{PLOT}</figure>", None),
    "a picture from the network": ("<h1>a</h1><img alt='x' src='http://fcx.invalid/x.png'>", "asks for http://fcx.invalid"),
    "a file beside it": ("<h1>a</h1><script src='beside.js'></script>", "asks for file:"),
    "an error": ("<h1>a</h1><script>console.error('broken')</script>", "console: broken"),
    "an exception": ("<h1>a</h1><script>missing()</script>", "missing is not defined"),
    "no heading": ("<p>a</p>", "0 h1"),
    "two headings": ("<h1>a</h1><h1>b</h1>", "2 h1"),
    "an empty figure": (f"<h1>a</h1><figure aria-label='nothing'>{EMPTY}</figure>", "is empty"),
    "a figure without text": (f"<h1>a</h1><figure>{PLOT}</figure>", "has no text"),
    "words over words": (f"<h1>a</h1><figure aria-label='x'>{OVER}</figure>", '"one word" overlaps "another"'),
    "words that are cut": (f"<h1>a</h1><figure aria-label='x'>{CUT}</figure>", "is cut"),
    "a page that scrolls sideways": ("<h1>a</h1><p style='width: 900px'>x</p>", "390 px, light: the page is"),
    "grey on grey": ("<h1>a</h1><p style='color: #aaa; background: #bbb'>grey words</p>", "axe color-contrast"),
    "a button without a name": ("<h1>a</h1><button></button>", "axe button-name"),
    "a figure that stays light": (
        f"<style>body {{ background: #111; }}</style><h1>a</h1><figure aria-label='x'>{PLOT}</figure>", "a dark page"
    ),
    "a figure that is split": (
        f"<h1>a</h1><figure aria-label='x' style='break-inside: auto'>{PLOT}</figure>", "may be split"
    ),
    "a picture without text": ("<h1>a</h1><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", "no alt text"),
}  # fmt: skip


@needs_browser
@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_names_the_fault(browser, tmp_path, fault):
    body, expected = FAULTS[fault]
    figures, wrong = check_reports.check_page(browser, write(tmp_path / "page.html", body))
    if expected is None:
        assert (figures, wrong) == (1, [])
    else:
        assert any(expected in each for each in wrong), wrong


@needs_browser
def test_the_check_names_size_and_language(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(check_reports, "LIMIT", 100)
    _, wrong = check_reports.check_page(browser, write(tmp_path / "page.html", "<h1>a</h1>", lang=""))
    assert any("MB" in each for each in wrong)
    assert any("language" in each for each in wrong)


def test_without_reports_or_browser_the_check_says_what_to_do(tmp_path, monkeypatch, capsys):
    assert check_reports.main([str(tmp_path)]) == 2
    assert "make report" in capsys.readouterr().err
    write(tmp_path / "page.html", "<h1>a</h1>")
    monkeypatch.setattr(check_reports, "find_browser", lambda: None)
    assert check_reports.main([str(tmp_path)]) == 2
    assert "install chromium" in capsys.readouterr().err
