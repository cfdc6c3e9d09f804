"""`bespoke models classes`: recall, confusions, the picture; and what a card says of equals and controls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.cli.confusion import most_confused
from service.cli.models import print_card
from tests.service.cli.conftest import Bespoke, Server
from tests.service.cli.delivering import SIZE_ONLY, deliver

COUNTED: dict[str, Any] = {
    "by_class": [
        {"name": "cat", "samples": 10, "recall": 0.9},
        {"name": "dog", "samples": 4, "recall": 0.5},
        {"name": "[owl]", "samples": 0, "recall": None},
    ],
    "confusion": [[9, 1, 0], [2, 2, 0], [0, 0, 0]],
    "balanced": 0.7,
    "warnings": ["2 class(es) have fewer than 20 test samples"],
}


def card(**accuracy: Any) -> dict[str, Any]:
    return {**SIZE_ONLY, "accuracy": {**SIZE_ONLY["accuracy"], **accuracy}}


def test_classes_are_listed_and_drawn(bespoke: Bespoke, server: Server, tmp_path: Path) -> None:
    model = deliver(server.data_dir, card(**COUNTED), b"classes")
    file = tmp_path / "confusion.png"
    done = bespoke("models", "classes", model, "-o", file)
    assert done.status == 0, done.err
    told = " ".join(done.out.split())
    for said in ("90.0 %", "[owl]", "balanced accuracy 70.00 %", "2 of dog taken for cat", "fewer than 20"):
        assert said in told, told
    assert told.index("2 of dog") < told.index("1 of cat") and file.read_bytes().startswith(b"\x89PNG")
    found = json.loads(bespoke("models", "classes", model, "--json").out)
    assert found["confusion"] == COUNTED["confusion"] and found["balanced"] == 0.7
    assert found["confused"][0] == {"class": "dog", "taken_for": "cat", "samples": 2}


@pytest.mark.parametrize(
    ("accuracy", "option", "said"),
    [({}, (), "knows no classes"), ({**COUNTED, "confusion": None}, ("-o", "x.png"), "no confusions")],
    ids=["no classes", "no confusions"],
)
def test_a_card_without_them_is_said(
    bespoke: Bespoke, server: Server, accuracy: dict[str, Any], option: tuple[str, ...], said: str
) -> None:
    model = deliver(server.data_dir, card(**accuracy), said.encode())
    done = bespoke("models", "classes", model, *option)
    assert done.status != 0 and said in " ".join(done.err.split())


def test_the_most_frequent_confusions_come_first_and_right_answers_are_none() -> None:
    many = [[5 if row == column else row + column for column in range(9)] for row in range(9)]
    found = most_confused([str(n) for n in range(9)], many)
    assert len(found) == 5 and found[0] == {"class": "7", "taken_for": "8", "samples": 15}
    assert most_confused(["a", "b"], []) == [] == most_confused(["a", "b"], [[3, 0], [0, 3]])


def test_the_card_says_what_is_equal_and_what_the_weights_gained(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(
        {
            "id": "model_1",
            "device": "board",
            "budget_ms": 1.0,
            "latency": {"verified": True},
            "accuracy": {"equal": {"candidates": 3, "taken": "the fastest"}},
            "control": {
                "from_scratch": 0.766,
                "steps": 1500,
                "gain_points": -1.6,
                "standard_error": 1.3,
                "said": "the given weights cost 1.6 points here: train this data set from scratch",
            },
        }
    )
    told = " ".join(capsys.readouterr().out.split())
    assert "3 candidates differ by less than one standard error" in told and "the fastest was taken" in told
    assert "from scratch 76.60 % after 1,500 steps, standard error 1.3 points: the given weights cost" in told
