"""The cross-device matrix: order of its rows, its files, the colours that say which budgets a network
keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.cli.matrix import NoMatrix, matrix_of, print_matrix, save_matrix
from service.cli.models import _proof
from service.cli.pictures import BROKEN, KEPT, PARTLY, UNKNOWN, _kept
from tests.service.cli.conftest import Bespoke


def row(device: str, budget_ms: float, phone: float | None, board: float) -> dict[str, object]:
    return {
        "model_id": "m",
        "device": device,
        "budget_ms": budget_ms,
        "latency_ms": {"phone": phone, "board": board},
    }


RESULT = {
    "matrix": {
        "devices": ["phone", "board"],
        "networks": [row("board", 3.0, None, 2.9), row("phone", 2.0, 1.9, 4.0), row("phone", 1.0, 0.9, 2.5)],
    }
}


def test_rows_stand_by_device_and_budget() -> None:
    found = matrix_of(RESULT)
    assert [(n["device"], n["budget_ms"]) for n in found["networks"]] == [
        ("phone", 1.0),
        ("phone", 2.0),
        ("board", 3.0),
    ]
    assert matrix_of({}) == {"devices": [], "networks": []}


def test_it_is_printed_and_written_as_json_and_as_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = matrix_of(RESULT)
    print_matrix(found)
    printed = capsys.readouterr().out
    assert "made for" in printed and "board 3 ms" in printed and "2.9" in printed
    save_matrix(found, tmp_path / "new" / "matrix.json")
    assert json.loads((tmp_path / "new" / "matrix.json").read_text()) == found
    save_matrix(found, tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(NoMatrix, match=r"\.json or a \.png"):
        save_matrix(found, tmp_path / "matrix.txt")


def test_a_cell_says_how_many_budgets_of_the_device_are_kept() -> None:
    assert [_kept(value, [1.0, 2.0]) for value in (1.0, 1.5, 2.1, None)] == [KEPT, PARTLY, BROKEN, UNKNOWN]


def test_a_card_says_what_is_proven() -> None:
    assert _proof({"optimal": True}) == "proven optimal"
    assert _proof({"optimal": False, "gap": None}) == "not proven optimal"
    gates = {"warmup_epochs": 1, "epochs": 10}
    assert _proof({"gap": 0.012, "gates": gates}) == "gates trained for 1 + 10 epochs, gap 0.012"


def test_a_job_that_is_not_there_has_none(bespoke: Bespoke) -> None:
    done = bespoke("jobs", "matrix", "job_unknown")
    assert done.status == 1 and "bespoke jobs list" in done.err
