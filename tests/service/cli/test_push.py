"""`bespoke models push` at the command line; the places themselves are in tests/service/sinks."""

from __future__ import annotations

from pathlib import Path

from tests.service.cli.conftest import Bespoke


def test_unknown_place_and_unknown_model_say_what_to_do(bespoke: Bespoke, tmp_path: Path) -> None:
    unknown = bespoke("models", "push", "mod_1", "--to", "cloud")
    assert unknown.status == 1
    assert "known are folder, huggingface, mlflow" in unknown.err
    missing = bespoke("models", "push", "mod_" + "0" * 32, "--place", tmp_path / "x")
    assert missing.status == 1
    assert not (tmp_path / "x").exists()
