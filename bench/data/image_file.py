"""One image file, decoded to the pixels that a viewer shows."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bench.errors import UsageError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read; the suffix of the file does not matter."""

RESIZE = (
    "resize the images to that, for example with ImageMagick in the data folder: "
    "find train test -type f -exec mogrify -resize '32x32!' {} +"
)

_EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}
"""Pillow's modes that become RGB without loss."""

_SIXTEEN_BITS = {("PNG", "I;16"), ("PPM", "I")}
"""Formats and modes in which 0 is black and 65535 is white. In a TIFF white may be any number."""

_TILE_WIDTH = 322
"""The TIFF tag."""


def decode(file: Path) -> np.ndarray:
    """The RGB pixels of an image, uint8 (3, 32, 32), turned upright where EXIF data says so.

    Grey becomes three equal channels; 16 bits are scaled to 8. Raises UsageError, naming the file,
    for what is no image of 32×32 pixels and for an image that has no single appearance: several
    pictures, transparency, or colours that depend on more than the file, as in CMYK.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if reason := _unfit(image):
                raise UsageError(f"{file} {reason}")
            return _rgb(image)
    except UsageError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise exceptions of many kinds
        raise UsageError(
            f"{file} cannot be read as an image ({', '.join(FORMATS)}): replace it, or move it out "
            "of the data folder"
        ) from error


def _unfit(image: Image.Image) -> str | None:
    """Why the image cannot be used, and what to do."""
    if image.size != (32, 32):  # known from the header, before anything is decoded
        width, height = image.size
        return f"is {width}×{height} pixels, not 32×32: {RESIZE}"
    if (pictures := getattr(image, "n_frames", 1)) > 1:
        return f"holds {pictures} pictures: save one of them alone"
    if _TILE_WIDTH in getattr(image, "tag_v2", ()):  # a tile may be of any size
        return "is a TIFF in tiles: save it as a PNG"
    if image.mode not in _EIGHT_BITS and (image.format, image.mode) not in _SIXTEEN_BITS:
        return (
            f"has pixels in Pillow's mode {image.mode} ({image.format}), which viewers show "
            "differently: save it as a PNG in RGB with 8 bits"
        )
    # A colour that is declared transparent is refused unseen: Pillow misreads that of 2, 4 and 16
    # bits.
    if ("transparency" in image.info and image.mode != "P") or _lowest_alpha(image) < 255:
        return "has transparency: put it on a background and save it without"
    return None


def _lowest_alpha(image: Image.Image) -> float:
    if not image.has_transparency_data:
        return 255
    return float(np.asarray(image.convert("RGBA"))[..., 3].min())


def _rgb(image: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if image.mode in _EIGHT_BITS:
        return np.asarray(upright.convert("RGB")).transpose(2, 0, 1)
    grey = (np.asarray(upright).astype(np.int64) + 128) // 257  # v / 257, rounded
    return np.broadcast_to(grey.astype(np.uint8), (3, 32, 32))
