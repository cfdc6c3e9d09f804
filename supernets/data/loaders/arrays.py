"""Arrays in an npz file: one pool, or splits, under the names that MedMNIST, Keras and this project give
them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
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
from supernets.data.pictures import LEAST_SIDE
from supernets.data.splits import Dataset, Labels, Split, split_three
from supernets.errors import InvalidDataset

_PREFIXES: Final = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
_WANTED: Final = (
    "images and labels, or train_images, train_labels, test_images, test_labels (and val_images, val_labels)"
)
_OBJECTS: Final = (
    "it holds Python objects, which could run programs and are never opened; save plain arrays of numbers"
)


def _keys(there: Collection[str], split: str) -> tuple[str, str] | None:
    """Names of the images and labels of a split, in capitals or not; `pool` is all samples at once."""
    if split == "pool":
        pairs = [("images", "labels"), ("x", "y")]
    else:
        pairs = [(f"{p}_images", f"{p}_labels") for p in _PREFIXES[split]]
        pairs += [(f"x_{p}", f"y_{p}") for p in _PREFIXES[split]]
    own = {key.lower(): key for key in sorted(there)}  # of two that differ in case only, the small one
    return next(((own[a], own[b]) for a, b in pairs if a in own and b in own), None)


def _wanted_keys(name: str, there: Collection[str], split: str) -> tuple[str, str]:
    found = _keys(there, split)
    if found is None:
        raise InvalidDataset(
            f"data set {name!r}: no images and labels of {split}; the file has {sorted(there)[:8]}, wanted "
            f"{_WANTED}"
        )
    return found


def _first(name: str, there: Collection[str]) -> str:
    """`pool` or `train`, whichever is there. Raises InvalidDataset for both: which is meant?"""
    if _keys(there, "pool") is None:
        return "train"
    if _keys(there, "train") or _keys(there, "test"):
        raise InvalidDataset(
            f"data set {name!r}: the file has all samples at once and splits besides ({sorted(there)[:8]}); "
            "leave one of the two"
        )
    return "pool"


def _labels_of(name: str, key: str, labels: Any) -> Labels:
    """Whole numbers (N,); (N, 1) is taken as that. Raises InvalidDataset that says what is there instead."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "iu":
        raise InvalidDataset(
            f"data set {name!r}: {key} is {labels.dtype} of shape {labels.shape}{_cure(flat)}; wanted whole "
            "numbers (N,) or (N, 1), one class for each image"
        )
    if len(flat) and int(flat.max()) > np.iinfo(np.int64).max:
        raise InvalidDataset(
            f"data set {name!r}: {key} holds {int(flat.max())}, which is no number of a class"
        )
    return np.asarray(flat, dtype=np.int64)


def _cure(labels: Any) -> str:
    """What labels that are no whole numbers seem to be, and how they become some; empty if unknown."""
    kind = labels.dtype.kind
    if labels.ndim == 2 and kind in "iufb" and ((labels == 1).sum(axis=1) == (labels != 0).sum(axis=1)).all():
        return ", one-hot rows it seems (save labels.argmax(axis=1))"
    if labels.ndim == 1 and kind in "US":
        return ", names (save numpy.unique(labels, return_inverse=True)[1])"
    if labels.ndim == 1 and (kind == "b" or (kind == "f" and (labels == np.rint(labels)).all())):
        return " (save labels.astype(int))"
    return ""


def _check_images(name: str, key: str, dtype: Any, shape: tuple[int, ...]) -> None:
    """Raises InvalidDataset that says what the images are instead of bytes (N, H, W) or (N, H, W, 1 or 3)."""
    cure = ""
    if len(shape) == 4 and shape[3] not in (1, 3):
        cure = ": only grey (1) and colour (3) are taken"
        if shape[1] in (1, 3):
            cure = ": channels come last (save images.transpose(0, 2, 3, 1))"
    elif dtype != np.uint8 and np.dtype(dtype).kind in "iufb" and len(shape) in (3, 4):
        cure = ": scale them to 0 to 255 and save images.round().astype(numpy.uint8)"
    elif len(shape) == 2:
        cure = ": give every image its height and width (images.reshape(-1, height, width))"
    if cure or dtype != np.uint8 or len(shape) not in (3, 4):
        raise InvalidDataset(
            f"data set {name!r}: {key} is {dtype} of shape {shape}{cure}; wanted bytes (uint8) of shape "
            "(N, H, W) or (N, H, W, C)"
        )
    if min(shape[1:3]) < LEAST_SIDE:
        raise InvalidDataset(
            f"data set {name!r}: {key} are {shape[2]} x {shape[1]}; {LEAST_SIDE} x {LEAST_SIDE} is the least"
        )


def load(name: str, path: Path, wanted: Wanted) -> Dataset:
    """The arrays as a data set. Raises InvalidDataset that says which array is wrong and how."""
    with _opened(name, path) as file:
        there = file.files
        first = _first(name, there)
        parts = [first] if first == "pool" else [s for s in _PREFIXES if s != "validation" or _keys(there, s)]
        splits = {part: _split(name, file, part) for part in parts}
    classes = numbered(name, _wanted_keys(name, there, first)[1], splits[first].labels)
    if first == "pool":
        pool = splits["pool"]
        share = validation_size(pool.labels)
        return split_three(name, classes, pool.images, pool.labels, validation=share, test=share)
    if "validation" in splits:
        return Dataset(name, classes, splits["train"], splits["validation"], splits["test"])
    return with_validation(name, classes, splits["train"], splits["test"])


def _split(name: str, file: Any, which: str) -> Split:
    image_key, label_key = _wanted_keys(name, file.files, which)
    images, labels = file[image_key], _labels_of(name, label_key, file[label_key])
    _check_images(name, image_key, images.dtype, images.shape)
    images = images[..., None] if images.ndim == 3 else images
    return checked_split(name, image_key, images.transpose(0, 3, 1, 2), labels)


def _looked_at(name: str, path: Path, look: Callable[[Any, str, tuple[str, ...]], Any]) -> Any:
    """What `look` makes of (file, name of the training images, names of the classes)."""
    with _opened(name, path) as file:
        images, labels = _wanted_keys(name, file.files, _first(name, file.files))
        return look(file, images, numbered(name, labels, _labels_of(name, labels, file[labels])))


def _shape(name: str, path: Path) -> Shape:
    def look(file: Any, key: str, classes: tuple[str, ...]) -> Shape:
        with file.zip.open(f"{key}.npy") as stored:
            version = np.lib.format.read_magic(stored)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(stored)
        _check_images(name, key, dtype, shape)
        return Shape(len(classes), shape[3] if len(shape) == 4 else 1, shape[1])

    found: Shape = _looked_at(name, path, look)
    return found


def _classes(name: str, path: Path) -> tuple[str, ...]:
    found: tuple[str, ...] = _looked_at(name, path, lambda file, key, classes: classes)
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
        said = _OBJECTS if "allow_pickle" in str(error) else reason(error, path)
        raise InvalidDataset(f"data set {name!r}: the npz file cannot be read safely: {said}") from error


FORM: Final = Form(
    "npz arrays",
    lambda path: path.is_file() and path.suffix.lower() == ".npz",
    _shape,
    _classes,
    lambda name, path: {"arrays.npz": path},
    load,
)
