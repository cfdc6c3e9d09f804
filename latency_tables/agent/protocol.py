"""What goes over the wire, checked: answers of the service become frozen values or HostileServer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from latency_tables.agent.errors import HostileServer
from latency_tables.agent.graph import MAX_BYTES
from latency_tables.agent.runner import Measured
from latency_tables.inputs import DTYPE_BYTES, InputSpec
from latency_tables.measuring.profiling import Reading

OPERATOR: Final = "operator"
KINDS: Final = (OPERATOR, "network", "verify")
MAX_TASKS: Final = 2000
MAX_REASON: Final = 500
MAX_INPUTS: Final = 16
MAX_INPUT_BYTES: Final = 2**28
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Enrolment:
    """Identity of this agent for one device and one session."""

    device: str
    session_id: str
    agent_key: str
    expires_at: str | None


@dataclass(frozen=True)
class File:
    """A file of the service, named by its hash."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Task:
    """One network to be measured. inputs: with the batch in their shapes. nonce: makes the answer valid for
    this task of this session only."""

    id: str
    kind: str
    file: File
    nonce: str
    operator: str | None
    inputs: tuple[InputSpec, ...]


@dataclass(frozen=True)
class Plan:
    """The next tasks, in order. remaining: tasks not yet answered; poll_s: when to ask again if there are
    none.

    context: the device's; None where the service does not tell.
    """

    session_id: str
    sentinel: File | None
    tasks: tuple[Task, ...]
    remaining: int
    poll_s: float
    context: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Conditions:
    """Under which a group was measured. group: its number in the session; load: runnable processes a core.

    watched: whether a sentinel ran along; reference_ms: the fastest it was ever seen here. transfer_s,
    measuring_s: how long it took to fetch the files and to measure.
    """

    group: int
    load: float
    watched: bool
    reference_ms: float | None = None
    transfer_s: float | None = None
    measuring_s: float | None = None


def enrolment_from(data: Any) -> Enrolment:
    """Raises HostileServer."""
    fields = _object(data)
    expires = fields.get("expires_at")
    return Enrolment(
        device=_text(fields, "device", _ID),
        session_id=_text(fields, "session_id", _ID),
        agent_key=_text(fields, "agent_key", re.compile(r"[!-~]{16,512}", re.ASCII)),
        expires_at=expires if isinstance(expires, str) else None,
    )


def plan_from(data: Any) -> Plan:
    """Raises HostileServer."""
    fields = _object(data)
    items = fields.get("items")
    if not isinstance(items, list) or len(items) > MAX_TASKS:
        raise HostileServer(f"the service sent no list of at most {MAX_TASKS} tasks")
    tasks = tuple(_task(item) for item in items)
    if len({task.id for task in tasks}) != len(tasks):
        raise HostileServer("the service sent the same task twice")
    poll = fields.get("poll_s", 2.0)
    if type(poll) not in (int, float) or not 0 <= poll <= 3600:
        raise HostileServer("poll_s is no waiting time")
    sentinel, context = fields.get("sentinel"), fields.get("context")
    return Plan(
        session_id=_text(fields, "session_id", _ID),
        sentinel=None if sentinel is None else _file(_object(sentinel)),
        tasks=tasks,
        remaining=_whole(fields, "remaining", 0, 10**7),
        poll_s=float(poll),
        context=None if context is None else _object(context),
    )


def _task(data: Any) -> Task:
    fields = _object(data)
    operator = fields.get("operator")
    inputs = _inputs(fields)
    if sum(spec.size_bytes for spec in inputs) > MAX_INPUT_BYTES:
        raise HostileServer("a network wants an input of more than 256 MiB")
    if fields.get("kind") not in KINDS or not (
        operator is None or (isinstance(operator, str) and len(operator) <= 300)
    ):
        raise HostileServer(f"a task must be one of {', '.join(KINDS)}")
    return Task(
        id=_text(fields, "id", _ID),
        kind=str(fields["kind"]),
        file=_file(fields),
        nonce=_text(fields, "nonce", _ID),
        operator=operator,
        inputs=inputs,
    )


def _inputs(fields: Mapping[str, Any]) -> tuple[InputSpec, ...]:
    """What a network is fed with. An older service tells the shape of a single input and no more."""
    told = fields.get("inputs")
    if told is None:
        return (InputSpec("input", _shape(fields.get("input_shape"))),)
    if not isinstance(told, list) or not 1 <= len(told) <= MAX_INPUTS:
        raise HostileServer(f"a network has 1 to {MAX_INPUTS} inputs")
    found = []
    for one in map(_object, told):
        below = one.get("below")
        if below is not None and (type(below) is not int or not 1 <= below <= 2**31):
            raise HostileServer("`below` of an input is no number of values")
        if one.get("dtype") not in DTYPE_BYTES:
            raise HostileServer(f"an input is one of {', '.join(DTYPE_BYTES)}")
        found.append(InputSpec(_text(one, "name", _ID), _shape(one.get("shape")), str(one["dtype"]), below))
    return tuple(found)


def _shape(shape: Any) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 6
        or not all(type(s) is int and 1 <= s <= 65_536 for s in shape)
    ):
        raise HostileServer("the shape of an input is no shape")
    return tuple(shape)


def _file(fields: Mapping[str, Any]) -> File:
    return File(_text(fields, "sha256", _SHA256), _whole(fields, "size_bytes", 1, MAX_BYTES))


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise HostileServer(
            "the service's answer is not of this protocol; is the URL that of a bespoke service?"
        )
    return data


def _text(fields: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise HostileServer(f"{name} in the service's answer is not of this protocol")
    return value


def _whole(fields: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not least <= value <= most:
        raise HostileServer(f"{name} in the service's answer must be a whole number from {least} to {most}")
    return value


FIRST_FIELDS: Final = (
    "task_id", "nonce", "sha256", "median_ms", "lower_quartile_ms", "mad_ms", "count", "flags", "sentinel_ms",
)  # fmt: skip
"""What the first services took of a result; every later one takes them too."""


def of_first_version(body: Mapping[str, Any]) -> dict[str, Any]:
    """A post of results in the form that every service takes: what later versions added is left out, networks
    that cannot be measured among it."""
    items = [{name: item[name] for name in FIRST_FIELDS} for item in body["items"]]
    return {name: value for name, value in {**body, "items": items}.items() if name != "failures"}


def named(task: Task) -> str:
    """What a task measures, for people."""
    return task.operator or f"{'the delivered' if task.kind == 'verify' else 'a whole'} network ({task.id})"


def failure_of(task: Task, reason: str) -> dict[str, Any]:
    """What is posted for a task whose network this device cannot run."""
    line = "".join(c if c.isprintable() else " " for c in reason).strip()[:MAX_REASON]
    return {
        "task_id": task.id,
        "nonce": task.nonce,
        "sha256": task.file.sha256,
        "reason": line or "no reason given",
    }


def answer_of(task: Task, reading: Reading, conditions: Conditions) -> dict[str, Any]:
    """What is posted for a task."""
    m = reading.measurement
    return {
        "task_id": task.id,
        "nonce": task.nonce,
        "sha256": task.file.sha256,
        **m.to_json(),
        "flags": list(reading.flags),
        "sentinel_ms": reading.sentinel_ms if conditions.watched else None,
        "sentinel_error": reading.sentinel_error,
        "reference_ms": conditions.reference_ms if conditions.watched else None,
        "group": conditions.group,
        "load": conditions.load,
        "transfer_s": conditions.transfer_s,
        "measuring_s": conditions.measuring_s,
        "nodes": dict(reading.nodes) if isinstance(reading, Measured) else None,
    }
