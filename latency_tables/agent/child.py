"""The child process: the only place where networks from the service are opened, under resource limits.

`python -m latency_tables.agent.child` reads one JSON line (see `runner.Job`) from its standard input and
answers with JSON lines: {"progress": f} while it measures, then {"readings": {...}} or {"error": text}. It
ends when its standard input ends, so it never outlives the agent.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO


def limit_resources(memory_mib: int, cpu_s: int) -> None:
    """Cap address space, processor time, written files and open files of this process (POSIX)."""
    try:
        import resource  # noqa: PLC0415 (POSIX only)
    except ImportError:
        return
    wanted = {
        resource.RLIMIT_AS: memory_mib * 2**20,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for which, value in wanted.items():
        _, hard = resource.getrlimit(which)
        value_ = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value_, value_))


def main() -> int:
    """Measure one job; the exit code is 0 unless the job was no job."""
    line = sys.stdin.readline()
    if not line:
        return 2
    job = json.loads(line)
    limit_resources(int(job["memory_mib"]), int(job["cpu_s"]))
    threading.Thread(target=_end_with_parent, args=(sys.stdin,), daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    try:
        readings = _measure(job, lambda fraction: say({"progress": fraction}))
    except Exception as error:  # noqa: BLE001 (whatever the runtime raises goes to the parent as text)
        say({"error": f"{type(error).__name__}: {error}"[:2000]})
        return 1
    say({"readings": readings})
    return 0


def _end_with_parent(stream: TextIO) -> None:
    stream.read()
    os._exit(3)


def _measure(job: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 (after the limits)

    from latency_tables.agent.runtimes.catalog import runtime_named  # noqa: PLC0415
    from latency_tables.agent.runtimes.runtime import Opened  # noqa: PLC0415
    from latency_tables.agent.runtimes.setup import Setup  # noqa: PLC0415
    from latency_tables.inputs import InputSpec  # noqa: PLC0415
    from latency_tables.measuring.profiling import MonotonicClock, Settings, measure  # noqa: PLC0415

    generator = np.random.default_rng(job["seed"])
    setup = Setup.from_dict(job["setup"])
    runtime = runtime_named(setup.runtime)
    runtime.check(setup)

    def opened(entry: dict[str, Any]) -> Opened:
        inputs = entry["inputs"] and [InputSpec.from_json(spec) for spec in entry["inputs"]]
        return runtime.open(Path(entry["path"]).read_bytes(), inputs, setup, generator)

    entries = {entry["name"]: entry for entry in job["networks"]}
    networks = {name: opened(entry) for name, entry in entries.items()}
    copies = {f"{job['sentinel']}#{i}": opened(entries[job["sentinel"]]) for i in range(int(job["copies"]))}
    opened_all = networks | copies
    gc.collect()
    gc.disable()
    readings = measure(
        {name: network.run for name, network in opened_all.items()},
        Settings(**job["settings"]),
        MonotonicClock(),
        generator,
        sentinel=job["sentinel"],
        reference_ms=job["reference_ms"],
        progress=progress,
        copies=list(copies),
        in_calling_thread={name for name, network in opened_all.items() if network.in_calling_thread},
    )
    return {name: {**asdict(readings[name]), "nodes": dict(networks[name].nodes)} for name in networks}


if __name__ == "__main__":
    sys.exit(main())
