"""What a model card says of latencies: of every device of the target, predicted, bounded and measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from latency_tables.prediction.calibration import DEFAULT_CONFIDENCE
from service.db.documents import Document
from supernets.search.limits import SIZE, costs_of
from supernets.search.measured import Latency
from supernets.search.targets import LATENCY, Further, OnDevice, Target
from worker.pipelines.search.exported import ExportedNetwork


@dataclass(frozen=True)
class Bound:
    """An upper bound in ms, and how often it holds."""

    upper_ms: float
    confidence: float | None


@dataclass(frozen=True)
class FurtherLine:
    """A further limit of a device's budget with what the network costs: predicted, bounded, measured."""

    name: str
    limit: float
    predicted: float
    upper: float | None
    confidence: float | None
    measured: float | None


@dataclass(frozen=True)
class LatencyLine:
    """What is known of a network's latency on one device; nulls where the target has none.

    bound: None with how many networks it lacks. chosen_by: what the budget was held against. typical, p90,
    p95: neighbours of the device included. prediction_error: relative. verified: measured, and within
    every limit.
    """

    predicted_ms: float | None = None
    upper_ms: float | None = None
    confidence: float | None = None
    bound: Bound | None = None
    missing_networks: int | None = None
    doubt: str | None = None
    chosen_by: str = "limits"
    measured_ms: float | None = None
    uncertainty: float | None = None
    readings: int = 0
    typical_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    prediction_error: float | None = None
    verified: bool = False
    table_id: str | None = None
    further: list[FurtherLine] | None = field(default=None)


def latency_of(target: Target, network: ExportedNetwork) -> Document:
    """The latency on the target's device, the first one where it has several; `verified` is about all."""
    if not target.places:
        return asdict(LatencyLine())
    lines = [on_device(target, place, network) for place in target.places]
    return asdict(replace(lines[0], verified=all(line.verified for line in lines)))


def devices_of(target: Target, network: ExportedNetwork) -> list[Document]:
    """The same for every device of the target, with its name and budget."""
    return [
        {
            "device": place.device,
            "budget_ms": place.budget_ms,
            "context": None if place.context is None else place.context.as_dict(),
            **asdict(on_device(target, place, network)),
        }
        for place in target.places
    ]


def on_device(target: Target, place: OnDevice, network: ExportedNetwork) -> LatencyLine:
    """Predicted, bounded and measured latency of a network on a device."""
    pricing, architecture = place.pricing, network.architecture
    predicted_ms, upper_ms = place.predicted_ms(architecture), place.upper_ms(architecture)
    found = LatencyLine(
        predicted_ms=predicted_ms,
        upper_ms=upper_ms,
        confidence=None if upper_ms is None else pricing.confidence,
        bound=None if upper_ms is None else Bound(upper_ms, pricing.confidence),
        # Why there is no bound: so many more networks would have to be measured.
        missing_networks=0
        if upper_ms is not None
        else pricing.calibration.missing_networks(DEFAULT_CONFIDENCE),
        doubt=pricing.doubt,
        chosen_by=place.basis,
        table_id=place.table_id,
        further=[further_on(target, place, further, network) for further in place.further],
    )
    typical, measured = network.typical.get(place.device_id), measured_on(target, place, network)
    if typical is not None:
        found = replace(found, typical_ms=typical.median_ms, p90_ms=typical.p90_ms, p95_ms=typical.p95_ms)
    if measured is None:
        return found
    return replace(
        found,
        chosen_by="measurement",
        measured_ms=measured.ms,
        uncertainty=measured.uncertainty,
        readings=measured.readings,
        prediction_error=measured.ms / predicted_ms - 1,
        verified=all(kept_when_measured(target, place, network)),
    )


def further_on(target: Target, place: OnDevice, further: Further, network: ExportedNetwork) -> FurtherLine:
    """What a network costs of a further limit of a device's budget; measured where agents do."""
    cost, space = further.cost, place.pricing.space
    measured = measured_on(target, place, network, further.name)
    return FurtherLine(
        name=further.name,
        limit=further.limit,
        predicted=further.value(cost.predicted, space, network.architecture),
        upper=None if cost.upper is None else further.value(cost.upper, space, network.architecture),
        confidence=cost.confidence,
        measured=None if measured is None else measured.ms,
    )


def kept_when_measured(target: Target, place: OnDevice, network: ExportedNetwork) -> list[bool]:
    """Of every limit that was measured on a device, whether the network kept it."""
    return [
        latency.ms <= gauge.budget
        for gauge, latency in zip(target.gauges, network.latencies, strict=False)
        if gauge.place.device_id == place.device_id
    ]


def measured_on(
    target: Target, place: OnDevice, network: ExportedNetwork, name: str = LATENCY
) -> Latency | None:
    """What was measured of the network on a device of the target, of its latency or of another cost."""
    # Not strict: latencies are empty where nobody measured.
    known = zip([(g.place.device_id, g.name) for g in target.gauges], network.latencies, strict=False)
    return dict(known).get((place.device_id, name))


def constraints_of(target: Target, network: ExportedNetwork) -> list[Document]:
    """Every limit of the budget with the network's own value and where that comes from."""
    found: list[Document] = []
    for place in target.places:
        line = on_device(target, place, network)
        said = _surest(line.measured_ms, line.upper_ms, line.predicted_ms)
        found.append({"name": target.named(LATENCY, place), "limit": place.budget_ms, **said})
        for one in line.further or ():
            said = _surest(one.measured, one.upper, one.predicted)
            found.append({"name": target.named(one.name, place), "limit": one.limit, **said})
    costs = costs_of(target.space, network.architecture, target.bytes_per_value)
    for name, limit in target.limits.items():
        # A file holds more than weights, and the file is what the limit is about.
        own, basis = (network.file.size_bytes, "file") if name == SIZE else (costs[name], "operators")
        found.append({"name": name, "limit": limit, "value": own, "basis": basis})
    return found


def _surest(measured: float | None, upper: float | None, predicted: float | None) -> Document:
    """The value that says most of a network's cost, and what it is."""
    if measured is not None:
        return {"value": measured, "basis": "measured on the device"}
    if upper is not None:
        return {"value": upper, "basis": "upper bound"}
    return {"value": predicted, "basis": "predicted"}
