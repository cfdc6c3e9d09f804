"""Answers of the service as typed objects that show themselves in a notebook.

Fields that a newer service adds are kept (`model_extra`) and break nothing; that those named here are in the
contract, with these types, is tested against `/openapi.json`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from service.client.errors import NotInstalled
from service.client.pictures import Line, curve, facts, milliseconds, percent, table


class Answer(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Context(Answer):
    """The conditions that a device's latencies are valid in."""

    runtime: str
    runtime_version: str
    provider: str
    threads: int
    precision: str
    batch_size: int


class Agent(Answer):
    present: bool
    seen_at: datetime | None


class TableVersion(Answer):
    id: str
    version: int
    rows: int
    source: str
    state: str
    in_use: bool
    created_at: datetime


class Interval(Answer):
    """Measured latency is at most `factor` x predicted for this share of the networks."""

    confidence: float
    factor: float


class Coverage(Answer):
    space: str
    classes: int
    resolutions: list[int]


class Device(Answer):
    """A device and whether its table is to be believed. prediction_error: relative, held out."""

    name: str
    description: str
    context: Context
    agent: Agent | None
    tables: list[TableVersion]
    table_id: str | None
    coverage: list[Coverage]
    prediction_error: float | None
    interval: Interval | None
    date: datetime | None

    def _repr_html_(self) -> str:
        context = self.context
        used = next((t for t in self.tables if t.in_use), None)
        told = {
            "context": f"{context.runtime} {context.runtime_version}, {context.provider}",
            "threads, precision, batch": f"{context.threads}, {context.precision}, {context.batch_size}",
            "agent": "here" if self.agent is not None and self.agent.present else "not here",
            "table": "none" if used is None else f"version {used.version}, {used.rows:,} rows, {used.source}",
            "prediction error": percent(self.prediction_error, 1),
            "95 % take at most": None if self.interval is None else f"{self.interval.factor:.3f} x predicted",
            "covers": "; ".join(f"{c.space} at {', '.join(map(str, c.resolutions))}" for c in self.coverage)
            or None,
        }
        return facts(self.name, told)


class Scored(Answer):
    accuracy: float
    architecture: dict[str, Any]


class Supernet(Answer):
    """A supernet with the accuracy of its largest and smallest sub-network."""

    id: str
    space: str
    dataset: str
    recipe: str
    seed: int
    classes: int
    state: str
    largest: Scored | None
    smallest: Scored | None
    job_id: str | None
    created_at: datetime

    def _repr_html_(self) -> str:
        told = {
            "id": self.id,
            "state": self.state,
            "recipe": f"{self.recipe}, seed {self.seed}, {self.classes} classes",
            "largest": percent(self.largest.accuracy) if self.largest else None,
            "smallest": percent(self.smallest.accuracy) if self.smallest else None,
        }
        return facts(f"{self.space} on {self.dataset}", told)


@dataclass(frozen=True)
class Pick:
    """The best network of a front within a budget; accuracy as a share, predicted."""

    device: str
    latency_ms: float
    upper_ms: float | None
    accuracy: float
    genes: str

    def _repr_html_(self) -> str:
        told = {
            "accuracy": percent(self.accuracy),
            "predicted": milliseconds(self.latency_ms),
            "at most": milliseconds(self.upper_ms),
        }
        return facts(f"best network on {self.device}", told)


class Front(Answer):
    """The whole latency/accuracy front of a supernet on a device, ascending in both; column by column.

    upper_ms: what a network takes at most with `confidence`; None where too few whole networks were measured.
    """

    device: str
    supernet_id: str
    table_id: str
    optimal: bool
    confidence: float | None
    missing_networks: int
    doubt: str | None = None
    reachable_ms: dict[str, float]
    latency_ms: list[float]
    upper_ms: list[float] | None
    accuracy: list[float]
    genes: list[str]

    @property
    def held_ms(self) -> Sequence[float]:
        """What a budget is held against: the bound where there is one."""
        return self.latency_ms if self.upper_ms is None else self.upper_ms

    def __len__(self) -> int:
        return len(self.genes)

    def at(self, budget_ms: float) -> Pick | None:
        """The most accurate network within a budget; None where there is none."""
        index = bisect_right(self.held_ms, budget_ms) - 1
        if index < 0:
            return None
        upper = None if self.upper_ms is None else self.upper_ms[index]
        return Pick(self.device, self.latency_ms[index], upper, self.accuracy[index], self.genes[index])

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw into matplotlib axes, made where none are given; the axes. Raises NotInstalled."""
        try:
            from matplotlib import pyplot  # noqa: PLC0415 - where it is there
        except ImportError:
            raise NotInstalled(
                "front.plot() needs matplotlib (pip install matplotlib); the front shows itself without"
            ) from None
        if ax is None:
            _, ax = pyplot.subplots()
        shares = [100 * accuracy for accuracy in self.accuracy]
        (line,) = ax.step(self.latency_ms, shares, where="post", **{"label": self.device, **options})
        if self.upper_ms is not None:
            ax.step(
                self.upper_ms,
                shares,
                where="post",
                color=line.get_color(),
                alpha=0.45,
                label=f"{self.device}, at most",
            )
        ax.set_xlabel("latency, ms")
        ax.set_ylabel("predicted accuracy, %")
        ax.legend()
        return ax

    def _repr_html_(self) -> str:
        shares = [100 * accuracy for accuracy in self.accuracy]
        lines = [Line(self.device, self.latency_ms, shares)]
        if self.upper_ms is not None:
            lines.append(Line(f"{self.device}, at most", self.upper_ms, shares, faint=True))
        told = {
            "networks": len(self),
            "reachable": f"{self.reachable_ms['min']:.4g} to {self.reachable_ms['max']:.4g} ms",
            "bound": f"{self.confidence:.0%} of networks"
            if self.confidence
            else f"none: {self.missing_networks} more networks",
            "doubt": self.doubt,
        }
        return facts(f"front on {self.device}", told, curve(lines, "latency, ms", "predicted accuracy, %"))


class CardLimit(Answer):
    """A further limit of a device's budget. measured: None where nobody measured, or nobody can (energy)."""

    name: str
    limit: float
    predicted: float
    upper: float | None
    measured: float | None


class CardLatency(Answer):
    predicted_ms: float | None
    upper_ms: float | None
    measured_ms: float | None
    verified: bool
    further: list[CardLimit] | None = None


class CardAccuracy(Answer):
    """Shares of right answers. measured: of the delivered file, on the test split."""

    predicted: float | None
    validation: float | None
    measured: float | None
    dataset: str
    split: str
    samples: int | None


class CardFile(Answer):
    sha256: str
    size_bytes: int
    parameters: int
    macs: int
    opset: int | None = None


class Card(Answer):
    """The model card. device and budget_ms: None for a network that was made within limits alone."""

    id: str
    state: str | None = None
    job_id: str
    device: str | None
    budget_ms: float | None
    latency: CardLatency
    accuracy: CardAccuracy
    file: CardFile
    architecture: dict[str, Any]
    snippet: str | None = None

    @property
    def kept(self) -> bool | None:
        """Whether all that was measured of the budget was kept; None where nothing was measured."""
        if self.budget_ms is None or self.latency.measured_ms is None:
            return None
        kept = all(
            one.measured <= one.limit for one in self.latency.further or () if one.measured is not None
        )
        return kept and self.latency.measured_ms <= self.budget_ms

    def _repr_html_(self) -> str:
        verdict = {True: "kept", False: "broken", None: "not measured"}[self.kept]
        accuracy, share = self.accuracy, percent(self.accuracy.measured)
        told = {
            "budget": None if self.budget_ms is None else f"{self.budget_ms:g} ms: {verdict}",
            "predicted": milliseconds(self.latency.predicted_ms),
            "at most": milliseconds(self.latency.upper_ms),
            "measured": milliseconds(self.latency.measured_ms),
            **{one.name: f"{_known(one):.4g} of {one.limit:g}" for one in self.latency.further or ()},
            "accuracy": None if share is None else f"{share} of {accuracy.samples} ({accuracy.split})",
            "file": f"{self.file.size_bytes / 1024:.0f} KiB, {self.file.parameters:,} parameters",
            "MACs": f"{self.file.macs:,}",
            "SHA-256": self.file.sha256,
        }
        return facts(f"network for {self.device or 'any device'} {self.id}", told)


def _known(limit: CardLimit) -> float:
    """What is known best of a network's cost."""
    return next(value for value in (limit.measured, limit.upper, limit.predicted) if value is not None)


class ModelLine(Answer):
    """A delivered network in a list."""

    id: str
    job_id: str
    device: str | None
    supernet_id: str
    budget_ms: float | None
    predicted_ms: float | None
    measured_ms: float | None
    verified: bool
    accuracy: float | None
    size_bytes: int | None
    created_at: datetime
    name: str | None = None


class HistoryPoint(Answer):
    """One report of a training; loss and validation accuracy of the epoch so far."""

    at: datetime
    fraction: float
    phase: str
    epoch: int
    epochs: int
    loss: float
    rate: float | None = None
    validation: dict[str, float] | None = None


class Many(list[Any]):
    """A list that shows itself as a table."""

    def __init__(self, items: Sequence[Answer], columns: Sequence[str]) -> None:
        super().__init__(items)
        self._columns = columns

    def _repr_html_(self) -> str:
        return table(
            self._columns, ([_short(getattr(item, name)) for name in self._columns] for item in self)
        )


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
