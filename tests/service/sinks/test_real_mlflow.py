"""The same against a real MLflow server, where one is named: `mlflow server`, then BESPOKE_TEST_MLFLOW_URL=http://127.0.0.1:5000."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import httpx
import pytest

from service.sinks import mlflow
from service.sinks.errors import PushFailed
from service.sinks.files import Release
from tests.service.sinks.test_houses import release

__all__ = ["release"]
URL = os.environ.get("BESPOKE_TEST_MLFLOW_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="no MLflow server: set BESPOKE_TEST_MLFLOW_URL")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URL)
    with httpx.Client(base_url=f"{URL}/api/2.0/mlflow") as opened:
        yield opened


def test_run_and_version_are_there(server: httpx.Client, release: Release) -> None:  # noqa: F811
    name = f"bespoke-{secrets.token_hex(4)}"
    run_id = mlflow.push(release, f"{name}/{name}").rsplit("/", 1)[1]
    run = server.get("/runs/get", params={"run_id": run_id}).json()["run"]
    assert run["info"]["status"] == "FINISHED"
    files = server.get("/artifacts/list", params={"run_id": run_id, "path": "model"}).json()["files"]
    assert {f["path"].rsplit("/", 1)[1] for f in files} == {*release.files(), "MLmodel"}
    versions = server.get("/registered-models/get", params={"name": name}).json()["registered_model"][
        "latest_versions"
    ]
    assert [v["run_id"] for v in versions] == [run_id]


def test_what_breaks_off_is_taken_back(
    server: httpx.Client,
    release: Release,
    monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:
    name, runs = f"bespoke-{secrets.token_hex(4)}", []

    def broken(house: object, model: str, run: dict[str, str], card: object) -> None:
        runs.append(run["run_id"])
        raise PushFailed("the line broke")

    monkeypatch.setattr(mlflow, "_register", broken)
    with pytest.raises(PushFailed, match="the line broke"):
        mlflow.push(release, f"{name}/{name}")
    run = server.get("/runs/get", params={"run_id": runs[0]}).json()["run"]
    assert (run["info"]["status"], run["info"]["lifecycle_stage"]) == ("FAILED", "deleted")
    assert (
        server.get("/artifacts/list", params={"run_id": runs[0], "path": "model"}).json().get("files", [])
        == []
    )
