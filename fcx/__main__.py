"""The command `fcx` from its first moment: Ctrl-C and SIGTERM end it with one sentence, also while libraries load."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading


def main() -> None:
    """Run the command line; exit code 130 (SIGTERM: 143) where it was interrupted."""
    interrupted = []

    def interrupt(number: int, _) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    def unraisable(fault, report=sys.unraisablehook) -> None:
        if isinstance(fault.exc_value, KeyboardInterrupt):
            # Again, outside the destructor that it fell into.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            report(fault)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    sys.unraisablehook = unraisable
    try:
        from fcx.cli import run_command as command

        command()
    except BaseException:  # libraries that are interrupted while they load make errors of their own of it
        if not interrupted:
            raise
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.getLogger("asyncio").disabled = True  # of what Zarr had begun to read or write
        sys.stderr.write("fcx: interrupted; the same command goes on where it stopped\n")
        exec("")  # else Python remembers an interrupted `exec` of a library, and ends as if killed by Ctrl-C
        sys.exit(128 + interrupted[0])


if __name__ == "__main__":
    main()
