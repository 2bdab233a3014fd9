"""Run one notebook with papermill: strict parameters, the kernel of this interpreter, errors in one sentence."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from fcx.core import errors
from fcx.core.checks import choose
from fcx.core.errors import FcxError, InputError
from fcx.core.paths import shipped_folder


def find_notebook(name: str | os.PathLike) -> Path:
    """Return the path of a notebook: one of fcx's by its name, or any by its path.

    Raises: UnknownNameError, "unknown notebook '01_mask': did you mean '01_masks'? ...".
    """
    if str(name).endswith(".ipynb"):
        if not (path := Path(name)).is_file():
            raise InputError(f"there is no notebook {path}")
        return path
    ours = {path.stem: path for path in shipped_folder("notebooks").glob("[0-9]*.ipynb")}
    return ours[choose(str(name), sorted(ours), "notebook")]


def read_notebook(path: Path):
    """Return a notebook (an nbformat node) whose cells are whole.

    Raises: InputError, "... cannot be read as a notebook: ...".
    """
    import nbformat

    try:
        with warnings.catch_warnings(action="ignore"):  # cells without ids of their own get some
            notebook = nbformat.read(path, as_version=4)
            nbformat.validate(notebook)
            nbformat.writes(notebook).encode()
    except Exception as error:  # nbformat raises anything where a file is no notebook
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{path} cannot be read as a notebook: {reason}") from error
    return notebook


def parameters_of(path: Path) -> dict:
    """Return the parameters of a notebook and their defaults: what its cell tagged `parameters` sets to literals.

    Raises: InputError where that cell is no Python.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    cells = read_notebook(path).cells
    source = "\n".join(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    try:
        body = ast.parse(TransformerManager().transform_cell(source)).body  # magics are no Python yet
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: its cell of parameters is no Python: {error}") from error
    parameters = {}
    for node in body:
        names = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        with contextlib.suppress(ValueError, AttributeError):  # no literal: the notebook's own business
            default = ast.literal_eval(node.value)
            parameters |= {name.id: default for name in names if isinstance(name, ast.Name)}
    return parameters


def fit_parameters(given: Mapping, paths: list[Path]) -> dict[Path, dict]:
    """Return for each notebook those of the `given` parameters that it has, in the type of its defaults.

    Raises: UnknownNameError for a parameter that no notebook has; InputError for one of another type.
    """
    known = {path: parameters_of(path) for path in paths}
    everything = sorted({name for defaults in known.values() for name in defaults})
    for name in given:
        choose(name, everything, "parameter")
    return {path: {name: _typed(name, given[name], default) for name, default in defaults.items() if name in given}
            for path, defaults in known.items()}  # fmt: skip


def _typed(name: str, value, default):
    """Return `value` in the type of the default; lists become comma-separated text."""
    kind = type(default)
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and kind is not str and "_" not in value:  # Python reads 1_0 as 10
        with contextlib.suppress(KeyError, ValueError):  # what cannot be read is refused below
            value = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"parameter {name} is {value!r}; allowed: {kind.__name__}, such as {default!r}")
    return value


def run_notebook(path: Path, parameters: Mapping, output: Path, tick: Callable[[], None]):
    """Run the notebook at `path` and return it executed; `output` holds what was run, after every cell.

    `tick` is called after every cell. Figures come as Plotly's JSON, whatever front end is configured.

    Raises: FcxError (InputError where that is what the notebook raised) naming notebook, cell and error.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        return papermill.execute_notebook(
            path, output, parameters=dict(parameters), progress_bar=False, kernel_name="python3", language="python",
            kernel_manager_class=_kernel_manager(output), shutdown_kernel="immediate",
            on_cell_executed=lambda **_: tick(),
        )  # fmt: skip
    except PapermillExecutionError as error:
        raise _explained(path, error, output) from None
    except DeadKernelError:
        raise FcxError(
            f"notebook {path.stem}: its process died (out of memory?); {output} shows how far it came"
        ) from None


def _kernel_manager(output: Path):
    """Return a kernel manager that runs this very interpreter, whatever kernels are installed by which name.

    Its connection file lies beside `output`: what a killed process leaves is found and replaced by the next.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisInterpreter(AsyncKernelManager):
        def __init__(self, **settings):
            super().__init__(connection_file=os.path.abspath(output.with_suffix(".json")), **settings)

        @property
        def kernel_spec(self):
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"],
                env={"PLOTLY_RENDERER": "plotly_mimetype", "FCX_EXPLORER": "page",
                     "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
                display_name="Python 3", language="python",
            )  # fmt: skip

    return ThisInterpreter


def _explained(path: Path, error, output: Path) -> FcxError:
    """Return papermill's error as one sentence: the notebook's own words where the error is one of fcx's."""
    short = error.ename.rsplit(".", 1)[-1]
    kind = getattr(errors, short, None)
    words = re.sub(r"\x1b\[[0-9;]*m", "", error.evalue).strip().splitlines() or ["no message"]
    if isinstance(kind, type) and issubclass(kind, FcxError):
        return (kind if issubclass(kind, InputError) else FcxError)(f"{words[-1]} (notebook {path.stem})")
    first = next((line for line in error.source.splitlines() if line.strip()), "")
    return FcxError(f"notebook {path.stem}, cell {error.exec_count} ({first.strip()}): {short}: {words[-1]}; "
                    f"{output} shows what was run")  # fmt: skip
