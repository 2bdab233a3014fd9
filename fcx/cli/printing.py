"""What commands print: tables, how many inputs were used, and why others were not."""

from __future__ import annotations

import typer


def say_counts(counts: dict[str, int]) -> None:
    """Say how many rows of a source have no labels to learn from, and why."""
    rows = counts.pop("rows")
    if parts := [f"{count} {what}" for what, count in counts.items() if count]:
        typer.echo(f"fcx: of {rows} rows, {', '.join(parts)}", err=True)


def say_several(counts: dict[str, int], what: str, choice: str) -> None:
    """Say in which pictures only the largest of several faces was used, and what else could be done."""
    more = {name: count for name, count in counts.items() if count > 1}
    for name, count in list(more.items())[:10]:
        typer.echo(f"fcx: {one_line(name)}: {count} faces found, only the largest {what}", err=True)
    if len(more) > 10:
        typer.echo(f"fcx: and {len(more) - 10} more pictures of several faces", err=True)
    if more:
        typer.echo(f"fcx: {choice}", err=True)


def print_rows(rows: list[dict], *numbers: str) -> None:
    """Print rows under the names of their columns, of which `numbers` are aligned to the right, as wide as it is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in rows[0]:
        table.add_column(name, justify="right" if name in numbers else "left")
    for row in rows:
        table.add_row(*(one_line(str(value)) for value in row.values()))
    Console(width=1000, color_system=None, markup=False, emoji=False, highlight=False).print(table)


def print_outcome(status: dict[str, str], what: str, out: str) -> None:
    """Print how many inputs were used, and why the others were not."""
    bad = {name: reason for name, reason in status.items() if reason != "ok"}
    for name, reason in list(bad.items())[:10]:
        typer.echo(f"fcx: {one_line(name)}: {one_line(reason)}", err=True)
    if len(bad) > 10:
        typer.echo(f"fcx: and {len(bad) - 10} more, each with its reason in {out}", err=True)
    good = len(status) - len(bad)
    typer.echo(f"{out}: {good} of {len(status)} {what} ({100 * good / len(status):.1f} %)")
    if not good:
        raise typer.Exit(2)


def one_line(text: str) -> str:
    """Return a text with what would move or colour the terminal (a file's name may hold it) written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
