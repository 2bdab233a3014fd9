from .landmark_shift import mask_shift as mask_shift
from .leakage import leakage_audit as leakage_audit
from .options import MASK_OPTIONS as MASK_OPTIONS, MaskOptions as MaskOptions, mask_options as mask_options
from .published import paste_published as paste_published
from .shapes import FITS as FITS, SHAPES as SHAPES, WEARINGS as WEARINGS, Shape as Shape
from .styles import COLOURS as COLOURS, STYLES as STYLES, Style as Style, picture_style as picture_style, style as style
from .wear import (
    Look as Look,
    choose_look as choose_look,
    composite as composite,
    paint_mask as paint_mask,
    wear_mask as wear_mask,
)
