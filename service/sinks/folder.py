"""A folder of its own: whole, or not there at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from service.sinks.errors import PushFailed
from service.sinks.files import Release


def push(release: Release, place: str) -> str:
    """Write a new folder. Raises PushFailed where there is one already."""
    target = Path(place)
    if target.exists():
        raise PushFailed(f"{target} is there already; name another folder, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, data in release.files().items():
            (partial / name).write_bytes(data)
        partial.chmod(0o755)
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return str(target)
