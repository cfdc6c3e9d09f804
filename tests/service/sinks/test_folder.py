"""A delivered network as a folder: whole, readable by others, or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.sinks import files
from service.sinks.errors import PushFailed
from service.sinks.files import Release
from service.sinks.folder import push

CARD: dict[str, Any] = {
    "id": "mod_1",
    "device": "phone",
    "budget_ms": 2.0,
    "latency": {"predicted_ms": 1.8, "measured_ms": 1.9},
    "accuracy": {"measured": 0.975, "dataset": "digits", "split": "test", "samples": 360},
    "file": {"sha256": "a" * 64, "parameters": 1234, "macs": 5678, "opset": 20},
}


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    file = tmp_path / "in.onnx"
    file.write_bytes(b"the network")
    return file


def test_folder_holds_file_card_and_config(tmp_path: Path, onnx: Path) -> None:
    place = tmp_path / "a" / "b"
    assert push(Release(CARD, onnx), str(place)) == str(place)
    assert (place / "model.onnx").read_bytes() == b"the network"
    assert json.loads((place / "config.json").read_text())["card"] == CARD
    text = (place / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    meta = yaml.safe_load(head)
    assert meta["datasets"] == ["digits"]
    assert meta["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.975}]
    assert "measured 1.9 ms" in body and "97.50 %" in body
    assert place.stat().st_mode & 0o777 == 0o755


def test_folder_that_is_there_is_left_alone(tmp_path: Path, onnx: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(PushFailed, match="is there already"):
        push(Release(CARD, onnx), str(tmp_path / "taken"))
    assert list((tmp_path / "taken").iterdir()) == []


def test_push_that_breaks_off_leaves_nothing(
    tmp_path: Path, onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(card: dict[str, Any]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "readme", broken)
    with pytest.raises(KeyboardInterrupt):
        push(Release(CARD, onnx), str(tmp_path / "out" / "model"))
    assert list((tmp_path / "out").iterdir()) == []
