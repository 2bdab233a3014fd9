"""Results -> Plotly figures that carry an alternative text and the table of their numbers; tables; findings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
