"""What a model card says of latencies: of every device of the target, predicted, bounded and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from latency_tables.prediction.calibration import DEFAULT_CONFIDENCE
from supernets.search.limits import SIZE, costs_of
from supernets.search.measured import Latency
from worker.pipelines.search.targets import LATENCY, Further, OnDevice, Target

if TYPE_CHECKING:
    from worker.pipelines.search.card import Delivered

KEYS: Final = (
    "predicted_ms", "upper_ms", "confidence", "bound", "missing_networks", "doubt", "chosen_by",
    "measured_ms", "uncertainty", "readings", "typical_ms", "p90_ms", "p95_ms", "prediction_error",
    "verified", "table_id", "further",
)  # fmt: skip


def latency_of(target: Target, network: Delivered) -> dict[str, Any]:
    """The latency of a network on the target's device, the first one where it has several; `verified` is
    about all.

    The same keys with nulls where the target has no device.
    """
    if not target.places:
        return {**dict.fromkeys(KEYS), "chosen_by": "limits", "readings": 0, "verified": False}
    found = on_device(target, target.places[0], network)
    return {
        **found,
        "verified": all(on_device(target, place, network)["verified"] for place in target.places),
    }


def devices_of(target: Target, network: Delivered) -> list[dict[str, Any]]:
    """The same for every device of the target, with its name and budget."""
    return [
        {
            "device": place.device,
            "budget_ms": place.budget_ms,
            "context": None if place.context is None else place.context.as_dict(),
            **on_device(target, place, network),
        }
        for place in target.places
    ]


def on_device(target: Target, place: OnDevice, network: Delivered) -> dict[str, Any]:
    """Predicted latency, bound (null with how many networks it lacks), and what was measured, in ms."""
    pricing = place.pricing
    genes = pricing.space.genes(network.architecture)[None]
    predicted_ms = float(pricing.predicted.price(genes)[0])
    upper_ms = None if pricing.upper is None else float(pricing.upper.price(genes)[0])
    measured = measured_on(target, place, network)
    typical = network.typical.get(place.device_id)
    found = {
        "predicted_ms": predicted_ms,
        "upper_ms": upper_ms,
        "confidence": None if upper_ms is None else pricing.confidence,
        "bound": None if upper_ms is None else {"upper_ms": upper_ms, "confidence": pricing.confidence},
        "missing_networks": 0
        if upper_ms is not None
        else pricing.calibration.missing_networks(DEFAULT_CONFIDENCE),
        "chosen_by": "measurement" if measured is not None else place.basis,
        "measured_ms": None if measured is None else measured.ms,
        "uncertainty": None if measured is None else measured.uncertainty,
        "readings": 0 if measured is None else measured.readings,
        "typical_ms": None if typical is None else typical.median_ms,
        "p90_ms": None if typical is None else typical.p90_ms,
        "p95_ms": None if typical is None else typical.p95_ms,
        "prediction_error": None if measured is None else measured.ms / predicted_ms - 1,
        "verified": measured is not None and all(kept_when_measured(target, place, network)),
        "doubt": pricing.doubt,
        "table_id": place.table_id,
        "further": [further_on(target, place, further, network) for further in place.further],
    }
    return {name: found[name] for name in KEYS}


def further_on(target: Target, place: OnDevice, further: Further, network: Delivered) -> dict[str, Any]:
    """A further limit of a device's budget with what the network costs: predicted, bounded, and measured
    where agents do."""
    cost, space = further.cost, place.pricing.space
    upper = None if cost.upper is None else further.value(cost.upper, space, network.architecture)
    measured = measured_on(target, place, network, further.name)
    return {
        "name": further.name,
        "limit": further.limit,
        "predicted": further.value(cost.predicted, space, network.architecture),
        "upper": upper,
        "confidence": cost.confidence,
        "measured": None if measured is None else measured.ms,
    }


def kept_when_measured(target: Target, place: OnDevice, network: Delivered) -> list[bool]:
    """Of every limit that was measured on a device, whether the network kept it."""
    return [
        latency.ms <= gauge.budget
        for gauge, latency in zip(target.gauges, network.latencies, strict=False)
        if gauge.place.device_id == place.device_id
    ]


def measured_on(target: Target, place: OnDevice, network: Delivered, name: str = LATENCY) -> Latency | None:
    """What was measured of the network on a device of the target, of its latency or of another cost."""
    known = zip([(g.place.device_id, g.name) for g in target.gauges], network.latencies, strict=False)
    return dict(known).get((place.device_id, name))


def constraints_of(target: Target, network: Delivered) -> list[dict[str, Any]]:
    """Every limit of the budget with the network's own value and where that comes from."""
    found = []
    for place in target.places:
        said = on_device(target, place, network)
        value, basis = said["measured_ms"], "measured on the device"
        if value is None:
            value, basis = (
                (said["predicted_ms"], "predicted")
                if said["upper_ms"] is None
                else (said["upper_ms"], "upper bound")
            )
        found.append(
            {"name": target.named(LATENCY, place), "limit": place.budget_ms, "value": value, "basis": basis}
        )
        found += [_constraint(target.named(one["name"], place), one) for one in said["further"]]
    costs = costs_of(target.space, network.architecture, target.bytes_per_value)
    for name, limit in target.limits.items():
        own = network.file.size_bytes if name == SIZE else costs[name]
        found.append(
            {"name": name, "limit": limit, "value": own, "basis": "file" if name == SIZE else "operators"}
        )
    return found


def _constraint(name: str, further: dict[str, Any]) -> dict[str, Any]:
    """A further limit as a line of `constraints`."""
    bases = {"measured": "measured on the device", "upper": "upper bound", "predicted": "predicted"}
    key = next(key for key in bases if further[key] is not None)
    return {"name": name, "limit": further["limit"], "value": further[key], "basis": bases[key]}
