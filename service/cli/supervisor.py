"""The API and a worker as child processes of one: started, watched, restarted, drained.

The worker is restarted when it dies, after 1, 2, 4 … 30 seconds; a minute of life resets that. When the API
dies the whole stack stops: something outside must decide what to do about it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import httpx

from latency_tables.errors import BespokeError
from service.posix import what_is_missing

_START_S: Final = 60.0
_DRAIN_S: Final = 15.0
_LONGEST_PAUSE_S: Final = 30.0
_HEALTHY_S: Final = 60.0


class StackFailed(BespokeError):
    """The service did not start, or its API died."""


@dataclass
class _Child:
    """One process of the stack and what is needed to start it again."""

    module: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = 1.0
    restart_at: float | None = None
    deaths: int = 0


@dataclass
class Stack:
    """API and workers over one data folder. Use it in a `with`; call `tend` at least once a second.

    log_dir: where the children's output goes, in one file each; None: to this process's standard error.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    log_dir: Path | None = None
    say: Callable[[str], None] = lambda _text: None
    url: str = ""
    _api: _Child = field(init=False)
    _workers: list[_Child] = field(init=False)
    _logs: list[IO[bytes]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._api = _Child("service")
        self._workers = [_Child("worker") for _ in range(self.workers)]

    @property
    def address_file(self) -> Path:
        """Where the API says how it is reached; it writes and removes the file itself."""
        return self.data_dir / "server.json"

    def __enter__(self) -> Self:
        missing = what_is_missing()
        if missing is not None:
            raise StackFailed(missing)
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        running = running_at(self.data_dir)
        if running:
            raise StackFailed(
                f"a server with this data folder already runs at {running}; use it, or stop it first"
            )
        try:
            self._start_api()
            for worker in self._workers:
                self._start(worker)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def tend(self) -> None:
        """Restart workers that died. Raises StackFailed when the API has."""
        if self._api.process is not None and self._api.process.poll() is not None:
            raise StackFailed(
                f"the API stopped with status {self._api.process.returncode}{self._tail('service')}"
            )
        for worker in self._workers:
            self._tend_worker(worker)

    def stop(self) -> None:
        """Ask all to stop and wait for it; what has not stopped after 15 s is killed."""
        children = [c.process for c in (*self._workers, self._api) if c.process is not None]
        # All at once, then one wait: draining side by side takes no longer than the slowest.
        for process in children:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + _DRAIN_S
        for process in children:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        for log in self._logs:
            log.close()
        self._logs.clear()

    def _start_api(self) -> None:
        self._start(self._api)
        process = self._api.process
        deadline = time.monotonic() + _START_S
        while not (self._find_address() and _answers(self.url)):
            if process is not None and process.poll() is not None:
                raise StackFailed(
                    f"the API did not start (status {process.returncode}){self._tail('service')}"
                )
            if time.monotonic() > deadline:
                raise StackFailed(f"the API did not answer within {_START_S:.0f} s{self._tail('service')}")
            time.sleep(0.1)

    def _find_address(self) -> bool:
        """Whether this stack's own API has said where it is; a file that an earlier one left does not
        count."""
        process, found = self._api.process, _announced(self.address_file)
        # A stale file may name a port that something else has now.
        if process is not None and found is not None and found[1] == process.pid:
            self.url = found[0]
        return bool(self.url)

    def _start(self, child: _Child) -> None:
        environment = {
            **os.environ,
            "BESPOKE_DATA_DIR": str(self.data_dir.resolve()),
            "BESPOKE_HOST": self.host,
            "BESPOKE_PORT": str(self.port),
        }
        command = [sys.executable, "-m", "service.cli.tethered", child.module]
        output = self._output(child.module)
        # A session of its own: Ctrl-C reaches the supervisor alone, which then drains its children.
        child.process = subprocess.Popen(  # noqa: S603 (our own modules)
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        child.started, child.restart_at = time.monotonic(), None

    def _output(self, module: str) -> IO[bytes] | None:
        if self.log_dir is None:
            return None
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log = (self.log_dir / f"{module}.log").open("ab")
        self._logs.append(log)
        return log

    def _tail(self, module: str) -> str:
        """The last lines that a child wrote, to put behind a message."""
        if self.log_dir is None:
            return "; its log above says why"
        with suppress(OSError):
            lines = (self.log_dir / f"{module}.log").read_text(errors="replace").strip().splitlines()[-5:]
            return "; its last words:\n  " + "\n  ".join(lines)
        return ""

    def _tend_worker(self, child: _Child) -> None:
        process = child.process
        if process is None or process.poll() is None:
            return
        now = time.monotonic()
        if child.restart_at is None:
            child.deaths += 1
            child.pause_s = (
                1.0 if now - child.started > _HEALTHY_S else min(child.pause_s * 2, _LONGEST_PAUSE_S)
            )
            child.restart_at = now + child.pause_s
            self.say(
                f"the worker stopped with status {process.returncode}; it starts again in "
                f"{child.pause_s:.0f} s"
            )
        if now >= child.restart_at:
            if process.stdin is not None:
                process.stdin.close()
            self._start(child)


def running_at(data_dir: Path) -> str | None:
    """Address of the server that already works on this data folder, or None."""
    found = _announced(data_dir / "server.json")
    return found[0] if found is not None and _answers(found[0]) else None


def _announced(file: Path) -> tuple[str, int] | None:
    """(address, process id) that an API wrote, None where there is no such file."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads(file.read_text(encoding="utf-8"))
        return str(data["url"]), int(data["pid"])
    return None


def _answers(url: str) -> bool:
    try:
        # Never through a proxy: this asks a process on this machine.
        return httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a child if it still runs; kill takes its whole group, so that no training process stays."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
