"""What the built site promises: `make docs` runs this after it built `site`."""

import re
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "site"
LOADED = re.compile(r"<(?:script|img|iframe|source|audio|video|embed)\b[^>]*?\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)")
LINKED = re.compile(r"<link\b[^>]*>")


def pages():
    return sorted(SITE.rglob("*.html"))


def test_every_chapter_is_there():
    assert {"index.html", "start.html", "faces.html", "methods.html", "api/fcx.html"} <= {
        page.relative_to(SITE).as_posix() for page in pages()
    }


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(SITE).as_posix())
def test_a_page_loads_nothing_from_a_network(page):
    text = page.read_text(encoding="utf-8")
    assert LOADED.findall(text) == []
    links = [link for link in LINKED.findall(text) if re.search(r"href=[\"']?(?:https?:)?//", link)]
    assert [link for link in links if not re.search(r"rel=[\"']?(?:canonical|next|prev)\b", link)] == []
    assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", text)


@pytest.mark.parametrize("style", sorted(SITE.rglob("*.css")), ids=lambda path: path.name)
def test_a_style_loads_nothing_from_a_network(style):
    text = style.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", text)


def test_every_picture_has_words_for_those_who_do_not_see_it():
    pictures = [(page.name, tag) for page in pages() for tag in re.findall(r"<img\b[^>]*>", page.read_text("utf-8"))]
    assert pictures
    assert [one for one in pictures if not re.search(r"alt=(\"[^\"]+\"|'[^']+'|[^\s\"'>]+)", one[1])] == []
