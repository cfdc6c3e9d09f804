"""States and kinds have one list each: the pipelines, the queue, the contract and the tables hold to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from service.db import states
from service.db.models import Base
from service.db.states import (
    ArtifactKind,
    HappeningKind,
    JobKind,
    JobState,
    NetworkSource,
    TableSource,
    TableState,
    TaskKind,
    TaskState,
)
from service.db.transitions import create_job
from service.jobs.queue import WORKFLOWS
from tests.service.api import Api, is_problem
from worker.pipelines.catalog import PIPELINES

ROOT = Path(__file__).parents[3]
LISTS = (
    JobState,
    JobKind,
    TaskState,
    TaskKind,
    TableState,
    NetworkSource,
    TableSource,
    ArtifactKind,
    HappeningKind,
)


def test_values_are_those_of_databases_everywhere() -> None:
    """They may be added to; a rename would lose the rows of every installation."""
    kept: dict[Any, set[str]] = {
        JobState: {"queued", "running", "succeeded", "failed", "cancelled", "quarantined"},
        JobKind: {"search", "supernet", "profile", "check"},
        TaskState: {"open", "done", "dropped"},
        TaskKind: {"operator", "network", "verify", "sentinel"},
        TableState: {"ready", "needs_review"},
        NetworkSource: {"probe", "agent", "verify"},
        TableSource: {"upload", "agent", "transfer"},
        ArtifactKind: {"onnx_model", "onnx_benchmark", "supernet", "subnetwork"},
        HappeningKind: {"job", "progress", "table", "device", "model", "supernet", "agent"},
    }
    assert {kind for kind in kept if not kept[kind] <= {str(value) for value in kind}} == set()
    declared = {
        v
        for v in vars(states).values()
        if isinstance(v, type) and issubclass(v, StrEnum) and v is not StrEnum
    }
    assert declared == set(LISTS)


def test_every_kind_of_job_has_a_pipeline_and_a_queue() -> None:
    assert set(PIPELINES) == set(WORKFLOWS) == {str(kind) for kind in JobKind}


@pytest.mark.parametrize("kind", list(JobKind))
def test_jobs_are_listed_by_each_kind(api: Api, kind: JobKind) -> None:
    with api.services.sessions.begin() as session:
        job = create_job(session, tenant_id=api.tenant_id, kind=kind, request={})
        create_job(
            session,
            tenant_id=api.tenant_id,
            kind=next(other for other in JobKind if other is not kind),
            request={},
        )
    found = api.get(f"/v1/jobs?kind={kind}").json()["items"]
    assert [(item["id"], item["kind"]) for item in found] == [(job.id, str(kind))]


def test_an_unknown_kind_or_state_is_refused(api: Api) -> None:
    for query in ("kind=wish", "state=lost", "kind="):
        is_problem(api.get(f"/v1/jobs?{query}"), 422)
    with (
        api.services.sessions() as session,
        pytest.raises(ValueError, match="search, compress, supernet, profile, check"),
    ):
        create_job(session, tenant_id=api.tenant_id, kind="wish", request={})


def compared() -> Iterator[tuple[str, str]]:
    """(file, text) wherever a column of states or kinds is compared with a bare string."""
    for folder in ("service", "worker"):
        for place in (ROOT / folder).rglob("*.py"):
            for found in re.finditer(
                r"(MeasurementTask|Job)\.(state|kind)\s*[!=]=\s*\"", place.read_text(encoding="utf-8")
            ):
                yield place.name, found[0]


def test_no_query_compares_a_state_with_a_bare_string() -> None:
    assert list(compared()) == []
    assert {"state", "kind"} <= set(Base.metadata.tables["measurement_tasks"].columns.keys())
