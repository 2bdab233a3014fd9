"""How many of the faces given can be used: of all, by expression and by pose."""

from __future__ import annotations

import itertools

import numpy as np

from fcx.core.contract import usable

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
    status, expression = faces["status"].values.astype(str), faces["expression"].values.astype(str)
    groups = [("all", "all", np.ones(len(expression), bool))]
    groups += [("expression", name or "unlabelled", expression == name) for name in sorted(set(expression))]
    groups += [("pose", name, chosen) for name, chosen in _poses(faces)]
    rows = []
    for by, name, chosen in groups:
        row = {"by": by, "group": name, "given": int(chosen.sum())}
        for condition, found in zip(faces["condition"].values.astype(str), status, strict=True):
            row[f"usable {condition}"] = int((found[chosen] == "ok").sum())
        row["usable, paired"] = int(usable(faces)[chosen].sum())
        row["coverage %"] = 100 * row["usable, paired"] / row["given"] if row["given"] else float("nan")
        # A face that fails in both conditions for one reason counts once.
        reasons = [r for face in status[:, chosen].T for r in dict.fromkeys(face) if r != "ok"]
        row["reasons"] = "; ".join(f"{reason}: {reasons.count(reason)}" for reason in dict.fromkeys(reasons)) or "–"
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
