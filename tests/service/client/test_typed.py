"""Typed answers: they are the contract's, they show themselves without scripts, and waiting can be
interrupted.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args, get_origin
from xml.etree import ElementTree

import httpx
import pytest
from pydantic import BaseModel

from service.client import Bespoke, BespokeClient, Front, Job, JobUnfinished, NotInstalled, answers, waiting
from service.client.answers import Answer, Card, Device
from tests.service.api import Api

CONTRACT = {
    answers.Device: "DeviceView", answers.Context: "ContextView", answers.Agent: "AgentView", answers.TableVersion: "TableView",
    answers.Interval: "Interval", answers.Coverage: "Coverage", answers.Supernet: "SupernetView", answers.Scored: "Scored",
    answers.Front: "FrontColumns", answers.ModelLine: "ModelSummary", answers.HistoryPoint: "HistoryPoint",
}  # fmt: skip
KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}


def kinds_of(schema: dict[str, Any]) -> set[str]:
    if "anyOf" in schema:
        return {kind for one in schema["anyOf"] for kind in kinds_of(one)}
    return {"object"} if "$ref" in schema else {schema.get("type", "any")}


def wanted(annotation: Any) -> set[str]:
    arguments = get_args(annotation)
    if arguments and get_origin(annotation) not in (list, dict):
        return {kind for one in arguments for kind in wanted(one)}
    if annotation is type(None):
        return {"null"}
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {"object"}
    return {KINDS.get(kind, "string")}  # times are texts


@pytest.mark.parametrize("model", CONTRACT, ids=lambda model: model.__name__)
def test_every_field_is_in_the_contract_with_its_type(api: Api, model: type[Answer]) -> None:
    schema = api.get("/openapi.json", key=None).json()["components"]["schemas"][CONTRACT[model]]
    for name, field in model.model_fields.items():
        assert name in schema["properties"], name
        assert kinds_of(schema["properties"][name]) <= wanted(field.annotation), name


FRONT: dict[str, Any] = {
    "device": "<b>phone</b>", "supernet_id": "s", "table_id": "t", "optimal": True, "confidence": 0.95, "missing_networks": 0,
    "reachable_ms": {"min": 1.0, "max": 4.0}, "latency_ms": [1.0, 2.0, 4.0], "upper_ms": [1.1, 2.2, 4.4],
    "accuracy": [0.8, 0.9, 0.95], "genes": ["00", "01", "11"], "alphabet": "01", "something_newer": {"x": 1},
}  # fmt: skip
DEVICE: dict[str, Any] = {
    "name": "phone", "description": "<script>alert(1)</script>", "table_id": None, "prediction_error": None, "interval": None,
    "context": {"runtime": "<i>r</i>", "runtime_version": "1", "provider": "CPU", "threads": 1, "precision": "float32", "batch_size": 1},
    "agent": None, "tables": [], "coverage": [], "date": None,
}  # fmt: skip
CARD: dict[str, Any] = {
    "id": "mod_1", "job_id": "job_1", "device": "phone", "budget_ms": 2.0, "architecture": {},
    "latency": {"predicted_ms": 1.8, "upper_ms": None, "measured_ms": 1.9, "verified": True},
    "accuracy": {"predicted": 0.9, "validation": None, "measured": 0.91, "dataset": "<x>", "split": "test", "samples": 10},
    "file": {"sha256": "a" * 64, "size_bytes": 2048, "parameters": 3, "macs": 4},
}  # fmt: skip
JOB: dict[str, Any] = {
    "id": "job_1", "kind": "search", "state": "running", "name": "<u>night</u>", "result": None, "error": None,
    "progress": {"step": "score_subnetworks", "fraction": 0.25, "message": "<a>", "eta_s": 9.0},
}  # fmt: skip
SHOWN = {
    "front": Front.model_validate(FRONT), "device": Device.model_validate(DEVICE), "card": Card.model_validate(CARD),
    "job": Job.read(JOB), "pick": Front.model_validate(FRONT).at(2.5),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_it_shows_itself_as_markup_without_a_script(name: str) -> None:
    text = SHOWN[name]._repr_html_()
    tree = ElementTree.fromstring(text)  # well-formed, so nothing that came from outside became markup
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert not tags & {"script", "b2", "i", "u", "a", "img", "style", "iframe", "x"}
    assert not [key for element in tree.iter() for key in element.attrib if key.startswith("on")]
    assert ("svg" in tags) == (name in ("front", "job"))


def test_a_front_answers_every_budget_by_its_bound() -> None:
    front = SHOWN["front"]
    assert isinstance(front, Front)
    assert front.at(1.0) is None
    picks = [front.at(budget) for budget in (1.1, 2.19, 2.2, 100.0)]
    assert [p and p.genes for p in picks] == ["00", "00", "01", "11"]
    without = Front.model_validate({**FRONT, "upper_ms": None})
    assert without.at(1.0) is not None
    assert front.model_extra is not None and front.model_extra["something_newer"] == {"x": 1}, (
        "what is newer is kept"
    )


def test_plot_draws_front_and_bound_and_says_where_matplotlib_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    ax = SHOWN["front"].plot()
    assert [list(line.get_xdata()) for line in ax.lines] == [FRONT["latency_ms"], FRONT["upper_ms"]]
    matplotlib.pyplot.close(ax.figure)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(NotInstalled, match="pip install matplotlib"):
        SHOWN["front"].plot()


@pytest.mark.parametrize(
    ("budget", "measured", "kept"),
    [(2.0, 1.9, True), (2.0, 2.1, False), (2.0, None, None), (None, 1.0, None)],
)
def test_a_card_says_whether_its_budget_was_kept(
    budget: float | None, measured: float | None, kept: bool | None
) -> None:
    latency = {**CARD["latency"], "measured_ms": measured}
    assert Card.model_validate({**CARD, "budget_ms": budget, "latency": latency}).kept is kept


class Service:
    """Answers with one state of the job after the other."""

    def __init__(self, *states: Any) -> None:
        self.states, self.cancelled = list(states), 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/cancel"):
            self.cancelled += 1
            return httpx.Response(202, json={**JOB, "state": "running"})
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, BaseException):
            raise state
        return httpx.Response(200, json={**JOB, "state": state})

    def bespoke(self) -> Bespoke:
        return Bespoke(BespokeClient("http://service.test", "key", transport=httpx.MockTransport(self)))


def test_waiting_draws_one_line_and_gives_the_ended_job() -> None:
    out = io.StringIO()
    calls = Service("queued", "running", "running", "succeeded").bespoke().calls
    assert waiting.wait(calls, Job.read(JOB), out=out, poll_s=0.0).state == "succeeded"
    lines = out.getvalue().rstrip("\n").split("\r")[1:]
    assert "25 % score subnetworks, 9 s left" in lines[1]
    assert "100 % succeeded" in lines[-1]
    assert len({len(line) for line in lines[1:]}) == 1, "what was longer is written over"


@pytest.mark.parametrize(("cancel", "asked"), [(True, 1), (False, 0)])
def test_an_interrupt_ends_the_job_too_unless_told_otherwise(cancel: bool, asked: int) -> None:
    service = Service("running", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        waiting.wait(service.bespoke().calls, Job.read(JOB), cancel=cancel, out=io.StringIO(), poll_s=0.0)
    assert service.cancelled == asked


def test_a_job_that_ends_badly_is_an_error() -> None:
    with pytest.raises(JobUnfinished):
        waiting.wait(Service("failed").bespoke().calls, Job.read(JOB), out=io.StringIO(), poll_s=0.0)


def test_the_client_loads_httpx_and_pydantic_and_none_of_the_service() -> None:
    """What the extra `client` brings is enough: nothing heavier is imported."""
    code = "import sys, service.client; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert {"httpx", "pydantic"} <= loaded
    assert not loaded & {
        "fastapi",
        "sqlalchemy",
        "numpy",
        "scipy",
        "torch",
        "onnxruntime",
        "typer",
        "matplotlib",
        "yaml",
        "dbos",
    }


@pytest.mark.slow
def test_a_program_is_checked_against_the_types(tmp_path: Path) -> None:
    """`py.typed` is there: mypy sees a wrong field and a right one."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from service.client import Bespoke
            front = Bespoke.connect().front("s", "d")
            pick = front.at(3.0)
            reveal_type(front.latency_ms)
            if pick is not None:
                pick.accurcy
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", str(program)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "list[float]" in done.stdout, done.stdout
    assert re.search(r'"Pick" has no attribute "accurcy"', done.stdout)
    assert json.dumps(CARD)
