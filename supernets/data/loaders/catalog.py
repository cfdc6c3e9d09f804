"""Data sets that the operator has on disk: IDX (MNIST family), CIFAR binaries, image folders, arrays in npz.

Paths come from the operator's settings, never over HTTP. Nothing here unpickles. Where a form has no validation split, one
is taken from its training samples, every class in proportion.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latency_tables.errors import InvalidDataset
from supernets.data.splits import Dataset, Images, Labels, Split, split_three, stratified

VALIDATION_SHARE = 0.1
MAX_BYTES = 8 * 2**30
FOLDER_SIZE = 64
Loader = Callable[[str, Path], Dataset]
Describer = Callable[[str, Path], "Shape"]
_IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Shape:
    """What a data set holds: number of classes, channels, and side of its images in pixels."""

    classes: int
    channels: int
    size: int


def shape_of(name: str, path: Path) -> Shape:
    """Shape of the data set at `path` without reading its images. Raises InvalidDataset that says what is wrong."""
    try:
        return _form(name, path)[1](name, path)
    except OSError as error:  # a folder that the service may not enter
        raise InvalidDataset(
            f"data set {name!r} cannot be read: {error.strerror or 'unreadable'}; ask who runs the service"
        ) from error


def load_registered(name: str, path: Path) -> Dataset:
    """The data set at `path`, its form found by what is there. Raises InvalidDataset that says what is wrong."""
    return _form(name, path)[0](name, path)


def _form(name: str, path: Path) -> tuple[Loader, Describer]:
    for matches, load, describe in _FORMS:
        if matches(path):
            return load, describe
    raise InvalidDataset(
        f"data set {name!r}: nothing known at its path; wanted an .npz file, or a folder with IDX files "
        "(train-images-idx3-ubyte, ...), CIFAR binaries (data_batch_1.bin, ... or train.bin, test.bin), or one folder per class"
    )


def _reason(error: Exception, path: Path) -> str:
    """What an error says, without the operator's folders: users read it."""
    return str(error).replace(str(path), path.name)


def _with_validation(name: str, classes: tuple[str, ...], train: Split, test: Split) -> Dataset:
    held, rest = stratified(train.labels, (round(VALIDATION_SHARE * len(train)),), seed=0)
    kept, validation = (Split(train.images[i], train.labels[i]) for i in (rest, held))
    return Dataset(name, classes, kept, validation, test)


def _numbers(labels: npt.NDArray[np.integer[Any]]) -> tuple[str, ...]:
    """Class names of data that has none."""
    return tuple(str(c) for c in range(int(labels.max()) + 1)) if len(labels) else ()


# IDX ----------------------------------------------------------------------------------------------------------------


def _idx_file(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None)


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes with that many dimensions; `.gz` is unpacked. Raises InvalidDataset."""
    data, start = _idx_bytes(path, MAX_BYTES), 4 + 4 * dimensions
    shape = _idx_head(path, data, dimensions)
    if len(data) - start != int(np.prod(shape, dtype=np.float64)):
        raise InvalidDataset(f"{path.name} holds {len(data) - start} bytes, its head says {shape}; fetch it again")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _idx_bytes(path: Path, most: int) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidDataset(f"{path.name} cannot be read: {_reason(error, path)}; fetch it again") from error


def _idx_head(path: Path, data: bytes, dimensions: int) -> tuple[int, ...]:
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, 8, dimensions)):
        raise InvalidDataset(f"{path.name} is not an IDX file of bytes with {dimensions} dimension(s)")
    return struct.unpack(f">{dimensions}I", data[4:start])


def load_idx(name: str, folder: Path) -> Dataset:
    """MNIST, Fashion-MNIST, EMNIST and the like: four IDX files."""
    splits = []
    for stem in ("train", "t10k"):
        images, labels = (_idx_file(folder, f"{stem}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if images is None or labels is None:
            raise InvalidDataset(f"data set {name!r}: {stem}-images-idx3-ubyte or {stem}-labels-idx1-ubyte is missing")
        splits.append(_split(name, stem, read_idx(images, 3)[:, None], read_idx(labels, 1).astype(np.int64)))
    return _with_validation(name, _numbers(splits[0].labels), *splits)


def _idx_shape(name: str, folder: Path) -> Shape:
    images, labels = (_idx_file(folder, f"train-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if images is None or labels is None:
        raise InvalidDataset(f"data set {name!r}: train-images-idx3-ubyte or train-labels-idx1-ubyte is missing")
    _, height, _ = _idx_head(images, _idx_bytes(images, 16), 3)
    return Shape(len(_numbers(read_idx(labels, 1))), 1, height)


def _split(name: str, where: str, images: Images, labels: Labels) -> Split:
    if len(images) != len(labels) or not len(labels):
        raise InvalidDataset(f"data set {name!r}: {where} has {len(images)} images and {len(labels)} labels")
    return Split(np.ascontiguousarray(images), labels)


# CIFAR --------------------------------------------------------------------------------------------------------------


def _read_cifar(path: Path, labels: int) -> tuple[Images, Labels]:
    """(images, labels) of a CIFAR binary whose records start with that many label bytes; the last one counts."""
    size = labels + 3 * 32 * 32
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidDataset(f"{path.name} cannot be read: {_reason(error, path)}; fetch it again") from error
    if not data or len(data) % size:
        raise InvalidDataset(f"{path.name}: {len(data)} bytes are no whole number of records of {size}; fetch it again")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1].astype(np.int64)


def load_cifar10(name: str, folder: Path) -> Dataset:
    """CIFAR-10, binary version: data_batch_1.bin to data_batch_5.bin, test_batch.bin."""
    parts = [_read_cifar(path, 1) for path in sorted(folder.glob("data_batch_*.bin"))]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    test = _split(name, "test_batch.bin", *_read_cifar(folder / "test_batch.bin", 1))
    return _with_validation(name, _CIFAR10, _split(name, "data_batch", images, labels), test)


def load_cifar100(name: str, folder: Path) -> Dataset:
    """CIFAR-100, binary version: train.bin, test.bin; fine labels."""
    train, test = (_split(name, file, *_read_cifar(folder / file, 2)) for file in ("train.bin", "test.bin"))
    return _with_validation(name, tuple(str(c) for c in range(100)), train, test)


# Image folders ------------------------------------------------------------------------------------------------------


def _class_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and any(q.suffix.lower() in _IMAGE_ENDINGS for q in p.iterdir()))


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and bool(_class_folders(folder) or ((folder / "train").is_dir() and _class_folders(folder / "train")))


def load_folders(name: str, folder: Path) -> Dataset:
    """One folder of images per class, at the top or under train/ and test/ (and validation/).

    Images are cropped to their centre square and brought to 64 pixels, three channels.
    """
    if _class_folders(folder):
        classes = tuple(p.name for p in _class_folders(folder))
        pool = _read_folder(name, folder, classes)
        share = max(len(classes), round(VALIDATION_SHARE * len(pool)))
        return split_three(name, classes, pool.images, pool.labels, validation=share, test=share)
    classes = tuple(p.name for p in _class_folders(folder / "train"))
    if not (folder / "test").is_dir():
        raise InvalidDataset(f"data set {name!r}: there is a train folder but no test folder")
    train, test = (_read_folder(name, folder / split, classes) for split in ("train", "test"))
    if (folder / "validation").is_dir():
        return Dataset(name, classes, train, _read_folder(name, folder / "validation", classes), test)
    return _with_validation(name, classes, train, test)


def _folders_shape(name: str, folder: Path) -> Shape:
    return Shape(len(_class_folders(folder) or _class_folders(folder / "train")), 3, FOLDER_SIZE)


def _read_folder(name: str, folder: Path, classes: tuple[str, ...]) -> Split:
    images, labels = [], []
    for label, title in enumerate(classes):
        files = sorted(p for p in (folder / title).glob("*") if p.suffix.lower() in _IMAGE_ENDINGS)
        if not files:
            raise InvalidDataset(f"data set {name!r}: class {title!r} has no images in {folder.name}")
        images += [_read_image(path) for path in files]
        labels += [label] * len(files)
    return Split(np.stack(images), np.array(labels, dtype=np.int64))


def _read_image(path: Path) -> Images:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - workers only

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidDataset(
            f"image {path.parent.name}/{path.name} cannot be read: {_reason(error, path)}; repair or remove it"
        ) from error
    side = min(picture.size)
    if side < 8:
        raise InvalidDataset(f"image {path.parent.name}/{path.name} is {picture.size[0]} x {picture.size[1]}; 8 x 8 is the least")
    left, top = (picture.size[0] - side) // 2, (picture.size[1] - side) // 2
    square = picture.resize((FOLDER_SIZE, FOLDER_SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


# Arrays -------------------------------------------------------------------------------------------------------------


def load_npz(name: str, path: Path) -> Dataset:
    """Arrays images (N, H, W) or (N, H, W, C) of bytes and labels (N,): one pool, or with train_, test_ (validation_) before."""
    arrays = _read_npz(name, path)

    def split(prefix: str) -> Split:
        wanted = [f"{prefix}images", f"{prefix}labels"]
        if not set(wanted) <= set(arrays):
            raise InvalidDataset(f"data set {name!r}: the file lacks {' or '.join(wanted)}; it has {sorted(arrays)[:8]}")
        images, labels = (arrays[key] for key in wanted)
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise InvalidDataset(f"data set {name!r}: {wanted[0]} must be bytes (N, H, W[, C]), {wanted[1]} whole numbers (N,)")
        images = images[..., None] if images.ndim == 3 else images
        return _split(name, wanted[0], images.transpose(0, 3, 1, 2).astype(np.uint8), labels.astype(np.int64))

    if "images" in arrays:
        pool = split("")
        share = round(VALIDATION_SHARE * len(pool))
        return split_three(name, _numbers(pool.labels), pool.images, pool.labels, validation=share, test=share)
    train, test = split("train_"), split("test_")
    if "validation_images" in arrays:
        return Dataset(name, _numbers(train.labels), train, split("validation_"), test)
    return _with_validation(name, _numbers(train.labels), train, test)


def _npz_shape(name: str, path: Path) -> Shape:
    with _opened_npz(name, path) as file:
        prefix = "" if "images" in file.files else "train_"
        if not {f"{prefix}images", f"{prefix}labels"} <= set(file.files):
            raise InvalidDataset(f"data set {name!r}: the file lacks images or labels; it has {sorted(file.files)[:8]}")
        labels = file[f"{prefix}labels"]
        with file.zip.open(f"{prefix}images.npy") as stored:
            np.lib.format.read_magic(stored)
            shape = np.lib.format.read_array_header_1_0(stored)[0]
    if len(shape) not in (3, 4) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InvalidDataset(f"data set {name!r}: images must be (N, H, W[, C]), labels whole numbers (N,)")
    return Shape(len(_numbers(labels)), shape[3] if len(shape) == 4 else 1, shape[1])


def _read_npz(name: str, path: Path) -> dict[str, npt.NDArray[np.generic]]:
    with _opened_npz(name, path) as file:
        return {key: file[key] for key in file.files}


@contextmanager
def _opened_npz(name: str, path: Path) -> Iterator[Any]:
    """An npz file; its stated size is checked before anything is unpacked, objects are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise InvalidDataset(f"data set {name!r}: {size} bytes unpacked; {MAX_BYTES} are the most")
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InvalidDataset):
            raise
        raise InvalidDataset(f"data set {name!r}: the npz file cannot be read safely: {_reason(error, path)}") from error


_FORMS: tuple[tuple[Callable[[Path], bool], Loader, Describer], ...] = (
    (lambda path: path.is_file() and path.suffix == ".npz", load_npz, _npz_shape),
    (lambda path: path.is_dir() and any(path.glob("*-idx?-ubyte*")), load_idx, _idx_shape),
    (lambda path: (path / "data_batch_1.bin").is_file(), load_cifar10, lambda name, path: Shape(10, 3, 32)),
    (lambda path: (path / "train.bin").is_file(), load_cifar100, lambda name, path: Shape(100, 3, 32)),
    (_has_classes, load_folders, _folders_shape),
)
