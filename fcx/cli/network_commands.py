"""Commands that ask networks: evaluate, attribute, and a network as a file for other runtimes, onnx."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fcx.cli.printing import print_rows
from fcx.cli.registration import Device, Faces, Models, Overwrite, Workers, command
from fcx.core.errors import InputError


@command()
def evaluate(
    faces: Faces,
    models: Models = "",
    split: Annotated[str, typer.Option(help="only the faces of this split")] = "",
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
):
    """Print the CCC of each model, or accuracy of logits, on plain and masked faces, with 95 % intervals."""
    import fcx
    from fcx.core.arguments import count
    from fcx.datasets.face_stores import stored_faces
    from fcx.networks.resolving import resolve_models

    count(draws, "draws")  # before faces are prepared
    resolved, chosen = resolve_models(models or None), stored_faces(faces)
    if split:
        rows = chosen["split"].values == split
        if not rows.any():
            raise InputError(
                f"no face has the split {split!r}: allowed: {', '.join(sorted(set(chosen['split'].values)))}"
            )
        chosen = chosen.isel(sample=rows)
    found = fcx.evaluate(fcx.predict(resolved, chosen), chosen, draws=draws)
    names = ["ccc", "ccc_low", "ccc_high", "pearson", "within_ccc", "within_ccc_low", "within_ccc_high", "n"]
    rows, right = (
        _rows(found, names, "target"),
        _rows(found, ["accuracy", "accuracy_low", "accuracy_high", "accuracy_n"]),
    )
    if as_json:
        typer.echo(json.dumps(rows + right, indent=1))
        return
    if right:
        print_rows([{"model": row["model"], "condition": row["condition"], "accuracy": f"{row['accuracy']:.3f}",
                 "95 % interval": f"[{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}]",
                 "faces": f"{row['accuracy_n']:.0f}"} for row in right], "accuracy", "faces")  # fmt: skip
    if not rows:
        return
    print_rows([{"model": row["model"], "condition": row["condition"], "target": row["target"],
             "CCC": f"{row['ccc']:.3f}", "95 % interval": f"[{row['ccc_low']:.3f}, {row['ccc_high']:.3f}]",
             "r": f"{row['pearson']:.3f}", "within expression": f"{row['within_ccc']:.3f} "
             f"[{row['within_ccc_low']:.3f}, {row['within_ccc_high']:.3f}]"} for row in rows], "CCC", "r")  # fmt: skip
    typer.echo(f"{rows[0]['n']:.0f} labelled faces")


def _rows(evaluation, names: list[str], *dims: str) -> list[dict]:
    """Return what an evaluation says of each model that it says anything of, as records."""
    if names[0] not in evaluation:
        return []
    frame = evaluation[names].to_dataframe(dim_order=["model", "condition", *dims]).reset_index()
    return frame.dropna(subset=[names[0]]).to_dict("records")


@command()
def attribute(
    faces: Faces,
    out: Annotated[str, typer.Argument(help="the store to write, a folder such as results.zarr")],
    models: Models = "",
    methods: Annotated[str, typer.Option(help="comma-separated")] = "lrp_gamma,gradient",
    targets: Annotated[
        str,
        typer.Option(
            help="comma-separated: arousal, 'valence - arousal', excitement, 'valence @ 0.2', 'happy - sad'; "
            "default: every output of the models"
        ),
    ] = "",
    shunt_rule: Annotated[str, typer.Option(help="LRP through the shunt")] = "aumann_shapley",
    batch_size: Annotated[int, typer.Option(help="faces that are read at once")] = 64,
    store: Annotated[str, typer.Option(help="maps as float32, float64, float16 or int8; default: as computed")] = "",
    maps: Annotated[bool, typer.Option(help="keep the maps, or only their statistics by region")] = True,
    workers: Workers = 1,
    rank: Annotated[
        int | None, typer.Option(help="which of several such commands on one store this is, from 0")
    ] = None,
    ranks: Annotated[int | None, typer.Option(help="how many such commands work on one store")] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
):
    """Compute attribution maps of models on faces into a store; an interrupted run goes on where it stopped."""
    import fcx
    from fcx.attribution.runner import check_request
    from fcx.datasets.face_stores import stored_faces
    from fcx.networks.resolving import resolve_models

    how = {"out": out, "batch_size": batch_size, "store": store, "workers": workers, "rank": rank, "ranks": ranks,
           "device": device, "overwrite": overwrite, "shunt_rule": shunt_rule}  # fmt: skip
    resolved = resolve_models(models or None)
    check_request(resolved, methods, targets or None, **how)
    results = fcx.attribute(resolved, stored_faces(faces), methods, targets or None, maps=maps, **how)
    sizes = ", ".join(f"{results.sizes[name]} {name}s" for name in ("model", "condition", "method", "target", "sample"))
    typer.echo(f"{out}: {sizes}")


@command()
def onnx(
    checkpoint: Annotated[str, typer.Argument(help="name or file of a checkpoint, or package.module:function")],
    out: Annotated[str, typer.Argument(help="the file to write (.onnx)")],
    overwrite: Overwrite = False,
):
    """Write a network as ONNX, for any number of faces at once, after onnxruntime answered with it what torch does."""
    from fcx.networks.onnx_export import write_onnx
    from fcx.networks.resolving import resolve_models

    resolved = resolve_models(checkpoint)
    if len(resolved) > 1:
        raise InputError(f"{checkpoint!r} are {len(resolved)} networks: give one")
    [model] = resolved.values()
    typer.echo(write_onnx(model, out, overwrite=overwrite))
