"""Robustness and defensive fine-tuning as they are asked for: queued, or refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from service.db.models import Job
from service.jobs.requests import SearchRequest, read
from supernets.spaces.catalog import SPACES
from tests.service.api import Api, is_problem

TARGET = {"budget": {"size_bytes": 10**7}}


def test_both_are_queued_and_nothing_is_where_neither_is_asked_for(api: Api) -> None:
    body: dict[str, Any] = {"supernet": api.add_supernet(), "targets": [TARGET]}
    found = []
    for more in ({}, {"robustness": True, "defensive": True, "tune_epochs": 2}):
        answer = api.post("/v1/searches", {**body, **more})
        assert answer.status_code == 202, answer.text
        with api.services.sessions() as session:
            row = session.get(Job, answer.json()["id"])
            assert row is not None
            found.append((row.request, read(SearchRequest, row.request)))
    assert not {"robustness", "defensive"} & found[0][0].keys()
    assert found[1][1].robustness and found[1][1].defensive


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"defensive": True}, "give tune_epochs"),
        ({"defensive": True, "tune_epochs": 2, "train": "bias"}, "leave train"),
        ({"robustness": True, "preprocessing": "embedded"}, "leave preprocessing separate"),
    ],
)
def test_what_cannot_be_is_refused(api: Api, more: dict[str, Any], said: str) -> None:
    answer = api.post("/v1/searches", {"supernet": api.add_supernet(), "targets": [TARGET], **more})
    assert said in str(is_problem(answer, 422, code="validation"))


def test_networks_that_take_no_pictures_are_refused(api: Api) -> None:
    space = next(one for one in SPACES.values() if one.generation is not None)
    body = {"space": space.name, "dataset": "pronunciations", "targets": [TARGET], "robustness": True}
    answer = api.post("/v1/searches", body)
    assert "take no pictures" in is_problem(answer, 422)["detail"], answer.text
