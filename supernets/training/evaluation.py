"""Quality of many sub-networks of a supernet, each with recalibrated batch-norm.

Networks are walked like a tree of their blocks: two networks that begin with the same blocks share the work
up to the first difference. The calibration samples go first and leave the statistics of every block on every
path, then the samples that are counted; both in parts that fit into memory. The numbers are those of cutting
the network out, `recalibrate` and counting. Nothing is evaluated twice: results are kept by the digest of the
architecture. What is counted, and what quality that makes, is the task's (`supernets.tasks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.dense import Array, Genes
from latency_tables.operators import Operator
from supernets.accuracy.choice import score_in_rounds
from supernets.accuracy.likelihood import Groups
from supernets.accuracy.predictor import QualityPredictor
from supernets.data.splits import evenly_spread
from supernets.layers.catalog import build_operator
from supernets.network import Plan, Supernet
from supernets.spaces.architecture import Architecture
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data, Rows
from supernets.tasks.task import Cache, Evaluates
from supernets.training.batchnorm import CALIBRATION_SAMPLES, calibration_batches, norms_of
from supernets.training.memory import samples_of_space

_Step = tuple[str, Operator]
_GROUP = 64  # networks whose statistics are held at once


class Evaluator:
    """Qualities on one split.

    calibration: training samples for the batch-norm statistics. limit: samples of the split, all of them by
    default. cache: results by architecture digest, shared with whoever owns it; it must belong to this
    supernet and split. likelihoods: whether log-likelihoods are kept too, of tasks that have them.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: Data,
        split: str = "validation",
        *,
        calibration: int = CALIBRATION_SAMPLES,
        limit: int | None = None,
        cache: Cache | None = None,
        likelihoods: bool = False,
    ) -> None:
        self.supernet, self.data, self.split, self.task = supernet, data, split, task_of(data)
        self._likelihoods: dict[str, Array] | None = {} if likelihoods else None
        self.calibration, self.limit = calibration, limit
        self.cache: Cache = {} if cache is None else cache
        self.device = next(supernet.parameters()).device
        self._layers: dict[_Step, nn.Module] = {}
        size = len(data.split(split))
        self.rows = evenly_spread(size, size if limit is None else limit)

    def forget(self) -> None:
        """The weights of the supernet are others now: nothing that was found holds any more."""
        self.cache.clear()
        self._layers.clear()

    def qualities(
        self, architectures: Sequence[Architecture], progress: Callable[[int, int], None] | None = None
    ) -> Array:
        """The quality of each network, shape (networks,). progress: called with (done, of)."""
        wanted = {a.digest: a for a in architectures if a.digest not in self.cache}
        ordered = sorted(
            wanted.values(), key=lambda a: (a.resolution, [str(step) for step in self.supernet.plan(a)])
        )
        done = 0
        for condition, group in groupby(ordered, key=lambda a: a.resolution):
            networks = list(group)
            tallies = self._tallies(networks, condition, done, len(ordered), progress)
            for architecture, tally in zip(networks, tallies, strict=True):
                self.cache[architecture.digest] = self.task.quality(tally)
            done += len(networks)
        return np.array([self.cache[a.digest] for a in architectures])

    def likelihoods(self, architecture: Architecture) -> Array | None:
        """Mean log-likelihood of each group of samples, (groups,), of a network that was evaluated here; None
        where they were not kept or the task has none.

        Groups are those of `supernets.accuracy.likelihood.Groups`.
        """
        return (self._likelihoods or {}).get(architecture.digest)

    def _tallies(
        self,
        networks: Sequence[Architecture],
        condition: int,
        done: int,
        of: int,
        progress: Callable[[int, int], None] | None,
    ) -> list[Array]:
        """The tally of each network of one condition."""
        self._layers.clear()  # they are of one condition, and those of all would be many times the supernet
        at_once = samples_of_space(self.supernet.space, condition)
        parts = [self.rows[start : start + at_once] for start in range(0, len(self.rows), at_once)]
        found: list[Array] = []
        for first in range(0, len(networks), _GROUP):
            plans = [self.supernet.plan(architecture) for architecture in networks[first : first + _GROUP]]
            sums = [np.zeros(())] * len(plans)
            groups = [Groups(len(self.rows)) for _ in plans]
            statistics = self._statistics(plans, condition, at_once)
            for number, rows in enumerate(parts):
                inputs, targets = self.samples(condition, rows)
                walk = _Walk(inputs, statistics.apply)
                for index, plan in enumerate(plans):
                    output = walk.output(plan)
                    sums[index] = sums[index] + self.task.tally(output, targets)
                    self._group(groups[index], output, targets)
                    if progress is not None and number == len(parts) - 1:
                        progress(done + first + index + 1, of)
            found += sums
            if self._likelihoods is not None:
                for architecture, one in zip(networks[first : first + _GROUP], groups, strict=True):
                    means = one.means()
                    if means is not None:
                        self._likelihoods[architecture.digest] = means
        return found

    def _group(self, groups: Groups, output: Tensor, targets: Tensor) -> None:
        found = None if self._likelihoods is None else self.task.log_likelihoods(output, targets)
        if found is not None:
            groups.add(found.cpu().numpy())

    def _statistics(self, plans: Sequence[Plan], condition: int, at_once: int) -> _Statistics:
        """Those of every block on the paths of these networks."""
        found = _Statistics(self.layer)
        for batch in calibration_batches(self.data, condition, self.calibration, at_once=at_once):
            walk = _Walk(self._placed(batch), found.collect)
            for plan in plans:
                walk.output(plan)
            found.end_batch()
        return found

    def samples(self, condition: int, rows: Rows) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the split that are counted, (n, ...) each; pictures channels last."""
        inputs, targets = self.task.examples(self.data, self.split, condition, rows)
        return self._placed(inputs), targets.to(self.device)

    def _placed(self, inputs: Tensor) -> Tensor:
        pictures = inputs.ndim == 4
        return inputs.to(
            self.device, memory_format=torch.channels_last if pictures else torch.preserve_format
        )

    def layer(self, step: _Step) -> nn.Module:
        """The plain module of a block with the supernet's weights; made once."""
        if step not in self._layers:
            name, operator = step
            module = build_operator(operator, eps=self.supernet.space.batch_norm_eps)
            if name:
                module = self.supernet.filled(name, operator, module)
            for norm in norms_of(module):
                # None: the statistics are those of the batch. The usual momentum would take a tenth of them.
                norm.momentum = None
            self._layers[step] = module.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return self._layers[step]


class _Walk:
    """Depth-first walk over networks in sorted order: activations of the path to the current network.

    through: what a step at the end of a path makes of its input.
    """

    def __init__(self, inputs: Tensor, through: Callable[[tuple[_Step, ...], Tensor], Tensor]) -> None:
        self.inputs, self.through = inputs, through
        self.path: list[tuple[_Step, Tensor]] = []

    @torch.no_grad()
    def output(self, plan: Plan) -> Tensor:
        """What the network of that plan makes of the inputs."""
        shared = 0
        while shared < min(len(plan), len(self.path)) and self.path[shared][0] == plan[shared]:
            shared += 1
        del self.path[shared:]
        for length, step in enumerate(plan[shared:], shared + 1):
            before = self.path[-1][1] if self.path else self.inputs
            self.path.append((step, self.through(plan[:length], before)))
        return self.path[-1][1]


class _Statistics:
    """Mean and variance of every batch-norm of the last step of every path, averaged over the batches."""

    def __init__(self, layer: Callable[[_Step], nn.Module]) -> None:
        self._layer = layer
        self._batches = 0
        self._found: dict[tuple[_Step, ...], list[list[Tensor]]] = {}
        self._seen: set[tuple[_Step, ...]] = set()  # in this batch

    def collect(self, path: tuple[_Step, ...], inputs: Tensor) -> Tensor:
        """The last step with the statistics of this batch, which are noted."""
        layer = self._layer(path[-1])
        norms = norms_of(layer)
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        output: Tensor = layer(inputs)
        for norm in norms:
            norm.eval()
        # Networks share the beginnings of their paths; a block's statistics count once a batch.
        if path not in self._seen:
            self._seen.add(path)
            self._note(path, [(norm.running_mean, norm.running_var) for norm in norms])
        return output

    def _note(self, path: tuple[_Step, ...], statistics: list[tuple[Tensor | None, Tensor | None]]) -> None:
        now = [[one.clone() for one in pair if one is not None] for pair in statistics]
        for pair, others in zip(now, self._found.setdefault(path, now), strict=True):
            for value, mean in zip(pair, others, strict=True):
                mean.add_((value - mean) / (self._batches + 1))

    def end_batch(self) -> None:
        """The next batch is another one."""
        self._batches += 1
        self._seen.clear()

    def apply(self, path: tuple[_Step, ...], inputs: Tensor) -> Tensor:
        """The last step with the statistics of all batches."""
        layer = self._layer(path[-1])
        for norm, pair in zip(norms_of(layer), self._found[path], strict=True):
            for own, value in zip((norm.running_mean, norm.running_var), pair, strict=True):
                if own is not None:
                    own.copy_(value)
        output: Tensor = layer(inputs)
        return output


def evaluate(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    data: Data,
    split: str = "validation",
    *,
    cache: Cache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """The quality of each sub-network on a split, batch-norm recalibrated; shape (networks,)."""
    return task_of(data).evaluator(supernet, data, split, cache=cache).qualities(architectures, progress)


def score(
    evaluator: Evaluates,
    networks: int,
    generator: np.random.Generator,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> QualityPredictor:
    """A quality predictor from about that many scored sub-networks: see `score_in_rounds`."""
    space, done = evaluator.supernet.space, 0

    def values(genes: Genes) -> Array:
        nonlocal done
        before, total = done, max(networks, done + len(genes))
        done += len(genes)
        said = None if progress is None else lambda ready, of: progress(before + ready, total)
        return evaluator.qualities([space.architecture(row) for row in genes], said)

    metric = task_named(evaluator.data.task).metric
    return score_in_rounds(space, networks, generator, values, metric=metric)
