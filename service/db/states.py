"""Every state and kind that a row may have, one sentence each; and which state a job may go to from which.

Their values stand in databases and answers: a new one may be added, none may be renamed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobKind(StrEnum):
    """What a job does; `worker/pipelines/catalog.py` has a pipeline for each."""

    SEARCH = "search"  # networks for devices and budgets
    COMPRESS = "compress"  # a delivered network again, with blocks in int8
    SUPERNET = "supernet"  # trains a supernet
    PROFILE = "profile"  # measures what a device's table lacks for a space
    CHECK = "check"  # measures some of a table again: does it still hold?


DELIVERING: Final = (JobKind.SEARCH, JobKind.COMPRESS)
"""Kinds whose jobs pin tables and end with models."""


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"  # accepted and kept; no worker has it yet, or one has handed it back
    RUNNING = "running"  # a worker has it
    SUCCEEDED = "succeeded"  # its result is complete and stored
    FAILED = "failed"  # an error that trying again would only repeat
    CANCELLED = "cancelled"  # somebody asked, and it stopped
    QUARANTINED = "quarantined"  # three crashes; an operator must look before it runs again


ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING)
ENDED: Final = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED)
TRANSITIONS: Final[dict[JobState, tuple[JobState, ...]]] = {
    JobState.QUEUED: (JobState.RUNNING, JobState.CANCELLED, JobState.FAILED, JobState.QUARANTINED),
    JobState.RUNNING: (JobState.QUEUED, JobState.RUNNING, *ENDED),
    JobState.SUCCEEDED: (),
    JobState.FAILED: (),
    JobState.CANCELLED: (),
    JobState.QUARANTINED: (JobState.QUEUED,),
}


class TaskState(StrEnum):
    """Where a measurement task is."""

    OPEN = "open"  # an agent may measure it
    DONE = "done"  # answered
    FAILED = "failed"  # its device cannot run it
    DROPPED = "dropped"  # nobody waits for it any more


class TaskKind(StrEnum):
    """What a measurement task times."""

    OPERATOR = "operator"  # one operator: a row of the table
    NETWORK = "network"  # a whole network with random weights, for the calibration
    VERIFY = "verify"  # a delivered network
    SENTINEL = "sentinel"  # the network that shows changes of the device's speed; it has no answer of its own


class TableState(StrEnum):
    """Whether a version of a latency table may be used."""

    READY = "ready"
    NEEDS_REVIEW = "needs_review"  # not before somebody has looked at it


class NetworkSource(StrEnum):
    """Why a whole network was measured."""

    PROBE = "probe"  # posted
    AGENT = "agent"  # for the calibration, in a profile or a check
    VERIFY = "verify"  # it was delivered


class TableSource(StrEnum):
    """Where a version of a latency table comes from."""

    UPLOAD = "upload"  # registered over HTTP
    AGENT = "agent"  # measured by the device's own agent
    TRANSFER = (
        "transfer"  # mixed from the tables of other devices so that it explains a few measured networks
    )


class ArtifactKind(StrEnum):
    """What a stored file is."""

    ONNX_MODEL = "onnx_model"  # delivered
    ONNX_BENCHMARK = "onnx_benchmark"  # for an agent to time
    SUPERNET = "supernet"  # weights
    SUBNETWORK = "subnetwork"  # fine-tuned weights of one network


class HappeningKind(StrEnum):
    """What `GET /v1/events` tells of."""

    JOB = "job"
    PROGRESS = "progress"  # of a job
    TABLE = "table"
    DEVICE = "device"
    MODEL = "model"
    SUPERNET = "supernet"
    AGENT = "agent"  # came or went; not kept
