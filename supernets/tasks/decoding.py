"""The quality of what networks write: sources of a split are decoded in batches and scored as texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from latency_tables.dense import Array
from latency_tables.generation import Step, beam_search
from supernets.data.splits import evenly_spread
from supernets.data.text.sentences import Sentences
from supernets.tasks.data import Rows
from supernets.tasks.text_metrics import Scoring

AT_ONCE: Final = 256  # hypotheses: sentences times beam
SENTENCES: Final = 1000
N = TypeVar("N")
StepOf = Callable[[Tensor, N], Step]
"""(sources (B, T), network) -> decoding of them step by step."""


class DecodedScores(Generic[N]):
    """Scores networks of whatever description on the same sentences of one split.

    sentences: so many, evenly spread over the split. beam: 1 is greedy; a search over networks needs no more.
    """

    def __init__(
        self,
        step_of: StepOf[N],
        scoring: Scoring,
        data: Sentences,
        split: str = "validation",
        *,
        sentences: int = SENTENCES,
        beam: int = 1,
        device: str = "cpu",
    ) -> None:
        self._step_of, self.scoring, self.data, self.split = step_of, scoring, data, split
        self.beam, self.device = beam, torch.device(device)
        self.rows = evenly_spread(len(data.split(split)), sentences)

    def tally(self, network: N) -> Array:
        """The tally of the decoded sentences of one network."""
        texts = self.data.split(self.split).texts
        return self.scoring.of_texts(self.texts(network), [texts[row][1] for row in self.rows])

    def quality(self, network: N) -> float:
        """Higher is better."""
        return self.scoring.quality(self.tally(network))

    def texts(self, network: N) -> list[str]:
        """What the network writes for each of `rows`."""
        found: dict[int, str] = {}
        for batch in self._batches():
            source = torch.from_numpy(self.data.split(self.split).source.padded(batch, self._longest(batch)))
            step = self._step_of(source.to(self.device), network)
            best = beam_search(step, len(batch), beam=self.beam, longest=self.data.longest)
            for row, hypotheses in zip(batch.tolist(), best, strict=True):
                found[row] = self.data.target.decode(hypotheses[0].tokens)
        return [found[row] for row in self.rows.tolist()]

    def _longest(self, rows: Rows) -> int:
        return int(self.data.split(self.split).source.lengths[rows].max())

    def _batches(self) -> Sequence[Rows]:
        """Sentences of about one length are decoded together: a batch takes as long as its longest."""
        order = self.rows[np.argsort(self.data.split(self.split).source.lengths[self.rows], kind="stable")]
        size = max(1, AT_ONCE // self.beam)
        return [order[start : start + size] for start in range(0, len(order), size)]
