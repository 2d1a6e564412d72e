"""An image is used as viewers show it, or refused in one line that names it, in little memory."""

import functools
import struct
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from PIL import Image

from bench import data
from bench.data.image_file import decode
from bench.errors import UsageError
from tests.bench.builders import png, write_images

RANDOM = np.random.RandomState(0)
RGB = RANDOM.randint(0, 256, (32, 32, 3)).astype(np.uint8)
GREY, BITS = RGB[..., 0], RGB[..., 0] > 127
PALETTE = RANDOM.randint(0, 256, (256, 3)).astype(np.uint8)
OPAQUE = np.full((32, 32, 1), 255, np.uint8)
SEE_THROUGH = OPAQUE.copy()
SEE_THROUGH[3, 5] = 254


def three(grey):
    return np.stack([grey] * 3, axis=2)


def with_palette():
    image = Image.frombytes("P", (32, 32), GREY.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def with_alpha(pixels, alpha):
    return Image.fromarray(np.concatenate([pixels.reshape(32, 32, -1), alpha], axis=2))


def sixteen_bits():
    return Image.fromarray(GREY.astype(np.uint16) * 257)


SHOWN = {
    "1": (lambda: Image.fromarray(BITS), three(BITS * np.uint8(255)), "png bmp gif tiff pbm"),
    "L": (lambda: Image.fromarray(GREY), three(GREY), "png bmp gif tiff pgm"),
    "I;16": (sixteen_bits, three(GREY), "png pgm"),
    "LA": (lambda: with_alpha(GREY, OPAQUE), three(GREY), "png tiff"),
    "P": (with_palette, PALETTE[GREY], "png bmp gif tiff"),
    "RGB": (lambda: Image.fromarray(RGB), RGB, "png PNG bmp tif tiff ppm webp"),
    "RGBA": (lambda: with_alpha(RGB, OPAQUE), RGB, "png tiff webp"),
}
"""Mode → an image, what it looks like, and the files that hold it without loss."""


@pytest.mark.parametrize(
    ("mode", "suffix"), [(mode, suffix) for mode in SHOWN for suffix in SHOWN[mode][2].split()]
)
def test_every_mode_has_the_pixels_that_a_viewer_shows(mode, suffix, tmp_path):
    make, expected, _ = SHOWN[mode]
    file = tmp_path / f"image.{suffix}"
    make().save(file, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(decode(file).transpose(1, 2, 0), expected)


@given(arrays.arrays(np.uint16, (32, 32)))
def test_sixteen_bits_of_grey_are_the_nearest_of_eight(tmp_path_factory, values):
    file = tmp_path_factory.getbasetemp() / "grey.png"
    Image.fromarray(values).save(file)
    assert np.array_equal(decode(file)[1], np.rint(values / 257))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_image_is_upright_as_its_exif_data_says(suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(RGB).save(file, exif=exif)
    assert np.array_equal(decode(file).transpose(1, 2, 0), np.rot90(RGB, -1))


def transparent_png(depth, colour_type, row, transparent):
    """A PNG of equal rows that declares a colour transparent."""
    pixels = zlib.compress((b"\0" + row) * 32)
    chunks = (b"tRNS", transparent), (b"IDAT", pixels)
    return lambda file: file.write_bytes(png(*chunks, depth=depth, colour_type=colour_type))


@functools.cache
def bomb():
    """200 MB in some 200 kB."""
    return zlib.compress(bytes(200 * 2**20), 9)


def png_bomb(kind, head=b"", *chunks, **header):
    """A PNG with a chunk that decompresses to 200 MB."""
    return lambda file: file.write_bytes(png((kind, head + bomb()), *chunks, **header))


def tiff_in_tiles_of_20000_by_20000(file):
    entries = {256: 32, 257: 32, 258: 8, 259: 8, 262: 1, 322: 20000, 323: 20000}
    entries |= {324: 8 + 2 + 12 * 9 + 4, 325: len(bomb())}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, entries[tag]) for tag in entries)
    file.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, 9) + directory + bytes(4) + bomb())


@contextmanager
def bounded_memory(megabytes=32):
    """Context in which Python and NumPy hold no more at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
    finally:
        tracemalloc.stop()


def saved(image, **options):
    return lambda file: image.save(file, **options)


PIXELS = (b"IDAT", zlib.compress(bytes(32 * 97)))
TWO = {"save_all": True, "append_images": [Image.new("RGB", (32, 32))]}
TRANSPARENT = "has transparency: put it on a background and save it without"
VIEWERS_DIFFER = "which viewers show differently: save it as a PNG in RGB with 8 bits"
PICTURES = "holds 2 pictures: save one of them alone"
REFUSED = {
    "one pixel not quite opaque.png": (saved(with_alpha(RGB, SEE_THROUGH)), TRANSPARENT),
    "opaque.webp": (saved(with_alpha(RGB, SEE_THROUGH), lossless=True), TRANSPARENT),
    "grey.png": (saved(with_alpha(GREY, SEE_THROUGH)), TRANSPARENT),
    "palette.png": (saved(with_palette(), transparency=int(GREY[0, 0])), TRANSPARENT),
    "palette.gif": (saved(with_palette(), transparency=int(GREY[0, 0])), TRANSPARENT),
    # Pillow takes none of the pixels of these three for transparent.
    "2 bits.png": (transparent_png(2, 0, b"\x55" * 8, b"\0\1"), TRANSPARENT),
    "16 bits.png": (transparent_png(16, 0, b"\1\2" * 32, b"\1\2"), TRANSPARENT),
    "48 bits.png": (transparent_png(16, 2, b"abcdef" * 32, b"abcdef"), TRANSPARENT),
    "animated.gif": (saved(Image.fromarray(RGB), **TWO), PICTURES),
    "animated.png": (saved(Image.fromarray(RGB), **TWO), PICTURES),
    "animated.webp": (saved(Image.fromarray(RGB), **TWO), PICTURES),
    "pages.tiff": (saved(Image.fromarray(RGB), **TWO), PICTURES),
    "print.jpg": (saved(Image.new("CMYK", (32, 32))), VIEWERS_DIFFER),
    "print.tiff": (saved(Image.new("CMYK", (32, 32))), VIEWERS_DIFFER),
    "lab.tiff": (saved(Image.new("LAB", (32, 32))), VIEWERS_DIFFER),
    "16 bits.tiff": (saved(sixteen_bits()), VIEWERS_DIFFER),
    "32 bits.tiff": (saved(Image.new("I", (32, 32))), VIEWERS_DIFFER),
    "real numbers.tiff": (saved(Image.new("F", (32, 32))), VIEWERS_DIFFER),
    "huge.png": (png_bomb(b"IDAT", size=(60000, 60000)), "cannot be read as an image"),
    "large.png": (png_bomb(b"IDAT", size=(10000, 10000)), "is 10000×10000 pixels, not 32"),
    "text.png": (png_bomb(b"zTXt", b"Comment\0\0", PIXELS), "cannot be read as an image"),
    "tiles.tiff": (tiff_in_tiles_of_20000_by_20000, "is a TIFF in tiles: save it as a PNG"),
    "icon.ico": (saved(Image.fromarray(RGB)), "cannot be read as an image"),
    "notes.txt": (lambda file: file.write_bytes(b"no image"), "cannot be read as an image"),
}


@pytest.mark.fault("hostile")
@pytest.mark.parametrize("name", REFUSED)
def test_image_without_one_appearance_is_refused_by_name(name, tmp_path, injected):
    make, why = REFUSED[name]
    make(tmp_path / name)
    with bounded_memory(), pytest.raises(UsageError, match=f"{name} .*{why}") as caught:
        decode(tmp_path / name)
    assert "\n" not in str(caught.value)
    injected(1, "refused in one line, nothing executed")


def test_pixels_that_go_on_after_the_image_are_not_decoded(tmp_path):
    png_bomb(b"IDAT")(tmp_path / "x.png")
    with bounded_memory():
        assert decode(tmp_path / "x.png").shape == (3, 32, 32)
    with pytest.raises(AssertionError), bounded_memory():
        bytes(2**26)


def test_files_of_every_suffix_are_images_and_the_litter_of_systems_is_none(tmp_path):
    folder = write_images(tmp_path / "images", per_class=1)
    for suffix in (".bmp", ".jfif", ""):
        Image.fromarray(RGB).save(folder / "train" / "cat" / f"0001{suffix}", "BMP")
    for litter in (".DS_Store", "._0000.png", "Thumbs.db", "desktop.ini"):
        for place in (folder, folder / "train", folder / "train" / "cat"):
            (place / litter).write_bytes(b"whatever")
    found = data.load(folder, 10, generate=False)
    assert found.train_labels.bincount().tolist() == [1, 1, 1, 4, 1, 1, 1, 1, 1, 1]
    assert np.array_equal(found.train_images[4].permute(1, 2, 0), RGB)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("train/cat/more/0.png", "train/cat/more is a folder within a class: move its images up"),
        ("train/0.png", "train/0.png lies outside the classes: move it into one"),
        ("test/cat/0001.heic", "test/cat/0001.heic cannot be read as an image"),
    ],
)
def test_every_file_in_a_data_folder_is_used_or_named(place, why, tmp_path):
    file = write_images(tmp_path / "images", per_class=1) / place
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"whatever")
    with pytest.raises(UsageError, match=why):
        data.load(tmp_path / "images", 10, generate=False)
