"""From rows of a latency table to predicted latencies of every network of a space on one device.

Rows -> dense table -> calibration from the device's whole networks -> predicted ms and, where enough networks
were measured, an upper bound in ms. The API answers fronts and reachable ranges from it, the worker searches
with it, so both hold a budget against the same numbers. No web framework here; numpy only.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from latency_tables.dense import DenseTable
from latency_tables.errors import PoorCalibration
from latency_tables.named import Value as ChoiceValue
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.refine import Refined, refine
from latency_tables.scale import rate
from latency_tables.table import LatencyTable
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.measurements import label_of, networks_of
from service.db.models import Device, NetworkMeasurement, Supernet, Table
from service.db.session import Session
from service.devices.costs import Cost, Ground, costs_of
from service.devices.covering import nearest_lack
from supernets.accuracy.predictor import QualityPredictor
from supernets.errors import NoTable
from supernets.search.exact import strategy as exact
from supernets.search.pareto import Front
from supernets.search.restriction import added, at_resolutions, excluded, possible_resolutions
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import (
    all_operators,
    covered_resolutions,
    dense_latency,
    known_latency,
    lower,
    needed_operators,
)
from supernets.spaces.space import Space

Exclusions = Mapping[str, Sequence[ChoiceValue]]
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Pricing:
    """Latencies in ms of every network of `space` (its covered resolutions only) on a device, by one table.

    sums: of the table's rows. predicted: calibrated. upper: bound of `confidence`, None where too few whole
    networks were measured and no confidence was asked for. doubt: why predictions may be off, None where they
    were confirmed or nothing was measured. lacking: operators that the table lacks; what needs them may not
    be chosen. table_facts: who imported and who accepted the table, and when. costs: further ones that were
    asked for, by name.
    """

    space: Space
    table_id: str
    sums: DenseTable
    calibration: Calibration
    predicted: DenseTable
    upper: DenseTable | None
    confidence: float | None
    table_facts: Mapping[str, Any] = field(default_factory=dict)
    doubt: str | None = None
    lacking: tuple[str, ...] = ()
    costs: Mapping[str, Cost] = field(default_factory=dict)

    @property
    def held(self) -> DenseTable:
        """What a budget is held against: the bound where there is one."""
        return self.predicted if self.upper is None else self.upper

    def reachable_ms(self) -> tuple[float, float]:
        """Least and greatest latency, in terms of what budgets are held against."""
        low, high = exact.bounds(self.held)
        return float(low), float(high)

    def within(self, resolutions: Sequence[int] | None, exclude: Exclusions) -> Pricing:
        """The same for fewer resolutions (None: all) and without the networks that make an excluded choice.

        Raises NoTable where the table prices none of the resolutions, InvalidSearch and InfeasibleBudget as
        `excluded` does.
        """
        kept = [r for r in self.space.resolutions if resolutions is None or r in resolutions]
        if not kept:
            have = ", ".join(map(str, self.space.resolutions))
            raise NoTable(
                f"the device's table prices {self.space.name} at {have} px only; ask for one of these"
            )
        space = self.space.at(kept)
        mask = excluded(space, exclude) if exclude else None

        def fewer(table: DenseTable) -> DenseTable:
            table = at_resolutions(table, self.space, space)
            return table if mask is None else added(table, mask)

        upper = None if self.upper is None else fewer(self.upper)
        return replace(self, space=space, sums=fewer(self.sums), predicted=fewer(self.predicted), upper=upper)

    def at(self, confidence: float | None) -> Pricing:
        """The same with the bound of that confidence. Raises TooFewNetworks that says how many are missing.

        None: the default confidence where enough networks were measured, else no bound.
        """
        upper, asked = self.calibration.bounded(self.predicted, confidence)
        return replace(self, upper=upper, confidence=asked)


@dataclass(frozen=True)
class Fit:
    """A calibration with what it rests on. refused: why the table may not be used for predictions, or None.

    corrected: sums of the rows corrected by whole networks, to which the calibration then applies; None: of
    the rows as they were measured.
    """

    calibration: Calibration
    measured_at: datetime | None
    refused: str | None = None
    corrected: DenseTable | None = None


def to_latency_table(session: Session, table: Table, device: Device) -> LatencyTable:
    """The immutable table behind a row."""
    return LatencyTable(table_rows.context_of(device), table_rows.rows_of(session, table.id))


def across_sessions(
    fit: Calibration,
    rows: Sequence[NetworkMeasurement],
    held_out_ms: Mapping[str, float],
    assumed: float | None,
) -> Calibration:
    """The fit with a bound that holds from session to session, from every measurement of the networks it
    rests on.

    held_out_ms: prediction by the architecture's digest, without that network where it took part in the fit.
    """
    known = [row for row in rows if row.architecture_digest in held_out_ms]
    logs = [math.log(row.latency_ms / held_out_ms[row.architecture_digest]) for row in known]
    labels = [label_of(row) for row in known]
    if fit.transferred:  # these rows came later; those of the fit were one session
        logs, labels = [*np.log(fit.ratios), *logs], [*[""] * len(fit.ratios), *labels]
    return fit.across(np.array(logs), labels, assumed)


def calibrate(space: Space, table: LatencyTable, networks: Sequence[tuple[Architecture, float]]) -> Refined:
    """Calibrate a table to measured networks of the space, correcting its rows where that pays. Raises
    PoorCalibration."""
    lowered = [lower(space, architecture) for architecture, _ in networks]
    return refine(
        table, lowered, [a.resolution for a, _ in networks], [latency_ms for _, latency_ms in networks]
    )


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
            given, assumed = table_rows.given_calibration(table), table_rows.assumed_spread(table)
            networks = networks_of(here, rows)
            if partial:
                priced = [bool(np.isfinite(sums.price(here.genes(a)[None])[0])) for a, _ in networks]
                networks = [network for network, known in zip(networks, priced, strict=True) if known]
            dense = known_latency if partial else dense_latency
            try:
                if given is not None:
                    genes = np.array([here.genes(a) for a, _ in networks], dtype=np.int64).reshape(
                        -1, here.chain.genes
                    )
                    predicted = given.apply(sums, here.resolutions).price(genes)
                    held_out = {a.digest: float(ms) for (a, _), ms in zip(networks, predicted, strict=True)}
                    later = [row for row in rows if row.created_at > table.created_at]
                    return Fit(across_sessions(given, later, held_out, assumed), last)
                found = calibrate(here, self.table(session, table, device), networks)
                ratios = found.calibration.ratios
                held_out = {a.digest: ms / ratio for (a, ms), ratio in zip(networks, ratios, strict=False)}
                calibration = across_sessions(found.calibration, rows, held_out, assumed)
                return Fit(calibration, last, None, dense(here, found.table) if found.corrected else None)
            except PoorCalibration as error:
                return Fit(rough(here, sums, networks), last, str(error))

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
            c.networks,
            c.slope,
            c.intercept_ms,
            c.error,
        )

        def make() -> Front:
            predictor, dense = self.predictor(supernet)
            solved = exact.front(at_resolutions(dense, predictor.space, pricing.space), pricing.predicted)
            return replace(solved, scores=predictor.quality_of(solved.scores))

        return self._remember(key, make)


def rough(space: Space, sums: DenseTable, networks: Sequence[tuple[Architecture, float]]) -> Calibration:
    """Where no line fits: the median of measured / sum, so that prices are right in the middle. Without error
    and bound."""
    genes = np.array([space.genes(a) for a, _ in networks], dtype=np.int64).reshape(-1, space.chain.genes)
    ratios = np.array([ms for _, ms in networks]) / sums.price(genes)
    # Networks of rows that the table lacks cost infinitely much, and tell nothing of it.
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    return Calibration(slope=float(np.median(ratios))) if len(ratios) else Calibration()


def _key(space: Space) -> tuple[Hashable, ...]:
    """What tells two forms of a space apart: classes and resolutions may differ."""
    return (space.name, space.classes, space.resolutions)


def no_table(space: Space, table: LatencyTable | None = None) -> NoTable:
    """What to say where no table of a device holds every operator of any resolution of a space; `table` is
    the one in use."""
    nearest = None if table is None else nearest_lack(table, [space])
    if nearest is not None:
        return NoTable(
            f"no latency table of the device covers {space.name} at any resolution. Nearest: {nearest}. "
            "Measure them (`bespoke profile`, or POST /v1/devices/{name}/profiles) or add them to the table "
            "(`bespoke tables import --add`)",
            nearest.missing,
        )
    count = len(all_operators(space, space.resolutions[0]))
    return NoTable(
        f"no latency table of the device holds any of the {count} operators of {space.name} with "
        f"{space.classes} classes; measure them (`bespoke profile`, or POST /v1/devices/{{name}}/profiles) "
        "or register a table"
    )
