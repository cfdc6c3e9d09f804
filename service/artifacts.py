"""Content-addressed files: what is stored under a SHA-256 has that SHA-256, or it is not served.

A file is written to a temporary name (mode 0600) in its own folder, synced, renamed, and the folder is
synced; only then may a row name it. A crash leaves the old state, the new state, or a temporary file for
`sweep`.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from latency_tables.files import sync_folder
from service.errors import ArtifactCorrupt, ArtifactMissing
from service.failpoints import failpoint

_CHUNK: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
TEMPORARY: Final = ".tmp-"


class ArtifactStore:
    """Files under one folder, `ab/abcd…` by SHA-256. Safe for several processes; nothing is ever
    rewritten."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes | Path) -> tuple[str, int]:
        """Store bytes or a copy of a file; (sha256, size in bytes). Storing the same twice changes
        nothing."""
        temporary = self.root / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            digest, size = _write(temporary, data)
            target = self.path(digest)
            # Read and compared, not only looked for: a damaged file is replaced by the next that has the same
            # bytes.
            if _holds(target, digest):
                return digest, size
            target.parent.mkdir(exist_ok=True, mode=0o700)
            failpoint("artifact.written")
            temporary.rename(target)
            failpoint("artifact.renamed")
            # Both: the file's name lies in one folder, the folder's own name in the other.
            sync_folder(target.parent)
            sync_folder(self.root)
            return digest, size
        finally:
            temporary.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the file is or would be. Raises ArtifactMissing for a text that is not a SHA-256."""
        if _DIGEST.fullmatch(sha256) is None:
            raise ArtifactMissing("an artifact is named by 64 hexadecimal digits")
        return self.root / sha256[:2] / sha256

    def read(self, sha256: str) -> bytes:
        """The bytes, checked against the hash. Raises ArtifactMissing or ArtifactCorrupt."""
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise ArtifactMissing(
                f"no file {sha256[:12]}… in the artifact store; run `bespoke doctor`"
            ) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArtifactCorrupt(
                f"file {sha256[:12]}… in the artifact store is damaged; restore it from a backup"
            )
        return data

    def verify(self, sha256: str) -> int:
        """Size in bytes, after reading the whole file once. Raises ArtifactMissing or ArtifactCorrupt."""
        path = self.path(sha256)
        if not path.is_file():
            raise ArtifactMissing(f"no file {sha256[:12]}… in the artifact store; run `bespoke doctor`")
        if not _holds(path, sha256):
            raise ArtifactCorrupt(
                f"file {sha256[:12]}… in the artifact store is damaged; restore it from a backup"
            )
        return path.stat().st_size

    def whole(self, sha256: str) -> bool:
        """Whether the file is there with the right bytes, after reading all of it."""
        return _holds(self.path(sha256), sha256)

    def stored(self) -> Iterator[str]:
        """SHA-256 of every file in the store."""
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir() and len(folder.name) == 2:
                yield from (f.name for f in sorted(folder.iterdir()) if _DIGEST.fullmatch(f.name))

    def sweep(self, referenced: Collection[str], older_than_s: float) -> list[Path]:
        """Remove temporary and unreferenced files older than that many seconds; what was removed.

        `referenced` must be read from the database *before* the call. Two sweeps at once are safe.
        """
        limit = time.time() - older_than_s
        wanted = set(referenced)
        # Age decides too: a file is written before the row that names it.
        unreferenced = [self.path(sha256) for sha256 in self.stored() if sha256 not in wanted]
        removed = []
        for path in [*self.root.glob(f"{TEMPORARY}*"), *unreferenced]:
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    path.unlink()
                    removed.append(path)
        return removed


def _write(temporary: Path, data: bytes | Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        for chunk in _chunks(data):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest(), size


def _chunks(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        yield from _parts(file)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _holds(path: Path, sha256: str) -> bool:
    """Whether the file is there with the right bytes; a damaged file is written anew."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False
