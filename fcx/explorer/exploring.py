"""`explore`: faces and results by hand, as a widget where a kernel runs, else as a page that holds everything."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import xarray as xr

from fcx.core.arguments import Count, FilePath, checked
from fcx.core.checks import choose_all, whole_number
from fcx.core.contract import Faces
from fcx.core.errors import InputError
from fcx.core.files import replacing
from fcx.explorer.packing import Pack
from fcx.explorer.static import explorer_page, explorer_section
from fcx.explorer.view import VIEW_OPTIONS, View
from fcx.figures.panels import choose_faces

METHODS = ("lrp_gamma", "gradient")
FACES = 24  # in a page


@checked
def explore(faces: Faces, results: xr.Dataset | str | Iterable[str] | Mapping | None = None, *,
            models: str | Iterable[str] | Mapping | None = None, methods: str | Iterable[str] = METHODS,
            targets: str | Iterable[str] | None = None, draws: Count = 2000, **view: object) -> Explorer:  # fmt: skip
    """Return the explorer of `faces` and of `results`, which shows itself in a notebook.

    `results` is what `fcx.attribute` returned for these faces, or models, as `fcx.attribute` takes them, that are
    asked now by `methods` about `targets` (None: every output); None is the first training of each family that ships.
    `view` is what is shown first, the fields of `fcx.explorer.view.View`: what "Copy Python" writes. Means and
    intervals are those of `fcx.region_statistics` with `draws`. `models` are those that made the results, for a mask
    that is moved by hand on the grey grid; those that ship are found by their names. Where no kernel runs, or the extra
    `explore` is not installed, the notebook shows a page of at most 24 faces; `Explorer.write` writes one to a file.

    Raises: ContractError where results hold no maps or not the samples of `faces`; InputError where no face is
    usable; UnknownNameError for a name that does not exist.

    >>> fcx.explore(faces, results, networks="plain_scratch,masked_scratch").write("explorer.html")  # doctest: +SKIP
    """
    choose_all(view, VIEW_OPTIONS, "option of explore")
    call = _call(faces, results, models=models, methods=methods, targets=targets)
    if not isinstance(results, xr.Dataset):
        from fcx.attribution import attribute
        from fcx.networks.resolving import resolve_models

        models = resolve_models(results)
        results = attribute(models, faces, methods, targets)
    pack = Pack(faces, results, draws=draws, call=call)
    return Explorer(pack, View(**view).of(pack), models)


class Explorer:
    """Faces and maps by hand: shows itself in a notebook, and writes itself as a page."""

    def __init__(self, pack: Pack, view: View, models=None):
        self.pack, self.view, self._models = pack, view, models

    @cached_property
    def widget(self):
        """The widget that a notebook with a kernel shows, made when it is asked for.

        Raises: InputError where the extra `explore` is not installed.
        """
        try:
            from fcx.explorer.widget import ExplorerWidget
        except ImportError as error:
            raise InputError("the widget needs the extra: pip install 'fcx-faces[explore]'") from error
        from fcx.explorer.answers import Answers
        from fcx.explorer.live import Live

        live = Live(self.pack, self._models)
        first = {"plain": View().plain(), "exact": True, "live": live.choices()}
        header = self.pack.header(range(len(self.pack.samples))) | first
        return ExplorerWidget(Answers(self.pack, live), header, self.view)

    def write(self, path: FilePath, count: int = FACES) -> Path:
        """Write a page that needs no kernel and no network, of at most `count` faces; return its path."""
        whole_number(count, "count")
        with replacing(Path(path)) as temporary:
            temporary.write_text(explorer_page(self.pack, self._rows(count), self.view), encoding="utf-8")
        return Path(path)

    def html(self, count: int = FACES) -> str:
        """Return the same as a part of a page."""
        return explorer_section(self.pack, self._rows(count), self.view)

    def _rows(self, count: int) -> list[int]:
        """Return the faces of a page: one of each expression in turn, and the one that is shown first."""
        shown = self.pack.samples.index(self.view.sample)
        rows = [self.pack.samples.index(name) for name in choose_faces(self.pack.faces, count)]
        return sorted({shown, *rows[: count - (shown not in rows)]})

    def _repr_mimebundle_(self, *args, **kwargs):
        words = f"Explorer of {len(self.pack.samples)} faces and {len(self.pack.models)} networks"
        if not _kernel_answers():
            return {"text/html": self.html(), "text/plain": words}
        shown, about = self.widget._repr_mimebundle_(*args, **kwargs)
        note = f"<p>{words}: run the cell to see it, or write a page with its method <code>write</code>.</p>"
        return {**shown, "text/plain": words, "text/html": note}, about


def _call(faces, results, **options) -> str:
    """Return how a line of Python gives `explore` the same: names and text as they are, else a variable."""
    variables = getattr(_shell(), "user_ns", {})

    def written(value, name: str) -> str:
        if isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)):
            return json.dumps(value)
        return next((own for own, each in variables.items() if each is value and not own.startswith("_")), name)

    if isinstance(results, xr.Dataset):
        options = {"models": options["models"]}  # the others are what was asked already
    parts = [written(faces, "faces"), *([] if results is None else [written(results, "results")])]
    given = {name: value for name, value in options.items() if value is not None and value is not METHODS}
    return ", ".join([*parts, *(f"{name}={written(value, name)}" for name, value in given.items())])


def _shell():
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _kernel_answers() -> bool:
    """Return whether a kernel runs that shows widgets, and nobody asked for pages (the variable FCX_EXPLORER)."""
    there = getattr(_shell(), "kernel", None) is not None and importlib.util.find_spec("anywidget") is not None
    return there and os.environ.get("FCX_EXPLORER") != "page"
