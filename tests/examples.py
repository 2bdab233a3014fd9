"""The examples of README and docs: their Python in one interpreter, their commands one by one."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_of(page: str) -> str:
    """Return the Python blocks of a page as one program."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


def commands_of(page: str) -> list[list[str]]:
    """Return the words of each line of an indented block that begins with a word of the shell."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line.strip() for line in text.splitlines() if re.match(r"    \S", line)]
    return [shlex.split(line, comments=True) for line in lines if line.split()[0] in ("fcx", "papermill")]
