"""MNIST, EMNIST, MedMNIST and Keras under the names and in the forms that they are handed on by."""

import struct

import numpy as np
import pytest

from supernets.data.catalog import load_dataset
from supernets.data.loaders.catalog import shape_of
from supernets.errors import InvalidDataset

GENERATOR = np.random.default_rng(0)


def idx(array):
    return (
        bytes((0, 0, 8, array.ndim))
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_idx(folder, names, first=0):
    """names: of (train images, train labels, test images, test labels)."""
    images = {
        split: GENERATOR.integers(0, 256, size=(size, 12, 12)) for split, size in (("train", 60), ("test", 9))
    }
    arrays = [array for split in images.values() for array in (split, np.arange(len(split)) % 3 + first)]
    for name, array in zip(names, arrays, strict=True):
        (folder / name).write_bytes(idx(array))
    return images


def load(path):
    return load_dataset("mine", None, {"mine": str(path)})


@pytest.mark.parametrize("test", ["t10k", "test"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_both_spellings_of_mnist_are_taken(tmp_path, test, dot):
    names = [
        f"{split}-{kind}{dot}idx{n}-ubyte"
        for split in ("train", test)
        for kind, n in (("images", 3), ("labels", 1))
    ]
    images = write_idx(tmp_path, names)
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"companion")
    assert np.array_equal(load(tmp_path).test.images[:, 0], images["test"])


def test_emnist_is_put_upright_and_its_letters_have_their_names(tmp_path):
    parts = [
        f"emnist-letters-{split}-{kind}-idx{n}-ubyte"
        for split in ("train", "test")
        for kind, n in (("images", 3), ("labels", 1))
    ]
    images = write_idx(tmp_path, parts, first=1)
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n")
    found = load(tmp_path)
    assert found.class_names == ("A", "B", "C") and shape_of("mine", tmp_path).classes == 3
    assert np.array_equal(found.test.images[:, 0], images["test"].transpose(0, 2, 1))
    assert found.test.labels.tolist() == [0, 1, 2] * 3


def test_several_emnist_sets_in_one_folder_are_named(tmp_path):
    for part in ("letters", "digits"):
        write_idx(
            tmp_path,
            [
                f"emnist-{part}-{name}"
                for name in (
                    "train-images-idx3-ubyte",
                    "train-labels-idx1-ubyte",
                    "test-images-idx3-ubyte",
                    "test-labels-idx1-ubyte",
                )
            ],
        )
    with pytest.raises(InvalidDataset, match="emnist-digits, emnist-letters"):
        load(tmp_path)


def test_what_is_missing_of_mnist_is_named_beside_what_is_there(tmp_path):
    write_idx(
        tmp_path,
        [
            "train-images.idx3-ubyte",
            "train-labels.idx1-ubyte",
            "t10k-images.idx3-ubyte",
            "t10k-labels.idx1-ubyte",
        ],
    )
    (tmp_path / "t10k-labels.idx1-ubyte").unlink()
    with pytest.raises(InvalidDataset, match=r"test labels missing; found t10k-images\.idx3-ubyte"):
        shape_of("mine", tmp_path)


def arrays(size, colour=False):
    shape = (size, 10, 10, 3) if colour else (size, 10, 10)
    return GENERATOR.integers(0, 256, size=shape).astype(np.uint8), np.arange(size) % 3


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_medmnist_is_taken_with_its_own_splits(tmp_path, validation):
    parts = {}
    for prefix, size in (("train", 30), (validation, 9), ("test", 6)):
        images, labels = arrays(size, colour=True)
        parts |= {f"{prefix}_images": images, f"{prefix}_labels": labels[:, None].astype(np.uint8)}
    np.savez(tmp_path / "m.npz", **parts)
    found = load(tmp_path / "m.npz")
    assert [len(found.split(s)) for s in ("train", "validation", "test")] == [30, 9, 6]
    assert np.array_equal(found.validation.images.transpose(0, 2, 3, 1), parts[f"{validation}_images"])


def test_the_names_of_keras_are_taken(tmp_path):
    (x_train, y_train), (x_test, y_test) = arrays(60), arrays(9)
    np.savez(tmp_path / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    assert len(load(tmp_path / "mnist.npz").test) == 9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.eye(3, dtype=np.uint8)[np.arange(60) % 3]}, r"labels is uint8 of shape \(60, 3\)"),
        ({"labels": np.arange(60) / 3}, "labels is float64"),
        ({"images": np.zeros((60, 100), np.uint8)}, r"images is uint8 of shape \(60, 100\)"),
        ({"images": np.zeros((60, 10, 10), np.float32)}, "images is float32"),
        ({"images": np.zeros((60, 10, 10), np.uint8)}, "every pixel of channel 1 of 1 is 0"),
        ({"labels": np.zeros(60, np.int64)}, "one class only"),
    ],
)
def test_the_array_that_is_wrong_is_named(tmp_path, change, said):
    images, labels = arrays(60)
    np.savez(tmp_path / "a.npz", **{"images": images, "labels": labels, **change})
    with pytest.raises(InvalidDataset, match=said):
        load(tmp_path / "a.npz")
