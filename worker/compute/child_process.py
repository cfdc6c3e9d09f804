"""The child's side: `python -m worker.compute.child_process SILENCE_S` answers calls with
`worker.compute.operations`.

Standard input: one JSON object per line, {"call": name, "arguments": {...}}; empty lines are the worker's
heartbeat; end of file, or silence, means that the worker is gone, and the child ends. Standard output: JSON
lines only.
"""

from __future__ import annotations

import json
import math
import os
import queue
import resource
import select
import signal
import sys
import threading
import time
import traceback
from typing import Any

from latency_tables.errors import BespokeError
from service.failpoints import failpoint
from supernets.errors import InfeasibleBudget, SearchUnfinished


def main() -> None:
    silence_s = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not look like a message
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, silence_s), daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message, allow_nan=False).encode() + b"\n")

    while True:
        call = calls.get()
        try:
            say({"event": "result", "result": _answer(call, say)})
        except Exception as error:  # noqa: BLE001 - every error of an operation goes to the worker
            traceback.print_exc()
            say(
                {
                    "event": "error",
                    "type": _kind(error),
                    "message": str(error)[:2000],
                    "detail": _detail(error),
                }
            )
            return


def _answer(call: dict[str, Any], say: Any) -> dict[str, Any]:
    from worker.compute.operations import OPERATIONS  # noqa: PLC0415 - torch takes seconds; listen to the worker first

    failpoint("child.called")

    def progress(done: int, total: int, **more: Any) -> None:
        say({"event": "progress", "done": done, "total": total, **more})

    result: dict[str, Any] = OPERATIONS[call["call"]](progress=progress, **call["arguments"])
    return result


def _kind(error: Exception) -> str:
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return "OutOfMemory"
    if isinstance(error, BespokeError):
        return type(error).__name__
    return "OSError" if isinstance(error, OSError) else "InternalError"


def _detail(error: Exception) -> dict[str, Any]:
    """What the worker needs to raise the error again; infinities, which JSON has not, become nothing
    reachable."""
    if isinstance(error, SearchUnfinished):
        return {"best_score": error.best_score}
    if not isinstance(error, InfeasibleBudget):
        return {}
    low, high = (None if math.isinf(value) else value for value in (error.minimum, error.maximum))
    return {"minimum": low, "maximum": high, "constraint": error.constraint}


def _listen(calls: queue.SimpleQueue[dict[str, Any]], silence_s: float) -> None:
    """Read calls; end the whole group when the worker is gone or has been silent (frozen) for too long."""
    pending = b""
    heard = time.monotonic()
    while True:
        if select.select([0], [], [], 1.0)[0]:
            data = os.read(0, 65536)
            if not data:
                break
            heard = time.monotonic()
            *lines, pending = (pending + data).split(b"\n")
            for line in filter(None, lines):
                calls.put(json.loads(line))
        elif time.monotonic() - heard > silence_s:
            break
    os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


if __name__ == "__main__":
    main()
