"""How many of the faces given can be used: of all, by expression and by pose."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from fcx.core.contract import good

YAWS = (15, 30, 45, 60)  # degrees between which faces are counted together
UNKNOWN_POSE = "unknown"


def coverage_rows(faces) -> list[dict]:
    """Return a row for all faces, for each expression and for each range of |yaw|.

    Columns: `by` ("all", "expression" or "pose"), `group`, `given`, `usable plain` and `usable masked`,
    `usable, paired` (in every condition), `coverage %`, and `reasons` with their counts. A face that was not found
    has an unknown pose, so the shares by pose are those among the faces found, whatever the pose of the others.

    >>> import fcx
    >>> coverage_rows(fcx.prepare("demo", limit=4, progress=False))[0]["given"]
    4
    """
    found, expression = good(faces), faces["expression"].values.astype(str)
    bad = np.flatnonzero(~found.all(axis=0))
    # A face that fails in several conditions for one reason counts once.
    reasons = {i: [reason for reason in dict.fromkeys(face) if reason != "ok"]
               for i, face in zip(bad.tolist(), faces["status"][:, bad].values.T.tolist(), strict=True)}  # fmt: skip
    groups = [("all", "all", np.ones(len(expression), bool))]
    groups += [("expression", name or "unlabelled", expression == name) for name in sorted(set(expression))]
    groups += [("pose", name, chosen) for name, chosen in _poses(faces)]
    rows = []
    for by, name, chosen in groups:
        row = {"by": by, "group": name, "given": int(chosen.sum())}
        for condition, ok in zip(faces["condition"].values.astype(str), found, strict=True):
            row[f"usable {condition}"] = int(ok[chosen].sum())
        row["usable, paired"] = int(found.all(axis=0)[chosen].sum())
        row["coverage %"] = 100 * row["usable, paired"] / row["given"] if row["given"] else float("nan")
        counts = Counter(reason for i in bad[chosen[bad]].tolist() for reason in reasons[i])
        row["reasons"] = "; ".join(f"{reason}: {count}" for reason, count in counts.items()) or "–"
        rows.append(row)
    return rows


def _poses(faces) -> list[tuple[str, np.ndarray]]:
    """Return the ranges of |yaw| with the faces in each, (sample,) bool."""
    if "pose" not in faces:
        return []
    yaw = np.abs(faces["pose"].sel(angle="yaw").values)
    edges = (0, *YAWS, np.inf)
    names = [f"yaw {low}° to {high}°" for low, high in itertools.pairwise(YAWS)]
    names = [f"yaw below {YAWS[0]}°", *names, f"yaw over {YAWS[-1]}°"]
    found = [(yaw >= low) & (yaw < high) for low, high in itertools.pairwise(edges)]
    return [*zip(names, found, strict=True), (UNKNOWN_POSE, np.isnan(yaw))]
