"""The explorer in a notebook whose kernel answers it: a thin anywidget."""

from __future__ import annotations

import json
import threading

import anywidget
import traitlets

from fcx.core.checks import choose_all
from fcx.explorer.answers import Answers
from fcx.explorer.static import STYLE, module_text
from fcx.explorer.view import VIEW_OPTIONS, View


class ExplorerWidget(anywidget.AnyWidget):
    """What the page shows (`view`) and what it is told at first (`header`); all else it asks for."""

    _esm = module_text()
    _css = STYLE.read_text(encoding="utf-8")
    header = traitlets.Unicode().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, answers: Answers, header: dict, view: View):
        self._answers, self._one_at_a_time = answers, threading.Lock()
        super().__init__(header=json.dumps(header), view=view.plain())
        self.on_msg(self._hear)

    @traitlets.validate("view")
    def _view_of_these(self, proposal) -> dict:
        """Return a view that somebody set, its names checked."""
        return View(**choose_all(proposal["value"], VIEW_OPTIONS, "option of a view")).of(self._answers.pack).plain()

    def _hear(self, _, question: dict, buffers) -> None:
        # Questions come in threads of their own, where an error shows nowhere: it is sent to the page.
        try:
            with self._one_at_a_time:
                words, parts = self._answers.answer(question)
        except Exception as error:
            words, parts = {"error": f"{type(error).__name__}: {error}"}, []
        self.send({"number": question.get("number"), **words}, buffers=parts)
