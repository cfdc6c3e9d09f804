"""Spaces of encoder-decoder transformers: which widths, layers and choices there are, as a chain of two
stages.

Source: HAT (Wang et al., ACL 2020). Two stages with a state each, the encoder's and the decoder's width;
every decoder layer reads the encoder's, so a cell of the decoder depends on both states. What adds up over
layers is then a dense table, and every solver of `supernets.search` works on it, exact search included.

A latency is that of one sentence of stated length and beam, so a space of operators is made for such a
sentence (`TransformerSpace.priced`); another sentence is a space of another name, whose rows and measured
networks are others too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Final

import numpy as np

from latency_tables.dense import Chain, DenseTable, Genes, StageShape
from latency_tables.inputs import SIZE, InputSpec
from latency_tables.operators.encoder_attend import EncoderAttend
from latency_tables.operators.step_attend import StepAttend
from latency_tables.operators.step_output import StepOutput
from supernets.errors import InvalidArchitecture, UnknownSpace
from supernets.spaces.architecture import Architecture
from supernets.spaces.choices import Choice
from supernets.spaces.space import Space, Stage
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer, TransformerSizes

MOST_TOKENS: Final = 1024
MOST_BEAMS: Final = 64


@dataclass(frozen=True)
class Sentence:
    """What a latency of generation is of: the length of a source, of what is written (END counts), and the
    beams. HAT's own protocol: 30, 30, 5 for WMT, 23, 23, 5 for IWSLT."""

    source_tokens: int = 30
    target_tokens: int = 30
    beam: int = 5

    def __post_init__(self) -> None:
        if not all(1 <= n <= MOST_TOKENS for n in (self.source_tokens, self.target_tokens)):
            raise InvalidArchitecture(f"a sentence has 1 to {MOST_TOKENS} tokens, END among them")
        if not 1 <= self.beam <= MOST_BEAMS:
            raise InvalidArchitecture(f"a generation has 1 to {MOST_BEAMS} beams")

    @property
    def text(self) -> str:
        """What the name of a space ends in; `of_text` reads it back."""
        return f"s{self.source_tokens}.t{self.target_tokens}.b{self.beam}"

    @classmethod
    def of_text(cls, text: str) -> Sentence | None:
        """None for a text of another form. Raises InvalidArchitecture for a sentence that cannot be."""
        match = _TEXT.fullmatch(text)
        return None if match is None else cls(*map(int, match.groups()))

    def to_json(self) -> dict[str, int]:
        """Plain values, as requests and cards have them."""
        return asdict(self)

    def changed(self, asked: Mapping[str, int | None]) -> Sentence:
        """This sentence with what was asked for instead."""
        return Sentence(**{**asdict(self), **{name: n for name, n in asked.items() if n is not None}})


_TEXT: Final = re.compile(r"s([1-9]\d{0,3})\.t([1-9]\d{0,3})\.b([1-9]\d?)", re.ASCII)


@dataclass(frozen=True)
class TransformerSpace:
    """Everything ascending. Widths and layers of encoder and decoder; feed_forward: inside each layer;
    encoder_heads, decoder_heads, cross_heads: of each layer; attended: last encoder layers that a decoder
    layer may read. joined: whether there is one dictionary for both languages. words: of each vocabulary
    where no data set says so; sentence: what latencies are of where nobody says so. Raises ValueError.
    """

    name: str
    description: str
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    encoder_layers: tuple[int, ...]
    decoder_layers: tuple[int, ...]
    feed_forward: tuple[int, ...]
    heads: tuple[int, ...]
    attended: tuple[int, ...]
    qkv_width: int
    joined: bool
    words: int = 32_768
    sentence: Sentence = Sentence()

    def __post_init__(self) -> None:
        listed = (
            *(self.encoder_widths, self.decoder_widths, self.encoder_layers, self.decoder_layers),
            *(self.feed_forward, self.heads, self.attended),
        )
        if any(not values or list(values) != sorted(set(values)) or values[0] < 1 for values in listed):
            raise ValueError(f"space {self.name}: whole numbers from 1, each once and ascending")
        if any(self.qkv_width % heads for heads in self.heads):
            raise ValueError(f"space {self.name}: heads must divide the width of queries, keys and values")
        if self.attended[-1] > self.encoder_layers[-1]:
            raise ValueError(f"space {self.name}: a decoder layer cannot read more layers than there are")

    @cached_property
    def encoder_choices(self) -> tuple[EncoderLayer, ...]:
        """What every encoder layer may be."""
        return tuple(EncoderLayer(*values) for values in product(self.feed_forward, self.heads))

    @cached_property
    def decoder_choices(self) -> tuple[DecoderLayer, ...]:
        """What every decoder layer may be."""
        values = product(self.feed_forward, self.heads, self.heads, self.attended)
        return tuple(DecoderLayer(*chosen) for chosen in values)

    @cached_property
    def chain(self) -> Chain:
        encoder, decoder = len(self.encoder_choices), len(self.decoder_choices)
        return Chain(
            1,
            (
                StageShape(
                    len(self.encoder_widths), self.encoder_layers, (encoder,) * self.encoder_layers[-1]
                ),
                StageShape(
                    len(self.decoder_widths), self.decoder_layers, (decoder,) * self.decoder_layers[-1]
                ),
            ),
        )

    def count(self) -> int:
        """Distinct networks."""
        return self.chain.count()

    def network(self, genes: Sequence[int] | Genes) -> Transformer:
        """The network of one row of genes (see `Chain`); genes of layers beyond the depth do not count.
        Raises InvalidArchitecture."""
        row = [int(g) for g in genes]
        if len(row) != self.chain.genes or any(
            not 0 <= g < n for g, n in zip(row, self.chain.gene_sizes, strict=True)
        ):
            raise InvalidArchitecture(f"not a row of genes of {self.name}")
        at, to = self.chain.offsets
        encoder, decoder = self.encoder_layers[row[at + 1]], self.decoder_layers[row[to + 1]]
        return Transformer(
            self.encoder_widths[row[at]],
            tuple(self.encoder_choices[g] for g in row[at + 2 : at + 2 + encoder]),
            self.decoder_widths[row[to]],
            tuple(self.decoder_choices[g] for g in row[to + 2 : to + 2 + decoder]),
        )

    def genes(self, network: Transformer) -> Genes:
        """Canonical genes of a network, shape (genes,). Raises InvalidArchitecture that says what is not in
        this space."""
        row = [0]
        for name, width, widths, layers, depths, choices in (
            (
                *("encoder", network.encoder_width, self.encoder_widths),
                *(network.encoder, self.encoder_layers, self.encoder_choices),
            ),
            (
                *("decoder", network.decoder_width, self.decoder_widths),
                *(network.decoder, self.decoder_layers, self.decoder_choices),
            ),
        ):
            if width not in widths or len(layers) not in depths:
                raise InvalidArchitecture(
                    f"{self.name}: {name} width must be one of {list(widths)}, its layers one of "
                    f"{list(depths)}"
                )
            strange = next((layer for layer in layers if layer not in choices), None)
            if strange is not None:
                raise InvalidArchitecture(f"{self.name}: {strange} is no {name} layer of this space")
            row += [widths.index(width), depths.index(len(layers)), *(choices.index(x) for x in layers)]
            row += [0] * (depths[-1] - len(layers))
        return np.array(row, dtype=np.int64)

    def sample(self, generator: np.random.Generator, networks: int) -> list[Transformer]:
        """Every gene drawn uniformly and independently, as HAT draws them."""
        return [self.network(row) for row in self.chain.sample(generator, networks)]

    def largest(self) -> Transformer:
        """Most of everything."""
        return self.network(self.chain.gene_sizes - 1)

    def smallest(self) -> Transformer:
        """Least of everything."""
        return self.network(np.zeros(self.chain.genes, dtype=np.int64))

    def priced(self, generation: Sentence | None = None, words: int | None = None) -> SentenceSpace:
        """The same networks as a space of operators, whose latency is that of one sentence of that length.

        words: of both vocabularies, of the larger one where they differ: of the rows, output and embeddings
        alone depend on them. Genes, `count` and `network` are those of this description.
        """
        generation, classes = generation or self.sentence, words or self.words
        told = {"qkv": self.qkv_width, "words": classes}
        steps = {"steps": generation.target_tokens}
        encoder = Stage(
            "encoder",
            EncoderAttend.family,
            self.encoder_widths,
            self.encoder_layers,
            _choices(self.encoder_choices, self.encoder_layers[-1]),
            told,
        )
        decoder = Stage(
            "decoder",
            StepAttend.family,
            self.decoder_widths,
            self.decoder_layers,
            _choices(self.decoder_choices, self.decoder_layers[-1]),
            {**told, **steps, "beam": generation.beam},
            reads=True,
        )
        output = Stage("output", StepOutput.family, (classes,), settings=steps)
        source = InputSpec("input", (SIZE,), "int64", classes)
        return SentenceSpace(
            self.name if generation == self.sentence else f"{self.name}.{generation.text}",
            self.description,
            (generation.source_tokens,),
            (source,),
            classes,
            (encoder, decoder, output),
            "HAT: Hardware-Aware Transformers (Wang et al., ACL 2020)",
            network="supernets.sentence_supernet:SentenceSupernet",
            described=self,
            generation=generation,
        )

    def of(self, architecture: Architecture) -> Transformer:
        """The network of an architecture of `priced`."""
        encoder, decoder = architecture.stages[:2]
        return Transformer(
            encoder.width,
            tuple(EncoderLayer(int(b["inside"]), int(b["heads"])) for b in encoder.blocks),
            decoder.width,
            tuple(
                DecoderLayer(*(int(b[name]) for name in ("inside", "heads", "cross_heads", "attended")))
                for b in decoder.blocks
            ),
        )

    def sizes(self, source_tokens: int, target_tokens: int) -> TransformerSizes:
        """Of the super network, for vocabularies of so many tokens. Raises InvalidArchitecture where one
        dictionary cannot be of two sizes."""
        encoder, decoder = self.encoder_widths[-1], self.decoder_widths[-1]
        inside = self.feed_forward[-1]
        return TransformerSizes(
            source_tokens=source_tokens,
            target_tokens=target_tokens,
            encoder_width=encoder,
            decoder_width=decoder,
            encoder_feed_forward=(inside,) * self.encoder_layers[-1],
            decoder_feed_forward=(inside,) * self.decoder_layers[-1],
            qkv_width=self.qkv_width,
            encoder_positions=encoder,
            decoder_positions=decoder,
            joined=self.joined,
            tied=self.joined,
        )

    def dense(
        self,
        encoder: Callable[[int, EncoderLayer], float],
        decoder: Callable[[int, int, DecoderLayer], float],
    ) -> DenseTable:
        """The dense table of what adds up over layers. encoder: of a width and a layer of it; decoder: of the
        encoder's width, its own, and a layer."""
        first = np.array(
            [[encoder(width, layer) for layer in self.encoder_choices] for width in self.encoder_widths]
        )
        second = np.array(
            [
                [
                    [decoder(read, width, layer) for layer in self.decoder_choices]
                    for width in self.decoder_widths
                ]
                for read in self.encoder_widths
            ]
        )
        blocks = (
            # (1, before, width, layer, choice): a layer costs the same wherever it stands.
            np.repeat(first[None, None, :, None, :], self.encoder_layers[-1], axis=3),
            np.repeat(second[None, :, :, None, :], self.decoder_layers[-1], axis=3),
        )
        depth = tuple(np.zeros((1, len(shape.depths))) for shape in self.chain.stages)
        return DenseTable(self.chain, np.zeros(1), blocks, depth)


@dataclass(frozen=True)
class SentenceSpace(Space):
    """A space of networks that write sentences; its latency is that of one sentence (`generation`).

    Both vocabularies are taken to have as many words as there are classes: embeddings follow them.
    """

    described: TransformerSpace = field(kw_only=True)
    generation: Sentence = field(kw_only=True)

    def with_classes(self, classes: int) -> SentenceSpace:
        """The same for vocabularies of that many words. Raises ValueError for one that was narrowed."""
        whole = self.described.priced(self.generation, self.classes)
        if (self.stages, self.resolutions) != (whole.stages, whole.resolutions):
            raise ValueError(f"space {self.name}: narrowed to some networks, it has its words for good")
        return self.described.priced(self.generation, classes)

    def generating(self, asked: Mapping[str, int | None]) -> SentenceSpace:
        """The same networks, priced for another sentence. Raises InvalidArchitecture."""
        return self.described.priced(self.generation.changed(asked), self.classes)

    def variant(self, text: str) -> Space | None:
        sentence = Sentence.of_text(text)
        return None if sentence is None else self.described.priced(sentence, self.classes)

    def sizes(self) -> TransformerSizes:
        """Of a module for the networks that are left to choose; positions are those of the whole space."""
        encoder, decoder = self.stages[:2]
        whole = self.described.sizes(self.classes, self.classes)
        inside = [
            tuple(max(int(c["inside"]) for c in options) for options in stage.choices)
            for stage in (encoder, decoder)
        ]
        return replace(
            whole,
            encoder_width=encoder.widths[-1],
            decoder_width=decoder.widths[-1],
            encoder_feed_forward=inside[0],
            decoder_feed_forward=inside[1],
            identities=len(whole.encoder_feed_forward) - len(inside[0]),
        )


def _choices(layers: Sequence[EncoderLayer | DecoderLayer], blocks: int) -> tuple[tuple[Choice, ...], ...]:
    """The same choices for every layer, in the order of the description: genes are the same."""
    return (tuple(Choice(_named(layer)) for layer in layers),) * blocks


def _named(layer: EncoderLayer | DecoderLayer) -> dict[str, int]:
    own = {"inside": layer.feed_forward, "heads": layer.heads}
    if isinstance(layer, EncoderLayer):
        return own
    return {**own, "cross_heads": layer.cross_heads, "attended": layer.attended}


HAT_WMT: Final = TransformerSpace(
    name="hat-wmt",
    description="HAT's space for WMT'14 En-De and En-Fr and WMT'19 En-De",
    encoder_widths=(512, 640),
    decoder_widths=(512, 640),
    encoder_layers=(6,),
    decoder_layers=(1, 2, 3, 4, 5, 6),
    feed_forward=(1024, 2048, 3072),
    heads=(4, 8),
    attended=(1, 2, 3),
    qkv_width=512,
    joined=True,
)
HAT_IWSLT: Final = TransformerSpace(
    name="hat-iwslt",
    description="HAT's space for IWSLT'14 De-En",
    encoder_widths=(512, 640),
    decoder_widths=(512, 640),
    encoder_layers=(6,),
    decoder_layers=(1, 2, 3, 4, 5, 6),
    feed_forward=(512, 1024, 2048),
    heads=(2, 4),
    attended=(1, 2, 3),
    qkv_width=512,
    joined=False,
    words=8848,
    sentence=Sentence(23, 23, 5),
)
HAT_SMALL: Final = TransformerSpace(
    name="hat-small",
    description="of HAT's kinds of choices, small enough to learn within minutes on two cores",
    encoder_widths=(96, 128),
    decoder_widths=(96, 128),
    encoder_layers=(3,),
    decoder_layers=(1, 2, 3),
    feed_forward=(256, 384, 512),
    heads=(2, 4),
    attended=(1, 2, 3),
    qkv_width=128,
    joined=False,
    words=2000,
)
TRANSFORMER_SPACES: Final = {space.name: space for space in (HAT_WMT, HAT_IWSLT, HAT_SMALL)}


def transformer_space_named(name: str) -> TransformerSpace:
    """The space of that name. Raises UnknownSpace that lists the known ones."""
    try:
        return TRANSFORMER_SPACES[name]
    except KeyError:
        raise UnknownSpace(
            f"unknown space of transformers; known are {', '.join(TRANSFORMER_SPACES)}"
        ) from None
