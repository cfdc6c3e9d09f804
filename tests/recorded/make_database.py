"""How `service_0ecf99f.db` was made: the real API and worker of commit 0ecf99f, and an agent that computes
its timings.

Kept for the next recording, not run by the tests. In a checkout of the commit to record, with this file
copied to it: `PYTHONPATH=. python -m tests.recorded.make_database FOLDER`; FOLDER/data then holds the
database and the artifacts.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from latency_tables.operators import Operator
from service.cli.demo import tended
from service.cli.supervisor import Stack
from service.db.models import MeasurementTask
from service.db.session import create_db_engine, session_factory
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, lower
from tests.worker.simulated_agent import CONTEXT, operator_ms

SPACE = space_named("digits-mbv3")
RESOLUTIONS = [8, 12]


class Caller:
    """The API with the owner's key."""

    def __init__(self, stack: Stack) -> None:
        key = (stack.data_dir / "owner.key").read_text().strip()
        self.http = httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        answer = self.http.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def job(self, path: str, body: Any, state: str = "succeeded") -> Any:
        """Queue a job and wait for its end."""
        job_id = self.post(path, body)["id"]
        while (job := self.get(f"/v1/jobs/{job_id}"))["ended_at"] is None:
            time.sleep(0.5)
        assert job["state"] == state, job
        return job


class Agent(threading.Thread):
    """Enrols over HTTP and answers every task; what a delivered network takes is looked up in the
    database."""

    def __init__(self, caller: Caller, device: str, database: Path) -> None:
        super().__init__(daemon=True)
        token = caller.post(f"/v1/devices/{device}/enrolments")["token"]
        environment = {"fingerprint": "ab" * 32, "cpu_model": "a board that computes its timings", "cores": 4}
        self.me = caller.post(
            "/v1/agent/enrol", {"token": token, "context": CONTEXT, "environment": environment}
        )
        headers = {"Authorization": f"Bearer {self.me['agent_key']}"}
        self.http = httpx.Client(base_url=caller.http.base_url, headers=headers, timeout=60)
        self.sessions = session_factory(create_db_engine(f"sqlite:///{database}"))
        self.random = np.random.default_rng(0)
        self.over = threading.Event()
        self.sequence = 0

    def run(self) -> None:
        while not self.over.wait(0.3):
            found = self.http.get("/v1/agent/tasks?limit=100").raise_for_status().json()["items"]
            if found:
                self.sequence += 1
                items = [self.answer(task) for task in found]
                fingerprint = "ab" * 32
                body = {
                    "session_id": self.me["session_id"],
                    "sequence": self.sequence,
                    "fingerprint": fingerprint,
                    "items": items,
                }
                answer = self.http.post("/v1/agent/measurements", json=body)
                assert answer.is_success, answer.text

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.002)  # the service knows that nothing is measured faster than its samples take
        latency_ms = self.latency_ms(task) * float(np.exp(self.random.normal(0, 0.005)))
        return {
            **{name: task[name] for name in ("nonce", "sha256")},
            "task_id": task["id"],
            "median_ms": latency_ms,
            "lower_quartile_ms": latency_ms * 0.99,
            "mad_ms": latency_ms * 0.01,
            "count": 30,
            "flags": [],
            "group": self.sequence,
            "load": 0.1,
        }

    def latency_ms(self, task: dict[str, Any]) -> float:
        if task["operator"] is not None:
            return operator_ms(Operator.parse(task["operator"]))
        with self.sessions() as session:
            row = session.get(MeasurementTask, task["id"])
            assert row is not None and row.architecture is not None
            return 0.01 + 0.9 * sum(operator_ms(op) for op in lower(SPACE, SPACE.from_json(row.architecture)))


def fill(caller: Caller, database: Path) -> None:
    """Devices, tables, probes, a supernet, searches: succeeded, failed, cancelled."""
    caller.post("/v1/devices", {"name": "board", "description": "measured by an agent", "context": CONTEXT})
    caller.post("/v1/devices", {"name": "phone", "description": "an uploaded table", "context": CONTEXT})
    operators = sorted({op for resolution in RESOLUTIONS[:1] for op in all_operators(SPACE, resolution)})
    rows = [{"operator": op.text, "median_ms": round(2 * operator_ms(op), 6)} for op in operators]
    caller.post("/v1/devices/phone/tables", {"context": CONTEXT, "rows": rows})
    networks = SPACE.at(RESOLUTIONS[:1]).sample(np.random.default_rng(1), 5)
    samples = [
        {
            "space": SPACE.name,
            "architecture": SPACE.to_json(a),
            "latency_ms": 2 * sum(operator_ms(op) for op in lower(SPACE, a)),
        }
        for a in networks
    ]
    caller.post("/v1/devices/phone/probes", {"samples": samples})
    supernet = caller.job("/v1/supernets", {"space": SPACE.name, "dataset": "digits", "recipe": "quick"})[
        "result"
    ]["supernet_id"]
    agent = Agent(caller, "board", database)
    agent.start()
    profile = {"space": SPACE.name, "dataset": "digits", "resolutions": RESOLUTIONS, "networks": 24}
    caller.job("/v1/devices/board/profiles", profile)
    caller.job("/v1/devices/board/checks", {"operators": 6})
    points = caller.get(f"/v1/supernets/{supernet}/front?device=board")["points"]
    budget_ms = points[len(points) // 2]["upper_ms"]
    target = {"device": "board", "budget": {"latency_ms": budget_ms}}
    caller.job("/v1/searches", {"supernet": supernet, "targets": [target], "candidates": 2})
    agent.over.set()
    agent.join()
    small = {"device": "board", "budget": {"latency_ms": budget_ms, "size_bytes": 20_000}}
    answer = caller.http.post("/v1/searches", json={"supernet": supernet, "targets": [small]})
    least = round(answer.json()["reachable"]["min"]) + 1
    small["budget"]["size_bytes"] = least
    caller.job("/v1/searches", {"supernet": supernet, "targets": [small], "verify": False}, "failed")
    job_id = caller.post("/v1/supernets", {"space": SPACE.name, "dataset": "digits", "seed": 1})["id"]
    caller.post(f"/v1/jobs/{job_id}/cancel")
    while caller.get(f"/v1/jobs/{job_id}")["ended_at"] is None:
        time.sleep(0.5)


def main(folder: Path) -> None:
    with tended(Stack(folder / "data", port=0, log_dir=folder / "logs")) as stack:
        fill(Caller(stack), folder / "data" / "bespoke.db")
    with sqlite3.connect(folder / "data" / "bespoke.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
