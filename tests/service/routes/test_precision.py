"""Precision over HTTP: what a search and a profile ask for, what is refused, and that old requests stay as they
were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.db.models import Job
from service.jobs.requests import ProfileRequest, SearchRequest, read
from service.schemas.devices import ProfileIn
from service.schemas.searches import SearchIn
from supernets.delivery.catalog import FORMATS
from supernets.delivery.onnx_format import OnnxFormat
from supernets.spaces.lowering import all_operators
from tests.service.api import CONTEXT, SPACE, Api, is_problem, search_request, table_rows

MIXED = SPACE.with_precisions(("float32", "int8"))
INT8 = SPACE.with_precisions(("int8",))


def wanted(supernet: str, precision: str | None, budget_ms: float = 50.0, **more: Any) -> dict[str, Any]:
    body = search_request(supernet, budget_ms, **more)
    if precision is not None:
        body["targets"][0]["precision"] = precision
    return body


def request_of(api: Api, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    with api.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        found: dict[str, Any] = row.request
        return found


def test_the_precision_of_a_search_is_kept_with_its_target(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone", table_rows(MIXED))
    supernet = api.add_supernet()
    for precision in ("mixed", "int8"):
        stored = request_of(api, api.post("/v1/searches", wanted(supernet, precision)))
        assert stored["targets"][0]["precision"] == precision
        assert read(SearchRequest, stored).targets[0].precision == precision
    coverage = api.get("/v1/devices/phone").json()["coverage"]
    (covered,) = [c for c in coverage if c["space"] == SPACE.name]
    assert covered["precisions"] == {"int8": [8, 12, 16], "mixed": [8, 12, 16]}


def test_what_was_asked_before_is_stored_and_known_as_before(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone")
    supernet = api.add_supernet()
    plain = request_of(api, api.post("/v1/searches", wanted(supernet, None)))
    asked = request_of(api, api.post("/v1/searches", wanted(supernet, "float32")))
    assert plain == asked and "precision" not in plain["targets"][0]
    dumped = SearchIn.model_validate(wanted(supernet, "float32")).model_dump()
    assert "precision" not in dumped["targets"][0], "it is what Idempotency-Keys and jobs files are known by"
    assert "precisions" not in ProfileIn.model_validate({"space": SPACE.name}).model_dump()
    profile = request_of(api, api.post("/v1/devices/phone/profiles", {"space": SPACE.name}))
    assert "precisions" not in profile


def test_a_table_without_the_rows_is_refused_with_what_is_missing_and_what_to_run(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone")
    supernet = api.add_supernet()
    for precision, space in (("mixed", MIXED), ("int8", INT8)):
        refused = is_problem(api.post("/v1/searches", wanted(supernet, precision)), 422, code="no_table")
        lacking = {op.text for op in all_operators(space, 8)} - {row["operator"] for row in table_rows()}
        assert refused["missing_count"] == len(lacking) and set(refused["missing"]) <= lacking
        assert len(refused["missing"]) == 10 and "more" in refused["detail"]
        assert f"bespoke profile --space {SPACE.name} --precision {precision}" in refused["detail"]
        assert refused["errors"][0]["pointer"] == "/targets/0/device"
    # Where some rows are there, the others may be left out of the search.
    api.add_table("phone", [row for row in table_rows(MIXED) if "kernel=7/" not in row["operator"]])
    partial = wanted(supernet, "mixed")
    partial["targets"][0]["missing"] = "exclude"
    assert api.post("/v1/searches", partial).status_code == 202


@pytest.mark.parametrize(
    ("context", "text"),
    [({"precision": "float16"}, "float16"), ({"runtime_version": "1.5"}, "opset 12")],
    ids=["half", "old"],
)
def test_runtimes_without_int8_are_refused_by_search_and_profile(
    api: Api, context: dict[str, Any], text: str
) -> None:
    given = {**CONTEXT, **context}
    assert api.post("/v1/devices", {"name": "phone", "context": given}).status_code == 201
    rows = {"context": given, "rows": table_rows(MIXED)}
    assert api.post("/v1/devices/phone/tables", rows).status_code == 201
    supernet = api.add_supernet()
    refused = is_problem(api.post("/v1/searches", wanted(supernet, "mixed")), 422, code="unservable_context")
    assert text in refused["detail"]
    asked = {"space": SPACE.name, "precisions": ["float32", "int8"]}
    refused = is_problem(api.post("/v1/devices/phone/profiles", asked), 422, code="unservable_context")
    assert text in refused["detail"] and refused["errors"][0]["pointer"] == "/precisions"
    assert api.post("/v1/searches", wanted(supernet, None)).status_code == 202


def test_a_format_without_int8_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(OnnxFormat):
        name = "other"

        def serves(self, context: Any) -> Any:
            form = super().serves(context)
            return None if context.runtime != "other" or form is None else replace(form, format="other")

        def check_int8(self, delivery: Any) -> None:
            super(OnnxFormat, self).check_int8(delivery)

    monkeypatch.setitem(FORMATS, "other", Other())
    given = {**CONTEXT, "runtime": "other"}
    assert api.post("/v1/devices", {"name": "phone", "context": given}).status_code == 201
    asked = {"space": SPACE.name, "precisions": ["int8"]}
    refused = is_problem(api.post("/v1/devices/phone/profiles", asked), 422, code="unservable_context")
    assert "format 'other'" in refused["detail"]


def test_a_device_in_int8_is_refused_with_the_way_to_int8(api: Api) -> None:
    body = {"name": "phone", "context": {**CONTEXT, "precision": "int8"}}
    refused = is_problem(api.post("/v1/devices", body), 422, code="unservable_context")
    assert "precision of a profile and of a search" in refused["detail"]


def test_a_profile_asks_for_rows_in_int8(api: Api) -> None:
    api.add_device("phone")
    body = {"space": SPACE.name, "precisions": ["int8", "float32"]}
    stored = request_of(api, api.post("/v1/devices/phone/profiles", body))
    assert read(ProfileRequest, stored).precisions == ("float32", "int8")


@pytest.mark.parametrize("odd", ["float16", "int4", "", None, 8, ["int8"]])
def test_odd_precisions_are_refused(api: Api, odd: object) -> None:
    api.add_device("phone")
    supernet = api.add_supernet()
    body = wanted(supernet, "int8")
    body["targets"][0]["precision"] = odd
    assert is_problem(api.post("/v1/searches", body), 422)["errors"][0]["pointer"] == "/targets/0/precision"
    body = {"space": SPACE.name, "precisions": [odd]}
    assert is_problem(api.post("/v1/devices/phone/profiles", body), 422)
    assert is_problem(api.post("/v1/devices/phone/profiles", {**body, "precisions": []}), 422)


def test_gates_are_trained_in_float32(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone", table_rows(MIXED))
    supernet = api.add_supernet()
    refused = is_problem(api.post("/v1/searches", wanted(supernet, "mixed", strategy="gradient")), 422)
    assert "exact, evolution or random" in refused["errors"][0]["detail"]


def test_a_limit_that_nothing_keeps_says_what_can_be_reached_in_that_precision(api: Api) -> None:
    api.add_device("phone")
    rows = table_rows(MIXED)
    for row in rows:
        if "precision=int8" in row["operator"]:
            for name in ("median_ms", "lower_quartile_ms"):
                row[name] /= 4
    api.add_table("phone", rows)
    supernet = api.add_supernet()
    least = {
        precision: is_problem(api.post("/v1/searches", wanted(supernet, precision, 1e-6)), 422)[
            "reachable_ms"
        ]["min"]
        for precision in ("float32", "mixed", "int8")
    }
    assert least["mixed"] <= least["int8"] < least["float32"]
