"""CIFAR-10 and CIFAR-100 in their binary versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from supernets.data.loaders.forms import Form, Shape, Wanted, by_name, checked_split, reason, with_validation
from supernets.data.splits import Dataset, Labels
from supernets.errors import InvalidDataset

_TEN: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_HUNDRED: Final = tuple(str(c) for c in range(100))


def _read(path: Path, labels: int) -> tuple[npt.NDArray[np.uint8], Labels]:
    """(images, labels) of a file whose records start with that many label bytes; the last one counts."""
    size = labels + 3 * 32 * 32
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidDataset(f"{path.name} cannot be read: {reason(error, path)}; fetch it again") from error
    if not data or len(data) % size:
        raise InvalidDataset(
            f"{path.name}: {len(data)} bytes are no whole number of records of {size}; fetch it again"
        )
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1].astype(np.int64)


def load_ten(name: str, folder: Path, wanted: Wanted) -> Dataset:
    """CIFAR-10: data_batch_1.bin to data_batch_5.bin, test_batch.bin."""
    parts: list[tuple[Any, Any]] = [_read(path, 1) for path in _batches(name, folder)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    test = checked_split(name, "test_batch.bin", *_read(folder / "test_batch.bin", 1))
    return with_validation(name, _TEN, checked_split(name, "data_batch", images, labels), test)


def load_hundred(name: str, folder: Path, wanted: Wanted) -> Dataset:
    """CIFAR-100: train.bin, test.bin; fine labels."""
    train, test = (checked_split(name, file, *_read(folder / file, 2)) for file in ("train.bin", "test.bin"))
    return with_validation(name, _HUNDRED, train, test)


def _batches(name: str, folder: Path) -> list[Path]:
    """The training files. Raises InvalidDataset where one between them is missing."""
    found = sorted(folder.glob("data_batch_*.bin"))
    wanted = {f"data_batch_{number}.bin" for number in range(1, len(found) + 1)}
    lost = sorted(wanted - {path.name for path in found})
    if lost:
        raise InvalidDataset(f"data set {name!r}: {', '.join(lost)} is missing; fetch it again")
    return found


def _there(name: str, folder: Path, files: list[Path]) -> dict[str, Path]:
    for file in files:
        if not file.is_file():
            raise InvalidDataset(f"data set {name!r}: {file.name} is missing")
    return by_name(files, folder)


CIFAR_10: Final = Form(
    "CIFAR-10 binary",
    lambda path: (path / "data_batch_1.bin").is_file(),
    lambda name, path: Shape(10, 3, 32),
    lambda name, path: _TEN,
    lambda name, path: _there(name, path, [*_batches(name, path), path / "test_batch.bin"]),
    load_ten,
)
CIFAR_100: Final = Form(
    "CIFAR-100 binary",
    lambda path: (path / "train.bin").is_file(),
    lambda name, path: Shape(100, 3, 32),
    lambda name, path: _HUNDRED,
    lambda name, path: _there(name, path, [path / "test.bin", path / "train.bin"]),
    load_hundred,
)
