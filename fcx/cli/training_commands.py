"""Commands that train: train, search, experiment, and the plan of an experiment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fcx.cli.printing import print_rows
from fcx.cli.registration import Device, Overwrite, Seed, Workers, command
from fcx.core.recipes import RECIPES, Recipe


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
    print_rows([{"condition": name, "target": target, "CCC": f"{score['ccc']:.3f}",
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
    from fcx.networks.search import choices_table, search as run_search

    searched = run_search(
        fcx.open_faces(faces), out, trials=trials, condition=condition, features=features, scheme=scheme, width=width,
        recipe=recipe, train_faces=train_faces, seed=seed, workers=workers, device=device,
        **{name: value for name, value in changes.items() if value is not None},
    )  # fmt: skip
    counts = searched.trials.state.value_counts().to_dict()
    typer.echo(f"{out}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    print_rows([{"choice": row.choice, "layers": row.layers, "units": row.hidden, "optimiser": row.optimiser,
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
            print_rows([{"family": row.family, "condition": row.condition, "target": row.target,
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
    print_rows([{"family": row.family, "scheme": row.scheme, "width": row.width, "trainings": row.trainings,
             "epochs": row.epochs, "images/s": f"{row.images_a_second:,.0f}", "hours": f"{row.hours:,.1f}"}
            for row in table.itertuples()], "width", "trainings", "epochs", "images/s", "hours")  # fmt: skip
    typer.echo(f"{table.hours.sum():,.1f} hours, one training after the other, without validation")
