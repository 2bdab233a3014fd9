"""Notebooks -> self-contained HTML reports: strict parameters, papermill, one file per notebook, and an index."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from fcx.core.arguments import FilePath, Switch, Words, checked
from fcx.core.errors import FcxError, InputError
from fcx.reporting.execute import find_notebook, fit_parameters, read_notebook, run_notebook

NOTEBOOKS = ("01_masks", "02_training", "03_attribution", "04_comparison", "05_validity")
# What fcx.report gives a notebook where the user does not: known truth in a small version, of minutes.
SMALL = {"05_validity": {"carriers": "eyes,outline", "plants": "forehead,stripes", "residual": "outline",
                         "methods": "lrp_gamma,gradient,lrp_zbox,gradcam,region_ablation", "train_faces": 1300,
                         "count": 24}}  # fmt: skip


@checked
def report(
    out: FilePath = "reports", *, notebooks: Words = NOTEBOOKS, progress: Switch = True, **parameters: object
) -> Path:
    """Run the notebooks in order and write one HTML file for each, their numbers, and an index; return its path.

    `notebooks` are names of fcx's own or paths (a list, or comma-separated text). `parameters` are those of the
    notebooks, such as faces="demo" (or a folder, a CSV, a prepared store), models="plain_scratch,masked_scratch"
    and runs="" (the folder that keeps faces and results: `runs` of the checkout, or else of the working directory);
    each goes to the notebooks that have it. `05_validity` runs in a small version unless it is told otherwise.
    Beside NAME.html lie NAME.json and NAME/*.csv (the numbers) and NAME.ipynb (the executed notebook).

    Raises: UnknownNameError for a notebook or a parameter that does not exist; FcxError naming notebook, cell
    and error where a notebook fails (NAME.failed.ipynb then shows how far it came).

    >>> report("reports", faces="demo")  # doctest: +SKIP
    """
    from fcx.reporting.export import contents, notebook_page, page_links
    from fcx.reporting.progress import expected_seconds, shown_progress

    paths = [find_notebook(name) for name in notebooks]
    if len({path.stem for path in paths}) < len(paths) or not paths:
        raise InputError(f"notebooks are {', '.join(notebooks) or 'none'}: give at least one, each once")
    fitted = fit_parameters(parameters, paths)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the reports")
    notebooks = {path.stem: read_notebook(path) for path in paths}
    ours = {path: {**SMALL.get(path.stem, {}), **fitted[path]} for path in paths}
    cells = {p.stem: sum(cell.cell_type == "code" for cell in notebooks[p.stem].cells) + bool(ours[p]) for p in paths}
    expected = {path.stem: expected_seconds(path.stem, ours[path]) for path in paths}
    links, pages = page_links(notebooks), []
    with _orderly_end(), shown_progress(expected, cells, quiet=not progress) as (begin, tick):
        for path in paths:
            begin(path.stem)
            executed = _executed(path, ours[path], folder, tick)
            pages.append(notebook_page(executed, path.stem, links[path.stem]))
            pages[-1].write(folder)
    return contents(pages, folder)


@contextlib.contextmanager
def _orderly_end():
    """Let a request to end the process (SIGTERM) raise SystemExit here, so that nothing half done is left."""
    own = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # as the command line has
    if own or threading.current_thread() is not threading.main_thread():
        return (yield)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@checked
def export_notebooks(notebooks: Words, out: FilePath | None = None) -> list[Path]:
    """Write the HTML page and the numbers of notebooks that were executed before, without running them again.

    `notebooks` are paths of executed notebooks, such as papermill's; `out` is a folder, by default that of each
    notebook. Of several notebooks the pages lead to one another, and an index is written too. Returns the paths of
    the pages.

    Raises: InputError for a notebook that does not exist, cannot be read, or was never executed.

    >>> export_notebooks("executed.ipynb")  # doctest: +SKIP
    """
    from fcx.reporting.export import contents, notebook_page, page_links

    paths = [Path(name) for name in notebooks]
    if len({path.stem for path in paths}) < len(paths) or not paths:
        raise InputError(f"notebooks are {', '.join(notebooks) or 'none'}: give at least one, each name once")
    executed = {path.stem: read_notebook(find_notebook(path)) for path in paths}
    for path in paths:
        if not any(cell.get("outputs") for cell in executed[path.stem].cells):
            raise InputError(f"{path} holds no outputs: run it first (papermill {path} executed.ipynb)")
    links = page_links(executed) if len(paths) > 1 else {path.stem: [] for path in paths}
    pages = [notebook_page(executed[path.stem], path.stem, links[path.stem]) for path in paths]
    folders = [Path(out) if out is not None else path.parent for path in paths]
    if len(pages) > 1:
        contents(pages, folders[0])
    return [page.write(folder) for page, folder in zip(pages, folders, strict=True)]


def _executed(path: Path, parameters: dict, folder: Path, tick):
    """Run one notebook and return it executed; it takes its name only when it is whole."""
    running, failed = folder / f".{path.stem}.running.ipynb", folder / f"{path.stem}.failed.ipynb"
    try:
        executed = run_notebook(path, parameters, running, tick)
    except FcxError as error:
        os.replace(running, failed)
        raise type(error)(str(error).replace(str(running), str(failed))) from None
    except BaseException:
        running.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    os.replace(running, folder / f"{path.stem}.ipynb")
    return executed
