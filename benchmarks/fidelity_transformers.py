"""How exactly our transformers are HAT's, for `benchmarks.fidelity`.

The file (form of hat_vectors.json.gz) names, for each published super network, its state dict's keys and
shapes and what the published code computes for some sub-networks, all weights filled by one formula. Every
sub-network is run inside the super network and cut out of it, under teacher forcing and step by step with
caches.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_tables.generation import END, PADDING, beam_search
from supernets.encoder_decoder import (
    EncoderDecoder,
    cut_out_transformer,
    layer_parameters,
    padded,
    stepper,
)
from supernets.published_transformers import from_published_transformer
from supernets.spaces.transformer import Transformer, from_hat

LONGEST = 12  # tokens of a beam's hypothesis before its end, as in the file


@dataclass(frozen=True)
class Compared:
    """One sub-network. logit: the largest difference of one. statistic: of a mean, deviation, projection or
    encoder value. loss: of a summed loss, relative. padding: what the side of the padding changes of a logit.
    beams: None where the file has none."""

    logit: float
    statistic: float
    loss: float
    padding: float
    parameters_equal: bool
    features_equal: bool
    beams: bool | None


def filled_state(entry: Mapping[str, Any]) -> dict[str, Tensor]:
    """The published state dict, filled by the formula; a joined dictionary is one matrix under two names."""
    names = (
        {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"} if entry["joined_dictionary"] else {}
    )
    return {key: _filled(names.get(key, key), shape) for key, shape in entry["state_dict"].items()}


def signal(size: int, key: str | None = None) -> np.ndarray:
    """The formula's numbers in [-1, 1), shape (size,)."""
    p = 0.0 if key is None else (zlib.crc32(key.encode()) % 1_000_003) * 0.001
    u = np.sin(12.9898 * np.arange(size, dtype=np.float64) + p) * 43758.5453
    return 2 * (u - np.floor(u)) - 1


def _filled(key: str, shape: list[int]) -> Tensor:
    s = signal(int(np.prod(shape)), key).reshape(shape)
    if len(shape) == 2:
        values = s * np.sqrt(6 / shape[1])
    else:
        values = 0.05 * s if key.endswith("bias") else 1 + 0.1 * s
    return torch.tensor(values, dtype=torch.float32)


def compare_space(entry: Mapping[str, Any]) -> list[Compared]:
    """Every sub-network of one super network of the file."""
    module = from_published_transformer(filled_state(entry))
    return [compare(module, vector, entry) for vector in entry["vectors"]]


@torch.no_grad()
def compare(module: EncoderDecoder, vector: Mapping[str, Any], entry: Mapping[str, Any]) -> Compared:
    """One sub-network of a super network. entry: with the sources and decoder inputs."""
    network = from_hat(vector["config"])
    cut = cut_out_transformer(module, network)
    source, target = padded(entry["sources"], left=True), padded(entry["decoder_inputs"])
    real = target.ne(PADDING)
    logits = [
        *(each(source, target, network) for each in (module, cut)),
        _stepped(cut, source, target, network),
    ]
    wanted = vector["logits"]
    found = cut(padded(entry["sources"]), target, network)
    beams = None
    if "beam" in vector:
        hypotheses = beam_search(
            stepper(cut, source, network), len(source), beam=5, length_penalty=0.6, longest=LONGEST
        )
        beams = [list(best[0].tokens) for best in hypotheses] == vector["beam"]["tokens"]
    return Compared(
        logit=max(_furthest(given, wanted["rows"]) for given in logits),
        statistic=max(
            *(_statistics(given[real], wanted) for given in logits),
            *_encoder(module, source, network, vector),
        ),
        loss=_losses(logits[1], target, vector),
        padding=float((found - logits[1])[real].abs().max()),
        parameters_equal=layer_parameters(cut)
        == vector["parameters"]
        == network.parameters(cut.sizes.qkv_width),
        features_equal=bool(np.allclose(network.features(), vector["features"], atol=1e-5)),
        beams=beams,
    )


def published_equal(published: list[Mapping[str, Any]], spaces: Mapping[str, Any]) -> bool:
    """Whether the released architectures have HAT's counts of parameters and its predictor's inputs."""
    return all(
        (network := from_hat(each["config"])).parameters(spaces[each["super"]]["super"]["qkv_dim"])
        == each["parameters"]
        and np.allclose(network.features(), each["features"], atol=1e-5)
        for each in published
    )


def _stepped(module: EncoderDecoder, source: Tensor, target: Tensor, network: Transformer) -> Tensor:
    """Logits of the same positions, fed one token at a time."""
    cache = module.start(module.encode(source, network), network)
    found = []
    for tokens in target.unbind(dim=1):
        logits, cache = module.step(tokens, cache, network)
        found.append(logits)
    return torch.stack(found, dim=1)


def _furthest(logits: Tensor, rows: list[Mapping[str, Any]]) -> float:
    return max(
        float((logits[row["sentence"], row["position"]].double() - torch.tensor(row["values"])).abs().max())
        for row in rows
    )


def _statistics(values: Tensor, wanted: Mapping[str, Any]) -> float:
    """Largest difference of mean, standard deviation and projection; values in the order of the sentences."""
    flat = values.double().numpy().ravel()
    found = {"mean": flat.mean(), "std": flat.std(), "projection": np.mean(flat * signal(len(flat)))}
    return max(abs(float(found[name]) - wanted[name]) for name in found)


def _encoder(
    module: EncoderDecoder, source: Tensor, network: Transformer, vector: Mapping[str, Any]
) -> list[float]:
    """Differences of the outputs of the last three layers of the super network."""
    layers, real = module.encode(source, network).layers, source.ne(PADDING)
    names = ("last", "second_last", "third_last")
    found = [
        _statistics(layer[real], vector["encoder"][name])
        for name, layer in zip(names, reversed(layers), strict=False)
    ]
    ends = layers[-1][source.eq(END)][:, :6].double()
    wanted = torch.tensor(vector["encoder"]["last"]["first_6_features_of_each_sentence_end"])
    return [*found, float((ends - wanted).abs().max())]


def _losses(logits: Tensor, target: Tensor, vector: Mapping[str, Any]) -> float:
    """Largest relative difference of the two losses; targets are the decoder's inputs moved on by one, then
    END."""
    real = target.ne(PADDING)
    moved = torch.cat((target[:, 1:], torch.full_like(target[:, :1], PADDING)), dim=1)
    wanted = torch.where(moved.eq(PADDING) & real, END, moved)[real]
    logp = logits[real].double().log_softmax(dim=-1)
    nll = float(-logp.gather(1, wanted[:, None]).sum())
    smooth = 0.9 * nll - 0.1 * float(logp.sum()) / logp.shape[1]
    pairs = ((nll, vector["nll_sum"]), (smooth, vector["label_smoothed_loss_sum"]))
    return max(abs(ours / theirs - 1) for ours, theirs in pairs)
