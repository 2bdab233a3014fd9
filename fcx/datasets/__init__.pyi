from .pictures import SUFFIXES, read_picture
from .records import ADAPTERS, Record, Source, adapter, mark, open_source
