from .landmark_shift import mask_shift
from .leakage import leakage_audit
from .options import MASK_OPTIONS, MaskOptions, mask_options
from .published import paste_published
from .shapes import FITS, SHAPES, WEARINGS, Shape
from .styles import COLOURS, STYLES, Style, picture_style, style
from .wear import Look, choose_look, composite, paint_mask, wear_mask
