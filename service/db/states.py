"""Every state and kind that a row may have, one sentence each. The job's state is
`service.jobs.transitions.JobState`.

Their values stand in databases and answers: a new one may be added, none may be renamed.
"""

from __future__ import annotations

from enum import StrEnum


class JobKind(StrEnum):
    """What a job does; `worker/pipelines/catalog.py` has a pipeline for each."""

    SEARCH = "search"  # networks for devices and budgets
    SUPERNET = "supernet"  # trains a supernet
    PROFILE = "profile"  # measures what a device's table lacks for a space
    CHECK = "check"  # measures some of a table again: does it still hold?


class TaskState(StrEnum):
    """Where a measurement task is."""

    OPEN = "open"  # an agent may measure it
    DONE = "done"  # answered
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
