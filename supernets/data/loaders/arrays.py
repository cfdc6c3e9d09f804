"""Arrays in an npz file: one pool, or splits, under the names that MedMNIST, Keras and this project give
them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from supernets.data.loaders import forms
from supernets.data.loaders.forms import (
    Form,
    Shape,
    Wanted,
    checked_split,
    numbered,
    reason,
    validation_size,
    with_validation,
)
from supernets.data.splits import Dataset, Labels, Split, split_three
from supernets.errors import InvalidDataset

_PREFIXES: Final = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
_WANTED: Final = (
    "images and labels, or train_images, train_labels, test_images, test_labels (and val_images, val_labels)"
)


def _keys(there: set[str], split: str) -> tuple[str, str] | None:
    """Names of the images and labels of a split; `pool` is all samples at once."""
    if split == "pool":
        pairs = [("images", "labels"), ("x", "y")]
    else:
        pairs = [(f"{p}_images", f"{p}_labels") for p in _PREFIXES[split]]
        pairs += [(f"x_{p}", f"y_{p}") for p in _PREFIXES[split]]
    return next((pair for pair in pairs if set(pair) <= there), None)


def _wanted_keys(name: str, there: set[str], split: str) -> tuple[str, str]:
    found = _keys(there, split)
    if found is None:
        raise InvalidDataset(
            f"data set {name!r}: no images and labels of {split}; the file has {sorted(there)[:8]}, wanted "
            f"{_WANTED}"
        )
    return found


def _labels_of(name: str, key: str, labels: Any) -> Labels:
    """Whole numbers (N,); (N, 1) is taken as that. Raises InvalidDataset that says what is there instead."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "iu":
        raise InvalidDataset(
            f"data set {name!r}: {key} is {labels.dtype} of shape {labels.shape}; wanted whole numbers "
            "(N,) or (N, 1), one class "
            "for each image"
        )
    return np.asarray(flat, dtype=np.int64)


def _check_images(name: str, key: str, dtype: Any, shape: tuple[int, ...]) -> None:
    if dtype != np.uint8 or len(shape) not in (3, 4):
        raise InvalidDataset(
            f"data set {name!r}: {key} is {dtype} of shape {shape}; wanted bytes (uint8) of shape (N, H, "
            "W) or (N, H, W, C)"
        )


def load(name: str, path: Path, wanted: Wanted) -> Dataset:
    """The arrays as a data set. Raises InvalidDataset that says which array is wrong and how."""
    with _opened(name, path) as file:
        arrays: dict[str, Any] = {key: file[key] for key in file.files}
    there = set(arrays)

    def split(which: str) -> Split:
        image_key, label_key = _wanted_keys(name, there, which)
        images, labels = arrays[image_key], _labels_of(name, label_key, arrays[label_key])
        _check_images(name, image_key, images.dtype, images.shape)
        images = images[..., None] if images.ndim == 3 else images
        return checked_split(name, image_key, images.transpose(0, 3, 1, 2), labels)

    if _keys(there, "pool"):
        pool = split("pool")
        share = validation_size(pool.labels)
        return split_three(
            name, numbered(pool.labels), pool.images, pool.labels, validation=share, test=share
        )
    train, test = split("train"), split("test")
    if _keys(there, "validation"):
        return Dataset(name, numbered(train.labels), train, split("validation"), test)
    return with_validation(name, numbered(train.labels), train, test)


def _looked_at(name: str, path: Path, look: Callable[[Any, str, Labels], Any]) -> Any:
    """What `look` makes of (file, name of the training images, training labels)."""
    with _opened(name, path) as file:
        there = set(file.files)
        images, labels = _wanted_keys(name, there, "pool" if _keys(there, "pool") else "train")
        return look(file, images, _labels_of(name, labels, file[labels]))


def _shape(name: str, path: Path) -> Shape:
    def look(file: Any, key: str, labels: Labels) -> Shape:
        with file.zip.open(f"{key}.npy") as stored:
            version = np.lib.format.read_magic(stored)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(stored)
        _check_images(name, key, dtype, shape)
        return Shape(len(numbered(labels)), shape[3] if len(shape) == 4 else 1, shape[1])

    found: Shape = _looked_at(name, path, look)
    return found


def _classes(name: str, path: Path) -> tuple[str, ...]:
    found: tuple[str, ...] = _looked_at(name, path, lambda file, key, labels: numbered(labels))
    return found


@contextmanager
def _opened(name: str, path: Path) -> Iterator[Any]:
    """An npz file; its stated size is checked before anything is unpacked, objects are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > forms.MAX_BYTES:
            raise InvalidDataset(f"data set {name!r}: {size} bytes unpacked; {forms.MAX_BYTES} are the most")
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InvalidDataset):
            raise
        raise InvalidDataset(
            f"data set {name!r}: the npz file cannot be read safely: {reason(error, path)}"
        ) from error


FORM: Final = Form(
    "npz arrays",
    lambda path: path.is_file() and path.suffix.lower() == ".npz",
    _shape,
    _classes,
    lambda name, path: {"arrays.npz": path},
    load,
)
