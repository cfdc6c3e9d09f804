"""Batches of about as many tokens each, of pairs of about the same length.

As fairseq and others do: pairs in order of length, those of one length in an order of chance, cut where a
batch would have too many tokens; then the batches in an order of chance. Where the cuts lie depends on the
lengths alone, so every epoch has as many batches, and a training can resume in the middle of one.
"""

from __future__ import annotations

import numpy as np

from supernets.data.text.sentences import Ints


def batch_ends(ordered_lengths: Ints, tokens: int) -> Ints:
    """Where batches end in pairs of these lengths, ascending: (pairs x longest of the batch) stays within
    `tokens`, but for a pair that is longer alone."""
    ends, start = [], 0
    for row, length in enumerate(ordered_lengths.tolist()):
        if row > start and (row - start + 1) * length > tokens:
            ends.append(row)
            start = row
    return np.array([*ends, len(ordered_lengths)], dtype=np.int64)


def token_batches(source: Ints, target: Ints, tokens: int, seed: list[int]) -> list[Ints]:
    """Rows of every batch of an epoch. source, target: tokens of each pair's sides; a batch is as long as the
    longer ones."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(target))
    longer = np.maximum(source, target)
    order = shuffled[np.lexsort((source[shuffled], target[shuffled], longer[shuffled]))]
    batches = np.split(order, batch_ends(longer[order], tokens)[:-1])
    return [batches[number] for number in generator.permutation(len(batches))]
