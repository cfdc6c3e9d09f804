"""Quality of many sub-networks of a supernet, each with recalibrated batch-norm.

Networks are walked like a tree of their blocks: two networks that begin with the same blocks share the work
up to the first difference. Calibration and evaluation samples go through each block together: first the
calibration batch, which sets the statistics, then the samples that are counted. The numbers are those of
cutting the network out, `recalibrate` and counting. Nothing is evaluated twice: results are kept by the
digest of the architecture. What is counted, and what quality that makes, is the task's (`supernets.tasks`).
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
from supernets.accuracy.predictor import QualityPredictor
from supernets.data.splits import evenly_spread
from supernets.layers.catalog import build_operator
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data, Rows
from supernets.tasks.task import Cache
from supernets.training.batchnorm import CALIBRATION_SAMPLES, calibration_inputs, example_bytes, norms_of

_Step = tuple[str, Operator]
Statistics = dict[tuple[int | _Step, ...], list[tuple[Tensor, Tensor]]]
"""Condition and steps -> (mean, variance) of every batch-norm of the last step."""
PART_BYTES = 256 * 2**20  # of inputs that go through the networks together


class Evaluator:
    """Qualities on one split. Keeps the calibration batch of every condition in memory; samples go through
    in parts.

    calibration: training samples for the batch-norm statistics. limit: samples of the split, all of them by
    default. cache: results by architecture digest, shared with whoever owns it; it must belong to this
    supernet and split.
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
    ) -> None:
        self.supernet, self.data, self.split, self.task = supernet, data, split, task_of(data)
        self.calibration, self.limit = calibration, limit
        self.cache: Cache = {} if cache is None else cache
        self.device = next(supernet.parameters()).device
        self._layers: dict[_Step, nn.Module] = {}
        self._calibrations: dict[int, Tensor] = {}
        size = len(data.split(split))
        self.rows = evenly_spread(size, size if limit is None else limit)

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

    def _tallies(
        self,
        networks: Sequence[Architecture],
        condition: int,
        done: int,
        of: int,
        progress: Callable[[int, int], None] | None,
    ) -> list[Array]:
        """The tally of each network, summed over the samples part by part: all of them may not fit into
        memory."""
        parts, sums = self._parts(condition), [np.zeros(())] * len(networks)
        statistics: Statistics | None = {} if len(parts) > 1 else None
        for number, rows in enumerate(parts):
            walk = _Walk(self, rows, statistics)
            for index, architecture in enumerate(networks):
                sums[index] = sums[index] + walk.tally(architecture)
                if progress is not None and number == len(parts) - 1:
                    progress(done + index + 1, of)
        return sums

    def _parts(self, condition: int) -> list[Rows]:
        size = max(1, PART_BYTES // example_bytes(self.data, condition))
        return [self.rows[start : start + size] for start in range(0, len(self.rows), size)]

    def calibration_batch(self, condition: int) -> Tensor:
        """Training samples for the batch-norm statistics, (n, ...); pictures channels last."""
        if condition not in self._calibrations:
            inputs = calibration_inputs(self.data, condition, self.calibration)
            self._calibrations[condition] = self._placed(inputs)
        return self._calibrations[condition]

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
                module.load_state_dict(self.supernet.block(name).state(operator))
            for norm in norms_of(module):
                norm.momentum = None
            self._layers[step] = module.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return self._layers[step]


class _Walk:
    """Depth-first walk over networks in sorted order: activations of the path to the current network."""

    def __init__(self, evaluator: Evaluator, rows: Rows, statistics: Statistics | None = None) -> None:
        self.evaluator, self.rows, self.statistics = evaluator, rows, statistics
        self.condition = 0
        self.path: list[tuple[_Step, Tensor, Tensor]] = []
        self.start: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def tally(self, architecture: Architecture) -> Array:
        """What the task counts of one network over the rows of this walk."""
        outputs, targets = self.outputs(architecture)
        return self.evaluator.task.tally(outputs, targets)

    @torch.no_grad()
    def outputs(self, architecture: Architecture) -> tuple[Tensor, Tensor]:
        """(outputs of one network, targets) of the rows of this walk."""
        if architecture.resolution != self.condition or self.start is None:
            self.path, self.condition = [], architecture.resolution
            self.start = self.evaluator.samples(self.condition, self.rows)
        plan = self.evaluator.supernet.plan(architecture)
        shared = 0
        while shared < min(len(plan), len(self.path)) and self.path[shared][0] == plan[shared]:
            shared += 1
        del self.path[shared:]
        if self.path:
            calibration, samples = self.path[-1][1:]
        else:
            calibration, samples = self.evaluator.calibration_batch(self.condition), self.start[0]
        for step in plan[shared:]:
            calibration, samples = self._through(step, calibration, samples)
            self.path.append((step, calibration, samples))
        return samples, self.start[1]

    def _through(self, step: _Step, calibration: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Both batches through one block; only the samples where an earlier walk has left the statistics of
        this path."""
        layer = self.evaluator.layer(step)
        path: tuple[int | _Step, ...] = (self.condition, *(one[0] for one in self.path), step)
        if self.statistics is not None and path in self.statistics:
            for norm, (mean, variance) in zip(norms_of(layer), self.statistics[path], strict=True):
                norm.running_mean, norm.running_var = mean, variance
            return calibration, layer(samples)
        found = _through(layer, calibration, samples)
        if self.statistics is not None:
            self.statistics[path] = [
                (_copy(norm.running_mean), _copy(norm.running_var)) for norm in norms_of(layer)
            ]
        return found


def _copy(values: Tensor | None) -> Tensor:
    assert values is not None  # noqa: S101 - only norms that track their statistics are built here
    return values.clone()


def _through(layer: nn.Module, calibration: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches through one block; its batch-norms take their statistics from the calibration batch
    alone."""
    norms = norms_of(layer)
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    after = layer(calibration)
    for norm in norms:
        norm.eval()
    return after, layer(samples)


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
    evaluator: Evaluator,
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
