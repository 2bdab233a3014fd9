"""What the project promises about itself: light imports, exact versions, one vocabulary."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fcx

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "cv2", "xarray", "plotly", "zarr", "captum", "zennit", "papermill", "scipy"}


def loaded_by(statement):
    """Return the top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["fcx", "fcx.core.contract", "fcx.datasets"])
def test_importing_loads_nothing_heavy(module):
    assert not loaded_by(f"import {module}") & HEAVY


def requirements():
    """Return the names of all direct dependencies, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {re.split(r"[^A-Za-z0-9._-]", text)[0] for group in groups for text in group}


def test_what_moves_into_the_package_holds_no_code():
    """Hatchling refuses an editable install where a folder that it renames holds a module."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    moved = build["targets"]["wheel"]["sources"]
    assert moved
    assert [path for folder in moved for path in (ROOT / folder).rglob("*.py")] == []


def test_every_dependency_has_one_exact_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 and "+" not in pin[1] for pin in pins)
    names = [name.lower().replace("_", "-") for name, _ in pins]
    assert len(names) == len(set(names))
    assert {name.lower().replace("_", "-") for name in requirements()} <= set(names)


def test_versions_agree():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fcx.__version__}\n" in cited
    assert f"## {fcx.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def definitions():
    """Yield (module, name) of every public function and class, less commands and what a decorator registers."""
    for name in module_names():
        source = importlib.util.find_spec(name).origin
        for node in ast.parse(Path(source).read_text(encoding="utf-8")).body:
            decorators = [ast.unparse(each).split("(")[0] for each in getattr(node, "decorator_list", [])]
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and set(decorators) <= {"dataclass", "cache"}:
                yield name, node.name


def test_a_public_name_means_one_thing():
    rooms = {name.split(".")[-1] for name in module_names()}
    homes = {}
    for module, name in definitions():
        if not name.startswith("_"):
            homes.setdefault(name, []).append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1 or name in rooms} == {}


def test_modules_load_on_first_use():
    assert "cv2" not in loaded_by("import fcx; fcx.datasets")
    assert {"cv2", "torch"} <= loaded_by("import fcx; fcx.masks.style; fcx.attribution.METHODS")


def test_what_is_stored_of_an_experiment_is_read_without_torch():
    names = "read_study, drawn_scores, table3, claim_table, differences_table, forgetting_table, ladder_reasons"
    assert "torch" not in loaded_by(f"from fcx.studies import {names}")


def test_torchvision_can_be_imported_after_networks_which_do_not_import_it():
    assert "torchvision" not in loaded_by("import fcx.networks")
    assert "torchvision" in loaded_by("import fcx.networks, torchvision.models")


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attribut"):
        fcx.attribut  # noqa: B018


def test_type_checkers_see_every_public_name():
    """A name that a stub imports without `as` is private to it."""
    for stub in (ROOT / "fcx").rglob("__init__.pyi"):
        nodes = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
        assert [alias.name for node in nodes for alias in node.names if alias.asname != alias.name] == []


def public_functions():
    """Yield (name, function) of every function in a stub of public names, and of the methods of classes there."""
    for stub in sorted((ROOT / "fcx").rglob("__init__.pyi")):
        room = ".".join(stub.parent.relative_to(ROOT).parts)
        nodes = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
        for module, alias in ((node.module, alias) for node in nodes if node.module for alias in node.names):
            public = getattr(importlib.import_module(f"{room}.{module}"), alias.name)
            parts = vars(public).items() if inspect.isclass(public) else [("", public)]
            for name, part in parts:
                function = getattr(part, "__func__", getattr(part, "fget", part))
                if inspect.isfunction(function) and "<lambda>" not in function.__qualname__ and name[:1] != "_":
                    yield f"{room}.{alias.name} {name}".strip(), function


def test_public_functions_say_what_they_take_and_return():
    silent = {}
    for name, function in public_functions():
        signature = inspect.signature(function)
        hints = {key: value.annotation for key, value in signature.parameters.items() if key not in ("self", "cls")}
        hints["return"] = signature.return_annotation
        if missing := [key for key, hint in hints.items() if hint is inspect.Parameter.empty]:
            silent[name] = missing
    assert len(list(public_functions())) > 100
    assert silent == {}


def module_names():
    """Return the names of all modules of fcx, without importing any."""
    paths = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / "fcx").rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
