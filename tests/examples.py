"""The examples of README and docs: the Python and the commands of a page, and a folder in which they run."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))


def python_of(page: str) -> str:
    """Return the Python blocks of a page as one program."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


def commands_of(page: str) -> list[list[str]]:
    """Return the words of each command of fcx and papermill in the indented blocks of a page."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    return [shlex.split(line, comments=True) for line in re.findall(r"^    ((?:fcx|papermill) .*)", text, re.M)]


def workplace(folder: Path) -> Path:
    """Lay out what the examples name: photographs, a table of them, a network, fcx's own folders, and scores."""
    from fcx.datasets import open_source

    (folder / "photos").mkdir()
    (folder / "experiment").mkdir()
    (folder / "fcx").mkdir()
    for name in ("fcx/data", "notebooks"):  # of the package its data only, so that Python imports no copy of it
        (folder / name).symlink_to(ROOT / name)
    (folder / "experiment" / "scores").symlink_to(ROOT / "checkpoints" / "scores")
    rows = ["path,valence,arousal,expression,subject"]
    records = open_source("demo").records
    for number, record in enumerate(records[:: len(records) // 10][:10]):
        (folder / "photos" / f"{number}.jpg").symlink_to(record.read.args[0])
        rows.append(f"photos/{number}.jpg,{record.valence},{record.arousal},{record.expression},person{number // 2}")
    (folder / "faces.csv").write_text("\n".join(rows))
    page = (ROOT / "docs/your-network.md").read_text(encoding="utf-8")
    (folder / "mine.py").write_text(re.search(r"^```python\n(.*?)^```", page, re.M | re.S)[1])
    return folder
