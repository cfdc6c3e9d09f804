"""Encoder-decoder transformers: the super network of a space, and one network cut out of it.

Source: HAT (Wang et al., ACL 2020), whose published code gives the same logits (`benchmarks.fidelity`):
layer-norm after each residual sum, sinusoids of the largest width, cross attention over the last one, two or
three encoder layers put one after the other. The network to be is an argument of everything, never kept; a
module built at exactly the sizes of one network is that network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.generation import END, PADDING, Ints, Step
from supernets.errors import InvalidArchitecture
from supernets.layers.attention import Attention, KeysValues
from supernets.layers.block import initialise
from supernets.layers.embedding import Embedding, Positions, positions_of
from supernets.layers.feed_forward import FeedForward
from supernets.layers.slicing import SlicedLayerNorm, leading
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer, TransformerSizes


@dataclass(frozen=True)
class Dropout:
    """Shares that are dropped in training. residual: of embeddings and of what layers add, at the largest
    width; a narrower network drops in proportion. attention: of attention weights."""

    residual: float = 0.0
    attention: float = 0.0


@dataclass(frozen=True)
class Memory:
    """What the encoder made of sources. layers: output of every encoder layer, (B, S, width) each; those that
    the super network has beyond repeat the last. readable: (B, S), False at padding; None where there is
    none."""

    layers: tuple[Tensor, ...]
    readable: Tensor | None

    def last(self, layers: int) -> Tensor:
        """Outputs of the last layers one after the other, the last one first, (B, layers * S, width)."""
        return self.layers[-1] if layers == 1 else torch.cat(self.layers[: -layers - 1 : -1], dim=1)

    def mask(self, layers: int) -> Tensor | None:
        """What of that may be read, (B, 1, 1, layers * S)."""
        return None if self.readable is None else self.readable.repeat(1, layers)[:, None, None]


@dataclass(frozen=True)
class Cache:
    """What decoding keeps from step to step. own: keys and values of the tokens so far, None before the
    first; read: of the encoder's outputs, computed once; masks: of each layer's reading. All by layer."""

    own: tuple[KeysValues | None, ...]
    read: tuple[KeysValues, ...]
    masks: tuple[Tensor | None, ...]
    tokens: int = 0

    def of_rows(self, rows: Tensor) -> Cache:
        """That of these rows of the batch, in that order."""
        return Cache(
            tuple(None if kept is None else kept.of_rows(rows) for kept in self.own),
            tuple(kept.of_rows(rows) for kept in self.read),
            tuple(None if mask is None else mask.index_select(0, rows) for mask in self.masks),
            self.tokens,
        )


class EncoderBlock(nn.Module):
    """Self attention and a feed-forward part, each with its residual sum and layer-norm."""

    def __init__(self, width: int, inside: int, qkv_width: int) -> None:
        super().__init__()
        self.attention = Attention(width, width, qkv_width)
        self.attention_norm = SlicedLayerNorm(width)
        self.feed_forward = FeedForward(width, inside)
        self.feed_forward_norm = SlicedLayerNorm(width)

    def forward(self, x: Tensor, layer: EncoderLayer, mask: Tensor | None, drop: Drop) -> Tensor:
        found = self.attention(
            x, self.attention.read(x, layer.heads), layer.heads, mask=mask, dropout=drop.attention
        )
        # The published code does not scale this one by the width; networks trained by it know no other.
        x = self.attention_norm(x + drop.unscaled(found))
        return cast(Tensor, self.feed_forward_norm(x + drop(self.feed_forward(x, layer.feed_forward))))


class DecoderBlock(nn.Module):
    """Self attention, cross attention and a feed-forward part, each with its residual sum and layer-norm."""

    def __init__(self, width: int, read_width: int, inside: int, qkv_width: int) -> None:
        super().__init__()
        self.attention = Attention(width, width, qkv_width)
        self.attention_norm = SlicedLayerNorm(width)
        self.cross_attention = Attention(width, read_width, qkv_width)
        self.cross_attention_norm = SlicedLayerNorm(width)
        self.feed_forward = FeedForward(width, inside)
        self.feed_forward_norm = SlicedLayerNorm(width)

    def forward(
        self,
        x: Tensor,
        layer: DecoderLayer,
        own: KeysValues,
        read: KeysValues,
        mask: Tensor | None,
        drop: Drop,
    ) -> Tensor:
        """x: (B, T, width). own: keys and values of all tokens so far; read: of what is attended to."""
        found = self.attention(x, own, layer.heads, causal=x.shape[1] > 1, dropout=drop.attention)
        x = self.attention_norm(x + drop(found))
        found = self.cross_attention(x, read, layer.cross_heads, mask=mask, dropout=drop.attention)
        x = self.cross_attention_norm(x + drop(found))
        return cast(Tensor, self.feed_forward_norm(x + drop(self.feed_forward(x, layer.feed_forward))))


@dataclass(frozen=True)
class Drop:
    """Dropout at one width. share: of what layers add."""

    training: bool
    whole: float
    share: float
    weights: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.share, self.training)

    def unscaled(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.whole, self.training)

    @property
    def attention(self) -> float:
        return self.weights if self.training else 0.0


class EncoderDecoder(nn.Module):
    """Every network within the sizes. Batches are whole numbers (B, T), padded with PADDING.

    Raises InvalidArchitecture for a network that the sizes do not hold, a batch of the wrong form, or a
    sentence of padding alone.
    """

    def __init__(
        self,
        sizes: TransformerSizes,
        *,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.sizes, self.dropout = sizes, dropout or Dropout()
        widths = (sizes.encoder_width, sizes.decoder_width)
        source = max(widths) if sizes.joined else sizes.encoder_width
        self.source_embedding = Embedding(sizes.source_tokens, source)
        self.target_embedding = (
            self.source_embedding if sizes.joined else Embedding(sizes.target_tokens, sizes.decoder_width)
        )
        self.output = None if sizes.tied else Embedding(sizes.target_tokens, sizes.decoder_width)
        self.source_positions = Positions(sizes.encoder_positions)
        self.target_positions = Positions(sizes.decoder_positions)
        qkv = sizes.qkv_width
        self.encoder = nn.ModuleList(
            EncoderBlock(sizes.encoder_width, inside, qkv) for inside in sizes.encoder_feed_forward
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(sizes.decoder_width, sizes.encoder_width, inside, qkv)
            for inside in sizes.decoder_feed_forward
        )
        initialise(self, generator)

    def forward(self, source: Tensor, target: Tensor, network: Transformer) -> Tensor:
        """Logits (B, T, target tokens) under teacher forcing. target: begins with END."""
        return self.decode(target, self.encode(source, network), network)

    def encode(self, source: Tensor, network: Transformer) -> Memory:
        """source: (B, S), each sentence ended by END, padded on either side."""
        self.sizes.check(network)
        self._check(source, self.sizes.source_tokens, "source")
        readable = source.ne(PADDING)
        if not bool(readable.any(dim=1).all()):
            raise InvalidArchitecture("a source is padding alone; every sentence holds END at least")
        drop = self._drop(network.encoder_width, self.sizes.encoder_positions)
        x = drop(self._embedded(self.source_embedding, self.source_positions, source, network.encoder_width))
        memory = Memory((x,), None if bool(readable.all()) else readable)
        mask, layers = memory.mask(1), []
        for block, layer in zip(self.encoder, network.encoder, strict=False):
            x = block(x, layer, mask, drop)
            layers.append(x)
        layers += [x] * self.sizes.identities_of(network)
        return Memory(tuple(layers), memory.readable)

    def decode(self, target: Tensor, memory: Memory, network: Transformer) -> Tensor:
        """Logits (B, T, target tokens) for all positions at once. target: padded on the right."""
        self._check(target, self.sizes.target_tokens, "target")
        drop = self._drop(network.decoder_width, self.sizes.decoder_positions)
        x = drop(self._embedded(self.target_embedding, self.target_positions, target, network.decoder_width))
        for block, layer in self._layers(network):
            own = block.attention.read(x, layer.heads)
            read = block.cross_attention.read(memory.last(layer.attended), layer.cross_heads)
            x = block(x, layer, own, read, memory.mask(layer.attended), drop)
        return self._logits(x)

    def start(self, memory: Memory, network: Transformer) -> Cache:
        """What decoding step by step begins with."""
        layers = list(self._layers(network))
        return Cache(
            own=(None,) * len(layers),
            read=tuple(
                block.cross_attention.read(memory.last(layer.attended), layer.cross_heads)
                for block, layer in layers
            ),
            masks=tuple(memory.mask(layer.attended) for _, layer in layers),
        )

    def step(self, tokens: Tensor, cache: Cache, network: Transformer) -> tuple[Tensor, Cache]:
        """(logits (B, target tokens) after these tokens (B,), the cache of the next step)."""
        drop = self._drop(network.decoder_width, self.sizes.decoder_positions)
        position = cache.tokens + 1 + PADDING
        self.target_positions.reach(cache.tokens + 1)
        x = self.target_embedding(tokens[:, None], network.decoder_width)
        x = drop(x + self.target_positions(torch.full_like(tokens, position)[:, None], network.decoder_width))
        kept = []
        for number, (block, layer) in enumerate(self._layers(network)):
            own, before = block.attention.read(x, layer.heads), cache.own[number]
            own = own if before is None else before.followed_by(own)
            x = block(x, layer, own, cache.read[number], cache.masks[number], drop)
            kept.append(own)
        return self._logits(x)[:, 0], Cache(tuple(kept), cache.read, cache.masks, cache.tokens + 1)

    def _layers(self, network: Transformer) -> Iterator[tuple[DecoderBlock, DecoderLayer]]:
        for block, layer in zip(self.decoder, network.decoder, strict=False):
            yield cast(DecoderBlock, block), layer

    def _embedded(self, embedding: Embedding, positions: Positions, tokens: Tensor, width: int) -> Tensor:
        positions.reach(tokens.shape[1])
        return cast(Tensor, embedding(tokens, width) + positions(positions_of(tokens), width))

    def _logits(self, x: Tensor) -> Tensor:
        return (self.target_embedding if self.output is None else self.output).logits(x)

    def _drop(self, width: int, whole_width: int) -> Drop:
        share = self.dropout.residual
        return Drop(self.training, share, share * width / whole_width, self.dropout.attention)

    def _check(self, tokens: Tensor, vocabulary: int, name: str) -> None:
        if tokens.dim() != 2 or tokens.dtype not in (torch.int64, torch.int32) or not tokens.numel():
            raise InvalidArchitecture(f"a {name} batch is whole numbers of shape (B, T), not empty")
        if int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary:
            raise InvalidArchitecture(
                f"a {name} token is not among the {vocabulary} of the vocabulary; is it that of this network?"
            )


def stepper(module: EncoderDecoder, source: Tensor, network: Transformer) -> Step:
    """Decoding of these sources step by step, for `latency_tables.generation.beam_search`; no gradients."""
    with torch.no_grad():
        caches = [module.start(module.encode(source, network), network)]

    @torch.no_grad()
    def step(tokens: Ints, parents: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        rows = torch.from_numpy(parents).to(source.device)
        fed = torch.from_numpy(tokens).to(source.device)
        logits, caches[0] = module.step(fed, caches[0].of_rows(rows), network)
        return np.asarray(logits.float().cpu().numpy())

    return step


def padded(sentences: Sequence[Sequence[int]], *, left: bool = False) -> Tensor:
    """Sentences of tokens as a batch (B, T), padded on the right, or on the left."""
    longest = max(len(sentence) for sentence in sentences)
    batch = torch.full((len(sentences), longest), PADDING)
    for row, sentence in zip(batch, sentences, strict=True):
        place = slice(longest - len(sentence), longest) if left else slice(len(sentence))
        row[place] = torch.tensor(sentence)
    return batch


def cut_out_transformer(module: EncoderDecoder, network: Transformer) -> EncoderDecoder:
    """A module of that network alone, with a copy of its weights, in the mode and on the device of `module`.

    Its networks are within `sizes.cut(network)`: give it that same network. Raises InvalidArchitecture.
    """
    cut = EncoderDecoder(module.sizes.cut(network), dropout=module.dropout)
    given = module.state_dict()
    # Rows and columns are the first ones everywhere; queries, keys and values keep all of their rows.
    cut.load_state_dict({key: leading(given[key], *wanted.shape) for key, wanted in cut.state_dict().items()})
    return cut.to(next(module.parameters()).device).train(module.training)


def layer_parameters(module: EncoderDecoder) -> int:
    """Weights, biases and layer-norms of all layers, without embeddings and output matrix: the published
    count."""
    return sum(p.numel() for part in (module.encoder, module.decoder) for p in part.parameters())


def begun(target: Tensor) -> Tensor:
    """Decoder inputs of target sentences (B, T) that end with END: END first, everything moved on by one."""
    moved = torch.cat((torch.full_like(target[:, :1], END), target[:, :-1]), dim=1)
    # A sentence shorter than the batch had its END moved into the padding.
    return torch.where(target.eq(PADDING), PADDING, moved)
