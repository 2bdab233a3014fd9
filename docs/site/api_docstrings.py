"""Docstrings of fcx as Markdown: examples in fences, what is raised and the source as paragraphs of their own."""

import re

import griffe

EXAMPLE = re.compile(r"(?:^[ ]*>>> .*\n?(?:^[ ]*\S.*\n?)*)", re.M)
NOTE = re.compile(r"^(Raises|Source|WARNING|Deviations):", re.M)


class Markdown(griffe.Extension):
    """Rewrite each docstring before it is shown."""

    def on_object(self, *, obj, **_):
        """Put fences around examples, and a new paragraph before notes."""
        if obj.docstring and not obj.is_alias:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    text = EXAMPLE.sub(lambda match: f"```pycon\n{match[0].rstrip()}\n```\n", text)
    text = re.sub(r"[ ]*# doctest: \+\w+", "", text)
    return NOTE.sub(r"\n**\1.**", text)
