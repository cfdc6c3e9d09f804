"""What jobs were asked for, as their rows keep it: names resolved, tables pinned.

Routes write these, workers read them back with their types. A field may be added with a default, so that jobs
that an older version has queued still run; none may be renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from latency_tables.typed_json import PLAIN
from service.db.documents import Document, Fields

Choice = bool | int | float | str
Kind = TypeVar("Kind")
LATENCY: Final = "latency_ms"


@dataclass(frozen=True)
class PinnedDevice:
    """A device with its own budget, and the table that prices it for as long as the job takes."""

    device: str
    device_id: str
    table_id: str
    budget: Mapping[str, int | float]


@dataclass(frozen=True)
class SearchTarget:
    """What one network is wanted for: a device, a group whose budgets it all keeps, or limits alone.

    budget: of the device; of a group and of none, limits that hold on any device. exclude: choices that may
    not be taken, by name. resolutions: the only ones that may be chosen. missing: that what a table lacks may
    not be chosen; else it is an error. precision: of its blocks, None: float32.
    network: the architecture that it is to be, in other precisions. prune: whether its blocks may keep a
    share of their channels.
    """

    device: str | None = None
    device_id: str | None = None
    table_id: str | None = None
    budget: Mapping[str, int | float] = field(default_factory=dict)
    group: tuple[PinnedDevice, ...] | None = None
    exclude: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    resolutions: tuple[int, ...] | None = None
    missing: Literal["exclude"] | None = None
    precision: Literal["float32", "int8", "mixed"] | None = None
    network: Document | None = None
    prune: bool | None = None

    def members(self) -> tuple[PinnedDevice, ...]:
        """Every device with its budget; none where limits stand alone."""
        if self.device is not None and self.device_id is not None and self.table_id is not None:
            return (PinnedDevice(self.device, self.device_id, self.table_id, self.budget),)
        return self.group or ()

    def budgets(self) -> tuple[Mapping[str, int | float], ...]:
        """All budgets that name limits."""
        return (*(member.budget for member in self.members()), self.budget)


@dataclass(frozen=True)
class SearchRequest:
    """A search: the fields of `service.schemas.searches.SearchIn`, with the defaults of older versions.

    generation: the sentence that latencies are of, whole, for a space whose networks write sentences. origin:
    the model that is compressed. passes: of its compression, in the order in which they are applied.
    """

    supernet_id: str
    targets: tuple[SearchTarget, ...]
    strategy: str = "exact"
    confidence: float | None = None
    candidates: int = 1
    verify: bool = True
    measured_candidates: int = 3
    batch: Literal["device", "dynamic"] = "device"
    preprocessing: Literal["separate", "embedded"] = "separate"
    gate_epochs: int | None = None
    tune_epochs: int | None = None
    memory_mb: int | None = None
    train: str | None = None
    control: bool | None = None
    remarks: tuple[str, ...] = ()
    generation: Mapping[str, int] | None = None
    origin: str | None = None
    passes: tuple[str, ...] | None = None
    robustness: bool | None = None
    defensive: bool | None = None


@dataclass(frozen=True)
class SupernetRequest:
    """A training."""

    supernet_id: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingOptions:
    """What else was asked of the training of a supernet (`service.schemas.searches.SupernetIn`), as its row
    keeps it."""

    memory_mb: int | None = None
    distributed: Document | None = None
    class_weights: str | None = None
    control: bool = False


@dataclass(frozen=True)
class ProfileRequest:
    """What a device's table lacks for a space. networks: whole ones; remeasure: operators, even if known;
    precisions: of its blocks, None: float32. prune: with the widths that pruned blocks may have."""

    device_id: str
    device: str
    space: str
    classes: int
    resolutions: tuple[int, ...]
    networks: int = 0
    remeasure: tuple[str, ...] = ()
    precisions: tuple[str, ...] | None = None
    prune: bool | None = None


@dataclass(frozen=True)
class CheckRequest:
    """Whether a device's table still holds. operators: how many of them are measured again."""

    device_id: str
    device: str
    operators: int


def stored(request: object) -> Document:
    """A request as a job's row keeps it."""
    written: Document = PLAIN.write(request)
    # What is not asked for is left out: readers of older versions look for names. A confidence always stood.
    return {name: _lean(one) for name, one in written.items() if one is not None or name == "confidence"}


def _lean(value: object) -> object:
    if isinstance(value, dict):
        return {name: _lean(one) for name, one in value.items() if one not in (None, {})}
    return [_lean(one) for one in value] if isinstance(value, list) else value


def read(kind: type[Kind], request: Fields) -> Kind:
    """A job's request with its types. Raises InvalidForm for one that this version does not understand."""
    return PLAIN.read(kind, dict(request))
