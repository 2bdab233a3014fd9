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

NOTEBOOKS = ("01_masks", "02_training", "03_attribution", "04_comparison")


@checked
def report(out: FilePath = "reports", *, notebooks: Words = NOTEBOOKS, progress: Switch = True, **parameters) -> Path:
    """Run the notebooks in order and write one HTML file for each, their numbers, and an index; return its path.

    `notebooks` are names of fcx's own or paths (a list, or comma-separated text). `parameters` are those of the
    notebooks, such as faces="demo" (or a folder, a CSV, a prepared store), models="plain_scratch,masked_scratch"
    and runs="runs" (the folder that keeps prepared faces and results); each goes to the notebooks that have it.
    Beside NAME.html lie NAME.json and NAME/*.csv (the numbers) and NAME.ipynb (the executed notebook).

    Raises: UnknownNameError for a notebook or a parameter that does not exist; FcxError naming notebook, cell
    and error where a notebook fails (NAME.failed.ipynb then shows how far it came).

    >>> report("reports", faces="demo")  # doctest: +SKIP
    """
    from tqdm.std import tqdm

    paths = [find_notebook(name) for name in notebooks]
    if len({path.stem for path in paths}) < len(paths) or not paths:
        raise InputError(f"notebooks are {', '.join(notebooks) or 'none'}: give at least one, each once")
    fitted = fit_parameters(parameters, paths)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the reports")
    cells = [sum(cell.cell_type == "code" for cell in read_notebook(path).cells) + bool(fitted[path]) for path in paths]
    pages = []
    with _orderly_end(), tqdm(total=sum(cells), unit="cell", file=sys.stderr, disable=not progress) as bar:
        for path in paths:
            bar.set_description(path.stem)
            pages.append(_page(path, fitted[path], folder, bar.update))
            pages[-1].write(folder)
    from fcx.reporting.export import contents

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


def _page(path: Path, parameters: dict, folder: Path, tick):
    """Run one notebook and return it as a Page; the executed notebook takes its name only when it is whole."""
    from fcx.reporting.export import notebook_page

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
    return notebook_page(executed, path.stem)
