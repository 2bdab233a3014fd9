"""Reading one picture from disk, whatever its kind."""

from __future__ import annotations

import contextlib
import os
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fcx.core.errors import ImageError

LIMIT = 80_000_000  # pixels; 240 MB as RGB. Larger ones are more likely an attack or a scan than a face.
BYTES = 1_000_000_000  # of a file: twice what so many pixels of 16 bits take without compression

# Only formats whose decoders read the given bytes and nothing else (EPS would start another program).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".pgm", ".ppm", ".pnm", ".jp2", ".avif"}
)


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Return a picture file as RGB uint8 (row, column, channel).

    EXIF orientation is honoured, 16-bit pixels are scaled to 8 bits, transparency is laid on white,
    and of an animation the first frame is taken.

    Raises: ImageError, one sentence with the file and the reason, for everything that is no picture.

    >>> from fcx.datasets import open_source
    >>> read_picture(open_source("demo").records[0].read.args[0]).shape
    (224, 224, 3)
    """
    file, path = Path(path), os.fsencode(path).decode("utf-8", "backslashreplace")  # the text goes into messages
    try:
        if file.exists() and not file.is_file():  # reading a pipe or a device may never end
            raise ImageError(f"{path} cannot be read as a picture: it is not a file")
        if (size := file.stat().st_size) > BYTES:
            raise ImageError(
                f"{path} cannot be read as a picture: it has {size / 1e9:.1f} GB, the limit is {BYTES / 1e9:.0f}"
            )
        data = file.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {_cause(error)}") from error
    if not data:
        raise ImageError(f"{path} cannot be read as a picture: the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on odd metadata; what matters is raised
            return _decode(data)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, IndexError ...
        raise ImageError(f"{path} cannot be read as a picture: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return in words why a picture could not be decoded."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file, or its start is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {LIMIT / 1e6:.0f} megapixels"
    return f"it is damaged or cut off ({_cause(error)})"


def _cause(error: Exception) -> str:
    """Return the text of a dependency's error as part of a sentence."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.strip().rstrip(".").replace("\n", " ")


def _decode(data: bytes) -> np.ndarray:
    """Return the pixels of an encoded picture, RGB uint8 (row, column, channel)."""
    image = Image.open(BytesIO(data), formats=FORMATS)
    if image.width * image.height > LIMIT:
        raise ImageError(
            f"it has {image.width}x{image.height} pixels, the limit is {LIMIT / 1e6:.0f} megapixels: make it smaller"
        )
    return pixels_of(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return the pixels of a PIL image as RGB uint8 (row, column, channel), as `read_picture` does.

    Raises: ImageError for pixels without a range; what the decoder raises.
    """
    image.load()
    # A damaged EXIF block leaves the pixels as they are: turn the picture only where the block can be read.
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit grey values to uint8."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ImageError("its pixels are floating-point or 32-bit numbers without a stated range: save it with 8 bits")
    return np.round(values / 257).astype(np.uint8)


def enlarge(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return a grey crop (row, column) uint8 as RGB (row, column, channel) of `size` pixels, bicubic."""
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).convert("RGB"))
