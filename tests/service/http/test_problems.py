"""One table for the API and the worker: which error has which code, status, title and members."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_tables.agent.errors import AgentError
from latency_tables.errors import BespokeError, InvalidTable, MissingLatency, TooFewNetworks
from service.app import _field_names, create_app, openapi_document
from service.client import ClientError
from service.errors import JobEnded
from service.http import errors as answers
from service.http import problems
from service.http.problems import ERRORS, PROBLEMS, document, kind_of, with_code
from service.settings import Settings
from supernets.errors import (
    ContradictingConstraints,
    InfeasibleBudget,
    MemoryLimitTooLow,
    TrainingDiverged,
)
from tests.architecture.test_imports import LOCAL, modules_of
from worker.errors import StepFailed
from worker.problems import kind_of as kind_for_a_job
from worker.problems import problem_of

ROOT = Path(__file__).parents[3]
EXAMPLES = {
    InvalidTable: InvalidTable("row 2 is wrong", [(2, "no number")]),
    MissingLatency: MissingLatency([f"operator {n:02}" + "x" * 90 for n in range(40)]),
    InfeasibleBudget: InfeasibleBudget("too fast", 1.0, 2.0),
    ContradictingConstraints: ContradictingConstraints("a and b", float("-inf"), float("inf")),
    TooFewNetworks: TooFewNetworks("more", 7),
    TrainingDiverged: TrainingDiverged("kernel", 3, 41),
    MemoryLimitTooLow: MemoryLimitTooLow("too little", 512),
    JobEnded: JobEnded("failed"),
}


def below(parent: type[BespokeError]) -> Iterator[type[BespokeError]]:
    for child in parent.__subclasses__():
        yield child
        yield from below(child)


def ours() -> list[type[BespokeError]]:
    """Every error of the rooms that may leave as a problem, once all modules are loaded."""
    for module in (
        *modules_of("latency_tables"),
        *modules_of("supernets"),
        *modules_of("service", LOCAL),
        *modules_of("worker"),
    ):
        if not module.endswith("__main__"):
            importlib.import_module(module)
    return [
        e
        for e in below(BespokeError)
        if e.__module__.split(".")[0] in ("latency_tables", "supernets", "service", "worker")
    ]


def test_every_error_has_a_code_of_its_own_or_of_the_error_it_is_a_case_of() -> None:
    """Those aside that end a process or a command, with their message on its screen."""
    spoken = (AgentError, ClientError, StepFailed)
    on_a_screen = [
        e
        for e in ours()
        if issubclass(e, spoken)
        or e.__module__.startswith(("service.cli", "service.sinks", "service.startup", "service.settings"))
    ]
    without = [e.__qualname__ for e in ours() if kind_for_a_job(e).code == "refused" and e not in on_a_screen]
    assert without == [], "give them a code in service/http/problems.py"
    assert len(on_a_screen) > 10


@pytest.mark.parametrize("kind", [k for k in ERRORS if k is not BespokeError], ids=lambda k: k.__name__)
def test_the_api_and_a_job_say_the_same_of_an_error(kind: type[BespokeError]) -> None:
    found = EXAMPLES.get(kind) or kind("what to do next")
    answer, failed = answers.problem_of(found).document(), problem_of(found)
    entry = ERRORS[kind]
    assert failed["code"] == entry.code and failed["type"] == f"urn:bespoke:problem:{entry.code}"
    assert answer["code"] == (entry.answered_as or entry.code)
    assert (failed["status"], failed["title"]) == PROBLEMS[entry.code]
    assert answer["status"] == failed["status"] and answer["detail"][:200] == failed["detail"][:200]
    members = set(failed) - {"type", "code", "title", "status", "detail"}
    assert {name: answer[name] for name in members} == {name: failed[name] for name in members}
    assert len(json.dumps(answer)) < 4096


def test_members_of_examples_are_told() -> None:
    told = {kind: set(problems.members_of(error)) for kind, error in EXAMPLES.items()}
    assert told[MissingLatency] == {"missing", "missing_count"}
    assert told[InfeasibleBudget] == {"constraint", "reachable_ms"}
    assert told[ContradictingConstraints] == {"constraint"}
    assert told[TrainingDiverged] == {"phase", "epoch", "step"}
    assert kind_of(ContradictingConstraints).code == "infeasible_budget"


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_code_makes_a_document(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    made = document(code, "so it is", more=1)
    assert with_code(made) == made and made["code"] == code


@pytest.mark.parametrize(
    ("stored", "code"),
    [
        ("urn:bespoke:infeasible-budget", "infeasible_budget"),
        ("urn:bespoke:out-of-memory", "out_of_memory"),
        ("urn:bespoke:problem:export_failed", "export_failed"),
        ("urn:bespoke:value-error", "internal"),
        ("", "internal"),
    ],
)
def test_a_job_that_failed_under_an_older_version_keeps_its_type_and_gets_a_code(
    stored: str, code: str
) -> None:
    assert with_code({"type": stored, "detail": "x"}) == {"type": stored, "detail": "x", "code": code}


def test_every_code_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text().split("## Problems")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.M)
    documented = {(code, int(status)) for status, codes in rows for code in re.findall(r"`([a-z_]+)`", codes)}
    assert documented == {(code, status) for code, (status, _) in PROBLEMS.items()}


def test_every_field_of_the_openapi_document_may_stand_in_a_pointer():
    """They are read from the classes, which takes a hundredth of the time."""
    app = create_app(Settings())
    names = _field_names(app)
    schemas = openapi_document(app)["components"]["schemas"].values()
    assert {"latency_ms", "degrees", "idempotency-key"} <= names
    assert {name for schema in schemas for name in schema.get("properties", {})} <= names
    assert not {"loc", "ctx"} & names  # of FastAPI's own documents, which nobody gets
