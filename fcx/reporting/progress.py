"""How far a run of reports is, and about how long the rest takes: from measured times, corrected by this run's own."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping

# Seconds of each notebook of `make report` with empty runs/, on two cores; another notebook's are unknown.
SECONDS = {"01_masks": 95, "02_training": 25, "03_attribution": 130, "04_comparison": 160, "05_validity": 145}
UNKNOWN = 60
DEMO, NETWORKS, LEAST = 473, 4, 0.25  # LEAST: the part of the time that is left with the fewest faces and networks
# Seconds a face that 02_training takes where networks are asked, whose answers to the demo ship, of so many families.
ASKED, FAMILIES = 0.3, 7
BY_FACES, BY_NETWORKS = ("01_masks", "03_attribution", "04_comparison"), ("03_attribution", "04_comparison")
DOUBT = 30  # seconds of finished notebooks before their pace counts for as much as the measured one
UNENDED = 0.1  # of the time that a notebook took so far: what it takes at least, until its last cell is done


def expected_seconds(name: str, parameters: Mapping) -> float:
    """Return about how long a notebook takes with these parameters, as measured: in proportion to faces and networks.

    >>> expected_seconds("03_attribution", {"models": "one,two"})
    65.0
    """
    seconds, share = float(SECONDS.get(name, UNKNOWN)), 1.0
    if (faces := parameters.get("faces", "demo")) != "demo" and name in (*BY_FACES, "02_training"):
        count = _count_faces(faces)
        asked = parameters["models"].count(",") + 1 if parameters.get("models") else FAMILIES
        seconds += ASKED * count * min(1, asked / FAMILIES) if name == "02_training" else 0
        share *= count / DEMO if name in BY_FACES else 1
    if name in BY_NETWORKS and parameters.get("models"):
        share *= len(parameters["models"].split(",")) / NETWORKS
    return seconds * max(LEAST, share)


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
        self.expected, self.done, self.part, self.start = dict(expected), [], "", 0.0

    def begin(self, part: str, spent: float) -> None:
        """Note that a part begins after `spent` seconds, and that those before it are done."""
        self.done += [self.part] if self.part else []
        self.part, self.start = part, spent

    def seconds(self, spent: float, ended: bool = False) -> float:
        """Return the seconds left after `spent` seconds; `ended` says that the last cell of the part is done.

        Of a part only its time counts: cells take from no time to minutes, and so say little.
        """
        finished, here = sum(self.expected[part] for part in self.done), spent - self.start
        pace = (self.start + DOUBT) / (finished + DOUBT)
        if here > pace * self.expected[self.part]:  # longer than was thought, and so perhaps what follows
            pace = (spent + DOUBT) / (finished + self.expected[self.part] + DOUBT)
        later = sum(self.expected.values()) - finished - self.expected[self.part]
        return pace * later + (0.0 if ended else max(pace * self.expected[self.part] - here, UNENDED * here))


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
        left = remaining.seconds(spent, ended=at["cell"] >= cells[part])
        bar.n = round(100 * spent / (spent + left)) if left else 100
        bar.set_description_str(f"{part} ({names.index(part) + 1} of {len(names)})", refresh=False)
        bar.set_postfix_str(f"about {in_words(left)} left", refresh=False)
        bar.refresh()

    def begin(part: str) -> None:
        remaining.begin(part, time.monotonic() - start)
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
