"""Can a target be met at all? Asked before a job waits for hours only to fail for the same reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from latency_tables.dense import DenseTable
from service.devices.costs import asked_for
from service.devices.pricing import Pricing
from service.schemas.searches import Member, Target
from supernets.errors import InfeasibleBudget, InvalidSearch, NoTable
from supernets.search.exact.bounds import bounds
from supernets.search.limits import check_limits
from supernets.search.problem import Constraint
from supernets.search.restriction import at_resolutions, mask_of
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space

LATENCY: Final = "latency_ms"


@dataclass(frozen=True)
class PricedDevice:
    """A device of a target. measures: its agent is there and decides by measuring, so predictions are what
    must be kept."""

    member: Member
    pricing: Pricing
    measures: bool

    def held(self) -> Iterator[tuple[str, DenseTable, DenseTable, float]]:
        """(name, costs that the limit is held against, their prediction, limit) of every limit on the
        device."""
        budget, pricing = self.member.budget, self.pricing
        latency = pricing.predicted if self.measures else pricing.held
        yield LATENCY, latency, pricing.predicted, float(budget.fastest_ms or 0.0)
        for name, limit in asked_for(budget.stored()).items():
            cost = pricing.costs[name]
            yield name, cost.predicted if self.measures else cost.held, cost.predicted, limit


@dataclass(frozen=True, eq=False)
class Ground:
    """What the devices of a target have in common. mask: infinite for choices that may not be taken."""

    space: Space
    mask: DenseTable | None


def check_resolutions(space: Space, target: Target) -> None:
    """Raises InvalidSearch for resolutions that the space does not have."""
    if not set(target.resolutions or ()) <= set(space.resolutions):
        raise InvalidSearch(f"resolutions of {space.name} are {', '.join(map(str, space.resolutions))}")


def common_ground(
    space: Space, target: Target, priced: Sequence[PricedDevice], only: Architecture | None = None
) -> Ground:
    """The space at the resolutions that may be chosen on every device, and what may not be chosen in it;
    only: all other networks.

    Raises InvalidSearch, NoTable, and InfeasibleBudget where nothing is left.
    """
    check_resolutions(space, target)
    allowed = [r for r in space.resolutions if target.resolutions is None or r in target.resolutions]
    kept = [r for r in allowed if all(r in one.pricing.space.resolutions for one in priced)]
    if not kept:
        raise NoTable(
            f"the tables of these devices have no resolution of {space.name} in common that may be chosen"
        )
    shared = space.at(kept)
    return Ground(shared, mask_of(shared, target.exclusions(), only))


def check_reachable(
    ground: Ground, target: Target, priced: Sequence[PricedDevice], bytes_per_value: int
) -> None:
    """Refuses what no network can keep: a limit alone, the others within the peak memory, any two together.

    Raises InfeasibleBudget.
    """
    constraints = []
    for one in priced:
        for name, table, predicted, limit in one.held():
            low, high = bounds(table)
            if limit < low:
                why = _too_low(one, name, low, high, bounds(predicted)[0])
                raise InfeasibleBudget(why, low, high, name)
            called = name if target.group is None else f"{name} on {one.member.device}"
            costs = at_resolutions(table, one.pricing.space, ground.space)
            constraints.append(Constraint(called, costs, limit))
    check_limits(ground.space, constraints, target.limits(), ground.mask, bytes_per_value)


def _too_low(one: PricedDevice, name: str, low: float, high: float, predicted_low: float) -> str:
    """What of a limit on a device can be kept; where only the bound says no, what the prediction says and
    what would help."""
    device, pricing = one.member.device, one.pricing
    cost = pricing.costs.get(name)
    confidence = pricing.confidence if cost is None else cost.confidence
    bound = "" if confidence is None or one.measures else f" with {confidence:.0%} confidence"
    if cost is None:
        text = (
            f"no network of {pricing.space.name} is that fast on {device}{bound}: budgets from {low:.4g} ms "
            f"on can be kept, and the slowest network takes {high:.4g} ms"
        )
    else:
        text = f"no network of {pricing.space.name} keeps that {name} on {device}{bound}: "
        text += f"it reaches from {low:.4g} to {high:.4g}"
    if predicted_low < low:
        text += (
            f". Predicted for the least network are {predicted_low:.4g}; where the device's agent is running "
            "and candidates are measured (`verify`, no `confidence`), measuring decides"
        )
    return text
