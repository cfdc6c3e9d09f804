"""Sub-networks with blocks in int8, or pruned, scored on a split as they would be delivered: what each block
loses alone, and what whole networks do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.dense import Array, Genes
from supernets.accuracy.likelihood import Groups, Scale
from supernets.accuracy.precision import RoundedScores
from supernets.cut_out import PlainNetwork
from supernets.data.splits import evenly_spread
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.precision import FLOAT32, INT8, USUAL, PrecisionPlan
from supernets.delivery.quantising import Calibrated, Samples
from supernets.errors import InvalidPrecision
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import block_name
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of

_AT_A_TIME: Final = 256
_KEPT: Final = 8
LEARN_SAMPLES: Final = 2000
"""Of the validation split, for what a sum over blocks is fitted to; what may be delivered is scored on
all."""
LEARN_ROUNDING: Final = replace(USUAL, method="percentile")
"""Trying all methods takes as long as everything else, and it is the blocks that are compared there."""
_SENSITIVE_SAMPLES: Final = (
    512  # of a split: a mean of losses, which varies less than a share of right answers
)


@dataclass(frozen=True, eq=False)
class Ready:
    """A sub-network whose plans can be scored. names: of the blocks of its operators, in order. method: of
    finding ranges, the best for all-int8."""

    calibrated: Calibrated
    names: tuple[str, ...]
    method: str

    def plan(self, in_int8: Mapping[str, bool]) -> PrecisionPlan:
        """By names of blocks; those it does not have are left out, those without an int8 form stay in
        float32."""
        able = {n for i, n in enumerate(self.names) if i in self.calibrated.steps}
        wanted = {name: INT8 for name in self.names if name and in_int8.get(name) and name in able}
        return PrecisionPlan.of_blocks(self.names, wanted)


class RoundedEvaluator:
    """Scores plans of the sub-networks of one supernet. source: of any of them; its plan is not looked at.
    scale: how log-likelihoods are read as qualities where those rank networks; None: answers are counted."""

    def __init__(
        self,
        source: Source,
        split: str = "validation",
        limit: int | None = None,
        *,
        scale: Scale | None = None,
    ) -> None:
        self.source, self.split, self.scale = source, split, scale
        self.task = task_of(source.data)
        size = len(source.data.split(split))
        self.rows = evenly_spread(size, size if limit is None else min(limit, size))
        self._ready: dict[str, Ready] = {}
        self._plain: dict[str, PlainNetwork] = {}

    def plain(self, architecture: Architecture) -> PlainNetwork:
        """A sub-network cut out, pruned where it is, and folded; once. Raises InvalidPruning."""
        if architecture.digest not in self._plain:
            while len(self._plain) >= _KEPT:  # each holds its weights
                del self._plain[next(iter(self._plain))]
            plain = passed(self._source(architecture), PLAIN)
            if not isinstance(plain, PlainNetwork) or len(plain.inputs) != 1:
                space = self.source.supernet.space
                raise InvalidPrecision(f"networks of {space.name!r} have no int8 form here")
            self._plain[architecture.digest] = plain.cpu()
        return self._plain[architecture.digest]

    def _source(self, architecture: Architecture) -> Source:
        return replace(self.source, architecture=architecture, plan=None)

    def ready(self, architecture: Architecture) -> Ready:
        """A sub-network cut out, folded and calibrated; once. Raises InvalidPrecision where it has no int8
        form at all."""
        if architecture.digest not in self._ready:
            while len(self._ready) >= _KEPT:
                del self._ready[next(iter(self._ready))]
            source, plain = self._source(architecture), self.plain(architecture)
            samples = Samples.of(source.data, architecture.resolution, source.rounding, plain.operators)
            found = Calibrated.of(plain, samples.calibration, source.rounding)
            names = tuple(name for name, _ in source.supernet.plan(source.whole))
            ready = Ready(found, names, found.methods[0])
            every = ready.plan(dict.fromkeys(names, True))
            self._ready[architecture.digest] = replace(ready, method=found.best_method(every, samples.trial))
        return self._ready[architecture.digest]

    def value(self, architecture: Architecture, plan: PrecisionPlan | None = None) -> float:
        """What ranks networks: the quality, or that of networks with its log-likelihood."""
        quality, likelihoods = self.counted(architecture, plan)
        if self.scale is None or likelihoods is None:
            return quality
        return self.scale.quality(float(likelihoods.mean()))

    def quality(self, architecture: Architecture, plan: PrecisionPlan | None = None) -> float:
        """On the split, simulated where some of it is in int8."""
        return self.counted(architecture, plan)[0]

    def counted(
        self, architecture: Architecture, plan: PrecisionPlan | None = None
    ) -> tuple[float, Array | None]:
        """(quality on the split, mean log-likelihood of each group of samples), simulated where some of it is
        in int8. Groups (groups,) as `Evaluator` has them; None where the task has none."""
        network: nn.Module
        if plan is None or not plan.int8:
            network = self.plain(architecture)
        else:
            ready = self.ready(architecture)
            network = ready.calibrated.at(plan, ready.method)
        total: Array = np.zeros(())
        groups = Groups(len(self.rows))
        for x, targets in self._batches(architecture, self.rows):
            with torch.no_grad():
                outputs = network(x)
                total = total + self.task.tally(outputs, targets)
                found = self.task.log_likelihoods(outputs, targets)
                if found is not None:
                    groups.add(found.numpy())
        return self.task.quality(total), groups.means()

    def sensitivity(self, architecture: Architecture) -> dict[str, float]:
        """Name of a block -> what the loss grows by where it alone is in int8; blocks without an int8 form
        are left out."""
        ready, rows = self.ready(architecture), self.rows[:: -(-len(self.rows) // _SENSITIVE_SAMPLES)]
        batches = list(self._batches(architecture, rows))
        blank = PrecisionPlan.uniform(FLOAT32, len(ready.names))
        base = self._loss(ready, blank, batches)
        return {
            name: self._loss(ready, ready.plan({name: True}), batches) - base
            for number, name in enumerate(ready.names)
            if name and number in ready.calibrated.steps
        }

    def _loss(self, ready: Ready, plan: PrecisionPlan, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
        network = ready.calibrated.at(plan, ready.method)
        with torch.no_grad():
            losses = [float(self.task.loss(network(x), targets)) * len(x) for x, targets in batches]
        return sum(losses) / sum(len(x) for x, _ in batches)

    def _batches(self, architecture: Architecture, rows: Genes) -> Sequence[tuple[Tensor, Tensor]]:
        data, condition = self.source.data, architecture.resolution
        return [
            self.task.examples(data, self.split, condition, rows[start : start + _AT_A_TIME])
            for start in range(0, len(rows), _AT_A_TIME)
        ]


def block_names(space: Space) -> tuple[str, ...]:
    """Of all blocks that some network of the space has, in order."""
    return tuple(
        block_name(space, stage, block)
        for stage, described in enumerate(space.stages)
        for block in range(len(described.choices))
    )


def mean_sensitivity(
    evaluator: RoundedEvaluator, architectures: Sequence[Architecture], names: Sequence[str]
) -> dict[str, float]:
    """Of each named block over the networks that have it; the mean of all where none does."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for architecture in architectures:
        for name, lost in evaluator.sensitivity(architecture).items():
            found[name].append(lost)
    known = [float(np.mean(values)) for values in found.values() if values]
    usual = float(np.mean(known)) if known else 0.0
    return {name: float(np.mean(values)) if values else usual for name, values in found.items()}


def score_rounded(
    evaluator: RoundedEvaluator,
    genes: Genes,
    int8: Array,
    names: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> RoundedScores:
    """What ranks networks (networks, genes) with blocks in int8 (networks, blocks), blocks that a network
    lacks being of no matter: their columns are 0 in the answer."""
    space = evaluator.source.supernet.space
    present, qualities = np.zeros(int8.shape), []
    for number, (row, chosen) in enumerate(zip(genes, int8, strict=True)):
        architecture = space.architecture(row)
        ready = evaluator.ready(architecture)
        plan = ready.plan({name: bool(value) for name, value in zip(names, chosen, strict=True)})
        rounded = {ready.names[i] for i in plan.int8}
        present[number] = [name in rounded for name in names]
        qualities.append(evaluator.value(architecture, plan))
        progress(number + 1, len(genes))
    return RoundedScores(genes, present, np.array(qualities))


def random_precisions(networks: int, blocks: int, generator: np.random.Generator) -> Array:
    """(networks, blocks) of 0 and 1: each network has its own share in int8, so that sums differ."""
    shares = generator.uniform(0.0, 1.0, networks)
    return np.asarray(generator.random((networks, blocks)) < shares[:, None], dtype=np.float64)
