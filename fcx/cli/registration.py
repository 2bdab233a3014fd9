"""What every command is made of: the application, the options that several share, and the decorator `command`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from typing import Annotated, get_args

import typer
import typer.core

from fcx.core.checks import read_number

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
