"""A chosen network in its precisions: beside itself in float32 and all in int8, and whether int8 ruins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from latency_tables.operators.operator import FLOAT
from supernets.delivery.precision import FLOAT32, INT8, MIXED
from supernets.delivery.verdict import collapsed
from supernets.search.measured import Reading
from supernets.search.targets import OnDevice, Target, predicted_ms
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import block_name
from supernets.spaces.mixes import in_precisions
from worker.compute.requests import SupernetRef
from worker.pipelines.scoring import VALIDATION
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.exported import ExportedNetwork, InPrecision, Precisions
from worker.pipelines.search.solve import Solving
from worker.pipelines.search.verify import OnFile, Verification

DELIVERED: Final = "delivered"


@dataclass(frozen=True)
class PrecisionReport:
    """Of one job."""

    solving: Solving
    files: Files
    verification: Verification

    def of(self, target: Target, network: ExportedNetwork) -> Precisions:
        """Of a network that was tested, of a target whose blocks may be in int8."""
        space, chosen = target.space, network.architecture
        run, weights = self.solving.job.run, network.weights or self.solving.job.ready.ref
        plain = space.in_float(chosen)
        whole = in_precisions(space.with_precisions((INT8,)), chosen, lambda: INT8)
        variants = {DELIVERED: chosen, FLOAT32: plain, INT8: whole}
        # One that is the delivered network itself is not made once more.
        others = {name: one for name, one in variants.items() if name == DELIVERED or one != chosen}
        run.progress("deliver", 0.9, "beside float32 and int8", always=True)
        made = self._beside(target, network, others, weights)
        beside = {name: made.get(name, made[DELIVERED]) for name in variants}
        before, after = beside[FLOAT32].validation, beside[DELIVERED].validation
        found = Precisions(
            asked=MIXED if len(space.precisions) > 1 else space.precisions[0],
            blocks={
                block_name(space, stage, block): choice.precision
                for stage, one in enumerate(chosen.stages)
                for block, choice in enumerate(one.blocks)
                if not choice.zero
            },
            rounding=network.file.int8,
            beside=beside,
        )
        metric = network.metric
        lost = collapsed(metric, metric.quality(before), metric.quality(after))
        if not lost:
            return found
        alone = self.solving.job.torch_child.sensitivity(weights, plain, VALIDATION)
        reason = f"{lost}: {_at_fault(found, alone)}"
        run.event("int8_collapsed", {"device": target.device, "reason": reason})
        return Precisions(found.asked, found.blocks, found.rounding, found.beside, reason)

    def _beside(
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
        counted = self.solving.scored(list(variants.values()), weights, rounded=True)
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


def _at_fault(found: Precisions, alone: Mapping[str, float]) -> str:
    """The blocks in int8 that lose most alone, and what to do."""
    losses = {name: lost for name, lost in alone.items() if found.blocks.get(name) != FLOAT}
    worst = sorted(losses, key=lambda name: -losses[name])[:3]
    named = ", ".join(f"{name} (loss + {losses[name]:.3g})" for name in worst)
    stages = sorted({name.rpartition("_")[0] for name in worst})
    todo = " ".join(f"--exclude {stage}.precision=int8" for stage in stages)
    return f"of its blocks in int8 these lose most alone: {named}. Search with precision mixed and {todo}"
