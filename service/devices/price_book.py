"""Prices of devices, remembered: from rows in SQL to what every network of a space is predicted to take."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from latency_tables.dense import DenseTable
from latency_tables.errors import PoorCalibration
from latency_tables.scale import rate
from latency_tables.table import LatencyTable
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.models import Device, NetworkMeasurement, Supernet, Table
from service.db.session import Session
from service.devices.costs import Ground, costs_of
from service.devices.covering import no_table
from service.devices.fitting import Fit, fitted
from service.devices.pricing import Pricing
from supernets.accuracy.predictor import QualityPredictor
from supernets.errors import NoTable
from supernets.search.exact import strategy as exact
from supernets.search.pareto import Front
from supernets.search.restriction import at_resolutions, possible_resolutions
from supernets.spaces.lowering import covered_resolutions, dense_latency, known_latency, needed_operators
from supernets.spaces.space import Space

Value = TypeVar("Value")


def to_latency_table(session: Session, table: Table, device: Device) -> LatencyTable:
    """The immutable table behind a row."""
    return LatencyTable(table_rows.context_of(device), table_rows.rows_of(session, table.id))


@dataclass
class PriceBook:
    """Prices, remembered: everything here follows from immutable rows, so nothing is ever stale. Thread-safe.

    ignored_session: whose networks count for nothing. A job ignores its own, so that it solves the same when
    taken up again.
    """

    most: int = 64
    ignored_session: str | None = None
    _kept: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _remember(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                known: Value = self._kept[key]
                return known
        # Outside the lock: two threads may price the same table, none waits seconds for another one's.
        value = make()
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return value

    def table(self, session: Session, table: Table, device: Device) -> LatencyTable:
        return self._remember(("table", table.id), lambda: to_latency_table(session, table, device))

    def know(self, table_id: str, table: LatencyTable) -> None:
        """Remember a table that is at hand, so that its rows need not be read back."""
        self._remember(("table", table_id), lambda: table)

    def rate(self, session: Session, device: Device) -> float | None:
        """MACs a millisecond of the device's table in use; None without one, or with too few rows."""
        table = table_rows.in_use(session, device.id)
        if table is None:
            return None
        return self._remember(("rate", table.id), lambda: rate(self.table(session, table, device)))

    def coverage(self, session: Session, table: Table, device: Device, space: Space) -> tuple[int, ...]:
        """Resolutions of the space that the table covers."""
        key = ("coverage", table.id, *_key(space))
        return self._remember(key, lambda: covered_resolutions(space, self.table(session, table, device)))

    def partial_sums(
        self, session: Session, table: Table, device: Device, space: Space
    ) -> tuple[Space, DenseTable]:
        """(space at the resolutions of which some network is priced, sums, infinite where rows are lacking).
        Raises NoTable."""
        held = self.table(session, table, device)
        key = ("possible", table.id, *_key(space))
        sizes = self._remember(key, lambda: possible_resolutions(space, held))
        if not sizes:
            raise no_table(space, held)
        here = space.at(sizes)
        return here, self._remember(("partial", table.id, *_key(space)), lambda: known_latency(here, held))

    def sums(self, session: Session, table: Table, device: Device, space: Space) -> tuple[Space, DenseTable]:
        """(space at the covered resolutions, sums of the rows). Raises NoTable where it covers none."""
        sizes = self.coverage(session, table, device, space)
        if not sizes:
            raise no_table(space, self.table(session, table, device))
        here = space.at(sizes)
        key = ("sums", table.id, *_key(space))
        return here, self._remember(key, lambda: dense_latency(here, self.table(session, table, device)))

    def fit(self, session: Session, table: Table, device: Device, space: Space, partial: bool = False) -> Fit:
        """The calibration of a table from the device's whole networks, or why there is none.

        partial: of a table that lacks rows; networks that need them take no part.
        """
        here, sums = (self.partial_sums if partial else self.sums)(session, table, device, space)
        rows = self._measured(session, device, space)
        last = max((row.created_at for row in rows), default=None)

        def make() -> Fit:
            return fitted(here, sums, table, self.table(session, table, device), rows, partial=partial)

        # Rows are only added or deleted, so their number and the newest time tell every set of them apart.
        return self._remember(("fit", table.id, *_key(space), partial, len(rows), last), make)

    def load(
        self,
        session: Session,
        device: Device,
        space: Space,
        *,
        table_id: str | None = None,
        confidence: float | None = None,
        partial: bool = False,
    ) -> Pricing:
        """Prices of a space on a device, by its newest usable table or by a pinned one.

        partial: networks that need rows which the table lacks have an infinite price, instead of NoTable.
        Where measured networks do not fit the table, its prices carry that `doubt` and no bound. Raises
        NoTable, TooFewNetworks, and PoorCalibration where a bound was asked for that cannot be had.
        """
        table = self.choose_table(session, device, space, table_id, partial)
        here, sums = (self.partial_sums if partial else self.sums)(session, table, device, space)
        fit = self.fit(session, table, device, space, partial)
        if fit.refused is not None and confidence is not None:
            raise PoorCalibration(fit.refused)
        key = (
            "pricing",
            table.id,
            *_key(space),
            partial,
            fit.measured_at,
            fit.calibration.networks,
            fit.refused,
        )

        def make() -> Pricing:
            predicted = fit.calibration.apply(
                sums if fit.corrected is None else fit.corrected, here.resolutions
            )
            needed = set().union(*(needed_operators(here, r) for r in here.resolutions)) if partial else set()
            missing = tuple(sorted(op.text for op in needed - self.table(session, table, device).rows.keys()))
            return Pricing(
                here,
                table.id,
                sums,
                fit.calibration,
                predicted,
                None,
                None,
                doubt=fit.refused,
                lacking=missing,
            )

        # The facts are read each time: a table may have been accepted since it was priced.
        return replace(self._remember(key, make), table_facts=table_rows.facts(table)).at(confidence)

    def _measured(self, session: Session, device: Device, space: Space) -> list[NetworkMeasurement]:
        rows = measurement_rows.networks(session, device.id, space.name, space.classes)
        return [row for row in rows if self.ignored_session is None or row.session != self.ignored_session]

    def with_costs(
        self,
        session: Session,
        device: Device,
        whole: Pricing,
        within: Pricing,
        names: Sequence[str],
        *,
        confidence: float | None = None,
        partial: bool = False,
    ) -> Pricing:
        """`within`, which was made of `whole`, with further costs by name. Raises NoTable, NoEnergy,
        TooFewNetworks."""
        if not names:
            return within
        table = self.choose_table(session, device, whole.space, whole.table_id)
        ground = Ground(
            space=whole.space,
            sums=whole.sums,
            here=within.space,
            here_sums=within.sums,
            table=self.table(session, table, device),
            networks=self._measured(session, device, whole.space),
            assumed=table_rows.assumed_spread(table),
            partial=partial,
        )
        costs = costs_of(names, ground, confidence)
        lacking = sorted({*within.lacking, *(text for cost in costs.values() for text in cost.lacking)})
        return replace(within, costs=costs, lacking=tuple(lacking))

    def choose_table(
        self,
        session: Session,
        device: Device,
        space: Space,
        table_id: str | None = None,
        partial: bool = False,
    ) -> Table:
        """The pinned table, else the one that goes first of the ready ones that cover the space. Raises
        NoTable.

        partial: the one in use, whatever it lacks, as long as some network can be priced.
        """
        if table_id is not None:
            pinned = table_rows.of_device(session, device.id, table_id)
            if pinned is None:
                raise NoTable("the pinned latency table is gone")
            return pinned
        candidates = table_rows.by_precedence(session, device.id)
        for table in candidates:
            if table.state == table_rows.READY and (partial or self.coverage(session, table, device, space)):
                return table
        # Said only where looking at it would help: a doubtful table that covers nothing is no way out.
        doubtful = next((t for t in candidates if t.state != table_rows.READY), None)
        if doubtful is not None and self.coverage(session, doubtful, device, space):
            raise NoTable(
                "the device's latency table needs a review before it is used; see the `reasons` of version "
                f"{doubtful.version} and register a corrected one, or, if it is true, `bespoke tables accept "
                f"{device.name} {doubtful.version}`"
            )
        used = next((t for t in candidates if t.state == table_rows.READY), None)
        raise no_table(space, None if used is None else self.table(session, used, device))

    def predictor(self, supernet: Supernet) -> tuple[QualityPredictor, DenseTable]:
        """The supernet's accuracy predictor and its additive score of the whole space."""

        def make() -> tuple[QualityPredictor, DenseTable]:
            predictor = QualityPredictor.from_json(supernet.predictor or {})
            return predictor, predictor.dense()

        return self._remember(("score", supernet.id, supernet.ready_at), make)

    def front(self, supernet: Supernet, pricing: Pricing) -> Front:
        """The exact front of predicted latency and accuracy. A bound is a multiple of it, so it is the
        bound's front too."""
        c = pricing.calibration
        key = (
            "front",
            supernet.id,
            supernet.ready_at,
            pricing.table_id,
            pricing.space.name,
            c.networks,
            c.slope,
            c.intercept_ms,
            c.error,
        )

        def make() -> Front:
            predictor, dense = self.predictor(supernet)
            # Of sentences there is one size, whatever it is called in the predictor.
            whole = predictor.space if pricing.space.generation is None else pricing.space
            solved = exact.front(at_resolutions(dense, whole, pricing.space), pricing.predicted)
            return replace(solved, scores=predictor.quality_of(solved.scores))

        return self._remember(key, make)


def _key(space: Space) -> tuple[Hashable, ...]:
    """What tells two forms of a space apart: classes, resolutions, precisions and pruning may differ."""
    return (space.name, space.classes, space.resolutions, space.precisions, space.pruned)
