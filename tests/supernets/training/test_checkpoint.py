"""Checkpoints: whole or absent, checked, never shared by two processes."""

import pytest
import torch

from latency_tables.files import sha256_of
from supernets.errors import InvalidCheckpoint
from supernets.training.checkpoint import (
    attempt_folder,
    load_checkpoint,
    publish,
    read_folder,
    save_checkpoint,
)

TENSORS = {"weights": {"a": torch.arange(4.0)}, "optimiser": {"0/step": torch.tensor(3.0)}}


def test_round_trip_keeps_two(tmp_path):
    attempt = attempt_folder(tmp_path)
    for step in range(4):
        save_checkpoint(attempt, f"checkpoint-{step}", TENSORS, {"step": step})
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    found = load_checkpoint(tmp_path)
    assert found.state == {"step": 3} and torch.equal(found.tensors["weights"]["a"], TENSORS["weights"]["a"])
    assert found.damaged == ()


def test_nothing_there(tmp_path):
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", ["weights.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["cut", "remove", "empty"])
def test_damage_is_seen_and_the_one_before_is_taken(tmp_path, name, harm):
    attempt = attempt_folder(tmp_path)
    for step in range(2):
        save_checkpoint(attempt, f"checkpoint-{step}", TENSORS, {"step": step})
    path = tmp_path / "checkpoint-1" / name
    data = path.read_bytes()
    path.unlink()
    if harm != "remove":
        path.write_bytes(data[: len(data) // 2] if harm == "cut" else b"")
    with pytest.raises(InvalidCheckpoint):
        read_folder(tmp_path / "checkpoint-1")
    found = load_checkpoint(tmp_path)
    assert found.state == {"step": 0} and found.damaged == ("checkpoint-1",)


def test_a_frozen_process_cannot_write_after_another_took_over(tmp_path):
    frozen = attempt_folder(tmp_path)
    newer = attempt_folder(tmp_path)
    assert newer.name == "attempt-2" and not frozen.exists()
    with pytest.raises(InvalidCheckpoint, match="took this training over"):
        save_checkpoint(frozen, "checkpoint-0", TENSORS, {})
    save_checkpoint(newer, "checkpoint-0", TENSORS, {})
    assert load_checkpoint(tmp_path) is not None


def test_attempts_never_repeat_a_number(tmp_path):
    assert [attempt_folder(tmp_path).name for _ in range(3)] == ["attempt-1", "attempt-2", "attempt-3"]


def test_results_replace_older_ones(tmp_path):
    attempt = attempt_folder(tmp_path)
    publish(attempt, "x.json", data={"a": 1})
    digest = publish(attempt, "x.json", data={"a": 2})
    assert sha256_of(tmp_path / "x.json") == digest
    assert not list(attempt.iterdir())
