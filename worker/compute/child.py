"""Children of the worker: torch runs in them, never in the engine, so a crash of theirs is an event and not a
loss.

A child has its own session, a scrubbed environment and resource limits. It reads a pipe: bytes are the
worker's heartbeat, end of file means that the worker is gone, and then the child ends too. It writes JSON
lines.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from latency_tables.blas import one_thread_unless_asked
from latency_tables.failures import OUT_OF_MEMORY, Failure, error_of
from latency_tables.typed_json import PLAIN
from service.db.documents import Fields
from service.settings import Settings
from supernets.errors import RankLost
from worker.errors import ChildCrashed, OutOfMemory, StepFailed, StepTimeout, WorkerStopping

POLL_S: Final = 0.2
TELL_S: Final = 1.0
MOST_TOLD_BYTES: Final = 256 << 10
BEAT_S: Final = 1.0
MOST_FILES: Final = 4096
LARGEST_FILE_BYTES: Final = 64 << 30
_KEPT: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONPATH",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "BESPOKE_FAILPOINT",
)
_KEPT_BEGINNINGS: Final = ("OMP_", "MKL_", "OPENBLAS_", "GLOO_", "NCCL_")
_OUT_OF_MEMORY: Final = ("MemoryError", "not enough memory", "out of memory")
_TAIL_BYTES: Final = 2000
log = logging.getLogger("bespoke.worker")


def scrubbed_environment(threads: int | None = None) -> dict[str, str]:
    """What a child may know: no database address, no keys."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith(_KEPT_BEGINNINGS)}
    one_thread_unless_asked(kept)
    if threads is not None:
        kept["OMP_NUM_THREADS"] = str(threads)
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}


def silence_limit_s(settings: Settings) -> float:
    """How long a child waits for a frozen worker's heartbeat: it is gone before another worker takes the
    job.
    """
    return max(5.0, settings.dead_after_s / 2)


class Child:
    """One child process. Use as a context manager: leaving it kills the whole process group.

    Ranks that torchrun starts have groups of their own; they end because their parent did.

    check: called several times a second while the caller waits; what it raises ends the wait. tell: gets the
    lines of the child's log, with what the child is, as they come.
    memory_bytes: limit of its address space, 0 for none. timeout_s: how long it may work at a time, None for
    ever.
    grace_s: how long it may go on after SIGTERM where the worker stops, to keep what it has done; else it is
    killed at once.
    """

    def __init__(
        self,
        what: str,
        arguments: list[str],
        *,
        log: Path,
        check: Callable[[], None],
        tell: Callable[[str, Sequence[str]], None] | None = None,
        memory_bytes: int = 0,
        timeout_s: float | None = None,
        grace_s: float = 0.0,
    ) -> None:
        self.what = what
        self._check, self._tell = check, tell
        self._log = log
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._started = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._log_start = self._told = errors.tell()
            self._told_at = time.monotonic()
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                [sys.executable, "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # A group of its own, so that one signal reaches it with all it has started.
                start_new_session=True,
                # Code of data sets and spaces runs in there: it gets no address and no key of the database.
                env=scrubbed_environment(),
            )
        # After the start and not in `preexec_fn`, which may deadlock in a process with threads.
        self._limit(memory_bytes)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._writing = threading.Lock()
        for work in (self._read, self._beat):
            threading.Thread(target=work, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Only then: one that lost its job must write nothing more, and a cancelled job ends within seconds.
        if isinstance(error, WorkerStopping) and self._grace_s:
            self._ask_to_end()
        self.close()

    def _limit(self, memory_bytes: int) -> None:
        """No core files, and no more memory, open files or bytes in a file than a step can need."""
        limits = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: MOST_FILES,
            resource.RLIMIT_FSIZE: LARGEST_FILE_BYTES,
        }
        if memory_bytes:
            limits[resource.RLIMIT_AS] = memory_bytes
        for which, value in limits.items():
            _, hard = resource.getrlimit(which)
            bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with suppress(ProcessLookupError):  # it has ended already; `messages` reports how
                resource.prlimit(self._process.pid, which, (bounded, bounded))

    def send(self, message: Fields) -> None:
        """Write one JSON line to the child; its time begins anew."""
        self._started = time.monotonic()
        self._write(json.dumps(message, allow_nan=False).encode() + b"\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """JSON lines of the child until it ends.

        Raises the child's error, StepFailed for one that is not ours, ChildCrashed, or what `check` raises.
        """
        while True:
            self._check()
            self._tell_new(least_s=TELL_S)
            if self._timeout_s is not None and time.monotonic() - self._started > self._timeout_s:
                raise StepTimeout(
                    f"{self.what} took longer than {self._timeout_s:g} s (BESPOKE_STEP_TIMEOUT_S)"
                )
            try:
                line = self._lines.get(timeout=POLL_S)
            except queue.Empty:
                continue
            # End of its output: the exit status says whether it was done or died.
            if line is None:
                return self._ended()
            # Libraries print too. What is no message of ours is left to the log.
            message = _parse(line)
            if message is None:
                continue
            if message.get("event") == "error":
                del message["event"]
                raise self._raised(PLAIN.read(Failure, message))
            yield message

    def _raised(self, failure: Failure) -> Exception:
        """The child's error as it was raised there, where it is one of ours."""
        if failure.type == OUT_OF_MEMORY:
            return OutOfMemory(failure.message)
        error = error_of(failure) or StepFailed(failure.message)
        # What the one process says is that another one crashed: that is worth another try.
        return ChildCrashed(self.what, 0, None, str(error)) if isinstance(error, RankLost) else error

    def _ask_to_end(self) -> None:
        """SIGTERM, and a bounded wait. A group that torchrun leads is asked through torchrun, which tells its
        ranks.
        """
        self._process.terminate()
        try:
            code = self._process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            log.warning(
                "child was killed: what it did since its last checkpoint is lost",
                extra={"child": self.what, "waited_s": self._grace_s},
            )
        else:
            log.info("child ended when told to", extra={"child": self.what, "code": code})

    def close(self) -> None:
        """Kill the group and reap the child; nothing of it is left behind."""
        self._closing.set()
        # Always, even after a clean end: what it has forked would otherwise stay and hold its memory.
        _kill_group(self._process.pid)
        self._process.wait()
        with self._writing, suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _beat(self) -> None:
        # A thread of its own: the child must not die because the database keeps its job waiting.
        while not self._closing.wait(BEAT_S):
            self._write(b"\n")

    def _write(self, data: bytes) -> None:
        try:
            with self._writing:
                if self._process.stdin is not None:
                    self._process.stdin.write(data)
                    self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended; `messages` reports how

    def _ended(self) -> None:
        code = self._process.wait()
        self._tell_new()
        if code == 0:
            return
        tail = self._tail()
        if code > 0 and any(sign in tail for sign in _OUT_OF_MEMORY):
            # Torch and C libraries die of it without an exception that anybody could have sent.
            raise OutOfMemory(
                f"{self.what} needs more memory than it may take (BESPOKE_STEP_MEMORY_MB) or there is"
            )
        raise ChildCrashed(self.what, -code if code < 0 else 0, code, tail)

    def _tell_new(self, least_s: float = 0.0) -> None:
        """Tell what is new in the log, if that is long enough after the last time; whole lines, the last
        ones of many.
        """
        if self._tell is None or time.monotonic() - self._told_at < least_s:
            return
        self._told_at = time.monotonic()
        with self._log.open("rb") as log:
            # A child that prints without end must not fill the database: of a flood the last part is told.
            start = max(self._told, self._log.stat().st_size - MOST_TOLD_BYTES)
            log.seek(start)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1] if least_s else data
        if whole:
            self._told = start + len(whole)
            self._tell(self.what, whole.decode(errors="replace").splitlines())

    def _tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(self._log_start, self._log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")


def _parse(line: bytes) -> dict[str, Any] | None:
    """A message, or None for anything else that found its way to standard output."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
