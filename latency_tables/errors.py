"""Everything the rooms of this project raise on purpose, as one small tree.

BespokeError
├── InvalidOperator        text or fields that do not describe an operator
├── InvalidMeasurement     a number that cannot be a latency ├── InvalidTable           rows that do not make
a table (carries row numbers) ├── ContextMismatch        two measuring contexts were about to be mixed
├── MissingLatency         the table lacks operators (carries their keys) ├── InvalidArchitecture    an
architecture outside its space ├── UnknownSpace           no such search space in the catalog
├── InfeasibleBudget       no network meets the budget (carries the reachable range)
│   └── ContradictingConstraints  every limit can be met alone, but not all of them at once
├── InvalidSearch          a search request that cannot be run ├── SearchUnfinished       the time was too
short to find any network ├── UnknownStrategy        no such search strategy in the catalog
├── TooFewNetworks         a calibration or bound needs more whole networks (says how many)
├── NoTable                a device without a usable latency table for a search space
│   └── NoEnergy           … or without the energy of its operators
├── PoorCalibration        the table does not explain the device's whole networks
├── InvalidPredictor       data that do not make an accuracy predictor
├── UnknownDataset         no such data set (catalog or the operator's settings)
├── InvalidDataset         files that are not the data set they should be
├── InvalidPreprocessing   steps that do not lead from a picture to a network's input
├── UnknownRecipe          no such training recipe in the catalog ├── InvalidTraining        a training
request that cannot be run ├── InvalidCheckpoint      a checkpoint that is damaged or of another space
├── TrainingDiverged       a loss that is not a number (carries phase, epoch, step)
├── ExportFailed           a network that does not become a deliverable ONNX file
├── UnservableContext      a context that no file can be delivered for
├── JobConflict            a job is not in a state from which it can go where it was sent
├── JobEnded               a job that has ended was asked to do something
├── ArtifactMissing        a file that the database knows is not in the store
└── ArtifactCorrupt        a file's bytes are not those of its SHA-256

Each message tells the reader what to do next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class BespokeError(Exception):
    """Root of every error this project raises on purpose."""


class InvalidOperator(BespokeError, ValueError):
    """A text or a set of fields that does not describe an operator."""


class InvalidMeasurement(BespokeError, ValueError):
    """A number that cannot be a latency in milliseconds."""


class InvalidTable(BespokeError, ValueError):
    """Rows that do not make a latency table.

    `rows` holds (row number, what is wrong), at most the first 20.
    """

    def __init__(self, message: str, rows: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows[:20])


class ContextMismatch(BespokeError, ValueError):
    """Two measuring contexts were about to be mixed."""


class MissingLatency(BespokeError, LookupError):
    """The table has no latency for some operators; `operators` holds their canonical texts."""

    def __init__(self, operators: Sequence[str]) -> None:
        self.operators = tuple(sorted(operators))
        shown = ", ".join(self.operators[:3]) + (", ..." if len(self.operators) > 3 else "")
        super().__init__(
            f"the table lacks {len(self.operators)} operator(s): {shown}. "
            "Measure them on the device (`bespoke profile` or `bespoke agent`) and register a new table."
        )


class InvalidArchitecture(BespokeError, ValueError):
    """An architecture that is not in its search space."""


class UnknownSpace(BespokeError, LookupError):
    """No search space of that name is in the catalog."""


class InfeasibleBudget(BespokeError):
    """No network of the space meets the budget; `minimum` and `maximum` are what `constraint` can reach."""

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

    def __init__(self, message: str, best_score: float | None = None) -> None:
        super().__init__(message)
        self.best_score = best_score


class UnknownStrategy(BespokeError, LookupError):
    """No search strategy of that name is in the catalog."""


class TooFewNetworks(BespokeError):
    """More whole networks must be measured; `missing` says how many."""

    def __init__(self, message: str, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


class NoTable(BespokeError):
    """The device has no latency table that may be used for the search space; `operators` are those that the
    nearest lacks."""

    def __init__(self, message: str, operators: Sequence[str] = ()) -> None:
        self.operators = tuple(operators)
        super().__init__(message)


class NoEnergy(NoTable):
    """The device's table has no energy for some operators that the search space needs; `operators` names
    them."""


class PoorCalibration(BespokeError):
    """The sum of the table's rows does not explain the device's whole networks."""


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


class InvalidCheckpoint(BespokeError, ValueError):
    """A checkpoint that is damaged, incomplete or of another search space."""


class TrainingDiverged(BespokeError):
    """The loss is not a number any more; `phase`, `epoch` and `step` say where. The last good checkpoint is
    kept."""

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


class UnservableContext(BespokeError):
    """A context that no file can be delivered for."""


class JobConflict(BespokeError):
    """A guarded write to a job found it in another state, or held by another worker."""


class JobEnded(JobConflict):
    """The job has already ended; `state` says how."""

    def __init__(self, state: str) -> None:
        super().__init__(f"the job has already ended: {state}")
        self.state = state


class ArtifactMissing(BespokeError, LookupError):
    """No file of that SHA-256 is in the artifact store."""


class ArtifactCorrupt(BespokeError):
    """The bytes on disk are not those of the SHA-256 they are stored under."""
