"""A chosen network that may be pruned: what was cut out of it, beside the network that has all channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from supernets.search.targets import Target
from worker.pipelines.search.beside import DELIVERED, Beside
from worker.pipelines.search.exported import ExportedNetwork, Pruned

WHOLE: Final = "whole"


@dataclass(frozen=True)
class PruningReport:
    """Of one job."""

    beside: Beside

    def of(self, target: Target, network: ExportedNetwork) -> Pruned:
        """Of a network that was tested, of a target whose blocks may be pruned."""
        chosen, ready = network.architecture, self.beside.solving.job.ready
        whole = target.space.unpruned(chosen)
        made = self.beside.of(target, network, {DELIVERED: chosen}, network.weights or ready.ref)
        if whole == chosen:
            return Pruned({}, None, 0, {**made, WHOLE: made[DELIVERED]})
        # Fine-tuned weights have no channels but their own: the whole network is that of the supernet, and
        # what was refitted is the file before it was fine-tuned.
        made |= self.beside.of(target, network, {WHOLE: whole}, ready.ref)
        file = self.beside.files.file(target, chosen, ready.ref)
        told: Any = file.pruned or {}
        return Pruned(told.get("blocks", {}), told.get("method"), told.get("samples", 0), made)
