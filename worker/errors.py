"""What ends a job, a step or a run.

BespokeError (latency_tables/errors.py)
└── StepFailed             an error that a child or a shared step reported: the job fails with it
    └── SharedFailure      … of the training of a supernet that several jobs wait for
Exception
├── JobCancelled           the user asked the job to stop
├── JobLost                another worker has the job: nothing more may be written
├── WorkerStopping         the worker was told to end: the job is handed back
├── JobQuarantined         the job crashed too often
├── NobodyWaits            no job wants this supernet any more
└── ChildCrashed           a child ended by a signal or without a word: the step is tried again

Only what is a BespokeError is the fault of what was asked for; the others say how a run goes on.
"""

from __future__ import annotations

from typing import Any

from latency_tables.errors import BespokeError


class JobCancelled(Exception):
    """Somebody asked for the job to stop."""


class JobLost(Exception):
    """Another worker has the job, or it has ended: nothing more may be written."""


class WorkerStopping(Exception):
    """The worker was told to end: the job is handed back at its last finished step."""


class JobQuarantined(Exception):
    """The job crashed too often; `problem` says how."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


class StepFailed(BespokeError):
    """An error that a child or a shared step reported; `kind` is its class there."""

    def __init__(self, kind: str, message: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail or {}


class ChildCrashed(Exception):
    """A child process ended by a signal, or without a word; `signal` is 0 where there was none."""

    def __init__(self, what: str, signal: int, code: int | None, tail: str) -> None:
        super().__init__(f"{what} crashed ({f'signal {signal}' if signal else f'exit code {code}'})")
        self.what = what
        self.signal = signal
        self.tail = tail


class NobodyWaits(Exception):
    """Every job that wanted this supernet has ended; its checkpoints stay for the next one."""


class SharedFailure(StepFailed):
    """The shared training failed; `detail` is its problem object."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__("TrainingFailed", str(problem.get("detail", "the training failed")), problem)
