"""`bespoke models push` at the command line; the places themselves are in tests/service/sinks."""

from __future__ import annotations

import json
from pathlib import Path

from tests.service.cli.conftest import Bespoke, Server
from tests.service.cli.delivering import SIZE_ONLY, deliver


def test_unknown_place_and_unknown_model_say_what_to_do(bespoke: Bespoke, tmp_path: Path) -> None:
    unknown = bespoke("models", "push", "mod_1", "--to", "cloud")
    assert unknown.status == 1
    assert "known are folder, huggingface, mlflow" in unknown.err
    missing = bespoke("models", "push", "mod_" + "0" * 32, "--place", tmp_path / "x")
    assert missing.status == 1
    assert not (tmp_path / "x").exists()


def test_a_network_for_no_device_is_handed_over_like_any_other(
    bespoke: Bespoke, server: Server, tmp_path: Path
) -> None:
    model_id = deliver(server.data_dir, SIZE_ONLY, b"a small network")
    done = bespoke("models", "push", model_id, "--place", tmp_path / "out")
    assert done.status == 0, done.err
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"a small network"
    text = (tmp_path / "out" / "README.md").read_text()
    assert "for no device alone" in text and "None" not in text.split("---")[2]
    card = json.loads((tmp_path / "out" / "config.json").read_text())["card"]
    assert card["id"] == model_id and card["device"] is None
