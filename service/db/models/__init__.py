"""The tables: SQL is the truth about devices, tables, supernets, jobs, models, files and keys.

Every row that belongs to somebody has a tenant, and every query filters by it. Times are UTC. Ids are opaque
texts with a prefix that says what they name.
"""

from __future__ import annotations

from service.db.models.access import ApiKey, BrowserSession, LoginLink, Tenant
from service.db.models.agents import AgentPost, AgentSession, Enrolment, MeasurementTask
from service.db.models.columns import Base, Measured, UtcDateTime, new_id, now
from service.db.models.jobs import Happening, IdempotencyKey, Job, JobEvent, LogLine, StepResult, Worker
from service.db.models.latencies import Device, NetworkMeasurement, Table, TableRow
from service.db.models.networks import Artifact, Model, Supernet

__all__ = [
    "AgentPost",
    "AgentSession",
    "ApiKey",
    "Artifact",
    "Base",
    "BrowserSession",
    "Device",
    "Enrolment",
    "Happening",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "LogLine",
    "LoginLink",
    "Measured",
    "MeasurementTask",
    "Model",
    "NetworkMeasurement",
    "StepResult",
    "Supernet",
    "Table",
    "TableRow",
    "Tenant",
    "UtcDateTime",
    "Worker",
    "new_id",
    "now",
]
