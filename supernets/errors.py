"""What search spaces, data, training, search and delivery raise on purpose.

BespokeError (latency_tables/errors.py)
├── InvalidArchitecture    an architecture outside its space
├── UnknownSpace           no such search space in the catalog
├── InfeasibleBudget       no network meets the budget (carries the reachable range)
│   └── ContradictingConstraints  every limit can be met alone, but not all of them at once
├── InvalidSearch          a search request that cannot be run
├── SearchUnfinished       the time was too short to find any network
├── UnknownStrategy        no such search strategy in the catalog
├── NoTable                a device without a usable latency table for a search space
│   └── NoEnergy           … or without the energy of its operators
├── InvalidPredictor       data that do not make an accuracy predictor
├── UnknownDataset         no such data set (catalog or the operator's settings)
├── InvalidDataset         files that are not the data set they should be
├── InvalidPreprocessing   steps that do not lead from a picture to a network's input
├── UnknownRecipe          no such training recipe in the catalog
├── InvalidTraining        a training request that cannot be run
│   └── MemoryLimitTooLow  … within that much memory (carries the least that works)
├── InvalidCheckpoint      a checkpoint that is damaged or of another space
├── RankLost               another process of the same training is gone
├── TrainingDiverged       a loss that is not a number (carries phase, epoch, step)
├── ExportFailed           a network that does not become a deliverable ONNX file
├── InvalidPruning         channels that cannot be cut out, or a network that cannot be refitted
├── InvalidPrecision       a plan of precisions, or a way of rounding, that cannot be followed
├── InvalidCompression     compression passes that a network cannot be put through
└── UnservableContext      a context that no file can be delivered for
Exception
├── UnreadablePicture      a picture that cannot be read (supernets/data/pictures.py)
└── TrainingStopped        a training was asked to end, and left a checkpoint (supernets/training/loop.py)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from latency_tables.errors import BespokeError


class InvalidArchitecture(BespokeError, ValueError):
    """An architecture that is not in its search space."""


class UnknownSpace(BespokeError, LookupError):
    """No search space of that name is in the catalog."""


class InfeasibleBudget(BespokeError):
    """No network of the space meets the budget; `minimum` and `maximum` are what `constraint` can reach."""

    minimum: float
    maximum: float
    constraint: str

    def __init__(self, message: str, minimum: float, maximum: float, constraint: str = "latency_ms") -> None:
        super().__init__(message)
        self.minimum = minimum
        self.maximum = maximum
        self.constraint = constraint


class ContradictingConstraints(InfeasibleBudget):
    """Every limit can be met alone, but no network meets all of them.

    `minimum` and `maximum` are what the first constraint can reach while the others hold; infinite where
    nothing can.
    """


def reachable(error: InfeasibleBudget) -> dict[str, Any]:
    """What a problem document says of an infeasible budget; no range where nothing can be reached (JSON has
    no infinity)."""
    found: dict[str, Any] = {"constraint": error.constraint}
    if math.isfinite(error.minimum) and math.isfinite(error.maximum):
        name = "reachable_ms" if error.constraint == "latency_ms" else "reachable"
        found[name] = {"min": error.minimum, "max": error.maximum}
    return found


class InvalidSearch(BespokeError, ValueError):
    """A search request that cannot be run as written."""


class SearchUnfinished(BespokeError):
    """The time limit passed before any network was found, or it was shown that there is none.

    best_score: no network within the limits scores more, in the unit of the problem's score; None where that
    is not known.
    """

    best_score: float | None

    def __init__(self, message: str, best_score: float | None = None) -> None:
        super().__init__(message)
        self.best_score = best_score


class UnknownStrategy(BespokeError, LookupError):
    """No search strategy of that name is in the catalog."""


class NoTable(BespokeError):
    """The device has no latency table that may be used for the search space; `operators` are those that the
    nearest lacks."""

    operators: tuple[str, ...]

    def __init__(self, message: str, operators: Sequence[str] = ()) -> None:
        self.operators = tuple(operators)
        super().__init__(message)


class NoEnergy(NoTable):
    """The device's table has no energy for some operators that the search space needs; `operators` names
    them."""


class InvalidPredictor(BespokeError, ValueError):
    """Scores or a file that do not make an accuracy predictor."""


class UnknownDataset(BespokeError, LookupError):
    """No data set of that name is built in or registered by the operator."""


class InvalidDataset(BespokeError, ValueError):
    """Files that are not the data set they should be: missing classes, unreadable images, wrong sizes."""


class InvalidPreprocessing(BespokeError, ValueError):
    """Steps that do not lead from a picture to a network's input, or a picture that they cannot take."""


class UnknownRecipe(BespokeError, LookupError):
    """No training recipe of that name is in the catalog."""


class InvalidTraining(BespokeError, ValueError):
    """A training request that cannot be run as written."""


class MemoryLimitTooLow(InvalidTraining):
    """No way to train keeps the limit on memory; `least_mb` is the least limit that works."""

    least_mb: int

    def __init__(self, message: str, least_mb: int) -> None:
        self.least_mb = least_mb
        super().__init__(message)


class InvalidCheckpoint(BespokeError, ValueError):
    """A checkpoint that is damaged, incomplete or of another search space."""


class RankLost(BespokeError):
    """Another process of a training is gone or does not answer; the last whole epoch is kept."""


class TrainingDiverged(BespokeError):
    """The loss is not a number any more; `phase`, `epoch` and `step` say where. The last good checkpoint is
    kept."""

    phase: str
    epoch: int
    step: int

    def __init__(
        self,
        phase: str,
        epoch: int,
        step: int,
        advice: str = "Lower the learning rate of that phase, or train without bf16.",
    ) -> None:
        self.phase, self.epoch, self.step = phase, epoch, step
        super().__init__(
            f"the loss is not finite in phase {phase!r}, epoch {epoch}, step {step}; the checkpoint before "
            f"it is kept. {advice}"
        )


class ExportFailed(BespokeError):
    """A network that does not become an ONNX file of standard operators that stands alone."""


class InvalidPruning(BespokeError, ValueError):
    """Channels that cannot be cut out of a network, or a network that cannot be refitted without them."""


class InvalidPrecision(BespokeError, ValueError):
    """A plan of precisions, or a way of rounding, that cannot be followed."""


class InvalidCompression(BespokeError, ValueError):
    """Compression passes that are not there, do not go together, or that a network cannot be put through."""


class UnservableContext(BespokeError):
    """A context that no file can be delivered for."""
