import hashlib
import os
import pickle
import shutil
import tempfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import data
from bench.data import (
    DeviceData,
    epoch_plan,
    evaluation_batches,
    image_file,
    official,
    train_batches,
)
from bench.data.batches import MEAN, STANDARD_DEVIATION
from bench.data.classes import CLASSES
from bench.data.generated import load as load_generated
from bench.errors import UsageError
from tests.bench.builders import CPU, Detonator, write_images

# --- generated images, and subsets


@pytest.mark.parametrize("num_classes", [10, 100])
def test_generated_set_has_cifars_shape_and_balanced_classes(num_classes):
    made = data.load(None, num_classes, generate=True)
    assert made.train_images.shape == (5000, 3, 32, 32)
    assert made.train_images.dtype == torch.uint8
    assert made.test_labels.shape == (1000,)
    assert made.train_labels.bincount().tolist() == [5000 // num_classes] * num_classes
    assert made.is_generated
    assert "generated" in made.source
    assert num_classes == 100 or made.fingerprint == "be6f6f4e12a014d2"  # on every machine


def test_generated_classes_can_be_told_apart_but_not_trivially():
    made = load_generated(10)
    train = made.train_images.float().flatten(1)
    means = torch.stack([train[made.train_labels == label].mean(0) for label in range(10)])
    distance = torch.cdist(made.test_images.float().flatten(1), means)
    assert 0.3 < (distance.argmin(1) == made.test_labels).float().mean() < 0.95


def test_subset_takes_the_classes_in_turn_and_keeps_the_fingerprint():
    made = load_generated(10)
    small, larger = made.subset(30, 20), made.subset(50, 20)
    assert small.train_labels.tolist() == list(range(10)) * 3
    assert small.fingerprint == made.fingerprint
    assert torch.equal(larger.train_images[:30], small.train_images)
    with pytest.raises(UsageError, match="5000 training images and 6000 are asked for"):
        made.subset(6000, None)


# --- a folder of images


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_image_folder_is_decoded_and_labelled_in_alphabetical_order(tmp_path, suffix):
    folder = write_images(tmp_path / "images", suffix=suffix)
    found = data.load(folder, 10, generate=False)
    assert found.train_labels.tolist() == [label for label in range(10) for _ in range(2)]
    file = folder / "train" / "frog" / f"0001{suffix}"
    pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    assert torch.equal(found.train_images[13], pixels)
    assert "folder of images" in found.source
    assert "not verified" in found.source


def test_image_folder_with_a_hundred_classes(tmp_path):
    folder = write_images(tmp_path / "images", per_class=1, classes=CLASSES[100])
    assert data.load(folder, 100, generate=False).test_labels.tolist() == list(range(100))


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded."""
    found, original = [], image_file.decode
    monkeypatch.setattr(image_file, "decode", lambda file: (found.append(file), original(file))[1])
    return found


def test_image_folder_is_decoded_once_and_again_when_it_changes(tmp_path, decoded):
    folder = write_images(tmp_path / "images")
    first, second = (data.load(folder, 10, generate=False) for _ in range(2))
    assert len(decoded) == 40
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.test_images, first.test_images)
    Image.new("RGB", (32, 32)).save(folder / "test" / "cat" / "0000.png")
    assert data.load(folder, 10, generate=False).fingerprint != first.fingerprint


DAMAGES = {
    "flip": lambda content, trace: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "truncate": lambda content, trace: content[: len(content) // 2],
    "empty": lambda content, trace: b"",
    "pickle": lambda content, trace: pickle.dumps(Detonator(trace)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_is_not_trusted(tmp_path, decoded, damage):
    folder, cache = write_images(tmp_path / "images"), tmp_path / "images-decoded.npz"
    before = data.load(folder, 10, generate=False)
    cache.write_bytes(DAMAGES[damage](cache.read_bytes(), tmp_path / "executed"))
    after = data.load(folder, 10, generate=False)
    assert len(decoded) == 2 * 40
    assert torch.equal(after.train_images, before.train_images)
    assert not (tmp_path / "executed").exists()


def test_no_cache_is_no_error(tmp_path, monkeypatch, capsys):
    folder = write_images(tmp_path / "images")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert len(data.load(folder, 10, generate=False).train_labels) == 20
    assert "Permission denied" in " ".join(capsys.readouterr().err.split())


def moved_outside_behind_a_link(folder):
    outside = folder.parent / "elsewhere"
    (folder / "train" / "cat").rename(outside)
    (folder / "train" / "cat").symlink_to(outside)


ODD, DOG = Path("train/cat/zz.png"), Path("train/dog/0001.png")
RESIZE = "resize .* mogrify -resize '32x32!'"
SPOILED = {
    "zz.png is a link that leads out of the data folder": (
        lambda folder: (folder / ODD).symlink_to(__file__)
    ),
    "cat is a link that leads out of the data folder": moved_outside_behind_a_link,
    r"zz.png cannot be read \(No such file or directory\): replace it": (
        lambda folder: (folder / ODD).symlink_to(folder / "nowhere.png")
    ),
    "zz.png has 104857600 bytes, more than an image of 32×32 pixels": (
        lambda folder: ((folder / ODD).touch(), os.truncate(folder / ODD, 100 * 2**20))
    ),
    f"dog/0001.png has 1048577 bytes, .*: {RESIZE}": (
        lambda folder: (folder / DOG).write_bytes(bytes(2**20 + 1))
    ),
    f"dog/0001.png is 64×48 pixels, not 32×32: {RESIZE}": (
        lambda folder: Image.new("RGB", (64, 48)).save(folder / DOG)
    ),
    "dog/0001.png cannot be read as an image": lambda folder: os.truncate(folder / DOG, 200),
    "images does not exist: give another --data-dir": shutil.rmtree,
    "holds neither train/<class>/ .* nor cifar-10-batches-py": (
        lambda folder: [shutil.rmtree(folder / part) for part in ("train", "test")]
    ),
    "has no .*test: it must hold": lambda folder: shutil.rmtree(folder / "test"),
    r"test has other classes than train/ \(aeroplane missing, airplane unknown": (
        lambda folder: (folder / "train/airplane").rename(folder / "train/aeroplane")
    ),
    "holds 1 class: .* at least two": (
        lambda folder: [shutil.rmtree(place) for place in folder.glob("*/[!c]*[!t]")]
    ),
    "ship holds no image": (
        lambda folder: [file.unlink() for file in (folder / "test/ship").iterdir()]
    ),
}
"""Part of the message → change of the folder."""


@pytest.mark.parametrize("said", SPOILED)
def test_bad_image_folder_is_named_and_leaves_no_cache(tmp_path, said):
    folder = write_images(tmp_path / "images")
    SPOILED[said](folder)
    with pytest.raises(UsageError, match=said) as caught:
        data.load(folder, 10, generate=False)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.npz"))


# --- the official files


@pytest.fixture
def official_files(tmp_path, monkeypatch):
    """torchvision's files with random pixels, whose MD5s torchvision expects."""
    folder = tmp_path / "official"
    base = folder / official.FOLDERS[10]
    base.mkdir(parents=True)
    random = np.random.RandomState(0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    contents = {"batches.meta": {"label_names": list(CLASSES[10])}}
    for name in names:
        pixels = random.randint(0, 256, (20, 3072)).astype(np.uint8)
        contents[name] = {"data": pixels, "labels": list(range(10)) * 2}
    md5 = {}
    for name, content in contents.items():
        (base / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    cifar10 = official.import_torchvision_datasets().CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [[name, md5[name]] for name in names[:5]])
    monkeypatch.setattr(cifar10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(cifar10, "meta", {**cifar10.meta, "md5": md5["batches.meta"]})
    return folder


def test_official_files_are_read(official_files):
    found = data.load(official_files, 10, generate=False)
    assert found.train_images.shape == (100, 3, 32, 32)
    assert found.test_labels.tolist() == list(range(10)) * 2
    assert "official" in found.source
    batch = pickle.loads((official_files / official.FOLDERS[10] / "test_batch").read_bytes())
    assert torch.equal(found.test_images[3].flatten(), torch.from_numpy(batch["data"][3]))


@pytest.mark.fault("hostile")
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_official_file_with_another_md5_is_never_unpickled(
    official_files, tmp_path, name, injected
):
    trace = tmp_path / "executed"
    (official_files / official.FOLDERS[10] / name).write_bytes(pickle.dumps(Detonator(trace)))
    with pytest.raises(UsageError, match="not the published ones.*delete that folder"):
        data.load(official_files, 10, generate=False)
    assert not trace.exists()
    injected(1, "refused in one line, nothing executed")


def test_failed_download_says_what_to_do_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fail(self):
        (Path(self.root) / "half-a-file").write_bytes(b"half")
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(official.import_torchvision_datasets().CIFAR10, "download", fail)
    with pytest.raises(UsageError, match="could not be downloaded .*--data-dir.*--generated"):
        data.load(None, 10, generate=False)
    assert not list(tmp_path.iterdir())


def test_download_is_put_in_place_whole(official_files, tmp_path, monkeypatch):
    target = tmp_path / "downloaded"

    def download(self):
        (official_files / official.FOLDERS[10]).rename(Path(self.root) / official.FOLDERS[10])

    monkeypatch.setattr(official.import_torchvision_datasets().CIFAR10, "download", download)
    found = official.load(target, 10)
    assert len(found.train_labels) == 100
    assert [file.name for file in target.iterdir()] == [official.FOLDERS[10]]


# --- batches


SUBSET = load_generated(10).subset(50, 20)
HELD = DeviceData.of(SUBSET, CPU)


def batches(seed=0, epoch=1):
    return list(train_batches(HELD, seed=seed, epoch=epoch, batch_size=16))


def test_epoch_plan_depends_on_seed_and_epoch_alone():
    one = epoch_plan(3, 7, 100)
    torch.manual_seed(123)
    state, again = torch.get_rng_state(), epoch_plan(3, 7, 100)
    assert all(torch.equal(getattr(one, k), getattr(again, k)) for k in vars(one))
    assert sorted(one.order.tolist()) == list(range(100))
    assert not torch.equal(one.order, epoch_plan(3, 8, 100).order)
    assert not torch.equal(one.order, epoch_plan(4, 7, 100).order)
    batches()
    assert torch.equal(torch.get_rng_state(), state)


def normalised(images):
    mean, deviation = (torch.tensor(x).view(3, 1, 1) * 255 for x in (MEAN, STANDARD_DEVIATION))
    return (images - mean) / deviation


def test_batches_equal_pad_crop_flip_and_normalise_image_by_image():
    plan, found = epoch_plan(3, 2, 50), batches(seed=3, epoch=2)
    assert (plan.top.min(), plan.top.max()) == (0, 8)
    assert [len(labels) for _, labels in found] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([labels for _, labels in found]), SUBSET.train_labels[plan.order])
    augmented = torch.cat([images for images, _ in found])
    for i, chosen in enumerate(plan.order):
        padded = torch.nn.functional.pad(SUBSET.train_images[chosen], (4, 4, 4, 4))
        top, left = int(plan.top[i]), int(plan.left[i])
        expected = padded[:, top : top + 32, left : left + 32]
        expected = expected.flip(-1) if plan.flip[i] else expected
        assert torch.equal(augmented[i], normalised(expected))
    (tested, _), *_ = evaluation_batches(HELD.test_images, HELD.test_labels, 20)
    torch.testing.assert_close(tested, normalised(SUBSET.test_images.float()))
    for images in (tested, *(images for images, _ in found)):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_batches_of_a_seed_never_change():
    # The recorded runs were trained on these.
    digest = hashlib.sha256()
    for images, labels in batches():
        digest.update(images.contiguous().numpy().tobytes() + labels.numpy().tobytes())
    assert digest.hexdigest()[:16] == "fdc669e0fdb34b46"


# --- the real images


def test_real_images_are_read_whole(real_images):
    found = data.load(real_images, 10, generate=False)
    assert found.train_images.shape == (5_000, 3, 32, 32)
    assert found.train_labels.bincount().tolist() == [500] * 10
    assert found.test_labels.bincount().tolist() == [100] * 10
    mean = found.train_images.float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor(MEAN), atol=0.01, rtol=0)
