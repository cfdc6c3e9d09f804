"""What the agent sees of its device: processor, governor, affinity, versions; and a fingerprint of what must
not change."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from latency_tables.agent.cgroup import cpu_quota
from latency_tables.agent.runtimes.catalog import RUNTIMES

BUSY_LOAD: Final = 0.7
"""Runnable processes for each core above which latencies are noisy: said. Above MOST_LOAD it is refused,
unless allowed."""
_STABLE: Final = (
    "cpu_model",
    "cores",
    "affinity",
    "governor",
    "power",
    "threads",
    "machine",
    "os",
    "versions",
)


def environment(threads: int) -> dict[str, Any]:
    """Everything recorded with a session. Values are None where the system does not tell; `cpu_quota` is in
    cores."""
    return {
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "power": _power_source(),
        "cpu_quota": cpu_quota(),
        "threads": threads,
        "machine": platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "versions": {
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            **{
                name: version
                for name, runtime in RUNTIMES.items()
                if (version := runtime.version()) is not None
            },
        },
        "memory_mib": _memory_mib(),
        "load": load(),
    }


def fingerprint(seen: dict[str, Any]) -> str:
    """SHA-256 of what must stay the same through a session; the load and free memory may change."""
    stable = {name: seen.get(name) for name in _STABLE}
    if (
        seen.get("cpu_quota") is not None
    ):  # named only where there is one: sessions of older agents keep their fingerprint
        stable["cpu_quota"] = seen["cpu_quota"]
    return hashlib.sha256(json.dumps(stable, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load() -> float | None:
    """Runnable processes for each core over the last minute."""
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    except (AttributeError, OSError):
        return None


def _cpu_model() -> str | None:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model"):
            return value.strip()
    return _text("/sys/firmware/devicetree/base/model") or platform.processor() or None


def _power_source() -> str | None:
    for supply in sorted(Path("/sys/class/power_supply").glob("*")):
        if _text(str(supply / "type")) == "Mains":
            return "mains" if _text(str(supply / "online")) == "1" else "battery"
    return None


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip().strip("\x00") or None
    except OSError:
        return None
