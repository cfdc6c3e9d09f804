"""Run the protocol on networks in a child process, and keep the child on a leash."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from latency_tables.agent.errors import MeasuringFailed
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.errors import InvalidMeasurement
from latency_tables.inputs import InputSpec
from latency_tables.measurement import Measurement
from latency_tables.measuring.profiling import Reading, Settings
from latency_tables.measuring.suspension import Suspensions

SUSPENDED: Final = "suspended"


@dataclass(frozen=True)
class Network:
    """A checked network on disk. inputs: with the batch in their shapes; None: those it declares."""

    path: Path
    inputs: tuple[InputSpec, ...] | None = None


@dataclass(frozen=True)
class Limits:
    """Of the child: memory it may map, processor time, and how long it may be silent."""

    memory_mib: int = 4096
    cpu_s: int = 3600
    silent_s: float = 300.0


@dataclass(frozen=True)
class Job:
    """Networks to be measured together, all alive at once. `sentinel` is one of the names, opened `copies`
    times more."""

    networks: Mapping[str, Network]
    sentinel: str | None = None
    reference_ms: float | None = None
    copies: int = 0
    setup: Setup = field(default_factory=Setup)
    seed: int = 0
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)

    def to_line(self) -> str:
        """The one line the child reads."""
        networks = [
            {
                "name": name,
                "path": str(n.path),
                "inputs": None if n.inputs is None else [spec.to_json() for spec in n.inputs],
            }
            for name, n in self.networks.items()
        ]
        return json.dumps(
            {
                "networks": networks,
                "sentinel": self.sentinel,
                "reference_ms": self.reference_ms,
                "copies": self.copies,
                "setup": self.setup.as_dict(),
                "seed": self.seed,
                "settings": asdict(self.settings),
                "memory_mib": self.limits.memory_mib,
                "cpu_s": self.limits.cpu_s,
            }
        )


@dataclass(frozen=True)
class Measured(Reading):
    """A reading of a real runtime. nodes: of the network, by the provider that computed them; empty where it
    does not tell."""

    nodes: Mapping[str, int] = field(default_factory=dict)


def measure_in_child(
    job: Job,
    progress: Callable[[float], None] = lambda fraction: None,
    suspensions: Suspensions | None = None,
) -> dict[str, Reading]:
    """Measure the networks of a job in a child process of its own. Raises MeasuringFailed.

    Readings of a device that was suspended meanwhile are flagged `suspended`: clocks stand still in
    suspension, so they are no wild values, but the device woke up cold.
    """
    watch = suspensions or Suspensions()
    readings = _measured(job, progress)
    if watch.since_last_s():
        return {
            name: replace(reading, flags=(*reading.flags, SUSPENDED)) for name, reading in readings.items()
        }
    return readings


def _measured(job: Job, progress: Callable[[float], None]) -> dict[str, Reading]:
    known = {
        name: value for name, value in os.environ.items() if not name.startswith("BESPOKE_")
    }  # no token, no key
    environment = {
        **known,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "latency_tables.agent.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,  # what a runtime starts in turn must not outlive it, nor keep the pipe open
    )
    try:
        return _converse(child, job, progress)
    finally:
        _end(child)
        for pipe in (child.stdin, child.stdout):
            _close(pipe)


def _end(child: subprocess.Popen[str]) -> None:
    """End the child and whatever it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _close(pipe: IO[str] | None) -> None:
    if pipe is None:
        return
    try:
        pipe.close()
    except BrokenPipeError:  # the child is gone already
        return


def _converse(
    child: subprocess.Popen[str], job: Job, progress: Callable[[float], None]
) -> dict[str, Reading]:
    if child.stdin is None or child.stdout is None:
        raise MeasuringFailed("the child process has no pipes")
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read_lines, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        child.stdin.write(job.to_line() + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        raise MeasuringFailed("the child process ended before it was given work") from None
    deadline = time.monotonic() + job.limits.cpu_s
    while True:
        try:
            line = lines.get(timeout=min(job.limits.silent_s, max(0.1, deadline - time.monotonic())))
        except queue.Empty:
            raise MeasuringFailed("the child process is silent; it was ended") from None
        if line is None:
            raise MeasuringFailed(
                f"the child process ended with code {child.wait()}: out of memory, or a network it cannot run"
            )
        message = json.loads(line)
        if "error" in message:
            raise MeasuringFailed(f"a network cannot be measured: {message['error']}")
        if "readings" in message:
            return {name: _reading(data) for name, data in message["readings"].items()}
        progress(float(message["progress"]))


def _read_lines(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _reading(data: Mapping[str, Any]) -> Reading:
    try:
        measurement, flags = Measurement(**data["measurement"]), tuple(data["flags"])
        return Measured(
            measurement, data["sentinel_ms"], flags, data["sentinel_error"], nodes=data.get("nodes", {})
        )
    except (InvalidMeasurement, TypeError, KeyError) as error:
        raise MeasuringFailed("the child process answered with something that is no measurement") from error
