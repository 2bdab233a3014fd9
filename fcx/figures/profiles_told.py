"""What a network of another kind looks at beside others: statements composed from one run's region profiles."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fcx.core.contract import REGIONS
from fcx.figures.tables import Finding, Findings
from fcx.figures.wording import how_many, listed, method_title, plain_name


def profile_findings(profiles: xr.Dataset, other: str) -> Findings:
    """Return which region is densest for the network `other` and for the rest, and how alike their profiles are.

    `profiles` are from `fcx.statistics.profiles.region_profiles`, of all networks in one Dataset.
    """
    rest = [name for name in profiles["model"].values.tolist() if name != other]
    findings = []
    for method in profiles["method"].values.tolist():
        for condition in profiles["condition"].values.tolist():
            cell = profiles.sel({"method": method, "condition": condition, "region": list(REGIONS)}).isel(target=0)
            tops = {name: _top(cell.sel(model=name)) for name in (other, *rest)}
            groups: dict[str, list[str]] = {}
            for name in rest:
                groups.setdefault(tops[name][0], []).append(plain_name(name))
            top, beside = tops[other][0], [f"for {listed(names)} the {region}" for region, names in groups.items()]
            told = "; ".join([f"for {plain_name(other)} the densest region is the {top}", *beside])
            if list(groups) == [top]:
                told = f"the densest region of {listed([plain_name(other), *groups[top]])} is the {top}"
            start = f"By {method_title(method, profiles)}, {condition}, {how_many(cell['n'])} faces"
            findings.append(Finding(
                f"{start}: {told}.",
                f"{'; '.join(f'{plain_name(name)}: {region} {times}' for name, (region, times) in tops.items())}. "
                f"{_likeness(cell, other, rest)}",
            ))  # fmt: skip
    return Findings(findings)


def _top(cell: xr.Dataset) -> tuple[str, str]:
    """Return the region of the highest density, and its density over that of the whole picture with its interval."""
    mean, low, high = (cell[f"enrichment_{end}"].values for end in ("mean", "low", "high"))
    top = int(np.nanargmax(mean))
    numbers = f"{2 ** mean[top]:.1f} times its area [{2 ** low[top]:.1f}, {2 ** high[top]:.1f}]"
    return str(cell["region"].values[top]), numbers


def _likeness(cell: xr.Dataset, other: str, rest: list[str]) -> str:
    """Say how the log2 densities of the regions go together."""
    values = cell["enrichment_mean"].transpose("model", "region").sel(model=[other, *rest]).values
    values = values[:, np.isfinite(values).all(0)]
    if values.shape[1] < 3 or not rest:
        return ""
    alike = zip(np.corrcoef(values)[0, 1:], rest, strict=True)
    parts = [f"of {plain_name(name)} by {r:z.2f}" for r, name in sorted(alike, reverse=True)]
    return f"Over {values.shape[1]} regions its log2 densities correlate with those {listed(parts)}."
