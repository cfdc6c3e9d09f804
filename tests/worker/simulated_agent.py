"""An agent that answers every task at once: latency = overhead + work, with 1 % noise. It talks to the
database directly."""

import os
import threading
from datetime import timedelta

import numpy as np
from sqlalchemy import select

from latency_tables.measurement import Context
from latency_tables.operators import Operator
from service.db import devices
from service.db.models import AgentSession, MeasurementTask, new_id, now
from supernets.spaces.catalog import ref_in, space_at
from supernets.spaces.lowering import lower

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def register(installation, name):
    with installation.sessions.begin() as session:
        return devices.add(session, "ten_1", name, "", CONTEXT).id


class SimulatedAgent:
    """Present on the devices it is given while it is open. `slower` maps a device id to a factor for
    delivered networks. What `cannot` says yes to is told as a network that the device cannot run."""

    def __init__(self, installation, device_ids):
        self.installation, self.device_ids = installation, device_ids
        self.slower = {}
        self.told = {}
        self.cannot = lambda task: False
        self.answered = []
        self._random = np.random.default_rng(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self):
        with self.installation.sessions.begin() as session:
            for device_id in self.device_ids:
                session.add(
                    AgentSession(
                        id=new_id("ses"),
                        tenant_id="ten_1",
                        device_id=device_id,
                        key_digest=os.urandom(32),
                        environment={},
                        fingerprint="f" * 64,
                        expires_at=now() + timedelta(hours=1),
                        seen_at=now(),
                    )  # fmt: skip
                )
        self._thread.start()
        return self

    def __exit__(self, *reason):
        self._stop.set()
        self._thread.join()

    def _loop(self):
        while not self._stop.wait(0.2):
            with self.installation.sessions.begin() as session:
                for agent in session.scalars(select(AgentSession)):
                    agent.seen_at = now()
                for task in session.scalars(
                    select(MeasurementTask).where(MeasurementTask.state == "open").limit(200)
                ):
                    if task.device_id in self.device_ids:
                        self._answer(task)

    def _answer(self, task):
        if self.cannot(task):
            task.state, task.answered_at, task.failure = "failed", now(), "unsupported reorder case"
            return
        latency_ms = self._latency_ms(task)
        self.answered.append(task.kind)
        task.state, task.answered_at = "done", now()
        spread = latency_ms * 0.01 * (1 + self._random.random())
        task.result = {
            "p95_ms": 1.25 * latency_ms * (1 + 0.02 * self._random.random()), "median_ms": latency_ms, "lower_quartile_ms": latency_ms * 0.99, "mad_ms": spread, "count": 30, "flags": [],
            "sentinel_ms": 0.01 * (1 + 0.001 * self._random.random()), **self.told,
        }  # fmt: skip

    def _latency_ms(self, task):
        if task.operator is not None:
            latency_ms = operator_ms(Operator.parse(task.operator))
        else:
            space = space_at(ref_in(task.architecture))
            latency_ms = 0.01 + 0.9 * sum(
                op.row_factor * operator_ms(op) for op in lower(space, space.from_json(task.architecture))
            )
        factor = self.slower.get(task.device_id, 1.0) if task.kind == "verify" else 1.0
        return float(latency_ms * factor * np.exp(self._random.normal(0, 0.01)))


def operator_ms(op):
    return 0.002 + op.macs * 2e-8 + op.bytes_moved * 1e-8
