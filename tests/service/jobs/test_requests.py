"""What jobs were asked for: kept as JSON, read back with its types, by this version and by older ones."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest

from latency_tables.errors import InvalidForm
from service.db.states import JobKind
from service.jobs.requests import (
    CheckRequest,
    PinnedDevice,
    ProfileRequest,
    SearchRequest,
    SearchTarget,
    SupernetRequest,
    read,
    stored,
)
from tests.recorded.walk import DATABASE

KINDS = {
    JobKind.SEARCH: SearchRequest,
    JobKind.SUPERNET: SupernetRequest,
    JobKind.PROFILE: ProfileRequest,
    JobKind.CHECK: CheckRequest,
}
BUDGET = {"latency_ms": 0.5, "size_bytes": 100_000}
REQUESTS = [
    SearchRequest("sup_1", (SearchTarget("board", "dev_1", "tab_1", BUDGET),)),
    SearchRequest(
        "sup_1",
        (
            SearchTarget(
                group=(PinnedDevice("a", "d1", "t1", BUDGET), PinnedDevice("b", "d2", "t2", BUDGET))
            ),
            SearchTarget(
                budget={"macs": 1000}, exclude={"kernel": (3, 5), "zero": (True,)}, resolutions=(8, 12)
            ),
        ),
        "gradient",
        0.95,
        5,
        False,
        gate_epochs=2,
        tune_epochs=1,
        remarks=("another data set of that name",),
    ),
    SupernetRequest("sup_1"),
    ProfileRequest("dev_1", "board", "digits-mbv3", 10, (8, 12), 24, ("conv",)),
    CheckRequest("dev_1", "board", 8),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: type(r).__name__)
def test_a_request_is_read_back_as_it_was(request_: object) -> None:
    kept = json.loads(json.dumps(stored(request_), allow_nan=False))
    assert read(type(request_), kept) == request_


def test_what_is_not_asked_for_is_not_written_but_for_the_confidence() -> None:
    kept = stored(REQUESTS[0])
    assert kept["confidence"] is None and "gate_epochs" not in kept and kept["remarks"] == []
    (target,) = kept["targets"]  # type: ignore[misc]
    assert target == {
        "device": "board", "device_id": "dev_1", "table_id": "tab_1", "budget": BUDGET,
    }  # fmt: skip


def test_a_field_of_a_later_version_is_refused_and_not_left_out() -> None:
    kept = stored(REQUESTS[0])
    with pytest.raises(InvalidForm, match="SearchRequest, which has no energy_budget"):
        read(SearchRequest, {**kept, "energy_budget": 1})
    with pytest.raises(InvalidForm, match="supernet_id of SearchRequest"):
        read(SearchRequest, {"targets": []})


@pytest.mark.parametrize(
    "target", [*REQUESTS[0].targets, *REQUESTS[1].targets], ids=["device", "group", "limits"]
)
def test_a_target_names_its_devices_and_all_budgets(target: SearchTarget) -> None:
    members = target.members()
    assert len(members) == (2 if target.group else 1 if target.device else 0)
    assert {name for budget in target.budgets() for name in budget} >= set(target.budget)


def test_the_requests_of_the_recorded_installation_are_read(tmp_path: Path) -> None:
    (tmp_path / "old.db").write_bytes(gzip.decompress(DATABASE.read_bytes()))
    with sqlite3.connect(tmp_path / "old.db") as connection:
        rows = connection.execute("SELECT kind, request FROM jobs").fetchall()
    assert {kind for kind, _ in rows} == set(KINDS)
    for kind, text in rows:
        found = read(KINDS[JobKind(kind)], json.loads(text))
        assert isinstance(found, KINDS[JobKind(kind)])
