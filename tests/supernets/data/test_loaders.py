"""Real loaders, on small files in the real forms; every kind of damage is named."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from supernets.data.catalog import load_dataset
from supernets.data.loaders.catalog import Shape, shape_of
from supernets.errors import InvalidDataset
from supernets.spaces.catalog import space_named
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase, Recipe

GENERATOR = np.random.default_rng(0)


def idx(array):
    return (
        bytes((0, 0, 8, array.ndim))
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_idx(folder, *, classes=3, train=60, test=9, packed=False):
    for stem, size in (("train", train), ("t10k", test)):
        images = GENERATOR.integers(0, 256, size=(size, 12, 12))
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", np.arange(size) % classes)):
            data = idx(array)
            path = folder / f"{stem}-{kind}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data) if packed else data)


def write_cifar(folder, files, *, size, label_bytes):
    for name in files:
        rows = GENERATOR.integers(0, 256, size=(size, label_bytes + 3072))
        rows[:, label_bytes - 1] = np.arange(size) % (10 if label_bytes == 1 else 100)
        (folder / name).write_bytes(rows.astype(np.uint8).tobytes())


def write_images(folder, *, classes=("cat", "dog"), each=12):
    for title in classes:
        (folder / title).mkdir(parents=True)
        for number in range(each):
            pixels = GENERATOR.integers(0, 256, size=(20 + number, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / title / f"{number}.png")


def load(path):
    return load_dataset("mine", None, {"mine": str(path)})


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path, packed):
    write_idx(tmp_path, packed=packed)
    found = load(tmp_path)
    assert (found.channels, found.size, found.classes) == (1, 12, ("0", "1", "2"))
    assert (len(found.train), len(found.validation), len(found.test)) == (54, 6, 9)


def test_idx_keeps_the_pixels(tmp_path):
    write_idx(tmp_path)
    raw = (tmp_path / "t10k-images-idx3-ubyte").read_bytes()
    assert load(tmp_path).test.images.tobytes() == raw[16:]


@pytest.mark.parametrize("harm", ["cut", "head", "labels", "gone", "class"])
def test_damaged_idx(tmp_path, harm):
    write_idx(tmp_path)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte"
    if harm == "cut":
        images.write_bytes(images.read_bytes()[:-7])
    elif harm == "head":
        images.write_bytes(b"GIF8" + images.read_bytes()[4:])
    elif harm == "labels":
        labels.write_bytes(idx(np.arange(8) % 3))
    elif harm == "class":
        labels.write_bytes(idx(np.zeros(9)))
    else:
        labels.unlink()
    with pytest.raises(InvalidDataset, match="mine|train-images"):
        load(tmp_path)


def test_damaged_gzip(tmp_path):
    write_idx(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidDataset, match="cannot be read"):
        load(tmp_path)


def test_cifar10(tmp_path):
    write_cifar(
        tmp_path, [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"], size=40, label_bytes=1
    )
    found = load(tmp_path)
    assert found.channels == 3 and found.size == 32 and found.classes[3] == "cat"
    assert (len(found.train), len(found.validation), len(found.test)) == (180, 20, 40)
    assert found.test.images[0].tobytes() == (tmp_path / "test_batch.bin").read_bytes()[1:3073]


def test_cifar100_uses_the_fine_labels(tmp_path):
    write_cifar(tmp_path, ["train.bin", "test.bin"], size=1000, label_bytes=2)
    found = load(tmp_path)
    assert len(found.classes) == 100 and np.array_equal(found.test.labels, np.arange(1000) % 100)


def test_damaged_cifar(tmp_path):
    write_cifar(tmp_path, ["train.bin", "test.bin"], size=1000, label_bytes=2)
    (tmp_path / "test.bin").write_bytes((tmp_path / "test.bin").read_bytes()[:-1])
    with pytest.raises(InvalidDataset, match=r"test\.bin"):
        load(tmp_path)
    (tmp_path / "test.bin").unlink()
    with pytest.raises(InvalidDataset, match=r"test\.bin"):
        load(tmp_path)


def test_image_folders(tmp_path):
    write_images(tmp_path)
    found = load(tmp_path)
    assert found.classes == ("cat", "dog") and found.train.images.shape[1:] == (3, 64, 64)
    assert len(found.train) + len(found.validation) + len(found.test) == 24


def test_image_folders_with_splits(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", each=3)
    found = load(tmp_path)
    assert len(found.test) == 6 and len(found.train) + len(found.validation) == 24


@pytest.mark.parametrize("harm", ["unreadable", "tiny", "missing class", "no test"])
def test_damaged_folders(tmp_path, harm):
    write_images(tmp_path / "train")
    if harm != "no test":
        write_images(tmp_path / "test", classes=("cat",) if harm == "missing class" else ("cat", "dog"))
    if harm == "unreadable":
        (tmp_path / "train" / "cat" / "3.png").write_bytes(b"not an image")
    if harm == "tiny":
        Image.new("RGB", (40, 2)).save(tmp_path / "train" / "cat" / "3.png")
    said = {"unreadable": "cat/3.png", "tiny": "40 x 2", "missing class": "dog", "no test": "no test folder"}[
        harm
    ]
    with pytest.raises(InvalidDataset, match=said):
        load(tmp_path)


def arrays(size=60):
    return GENERATOR.integers(0, 256, size=(size, 10, 10)).astype(np.uint8), np.arange(size) % 3


def test_npz_pool_and_splits(tmp_path):
    images, labels = arrays()
    np.savez(tmp_path / "pool.npz", images=images, labels=labels)
    found = load(tmp_path / "pool.npz")
    assert (len(found.train), len(found.validation), len(found.test)) == (48, 6, 6)
    colour = np.repeat(images[..., None], 3, axis=3)
    np.savez(
        tmp_path / "two.npz",
        train_images=colour,
        train_labels=labels,
        test_images=colour[:9],
        test_labels=labels[:9],
    )
    assert load(tmp_path / "two.npz").channels == 3


@pytest.mark.parametrize("harm", ["pickle", "floats", "lengths", "names", "cut", "text"])
def test_unsafe_or_damaged_npz(tmp_path, harm):
    images, labels = arrays()
    path = tmp_path / "data.npz"
    if harm == "pickle":
        labels = np.array([{"a": 1}] * 60, dtype=object)
    if harm == "floats":
        images = images.astype(float)
    if harm == "lengths":
        labels = labels[:-1]
    np.savez(path, **({"pictures": images} if harm == "names" else {"images": images, "labels": labels}))
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if harm == "text":
        path.write_text("hello")
    with pytest.raises(InvalidDataset):
        load(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("supernets.data.loaders.forms.MAX_BYTES", 1000)
    images, labels = arrays()
    np.savez_compressed(tmp_path / "data.npz", images=images, labels=labels)
    with pytest.raises(InvalidDataset, match="1000 are the most"):
        load(tmp_path / "data.npz")


def test_nothing_known(tmp_path):
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file.txt"):
        with pytest.raises(InvalidDataset, match="nothing known"):
            load(path)


STEP = Recipe("step", "one step", (Phase("step", 1, 1e-3),), batch_size=16)


def write_cifar10(folder):
    write_cifar(
        folder,
        [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"],
        size=20,
        label_bytes=1,
    )


def write_cifar100(folder):
    write_cifar(folder, ["train.bin", "test.bin"], size=1000, label_bytes=2)


def write_npz(folder):
    images, labels = arrays()
    np.savez_compressed(folder / "pool.npz", images=images, labels=labels)
    return folder / "pool.npz"


def write_split_images(folder):
    for part in ("train", "test"):
        write_images(folder / part)


FORMS = {
    "idx": (write_idx, Shape(3, 1, 12)),
    "idx.gz": (lambda folder: write_idx(folder, packed=True), Shape(3, 1, 12)),
    "cifar-10": (write_cifar10, Shape(10, 3, 32)),
    "cifar-100": (write_cifar100, Shape(100, 3, 32)),
    "image folders": (write_images, Shape(2, 3, None)),
    "split image folders": (write_split_images, Shape(2, 3, None)),
    "npz": (write_npz, Shape(3, 1, 10)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_what_it_is_and_trains_a_step(tmp_path, form):
    write, shape = FORMS[form]
    path = write(tmp_path) or tmp_path
    assert shape_of("mine", path) == shape
    found = load(path)
    assert (len(found.classes), found.channels, found.size) == (
        shape.classes,
        shape.channels,
        shape.size or 64,
    )
    space = space_named("digits-mbv3" if shape.channels == 1 else "cifar-mbv3").with_classes(shape.classes)
    trainer = Trainer(space.at(space.resolutions[:1]), found, STEP, 0)
    before = {name: parameter.detach().clone() for name, parameter in trainer.supernet.named_parameters()}
    loss = trainer.step(STEP.phases[0], next(trainer._batches([0])), 0, 0.01)
    assert np.isfinite(loss)
    assert any((before[name] != parameter).any() for name, parameter in trainer.supernet.named_parameters())


@pytest.mark.parametrize("harm", ["train labels", "test labels"])
def test_labels_out_of_range(tmp_path, harm):
    write_idx(tmp_path)
    stem, size = ("train", 60) if harm == "train labels" else ("t10k", 9)
    labels = np.arange(size) % 3
    labels[0] = 200
    (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(InvalidDataset, match="lacks|outside 0 to 2"):
        load(tmp_path)


def test_labels_of_no_class(tmp_path):
    write_cifar10(tmp_path)
    first = tmp_path / "data_batch_1.bin"
    first.write_bytes(bytes([77]) + first.read_bytes()[1:])
    with pytest.raises(InvalidDataset, match="outside 0 to 9"):
        load(tmp_path)


def test_negative_labels(tmp_path):
    images, labels = arrays()
    labels[5] = -1
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    with pytest.raises(InvalidDataset, match="outside 0 to 2"):
        load(tmp_path / "data.npz")


def test_a_gzip_bomb_of_labels_is_not_unpacked_whole(tmp_path, monkeypatch):
    write_idx(tmp_path, packed=True)
    monkeypatch.setattr("supernets.data.loaders.forms.MAX_BYTES", 1000)
    with pytest.raises(InvalidDataset, match="train-images"):
        load(tmp_path)


def test_no_message_shows_the_operators_folders(tmp_path):
    write_images(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "3.png").write_bytes(b"not an image")
    (tmp_path / "text.npz").write_text("hello")
    for place in ("pets", "text.npz"):
        with pytest.raises(InvalidDataset) as caught:
            load(tmp_path / place)
        assert str(tmp_path) not in str(caught.value)


def test_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    write_images(tmp_path)

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(
        "pathlib.Path.iterdir", refuse
    )  # root, who runs the tests in a container, may enter any folder
    with pytest.raises(InvalidDataset, match="Permission denied; ask") as caught:
        shape_of("mine", tmp_path)
    assert str(tmp_path) not in str(caught.value)
