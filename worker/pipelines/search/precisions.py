"""A chosen network in its precisions: beside itself in float32 and all in int8, and whether int8 ruins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latency_tables.operators.operator import FLOAT
from supernets.delivery.precision import FLOAT32, INT8, MIXED
from supernets.delivery.verdict import collapsed
from supernets.search.targets import Target
from supernets.spaces.lowering import block_name
from supernets.spaces.mixes import in_precisions
from worker.pipelines.scoring import VALIDATION
from worker.pipelines.search.beside import DELIVERED, Beside
from worker.pipelines.search.exported import ExportedNetwork, Precisions
from worker.pipelines.search.solve import Solving


@dataclass(frozen=True)
class PrecisionReport:
    """Of one job."""

    solving: Solving
    beside: Beside

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
        made = self.beside.of(target, network, others, weights)
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


def _at_fault(found: Precisions, alone: Mapping[str, float]) -> str:
    """The blocks in int8 that lose most alone, and what to do."""
    losses = {name: lost for name, lost in alone.items() if found.blocks.get(name) != FLOAT}
    worst = sorted(losses, key=lambda name: -losses[name])[:3]
    named = ", ".join(f"{name} (loss + {losses[name]:.3g})" for name in worst)
    stages = sorted({name.rpartition("_")[0] for name in worst})
    todo = " ".join(f"--exclude {stage}.precision=int8" for stage in stages)
    return f"of its blocks in int8 these lose most alone: {named}. Search with precision mixed and {todo}"
