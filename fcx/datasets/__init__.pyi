from .pictures import SUFFIXES as SUFFIXES, read_picture as read_picture
from .records import (
    ADAPTERS as ADAPTERS,
    Record as Record,
    Source as Source,
    adapter as adapter,
    fault as fault,
    mark as mark,
    open_source as open_source,
)
