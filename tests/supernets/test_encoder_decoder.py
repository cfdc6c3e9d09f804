"""Transformers against HAT's published code (vectors), and against themselves: cut out, step by step, bad input."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import fidelity_transformers
from latency_tables.generation import END, PADDING, beam_search
from supernets.encoder_decoder import (
    Dropout,
    EncoderDecoder,
    begun,
    cut_out_transformer,
    layer_parameters,
    padded,
    stepper,
)
from supernets.errors import InvalidArchitecture
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer, TransformerSizes

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hat_vectors.json.gz"
SIZES = TransformerSizes(
    source_tokens=20,
    target_tokens=20,
    encoder_width=24,
    decoder_width=24,
    encoder_feed_forward=(32, 32, 32),
    decoder_feed_forward=(32, 32),
    qkv_width=16,
    encoder_positions=24,
    decoder_positions=24,
)
LARGEST = Transformer(24, (EncoderLayer(32, 4),) * 3, 24, (DecoderLayer(32, 4, 4, 3),) * 2)
NARROW = Transformer(
    16,
    (EncoderLayer(16, 2), EncoderLayer(32, 4), EncoderLayer(24, 2)),
    24,
    (DecoderLayer(16, 4, 2, 2), DecoderLayer(32, 2, 4, 1)),
)
SHALLOW = replace(NARROW, encoder=NARROW.encoder[:1], decoder=(DecoderLayer(16, 4, 2, 3),))
NETWORKS = pytest.mark.parametrize(
    "network", [LARGEST, NARROW, SHALLOW], ids=["largest", "narrow", "shallow"]
)
SOURCES = padded([[5, 17, 9, 4, END], [7, END], [3, 11, 19, END]])
TARGETS = padded([[END, 8, 6], [END, 12], [END, 5, 5]])


def module_of(sizes: TransformerSizes = SIZES, **options: Any) -> EncoderDecoder:
    return EncoderDecoder(sizes, generator=torch.Generator().manual_seed(0), **options).eval()


@cache
def entry(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress(VECTORS.read_bytes()))["spaces"][name]


@pytest.mark.skipif(not VECTORS.exists(), reason="published vectors (../shared/data) are not here")
@pytest.mark.parametrize(
    ("space", "vector"), [("small", 0), ("small", 3), ("small-separate", 1), ("small-shallow", 0)]
)
def test_logits_and_beams_are_those_of_the_published_code(space: str, vector: int) -> None:
    found = entry(space)
    module = fidelity_transformers.from_published_transformer(fidelity_transformers.filled_state(found))
    result = fidelity_transformers.compare(module, found["vectors"][vector], found)
    assert max(result.logit, result.statistic, result.loss, result.padding) <= 2e-5
    assert (result.parameters_equal, result.features_equal, result.beams) == (True, True, True)


@pytest.mark.skipif(not VECTORS.exists(), reason="published vectors (../shared/data) are not here")
@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("encoder", "encoder_self_attention_heads", [4, 4, 4]),
        ("decoder", "decoder_arbitrary_ende_attn", [-1, -1, -1]),
        ("decoder", "decoder_ende_attention_heads", [2, 2, 2]),
    ],
)
def test_another_network_has_other_logits(part: str, name: str, value: list[int]) -> None:
    """The vectors can tell: the same weights with other heads or other attended layers are far off."""
    found = entry("small")
    module = fidelity_transformers.from_published_transformer(fidelity_transformers.filled_state(found))
    vector = json.loads(json.dumps(found["vectors"][0]))
    assert vector["config"][part][name] != value[: len(vector["config"][part][name])]
    vector["config"][part][name] = value
    assert fidelity_transformers.compare(module, vector, found).logit > 0.02


@NETWORKS
@pytest.mark.parametrize("separate", [False, True], ids=["joined", "separate"])
@torch.no_grad()
def test_a_network_cut_out_is_the_one_inside(network: Transformer, separate: bool) -> None:
    module = module_of(replace(SIZES, joined=False, tied=False, target_tokens=15) if separate else SIZES)
    target = TARGETS.clamp(max=14)
    cut = cut_out_transformer(module, network)
    assert torch.allclose(cut(SOURCES, target, network), module(SOURCES, target, network), atol=1e-5)
    assert layer_parameters(cut) == network.parameters(SIZES.qkv_width)
    assert {p.data_ptr() for p in cut.parameters()}.isdisjoint(p.data_ptr() for p in module.parameters())
    again = cut_out_transformer(cut, network)
    assert torch.equal(again(SOURCES, target, network), cut(SOURCES, target, network))


@NETWORKS
@torch.no_grad()
def test_step_by_step_is_teacher_forcing(network: Transformer) -> None:
    module = module_of()
    logits = module(SOURCES, TARGETS, network)
    cache_ = module.start(module.encode(SOURCES, network), network)
    for position, tokens in enumerate(TARGETS.unbind(1)):
        found, cache_ = module.step(tokens, cache_, network)
        real = tokens.ne(PADDING)
        assert torch.allclose(found[real], logits[real, position], atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_sentences_whatever_the_side_of_the_padding() -> None:
    module = module_of()
    together = module(SOURCES, TARGETS, NARROW)
    left = padded([row[row.ne(PADDING)].tolist() for row in SOURCES], left=True)
    assert torch.allclose(module(left, TARGETS, NARROW), together, atol=1e-5)
    for row in range(3):
        source, target = (batch[row, batch[row].ne(PADDING)][None] for batch in (SOURCES, TARGETS))
        alone = module(source, target, NARROW)
        assert torch.allclose(alone[0], together[row, : target.shape[1]], atol=1e-5)


@torch.no_grad()
def test_beams_follow_their_caches() -> None:
    """Scores of hypotheses, summed from teacher forcing, are those that the search found with reordered caches."""
    module = module_of()
    found = beam_search(stepper(module, SOURCES, NARROW), 3, beam=4, length_penalty=0.0, longest=6)
    for row, hypotheses in enumerate(found):
        assert len(hypotheses) == 4
        for hypothesis in hypotheses:
            target = torch.tensor([hypothesis.tokens])
            logp = module(SOURCES[row : row + 1], begun(target), NARROW)[0].log_softmax(1)
            assert hypothesis.score == pytest.approx(float(logp.gather(1, target.T).sum()), abs=1e-4)


@torch.no_grad()
def test_sentences_may_be_longer_than_any_before() -> None:
    """Positions have no end; those that are added are the ones that were there."""
    module = module_of()
    long = torch.full((1, 600), 5)
    found = module(SOURCES[:1], long, NARROW)
    assert found.shape == (1, 600, 20)
    assert torch.allclose(found[:, :3], module_of()(SOURCES[:1], long[:, :3], NARROW), atol=1e-5)


def test_gradients_reach_the_slices_alone() -> None:
    module = module_of().train()
    module(SOURCES, TARGETS, SHALLOW).square().sum().backward()
    grads = {key: p.grad for key, p in module.named_parameters()}
    assert grads["encoder.1.feed_forward.first.weight"] is None
    first = grads["encoder.0.feed_forward.first.weight"]
    assert first is not None and first[:16, :16].any(dim=0).all()
    assert not first[16:].any() and not first[:, 16:].any()
    module(SOURCES, TARGETS, LARGEST).square().sum().backward()
    assert [key for key, p in module.named_parameters() if p.grad is None] == []


def test_dropout_is_in_proportion_to_the_width_but_for_one_residual() -> None:
    """The published quirk: after the encoder's self attention the share is that of the largest width."""
    module = module_of(dropout=Dropout(0.3)).train()
    drop = module._drop(16, 24)
    ones = torch.ones(200_000)
    torch.manual_seed(0)
    assert float(drop(ones).eq(0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(drop.unscaled(ones).eq(0).float().mean()) == pytest.approx(0.3, abs=0.01)
    module.eval()
    with torch.no_grad():
        assert torch.equal(module(SOURCES, TARGETS, NARROW), module(SOURCES, TARGETS, NARROW))


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        (torch.tensor([[5, 20, END]]), TARGETS[:1], "a source token is not among the 20"),
        (torch.tensor([[5, -1, END]]), TARGETS[:1], "a source token is not among the 20"),
        (SOURCES[:1], torch.tensor([[END, 20]]), "a target token is not among the 20"),
        (torch.tensor([[PADDING, PADDING]]), TARGETS[:1], "padding alone"),
        (torch.zeros((1, 0), dtype=torch.int64), TARGETS[:1], "not empty"),
        (torch.tensor([5, END]), TARGETS[:1], r"shape \(B, T\)"),
        (torch.tensor([[0.5, 2.0]]), TARGETS[:1], "whole numbers"),
    ],
    ids=["too large", "negative", "target", "padding", "empty", "shape", "floats"],
)
def test_batches_that_are_none_are_refused(source: torch.Tensor, target: torch.Tensor, says: str) -> None:
    with pytest.raises(InvalidArchitecture, match=says):
        module_of()(source, target, LARGEST)


def test_a_network_of_other_sizes_is_refused() -> None:
    wide = replace(LARGEST, encoder_width=25)
    with pytest.raises(InvalidArchitecture, match="encoder: a width of 25"):
        module_of()(SOURCES, TARGETS, wide)
    with pytest.raises(InvalidArchitecture, match="encoder: a width of 25"):
        cut_out_transformer(module_of(), wide)


def test_decoder_inputs_are_the_targets_moved_on_by_one() -> None:
    target = padded([[8, 6, END], [12, END]])
    assert begun(target).tolist() == [[END, 8, 6], [END, 12, PADDING]]
