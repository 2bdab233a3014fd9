"""How far a run of reports is, and about how long the rest takes: from measured times, corrected by this run's own."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping

# Seconds of each notebook of `make report` with empty runs/, on two cores; another notebook's are unknown.
SECONDS = {"01_masks": 105, "02_training": 20, "03_attribution": 155, "04_comparison": 165, "05_validity": 165}
UNKNOWN = 60
DEMO, NETWORKS = 473, 4
BY_FACES, BY_NETWORKS = ("01_masks", "03_attribution", "04_comparison"), ("03_attribution", "04_comparison")
DOUBT = 20  # seconds of a run before its own pace counts for as much as the measured one


def expected_seconds(name: str, parameters: Mapping) -> float:
    """Return about how long a notebook takes with these parameters, as measured: in proportion to faces and networks.

    >>> expected_seconds("03_attribution", {"models": "one,two"})
    77.5
    """
    seconds = float(SECONDS.get(name, UNKNOWN))
    if name in BY_FACES and parameters.get("faces", "demo") != "demo":
        seconds *= max(0.2, _count_faces(parameters["faces"]) / DEMO)
    if name in BY_NETWORKS and parameters.get("models"):
        seconds *= len(parameters["models"].split(",")) / NETWORKS
    return seconds


def _count_faces(source: str) -> int:
    """Return how many faces a source holds; one that cannot be read is refused by the notebook itself, in its words."""
    from fcx.core.errors import FcxError
    from fcx.datasets import face_stores, open_source
    from fcx.datasets.preparation import open_faces

    with contextlib.suppress(FcxError, OSError):
        if face_stores.is_store(source):
            return open_faces(source).sizes["sample"]
        return len(open_source(source).records)
    return DEMO


class Remaining:
    """About how long a run still takes, from the expected seconds of its parts (notebooks) and what it took so far."""

    def __init__(self, expected: Mapping[str, float]):
        self.expected, self.done, self.spent, self.part = dict(expected), [], 0.0, ""

    def begin(self, part: str) -> None:
        """Note that a part begins, and that those before it are done."""
        self.done += [self.part] if self.part else []
        self.part = part

    def seconds(self, spent: float, inside: float) -> float:
        """Return the seconds left after `spent` seconds, where the share `inside` of the present part is done."""
        finished = sum(self.expected[part] for part in self.done) + inside * self.expected[self.part]
        pace = (spent + DOUBT) / (finished + DOUBT)
        return pace * max(sum(self.expected.values()) - finished, 0.0)


@contextlib.contextmanager
def shown_progress(expected: Mapping[str, float], cells: Mapping[str, int], *, quiet: bool) -> Iterator:
    """Show which notebook runs, the time passed and an estimate of the rest on stderr; give begin(name) and tick().

    The line moves on by itself: every second on a terminal, every half minute elsewhere.
    """
    from tqdm.std import tqdm

    remaining, start, at = Remaining(expected), time.monotonic(), {"cell": 0}
    ended, names = threading.Event(), list(expected)
    bar = tqdm(total=100, file=sys.stderr, disable=quiet, bar_format="{desc} |{bar:20}| {elapsed} passed{postfix}")

    def show() -> None:
        spent, part = time.monotonic() - start, remaining.part
        inside = min(at["cell"] / cells[part], 1.0)
        left = remaining.seconds(spent, inside)
        bar.n = round(100 * spent / (spent + left)) if left else 100
        bar.set_description_str(f"{part} ({names.index(part) + 1} of {len(names)})", refresh=False)
        bar.set_postfix_str(f"about {in_words(left)} left", refresh=False)
        bar.refresh()

    def begin(part: str) -> None:
        remaining.begin(part)
        at["cell"] = 0
        show()

    def tick() -> None:
        at["cell"] += 1

    def keep_showing() -> None:
        while not ended.wait(1 if sys.stderr.isatty() else 30):
            if remaining.part:
                show()

    clock = threading.Thread(target=keep_showing, daemon=True)
    if not quiet:
        clock.start()
    try:
        yield begin, tick
    finally:
        ended.set()
        if not quiet:
            clock.join()
        bar.close()


def in_words(seconds: float) -> str:
    """Return a time as an estimate is said.

    >>> in_words(8), in_words(52), in_words(200)
    ('10 s', '1 min', '3 min')
    """
    return f"{max(1, round(seconds / 10)) * 10} s" if seconds < 45 else f"{max(1, round(seconds / 60))} min"
