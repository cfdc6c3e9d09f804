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
