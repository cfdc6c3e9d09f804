"""Limits besides the latency, as people see them: on the typed card, in the summary of the command line, in requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.cli.models import print_card
from service.client.answers import Card
from service.client.typed import Bespoke

P95 = {
    "name": "latency_p95_ms",
    "limit": 16.0,
    "predicted": 14.0,
    "upper": 15.5,
    "confidence": 0.95,
    "measured": 15.0,
}
ENERGY = {
    "name": "energy_mj",
    "limit": 5.0,
    "predicted": 4.25,
    "upper": None,
    "confidence": None,
    "measured": None,
}
LATENCY = {
    "predicted_ms": 11.0,
    "upper_ms": 11.8,
    "measured_ms": 11.5,
    "verified": True,
    "further": [P95, ENERGY],
}


def card(**latency: Any) -> dict[str, Any]:
    told = {**LATENCY, **latency}
    return {
        "id": "model_1",
        "job_id": "job_1",
        "device": "pixel7",
        "budget_ms": 12.0,
        "latency": told,
        "devices": [{"device": "pixel7", "budget_ms": 12.0, **told}],
        "accuracy": {
            "predicted": 0.98,
            "validation": 0.98,
            "measured": 0.97,
            "dataset": "digits",
            "split": "test",
            "samples": 360,
        },
        "constraints": [
            {"name": name, "limit": 1, "value": 1} for name in ("latency_ms", "latency_p95_ms", "macs")
        ],
        "file": {"sha256": "a" * 64, "size_bytes": 10, "parameters": 1, "macs": 1, "opset": 20},
        "search": {"strategy": "exact", "optimal": True},
        "architecture": {},
    }


@pytest.mark.parametrize(
    ("latency", "kept"),
    [
        pytest.param({}, True, id="all kept"),
        pytest.param({"further": [{**P95, "measured": 16.5}, ENERGY]}, False, id="p95 broken"),
        pytest.param({"measured_ms": 12.5}, False, id="latency broken"),
        pytest.param({"measured_ms": None, "further": [{**P95, "measured": None}]}, None, id="not measured"),
        pytest.param({"further": None}, True, id="a card of an earlier version"),
    ],
)
def test_a_budget_is_kept_where_all_that_was_measured_of_it_is(
    latency: dict[str, Any], kept: bool | None
) -> None:
    assert Card.model_validate(card(**latency)).kept is kept


def test_the_typed_card_shows_each_limit_with_what_is_known_best() -> None:
    shown = Card.model_validate(card())._repr_html_()
    assert "15 of 16" in shown and "4.25 of 5" in shown


def test_the_summary_names_further_limits_once(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(card())
    lines = capsys.readouterr().out.splitlines()
    (p95,) = [line for line in lines if "latency_p95_ms" in line]
    assert p95.split() == [
        "latency_p95_ms",
        "predicted",
        "14,",
        "upper",
        "15.5,",
        "measured",
        "15",
        "of",
        "16",
    ]
    assert any(line.split() == ["energy_mj", "predicted", "4.25", "of", "5"] for line in lines)
    assert any(line.strip().startswith("macs") for line in lines)


def test_a_search_takes_milliseconds_or_whole_budgets() -> None:
    asked: list[dict[str, Any]] = []
    calls: Any = SimpleNamespace(search=asked.append)
    Bespoke(calls).search(
        "sup_1", {"pi5": 30.0, "pixel7": {"latency_ms": 12.0, "latency_p95_ms": 16.0, "energy_mj": 5.0}}
    )
    first, second = asked[0]["targets"]
    assert first == {"device": "pi5", "budget": {"latency_ms": 30.0}}
    assert second["budget"] == {"latency_ms": 12.0, "latency_p95_ms": 16.0, "energy_mj": 5.0}
