"""A process that has loaded everything and forks stub workers on demand: a new worker then costs
milliseconds, not seconds.

`python -m tests.reliability.machinery.zygote` reads JSON lines {"environment": {...}, "log": FILE} and
answers each with the process id of a worker in a session of its own. It ends with its standard input, and its
workers are killed by their owner.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    from tests.reliability.machinery import stub_worker
    from worker import engine  # noqa: F401 - loaded before the fork, so that no worker has to

    pending = b""
    while True:
        _reap()
        if not select.select([0], [], [], 0.2)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in filter(None, lines):
            pid = os.fork()
            if pid == 0:
                _become(json.loads(line), stub_worker.main)
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()


def _become(order: dict[str, Any], work: Any) -> None:
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    work()
    os._exit(0)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


class Zygote:
    """Handle on the process."""

    def __init__(self, repository: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.machinery.zygote"],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def worker(self, environment: dict[str, str], log: Path) -> int:
        """Process id of a new worker."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"environment": environment, "log": str(log)}).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


if __name__ == "__main__":
    main()
