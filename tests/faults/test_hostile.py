"""Input that somebody made to do harm: it is refused in one line, and nothing in it is executed."""

import contextlib
import functools
import hashlib
import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import run_bench
from bench import cli, data
from bench.data import image_folder, official
from bench.errors import UsageError
from bench.training import checkpoint
from tests.bench.builders import write_images

pytestmark = pytest.mark.fault("hostile")

TINY = [
    *("--network", "resnet4", "--gradient", "anode", "--num_epochs", "1"),
    *("--train-images", "20", "--test-images", "10", "--batch_size", "10"),
]
REFUSED = "refused in one line, nothing executed"
MEGABYTE = 2**20
BOUND = 32 * MEGABYTE
"""What reading a few small images may hold at once in Python's memory, NumPy's included."""


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture
def trace(tmp_path):
    """What stands there when hostile code was executed."""
    place = tmp_path / "executed"
    yield place
    assert not place.exists()


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", per_class=1)


def refused(folder, said, tmp_path, capsys):
    """The command that is given this data folder says that in one line, and writes nothing."""
    out = tmp_path / "out"
    line = ["--suite", "cifar10-quick", "--data-dir", str(folder), "--out", str(out)]
    assert run_bench.main(line) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", error)
    assert all(character.isprintable() for character in error[:-1])
    assert said in error
    assert not out.exists()
    assert not list(tmp_path.glob("*.npz"))


# --- pickles


@pytest.mark.parametrize(
    "name", ["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch"]
)
def test_pickle_that_is_not_the_published_one_is_not_opened(
    name, tmp_path, trace, capsys, injected
):
    file = tmp_path / "official" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(Code(trace)))
    refused(
        tmp_path / "official", "are not the published ones (their MD5 differs)", tmp_path, capsys
    )
    injected(1, REFUSED)


def test_whole_checkpoint_with_code_in_it_is_set_aside_and_the_run_starts_over(
    tmp_path, trace, capsys, injected
):
    (experiment,) = cli.parse(TINY).experiments
    assert run_bench.main([*TINY, "--out", str(tmp_path / "never")]) == 0
    stream = io.BytesIO()
    torch.save({"owner": Code(trace)}, stream)
    body = stream.getvalue()
    folder = tmp_path / "out" / "smoke" / experiment.name
    folder.mkdir(parents=True)
    head = f"anode-bench checkpoint, schema {checkpoint.SCHEMA}, sha256 "
    head += f"{hashlib.sha256(body).hexdigest()}\n"
    (folder / checkpoint.NAME).write_bytes(head.encode() + body)
    capsys.readouterr()
    assert run_bench.main([*TINY, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "the checkpoint is damaged (it holds more than tensors and plain values)" in said
    assert "the run starts over" in said
    assert (folder / f"{checkpoint.NAME}.damaged").read_bytes() == head.encode() + body
    losses = [
        re.search(r"^1,[^,]+,([^,]+),", (place / "epochs.csv").read_text(), re.M)[1]
        for place in (folder, tmp_path / "never" / "smoke" / experiment.name)
    ]
    assert losses[0] == losses[1]
    injected(1, "set aside, the run starts over, nothing executed")


# --- folders of images


def a_link_to_a_file_outside(place):
    place.symlink_to(Path(__file__))
    return "is a link that leads out of the data folder"


def a_relative_link_outside(place):
    (place.parents[3] / "secret.png").write_bytes(b"secret")
    place.symlink_to("../../../secret.png")
    return "is a link that leads out of the data folder"


def a_link_to_a_device(place):
    place.symlink_to("/dev/zero")
    return "is a link that leads out of the data folder"


def a_link_to_itself(place):
    place.symlink_to(place.name)
    return "cannot be read (Too many levels of symbolic links)"


def a_pipe(place):
    os.mkfifo(place)
    return "is no file: remove it"


def a_link_to_a_pipe_inside(place):
    os.mkfifo(place.with_name("pipe"))
    place.symlink_to("pipe")
    return "is no file: remove it"


def a_folder(place):
    place.mkdir()
    return "is no file: remove it"


def a_class_outside(place):
    elsewhere = place.parents[3] / "elsewhere"
    place.parent.rename(elsewhere)
    place.parent.symlink_to(elsewhere)
    return "is a link that leads out of the data folder"


def a_part_outside(place):
    elsewhere = place.parents[3] / "elsewhere"
    place.parents[1].rename(elsewhere)
    place.parents[1].symlink_to(elsewhere)
    return "is a link that leads out of the data folder"


def a_class_with_escape_sequences(place):
    (place.parents[1] / "a\nclass\x1b[2J\u202e").mkdir()
    return r"a\nclass\x1b[2J\u202e unknown"


def a_name_with_escape_sequences(place):
    place.with_name("a\nname\x1b]0;title\x07.png").write_bytes(b"no image")
    return r"a\nname\x1b]0;title\x07.png is no readable PNG or JPEG image"


def something_else(place):
    place.write_bytes(b"GIF89a" + bytes(100))
    return "is no readable PNG or JPEG image"


def a_large_file(place):
    Image.new("RGB", (32, 32)).save(place)
    with place.open("ab") as stream:
        stream.truncate(100 * MEGABYTE)
    return f"has {100 * MEGABYTE} bytes, more than an image of 32×32 pixels"


def png(*chunks, size=(32, 32)):
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in [(b"IHDR", header), *chunks, (b"IEND", b"")]:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        content += struct.pack(">I", len(body)) + kind + body + checksum
    return content


@functools.cache
def bomb():
    return zlib.compress(bytes(200 * MEGABYTE), 9)


PIXELS = (b"IDAT", zlib.compress(bytes(32 * 97)))


def a_png_of_60000_by_60000(place):
    place.write_bytes(png((b"IDAT", bomb()), size=(60000, 60000)))
    return "is no readable PNG or JPEG image"


def a_png_of_10000_by_10000(place):  # of which PIL only warns
    place.write_bytes(png((b"IDAT", bomb()), size=(10000, 10000)))
    return "is 10000×10000 pixels, not 32×32"


def a_png_with_a_huge_text(place):
    place.write_bytes(png((b"zTXt", b"Comment\0\0" + bomb()), PIXELS))
    return "is no readable PNG or JPEG image"


def a_png_with_a_huge_international_text(place):
    place.write_bytes(png(PIXELS, (b"iTXt", b"Comment\0\1\0\0\0" + bomb())))
    return "is no readable PNG or JPEG image"


def a_png_with_a_huge_profile(place):
    place.write_bytes(png((b"iCCP", b"profile\0\0" + bomb()), PIXELS))
    return "is no readable PNG or JPEG image"


def a_png_with_a_chunk_that_says_it_is_huge(place):
    content = png(PIXELS)
    place.write_bytes(content[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + content[33:])
    return "is no readable PNG or JPEG image"


def a_jpeg_of_65500_by_65500(place):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, "JPEG")
    content = stream.getvalue()
    at = content.index(b"\xff\xc0") + 5
    place.write_bytes(content[:at] + struct.pack(">HH", 65500, 65500) + content[at + 4 :])
    return "is no readable PNG or JPEG image"


TRICKS = [
    *(a_link_to_a_file_outside, a_relative_link_outside, a_link_to_a_device, a_link_to_itself),
    *(a_pipe, a_link_to_a_pipe_inside, a_folder, a_class_outside, a_part_outside),
    *(a_class_with_escape_sequences, a_name_with_escape_sequences, something_else, a_large_file),
    *(a_png_of_60000_by_60000, a_png_of_10000_by_10000, a_png_with_a_huge_text),
    *(a_png_with_a_huge_international_text, a_png_with_a_huge_profile),
    *(a_png_with_a_chunk_that_says_it_is_huge, a_jpeg_of_65500_by_65500),
]


@pytest.mark.parametrize("trick", TRICKS)
def test_folder_of_images_with_a_trick_in_it_is_refused(
    trick, images, tmp_path, capsys, monkeypatch, injected
):
    said = trick(images / "train" / "cat" / "x.png")
    original = image_folder._decode_image

    def decode(file):
        assert file.is_file(), "it would be waited for"
        return original(file)

    monkeypatch.setattr(image_folder, "_decode_image", decode)
    with bounded_memory():
        refused(images, said, tmp_path, capsys)
    injected(1, REFUSED)


class bounded_memory:  # noqa: N801
    """A context in which not much memory is taken at any moment."""

    def __enter__(self):
        tracemalloc.start()

    def __exit__(self, *error):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < BOUND


def test_pixels_that_go_on_after_the_image_are_not_decoded(images, injected):
    (images / "train" / "cat" / "x.png").write_bytes(png((b"IDAT", bomb())))
    with bounded_memory():
        found = data.load(images, 10, generate=False)
    assert len(found.train_labels) == 11
    injected(1, "an image of 32×32 pixels, no more decoded")


def test_links_inside_and_odd_names_are_images_like_others(images):
    before = data.load(images, 10, generate=False)
    cat = images / "train" / "cat"
    (cat / "0001.png").symlink_to("../dog/0000.png")
    Image.new("RGB", (32, 32)).save(cat / "a\nb.png")
    Image.new("RGB", (32, 32)).save(os.fsencode(cat) + b"/\xff.png")
    found = data.load(images, 10, generate=False)
    assert len(found.train_labels) == len(before.train_labels) + 3
    assert torch.equal(found.train_images[4], before.train_images[5])


def test_data_folder_may_itself_be_a_link(images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    assert len(data.load(tmp_path / "link", 10, generate=False).train_labels) == 10


@pytest.fixture(scope="module")
def whole_images():
    pixels = Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8))
    found = []
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        pixels.save(stream, kind)
        found.append(stream.getvalue())
    return found


@given(choice=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_image_that_is_changed_at_random_is_pixels_or_one_line(
    choice, whole_images, tmp_path_factory, injected
):
    content = bytearray(choice.draw(st.sampled_from(whole_images)))
    for at in choice.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = choice.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "changed.png"
    file.write_bytes(content[: choice.draw(st.integers(1, len(content)))])
    with contextlib.suppress(UsageError):
        assert image_folder._decode_image(file).shape == (3, 32, 32)
    injected(1, "pixels, or refused in one line")


# --- the decoded images beside the folder


def arrays(cache):
    with np.load(cache) as stored:
        return {name: stored[name] for name in stored.files}


def rewritten(cache, **changes):
    """The cache with other arrays in it, compressed or not."""
    compressed = changes.pop("compressed", False)
    write = np.savez_compressed if compressed else np.savez
    write(cache, **{**arrays(cache), **changes})


def with_a_header(cache, shape, pixels=b"", compression=zipfile.ZIP_STORED):
    """The cache, where an array says that it has this shape, and the archive believes it."""
    content = {name: io.BytesIO() for name in arrays(cache)}
    for name, array in arrays(cache).items():
        np.lib.format.write_array(content[name], array)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    content["train_images"] = io.BytesIO()
    np.lib.format.write_array_header_1_0(content["train_images"], header)
    content["train_images"].write(pixels)
    with zipfile.ZipFile(cache, "w", compression) as archive:
        for name, stream in content.items():
            archive.writestr(f"{name}.npy", stream.getvalue())


def a_pickled_object(cache, trace):
    rewritten(cache, train_images=np.array([Code(trace)], dtype=object))


def a_pickled_signature(cache, trace):
    rewritten(cache, signature=np.array(Code(trace), dtype=object))


def a_pickle(cache, trace):
    cache.write_bytes(pickle.dumps(Code(trace)))


def an_archive_bomb(cache, trace):
    rewritten(cache, train_images=np.zeros((100_000, 3, 32, 32), np.uint8), compressed=True)


def an_archive_bomb_of_a_name(cache, trace):
    rewritten(cache, signature=np.array("x" * 50_000_000), compressed=True)


def an_archive_bomb_under_the_right_header(cache, trace):
    with_a_header(cache, (10, 3, 32, 32), bytes(60 * MEGABYTE), zipfile.ZIP_DEFLATED)


def a_gigantic_shape(cache, trace):
    with_a_header(cache, (10**13, 3, 32, 32))


def a_large_shape(cache, trace):
    with_a_header(cache, (100_000, 3, 32, 32))


def a_large_archive(cache, trace):
    with cache.open("r+b") as stream:
        stream.truncate(10**12)


def a_pipe_that_never_ends(cache, trace):
    cache.unlink()
    os.mkfifo(cache)


def an_endless_device(cache, trace):
    cache.unlink()
    cache.symlink_to("/dev/zero")


def an_encrypted_archive(cache, trace):
    content = cache.read_bytes()
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag that says so
        content = re.sub(
            re.escape(signature) + b"(?s:.{%d})." % (at - 4),
            lambda found: found[0][:-1] + b"\1",
            content,
        )
    cache.write_bytes(content)


CACHES = [
    *(a_pickled_object, a_pickled_signature, a_pickle, an_archive_bomb, an_archive_bomb_of_a_name),
    *(
        an_archive_bomb_under_the_right_header,
        a_gigantic_shape,
        a_large_shape,
        a_large_archive,
        a_pipe_that_never_ends,
    ),
    *(an_endless_device, an_encrypted_archive),
]


@pytest.mark.parametrize("trick", CACHES)
def test_decoded_images_that_somebody_put_there_are_not_used(
    trick, images, tmp_path, trace, monkeypatch, capsys, injected
):
    before = data.load(images, 10, generate=False)
    cache = tmp_path / "images-decoded.npz"
    trick(cache, trace)
    decoded = []
    original = image_folder._decode_image
    monkeypatch.setattr(
        image_folder, "_decode_image", lambda file: (decoded.append(file), original(file))[1]
    )
    with bounded_memory():
        found = data.load(images, 10, generate=False)
    assert len(decoded) == 20
    assert found.fingerprint == before.fingerprint
    assert torch.equal(found.train_images, before.train_images)
    assert capsys.readouterr().err == ""
    assert arrays(cache).keys() == {*image_folder._stored({"train": 0, "test": 0})}  # written anew
    injected(1, "not used, decoded again, nothing executed")


def test_what_the_tricks_are_feared_for_is_true(tmp_path):
    pickle.loads(pickle.dumps(Code(tmp_path / "executed")))
    assert (tmp_path / "executed").is_dir()
    assert official.FOLDERS[10] == "cifar-10-batches-py"
    with pytest.raises(AssertionError), bounded_memory():
        bytes(BOUND)
