"""A delivered network beside other forms of itself: scored, tested and measured in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from supernets.delivery.precision import MIXED
from supernets.search.measured import Reading
from supernets.search.targets import OnDevice, Target, predicted_ms
from supernets.spaces.architecture import Architecture
from worker.compute.requests import SupernetRef
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.exported import ExportedNetwork, InPrecision
from worker.pipelines.search.solve import Solving
from worker.pipelines.search.verify import OnFile, Verification

DELIVERED: Final = "delivered"


@dataclass(frozen=True)
class Beside:
    """Of one job."""

    solving: Solving
    files: Files
    verification: Verification

    def of(
        self,
        target: Target,
        network: ExportedNetwork,
        variants: dict[str, Architecture],
        weights: SupernetRef,
    ) -> dict[str, InPrecision]:
        """Every variant as a file, scored, tested, and measured where an agent is."""
        metric = network.metric
        files = {
            name: network.file if name == DELIVERED else self.files.file(target, one, weights)
            for name, one in variants.items()
        }
        # Counted in one way, or the difference would be that of two ways to count.
        counted = self.solving.counted(list(variants.values()), weights, reduced=True)
        tests = {
            name: network.test or self.files.test_of(one, files[name])
            if name == DELIVERED
            else self.files.test_of(one, files[name])
            for name, one in variants.items()
        }
        measured = self._measured(target, [OnFile(one, files[name]) for name, one in variants.items()])
        place = target.places[0] if target.places else None
        return {
            name: InPrecision(
                precision=_named(one),
                size_bytes=files[name].size_bytes,
                validation=metric.value(counted[one.digest]),
                test=tests[name].accuracy,
                predicted_ms=None if place is None else _predicted(place, one),
                measured_ms=ms,
            )
            for (name, one), ms in zip(variants.items(), measured, strict=True)
        }

    def _measured(self, target: Target, networks: list[OnFile]) -> list[float | None]:
        """Milliseconds on the first measured device, all in the same rounds."""
        if not target.measured or target.measured[0] is not target.places[0]:
            return [None] * len(networks)
        found = self.verification.readings(target, networks, 1)
        return [_of(readings[0]) if readings else None for readings in found]


def _predicted(place: OnDevice, architecture: Architecture) -> float | None:
    """By the prices of the target, or of networks in float32 where the target has none of those."""
    found = predicted_ms(place.pricing, architecture)
    if found is None and place.in_float is not None:
        return predicted_ms(place.in_float, architecture)
    return found


def _of(readings: list[Reading]) -> float | None:
    return readings[0].ms if readings else None


def _named(architecture: Architecture) -> str:
    used = {choice.precision for stage in architecture.stages for choice in stage.blocks if not choice.zero}
    return next(iter(used)) if len(used) == 1 else MIXED
