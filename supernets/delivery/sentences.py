"""Networks that write sentences as they are delivered, measured and tested: archives of their graphs.

Source of the form: `supernets.delivery.transformer_folder`. What is measured is the same archive, told to
write sentences of exactly the stated length with the stated beams; what is delivered ends where a sentence
does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latency_tables.generation import PADDING
from latency_tables.inputs import InputSpec
from latency_tables.text_network import (
    GENERATION,
    TARGET_TOKENIZER,
    TOKENIZER,
    Generation,
    TextNetwork,
    archived,
    files_of,
    on_cpu,
)
from supernets.data.splits import evenly_spread
from supernets.data.text.sentences import Sentences
from supernets.delivery.format import Delivery
from supernets.delivery.testing import Tested
from supernets.delivery.transformer_folder import CARD, transformer_archive
from supernets.encoder_decoder import EncoderDecoder
from supernets.errors import ExportFailed
from supernets.sentence_supernet import SentenceSupernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.transformer_space import Sentence
from supernets.tasks.catalog import task_of
from supernets.tasks.sentences import SentencesTask

TESTED: Final = 1000
"""Sentences of a split that a file is tested on, evenly spread over it."""
_AT_ONCE: Final = 64


@dataclass(frozen=True)
class WrittenSentences:
    """file: to deliver; measured: the same, to measure. network: as torch has it. inputs: what a measurement
    is fed with, with the batch. described: how the file is fed. parity: largest difference of a logit from
    torch's."""

    file: bytes
    measured: bytes
    inputs: tuple[InputSpec, ...]
    described: Mapping[str, Any]
    network: EncoderDecoder
    parity: float

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(p.numel() for p in self.network.parameters())


def deliver_sentences(
    supernet: SentenceSupernet, architecture: Architecture, data: Sentences, delivery: Delivery
) -> WrittenSentences:
    """The archive of a sub-network with its vocabularies. Raises ExportFailed where a graph does not compute
    the network, or for a form that archives do not have."""
    if (delivery.precision, delivery.batch_size, delivery.preprocessing) != ("float32", 1, "separate"):
        raise ExportFailed(
            "a network that writes sentences is delivered in float32, sentence by sentence, with its "
            "vocabularies beside it: search with batch `device`, preprocessing `separate` and a device in "
            "float32"
        )
    space = supernet.space
    sentence = space.generation
    if sentence is None:
        raise ExportFailed(f"networks of {space.name} write no sentences")
    module, network = supernet.cut(architecture)
    how = Generation(beam=sentence.beam, longest=data.longest - 1)
    texts = (data.source.tokenizer_json, data.target.tokenizer_json)
    tokenizers = {TOKENIZER: texts[0].encode()}
    if texts[1] != texts[0]:
        tokenizers[TARGET_TOKENIZER] = texts[1].encode()
    told = {"space": space.name, "dataset": data.name, "task": data.task, "generation": sentence.to_json()}
    file = transformer_archive(module.cpu().eval(), network, generation=how, tokenizers=tokenizers, told=told)
    files = files_of(file)
    parity = json.loads(files[CARD])["parity"]
    fed = space.inputs_at(architecture.resolution)
    return WrittenSentences(
        file,
        to_measure(file, sentence),
        tuple(spec.of_batch(1) for spec in fed),
        {
            "name": "input_ids",
            "layout": "NS",
            "dtype": "int64",
            "shape": [1, None],
            "steps": [
                {"step": "tokens", "vocabulary": data.source.name, "file": TOKENIZER},
                {"step": "generate", "beam": sentence.beam, "file": GENERATION},
            ],
            "inside": [],
        },
        module,
        max(parity.values()),
    )


def to_measure(file: bytes, sentence: Sentence) -> bytes:
    """A delivered archive, told to write that sentence: what is timed in its place."""
    files = files_of(file)
    return archived({**files, GENERATION: _exactly(files[GENERATION], sentence)})


def _exactly(generation: bytes, sentence: Sentence) -> bytes:
    """The settings of a generation that writes that many tokens, END among them."""
    written = sentence.target_tokens - 1
    how = Generation(beam=sentence.beam, longest=written, shortest=written)
    return (json.dumps({**json.loads(generation), **how.to_json()}, indent=1) + "\n").encode()


def tested_sentences(
    file: bytes,
    data: Sentences,
    split: str = "test",
    progress: Callable[[int, int], None] = lambda done, of: None,
    limit: int = TESTED,
) -> Tested:
    """The decoded quality of an archive on sentences of a split, in ONNX Runtime, with the beams of the file.

    progress: called with (done, of).
    """
    task, found = task_of(data), data.split(split)
    if not isinstance(task, SentencesTask):
        raise ExportFailed(f"data set {data.name!r} is not made of sentences")
    network = TextNetwork(files_of(file), on_cpu())
    rows = evenly_spread(len(found), limit)
    order = rows[np.argsort(found.source.lengths[rows], kind="stable")]
    texts: dict[int, str] = {}
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        tokens = found.source.padded(some, int(found.source.lengths[some].max()))
        answers = network.generate([[n for n in row if n != PADDING] for row in tokens.tolist()])
        for row, best in zip(some.tolist(), answers, strict=True):
            texts[row] = data.target.decode(best[0].tokens) if best else ""
        progress(len(texts), len(rows))
    wanted = [found.texts[row][1] for row in rows.tolist()]
    tally = task.scoring.of_texts([texts[row] for row in rows.tolist()], wanted)
    return Tested(task.quality(tally), len(rows), [], np.zeros((0, 0)))
