"""What a step's work may do to a job: the names of steps, and the back-off between tries.

Deterministic errors (`BespokeError`, and any bug) end the job at once, since trying again only repeats them.
Transient ones (database, disk, network file system) are tried again with exponential back-off and jitter: an
outage (the database is away, the disk is full) for as long as it lasts, anything else six times. A crash (a
child killed by a signal) is tried again too, but the third one quarantines the job.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, TypeVar

from service.db.documents import Fields
from service.db.faults import AWAY, is_database_outage

Result = TypeVar("Result")
VERSION: Final = 1  # part of every step's digest: raise it when a step's code changes what it computes
TRANSIENT: Final = (OSError, *AWAY)
TRIES: Final = 6
MAX_CRASHES: Final = 3
RECONNECT_S: Final = 5.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class StepName(StrEnum):
    """The steps of all pipelines. A step's result is kept under its name and the hash of its inputs: do not
    rename one."""

    CHECK_DATASET = "check_dataset"  # what is in a registered data set, before it is trained on
    TRAIN_SUPERNET = "train_supernet"  # weights of a supernet; a checkpoint each epoch
    SCORE_SUBNETWORKS = "score_subnetworks"  # what the accuracy predictor is fitted to
    SCORE_NETWORK = "score_network"  # validation accuracy of one sub-network with the supernet's weights
    SCORE_ROUNDED = "score_rounded"  # the same with blocks in int8, or pruned
    LEARN_PRECISION = "learn_precision"  # what int8 costs each block of a supernet
    LEARN_PRUNING = "learn_pruning"  # what pruning costs each block of a supernet
    TRAIN_GATES = "train_gates"  # gradient search for one target; a checkpoint each epoch
    FINE_TUNE = "fine_tune"  # weights of one network, from the supernet's; a checkpoint each epoch
    TRAIN_CONTROL = "train_control"  # one network from random weights; a checkpoint each epoch
    EXPORT_NETWORK_FILE = "export_network_file"  # the ONNX file that is delivered
    TRY_COMPRESSION = (
        "try_compression"  # validation accuracy of a network at each strength of a compression pass
    )
    TEST_NETWORK_FILE = "test_network_file"  # its accuracy on the test split
    MEASURE_ROBUSTNESS = "measure_robustness"  # what the file does on pictures changed to deceive it
    EXPORT_OPERATOR = "export_operator"  # micro-benchmark of one operator
    EXPORT_NETWORK = "export_network"  # benchmark of a whole network, random weights


def step_digest(step: str, inputs: Fields) -> str:
    """Key of a step's result: SHA-256 over its name, the code version and all that goes into it."""
    text = json.dumps([step, VERSION, inputs], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_outage(error: Exception) -> bool:
    """Whether the machine and not the work is at fault: the database is away or cannot write, or there is no
    room on the disk."""
    return is_database_outage(error) or (isinstance(error, OSError) and error.errno in _FULL)


def worth_another(error: Exception, attempt: int) -> bool:
    """Whether to try again after try number `attempt` (from 0) met this transient error."""
    return is_outage(error) or attempt < TRIES - 1


def back_off_s(attempt: int, first_s: float = 0.2, cap_s: float = 20.0) -> float:
    """Seconds before try number `attempt` + 1: doubled each time, capped, with full jitter in its upper
    half."""
    return min(cap_s, first_s * 2.0 ** min(attempt, 30)) * (0.5 + random.random() / 2)


def tries(wait: Callable[[float], None], cap_s: float = 20.0) -> Iterator[int]:
    """Try numbers from 0 without end, waiting with back-off before each but the first."""
    for attempt in itertools.count():
        if attempt:
            wait(back_off_s(attempt - 1, cap_s=cap_s))
        yield attempt


def persist(action: Callable[[], Result], wait: Callable[[float], None]) -> Result:
    """Do `action`, again after transient errors for as long as that is worth it; the last of them is
    raised."""
    for attempt in tries(wait, RECONNECT_S):
        try:
            return action()
        except TRANSIENT as error:
            if not worth_another(error, attempt):
                raise
    raise AssertionError("unreachable")
