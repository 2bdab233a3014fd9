"""Datasets of scores and of statistics print what people ask of them first, a table; they stay plain Datasets.

xarray has no place to say how a Dataset is printed, and takes a class of its own for another thing than a Dataset
(`xarray.testing` compares types). So where this module is loaded, `print` looks here first; what has no such table
prints as xarray prints it.
"""

from __future__ import annotations

import pandas as pd
import xarray as xr

WHOLE = "An xarray Dataset ({dims}) with {count} variables, which info() lists."


def printed_table(dataset: xr.Dataset) -> tuple[pd.DataFrame, str] | None:
    """Return a table of numbers with their intervals, and what they are, or None where there is nothing to tabulate."""
    if {"ccc", "ccc_low", "ccc_high"} <= set(dataset.data_vars):
        frame = _with_intervals(dataset, "ccc", "target")
        of = f", on {_ends(dataset['n'])} faces" if "n" in dataset else ""
        caption = f"CCC of predictions and ratings (1 is perfect, 0 none) with 95 % intervals{of}."
    elif {"density_mean", "density_low", "density_high"} <= set(dataset.data_vars):
        frame = _with_intervals(dataset, "density_mean", "region")
        caption = "Attribution of a region over what its area alone would have, with 95 % intervals."
    else:
        return None
    return None if frame is None else (frame, caption)


def _with_intervals(dataset: xr.Dataset, name: str, columns: str) -> pd.DataFrame | None:
    """Return a row for each cell and a column for each of `columns`, as '0.61 [0.52, 0.68]'."""
    stem = name.removesuffix("_mean")
    values = dataset[[name, f"{stem}_low", f"{stem}_high"]]
    if columns not in values.dims or len(values.dims) < 2:
        return None
    order = [dim for dim in values.dims if dim != columns] + [columns]
    frame = values.reset_coords(drop=True).to_dataframe(dim_order=order)
    words = frame.apply(lambda row: "{:.2f} [{:.2f}, {:.2f}]".format(*row), axis=1)
    table = words.unstack(columns).reindex(columns=dataset[columns].values)
    table = table.reindex(list(dict.fromkeys(words.index.droplevel(columns))))
    table.index.names = [dim for dim in order if dim != columns]
    return table


def _ends(n) -> str:
    return " to ".join(dict.fromkeys((str(int(n.min())), str(int(n.max())))))


def _whole(dataset: xr.Dataset) -> str:
    dims = ", ".join(f"{name}: {size}" for name, size in dataset.sizes.items())
    return WHOLE.format(dims=dims, count=len(dataset.data_vars))


def _printed(dataset: xr.Dataset) -> str:
    if (table := printed_table(dataset)) is None:
        return _as_xarray(dataset)
    frame, caption = table
    return f"{frame.to_string()}\n\n{caption}\n{_whole(dataset)}"


_as_xarray, xr.Dataset.__repr__ = xr.Dataset.__repr__, _printed
