"""What ends a job, a step or a run.

BespokeError (latency_tables/errors.py)
├── StepFailed             a step failed for a reason that is no error of ours
│   ├── OutOfMemory        a child needs more memory than it may take
│   ├── StepTimeout        a child took longer than it may
│   └── SharedFailure      the training of a supernet that several jobs wait for failed (carries its problem)
├── NothingMeasured        a device cannot run anything of what it was given to measure
├── UnknownDevice          the job's device is not there any more
└── UnknownSupernet        the job's supernet is not there any more
Exception
├── JobCancelled           the user asked the job to stop
├── JobLost                another worker has the job: nothing more may be written
├── WorkerStopping         the worker was told to end: the job is handed back
├── JobQuarantined         the job crashed too often
├── NobodyWaits            no job wants this supernet any more
└── ChildCrashed           a child ended by a signal or without a word: the step is tried again

A BespokeError ends the job as failed, with its problem; the others say how a run goes on.
"""

from __future__ import annotations

from latency_tables.errors import BespokeError
from service.db.documents import Fields


class JobCancelled(Exception):
    """Somebody asked for the job to stop."""


class JobLost(Exception):
    """Another worker has the job, or it has ended: nothing more may be written."""


class WorkerStopping(Exception):
    """The worker was told to end: the job is handed back at its last finished step."""


class JobQuarantined(Exception):
    """The job crashed too often; `problem` says how."""

    def __init__(self, problem: Fields) -> None:
        super().__init__(str(problem["detail"]))
        self.problem = problem


class StepFailed(BespokeError):
    """A step failed for a reason that is no error of ours: a fault of the service."""


class OutOfMemory(StepFailed):
    """A child needs more memory than it may take, or than there is."""


class StepTimeout(StepFailed):
    """A child took longer than it may."""


class SharedFailure(StepFailed):
    """The shared training failed; `problem` is the problem object it ended with."""

    def __init__(self, problem: Fields) -> None:
        super().__init__(str(problem.get("detail", "the training failed")))
        self.problem = problem


class NothingMeasured(BespokeError):
    """The device cannot run anything of what it was given to measure."""


class UnknownDevice(BespokeError, LookupError):
    """The device of a job is not there any more."""


class UnknownSupernet(BespokeError, LookupError):
    """The supernet of a job is not there any more."""


class ChildCrashed(Exception):
    """A child process ended by a signal, or without a word; `signal` is 0 where there was none."""

    def __init__(self, what: str, signal: int, code: int | None, tail: str) -> None:
        super().__init__(f"{what} crashed ({f'signal {signal}' if signal else f'exit code {code}'})")
        self.what = what
        self.signal = signal
        self.tail = tail


class NobodyWaits(Exception):
    """Every job that wanted this supernet has ended; its checkpoints stay for the next one."""
