"""What the page asks a kernel, and what it is answered: words as JSON knows them, and bytes."""

from __future__ import annotations

import cv2
import numpy as np

from fcx.core.checks import choose
from fcx.datasets.preparation import resize_to
from fcx.explorer.drawn import drawn_statistics
from fcx.explorer.live import Live, mask_of
from fcx.explorer.packing import SIDE, Pack, frame_bytes, plain_numbers


class Answers:
    """Answers the questions of a page: each kind of question is a method of its name."""

    KINDS = ("sprite", "frame", "region", "wear")

    def __init__(self, pack: Pack, live: Live):
        self.pack, self.live = pack, live

    def answer(self, question: dict) -> tuple[dict, list[bytes]]:
        """Return words and bytes.

        Raises: UnknownNameError for a kind of question that there is not; what the library raises.
        """
        given = {name: value for name, value in question.items() if name not in ("kind", "number")}
        return getattr(self, choose(question.get("kind"), self.KINDS, "question"))(**given)

    def sprite(self) -> tuple[dict, list[bytes]]:
        """Return the strip of thumbnails."""
        return {}, [self.pack.sprite(range(len(self.pack.samples)))]

    def frame(self, face: int, method: str) -> tuple[dict, list[bytes]]:
        """Return the frame of a face and its pictures."""
        pictures = [self.pack.picture(face, condition) for condition in self.pack.conditions]
        return {}, [self.pack.frame(face, method), *pictures]

    def region(self, networks, method: str, target: str, sample: str, region) -> tuple[dict, list[bytes]]:
        """Return mass, net and share of a drawn region, of this face and as means, by network and condition."""
        drawn = drawn_statistics(self.pack.results, region, networks, method, target)
        place = self.pack.samples.index(sample)
        counts = np.isfinite(drawn["share"]).sum(-1).ravel()
        each = {name: values.reshape(len(counts), -1) for name, values in drawn.items()}
        rows = [{**{name: plain_numbers(values[i, place], 9) for name, values in each.items()},
                 "mean": {name: plain_numbers(values[i, np.isfinite(each["share"][i])].mean(), 9)
                          for name, values in each.items()}} for i in range(len(counts))]  # fmt: skip
        return {"rows": rows, "count": int(counts.min())}, []

    def wear(self, sample: str, networks, method: str, mask: dict, exact: bool) -> tuple[dict, list[bytes]]:
        """Return a face in another mask and what networks see in it; at rest also whether that is what is stored."""
        row, worn = self.pack.samples.index(sample), mask_of(mask, self.live.stored)
        answer = self.live.ask(row, worn, networks, method, exact)
        words = {"prediction": plain_numbers(answer.prediction, 9), "preview": not answer.exact, "exact": exact}
        if exact and worn == self.live.stored:
            one = {"model": list(networks), "method": method, "condition": self.live.condition}
            stored = self.pack.results["attribution"].sel(one).isel(sample=row)
            stored = stored.transpose("model", "target", "y", "x").values
            words["apart"] = float(np.abs(stored - answer.maps).max())
        frame = frame_bytes(answer.maps[:, None], {name: v[:, None] for name, v in answer.scores.items()}, answer.cover)
        grey = resize_to(cv2.cvtColor(answer.picture, cv2.COLOR_RGB2GRAY), SIDE)
        return words, [frame, grey.tobytes()]  # as it is: a file would be small, and take longer
