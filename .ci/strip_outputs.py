"""What git keeps of a notebook: no outputs, no counters, no notes of the front end; from stdin to stdout.

`make` sets it as git's filter for notebooks (see .gitattributes), so that a Run All leaves the tracked file as it was.
"""

import json
import sys

KEPT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}  # fmt: skip


def stripped(text: str) -> str:
    """Return the text of a notebook as it is tracked."""
    notebook = json.loads(text)
    notebook["metadata"] = KEPT
    for cell in notebook["cells"]:
        cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name in ("tags", "fcx")}
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.write(stripped(sys.stdin.read()))
