"""Commands for faces: mask, prepare, predict."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from fcx.cli.printing import print_outcome, print_rows, say_counts, say_several
from fcx.cli.registration import Crop, Models, Overwrite, Several, SourceArgument, Workers, command
from fcx.core.checks import choose
from fcx.core.errors import FaceError
from fcx.masks.options import MaskOptions


@command(MaskOptions)
def mask(
    source: SourceArgument,
    out: Annotated[str, typer.Argument(help="folder for the masked pictures (or a picture, for one picture)")],
    several: Annotated[
        str, typer.Option(help="more than one face in a picture: mask the 'largest' or 'all', or 'refuse'")
    ] = "largest",
    workers: Workers = 1,
    overwrite: Overwrite = False,
    **options,
):
    """Write pictures with masks on their faces: same names, same size; masks.csv has a row for every input."""
    from fcx.datasets.masked_folder import mask_pictures

    rows = mask_pictures(source, out, several=several, workers=workers, overwrite=overwrite, **options)
    if several == "largest":
        counts = {row["path"]: int(row["faces_found"] or 0) for row in rows if row["status"] == "ok"}
        say_several(counts, "wears a mask", "--several all masks every face, refuse leaves such pictures out")
    print_outcome({row["path"]: row["status"] for row in rows}, "masked", out)


@command(MaskOptions)
def prepare(
    source: SourceArgument,
    out: Annotated[str, typer.Argument(help="the store to write, a folder such as faces.zarr")],
    crop: Crop = "face",
    backend: Annotated[
        str,
        typer.Option(
            help="landmarks: mesh finds the faces; given takes the box or the points of "
            "the data set, where one face of several is rated; face-alignment "
            "needs its weights"
        ),
    ] = "mesh",
    several: Several = "largest",
    pictures: Annotated[bool, typer.Option(help="keep colour pictures for display")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="stop at a faulty row, which else has its reason")] = False,
    split: Annotated[
        str | None, typer.Option(help="0.8,0.2: train, validation (, test) where the source has no splits; by subject")
    ] = None,
    split_seed: Annotated[int, typer.Option(help="seed by which splits are drawn")] = 0,
    of: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: an option of the data set, such as images=original or every=10"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="only the first so many")] = None,
    masks: Annotated[
        str | None, typer.Option(help='JSON file of several masks: {"jaw": {"style": "mixed", "fit": "jaw"}, ...}')
    ] = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    **options,
):
    """Detect, crop and mask faces, and store them for training and analysis; an interrupted run goes on."""
    import fcx
    from fcx.core.contract import good
    from fcx.datasets.usable_faces import coverage_rows

    own = {field.name: field.default for field in dataclasses.fields(MaskOptions)}
    options = {name: value for name, value in options.items() if value != own[name]}
    options |= _pairs(of or [])
    faces = fcx.prepare(source, out, crop=crop, backend=backend, several=several, pictures=pictures, strict=strict,
                        split=split, split_seed=split_seed, limit=limit, masks=masks, workers=workers,
                        overwrite=overwrite, **options)  # fmt: skip
    ok, names = good(faces), faces["sample"].values
    bad = (~ok.all(axis=0)).nonzero()[0]
    reasons = faces["status"][:, bad].values[(~ok[:, bad]).argmax(axis=0), range(len(bad))]
    chosen = dict.fromkeys(names.tolist(), "ok") | dict(zip(names[bad].tolist(), reasons.tolist(), strict=True))
    rows = [{"coverage": "" if row["by"] == "all" else f"by {row['by']}", "": row["group"], "given": row["given"],
             "usable": row["usable, paired"], "%": f"{row['coverage %']:.1f}"}
            for row in coverage_rows(faces) if row["given"]]  # fmt: skip
    print_rows(rows, "given", "usable", "%")
    counts = dict(zip(names[ok[0]].tolist(), faces["faces_found"].values[ok[0]].tolist(), strict=True))
    say_several(counts, "is used", "--several refuse leaves such pictures out")
    say_counts(json.loads(faces.attrs.get("counts", '{"rows": 0}')))
    print_outcome(chosen, "prepared", out)


@command()
def predict(
    photo: Annotated[str, typer.Argument(help="a picture, or a folder of pictures")],
    out: Annotated[Path, typer.Option(help="folder for the pictures that explain the predictions")] = Path("."),
    models: Models = "",
    method: Annotated[str, typer.Option(help="attribution method")] = "lrp_zbox",
    several: Several = "largest",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
):
    """Print what each model answers to a photograph, plain and masked, and draw what it looks at."""
    import fcx
    from fcx.attribution import METHODS
    from fcx.core.contract import usable
    from fcx.core.files import replacing
    from fcx.figures.one_picture import photograph_panel
    from fcx.networks.inputs import UNKNOWN, all_outputs, crop_of, outputs_of
    from fcx.networks.resolving import resolve_models

    choose(method, METHODS, "method")
    resolved = resolve_models(models or None)
    crop = next((crop for crop in map(crop_of, resolved.values()) if crop != UNKNOWN), "face")
    faces = fcx.prepare(photo, crop=crop, several=several)
    good = usable(faces)
    reasons = zip(faces["sample"].values[~good], faces["status"].values[0][~good], strict=True)
    bad = [f"{name}: {reason}" for name, reason in reasons]
    if not good.any():
        raise FaceError("; ".join(bad[:5]))
    for words in bad:
        typer.echo(f"fcx: {words}", err=True)
    faces = faces.isel(sample=good)
    counts = dict(zip(faces["sample"].values.tolist(), faces["faces_found"].values.tolist(), strict=True))
    say_several(counts, "is shown", "--several refuse leaves such pictures out")
    results = fcx.attribute(resolved, faces, [method])
    rows = []
    for index, sample in enumerate(faces["sample"].values.tolist()):
        stem = Path(sample).with_suffix("").as_posix().replace("/", "_")
        target = out / f"{stem}-fcx.png"
        if str(target) in {row["picture"] for row in rows}:  # x.jpg beside x.png
            target = out / f"{stem}-{index + 1}-fcx.png"
        with replacing(target) as temporary:
            photograph_panel(faces, results, method, index).save(temporary)
        for model in results["model"].values.tolist():
            for condition in results["condition"].values.tolist():
                at = results["prediction"].isel(sample=index).sel(model=model, condition=condition)
                values = {name: float(at.sel(target=name)) for name in outputs_of(resolved[model])}
                rows.append({"photo": sample, "model": model, "condition": condition, **values, "picture": str(target)})
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for sample in dict.fromkeys(row["photo"] for row in rows):
        those = [row for row in rows if row["photo"] == sample]
        typer.echo(sample)
        outputs = all_outputs(resolved.values())
        print_rows([{"model": row["model"], "condition": row["condition"],
                 **{name: f"{row[name]:+.2f}" if name in row else "" for name in outputs}}
                for row in those], *outputs)  # fmt: skip
        typer.echo(those[0]["picture"])


def _pairs(texts: list[str]) -> dict:
    """Return options that were written NAME=VALUE; whole numbers are numbers."""
    pairs = dict(text.partition("=")[::2] for text in texts)
    return {name.strip().replace("-", "_"): int(value) if value.isdecimal() else value for name, value in pairs.items()}
