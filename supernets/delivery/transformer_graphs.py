"""A transformer as the ONNX graphs that people consume: encoder, decoder, decoder with past.

The inputs and outputs are those of the optimum and transformers.js convention. The encoder's outputs that
some decoder layer reads lie side by side in `last_hidden_state` (B, S, layers * width), the last layer first,
so that S is the one length everywhere; the decoder puts them one after the other again. Keys and values of a
layer are (B, heads, length, width / heads) and may differ by layer; `uniform` gives every layer one head and
the width of queries, keys and values, which runtimes need that derive one shape from the configuration, and
splits them inside.

Drawn node by node and not by torch's exporter, which needs half a minute for what takes milliseconds here;
`supernets.delivery.transformer_folder` holds every graph against torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import onnx
from onnx import TensorProto, helper

from latency_tables.generation import PADDING
from supernets.delivery.format import IR_VERSION, OPSET
from supernets.delivery.operator_graphs import Drawing
from supernets.encoder_decoder import DecoderBlock, EncoderBlock, EncoderDecoder
from supernets.errors import ExportFailed
from supernets.layers.attention import Attention
from supernets.layers.drawing import (
    Array,
    array,
    attended,
    fed_forward,
    keys_values,
    linear,
    normalised,
    queries,
    rows,
    whole,
)
from supernets.layers.embedding import Positions
from supernets.spaces.transformer import DecoderLayer, Transformer

ENCODER: Final = "encoder_model.onnx"
DECODER: Final = "decoder_model.onnx"
WITH_PAST: Final = "decoder_with_past_model.onnx"
Shape = Sequence[str | int]

MOST_TOKENS: Final = 1024
"""Positions that a graph has, as HAT's configurations allow."""
_FAR: Final = np.array(-1e9, dtype=np.float32)  # added to the score of what may not be read
_MOST_BYTES: Final = 2**31 - 1  # of a protobuf message


@dataclass(frozen=True)
class Graphs:
    """The three files, each complete in itself."""

    encoder: bytes
    decoder: bytes
    with_past: bytes

    def by_name(self) -> dict[str, bytes]:
        """Under the names of the convention."""
        return {ENCODER: self.encoder, DECODER: self.decoder, WITH_PAST: self.with_past}


def draw_transformer(module: EncoderDecoder, network: Transformer, *, uniform: bool = False) -> Graphs:
    """The graphs of a module at exactly the sizes of one network (`cut_out_transformer`). Raises
    InvalidArchitecture, ExportFailed for one that does not fit a file."""
    module.sizes.check(network)
    if module.sizes != module.sizes.cut(network):
        raise ExportFailed("the module holds more than this network; cut it out first")
    drawn = _Drawn(module, network, uniform)
    return Graphs(drawn.encoder(), drawn.decoder(), drawn.with_past())


class _Drawn:
    def __init__(self, module: EncoderDecoder, network: Transformer, uniform: bool) -> None:
        self.module, self.network, self.uniform = module, network, uniform
        module.source_positions.reach(MOST_TOKENS)
        module.target_positions.reach(MOST_TOKENS)
        self.read = max(layer.attended for layer in network.decoder)
        self.qkv = module.sizes.qkv_width

    def encoder(self) -> bytes:
        g = Drawing()
        tokens = g.given("input_ids", TensorProto.INT64, ["batch", "source"])
        readable = g.given("attention_mask", TensorProto.INT64, ["batch", "source"])
        counted = g.add("CumSum", [readable, np.array(1, dtype=np.int64)])
        places = g.add("Add", [g.add("Mul", [counted, readable]), np.array(PADDING, dtype=np.int64)])
        width = self.network.encoder_width
        x = self._embedded(
            g, self.module.source_embedding.weight, self.module.source_positions, tokens, places, width
        )
        mask, layers = _mask(g, readable), [x]
        for block_, layer in zip(self.module.encoder, self.network.encoder, strict=True):
            block = cast(EncoderBlock, block_)
            keys, values = keys_values(g, block.attention, layer.heads, x, step=False)
            asked = queries(g, block.attention, layer.heads, x, step=False)
            y = attended(g, block.attention, asked, keys, values, mask, step=False)
            x = normalised(g, block.attention_norm, x, y)
            x = fed_forward(g, block.feed_forward, block.feed_forward_norm, x, step=False)
            layers.append(x)
        # What the super network has beyond are identities: they repeat the last.
        layers = [*layers[1:], *[x] * self.module.sizes.identities]
        last = layers[: -self.read - 1 : -1]
        beside = last[0] if len(last) == 1 else g.add("Concat", last, axis=-1)
        shape: Shape = ["batch", "source", self.read * width]
        return _finished(g, {"last_hidden_state": (beside, shape)})

    def decoder(self) -> bytes:
        """The first call: a prefix of any length, nothing cached."""
        g = Drawing()
        tokens = g.given("input_ids", TensorProto.INT64, ["batch", "target"])
        readable = g.given("encoder_attention_mask", TensorProto.INT64, ["batch", "source"])
        width = self.network.encoder_width
        beside = g.given("encoder_hidden_states", TensorProto.FLOAT, ["batch", "source", self.read * width])
        length = g.add("Shape", [tokens], start=1, end=2)
        count = g.add("Squeeze", [length])
        steps = g.add("Range", [np.array(0, dtype=np.int64), count, np.array(1, dtype=np.int64)])
        x = self._embedded(
            g,
            self.module.target_embedding.weight,
            self.module.target_positions,
            tokens,
            g.add("Add", [steps, np.array(PADDING + 1, dtype=np.int64)]),
            self.network.decoder_width,
        )
        later = g.add("Less", [g.add("Unsqueeze", [steps, whole(1)]), g.add("Unsqueeze", [steps, whole(0)])])
        causal = g.add("Mul", [g.add("Cast", [later], to=TensorProto.FLOAT), _FAR])
        masks, memories = _Masks(g, readable), _Memories(g, beside, self.read)
        outputs: dict[str, tuple[str, Shape]] = {}
        for number, (block, layer) in enumerate(self._layers()):
            own = keys_values(g, block.attention, layer.heads, x, step=False)
            asked = queries(g, block.attention, layer.heads, x, step=False)
            y = attended(g, block.attention, asked, *own, causal, step=False)
            x = normalised(g, block.attention_norm, x, y)
            read = keys_values(
                g, block.cross_attention, layer.cross_heads, memories.last(layer.attended), step=False
            )
            asked = queries(g, block.cross_attention, layer.cross_heads, x, step=False)
            y = attended(g, block.cross_attention, asked, *read, masks.of(layer.attended), step=False)
            x = normalised(g, block.cross_attention_norm, x, y)
            x = fed_forward(g, block.feed_forward, block.feed_forward_norm, x, step=False)
            outputs |= self._present(g, number, "decoder", own, layer.heads, "target")
            outputs |= self._present(g, number, "encoder", read, layer.cross_heads, _kept(layer))
        logits = linear(g, x, self._output())
        return _finished(
            g, {"logits": (logits, ["batch", "target", self.module.sizes.target_tokens]), **outputs}
        )

    def with_past(self) -> bytes:
        """One more token in each row."""
        g = Drawing()
        tokens = g.given("input_ids", TensorProto.INT64, ["batch", 1])
        readable = g.given("encoder_attention_mask", TensorProto.INT64, ["batch", "source"])
        caches = [
            (
                self._past(g, number, "decoder", layer.heads, "past"),
                self._past(g, number, "encoder", layer.cross_heads, _kept(layer)),
            )
            for number, (_, layer) in enumerate(self._layers())
        ]
        # Counted by what is cached: a graph has no other memory of how far it is.
        length = g.add("Shape", [caches[0][0][0]], start=2, end=3)
        place = g.add("Add", [length, whole(PADDING + 1)])
        flat = g.add("Reshape", [tokens, whole(-1)])
        x = self._embedded(
            g,
            self.module.target_embedding.weight,
            self.module.target_positions,
            flat,
            place,
            self.network.decoder_width,
        )
        masks = _Masks(g, readable)
        outputs: dict[str, tuple[str, Shape]] = {}
        for number, (block, layer) in enumerate(self._layers()):
            own, read = caches[number]
            new = keys_values(g, block.attention, 1 if self.uniform else layer.heads, x, step=True)
            kept = [g.add("Concat", list(pair), axis=2) for pair in zip(own, new, strict=True)]
            x = self._read(g, block.attention, layer.heads, x, kept, None, block.attention_norm)
            x = self._read(
                g,
                block.cross_attention,
                layer.cross_heads,
                x,
                read,
                masks.of(layer.attended),
                block.cross_attention_norm,
            )
            x = fed_forward(g, block.feed_forward, block.feed_forward_norm, x, step=True)
            shape = self._shape(layer.heads, "past_and_one")
            outputs[f"present.{number}.decoder.key"] = (kept[0], shape)
            outputs[f"present.{number}.decoder.value"] = (kept[1], shape)
        logits = g.add("Unsqueeze", [rows(g, x, self._output()), whole(1)])
        last: Shape = ["batch", 1, self.module.sizes.target_tokens]
        return _finished(g, {"logits": (logits, last), **outputs})

    def _read(
        self,
        g: Drawing,
        part: Attention,
        heads: int,
        x: str,
        kept: Sequence[str],
        mask: str | None,
        norm: Any,
    ) -> str:
        keys, values = (self._split(g, one, heads) for one in kept) if self.uniform else kept
        asked = queries(g, part, heads, x, step=True)
        return normalised(g, norm, x, attended(g, part, asked, keys, values, mask, step=True))

    def _embedded(
        self, g: Drawing, weight: Any, positions: Positions, tokens: str, places: str, width: int
    ) -> str:
        scaled = array(weight)[:, :width] * np.float32(width**0.5)
        words = g.add("Gather", [g.shared("embedding", np.ascontiguousarray(scaled)), tokens])
        table = np.ascontiguousarray(array(positions.table)[: MOST_TOKENS + PADDING + 1, :width])
        return g.add("Add", [words, g.add("Gather", [g.shared("positions", table), places])])

    def _layers(self) -> list[tuple[DecoderBlock, DecoderLayer]]:
        blocks = [cast(DecoderBlock, block) for block in self.module.decoder]
        return list(zip(blocks, self.network.decoder, strict=True))

    def _output(self) -> Array:
        module = self.module
        weight = (module.target_embedding if module.output is None else module.output).weight
        return array(weight)[:, : self.network.decoder_width]

    def _shape(self, heads: int, length: str) -> list[str | int]:
        kept = 1 if self.uniform else heads
        return ["batch", kept, length, self.qkv // kept]

    def _past(self, g: Drawing, number: int, of: str, heads: int, length: str) -> tuple[str, str]:
        shape = self._shape(heads, length)
        keys, values = (
            g.given(f"past_key_values.{number}.{of}.{what}", TensorProto.FLOAT, shape)
            for what in ("key", "value")
        )
        return keys, values

    def _present(
        self, g: Drawing, number: int, of: str, made: tuple[str, str], heads: int, length: str
    ) -> dict[str, tuple[str, Shape]]:
        kept = tuple(self._merged(g, one) for one in made) if self.uniform else made
        names = (f"present.{number}.{of}.key", f"present.{number}.{of}.value")
        return {name: (one, self._shape(heads, length)) for name, one in zip(names, kept, strict=True)}

    def _merged(self, g: Drawing, x: str) -> str:
        """(B, heads, length, d) as (B, 1, length, heads * d)."""
        turned = g.add("Transpose", [x], perm=[0, 2, 1, 3])
        return g.add("Unsqueeze", [g.add("Reshape", [turned, whole(0, 0, self.qkv)]), whole(1)])

    def _split(self, g: Drawing, x: str, heads: int) -> str:
        """(B, 1, length, width) as (B, heads, length, d)."""
        apart = g.add("Reshape", [g.add("Squeeze", [x, whole(1)]), whole(0, 0, heads, self.qkv // heads)])
        return g.add("Transpose", [apart], perm=[0, 2, 1, 3])


class _Masks:
    """What is added to the scores of reading so many layers, made once in a graph."""

    def __init__(self, g: Drawing, readable: str) -> None:
        self._g, self._one = g, _mask(g, readable)
        self._made: dict[int, str] = {1: self._one}

    def of(self, layers: int) -> str:
        if layers not in self._made:
            self._made[layers] = self._g.add("Concat", [self._one] * layers, axis=-1)
        return self._made[layers]


class _Memories:
    """The encoder's last layers, one after the other along the sequence."""

    def __init__(self, g: Drawing, beside: str, layers: int) -> None:
        self._g = g
        self._each = [beside] if layers == 1 else g.split(beside, layers, axis=-1)
        self._made: dict[int, str] = {1: self._each[0]}

    def last(self, layers: int) -> str:
        if layers not in self._made:
            self._made[layers] = self._g.add("Concat", self._each[:layers], axis=1)
        return self._made[layers]


def _kept(layer: DecoderLayer) -> str:
    """Name of the length of what a layer reads: it is that many times the source's."""
    return "source" if layer.attended == 1 else f"source_{layer.attended}"


def _mask(g: Drawing, readable: str) -> str:
    """(B, 1, 1, S): 0 where may be read, else far below every score."""
    padding = g.add("Sub", [np.array(1, dtype=np.int64), readable])
    far = g.add("Mul", [g.add("Cast", [padding], to=TensorProto.FLOAT), _FAR])
    return g.add("Unsqueeze", [far, whole(1, 2)])


def _finished(g: Drawing, outputs: dict[str, tuple[str, Shape]]) -> bytes:
    """The checked bytes of a graph with these outputs: name -> (value, shape)."""
    named = {value: name for name, (value, _) in outputs.items()}
    for node in g.nodes:
        node.input[:] = [named.get(x, x) for x in node.input]
        node.output[:] = [named.get(x, x) for x in node.output]
    made = helper.make_graph(
        g.nodes,
        "network",
        g.inputs,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, (_, shape) in outputs.items()
        ],
        g.weights,
    )
    if made.ByteSize() > _MOST_BYTES:
        raise ExportFailed("the weights do not fit one file; choose a smaller network")
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="bespoke")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
