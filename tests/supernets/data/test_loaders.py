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
    loss = trainer.step(STEP.phases[0], next(trainer.batches([0])), 0, 0.01)
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


def test_wrapped_binaries_are_found(tmp_path):
    """As torchvision and the archives of CIFAR lay them out."""
    for place, write in (("MNIST/raw", write_idx), ("cifar-10-batches-bin", write_cifar10)):
        home = tmp_path / place.replace("/", "-")
        (home / place).mkdir(parents=True)
        write(home / place)
        assert shape_of("mine", home).classes == len(load(home).classes)


def test_a_cifar_file_that_is_missing_between_others_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(InvalidDataset, match=r"data_batch_5\.bin is missing|data_batch_2\.bin is missing"):
        load(tmp_path)


def save(folder, images, labels, **more):
    np.savez(folder / "data.npz", images=images, labels=labels, **more)
    return folder / "data.npz"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda y: y + 1, "they begin at 1: subtract 1", id="from 1"),
        pytest.param(lambda y: y * 1000, "3 values from 0 to 2000", id="sparse"),
        pytest.param(lambda y: np.where(y == 2, 2**40, y), "lacks 1099511627774 class", id="huge"),
        pytest.param(
            lambda y: np.where(y == 2, np.uint64(2**63 + 5), y.astype(np.uint64)),
            "no number of a class",
            id="wide",
        ),
        pytest.param(lambda y: np.eye(3)[y], "labels.argmax", id="one-hot"),
        pytest.param(lambda y: y.astype(float), "labels.astype", id="whole floats"),
        pytest.param(lambda y: y + 0.5, "float64", id="floats"),
        pytest.param(lambda y: np.where(y == 2, np.nan, y), "float64", id="not a number"),
        pytest.param(lambda y: y == 1, "labels.astype", id="yes or no"),
        pytest.param(lambda y: np.array(["cat", "dog", "owl"])[y], "return_inverse", id="names"),
        pytest.param(lambda y: y.reshape(1, -1), r"\(1, 60\)", id="a row"),
    ],
)
def test_labels_of_other_kinds_are_refused_with_the_cure(tmp_path, change, said):
    images, labels = arrays()
    path = save(tmp_path, images, change(labels))
    for look in (load, lambda place: shape_of("mine", place)):
        with pytest.raises(InvalidDataset, match=said):
            look(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda x: np.repeat(x[:, None], 3, axis=1), r"transpose\(0, 2, 3, 1\)", id="channels first"
        ),
        pytest.param(
            lambda x: np.repeat(x[..., None], 4, axis=3), r"grey \(1\) and colour \(3\)", id="alpha"
        ),
        pytest.param(lambda x: x / 255, "0 to 255", id="floats"),
        pytest.param(lambda x: x.astype(np.uint16) * 257, "0 to 255", id="16 bits"),
        pytest.param(lambda x: x.reshape(60, -1), "reshape", id="flat"),
        pytest.param(lambda x: x[:, :4], "10 x 4", id="tiny"),
        pytest.param(lambda x: x.astype(object), "Python objects|object", id="objects"),
    ],
)
def test_images_of_other_kinds_are_refused_with_the_cure(tmp_path, change, said):
    images, labels = arrays()
    path = save(tmp_path, change(images), labels)
    for look in (load, lambda place: shape_of("mine", place)):
        with pytest.raises(InvalidDataset, match=said):
            look(path)


def test_names_of_arrays_are_known_in_capitals_and_two_sets_in_one_file_are_refused(tmp_path):
    images, labels = arrays()
    np.savez(tmp_path / "k.npz", X_train=images, y_train=labels, X_test=images[:9], y_test=labels[:9])
    assert len(load(tmp_path / "k.npz").test) == 9
    path = save(tmp_path, images, labels, train_images=images, train_labels=labels)
    with pytest.raises(InvalidDataset, match="leave one of the two"):
        load(path)


def test_reading_labels_asks_for_no_more_memory_than_they_have(tmp_path):
    """Eight GiB asked for at once fail where a process may not have so much, whatever there is to read."""
    import tracemalloc

    write_idx(tmp_path)
    tracemalloc.start()
    assert shape_of("mine", tmp_path).classes == 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20


def write_emnist(folder, prefix, labels):
    for stem in ("train", "test"):
        images = GENERATOR.integers(0, 256, size=(len(labels), 12, 12))
        (folder / f"{prefix}-{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-{stem}-labels-idx1-ubyte").write_bytes(idx(labels))


def test_letters_from_1_are_known_by_emnists_name_and_refused_under_another(tmp_path):
    labels = np.arange(260) % 26 + 1
    for prefix in ("emnist-letters", "letters"):
        (tmp_path / prefix).mkdir()
        write_emnist(tmp_path / prefix, prefix, labels)
    mapping = "".join(f"{n + 1} {65 + n} {97 + n}\n" for n in range(26))
    (tmp_path / "emnist-letters" / "emnist-letters-mapping.txt").write_text(mapping)
    assert load(tmp_path / "emnist-letters").class_names == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    with pytest.raises(InvalidDataset, match="begin at 1: subtract 1"):
        load(tmp_path / "letters")


def test_colour_in_idx_files_is_named(tmp_path):
    for stem in ("train", "t10k"):
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(
            idx(GENERATOR.integers(0, 256, size=(30, 8, 8, 3)))
        )
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.arange(30) % 3))
    with pytest.raises(InvalidDataset, match=r"bytes in 4 dimension\(s\); save such images in an npz"):
        load(tmp_path)
