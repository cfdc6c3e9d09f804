"""An encoder-decoder transformer as plain values: one network of HAT's space, and the sizes of the super
network that contains it.

Source: HAT: Hardware-Aware Transformers (Wang et al., ACL 2020), whose layers differ from each other in
feed-forward width, heads, and in how many encoder layers a decoder layer attends to. Counts agree with the
published ones: layers in use, without embeddings and output matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supernets.errors import InvalidArchitecture

ATTENDED: Final = {-1: 1, 1: 2, 2: 3}
"""How HAT writes the number of last encoder layers that a decoder layer attends to."""
_WRITTEN: Final = {layers: written for written, layers in ATTENDED.items()}
_LARGEST: Final = 65_536


@dataclass(frozen=True, order=True)
class EncoderLayer:
    """feed_forward: width inside the feed-forward part. heads: of its self attention."""

    feed_forward: int
    heads: int


@dataclass(frozen=True, order=True)
class DecoderLayer:
    """attended: how many of the last encoder layers the cross attention reads, one after the other."""

    feed_forward: int
    heads: int
    cross_heads: int
    attended: int


@dataclass(frozen=True, order=True)
class Transformer:
    """One network: width of encoder and decoder (the embeddings' width) and their layers, first to last."""

    encoder_width: int
    encoder: tuple[EncoderLayer, ...]
    decoder_width: int
    decoder: tuple[DecoderLayer, ...]

    def parameters(self, qkv_width: int) -> int:
        """Weights, biases and layer-norms of its layers, without embeddings and output matrix."""
        e, d, qkv = self.encoder_width, self.decoder_width, qkv_width
        encoder = sum(_attention(e, e, qkv) + _feed_forward(e, layer.feed_forward) for layer in self.encoder)
        return encoder + sum(
            _attention(d, d, qkv) + _attention(d, e, qkv) + _feed_forward(d, layer.feed_forward)
            for layer in self.decoder
        )

    def macs(self, qkv_width: int, source_tokens: int, target_tokens: int) -> int:
        """Multiply-accumulates of one sentence, teacher-forced, without the output layer (HAT's count)."""
        e, d, qkv, s, t = self.encoder_width, self.decoder_width, qkv_width, source_tokens, target_tokens
        found = 0
        for encoder in self.encoder:
            # Four projections, both feed-forward products, then the scores and what they weigh.
            found += s * (4 * qkv * e + 2 * e * encoder.feed_forward) + 2 * s * s * qkv
        for layer in self.decoder:
            own = t * 4 * qkv * d + 2 * t * t * qkv + 2 * t * d * layer.feed_forward
            cross = t * 2 * qkv * d + layer.attended * (s * 2 * qkv * e + 2 * s * t * qkv)
            found += own + cross
        return found

    def features(self) -> tuple[float, ...]:
        """The ten inputs of HAT's latency predictor, in the order of `hat_csv.FEATURES`."""
        deep = len(self.decoder)
        return (
            float(self.encoder_width),
            float(len(self.encoder)),
            sum(layer.feed_forward for layer in self.encoder) / len(self.encoder),
            sum(layer.heads for layer in self.encoder) / len(self.encoder),
            float(self.decoder_width),
            float(deep),
            sum(layer.feed_forward for layer in self.decoder) / deep,
            sum(layer.heads for layer in self.decoder) / deep,
            sum(layer.cross_heads for layer in self.decoder) / deep,
            sum(layer.attended for layer in self.decoder) / deep,
        )


def _attention(width: int, read_width: int, qkv: int) -> int:
    """Projections of queries, keys, values and the output, with biases and the layer-norm after them."""
    return qkv * width + 2 * qkv * read_width + 3 * qkv + qkv * width + width + 2 * width


def _feed_forward(width: int, inside: int) -> int:
    return 2 * width * inside + inside + width + 2 * width


@dataclass(frozen=True)
class TransformerSizes:
    """What a module must be built with to hold a network, or a whole super network.

    source_tokens, target_tokens: sizes of the vocabularies. joined: one dictionary, so source, target and
    output share one matrix. tied: the output matrix is the target's embedding. encoder_width, decoder_width:
    of embeddings and layers. encoder_feed_forward, decoder_feed_forward: the largest of each layer.
    qkv_width: of all queries, keys and values. encoder_positions, decoder_positions: width of the sinusoid
    before it is cut: a network cut out of a super network keeps that one's. identities: encoder layers that
    the super network has and no network here; attending to several layers counts them.
    """

    source_tokens: int
    target_tokens: int
    encoder_width: int
    decoder_width: int
    encoder_feed_forward: tuple[int, ...]
    decoder_feed_forward: tuple[int, ...]
    qkv_width: int
    encoder_positions: int
    decoder_positions: int
    joined: bool = True
    tied: bool = True
    identities: int = 0

    def __post_init__(self) -> None:
        widths = (self.encoder_width, self.decoder_width, self.qkv_width)
        if self.joined and (self.source_tokens != self.target_tokens or not self.tied):
            raise InvalidArchitecture("with a joined dictionary, source, target and output share one matrix")
        if self.joined and self.encoder_positions != self.decoder_positions:
            raise InvalidArchitecture("with a joined dictionary encoder and decoder are of one super width")
        sizes = (*widths, *self.encoder_feed_forward, *self.decoder_feed_forward)
        if any(type(n) is not int or not 1 <= n <= _LARGEST for n in sizes):
            raise InvalidArchitecture(f"widths are whole numbers from 1 to {_LARGEST}")
        if not self.encoder_feed_forward or not self.decoder_feed_forward:
            raise InvalidArchitecture("a transformer has at least one encoder and one decoder layer")
        for name, width, whole in (
            ("encoder", self.encoder_width, self.encoder_positions),
            ("decoder", self.decoder_width, self.decoder_positions),
        ):
            if not width <= whole or whole % 2:
                raise InvalidArchitecture(
                    f"{name}: positions are an even number, at least the {name}'s width"
                )

    def check(self, network: Transformer) -> None:
        """Raises InvalidArchitecture, saying what, for a network that these sizes do not hold."""
        problem = (
            _too_large(
                "encoder",
                network.encoder_width,
                self.encoder_width,
                network.encoder,
                self.encoder_feed_forward,
            )
            or _too_large(
                "decoder",
                network.decoder_width,
                self.decoder_width,
                network.decoder,
                self.decoder_feed_forward,
            )
            or self._odd_heads(network)
        )
        if problem:
            raise InvalidArchitecture(problem)

    def _odd_heads(self, network: Transformer) -> str:
        heads = {layer.heads for layer in network.encoder}
        heads |= {n for layer in network.decoder for n in (layer.heads, layer.cross_heads)}
        wrong = sorted(n for n in heads if n < 1 or self.qkv_width % n)
        if wrong:
            return f"{wrong[0]} heads do not divide the {self.qkv_width} columns of queries, keys and values"
        listed = len(network.encoder) + self.identities_of(network)
        far = max(layer.attended for layer in network.decoder)
        return "" if 1 <= far <= listed else f"a decoder layer attends to {far} of {listed} encoder layers"

    def identities_of(self, network: Transformer) -> int:
        """Encoder layers of the super network that this network leaves out: they count as identities."""
        return len(self.encoder_feed_forward) + self.identities - len(network.encoder)

    def cut(self, network: Transformer) -> TransformerSizes:
        """Sizes of a module that holds this network alone. Raises InvalidArchitecture."""
        self.check(network)
        return TransformerSizes(
            source_tokens=self.source_tokens,
            target_tokens=self.target_tokens,
            encoder_width=network.encoder_width,
            decoder_width=network.decoder_width,
            encoder_feed_forward=tuple(layer.feed_forward for layer in network.encoder),
            decoder_feed_forward=tuple(layer.feed_forward for layer in network.decoder),
            qkv_width=self.qkv_width,
            encoder_positions=self.encoder_positions,
            decoder_positions=self.decoder_positions,
            joined=self.joined,
            tied=self.tied,
            identities=self.identities_of(network),
        )


def _too_large(
    name: str, width: int, most: int, layers: Sequence[EncoderLayer | DecoderLayer], largest: tuple[int, ...]
) -> str:
    if not 1 <= width <= most:
        return f"{name}: a width of {width} is not in 1 to {most}"
    if not 1 <= len(layers) <= len(largest):
        return f"{name}: {len(layers)} layers, there are 1 to {len(largest)}"
    for number, (layer, limit) in enumerate(zip(layers, largest, strict=False)):
        inside = layer.feed_forward
        if not 1 <= inside <= limit:
            return f"{name} layer {number}: a feed-forward width of {inside} is not in 1 to {limit}"
    return ""


def from_hat(config: Mapping[str, Any]) -> Transformer:
    """The network that HAT's config form describes. Lists may be longer than the layers in use: HAT's sampler
    draws six `decoder_arbitrary_ende_attn` whatever the depth. Raises InvalidArchitecture that names the
    entry.
    """
    encoder, decoder = (_section(config, name) for name in ("encoder", "decoder"))
    deep_encoder = _number(encoder, "encoder_layer_num")
    deep_decoder = _number(decoder, "decoder_layer_num")
    attended = _numbers(decoder, "decoder_arbitrary_ende_attn", deep_decoder)
    wrong = [written for written in attended if written not in ATTENDED]
    if wrong:
        raise InvalidArchitecture(
            f"decoder_arbitrary_ende_attn: {wrong[0]} is none of -1, 1, 2 (the last one, two, three layers)"
        )
    inside = _numbers(encoder, "encoder_ffn_embed_dim", deep_encoder)
    heads = _numbers(encoder, "encoder_self_attention_heads", deep_encoder)
    return Transformer(
        encoder_width=_number(encoder, "encoder_embed_dim"),
        encoder=tuple(EncoderLayer(*values) for values in zip(inside, heads, strict=True)),
        decoder_width=_number(decoder, "decoder_embed_dim"),
        decoder=tuple(
            DecoderLayer(*values)
            for values in zip(
                _numbers(decoder, "decoder_ffn_embed_dim", deep_decoder),
                _numbers(decoder, "decoder_self_attention_heads", deep_decoder),
                _numbers(decoder, "decoder_ende_attention_heads", deep_decoder),
                [ATTENDED[written] for written in attended],
                strict=True,
            )
        ),
    )


def to_hat(network: Transformer) -> dict[str, dict[str, Any]]:
    """HAT's config form, lists as long as the network is deep; `from_hat` reads it back. Raises
    InvalidArchitecture for a network that the form cannot say."""
    if not all(layer.attended in _WRITTEN for layer in network.decoder):
        raise InvalidArchitecture(
            "HAT's form knows decoder layers that attend to the last one, two or three layers"
        )
    return {
        "encoder": {
            "encoder_embed_dim": network.encoder_width,
            "encoder_layer_num": len(network.encoder),
            "encoder_ffn_embed_dim": [layer.feed_forward for layer in network.encoder],
            "encoder_self_attention_heads": [layer.heads for layer in network.encoder],
        },
        "decoder": {
            "decoder_embed_dim": network.decoder_width,
            "decoder_layer_num": len(network.decoder),
            "decoder_ffn_embed_dim": [layer.feed_forward for layer in network.decoder],
            "decoder_self_attention_heads": [layer.heads for layer in network.decoder],
            "decoder_ende_attention_heads": [layer.cross_heads for layer in network.decoder],
            "decoder_arbitrary_ende_attn": [_WRITTEN[layer.attended] for layer in network.decoder],
        },
    }


def from_yaml(data: Mapping[str, Any]) -> Transformer:
    """The network that the YAML of a released architecture describes, read already. Raises
    InvalidArchitecture that names the entry."""
    entries = {
        f"{part}_{ours}": data.get(f"{part}-{theirs}-subtransformer")
        for part in ("encoder", "decoder")
        for ours, theirs in _YAML[part].items()
    }
    missing = [name for name, value in entries.items() if value is None]
    if missing:
        part, _, ours = missing[0].partition("_")
        raise InvalidArchitecture(f"the YAML has no {part}-{_YAML[part][ours]}-subtransformer")
    return from_hat(
        {
            part: {name: value for name, value in entries.items() if name.startswith(part)}
            for part in ("encoder", "decoder")
        }
    )


_SHARED: Final = {
    "embed_dim": "embed-dim",
    "layer_num": "layer-num",
    "ffn_embed_dim": "ffn-embed-dim-all",
    "self_attention_heads": "self-attention-heads-all",
}
_YAML: Final[dict[str, dict[str, str]]] = {
    "encoder": _SHARED,
    "decoder": {
        **_SHARED,
        "ende_attention_heads": "ende-attention-heads-all",
        "arbitrary_ende_attn": "arbitrary-ende-attn-all",
    },
}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    if not isinstance(found, Mapping):
        raise InvalidArchitecture(f"HAT's config form has the parts encoder and decoder; {name} is missing")
    return found


def _number(section: Mapping[str, Any], name: str) -> int:
    value = section.get(name)
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise InvalidArchitecture(f"{name} must be a whole number from 1 to {_LARGEST}")
    return value


def _numbers(section: Mapping[str, Any], name: str, layers: int) -> list[int]:
    """The first of a list, one a layer."""
    values = section.get(name)
    if not isinstance(values, list) or not all(type(v) is int for v in values) or len(values) < layers:
        raise InvalidArchitecture(f"{name} must list {layers} whole numbers, one for each layer in use")
    return values[:layers]
