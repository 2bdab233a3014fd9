"""Commands that write pages: explore, report, export."""

from __future__ import annotations

from typing import Annotated

import typer

from fcx.cli.registration import Models, command
from fcx.core.checks import whole_number
from fcx.core.errors import InputError


@command()
def explore(
    out: Annotated[str, typer.Argument(help="the page to write, such as explorer.html")],
    faces: Annotated[str, typer.Option(help="a store that fcx prepare wrote, or any source of fcx prepare")] = "demo",
    results: Annotated[str, typer.Option(help="a store that fcx attribute wrote of these faces; else it is made")] = "",
    models: Models = "",
    methods: Annotated[str, typer.Option(help="comma-separated")] = "lrp_gamma",
    count: Annotated[int, typer.Option(help="faces in the page, at most; means are over all")] = 24,
    runs: Annotated[str, typer.Option(help="the folder that keeps prepared faces and results")] = "runs",
):
    """Write a page in which faces, maps and regions are explored by hand; it needs no kernel and no network."""
    import fcx
    from fcx.attribution.registry import METHODS
    from fcx.attribution.request import chosen_names
    from fcx.datasets.face_stores import stored_faces
    from fcx.networks.resolving import resolve_models
    from fcx.networks.shipped_networks import first_seeds
    from fcx.reporting.notebook_inputs import stored_results

    whole_number(count, "count")
    chosen_names(methods, METHODS, "method"), resolve_models(models or None)  # before faces are prepared
    chosen = stored_faces(faces, runs)
    made = (
        fcx.open_results(results)
        if results
        else stored_results(models or ",".join(first_seeds()), chosen, methods, runs)
    )
    typer.echo(fcx.explore(chosen, made).write(out, count))


@command()
def report(
    models: Annotated[str, typer.Option(help="names or files of checkpoints, or package.module:function, "
                                        "comma-separated; default: those that ship")] = "",
    faces: Annotated[str, typer.Option(help="'demo', a folder of pictures, a CSV, or a store that fcx prepare wrote; "
                                       "default: demo")] = "",
    out: Annotated[str, typer.Option(help="folder for the reports")] = "reports",
    notebooks: Annotated[str, typer.Option(help="comma-separated names or files; default: 01 to 05, the last in a "
                                           "small version")] = "",
    parameters: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE of the notebooks, such as draws=500")
    ] = None,
):  # fmt: skip
    """Run the notebooks and write self-contained HTML reports with an index; prints the index's path."""
    import fcx
    from fcx.reporting import NOTEBOOKS

    given = {name: value for name, value in {"models": models, "faces": faces}.items() if value}
    for parameter in parameters or []:
        name, sign, value = parameter.partition("=")
        if not sign:
            raise InputError(f"parameter {parameter!r}: give NAME=VALUE, such as faces=demo")
        given[name] = value
    typer.echo(fcx.report(out, notebooks=notebooks or NOTEBOOKS, **given))


@command()
def export(
    notebooks: Annotated[list[str], typer.Argument(help="executed notebooks, such as those that papermill wrote")],
    out: Annotated[str | None, typer.Option(help="folder for the pages; default: that of each notebook")] = None,
):
    """Write the HTML page of notebooks that were run before, without running them again; prints the pages' paths."""
    from fcx.reporting import export_notebooks

    for path in export_notebooks(notebooks, out):
        typer.echo(path)
