"""`python -m supernets.training SPEC.json`: the child process that trains.

One JSON object per line on standard output: `progress` (phase, epoch, epochs, fraction, eta_s, message), then
`result` or `error`. It ends when its parent does: at the end of standard input (a pipe), or when the parent's
heartbeat (any byte) stays out for longer than the specification allows. After SIGTERM the step under way is
finished and a checkpoint written, so that nothing is lost. Exit codes: 0 trained, 1 error,
2 wrong specification, 143 terminated.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from latency_tables.errors import BespokeError
from latency_tables.failures import failure_of
from supernets.errors import InvalidTraining
from supernets.training.job import Job, train

TERMINATED: Final = 128 + signal.SIGTERM


def say(event: str, **values: Any) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
    sys.stdout.flush()


def end_group() -> None:
    """Kill this process and all of its group at once: nobody waits for the result any more."""
    os.killpg(0, signal.SIGKILL)


def watch_pipe(descriptor: int, timeout_s: float | None, end: Callable[[], None] = end_group) -> None:
    """Read the parent's pipe for ever; call `end` at its end or after `timeout_s` seconds without a byte.

    `os.read`, not a buffered reader: a thread blocked in one breaks the interpreter's exit.
    """
    while True:
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        if not ready or not os.read(descriptor, 4096):
            end()
            return


def watch_parent(parent: int, end: Callable[[], None] = end_group) -> None:
    """Call `end` once the parent process is gone (torchrun starts its processes in sessions of their own)."""
    while os.getppid() == parent and not _orphaned(parent):
        time.sleep(0.5)
    end()


def _orphaned(parent: int) -> bool:
    """Whether torchrun was gone before its rank could look: process 1 starts no ranks."""
    return parent == 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1


class Ending:
    """What SIGTERM does: while steps are taken, the training stops after one of them with a checkpoint;
    before, at once."""

    def __init__(self) -> None:
        self._asked = self._stepping = False

    def terminate(self, number: int, frame: Any) -> None:
        """The signal's handler."""
        self._asked = True
        if not self._stepping:
            raise SystemExit(TERMINATED)

    def stopping(self) -> bool:
        """Asked by the training after each of its steps."""
        self._stepping = True
        return self._asked


def _is_parents(descriptor: int) -> bool:
    """Whether it is a pipe that a parent holds: what was started by hand or by a machine's own services has a
    terminal, a file or nothing there, whose end says nothing."""
    kind = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)


def _watch(job: Job, rank: int) -> None:
    threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
    if rank == 0 and not sys.stdin.closed and _is_parents(sys.stdin.fileno()):
        threading.Thread(
            target=watch_pipe, args=(sys.stdin.fileno(), job.heartbeat_timeout_s), daemon=True
        ).start()


def _read(arguments: list[str]) -> Job:
    if len(arguments) != 1:
        raise InvalidTraining("usage: python -m supernets.training SPEC.json")
    try:
        data = json.loads(Path(arguments[0]).read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidTraining(f"the specification cannot be read: {error}") from error
    return Job.from_json(data)


def main(arguments: list[str]) -> int:
    """Train what the specification says."""
    try:
        job = _read(arguments)
    except InvalidTraining as error:
        say("error", **asdict(failure_of(error)))
        return 2
    rank = int(os.environ.get("RANK", "0"))
    ending = Ending()
    signal.signal(signal.SIGTERM, ending.terminate)
    _watch(job, rank)  # before torch is loaded, which takes seconds
    import torch  # noqa: PLC0415 - after the specification is known to be good

    from supernets.training import parallel  # noqa: PLC0415
    from supernets.training.loop import TrainingStopped  # noqa: PLC0415

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    try:
        parallel.join(job.device)
        description = train(
            job, lambda progress: say("progress", **vars(progress)) if rank == 0 else None, ending.stopping
        )
        parallel.wait_for_all()
    except TrainingStopped:
        return TERMINATED
    except BespokeError as error:
        say("error", **asdict(failure_of(error)))
        return 1
    finally:
        parallel.leave()
    if rank == 0:
        say("result", sha256=description["sha256"], steps=description["steps"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
