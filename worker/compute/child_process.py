"""The child's side: `python -m worker.compute.child_process SILENCE_S` does what the requests of
`worker.compute.requests` ask for.

Standard input: one JSON object per line, {"call": name of the request, "places", "request"}; empty lines are
the worker's heartbeat; end of file, or silence, means that the worker is gone, and the child ends. Standard
output: JSON lines only.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from latency_tables.failures import failure_of
from latency_tables.typed_json import PLAIN
from service.db.documents import Fields
from service.failpoints import failpoint
from worker.compute.requests import Places, Progress

Say = Callable[[str, Fields], None]


def main() -> None:
    silence_s = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not look like a message
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, silence_s), daemon=True).start()

    def say(event: str, values: Fields) -> None:
        out.write(json.dumps({"event": event, **values}, allow_nan=False).encode() + b"\n")

    while True:
        call = calls.get()
        try:
            say("answer", {"answer": _answer(call, say)})
        except Exception as error:  # noqa: BLE001 - every error of an operation goes to the worker
            traceback.print_exc()
            say("error", PLAIN.write(failure_of(error)))
            return  # what the error has left of memory and locks nobody knows: the next call gets a new child


def _answer(call: Mapping[str, Any], say: Say) -> object:
    # torch takes seconds to load; the child listens to the worker first
    from worker.compute.codec import CODEC  # noqa: PLC0415
    from worker.compute.operations.catalog import operation_named  # noqa: PLC0415

    failpoint("child.called")

    def report(progress: Progress) -> None:
        say("progress", PLAIN.write(progress))

    asked, operation = operation_named(call["call"])
    answer = operation(CODEC.read(Places, call["places"]), CODEC.read(asked, call["request"]), report)
    written: object = CODEC.write(answer, asked.answer)
    return written


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
            # A line may arrive in pieces; an empty one is a heartbeat and only resets the clock.
            *lines, pending = (pending + data).split(b"\n")
            for line in filter(None, lines):
                calls.put(json.loads(line))
        # The worker is frozen, or its machine: another one has the job by now, and two must not write its
        # files.
        elif time.monotonic() - heard > silence_s:
            break
    os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


if __name__ == "__main__":
    main()
