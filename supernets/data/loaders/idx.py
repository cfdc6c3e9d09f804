"""IDX files: MNIST, Fashion-MNIST, EMNIST and the like, packed or not, under any of the names they are handed
on by."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from supernets.data.folder_names import is_hidden
from supernets.data.loaders import forms
from supernets.data.loaders.forms import (
    Form,
    Shape,
    Wanted,
    by_name,
    checked_split,
    numbered,
    reason,
    with_validation,
)
from supernets.data.splits import Dataset, Labels, Split
from supernets.errors import InvalidDataset

_NAME: Final = re.compile(
    r"(?P<prefix>.*?)(?P<split>train|t10k|test)[-_.](?P<kind>images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?",
    re.IGNORECASE,
)
_PART_BYTES: Final = 2**24
_DIMENSIONS: Final = {"images": 3, "labels": 1}
_WANTED: Final = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
)
Parts = dict[tuple[str, str], Path]  # (train or test, images or labels) -> file


def _named(folder: Path) -> dict[str, Parts]:
    """By prefix, such as `emnist-letters-`, the files that are there; an unpacked one goes before a packed
    one."""
    found: dict[str, Parts] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix != ".gz", p.name), reverse=True):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file() and not is_hidden(path.name):
            split = "train" if match["split"].lower() == "train" else "test"
            found.setdefault(match["prefix"], {})[split, match["kind"].lower()] = path
    return found


def _parts(name: str, folder: Path) -> tuple[str, Parts]:
    """(prefix, the four files). Raises InvalidDataset that names what is missing, or the sets of which one
    must be chosen."""
    found = _named(folder)
    if len(found) > 1:
        sets = ", ".join(sorted(prefix.strip("-_.") or "(no prefix)" for prefix in found))
        raise InvalidDataset(
            f"data set {name!r}: the folder holds several sets ({sets}); give one of them a folder of its own"
        )
    prefix, parts = next(iter(found.items()))
    missing = [f"{s} {k}" for s in ("train", "test") for k in _DIMENSIONS if (s, k) not in parts]
    if missing:
        there = ", ".join(sorted(path.name for path in parts.values()))
        raise InvalidDataset(
            f"data set {name!r}: {' and '.join(missing)} missing; found {there}, wanted files like {_WANTED}"
        )
    return prefix, parts


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes with that many dimensions; `.gz` is unpacked. Raises InvalidDataset."""
    data, start = _bytes(path, forms.MAX_BYTES), 4 + 4 * dimensions
    shape = _head(path, data, dimensions)
    if len(data) - start != int(np.prod(shape, dtype=np.float64)):
        raise InvalidDataset(
            f"{path.name} holds {len(data) - start} bytes, its head says {shape}; fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _bytes(path: Path, most: int) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            parts = []  # in parts: reading 8 GiB at once asks for that much memory, whatever there is to read
            while most > 0 and (part := file.read(min(most, _PART_BYTES))):
                parts.append(part)
                most -= len(part)
            return b"".join(parts)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidDataset(f"{path.name} cannot be read: {reason(error, path)}; fetch it again") from error


def _head(path: Path, data: bytes, dimensions: int) -> tuple[int, ...]:
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, 8, dimensions)):
        raise InvalidDataset(
            f"{path.name} is not an IDX file of bytes with {dimensions} dimension(s){_other(data)}"
        )
    return struct.unpack(f">{dimensions}I", data[4:start])


def _other(data: bytes) -> str:
    """What an IDX file holds that is not taken; empty for what is no IDX file."""
    if len(data) < 4 or data[:2] != b"\0\0":
        return ""
    kind = "bytes" if data[2] == 8 else "wider numbers"
    return f": it holds {kind} in {data[3]} dimension(s); save such images in an npz file"


def _is_emnist(prefix: str) -> bool:
    return prefix.lower().startswith("emnist")


def _labels(prefix: str, parts: Parts) -> dict[str, Labels]:
    """Labels by split. EMNIST's letters count from 1."""
    found = {split: read_idx(parts[split, "labels"], 1).astype(np.int64) for split in ("train", "test")}
    first = int(found["train"].min()) if _is_emnist(prefix) and len(found["train"]) else 0
    return {split: labels - first for split, labels in found.items()}


def _classes(name: str, prefix: str, folder: Path, labels: Labels) -> tuple[str, ...]:
    """Numbers, or the characters of EMNIST's mapping file where it is there: rows of label, code of the
    character, ...."""
    mapping = folder / f"{prefix}mapping.txt"
    names = numbered(name, "train", labels)
    if _is_emnist(prefix) and mapping.is_file():
        rows = [line.split() for line in mapping.read_text("ascii", "replace").splitlines()]
        codes = [int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()]
        if len(codes) == len(names):
            return tuple(map(chr, codes))
    return names


def load(name: str, folder: Path, wanted: Wanted) -> Dataset:
    """Four IDX files as a data set; EMNIST's pictures lie on their side in its files and are put upright."""
    prefix, parts = _parts(name, folder)
    labels = _labels(prefix, parts)

    def split(which: str) -> Split:
        images = read_idx(parts[which, "images"], 3)
        upright = images.transpose(0, 2, 1) if _is_emnist(prefix) else images
        return checked_split(name, which, upright[:, None], labels[which])

    return with_validation(
        name, _classes(name, prefix, folder, labels["train"]), split("train"), split("test")
    )


def _shape(name: str, folder: Path) -> Shape:
    prefix, parts = _parts(name, folder)
    _, height, _ = _head(parts["train", "images"], _bytes(parts["train", "images"], 16), 3)
    return Shape(len(numbered(name, "train", _labels(prefix, parts)["train"])), 1, height)


def _class_names(name: str, folder: Path) -> tuple[str, ...]:
    prefix, parts = _parts(name, folder)
    return _classes(name, prefix, folder, _labels(prefix, parts)["train"])


def _files(name: str, folder: Path) -> dict[str, Path]:
    return by_name(sorted(_parts(name, folder)[1].values()), folder)


FORM: Final = Form(
    "IDX", lambda path: path.is_dir() and bool(_named(path)), _shape, _class_names, _files, load
)
