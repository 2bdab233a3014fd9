"""Which maps are faithful: the tables of docs/faithfulness.md, of the first training of each family that ships.

`python tests/benchmarks/faithfulness_tables.py SCORES` prints them; SCORES is a folder for what was measured, about
fifteen minutes of one core for each condition, from which the same call prints them again.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import xarray as xr

FAMILIES = "plain_scratch,masked_scratch,masked_last_conv,masked_all_layers"
RULES = ("signal_take_all", "aumann_shapley", "normalised_taylor")
PAIRS = ((1, 0), (2, 0), (1, 2))
PATHS = ("integrated_gradients", "deeplift")
ROWS = {
    "`lrp_zbox`": "lrp_zbox aumann_shapley",
    "`lrp`": "lrp",
    "`lrp_gamma`": "lrp_gamma aumann_shapley",
    "`lrp_epsilon`": "lrp_epsilon",
    **{f"`{name}`, from {start}": f"{name} {start}" for name in PATHS for start in ("mean", "black")},
    **{f"`{name}`": name for name in ("expected_gradients", "gradient", "smoothgrad", "input_x_gradient", "occlusion",
                                      "gradcam", "mean_activation", "edges")},
}  # fmt: skip
SIGNED = ("deletion_blur", "insertion_blur", "deletion_mean", "insertion_mean", "road")
ABSOLUTE = ("deletion_absolute_blur", "insertion_absolute_blur", "road_absolute")
REGIONS = ("necessity_blur", "sufficiency_blur", "necessity_rank_blur", "sufficiency_rank_blur")
MASKED = (*SIGNED[:2], "road", *ABSOLUTE[:2], *REGIONS[2:])
OF_RULES = (*SIGNED, "road_absolute", *REGIONS[:2])


def measured(condition: str) -> xr.Dataset:
    """Return the scores of a condition."""
    from fcx import prepare
    from fcx.faithfulness.measurement import faithfulness_scores

    methods = {f"{name} {rule}": (name, {"shunt_rule": rule}) for name in ("lrp_gamma", "lrp_zbox") for rule in RULES}
    names = ("lrp", "lrp_epsilon", "gradient", "input_x_gradient", "gradcam", "mean_activation", "occlusion")
    methods |= {name: name for name in names}
    methods |= {name: (name, {"samples": 25}) for name in ("smoothgrad", "expected_gradients")}
    for start in ("black", "mean"):
        methods[f"integrated_gradients {start}"] = "integrated_gradients", {"baseline": start, "steps": 20}
        methods[f"deeplift {start}"] = "deeplift", {"baseline": start}
    measures = "deletion,road,regions,region_ranks,completeness"
    return faithfulness_scores(
        FAMILIES, prepare("demo").sel(condition=[condition]), methods, measures,
        count=48, seed=0, steps=6, orders=2, percentages=(20, 50), fills=("blur", "mean"),
    )  # fmt: skip


def kept(folder: Path, condition: str) -> xr.Dataset:
    """Return the scores of a condition, from the folder where they are there."""
    store = folder / f"{condition}.zarr"
    if not store.exists():
        part = store.with_suffix(".part")
        measured(condition).to_zarr(part, mode="w")
        part.rename(store)
    return xr.open_zarr(store).load()


def number(row: xr.Dataset, digits: int = 3) -> str:
    """Return a difference with its interval."""
    return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*(float(row[v]) for v in ("difference", "low", "high")), d=digits)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table as Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |".replace("| --- ", "|---").replace("---|---", "---|---"))
    print()


def print_methods(scores: xr.Dataset, measures: tuple[str, ...], short: bool = False) -> None:
    """Print each method's difference to the control `random`, pooled over networks and targets."""
    from fcx.faithfulness.measurement import contrast

    pooled, rows = scores[["value"]].mean(("model", "condition", "target")), []
    for title, name in ROWS.items():
        cells = [contrast(pooled, name, "random").sel(measure=measure) for measure in measures]
        texts = [f"{float(c['difference']):+.3f}{' (0)' if c['low'] <= 0 <= c['high'] else ''}" if short else number(c)
                 for c in cells]  # fmt: skip
        rows.append([title, *texts])
    print_table(["method", *(f"`{measure}`" for measure in measures)], rows)


def print_rules(scores: xr.Dataset, name: str, measures: tuple[str, ...]) -> None:
    """Print the paired differences of the shunt rules."""
    from fcx.faithfulness.measurement import contrast

    pooled, rows = scores[["value"]].mean(("model", "condition", "target")), []
    pairs = [(f"{name} {RULES[a]}", f"{name} {RULES[b]}") for a, b in PAIRS]
    for measure in measures:
        cells = []
        for pair in pairs:
            each = contrast(scores[["value"]], *pair).sel(measure=measure)
            above, below = int((each["low"] > 0).sum()), int((each["high"] < 0).sum())
            cells.append(f"{number(contrast(pooled, *pair).sel(measure=measure), 4)}, {above} above, {below} below")
        rows.append([f"`{measure}`", *cells])
    heads = [" − ".join(RULES[i].replace("_", " ") for i in pair) for pair in PAIRS]
    print_table([f"`{name}`", *heads], rows)


def main(arguments: list[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where what was measured is kept")
    folder = parser.parse_args(arguments).folder
    warnings.simplefilter("ignore")
    plain, masked = (kept(folder, condition) for condition in ("plain", "masked"))
    for measures in (SIGNED, ABSOLUTE, REGIONS):
        print_methods(plain, measures)
    print_methods(masked, MASKED, short=True)
    residual = abs(plain["value"].sel(measure="completeness")).median(("model", "condition", "target", "sample"))
    print(*(f"{name} {size:.3f}" for name, size in zip(plain["method"].values, residual.values, strict=True)), sep=", ")
    print()
    for name in ("lrp_zbox", "lrp_gamma"):
        print_rules(plain, name, OF_RULES)
    print_rules(masked, "lrp_zbox", ("deletion_blur", "insertion_blur", "road", "road_absolute", "necessity_blur"))


if __name__ == "__main__":
    main()
