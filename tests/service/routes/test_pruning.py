"""Pruning over HTTP: what a search and a profile ask for, what is refused, and that old requests stay."""

from __future__ import annotations

from typing import Any

import pytest

from service.jobs.requests import ProfileRequest, SearchRequest, read
from service.schemas.devices import ProfileIn
from service.schemas.searches import SearchIn
from supernets.spaces.lowering import all_operators
from tests.service.api import SPACE, Api, is_problem, search_request, table_rows
from tests.service.routes.test_precision import request_of

PRUNED = SPACE.with_pruning()


def wanted(supernet: str, prune: bool | None = True, **more: Any) -> dict[str, Any]:
    body = search_request(supernet, 50.0, **more)
    if prune is not None:
        body["targets"][0]["prune"] = prune
    return body


def test_that_a_target_may_be_pruned_is_kept_with_it(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone", table_rows(PRUNED))
    supernet = api.add_supernet()
    stored = request_of(api, api.post("/v1/searches", wanted(supernet)))
    assert stored["targets"][0]["prune"] is True and read(SearchRequest, stored).targets[0].prune
    (covered,) = [c for c in api.get("/v1/devices/phone").json()["coverage"] if c["space"] == SPACE.name]
    assert covered["pruned"] == covered["resolutions"] == [8, 12, 16]
    asked = {"space": SPACE.name, "prune": True}
    profile = request_of(api, api.post("/v1/devices/phone/profiles", asked))
    assert read(ProfileRequest, profile).prune


def test_what_was_asked_before_is_stored_and_known_as_before(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone")
    supernet = api.add_supernet()
    plain = request_of(api, api.post("/v1/searches", wanted(supernet, None)))
    asked = request_of(api, api.post("/v1/searches", wanted(supernet, False)))
    assert plain == asked and "prune" not in plain["targets"][0]
    assert "prune" not in SearchIn.model_validate(wanted(supernet, False)).model_dump()["targets"][0]
    assert "prune" not in ProfileIn.model_validate({"space": SPACE.name}).model_dump()
    assert "prune" not in request_of(api, api.post("/v1/devices/phone/profiles", {"space": SPACE.name}))
    coverage = api.get("/v1/devices/phone").json()["coverage"]
    assert all("pruned" not in covered for covered in coverage)


def test_a_table_without_the_rows_is_refused_with_what_is_missing_and_what_to_run(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone")
    supernet = api.add_supernet()
    refused = is_problem(api.post("/v1/searches", wanted(supernet)), 422, code="no_table")
    lacking = {op.text for op in all_operators(PRUNED, 8)} - {row["operator"] for row in table_rows()}
    assert refused["missing_count"] == len(lacking) and set(refused["missing"]) <= lacking
    assert f"bespoke profile --space {SPACE.name} --prune" in refused["detail"]


def test_spaces_without_channels_to_cut_out_are_refused(api: Api) -> None:
    api.add_device("phone")
    asked = {"space": "hat-small", "prune": True}
    found = is_problem(api.post("/v1/devices/phone/profiles", asked), 422)
    assert found["errors"][0]["pointer"] == "/prune" and found["errors"][0]["code"] == "invalid_pruning"
    assert "no block has channels" in str(found["errors"][0])


@pytest.mark.parametrize(
    ("more", "text"),
    [({"strategy": "gradient"}, "whole blocks"), ({"train": "lite", "tune_epochs": 1}, "whole blocks")],
)
def test_what_knows_whole_blocks_only_is_refused(api: Api, more: dict[str, Any], text: str) -> None:
    refused = is_problem(api.post("/v1/searches", wanted(api.add_supernet(), **more)), 422)
    assert text in str(refused["errors"])
