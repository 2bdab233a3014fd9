"""The browser check finds what it is there to find: pages with planted faults, and one without."""

import importlib.util
from contextlib import closing
from pathlib import Path

import plotly.graph_objects as go
import pytest
from plotly.io import to_html

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("check_reports", HERE / "check_reports.py")
check_reports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_reports)

needs_browser = pytest.mark.skipif(check_reports.find_browser() is None, reason="no Chromium on this machine")
PLOT = to_html(go.Figure(go.Scatter(x=[1, 2], y=[1, 2])), full_html=False, include_plotlyjs=True, div_id="plot")
EMPTY = to_html(go.Figure(), full_html=False, include_plotlyjs=True, div_id="plot")


def write(path, body, lang="en"):
    head = "<meta charset='utf-8'><title>a page</title>"
    path.write_text(f"<!DOCTYPE html><html lang='{lang}'><head>{head}</head><body>{body}</body></html>")
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
