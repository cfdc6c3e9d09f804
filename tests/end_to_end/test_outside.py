"""Families, a space, a task and a data set of somebody else, from a profile to a verified network over the service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from latency_tables.operators import Operator
from tests.contracts.tones import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_search_job_for_sounds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.tones_job", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd=ROOT,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    card = json.loads((tmp_path / "card.json").read_text())
    top = card["architecture"]["stages"][2]
    assert card["architecture"]["space"] == "tones" and top["blocks"] == [{"kernel": 5}]
    assert card["latency"]["verified"] and card["latency"]["measured_ms"] <= card["budget_ms"]
    assert card["search"]["optimal"] and card["search"]["predictor"]["metric"]["name"] == "balanced_accuracy"
    assert card["input"]["layout"] == "NCL" and card["snippet"] is None, "no script for pictures"
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape == [1, 1, 256]
    (outputs,) = session.run(None, {given.name: np.zeros((1, 1, 256), np.float32)})
    assert outputs.shape == (1, 5) and np.isfinite(outputs).all()
    assert "tones" not in sys.modules, "nothing of it is known to this process"
    with pytest.raises(ValueError, match="unknown operator family"):
        Operator.parse("conv1d/in=256x1/out=8/kernel=5/stride=4/residual=0")
