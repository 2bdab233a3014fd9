"""A page for each room of fcx, from its docstrings: a hook of MkDocs.

A room with a stub of public names shows these, another one all of its modules.
"""

import ast
from pathlib import Path

from mkdocs.structure.files import File

HOUSE = Path(__file__).parents[2] / "fcx"


def on_files(files, config):
    """Add `api/ROOM.md` for the door and for every room."""
    for folder in (HOUSE, *(path.parent for path in sorted(HOUSE.glob("*/__init__.py")))):
        name = ".".join(folder.relative_to(HOUSE.parent).parts)
        entries = "\n\n".join(f"::: {entry}" for entry in public_names(folder, name))
        first = "" if folder == HOUSE else ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        files.append(File.generated(config, f"api/{folder.name}.md", content=f"# {name}\n\n{first}\n\n{entries}\n"))
    return files


def public_names(folder: Path, name: str) -> list[str]:
    """Return the paths of what a room offers, in the order of its stub."""
    stub = folder / "__init__.pyi"
    if not stub.exists():
        return [f"{name}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"] or [name]
    nodes = [node for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    return [f"{name}.{node.module}.{alias.name}" for node in nodes if node.module for alias in node.names]
