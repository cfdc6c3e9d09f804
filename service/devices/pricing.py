"""Prices: predicted latencies of every network of a space on one device.

Rows -> dense table -> calibration from the device's whole networks -> predicted ms and, where enough networks
were measured, an upper bound in ms. The API answers fronts and reachable ranges from it, the worker searches
with it, so both hold a budget against the same numbers. They come from a `PriceBook`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from latency_tables.dense import DenseTable
from latency_tables.named import Value
from latency_tables.prediction.calibration import Calibration
from service.devices.costs import Cost
from supernets.errors import NoTable
from supernets.search.exact import strategy as exact
from supernets.search.restriction import added, at_resolutions, mask_of
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space

Exclusions = Mapping[str, Sequence[Value]]


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

    def within(
        self, resolutions: Sequence[int] | None, exclude: Exclusions, only: Architecture | None = None
    ) -> Pricing:
        """The same for fewer resolutions (None: all) and without the networks that make an excluded choice;
        only: that network alone, in whatever precisions.

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
        mask = mask_of(space, exclude, only)

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
