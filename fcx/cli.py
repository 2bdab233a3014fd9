"""The command `fcx`: one library call per command, progress on stderr, exit code 2 for bad input."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, get_args

import typer
import typer.core

from fcx.core.checks import choose, read_number
from fcx.core.errors import FcxError
from fcx.core.recipes import RECIPES, Recipe
from fcx.masks.options import MaskOptions

app = typer.Typer(
    help="Where does a network that reads facial expressions look, and what changes under a mask?",
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

SourceArgument = Annotated[
    str, typer.Argument(help="'demo', a folder of pictures, a CSV, a FER+ array (.npz), or a picture")
]
Faces = Annotated[str, typer.Argument(help="a store that fcx prepare wrote, or any source of fcx prepare")]
Models = Annotated[
    str, typer.Option(help="names or files of checkpoints, or package.module:function (with its weights: "
                           "@weights.safetensors), comma-separated; all: every training that ships; default: the "
                           "first of each family")
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="seed of what is random")]
Several = Annotated[str, typer.Option(help="more than one face in a picture: 'largest' or 'refuse'")]
Crop = Annotated[str, typer.Option(help="crop rule: face, upright, whole")]
Workers = Annotated[int, typer.Option(help="processes that work side by side")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
Device = Annotated[str, typer.Option(help="cpu, or cuda where there is one")]


# What the help of a command names: command -> {heading: (module, registry)}; read when the help is asked for.
STYLES, SOURCES = {"mask styles": ("fcx.masks", "STYLES")}, {"formats of sources": ("fcx.datasets", "ADAPTERS")}
METHODS = {"methods": ("fcx.attribution", "METHODS")}
RULES = {"rules for the shunt": ("fcx.attribution.lrp_rules", "SHUNT_RULES")}
NAMED = {
    "mask": STYLES | SOURCES,
    "prepare": STYLES | SOURCES,
    "predict": METHODS,
    "attribute": METHODS | RULES,
    "explore": METHODS,
}


class NamedInHelp(typer.core.TyperCommand):
    """A command whose help ends with the names that its registries hold."""

    def format_epilog(self, ctx, formatter) -> None:
        """Write the names under their headings."""
        for heading, (module, registry) in NAMED.get(self.name, {}).items():
            with formatter.section(heading.capitalize()):
                formatter.write_text(", ".join(getattr(import_module(module), registry)))


def command(fields_of: type | None = None, named: Mapping | None = None) -> Callable:
    """Register the function below as a command, which takes the fields of a dataclass as options too, as keywords.

    Where several of the dataclass are `named`, an option that is not given is None, and its help says what each has.
    Numbers are read as they are written: 0_1 is none.
    """

    def described(field) -> inspect.Parameter:
        kind, default, text = type(field.default), field.default, field.metadata["help"]
        if named:
            kind, default = kind | None, None
            text += f" ({', '.join(f'{name}: {getattr(each, field.name)}' for name, each in named.items())})"
        return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default,
                                 annotation=Annotated[kind, typer.Option(help=text)])  # fmt: skip

    def register(function: Callable) -> Callable:
        signature = inspect.signature(function, eval_str=True)
        taken = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        fields = dataclasses.fields(fields_of) if fields_of else ()
        taken += [described(field) for field in fields if field.metadata]
        for kind, option in (get_args(each.annotation) for each in taken):
            for number in {int, float} & {kind, *get_args(kind)}:
                option.parser, option.metavar = READERS[number], f"<{number.__name__}>"
        function.__signature__ = signature.replace(parameters=taken)
        return app.command(cls=NamedInHelp)(function)

    return register


def _reader(kind: type, what: str) -> Callable:
    def read(text: str):
        try:
            read_number(str(text))  # which is stricter than int and float
            return kind(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no {what}") from None

    return read


READERS = {int: _reader(int, "whole number"), float: _reader(float, "number")}


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fcx {metadata.version('fcx-faces')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
): ...


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
        _say_several(counts, "wears a mask", "--several all masks every face, refuse leaves such pictures out")
    _summary({row["path"]: row["status"] for row in rows}, "masked", out)


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
    _table(rows, "given", "usable", "%")
    counts = dict(zip(names[ok[0]].tolist(), faces["faces_found"].values[ok[0]].tolist(), strict=True))
    _say_several(counts, "is used", "--several refuse leaves such pictures out")
    _say_counts(json.loads(faces.attrs.get("counts", '{"rows": 0}')))
    _summary(chosen, "prepared", out)


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
    from fcx.core.errors import FaceError
    from fcx.core.files import replacing
    from fcx.figures.one_picture import photograph_panel
    from fcx.networks.checkpoints import resolve_models
    from fcx.networks.inputs import UNKNOWN, all_outputs, crop_of, outputs_of

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
    _say_several(counts, "is shown", "--several refuse leaves such pictures out")
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
        _table([{"model": row["model"], "condition": row["condition"],
                 **{name: f"{row[name]:+.2f}" if name in row else "" for name in outputs}}
                for row in those], *outputs)  # fmt: skip
        typer.echo(those[0]["picture"])


@command(Recipe, RECIPES)
def train(
    faces: Annotated[str, typer.Argument(help="a store that fcx prepare wrote, with splits train and validation")],
    out: Annotated[str, typer.Argument(help="the checkpoint to write (.safetensors)")],
    condition: Annotated[str, typer.Option(help="what it learns on: plain, masked, or another of the faces")] = "plain",
    scheme: Annotated[
        str,
        typer.Option(
            help="what is changed: scratch and all_layers everything, last_conv the last convolution "
            "and what follows, head the dense layers"
        ),
    ] = "scratch",
    start: Annotated[str | None, typer.Option(help="checkpoint to start from (all schemes but scratch)")] = None,
    recipe: Annotated[str, typer.Option(help="modern or paper; what it says can be changed one by one:")] = "modern",
    preset: Annotated[str | None, typer.Option(help="paper, code2020 or v1")] = None,
    width: Annotated[int | None, typer.Option(help="channels of the last convolution")] = None,
    hidden: Annotated[int | None, typer.Option(help="units of a hidden layer")] = None,
    layers: Annotated[int | None, typer.Option(help="hidden layers, 1 to 3")] = None,
    batch_norm: Annotated[bool | None, typer.Option(help="batch norm after conv1 to conv9")] = None,
    shuffled_labels: Annotated[
        bool, typer.Option("--shuffled-labels", help="a control: each training face gets the labels of another")
    ] = False,
    train_faces: Annotated[int | None, typer.Option(help="only so many training faces, drawn by the seed")] = None,
    seed: Seed = 0,
    threads: Annotated[int | None, typer.Option(help="processor threads")] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    **changes,
):
    """Train a FaceChannel; the same command after an interruption goes on where it stopped."""
    import fcx

    model = fcx.train(
        fcx.open_faces(faces), out, condition=condition, scheme=scheme, start=start, recipe=recipe, preset=preset,
        width=width, hidden=hidden, layers=layers, batch_norm=batch_norm, shuffled_labels=shuffled_labels,
        train_faces=train_faces, seed=seed, threads=threads, device=device, overwrite=overwrite,
        **{name: value for name, value in changes.items() if value is not None},
    )  # fmt: skip
    if int(os.environ.get("RANK", 0)):  # of several processes that train together the first one says how well
        return
    _table([{"condition": name, "target": target, "CCC": f"{score['ccc']:.3f}",
             "95 % interval": f"[{score['low']:.3f}, {score['high']:.3f}]"}
            for name, scores in model.metadata["scores"]["validation"].items()
            for target, score in scores.items()], "CCC")  # fmt: skip
    typer.echo(out)


@command(Recipe, RECIPES)
def search(
    faces: Annotated[str, typer.Argument(help="a store that fcx prepare wrote, with splits train and validation")],
    out: Annotated[str, typer.Argument(help="folder for the study and its tables")],
    trials: Annotated[int, typer.Option(help="trials in all")] = 40,
    condition: Annotated[str, typer.Option(help="what is learnt: plain, masked, or another of the faces")] = "plain",
    features: Annotated[
        str | None, typer.Option(help="checkpoint whose frozen part is kept, computed once; else all is trained")
    ] = None,
    scheme: Annotated[str, typer.Option(help="with features, what is trained: last_conv or head")] = "last_conv",
    width: Annotated[int | None, typer.Option(help="channels of the last convolution (32)")] = None,
    recipe: Annotated[str, typer.Option(help="modern or paper; what it says can be changed one by one:")] = "modern",
    train_faces: Annotated[int | None, typer.Option(help="only so many faces to learn, drawn by the seed")] = None,
    seed: Seed = 0,
    workers: Workers = 1,
    device: Device = "cpu",
    **changes,
):
    """Search hidden layers, units, learning rate and optimiser, as Table 1 of the paper, beside the paper's choice.

    Several such commands on one folder share the work; after an interruption the same command goes on.
    """
    import fcx
    from fcx.networks.search import choices_table
    from fcx.networks.search import search as run_search

    searched = run_search(
        fcx.open_faces(faces), out, trials=trials, condition=condition, features=features, scheme=scheme, width=width,
        recipe=recipe, train_faces=train_faces, seed=seed, workers=workers, device=device,
        **{name: value for name, value in changes.items() if value is not None},
    )  # fmt: skip
    counts = searched.trials.state.value_counts().to_dict()
    typer.echo(f"{out}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    _table([{"choice": row.choice, "layers": row.layers, "units": row.hidden, "optimiser": row.optimiser,
             "learning rate": f"{row.learning_rate:.4g}", "CCC arousal": f"{row.arousal:.3f}",
             "valence": f"{row.valence:.3f}", "mean": f"{row.ccc:.3f} [{row.lowest:.3f}, {row.highest:.3f}]"}
            for row in choices_table(searched).itertuples()], "layers", "units", "learning rate")  # fmt: skip
    typer.echo(
        "CCC on the split validation, which chose nothing: mean, lowest and highest of trainings with fresh seeds"
    )


@command()
def experiment(
    faces: Annotated[
        str, typer.Argument(help="a store with splits train and validation; without splits, what ships is scored")
    ],
    out: Annotated[str, typer.Argument(help="folder for checkpoints, predictions with ids, and the report")],
    parts: Annotated[str, typer.Option(help="comma-separated: table2, ladder, efficiency")] = "table2",
    seeds: Annotated[int, typer.Option(help="trainings of each family")] = 3,
    width: Annotated[int, typer.Option(help="of the networks of table2; those of other parts have half of it")] = 64,
    models: Annotated[
        str, typer.Option(help="names or files of checkpoints to score, comma-separated; nothing is trained then")
    ] = "",
    also: Annotated[str, typer.Option(help="more sources of faces to score, comma-separated, such as demo")] = "",
    recipe: Annotated[str, typer.Option(help="modern or paper")] = "modern",
    epochs: Annotated[int | None, typer.Option(help="of a training from scratch; six tenths where it is tuned")] = None,
    batch_size: Annotated[int | None, typer.Option(help="faces in a batch")] = None,
    workers: Annotated[int, typer.Option(help="trainings that run side by side, of one thread each")] = 1,
    device: Device = "cpu",
    report: Annotated[bool, typer.Option(help="write the report, OUT/02_training.html")] = True,
):
    """Do the paper's experiment: train what is missing of Table 2 with seeds, score it, and answer claims (a) to (d).

    The same command after an interruption goes on where it stopped.
    """
    import fcx
    from fcx.studies import claim_table, drawn_scores, has_labels, overall, table3

    study = fcx.experiment(faces, out, parts=parts, seeds=seeds, width=width, models=models or None,
                           also=[name for name in also.split(",") if name], recipe=recipe, epochs=epochs,
                           batch_size=batch_size, workers=workers, device=device)  # fmt: skip
    for title, part in study.scores:
        if part == "table2" and has_labels(study.scores[title, part]):
            drawn = drawn_scores(study.scores[title, part])
            typer.echo(f"\n{title}: CCC with 95 % intervals over faces and seeds, and the paper's on its own faces")
            _table([{"family": row.family, "condition": row.condition, "target": row.target,
                     "CCC": f"{row.estimate:.3f}", "interval": f"[{row.low:.3f}, {row.high:.3f}]",
                     "paper": "" if row.paper != row.paper else f"{row.paper:.2f}", "seeds": row.seeds}
                    for row in table3(drawn).itertuples()], "CCC", "paper", "seeds")  # fmt: skip
            typer.echo(f"Claims: {', '.join(f'({name}) {word}' for name, word in overall(claim_table(drawn)).items())}")
    if report:
        typer.echo(fcx.report(out, notebooks="02_training", scores=str(Path(out) / "scores")))


@command()
def plan(
    faces: Annotated[int, typer.Argument(help="how many training faces there are; AffectNet has 287651")],
    parts: Annotated[str, typer.Option(help="comma-separated: table2, ladder, efficiency")] = "table2",
    seeds: Annotated[int, typer.Option(help="trainings of each family")] = 3,
    width: Annotated[int, typer.Option(help="of the networks of table2; those of other parts have half of it")] = 64,
    recipe: Annotated[str, typer.Option(help="modern or paper")] = "modern",
    epochs: Annotated[int | None, typer.Option(help="of a training from scratch; six tenths where it is tuned")] = None,
    batch_size: Annotated[int | None, typer.Option(help="faces in a batch")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16, or float16 on a GPU")] = None,
    threads: Annotated[int | None, typer.Option(help="processor threads")] = None,
    device: Device = "cpu",
):
    """Measure how fast networks learn on this machine, and print how long an experiment would take; trains nothing."""
    from fcx.studies import training_hours

    table = training_hours(faces, parts=parts, seeds=seeds, width=width, recipe=recipe, epochs=epochs,
                           batch_size=batch_size, precision=precision, threads=threads, device=device)  # fmt: skip
    _table([{"family": row.family, "scheme": row.scheme, "width": row.width, "trainings": row.trainings,
             "epochs": row.epochs, "images/s": f"{row.images_a_second:,.0f}", "hours": f"{row.hours:,.1f}"}
            for row in table.itertuples()], "width", "trainings", "epochs", "images/s", "hours")  # fmt: skip
    typer.echo(f"{table.hours.sum():,.1f} hours, one training after the other, without validation")


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
    from fcx.core.errors import InputError
    from fcx.datasets.face_stores import stored_faces
    from fcx.networks.checkpoints import resolve_models

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
        _table([{"model": row["model"], "condition": row["condition"], "accuracy": f"{row['accuracy']:.3f}",
                 "95 % interval": f"[{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}]",
                 "faces": f"{row['accuracy_n']:.0f}"} for row in right], "accuracy", "faces")  # fmt: skip
    if not rows:
        return
    _table([{"model": row["model"], "condition": row["condition"], "target": row["target"],
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
    from fcx.networks.checkpoints import resolve_models

    how = {"out": out, "batch_size": batch_size, "store": store, "workers": workers, "rank": rank, "ranks": ranks,
           "device": device, "overwrite": overwrite, "shunt_rule": shunt_rule}  # fmt: skip
    resolved = resolve_models(models or None)
    check_request(resolved, methods, targets or None, **how)
    results = fcx.attribute(resolved, stored_faces(faces), methods, targets or None, maps=maps, **how)
    sizes = ", ".join(f"{results.sizes[name]} {name}s" for name in ("model", "condition", "method", "target", "sample"))
    typer.echo(f"{out}: {sizes}")


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
    from fcx.core.checks import whole_number
    from fcx.datasets.face_stores import stored_faces
    from fcx.networks.checkpoints import first_seeds, resolve_models
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
def onnx(
    checkpoint: Annotated[str, typer.Argument(help="name or file of a checkpoint, or package.module:function")],
    out: Annotated[str, typer.Argument(help="the file to write (.onnx)")],
    overwrite: Overwrite = False,
):
    """Write a network as ONNX, for any number of faces at once, after onnxruntime answered with it what torch does."""
    from fcx.core.errors import InputError
    from fcx.networks.checkpoints import resolve_models
    from fcx.networks.onnx_export import write_onnx

    resolved = resolve_models(checkpoint)
    if len(resolved) > 1:
        raise InputError(f"{checkpoint!r} are {len(resolved)} networks: give one")
    [model] = resolved.values()
    typer.echo(write_onnx(model, out, overwrite=overwrite))


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
    from fcx.core.errors import InputError
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


def _pairs(texts: list[str]) -> dict:
    """Return options that were written NAME=VALUE; whole numbers are numbers."""
    pairs = dict(text.partition("=")[::2] for text in texts)
    return {name.strip().replace("-", "_"): int(value) if value.isdecimal() else value for name, value in pairs.items()}


def _say_counts(counts: dict[str, int]) -> None:
    """Say how many rows of a source have no labels to learn from, and why."""
    rows = counts.pop("rows")
    if parts := [f"{count} {what}" for what, count in counts.items() if count]:
        typer.echo(f"fcx: of {rows} rows, {', '.join(parts)}", err=True)


def _say_several(counts: dict[str, int], what: str, choice: str) -> None:
    """Say in which pictures only the largest of several faces was used, and what else could be done."""
    more = {name: count for name, count in counts.items() if count > 1}
    for name, count in list(more.items())[:10]:
        typer.echo(f"fcx: {one_line(name)}: {count} faces found, only the largest {what}", err=True)
    if len(more) > 10:
        typer.echo(f"fcx: and {len(more) - 10} more pictures of several faces", err=True)
    if more:
        typer.echo(f"fcx: {choice}", err=True)


def _table(rows: list[dict], *numbers: str) -> None:
    """Print rows under the names of their columns, of which `numbers` are aligned to the right, as wide as it is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in rows[0]:
        table.add_column(name, justify="right" if name in numbers else "left")
    for row in rows:
        table.add_row(*(one_line(str(value)) for value in row.values()))
    Console(width=1000, color_system=None, markup=False, emoji=False, highlight=False).print(table)


def _summary(status: dict[str, str], what: str, out: str) -> None:
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


class _Screen(logging.Handler):
    """Shows what the library logs as "fcx: ...", above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm.std import tqdm

        tqdm.write(f"fcx: {one_line(record.getMessage())}", file=sys.stderr)


def main() -> None:
    """Run the command line; what a user gave wrong ends in one sentence and exit code 2."""
    log = logging.getLogger("fcx")
    log.handlers = [_Screen()]
    log.setLevel(logging.INFO)
    # What zarr had begun when Ctrl-C came.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    warnings.formatwarning = lambda message, *_, **__: f"fcx: {one_line(str(message))}\n"
    try:
        app(prog_name="fcx")
    except FcxError as error:
        _fail(str(error))
    except MemoryError:
        _fail("not enough memory: give smaller pictures, or fewer at once")
    except OSError as error:
        hint = ": free some space, then run the same command again" if error.errno == errno.ENOSPC else ""
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}{hint}")


def _fail(text: str) -> None:
    typer.echo(f"fcx: {text}", err=True)
    sys.exit(2)
