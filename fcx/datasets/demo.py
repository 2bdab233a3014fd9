"""The demo set that ships with fcx: rated synthetic faces and portraits (data/demo/SOURCES.md)."""

from __future__ import annotations

from pathlib import Path

from fcx.core.paths import DATA
from fcx.datasets.records import Record, adapter
from fcx.datasets.table import open_csv

DEMO = DATA / "demo"


@adapter("demo", takes=None)
def open_demo(path: Path, portraits: bool = True) -> list[Record]:
    """Return 412 faces with labels (split 'test') and, unless told not to, 61 portraits without."""
    records = open_csv(DEMO / "labels.csv")
    return [record for record in records if portraits or record.split != "unlabelled"]
