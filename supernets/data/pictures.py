"""Pictures of a folder as an array of bytes whose rows are converted when they are asked for.

A folder may hold more than memory does: 200,000 pictures of 224 pixels are 28 GiB. Converted pictures are
kept in a file beside the other work files, with a checksum each, so that a picture is converted once for all
epochs, jobs and processes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from supernets.data.preprocessing import keep
from supernets.data.steps import PictureStep, Resize
from supernets.errors import InvalidDataset

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Bytes = npt.NDArray[np.uint8]
LEAST_SIDE = 8
_LARGE = threading.Lock()  # one large picture at a time: of 100 million pixels each copy takes 300 MB
_LARGE_PIXELS = 2**24
_STRANGERS: Final = (
    (4, b"ftyphei", "a HEIC picture (convert it to JPEG or PNG)"),
    (4, b"ftypmif1", "a HEIC picture (convert it to JPEG or PNG)"),
    (0, b"<!doctype", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"version https://git-lfs", "a Git LFS pointer (git lfs pull)"),
    (0, b"pk\x03\x04", "a zip archive"),
)
_CHECKSUM = 4
_FREE_SHARE = 0.5  # of the disk's free space, at most, for a file of converted pictures


class PictureFiles:
    """All pictures of a data set, by number. folder: where converted ones are kept; None: they are converted
    each time.

    stamps: what changes when a file does. The file of converted pictures is known by them, by the names and
    by the steps.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        names: Sequence[str],
        steps: tuple[PictureStep, ...],
        channels: int,
        folder: Path | None = None,
        stamps: str = "",
    ) -> None:
        self.root, self.names, self.steps = root, names, steps
        resize = next(one for one in steps if isinstance(one, Resize))
        self.shape = (channels, resize.height, resize.width)
        self._record = int(np.prod(self.shape))
        self._kept = (
            None
            if folder is None
            else _Kept.opened(folder, name, self._key(stamps), len(names), self._record)
        )

    def _key(self, stamps: str) -> str:
        found = hashlib.sha256(repr((self.steps, stamps)).encode())
        for name in self.names:
            found.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return found.hexdigest()[:24]

    def read(self, numbers: npt.NDArray[np.int64]) -> Bytes:
        """Kept pictures (n, C, H, W) of those numbers. Raises InvalidDataset that names a picture that cannot
        be read."""
        out = np.empty((len(numbers), self._record), dtype=np.uint8)
        missing = [place for place, number in enumerate(numbers) if not self._find(int(number), out[place])]
        if missing:
            self._convert(numbers, missing, out)
        return out.reshape(-1, *self.shape)

    def _find(self, number: int, row: Bytes) -> bool:
        return self._kept is not None and self._kept.read(number, row)

    def _convert(self, numbers: npt.NDArray[np.int64], missing: list[int], out: Bytes) -> None:
        def one(place: int) -> None:
            number = int(numbers[place])
            out[place] = read_picture(self.root, self.names[number], self.steps).reshape(-1)
            if self._kept is not None:
                self._kept.write(number, out[place])

        if len(missing) < 4:
            for place in missing:
                one(place)
            return
        with ThreadPoolExecutor(
            max_workers=min(8, os.cpu_count() or 1)
        ) as threads:  # Pillow decodes outside the GIL
            for _ in threads.map(one, missing):
                pass


@dataclass(frozen=True)
class Pictures:
    """Rows of `PictureFiles` that look like an array (N, C, H, W) of bytes; indexing gives an array."""

    files: PictureFiles
    rows: npt.NDArray[np.int64]

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        return 1 + len(self.files.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.files.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Bytes:
        chosen = self.rows[index]
        found = self.files.read(np.atleast_1d(chosen))
        return found[0] if np.ndim(chosen) == 0 else found

    def take(self, rows: npt.NDArray[np.int64]) -> Pictures:
        """Those rows, still to be converted."""
        return Pictures(self.files, self.rows[rows])


class UnreadablePicture(Exception):
    """What is wrong with a picture, as the end of a sentence; names no place."""


@contextmanager
def opened_picture(path: Path) -> Iterator[Picture]:
    """An opened picture, not yet decoded. Raises UnreadablePicture, also for what fails while it is open."""
    from PIL import Image  # noqa: PLC0415 - only who reads pictures needs Pillow

    try:
        with Image.open(path) as opened:
            if min(opened.size) < LEAST_SIDE:
                width, height = opened.size
                raise UnreadablePicture(f"is {width} x {height}; {LEAST_SIDE} x {LEAST_SIDE} is the least")
            with _LARGE if opened.width * opened.height > _LARGE_PIXELS else nullcontext():
                yield opened
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(_reason(path, error)) from error


def read_picture(root: Path, name: str, steps: tuple[PictureStep, ...]) -> Bytes:
    """The kept picture (C, H, W) of a file. Raises InvalidDataset that names it."""
    try:
        with opened_picture(root / name) as opened:
            return keep(opened, steps)
    except UnreadablePicture as error:
        raise InvalidDataset(f"image {name} {error}; repair or remove it") from error


def _reason(path: Path, error: BaseException) -> str:
    """Why a picture cannot be read: its first bytes say more than the error of who could not."""
    try:
        with path.open("rb") as file:
            head = file.read(32).lower()
    except OSError:
        head = b""
    kind = next((kind for start, mark, kind in _STRANGERS if head[start:].startswith(mark)), None)
    if kind is not None:
        return f"cannot be read: it is {kind} under the name of a picture"
    return f"cannot be read: {str(error).replace(str(path), path.name)}"


class _Kept:
    """A file of converted pictures and one of their checksums; several processes may fill it at once, with
    the same bytes."""

    def __init__(self, descriptor: int, checksums: int, record: int) -> None:
        self._descriptor, self._checksums, self._record = descriptor, checksums, record

    @classmethod
    def opened(cls, folder: Path, name: str, key: str, count: int, record: int) -> _Kept | None:
        """The file of that key, those of the same name and record size with other keys removed; None on a
        disk too full."""
        folder.mkdir(parents=True, exist_ok=True)
        start = f"pictures-{name}-{record}-"
        path = folder / f"{start}{key}.bytes"
        for old in folder.glob(f"{start}*"):
            if old.stem != path.stem:
                old.unlink(missing_ok=True)
        held = path.stat().st_blocks * 512 if path.exists() else 0
        if count * record - held > _FREE_SHARE * shutil.disk_usage(folder).free:
            return None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        return cls(os.open(path, flags, 0o600), os.open(path.with_suffix(".crc32"), flags, 0o600), record)

    def read(self, number: int, row: Bytes) -> bool:
        """Fill `row`; False where the picture is not there, or damaged."""
        checksum = os.pread(self._checksums, _CHECKSUM, number * _CHECKSUM)
        if len(checksum) < _CHECKSUM or not any(checksum):
            return False
        found = os.pread(
            self._descriptor, self._record, number * self._record
        )  # no memory map: its pages would count as ours
        if len(found) != self._record:
            return False
        row[:] = np.frombuffer(found, dtype=np.uint8)
        return _checksum(row) == checksum

    def write(self, number: int, row: Bytes) -> None:
        """Keep it: bytes first, so that a checksum without its bytes is told by not being theirs."""
        os.pwrite(self._descriptor, row.tobytes(), number * self._record)
        os.pwrite(self._checksums, _checksum(row), number * _CHECKSUM)

    def __del__(self) -> None:
        for descriptor in (self._descriptor, self._checksums):
            os.close(descriptor)


def _checksum(row: Bytes) -> bytes:
    """CRC-32 that is never 0, which stands for a picture that is not there."""
    return (zlib.crc32(row.tobytes()) or 1).to_bytes(_CHECKSUM, "little")
