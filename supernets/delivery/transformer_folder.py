"""A transformer as people consume it: graphs, configurations, tokenizers and a card, in one archive.

The folder is that of the optimum and transformers.js convention, so that `ORTModelForSeq2SeqLM` and
`@huggingface/transformers` load it; without either, `latency_tables.text_network` generates with it. Every
graph is held against torch before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from latency_tables.generation import BEGIN, END, PADDING, UNKNOWN
from latency_tables.text_network import (
    CONFIG,
    DECODER,
    GENERATION,
    TARGET_TOKENIZER,
    TOKENIZER,
    WITH_PAST,
    Array,
    Generation,
    TextNetwork,
    archived,
    on_cpu,
)
from latency_tables.text_tokens import Tokenizer
from supernets.delivery.merged_decoder import MERGED, SWITCH, merged_decoder
from supernets.delivery.onnx_format import TOLERANCES
from supernets.delivery.transformer_graphs import MOST_TOKENS, draw_transformer
from supernets.encoder_decoder import EncoderDecoder, layer_parameters, padded
from supernets.errors import ExportFailed
from supernets.spaces.architecture import Architecture
from supernets.spaces.transformer import Transformer, to_hat
from supernets.spaces.transformer_space import Sentence, TransformerSpace

CARD: Final = "card.json"
_SENTENCES: Final = 4  # of different lengths, so that masks and padding are held against torch as well
_STEPS: Final = 6


@dataclass(frozen=True)
class TransformerParity:
    """Largest absolute difference of logits from torch, teacher-forced and step by step, and of a logit.
    merged: step by step by the merged decoder, None where there is none."""

    encoder: float
    decoder: float
    with_past: float
    max_abs_logit: float
    merged: float | None = None

    @property
    def holds(self) -> bool:
        """Whether every graph computes the network."""
        worst = max(self.encoder, self.decoder, self.with_past, self.merged or 0.0)
        return worst <= TOLERANCES["float32"] * max(1.0, self.max_abs_logit)


def transformer_archive(
    module: EncoderDecoder,
    network: Transformer,
    *,
    source: Sequence[str] = (),
    target: Sequence[str] = (),
    generation: Generation | None = None,
    uniform: bool = False,
    merged: bool = False,
    told: Mapping[str, Any] | None = None,
    checked: bool = True,
    tokenizers: Mapping[str, bytes] | None = None,
) -> bytes:
    """One archive of everything. Raises ExportFailed where a graph does not compute the network.

    source, target: the vocabularies' tokens by number, none where they are not known; tokenizers: their files
    instead, written already. uniform: caches of one shape for every layer (see `transformer_graphs`). merged:
    both decoders as one graph too, which needs uniform caches. told: what else the card says. checked: False
    for what is measured only: parity is left out.
    """
    if merged and not uniform:
        raise ExportFailed("a merged decoder needs caches of one shape: ask for uniform ones")
    graphs = draw_transformer(module, network, uniform=uniform).by_name()
    files = {
        **graphs,
        **({MERGED: merged_decoder(graphs[DECODER], graphs[WITH_PAST])} if merged else {}),
        CONFIG: _written(_config(module, network, uniform)),
        GENERATION: _written(
            {**_TOKENS, **(generation or Generation()).to_json(), "bad_words_ids": [[PADDING]]}
        ),
        **(_tokenizers(module, source, target) if tokenizers is None else tokenizers),
    }
    if not checked:
        return archived(files)
    found = parity(module, network, files)
    if not found.holds:
        raise ExportFailed(
            f"a graph differs from the network: {found}. This is a fault of the exporter; please report it"
        )
    card = {
        "network": to_hat(network),
        "parameters": layer_parameters(module),
        "caches": "uniform" if uniform else "by layer",
        "parity": {
            "encoder": found.encoder,
            "decoder": found.decoder,
            "with_past": found.with_past,
            **({} if found.merged is None else {"merged": found.merged}),
        },
        **(told or {}),
    }
    return archived({**files, CARD: _written(card)})


def measured_archive(
    space: TransformerSpace, architecture: Architecture, sentence: Sentence, words: int, seed: int = 0
) -> bytes:
    """A network of the space with random weights that writes sentences of exactly that length: to measure.

    words: of both vocabularies. Raises InvalidArchitecture, ExportFailed.
    """
    network = space.of(architecture)
    generator = torch.Generator().manual_seed(seed)
    sizes = space.sizes(words, words).cut(network)
    module = EncoderDecoder(sizes, generator=generator).eval()
    written = sentence.target_tokens - 1  # END is the last
    how = Generation(beam=sentence.beam, longest=written, shortest=written)
    return transformer_archive(module, network, generation=how, checked=False)


_TOKENS: Final = {
    "bos_token_id": BEGIN,
    "pad_token_id": PADDING,
    "eos_token_id": END,
    "decoder_start_token_id": END,
}


def _config(module: EncoderDecoder, network: Transformer, uniform: bool) -> dict[str, Any]:
    """Of the type `marian`, which loads a post-norm encoder-decoder with sinusoids; what computes is in the
    graphs. Runtimes that derive the shape of a cache from it want uniform ones: one head as wide as keys."""
    sizes, first = module.sizes, network.decoder[0]
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "use_cache": True,
        # Generators read the size of the decoder's vocabulary under the first name.
        "vocab_size": sizes.target_tokens,
        "decoder_vocab_size": sizes.target_tokens,
        "source_vocab_size": sizes.source_tokens,
        "share_encoder_decoder_embeddings": sizes.joined,
        "d_model": sizes.qkv_width if uniform else network.decoder_width,
        "encoder_layers": len(network.encoder),
        "decoder_layers": len(network.decoder),
        "num_hidden_layers": len(network.encoder),
        "encoder_attention_heads": 1 if uniform else network.encoder[0].heads,
        "decoder_attention_heads": 1 if uniform else first.heads,
        "encoder_ffn_dim": network.encoder[0].feed_forward,
        "decoder_ffn_dim": first.feed_forward,
        "max_position_embeddings": MOST_TOKENS,
        "activation_function": "relu",
        "scale_embedding": True,
        **_TOKENS,
    }


def _tokenizers(module: EncoderDecoder, source: Sequence[str], target: Sequence[str]) -> dict[str, bytes]:
    if not source:
        return {}
    for words, wanted, name in (
        (source, module.sizes.source_tokens, "source"),
        (target or source, module.sizes.target_tokens, "target"),
    ):
        if len(words) != wanted:
            raise ExportFailed(
                f"the {name} vocabulary has {len(words)} tokens, the network {wanted}; it is that of another"
            )
    files = {
        TOKENIZER: _written(Tokenizer(source).to_json()),
        "tokenizer_config.json": _written(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": source[BEGIN],
                "pad_token": source[PADDING],
                "eos_token": source[END],
                "unk_token": source[UNKNOWN],
                "model_max_length": MOST_TOKENS,
            }
        ),
    }
    if target and list(target) != list(source):
        files[TARGET_TOKENIZER] = _written(Tokenizer(target).to_json())
    return files


def _written(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


@torch.no_grad()
def parity(module: EncoderDecoder, network: Transformer, files: Mapping[str, bytes]) -> TransformerParity:
    """The graphs in ONNX Runtime against torch, over sentences of several lengths."""
    generator = np.random.default_rng(0)
    sizes = module.sizes

    def drawn(lengths: Sequence[int], tokens: int) -> list[list[int]]:
        least = min(UNKNOWN + 1, tokens - 1)
        return [[*generator.integers(least, tokens, length).tolist(), END] for length in lengths]

    opened = TextNetwork(files, on_cpu())
    sources = drawn(range(1, 2 * _SENTENCES, 2), sizes.source_tokens)
    batch = padded(sources)
    readable = (batch.numpy() != PADDING).astype(np.int64)
    prefix = np.array([[END, *row[:_STEPS]] for row in drawn([_STEPS] * _SENTENCES, sizes.target_tokens)])
    memory = module.encode(batch, network)
    wanted = module.decode(torch.from_numpy(prefix), memory, network).numpy()
    (found,) = opened.encoder.run(None, {"input_ids": batch.numpy(), "attention_mask": readable})
    most = max(layer.attended for layer in network.decoder)
    beside = torch.cat(memory.layers[: -most - 1 : -1], dim=-1).numpy()
    real = readable[:, :, None].astype(bool)
    forced = opened.decoder.run(
        ["logits"],
        {
            "input_ids": prefix,
            "encoder_attention_mask": readable,
            "encoder_hidden_states": found,
        },
    )[0]
    step, rows = opened.stepper(sources), np.arange(_SENTENCES)
    stepped = [step(prefix[:, place], rows) for place in range(prefix.shape[1])]
    merged: float | None = None
    if MERGED in files:
        answers = _by_merged(on_cpu()(files[MERGED]), prefix, found, readable)
        merged = float(np.abs(answers - wanted).max())
    return TransformerParity(
        encoder=float(np.abs(np.where(real, found - beside, 0)).max()),
        decoder=float(np.abs(forced - wanted).max()),
        with_past=float(np.abs(np.stack(stepped, axis=1) - wanted).max()),
        max_abs_logit=float(np.abs(wanted).max()),
        merged=merged,
    )


def _by_merged(session: Any, prefix: Array, memory: Array, readable: Array) -> Array:
    """Logits (B, T, words) of a merged decoder, a token a call, as transformers.js calls it: caches of no
    length in the first one."""
    caches = {
        value.name: np.zeros((len(prefix), value.shape[1], 0, value.shape[3]), dtype=np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    names = ["logits", *(name.replace("past_key_values.", "present.", 1) for name in caches)]
    fixed = {"encoder_attention_mask": readable, "encoder_hidden_states": memory}
    answers = []
    for place in range(prefix.shape[1]):
        fed = {"input_ids": prefix[:, place : place + 1], SWITCH: np.array([place > 0]), **fixed, **caches}
        logits, *present = session.run(names, fed)
        caches = dict(zip(caches, present, strict=True))
        answers.append(logits)
    return np.concatenate(answers, axis=1)
