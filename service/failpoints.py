"""Named places where a test makes a process fail: `BESPOKE_FAILPOINT=name:n:action`, the n-th time it is
passed.

Without the variable a failpoint costs one comparison. A test lists the names and fails when one has no case.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

FAILPOINTS: Final[dict[str, str]] = {
    "job.claimed": "a worker has marked a job as running and done nothing yet",
    "step.started": "a step is announced and its work not begun",
    "step.computed": "a step has its result and the database does not",
    "step.stored": "a step's result is committed",
    "training.progress": "the training child reported an epoch",
    "training.stored": "the supernet's file is stored and no row names it",
    "artifact.written": "an artifact's temporary file is written and not renamed",
    "artifact.renamed": "an artifact has its name and its folder is not synced",
    "job.finishing": "all work of a job is done and its last transaction not begun",
    "request.written": "the API has written a job and not committed it",
    "request.committed": "the API has committed a job and not answered",
    "child.called": "a child of the worker has begun an operation",
}
VARIABLE: Final = "BESPOKE_FAILPOINT"
_passed: Counter[str] = Counter()


def _raise() -> None:
    raise OSError(errno.EIO, "a failpoint raised")


ACTIONS: Final[dict[str, Callable[[], None]]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "raise": _raise,
    "sleep": lambda: time.sleep(3600),
}


def failpoint(name: str) -> None:
    """Fail here when the environment asks for it. Raises KeyError for a name that is not listed."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    FAILPOINTS[name]
    place, number, action = wanted.split(":")
    if place == name:
        _passed[name] += 1
        if _passed[name] == int(number):
            ACTIONS[action]()
