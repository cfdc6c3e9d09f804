"""Which samples make a training step: as many as a recipe says, or sentences of about so many tokens.

Everything follows from (seed, phase, epoch or pass), so that an interrupted training goes on in the middle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from latency_tables.dense import Array
from supernets.errors import InvalidTraining
from supernets.tasks.data import Rows
from supernets.tasks.task import Batches
from supernets.training.recipe import Recipe


@runtime_checkable
class OfTokens(Protocol):
    """Batches of sentences, which may be put together by their tokens."""

    def __len__(self) -> int: ...

    def of_tokens(self, tokens: int, seed: list[int]) -> list[Rows]:
        """Rows of every batch of a pass over the split; as many batches for every seed."""
        ...

    def weights(self, rows: Rows) -> Array:
        """What each row counts in a mean."""
        ...


class Batching(ABC):
    """The steps of a training's epochs. A step is of one or more batches."""

    steps_per_epoch: int

    @abstractmethod
    def steps(self, phase: int, epoch: int, first: int) -> Iterator[tuple[Rows, ...]]:
        """The batches of every step of an epoch, from step `first` on."""

    @abstractmethod
    def largest(self) -> Rows:
        """A batch that takes as much memory as any."""

    def weight(self, rows: Tensor) -> float:
        """What a batch counts beside the others of its step."""
        return float(len(rows))


class BySamples(Batching):
    """Of so many samples each; a last batch that is not full is left out, unless it is the only one."""

    def __init__(self, samples: int, size: int, seed: int, epoch_steps: int) -> None:
        self._samples, self._size, self._seed = samples, size, seed
        whole = max(1, samples // size)
        self.steps_per_epoch = min(whole, epoch_steps or whole)

    def steps(self, phase: int, epoch: int, first: int) -> Iterator[tuple[Rows, ...]]:
        order = np.random.default_rng([self._seed, phase, epoch]).permutation(self._samples)
        for step in range(first, self.steps_per_epoch):
            yield (order[step * self._size : (step + 1) * self._size],)

    def largest(self) -> Rows:
        return np.arange(min(self._size, self._samples))


class ByTokens(Batching):
    """Of about so many tokens each, sentences of about one length together. An epoch goes on in the pass over
    the data where the one before ended."""

    def __init__(self, samples: OfTokens, recipe: Recipe, seed: int) -> None:
        self._samples, self._tokens, self._seed = samples, recipe.batch_tokens, seed
        self._each = recipe.accumulate
        self._passes: dict[tuple[int, int], list[Rows]] = {}
        whole = max(1, len(self._pass(0, 0)) // self._each)
        self.steps_per_epoch = min(whole, recipe.epoch_steps or whole)

    def steps(self, phase: int, epoch: int, first: int) -> Iterator[tuple[Rows, ...]]:
        for step in range(epoch * self.steps_per_epoch + first, (epoch + 1) * self.steps_per_epoch):
            yield tuple(self._batch(phase, step * self._each + one) for one in range(self._each))

    def largest(self) -> Rows:
        return max(self._pass(0, 0), key=lambda rows: (float(self._samples.weights(rows).sum()), len(rows)))

    def weight(self, rows: Tensor) -> float:
        return float(self._samples.weights(rows.cpu().numpy()).sum())

    def _batch(self, phase: int, number: int) -> Rows:
        done, place = divmod(number, len(self._pass(0, 0)))
        return self._pass(phase, done)[place]

    def _pass(self, phase: int, number: int) -> list[Rows]:
        if (phase, number) not in self._passes:
            self._passes = {key: kept for key, kept in self._passes.items() if key == (0, 0)}
            seed = [self._seed, phase, number]
            self._passes[phase, number] = self._samples.of_tokens(self._tokens, seed)
        return self._passes[phase, number]


def batching_of(samples: Batches, recipe: Recipe, seed: int) -> Batching:
    """How a recipe puts the samples of a split together. Raises InvalidTraining where they have no tokens."""
    if not recipe.batch_tokens:
        return BySamples(len(samples), recipe.batch_size, seed, recipe.epoch_steps)
    if not isinstance(samples, OfTokens):
        raise InvalidTraining(f"recipe {recipe.name!r} counts tokens: it is for data sets of sentences")
    return ByTokens(samples, recipe, seed)
