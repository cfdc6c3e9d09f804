"""Transformers as plain values: counts, HAT's two forms, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from supernets.errors import InvalidArchitecture
from supernets.spaces.transformer import (
    DecoderLayer,
    EncoderLayer,
    Transformer,
    TransformerSizes,
    from_hat,
    from_yaml,
    to_hat,
)

# A released architecture: HAT_wmt14ende_raspberrypi@3.5s, 25.2 M parameters, 2 x 1.2 G multiply-accumulates.
RELEASED: dict[str, dict[str, Any]] = {
    "encoder": {
        "encoder_embed_dim": 512,
        "encoder_layer_num": 6,
        "encoder_ffn_embed_dim": [1024, 3072, 3072, 2048, 2048, 2048],
        "encoder_self_attention_heads": [4, 8, 4, 4, 4, 8],
    },
    "decoder": {
        "decoder_embed_dim": 512,
        "decoder_layer_num": 1,
        "decoder_ffn_embed_dim": [3072],
        "decoder_self_attention_heads": [8],
        "decoder_ende_attention_heads": [8],
        "decoder_arbitrary_ende_attn": [-1],
    },
}
SIZES = TransformerSizes(
    source_tokens=100,
    target_tokens=100,
    encoder_width=640,
    decoder_width=640,
    encoder_feed_forward=(3072,) * 6,
    decoder_feed_forward=(3072,) * 6,
    qkv_width=512,
    encoder_positions=640,
    decoder_positions=640,
)


def test_a_released_architecture_has_the_published_counts() -> None:
    network = from_hat(RELEASED)
    assert network.parameters(512) == 25_217_536
    assert network.features()[2:4] == pytest.approx((2218.666667, 5.333333))
    assert to_hat(network) == RELEASED


def test_macs_are_those_of_every_matrix_product() -> None:
    """One layer each with sizes of one, counted by hand."""
    network = Transformer(2, (EncoderLayer(3, 1),), 5, (DecoderLayer(7, 1, 1, 2),))
    encoder = 11 * (4 * 4 * 2 + 2 * 2 * 3) + 2 * 11 * 11 * 4
    own = 13 * (4 * 4 * 5 + 2 * 5 * 7) + 2 * 13 * 13 * 4
    cross = 13 * 2 * 4 * 5 + 2 * (11 * 2 * 4 * 2 + 2 * 11 * 13 * 4)
    assert network.macs(4, source_tokens=11, target_tokens=13) == encoder + own + cross


def test_lists_may_be_longer_than_the_layers_in_use() -> None:
    config = copy.deepcopy(RELEASED)
    config["decoder"]["decoder_arbitrary_ende_attn"] = [-1, 1, 2, 1, -1, 2]
    assert from_hat(config) == from_hat(RELEASED)


def test_the_yaml_of_a_released_architecture() -> None:
    yaml = {
        "encoder-embed-dim-subtransformer": 512,
        "encoder-layer-num-subtransformer": 6,
        "encoder-ffn-embed-dim-all-subtransformer": [1024, 3072, 3072, 2048, 2048, 2048],
        "encoder-self-attention-heads-all-subtransformer": [4, 8, 4, 4, 4, 8],
        "decoder-embed-dim-subtransformer": 512,
        "decoder-layer-num-subtransformer": 1,
        "decoder-ffn-embed-dim-all-subtransformer": [3072],
        "decoder-self-attention-heads-all-subtransformer": [8],
        "decoder-ende-attention-heads-all-subtransformer": [8],
        "decoder-arbitrary-ende-attn-all-subtransformer": [-1],
        "arch": "transformersuper_wmt_en_de",
    }
    assert from_yaml(yaml) == from_hat(RELEASED)
    del yaml["decoder-ende-attention-heads-all-subtransformer"]
    with pytest.raises(InvalidArchitecture, match="no decoder-ende-attention-heads-all-subtransformer"):
        from_yaml(yaml)


@pytest.mark.parametrize(
    ("part", "name", "value", "says"),
    [
        ("decoder", "decoder_arbitrary_ende_attn", [0], "0 is none of -1, 1, 2"),
        ("decoder", "decoder_layer_num", 2, "decoder_arbitrary_ende_attn must list 2"),
        ("encoder", "encoder_layer_num", 7, "encoder_ffn_embed_dim must list 7"),
        ("encoder", "encoder_layer_num", 0, "encoder_layer_num must be a whole number from 1"),
        ("encoder", "encoder_embed_dim", "512", "encoder_embed_dim must be a whole number"),
        ("encoder", "encoder_embed_dim", True, "encoder_embed_dim must be a whole number"),
        ("decoder", "decoder_ffn_embed_dim", [3072.0], "decoder_ffn_embed_dim must list 1 whole"),
        ("decoder", "decoder_ffn_embed_dim", None, "decoder_ffn_embed_dim must list 1 whole"),
    ],
)
def test_a_config_that_is_wrong_is_refused_by_name(part: str, name: str, value: Any, says: str) -> None:
    config = copy.deepcopy(RELEASED)
    config[part][name] = value
    with pytest.raises(InvalidArchitecture, match=says):
        from_hat(config)


def test_a_config_without_a_part_is_refused() -> None:
    with pytest.raises(InvalidArchitecture, match="decoder is missing"):
        from_hat({"encoder": RELEASED["encoder"]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoder_width": 641}, "encoder: a width of 641 is not in 1 to 640"),
        ({"decoder_width": 0}, "decoder: a width of 0"),
        ({"decoder": ()}, "decoder: 0 layers, there are 1 to 6"),
        ({"encoder": (EncoderLayer(1024, 4),) * 7}, "encoder: 7 layers"),
        ({"encoder": (EncoderLayer(4096, 4),) * 6}, "encoder layer 0: a feed-forward width of 4096"),
        ({"encoder": (EncoderLayer(1024, 3),) * 6}, "3 heads do not divide the 512"),
        ({"decoder": (DecoderLayer(1024, 4, 5, 1),)}, "5 heads do not divide"),
        ({"decoder": (DecoderLayer(1024, 4, 4, 7),)}, "attends to 7 of 6 encoder layers"),
        ({"decoder": (DecoderLayer(1024, 4, 4, 0),)}, "attends to 0 of 6"),
    ],
)
def test_a_network_that_the_sizes_do_not_hold_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArchitecture, match=says):
        SIZES.check(replace(from_hat(RELEASED), **change))


def test_layers_that_are_left_out_count_as_identities() -> None:
    shallow = replace(
        from_hat(RELEASED), encoder=(EncoderLayer(1024, 4),), decoder=(DecoderLayer(1024, 4, 4, 3),)
    )
    cut = SIZES.cut(shallow)
    assert (cut.identities, cut.encoder_feed_forward, cut.encoder_positions) == (5, (1024,), 640)
    cut.check(shallow)
    assert cut.cut(shallow) == cut


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target_tokens": 90}, "share one matrix"),
        ({"tied": False}, "share one matrix"),
        ({"decoder_positions": 700}, "one super width"),
        ({"encoder_positions": 320, "decoder_positions": 320}, "positions are an even number"),
        ({"encoder_feed_forward": ()}, "at least one encoder"),
        ({"qkv_width": 0}, "whole numbers from 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArchitecture, match=says):
        replace(SIZES, **change)


def test_hats_form_cannot_say_everything() -> None:
    with pytest.raises(InvalidArchitecture, match="last one, two or three"):
        to_hat(replace(from_hat(RELEASED), decoder=(DecoderLayer(1024, 4, 4, 4),)))
