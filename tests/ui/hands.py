"""What a worker writes while it works, done by hand: the states, the progress and the results that a page
has to show.

The long journeys have a real worker; the short forms need its rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.artifacts import ArtifactStore
from service.db import artifacts as artifact_rows
from service.db import devices as device_rows
from service.db import job_log, transitions
from service.db.models import Model, new_id
from service.db.session import Session
from service.db.states import JobState
from service.http.problems import document
from supernets.data.catalog import load_dataset
from supernets.delivery.catalog import Delivery
from supernets.delivery.description import describe, described_input
from supernets.delivery.feeding import snippet
from tests.service.api import SPACE

SIZE = 12


@dataclass
class Hands:
    """Moves jobs of a site through its database."""

    database: Any  # () -> Session
    data_dir: Path

    def session(self) -> Session:
        made: Session = self.database()
        return made

    def start(self, job_id: str) -> None:
        with self.session() as session, session.begin():
            transitions.move(session, job_id, JobState.RUNNING, from_states=(JobState.QUEUED,))

    def step(self, job_id: str, name: str, elapsed_s: float | None = None) -> None:
        with self.session() as session, session.begin():
            done = {} if elapsed_s is None else {"elapsed_s": elapsed_s}
            kind = "step_started" if elapsed_s is None else "step_done"
            transitions.add_event(session, job_id, kind, {"step": name, **done})

    def progress(
        self, job_id: str, fraction: float, message: str = "", eta_s: float | None = None, **metrics: Any
    ) -> None:
        with self.session() as session, session.begin():
            transitions.record_progress(
                session, job_id, "train_supernet", fraction, message, eta_s, metrics=metrics or None
            )

    def say(self, job_id: str, *lines: str, step: str = "train_supernet", source: str = "training") -> None:
        with self.session() as session, session.begin():
            job_log.append(session, job_id, step, source, lines)

    def succeed(self, job_id: str, result: dict[str, Any]) -> None:
        with self.session() as session, session.begin():
            transitions.move(
                session, job_id, JobState.SUCCEEDED, from_states=(JobState.RUNNING,), result=result
            )

    def fail(self, job_id: str, code: str, detail: str, state: JobState = JobState.FAILED) -> None:
        with self.session() as session, session.begin():
            error = document(code, detail)
            transitions.move(session, job_id, state, from_states=(JobState.RUNNING,), error=error)

    def deliver(
        self,
        job_id: str,
        supernet_id: str,
        device: str,
        budget_ms: float,
        measured_ms: float,
        limits: dict[str, tuple[float, float]] | None = None,
    ) -> dict[str, Any]:
        """A model with a real ONNX file; its card. limits: further ones by name, each with what was measured."""
        data = network()
        further = limits or {}
        described = described_input("input", load_dataset("digits").preprocessing(SIZE), Delivery())
        sha256, size = ArtifactStore(self.data_dir / "artifacts").put(data)
        model_id = new_id("mod")
        with self.session() as session, session.begin():
            from service.db.models import Job

            tenant = session.get_one(Job, job_id).tenant_id
            row = device_rows.all_named(session, tenant, [device])[device]
            from service.db import tables as table_rows

            table = table_rows.in_use(session, row.id)
            artifact_rows.register(session, sha256, size, "onnx_model")
            card = {
                "id": model_id, "state": "good", "suspect_reason": None, "job_id": job_id, "device": device,
                "context": row.context, "budget_ms": budget_ms,
                "constraints": [{"name": n, "limit": limit, "value": m, "basis": "measured on the device"} for n, (limit, m) in further.items()],
                "architecture": SPACE.to_json(SPACE.smallest()),
                "latency": {
                    "predicted_ms": measured_ms * 0.97, "upper_ms": measured_ms * 1.05, "measured_ms": measured_ms,
                    "verified": measured_ms <= budget_ms, "table_id": None if table is None else table.id,
                    "typical_ms": measured_ms + 1, "p95_ms": measured_ms + 4,
                    "further": [{"name": n, "limit": limit, "predicted": m * 0.98, "upper": m * 1.05, "measured": m} for n, (limit, m) in further.items()],
                },
                "accuracy": {
                    "predicted": 0.961, "validation": 0.958, "measured": 0.9556, "dataset": "digits", "split": "test",
                    "samples": 360, "warnings": [],
                },
                "input": described, "classes": [str(n) for n in range(10)], "snippet": snippet(described),
                "search": {"strategy": "exact", "optimal": True, "gap": None, "runner_up": []},
                "file": {"sha256": sha256, "size_bytes": size, "parameters": 1450, "macs": 14400, "opset": 20},
                "provenance": {"supernet_id": supernet_id, "seed": 0},
            }  # fmt: skip
            model = Model(
                id=model_id, tenant_id=tenant, job_id=job_id, device_id=row.id, supernet_id=supernet_id,
                table_id=None if table is None else table.id, budget_ms=budget_ms, onnx_sha256=sha256, card=card,
            )  # fmt: skip
            session.add(model)
        return card


def network() -> bytes:
    """A classifier of one layer, described as delivered files are: each class answers to the brightness of
    its own rows.
    """
    features = SIZE * SIZE
    weights = np.random.default_rng(0).normal(size=(features, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, SIZE, SIZE])
    found = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, "net", [given], [found], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    described = described_input("input", load_dataset("digits").preprocessing(SIZE), Delivery())
    describe(model, described, [str(n) for n in range(10)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
