"""Published transformers: the keys and shapes of HAT's checkpoints (a fork of fairseq) as ours, and back
again to a file for one network alone.

A checkpoint holds a whole super network, also where one architecture of it was released: the sizes are read
from its shapes, the architecture from its YAML, and the network is cut out. Weights of half precision become
float32. Nothing of a file is run, and the file never comes over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from supernets.encoder_decoder import EncoderDecoder
from supernets.errors import InvalidArchitecture, InvalidCheckpoint
from supernets.spaces.transformer import TransformerSizes
from supernets.state_dicts import State, read_state_dict

_NO_WEIGHTS: Final = re.compile(r"(encoder|decoder)\.(version|embed_positions\._float_tensor)")
_LAYER: Final = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")
_EMBEDDINGS: Final = {
    "encoder.embed_tokens.weight": "source_embedding.weight",
    "decoder.embed_tokens.weight": "target_embedding.weight",
    "decoder.embed_out": "output.weight",
}
_PARTS: Final = {
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn.out_proj": "cross_attention.output",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "fc1": "feed_forward.first",
    "fc2": "feed_forward.second",
    "final_layer_norm": "feed_forward_norm",
}
_PROJECTIONS: Final = {
    "self_attn.in_proj_weight": "attention.{}.weight",
    "self_attn.in_proj_bias": "attention.{}.bias",
    "encoder_attn.in_proj_weight": "cross_attention.{}.weight",
    "encoder_attn.in_proj_bias": "cross_attention.{}.bias",
}
_SHOWN: Final = 3


@dataclass(frozen=True)
class PublishedTransformer:
    """A super network with the weights of a file, in evaluation mode, and one line on what was read of it."""

    module: EncoderDecoder
    read: str


def load_published_transformer(path: Path | str, *, weights: str | None = None) -> PublishedTransformer:
    """A checkpoint of HAT's form. weights: which of several state dicts in the file.

    Raises InvalidCheckpoint for a damaged file or one of another kind, with what to do next.
    """
    found = read_state_dict(Path(path), weights)
    return PublishedTransformer(from_published_transformer(found.state), found.described)


def from_published_transformer(state: Mapping[str, Tensor]) -> EncoderDecoder:
    """The super network of a state dict in HAT's form, every key and shape checked, in evaluation mode.
    Raises InvalidCheckpoint."""
    ours = _renamed(state)
    module = EncoderDecoder(_sizes(ours))
    wanted = module.state_dict()
    missing, unknown = [key for key in wanted if key not in ours], [key for key in ours if key not in wanted]
    if missing or unknown:
        raise _mismatch(
            f"{len(missing)} tensors missing{_some(missing)}, {len(unknown)} unknown{_some(unknown)} (as we "
            "name them)"
        )
    for key, value in ours.items():
        if value.shape != wanted[key].shape:
            raise _mismatch(f"{key} has shape {tuple(value.shape)} instead of {tuple(wanted[key].shape)}")
        if not torch.isfinite(value).all():
            raise InvalidCheckpoint(f"{key} holds values that are not finite; download the checkpoint again")
    module.load_state_dict(ours)
    return module.eval()


def _renamed(state: Mapping[str, Tensor]) -> State:
    """By our names, in float32. Raises InvalidCheckpoint for keys of no transformer of this kind."""
    ours: State = {}
    unknown = []
    for key, value in state.items():
        if _NO_WEIGHTS.fullmatch(key):
            continue
        layer = _LAYER.fullmatch(key)
        name = layer[3] if layer else ""
        part, _, vector = name.rpartition(".")
        if key in _EMBEDDINGS:
            ours[_EMBEDDINGS[key]] = value.float()
        elif layer and name in _PROJECTIONS and value.shape[0] % 3 == 0:
            pattern, rows = _PROJECTIONS[name], value.shape[0] // 3
            ours[f"{layer[1]}.{layer[2]}.{pattern.format('query')}"] = value[:rows].float()
            ours[f"{layer[1]}.{layer[2]}.{pattern.format('key_value')}"] = value[rows:].float()
        elif layer and part in _PARTS and vector in ("weight", "bias"):
            ours[f"{layer[1]}.{layer[2]}.{_PARTS[part]}.{vector}"] = value.float()
        else:
            unknown.append(key)
    if unknown or not ours:
        raise _mismatch(
            f"{len(unknown)} tensors unknown{_some(unknown)}" if unknown else "it holds no weights"
        )
    return ours


def _sizes(ours: State) -> TransformerSizes:
    """What the shapes say. Raises InvalidCheckpoint."""
    try:
        source, target = ours["source_embedding.weight"], ours["target_embedding.weight"]
        tied = "output.weight" not in ours
        encoder, decoder = source.shape[1], target.shape[1]
        return TransformerSizes(
            source_tokens=source.shape[0],
            target_tokens=target.shape[0],
            encoder_width=encoder,
            decoder_width=decoder,
            encoder_feed_forward=_insides(ours, "encoder"),
            decoder_feed_forward=_insides(ours, "decoder"),
            qkv_width=ours["encoder.0.attention.query.weight"].shape[0],
            encoder_positions=encoder,
            decoder_positions=decoder,
            # A joined dictionary is one matrix, written under both names.
            joined=tied and torch.equal(source, target),
            tied=tied,
        )
    except KeyError as error:
        raise _mismatch(f"{error.args[0]} (our name) is missing") from None
    except InvalidArchitecture as error:
        raise _mismatch(str(error)) from None


def _insides(ours: State, part: str) -> tuple[int, ...]:
    """Feed-forward width of every layer; layers are numbered from 0 on without a gap, or KeyError."""
    pattern = re.compile(rf"{part}\.(\d+)\.")
    layers = {int(match[1]) for key in ours if (match := pattern.match(key))}
    return tuple(ours[f"{part}.{n}.feed_forward.first.weight"].shape[0] for n in range(len(layers)))


def _mismatch(what: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"the checkpoint is not of HAT's form: {what}. Give a SuperTransformer's file, such as "
        "checkpoint_best.pt, as HAT's code saves it"
    )


def _some(keys: list[str]) -> str:
    return f" ({', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})" if keys else ""
