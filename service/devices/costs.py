"""What a budget may limit on a device besides the latency: the latency of one run in twenty, and the energy
of a run.

Each is additive over a network's operators as the latency is, so searches hold it as one more constraint. The
tail is learnt from whole networks, for which p95 is kept beside the undisturbed latency; energy is in the
rows of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latency_tables.dense import DenseTable
from latency_tables.errors import TooFewNetworks
from latency_tables.measurement import Measurement
from latency_tables.prediction.calibration import Calibration
from latency_tables.table import LatencyTable
from service.db.measurements import label_of
from service.db.models import NetworkMeasurement
from supernets.errors import InvalidArchitecture, NoEnergy
from supernets.search.exact.bounds import bounds
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_energy, known_energy
from supernets.spaces.space import Space

TAIL: Final = "latency_p95_ms"
ENERGY: Final = "energy_mj"
LEAST_TAILS: Final = 5
"""Networks measured with their p95 below which a tail is not predicted."""


@dataclass(frozen=True, eq=False)
class Cost:
    """A cost of every network of a space on a device.

    upper: bound of `confidence`, None where nothing says how far a network may lie above its prediction.
    lacking: operators whose cost is not known; networks that need them cost infinitely much. read: what a
    measurement of a network tells of it; None where agents do not measure it.
    """

    name: str
    predicted: DenseTable
    upper: DenseTable | None = None
    confidence: float | None = None
    lacking: tuple[str, ...] = ()
    read: Callable[[Measurement], float | None] | None = None

    @property
    def held(self) -> DenseTable:
        """What a limit is held against where nothing is measured: the bound where there is one."""
        return self.predicted if self.upper is None else self.upper

    def reachable(self) -> tuple[float, float]:
        """Least and greatest value of any network, in terms of `held`."""
        low, high = bounds(self.held)
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Ground:
    """What the costs of a device rest on: its table, the sums of its rows, and its measured networks.

    here, here_sums: the space and sums that are priced (fewer resolutions, excluded choices infinite); space,
    sums: those that the table covers. assumed: spread of the sentinel while the device was profiled. partial:
    what is lacking may not be chosen.
    """

    space: Space
    sums: DenseTable
    here: Space
    here_sums: DenseTable
    table: LatencyTable
    networks: Sequence[NetworkMeasurement]
    assumed: float | None = None
    partial: bool = False


def tail(ground: Ground, confidence: float | None) -> Cost:
    """p95 in ms, calibrated to the p95 of whole networks as latencies are to their undisturbed one.

    confidence: of the bound; None: the default where enough networks were measured, else no bound. Raises
    TooFewNetworks.
    """
    fit = _tail_fit(ground)
    predicted = fit.apply(ground.here_sums, ground.here.resolutions)
    return Cost(TAIL, predicted, *fit.bounded(predicted, confidence), read=lambda m: m.p95_ms)


def _tail_fit(ground: Ground) -> Calibration:
    rows = [row for row in ground.networks if row.p95_ms is not None]
    known: dict[str, tuple[Architecture, float]] = {}
    for row in rows:
        try:
            architecture = ground.space.from_json(row.architecture)
        except InvalidArchitecture:
            continue  # of a resolution that the table does not cover, or of an older form of the space
        if architecture not in ground.space:
            continue  # it has blocks in a precision that this search does not have
        if np.isfinite(ground.sums.price(ground.space.genes(architecture)[None])[0]):
            known[row.architecture_digest] = (architecture, float(row.p95_ms or 0.0))
    if len(known) < LEAST_TAILS:
        missing = LEAST_TAILS - len(known)
        raise TooFewNetworks(
            f"{TAIL} is predicted from whole networks measured with their p95, at least {LEAST_TAILS}; of "
            f"{ground.space.name} this device has {len(known)}, so {missing} more must be measured (`bespoke "
            "profile`, or probes with `p95_ms`). Or search without that limit",
            missing,
        )
    genes = np.stack([ground.space.genes(a) for a, _ in known.values()])
    times = [p95_ms for _, p95_ms in known.values()]
    # Tails are noisy where a device has neighbours: that widens their bound and is no reason to refuse them.
    fit = Calibration.fit(
        ground.sums.price(genes), times, [a.resolution for a, _ in known.values()], max_error=math.inf
    )
    held_out = {
        digest: ms / ratio for (digest, (_, ms)), ratio in zip(known.items(), fit.ratios, strict=True)
    }
    seen = [row for row in rows if row.architecture_digest in held_out]
    logs = [math.log(float(row.p95_ms or 0.0) / held_out[row.architecture_digest]) for row in seen]
    return fit.across(np.array(logs), [label_of(row) for row in seen], ground.assumed)


def energy(ground: Ground, confidence: float | None) -> Cost:
    """Energy of one run in mJ, the sum of the rows' `energy_mj`: no bound, since no agent measures that of
    networks.

    Raises NoEnergy that names rows without any; where these may be left out, only if there is none at all.
    """
    if not ground.partial:
        return Cost(ENERGY, dense_energy(ground.here, ground.table))
    dense, lacking = known_energy(ground.here, ground.table)
    if all(m.energy_mj is None for m in ground.table.rows.values()):
        raise NoEnergy(
            f"no row of the table has `energy_mj`; import it with that column, or search without {ENERGY}",
            lacking,
        )
    return Cost(ENERGY, dense, lacking=lacking)


COSTS: Final[Mapping[str, Callable[[Ground, float | None], Cost]]] = {TAIL: tail, ENERGY: energy}
"""By the name of their limit in a budget."""


def asked_for(budget: Mapping[str, Any]) -> dict[str, float]:
    """The limits of a device's budget that are on these costs."""
    return {name: float(budget[name]) for name in COSTS if budget.get(name) is not None}


def costs_of(names: Iterable[str], ground: Ground, confidence: float | None) -> dict[str, Cost]:
    """By name. Raises TooFewNetworks, NoEnergy."""
    return {name: COSTS[name](ground, confidence) for name in names}
