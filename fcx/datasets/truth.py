"""Faces whose labels one carrier shows: where it is to be seen."""

from __future__ import annotations

from fcx.core.contract import check, usable
from fcx.core.errors import ContractError, InputError


def truth_condition(faces) -> str:
    """Return the first condition of faces with `truth` (condition, sample, y, x) in which every usable face shows it.

    Raises: ContractError for faces without truth; InputError where no condition shows it in every face.

    >>> from fcx.datasets.synthetic import synthetic_faces
    >>> truth_condition(synthetic_faces("outline", count=2))
    'masked'
    """
    check(faces, "faces")
    carrier = faces.attrs.get("carrier", "the labels")
    if "truth" not in faces or faces["truth"].dims != ("condition", "sample", "y", "x"):
        raise ContractError(f"faces of {carrier} have no 'truth' (condition, sample, y, x): see synthetic_faces and "
                            "planted_sets")  # fmt: skip
    seen = (faces["truth"].isel(sample=usable(faces)) > 0).any(("y", "x")).all("sample")
    if not seen.any() or not usable(faces).any():
        raise InputError(f"no condition of the faces shows the truth of {carrier} in every usable face")
    return str(faces["condition"].values[int(seen.values.argmax())])
