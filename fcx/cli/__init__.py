"""The command `fcx`: one library call per command, progress on stderr, exit code 2 for bad input."""

from __future__ import annotations

import errno
import logging
import sys
import warnings

import typer

from fcx.cli import face_commands, network_commands, page_commands, training_commands  # noqa: F401
from fcx.cli.printing import one_line
from fcx.cli.registration import app
from fcx.core.errors import FcxError


class _Screen(logging.Handler):
    """Shows what the library logs as "fcx: ...", above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm.std import tqdm

        tqdm.write(f"fcx: {one_line(record.getMessage())}", file=sys.stderr)


def run_command() -> None:
    """Run the command line; what a user gave wrong ends in one sentence and exit code 2."""
    log = logging.getLogger("fcx")
    log.handlers = [_Screen()]
    log.setLevel(logging.INFO)
    # What zarr had begun when Ctrl-C came.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    warnings.formatwarning = lambda message, *_, **__: f"fcx: {one_line(str(message))}\n"
    try:
        app(prog_name="fcx")
    except FcxError as error:
        _fail(str(error))
    except MemoryError:
        _fail("not enough memory: give smaller pictures, or fewer at once")
    except OSError as error:
        hint = ": free some space, then run the same command again" if error.errno == errno.ENOSPC else ""
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}{hint}")


def _fail(text: str) -> None:
    typer.echo(f"fcx: {text}", err=True)
    sys.exit(2)
