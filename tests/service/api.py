"""A server in-process, and the things most tests of it begin with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from httpx import Response

from service.app import create_app
from service.db import supernets as supernet_rows
from service.db.models import now
from service.http.dependencies import Services
from service.settings import Settings
from supernets.accuracy.predictor import QualityPredictor
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators
from supernets.spaces.space import Space

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # httpx is what the project has; Starlette would rather have its successor
    from starlette.testclient import TestClient

CONTEXT = {
    "runtime": "onnxruntime",
    "runtime_version": "1.31",
    "provider": "CPUExecutionProvider",
    "threads": 1,
    "precision": "float32",
    "batch_size": 1,
}
SPACE = SPACES["digits-mbv3"]


@dataclass
class Api:
    """A running application and a key to it."""

    client: TestClient
    services: Services
    key: str
    settings: Settings

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = "own", **options: Any
    ) -> Response:
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {self.key if key == 'own' else key}"
        if body is not None:
            options["json"] = body
        return self.client.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Response:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Response:
        return self.call("POST", path, body, **options)

    def add_device(self, name: str = "phone", **options: Any) -> Response:
        answer = self.post("/v1/devices", {"name": name, "description": "", "context": CONTEXT}, **options)
        assert answer.status_code == 201, answer.text
        return answer

    def add_table(
        self, name: str = "phone", rows: list[dict[str, Any]] | None = None, **options: Any
    ) -> dict[str, Any]:
        body = {"context": CONTEXT, "rows": table_rows() if rows is None else rows}
        answer = self.post(f"/v1/devices/{name}/tables", body, **options)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def add_supernet(self, tenant_id: str | None = None, trained: bool = True, seed: int = 0) -> str:
        """A supernet as a worker leaves it behind: with weights and predictor (of made-up accuracies)."""
        with self.services.sessions.begin() as session:
            row = supernet_rows.find_or_add(
                session,
                tenant_id or self.tenant_id,
                f"{seed:064x}",
                space=SPACE.name,
                dataset="digits",
                recipe="quick",
                seed=seed,
                classes=10,
            )
            if trained:
                row.predictor = predictor().to_json()
                row.weights_sha256 = "0" * 64
                row.summary = {
                    name: {"accuracy": accuracy, "architecture": SPACE.to_json(pick())}
                    for name, accuracy, pick in (
                        ("largest", 0.98, SPACE.largest),
                        ("smallest", 0.9, SPACE.smallest),
                    )
                }
                row.ready_at = now()
            return row.id

    @property
    def tenant_id(self) -> str:
        identity = self.services.authenticator.look_up(self.key)
        assert identity is not None
        return identity.tenant_id

    def new_key(self, *scopes: str, **options: Any) -> str:
        answer = self.post("/v1/keys", {"name": "test", "scopes": list(scopes)}, **options)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def new_tenant(self, name: str = "other") -> str:
        answer = self.post("/v1/tenants", {"name": name})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])


@contextmanager
def open_api(settings: Settings) -> Iterator[Api]:
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        key = (settings.data_dir / "owner.key").read_text().strip()
        yield Api(client, app.state.services, key, settings)


def table_rows(space: Space = SPACE, resolutions: tuple[int, ...] | None = None) -> list[dict[str, Any]]:
    """Plausible rows for a space: time grows with the work of an operator."""
    found = {op for r in resolutions or space.resolutions for op in all_operators(space, r)}
    return [
        {
            "operator": op.text,
            "median_ms": 0.002 + op.macs * 1e-7,
            "lower_quartile_ms": 0.0019 + op.macs * 1e-7,
            "mad_ms": 0.0001,
            "count": 90,
        }
        for op in sorted(found)
    ]


def search_request(supernet: str, budget_ms: float, device: str = "phone", **more: Any) -> dict[str, Any]:
    return {
        "supernet": supernet,
        "targets": [{"device": device, "budget": {"latency_ms": budget_ms}}],
        **more,
    }


def predictor() -> QualityPredictor:
    """Fitted to made-up accuracies that grow with the size of the network."""
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, 60)
    values = 0.9 + 0.002 * genes.sum(axis=1) / SPACE.chain.genes + generator.normal(0, 1e-4, len(genes))
    return QualityPredictor.fit(SPACE, genes, values, folds=2)


def is_problem(answer: Response, *statuses: int, code: str | None = None) -> dict[str, Any]:
    """The problem document of an answer, after checking its form."""
    assert answer.status_code in statuses, f"{answer.status_code}, wanted {statuses}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 4096
    document: dict[str, Any] = answer.json()
    assert document["status"] == answer.status_code
    assert {"type", "title", "detail", "request_id"} <= set(document)
    if code is not None:
        assert document["type"] == f"urn:bespoke:problem:{code}", document
    if answer.status_code == 422:
        assert document["errors"]
        assert all(set(e) == {"pointer", "code", "detail"} for e in document["errors"])
    return document
