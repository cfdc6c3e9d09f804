"""The tasks `translation` and `pronunciation`: a sentence is written for another one, token by token.

A network is trained under teacher forcing: it reads the source and what was wanted so far, and its loss is
that of the next token. Its quality is that of what it writes by itself (`supernets.tasks.decoding`), since
the loss ranks networks badly: a decoder of one layer has the loss of one of three and writes worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latency_tables.dense import Array
from latency_tables.generation import PADDING, UNKNOWN
from supernets.data.text.batching import token_batches
from supernets.data.text.sentences import Sentences
from supernets.encoder_decoder import begun
from supernets.errors import ExportFailed, InvalidTraining
from supernets.spaces.transformer_space import SentenceSpace
from supernets.tasks.data import Rows
from supernets.tasks.decoding import SENTENCES, DecodedScores
from supernets.tasks.task import Cache, Evaluates, Task, check_outputs
from supernets.tasks.text_metrics import Scoring
from supernets.training.recipe import Augmentation

if TYPE_CHECKING:
    from supernets.delivery.format import Delivery
    from supernets.network import Supernet
    from supernets.spaces.architecture import Architecture
    from supernets.spaces.space import Space


class SentencesTask(Task[Sentences]):
    """Inputs are (B, 2, T) whole numbers: sources, and what the decoder is fed with. Targets are (B, T).

    T is the condition; networks leave columns of padding alone out, so outputs (B, at most T, tokens) and
    losses cost what the sentences are long. Where a row is padding, a network gives zeros.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring

    def check(self, space: Space, data: Sentences) -> None:
        if [spec.dtype for spec in space.inputs] != ["int64"] * len(space.inputs):
            raise InvalidTraining(
                f"networks of space {space.name!r} read no sentences, data set {data.name!r} is made of "
                "them; choose a space of transformers"
            )
        check_outputs(space, data)
        joined = isinstance(space, SentenceSpace) and space.described.joined
        if joined and data.source.tokens != data.target.tokens:
            raise InvalidTraining(
                f"networks of space {space.name!r} have one dictionary, data set {data.name!r} "
                "has two: learn one with `bespoke datasets vocabulary --joined`, or take another space"
            )

    def batches(self, data: Sentences, split: str, device: torch.device) -> TokenBatches:
        return TokenBatches(data, split, device)

    def prepare(
        self, inputs: Tensor, condition: int, augmentation: Augmentation, generator: torch.Generator
    ) -> Tensor:
        """Of an augmentation `noise`: the share of the source's tokens that are made unknown."""
        if not augmentation.noise:
            return inputs
        source = inputs[:, 0]
        chance = torch.rand(source.shape, generator=generator, device=source.device)
        hidden = (chance < augmentation.noise) & (source > UNKNOWN)
        return torch.stack((source.masked_fill(hidden, UNKNOWN), inputs[:, 1]), dim=1)

    def examples(
        self, data: Sentences, split: str, condition: int, rows: Rows, *, embedded: bool = False
    ) -> tuple[Tensor, Tensor]:
        if embedded:
            raise ExportFailed(
                "a network of sentences is fed with tokens; cutting text into them stays outside"
            )
        return pair_of(data, split, rows, condition)

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of the tokens, padding left out; smoothing is spread over all tokens."""
        return F.cross_entropy(
            outputs.flatten(0, 1),
            targets[:, : outputs.shape[1]].flatten(),
            ignore_index=PADDING,
            label_smoothing=smoothing,
        )

    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        real = teacher.abs().amax(dim=-1) > 0
        return F.cross_entropy(outputs[real], teacher[real].softmax(dim=-1))

    def tally(self, outputs: Tensor, targets: Tensor) -> Array:
        """Of a teacher-forced pass: comparable with nothing but itself."""
        found, wanted = outputs.argmax(dim=-1).tolist(), targets[:, : outputs.shape[1]].tolist()
        lengths = [sum(token != PADDING for token in row) for row in wanted]
        return self.scoring.of_tokens(
            [row[:n] for row, n in zip(found, lengths, strict=True)],
            [row[:n] for row, n in zip(wanted, lengths, strict=True)],
        )

    def quality(self, tally: Array) -> float:
        return self.scoring.quality(tally)

    def share(self, part: Tensor, targets: Tensor) -> float:
        """By tokens: a loss is a mean over them."""
        return float(part.ne(PADDING).sum() / targets.ne(PADDING).sum())

    def evaluator(
        self,
        supernet: Supernet,
        data: Sentences,
        split: str,
        *,
        cache: Cache | None = None,
        limit: int | None = None,
        calibration: int | None = None,
    ) -> Evaluates:
        """Of what the networks write, greedily. Raises InvalidTraining for a supernet that cannot write."""
        return self._decoding(supernet, data, split, limit or SENTENCES, 1, {} if cache is None else cache)

    def tester(self, supernet: Supernet, data: Sentences) -> tuple[Evaluates, int]:
        """With the beams that files have. Raises InvalidTraining for a supernet that cannot write."""
        space, samples = supernet.space, min(SENTENCES, len(data.split("test")))
        beam = space.generation.beam if isinstance(space, SentenceSpace) else 1
        return self._decoding(supernet, data, "test", samples, beam, {}), samples

    def _decoding(
        self, supernet: Supernet, data: Sentences, split: str, sentences: int, beam: int, cache: Cache
    ) -> Evaluates:
        step_of = getattr(supernet, "stepper", None)
        if step_of is None:
            raise InvalidTraining(f"networks of {supernet.space.name} cannot write sentences token by token")
        device = str(next(supernet.parameters()).device)
        scores: DecodedScores[Architecture] = DecodedScores(
            step_of, self.scoring, data, split, sentences=sentences, beam=beam, device=device
        )
        return Remembered(supernet, data, scores, cache)

    def input_of(self, data: Sentences, condition: int, delivery: Delivery, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "layout": "NST",
            "dtype": "int64",
            "shape": [delivery.batch_size, 2, condition],
            "steps": [
                {"step": "tokens", "vocabulary": data.source.name, "side": "source"},
                {"step": "tokens", "vocabulary": data.target.name, "side": "target, END first"},
            ],
            "inside": [],
        }


class Remembered:
    """Decoded qualities, none computed twice."""

    def __init__(
        self, supernet: Supernet, data: Sentences, scores: DecodedScores[Architecture], cache: Cache
    ) -> None:
        self.supernet, self.data = supernet, data
        self._scores, self._cache = scores, cache

    def qualities(
        self, architectures: Sequence[Architecture], progress: Callable[[int, int], None] | None = None
    ) -> Array:
        """The quality of each network, shape (networks,). progress: called with (done, of)."""
        new = {a.digest: a for a in architectures if a.digest not in self._cache}
        training = self.supernet.training
        self.supernet.eval()
        try:
            for number, (digest, architecture) in enumerate(new.items(), 1):
                self._cache[digest] = self._scores.quality(architecture)
                if progress is not None:
                    progress(number, len(new))
        finally:
            self.supernet.train(training)
        return np.array([self._cache[a.digest] for a in architectures])


class TokenBatches:
    """A split. Rows give inputs and targets; `of_tokens` says which rows go together."""

    def __init__(self, data: Sentences, split: str, device: torch.device) -> None:
        self._data, self._split, self._device = data, split, device
        found = data.split(split)
        self._lengths = found.source.lengths, found.target.lengths

    def __len__(self) -> int:
        return len(self._lengths[0])

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = pair_of(self._data, self._split, rows.cpu().numpy(), self._data.longest)
        return inputs.to(self._device), targets.to(self._device)

    def of_tokens(self, tokens: int, seed: list[int]) -> list[Rows]:
        """Rows of every batch of an epoch, about that many tokens each; as many batches for every seed."""
        return token_batches(*self._lengths, tokens, seed)

    def weights(self, rows: Rows) -> Array:
        """What each row counts in a mean: tokens of its target."""
        return self._lengths[1][rows].astype(np.float64)


def pair_of(data: Sentences, split: str, rows: Rows, length: int) -> tuple[Tensor, Tensor]:
    """(inputs (rows, 2, length), targets (rows, length)) under teacher forcing."""
    found = data.split(split)
    target = torch.from_numpy(found.target.padded(rows, length))
    source = torch.from_numpy(found.source.padded(rows, length))
    return torch.stack((source, begun(target)), dim=1), target


def trimmed(tokens: Tensor) -> Tensor:
    """(B, T) without the columns that are padding alone at the end; one is left."""
    longest = int(tokens.ne(PADDING).sum(dim=1).max())
    return tokens[:, : max(1, longest)]


def teacher_forced(forward: Callable[[Tensor, Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What a network with `forward(source, target) -> logits` makes of inputs (B, 2, T): zeros where the
    target is padding."""
    source, target = trimmed(inputs[:, 0]), trimmed(inputs[:, 1])
    logits = forward(source, target)
    return logits.masked_fill(target.eq(PADDING)[..., None], 0.0)
