"""The command `fcx` from its first moment: Ctrl-C ends it with one sentence, also while libraries load."""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Run the command line; exit code 130 where it was interrupted."""
    interrupted = []

    def interrupt(*_) -> None:
        interrupted.append(True)
        raise KeyboardInterrupt

    def unraisable(fault, report=sys.unraisablehook) -> None:
        if isinstance(fault.exc_value, KeyboardInterrupt):
            # Again, outside the destructor that it fell into.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            report(fault)

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = unraisable
    try:
        from fcx.cli import main as command

        command()
    except BaseException:  # libraries that are interrupted while they load make errors of their own of it
        if not interrupted:
            raise
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("fcx: interrupted; the same command goes on where it stopped\n")
        exec("")  # else Python remembers an interrupted `exec` of a library, and ends as if killed by Ctrl-C
        sys.exit(130)


if __name__ == "__main__":
    main()
