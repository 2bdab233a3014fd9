"""The explorer in a notebook whose kernel answers it: a thin anywidget."""

from __future__ import annotations

import json
import threading

import anywidget
import traitlets

from fcx.explorer.answers import Answers
from fcx.explorer.static import SCRIPT, STYLE
from fcx.explorer.view import View


class ExplorerWidget(anywidget.AnyWidget):
    """What the page shows (`view`) and what it is told at first (`header`); all else it asks for."""

    _esm = SCRIPT.read_text(encoding="utf-8")
    _css = STYLE.read_text(encoding="utf-8")
    header = traitlets.Unicode().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, answers: Answers, header: dict, view: View):
        super().__init__(header=json.dumps(header), view=view.plain())
        self._answers, self._one_at_a_time = answers, threading.Lock()
        self.on_msg(self._hear)

    def _hear(self, _, question: dict, buffers) -> None:
        # Questions come in threads of their own, where an error shows nowhere: it is sent to the page.
        try:
            with self._one_at_a_time:
                words, parts = self._answers.answer(question)
        except Exception as error:
            words, parts = {"error": f"{type(error).__name__}: {error}"}, []
        self.send({"number": question.get("number"), **words}, buffers=parts)
