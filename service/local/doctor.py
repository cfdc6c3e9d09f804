"""Is everything as it should be? Rows against rows (`service.db.audit`), against files, bytes against hashes.

`doctor` only reads. A finding of severity `error` must never be there; `orphan` is what a crash may leave (a
temporary or unreferenced file) and a sweep removes; `warning` is what heals by itself, e.g. a remembered step
whose file is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from service.artifacts import TEMPORARY, ArtifactStore
from service.db import artifacts, audit
from service.db.audit import Finding, Severity
from service.db.faults import Away, Unreadable
from service.db.session import Session, create_db_engine, session_factory
from service.errors import ArtifactCorrupt, ArtifactMissing
from service.settings import Settings

ERROR: Final = Severity.ERROR
ORPHAN: Final = Severity.ORPHAN
WARNING: Final = Severity.WARNING
__all__ = ["ERROR", "ORPHAN", "WARNING", "Finding", "doctor", "sweep"]


def doctor(settings: Settings, *, deep: bool = True) -> list[Finding]:
    """All findings. deep: also read every file and compare its SHA-256."""
    store = ArtifactStore(settings.data_dir / "artifacts")
    engine = create_db_engine(settings.resolved_database_url)
    try:
        with session_factory(engine)() as session:
            return list(_examine(session, store, settings, deep))
    except Unreadable as error:
        # A database that is away is no finding: there is nothing to restore.
        if engine.dialect.name != "sqlite" or isinstance(error, Away):
            raise
        return [audit.unreadable(error)]
    finally:
        engine.dispose()


def sweep(settings: Settings, *, older_than_s: float) -> list[str]:
    """Remove temporary and unreferenced files older than that; their names. Safe beside a running service.

    What an unfinished upload or step wrote is younger than `older_than_s`: choose it longer than the longest
    step.
    """
    store = ArtifactStore(settings.data_dir / "artifacts")
    engine = create_db_engine(settings.resolved_database_url)
    try:
        with session_factory(engine)() as session:
            wanted = artifacts.named(session)
        return [path.name for path in store.sweep(wanted, older_than_s)]
    finally:
        engine.dispose()


def _examine(session: Session, store: ArtifactStore, settings: Settings, deep: bool) -> Iterator[Finding]:
    damage = list(audit.damage(session))
    yield from damage
    if any(found.code in ("schema", "integrity") for found in damage):
        return  # the rows of a damaged database prove nothing
    yield from _files(session, store, deep)
    yield from audit.contradictions(session, 3 * settings.dead_after_s)
    for step, sha256 in audit.step_files(session):
        if not store.path(sha256).is_file():
            yield Finding(
                WARNING, "step_file", step, "a file of it is gone; the step is done again when needed"
            )


def _files(session: Session, store: ArtifactStore, deep: bool) -> Iterator[Finding]:
    rows = artifacts.sizes(session)
    for sha256, size_bytes in rows.items():
        try:
            size = store.verify(sha256) if deep else store.path(sha256).stat().st_size
        except (ArtifactMissing, FileNotFoundError):
            yield Finding(
                ERROR,
                "file_missing",
                sha256[:12],
                "the row is there, the file is not; restore it from a backup",
            )
        except ArtifactCorrupt:
            yield Finding(
                ERROR,
                "file_corrupt",
                sha256[:12],
                "its bytes are not those of its SHA-256; restore it from a backup",
            )
        else:
            if size != size_bytes:
                yield Finding(ERROR, "file_size", sha256[:12], f"has {size} bytes, its row says {size_bytes}")
    wanted = artifacts.named(session)
    for sha256 in store.stored():
        if sha256 not in wanted:
            yield Finding(ORPHAN, "file_unreferenced", sha256[:12], "no row names it; a sweep removes it")
        elif deep and sha256 not in rows and not store.whole(sha256):
            yield Finding(ERROR, "file_corrupt", sha256[:12], "its bytes are not those of its SHA-256")
    for path in store.root.glob(f"{TEMPORARY}*"):
        # A younger one belongs to a write that is under way.
        if time.time() - path.stat().st_mtime > 1:
            yield Finding(ORPHAN, "file_temporary", path.name, "an unfinished write; a sweep removes it")
