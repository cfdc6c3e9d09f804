"""What the command line says of a delivered network."""

from __future__ import annotations

from typing import Any

import pytest

from service.cli.models import print_card


@pytest.mark.parametrize(
    ("tuning", "line"),
    [
        (None, None),
        (
            {"epochs": 5, "seconds": 41.2, "validation_before": 0.981, "validation": 0.986, "kept": True},
            "98.10 % to 98.60 %",
        ),
        (
            {"epochs": 5, "seconds": 1.0, "validation_before": 0.981, "validation": 0.97, "kept": False},
            "as it was cut out",
        ),
        (
            {"epochs": 5, "validation_before": 0.981, "kept": False, "failure": "not finite [in] epoch 1"},
            "not finite [in] epoch 1",
        ),
    ],
)
def test_the_card_says_what_training_on_has_brought(
    capsys: pytest.CaptureFixture[str], tuning: dict[str, Any] | None, line: str | None
) -> None:
    print_card(
        {
            "id": "model_1",
            "device": "board",
            "budget_ms": 1.0,
            "latency": {"verified": True},
            "tuning": tuning,
        }
    )
    told = " ".join(capsys.readouterr().out.split())
    assert ("tuning" in told) == (tuning is not None) and (line is None or line in told)


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        (None, "accuracy predicted 91.00 %, measured 90.00 % on 240 samples of words (test)"),
        (
            {"name": "balanced_accuracy", "higher_is_better": True, "lowest": 0.0, "highest": 1.0},
            "balanced accuracy predicted 91.00 %, measured 90.00 % on 240 samples",
        ),
        (
            {"name": "error_hz", "higher_is_better": False, "lowest": 0.0, "highest": None},
            "error hz predicted 0.91, measured 0.9 on 240 samples",
        ),
    ],
    ids=["of earlier versions", "share", "number"],
)
def test_the_card_says_by_which_metric_a_network_is_judged(
    capsys: pytest.CaptureFixture[str], metric: dict[str, Any] | None, line: str
) -> None:
    accuracy = {"predicted": 0.91, "measured": 0.9, "samples": 240, "dataset": "words", "split": "test"}
    given = {"name": "input", "layout": "NCL", "dtype": "float32", "shape": [1, 1, 256], "steps": []}
    print_card(
        {
            "id": "model_1",
            "device": "board",
            "budget_ms": 1.0,
            "latency": {"verified": True},
            "accuracy": accuracy if metric is None else {**accuracy, "metric": metric},
            "input": given,
        }
    )
    told = " ".join(capsys.readouterr().out.split())
    assert line in told and "float32 NCL 1x1x256:" in told
