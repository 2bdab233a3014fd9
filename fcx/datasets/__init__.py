"""Adapters, one file a format: a path in, source pictures with labels out.

A new format is one module with one function below `@adapter(name, takes)`; import it here.
"""

from fcx.datasets import demo, ferplus, table  # isort: skip  (the order in which a path is offered)
from fcx.datasets import folder  # isort: skip
from fcx.core.contract import EXPRESSIONS
from fcx.datasets.pictures import SUFFIXES, read_picture
from fcx.datasets.records import ADAPTERS, Record, Source, adapter, mark, open_source

__all__ = [
    "ADAPTERS", "EXPRESSIONS", "SUFFIXES", "Record", "Source", "adapter", "demo", "ferplus", "folder", "mark",
    "open_source", "read_picture", "table",
]  # fmt: skip
