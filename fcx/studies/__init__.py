"""The questions of the paper, asked with the rooms above: what training on masks gains, loses, costs, and why."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
