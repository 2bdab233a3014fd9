from .pictures import SUFFIXES, read_picture
from .records import ADAPTERS, Record, Source, adapter, fault, mark, open_source
