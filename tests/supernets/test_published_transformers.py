"""Checkpoints of HAT's form: half precision, options and meters beside the weights, and files that are others."""

from __future__ import annotations

import argparse
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latency_tables.generation import END
from supernets.encoder_decoder import cut_out_transformer, padded
from supernets.errors import InvalidCheckpoint
from supernets.published_transformers import from_published_transformer, load_published_transformer
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer

WIDTH, QKV, INSIDE = 16, 8, 24
NETWORK = Transformer(WIDTH, (EncoderLayer(INSIDE, 2),) * 2, WIDTH, (DecoderLayer(INSIDE, 2, 2, 2),))


def published(*, joined: bool = True, half: bool = False) -> dict[str, Tensor]:
    """A state dict of the published form."""
    generator = torch.Generator().manual_seed(0)

    def new(*shape: int) -> Tensor:
        found = 0.3 * torch.randn(shape, generator=generator)
        return found.half() if half else found

    state: dict[str, Tensor] = {
        "encoder.version": torch.tensor([3.0]),
        "decoder.version": torch.tensor([3.0]),
    }
    state["encoder.embed_tokens.weight"] = new(12, WIDTH)
    state["decoder.embed_tokens.weight"] = state["encoder.embed_tokens.weight"] if joined else new(10, WIDTH)
    if not joined:
        state["decoder.embed_out"] = new(10, WIDTH)
    for part, layers in (("encoder", 2), ("decoder", 1)):
        state[f"{part}.embed_positions._float_tensor"] = torch.zeros(1)
        for number in range(layers):
            at = f"{part}.layers.{number}."
            for attention in ("self_attn", "encoder_attn") if part == "decoder" else ("self_attn",):
                state[f"{at}{attention}.in_proj_weight"] = new(3 * QKV, WIDTH)
                state[f"{at}{attention}.in_proj_bias"] = new(3 * QKV)
                state[f"{at}{attention}.out_proj.weight"], state[f"{at}{attention}.out_proj.bias"] = (
                    new(WIDTH, QKV),
                    new(WIDTH),
                )
                for vector in ("weight", "bias"):
                    state[f"{at}{attention}_layer_norm.{vector}"] = new(WIDTH)
            state[f"{at}fc1.weight"], state[f"{at}fc1.bias"] = new(INSIDE, WIDTH), new(INSIDE)
            state[f"{at}fc2.weight"], state[f"{at}fc2.bias"] = new(WIDTH, INSIDE), new(WIDTH)
            for vector in ("weight", "bias"):
                state[f"{at}final_layer_norm.{vector}"] = new(WIDTH)
    return state


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Saves a state dict as HAT's trainer does, then forgets the modules that this took."""

    def save(state: dict[str, Tensor], **beside: Any) -> Path:
        meters = types.ModuleType("fairseq.meters")
        kinds = {
            name: type(name, (), {"__module__": "fairseq.meters"})
            for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
        }
        for name, kind in kinds.items():
            setattr(meters, name, kind)
        written = {name: kind() for name, kind in kinds.items()}
        written["AverageMeter"].__dict__.update(val=1.5, avg=2.5, sum=5.0, count=2)
        with monkeypatch.context() as context:
            context.setitem(sys.modules, "fairseq", types.ModuleType("fairseq"))
            context.setitem(sys.modules, "fairseq.meters", meters)
            file = tmp_path / "checkpoint_best.pt"
            torch.save(
                {
                    "args": argparse.Namespace(arch="transformersuper_wmt_en_de", encoder_embed_dim=WIDTH),
                    "model": state,
                    "optimizer_history": [{"num_updates": 3, "optimizer_name": "Adam"}],
                    "extra_state": {"train_iterator": {"epoch": 1}, "val_loss": 2.0, "train_meters": written},
                    "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []},
                    **beside,
                },
                file,
            )
        assert "fairseq" not in sys.modules
        return file

    return save


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "separate"])
@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
def test_a_checkpoint_becomes_a_super_network(
    checkpoint: Callable[..., Path], joined: bool, half: bool
) -> None:
    state = published(joined=joined, half=half)
    found = load_published_transformer(checkpoint(state))
    sizes, module = found.module.sizes, found.module
    assert (sizes.joined, sizes.tied, sizes.qkv_width) == (joined, joined, QKV)
    assert (sizes.encoder_feed_forward, sizes.decoder_feed_forward) == ((INSIDE,) * 2, (INSIDE,))
    assert {p.dtype for p in module.parameters()} == {torch.float32} and not module.training
    assert "read model" in found.read
    whole = state["decoder.layers.0.encoder_attn.in_proj_weight"].float()
    part = module.decoder[0].cross_attention
    assert torch.equal(torch.cat((part.query.weight, part.key_value.weight)), whole)
    network = Transformer(WIDTH, NETWORK.encoder[:1], WIDTH - 4, NETWORK.decoder)
    source, target = padded([[5, 9, END]]), padded([[END, 4]])
    with torch.no_grad():
        inside = module(source, target, network)
        alone = cut_out_transformer(module, network)(source, target, network)
    assert torch.allclose(inside, alone, atol=1e-5) and inside.shape == (1, 2, 12 if joined else 10)


def test_no_code_of_a_file_runs(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/sprung",)

    with pytest.raises(InvalidCheckpoint, match="more than tensors"):
        load_published_transformer(checkpoint(published(), extra=Trap()))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoder.layers.0.fc1.weight": None}, "encoder.0.feed_forward.first.weight .our name. is missing"),
        ({"encoder.layers.1.final_layer_norm.bias": None}, "1 tensors missing .encoder.1.feed_forward_norm"),
        ({"decoder.layers.0.encoder_attn.q_proj_weight": torch.zeros(QKV, WIDTH)}, "1 tensors unknown"),
        ({"decoder.layers.2.fc1.weight": torch.zeros(INSIDE, WIDTH)}, "missing"),
        (
            {"decoder.layers.0.fc1.bias": torch.zeros(3)},
            r"decoder.0.feed_forward.first.bias has shape \(3,\)",
        ),
        ({"encoder.embed_tokens.weight": None}, "source_embedding.weight .our name. is missing"),
        ({"decoder.layers.0.fc1.bias": torch.full((INSIDE,), torch.nan)}, "not finite"),
    ],
    ids=["no sizes", "missing", "unknown", "gap", "shape", "no embedding", "nan"],
)
def test_a_state_dict_of_another_kind_is_refused(change: dict[str, Tensor | None], says: str) -> None:
    state = {**published(), **{k: v for k, v in change.items() if v is not None}}
    for key in [k for k, v in change.items() if v is None]:
        del state[key]
    with pytest.raises(InvalidCheckpoint, match=says):
        from_published_transformer(state)


def test_a_picture_network_is_refused(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(InvalidCheckpoint, match="not of HAT's form: 2 tensors unknown"):
        load_published_transformer(checkpoint({"conv.weight": torch.zeros(3), "bn.weight": torch.zeros(3)}))
