"""The processor time that a container may take: the CPU quota of Linux's control groups, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_ROOT: Final = Path("/sys/fs/cgroup")


def cpu_quota(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> float | None:
    """Cores' worth of time that this process may take, e.g. 0.2; None where nothing limits it or the system
    does not tell.

    A group's parents limit it too, so the smallest quota on the way up holds.
    """
    quotas = [quota for folder in _folders(membership, root) if (quota := _quota(folder)) is not None]
    return round(min(quotas), 3) if quotas else None


def _folders(membership: Path, root: Path) -> Iterator[Path]:
    """The groups of this process and all their parents, of both versions."""
    for line in (_text(membership) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree and names no controller; version 1 mounts `cpu` alone or together with
        # `cpuacct`.
        for tree in {root, root / "unified"} if not controllers else {root / controllers, root / "cpu"}:
            # Inside a container the path is often the host's and its own group is the root: missing files are
            # skipped.
            for place in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield tree / str(place).lstrip("/")


def _quota(group: Path) -> float | None:
    together = (_text(group / "cpu.max") or "").split()
    quota, period = (
        together
        if len(together) == 2
        else (_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))
    )
    try:
        limit = int(quota or "") / int(period or "")
    except (ValueError, ZeroDivisionError):  # "max", or no such files
        return None
    return limit if limit > 0 else None  # version 1 writes -1 for no limit


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
