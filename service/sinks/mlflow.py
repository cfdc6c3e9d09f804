"""A run of an MLflow server with the files as its artifacts, and a version of a registered model, by its
REST API.

The server is that of MLFLOW_TRACKING_URI, with MLFLOW_TRACKING_TOKEN where it wants one; it must serve
artifacts (`--serve-artifacts`, its default). Called by the command line alone, never by the server.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import httpx

from service.sinks.calls import House
from service.sinks.errors import PushFailed
from service.sinks.files import MODEL, Release, made_for

API: Final = "/api/2.0/mlflow"
ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
FOLDER: Final = "model"
PROXIED: Final = "mlflow-artifacts:/"


def push(release: Release, place: str, transport: httpx.BaseTransport | None = None) -> str:
    """Log a run under EXPERIMENT or EXPERIMENT/MODEL; with MODEL it becomes a version of that registered
    model. Raises PushFailed.

    A run that breaks off is deleted with its artifacts; the version is registered last.
    """
    url = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not url.startswith(("http://", "https://")):
        raise PushFailed(
            "set MLFLOW_TRACKING_URI to the address of an MLflow server, such as http://127.0.0.1:5000"
        )
    experiment, _, model = place.partition("/")
    if not experiment or "/" in model:
        raise PushFailed(
            "a place in MLflow is EXPERIMENT, or EXPERIMENT/MODEL to register it: --place phones/pixel7"
        )
    with House("MLflow", url, os.environ.get("MLFLOW_TRACKING_TOKEN"), transport) as server:
        run = _start(server, _experiment(server, experiment), release)
        sent: list[str] = []
        try:
            root = _root_of(run)
            for name, data in {**release.files(), "MLmodel": mlmodel(release.card, run["run_id"])}.items():
                path = f"{root}/{FOLDER}/{name}"
                sent.append(path)
                server.call("PUT", f"{ARTIFACTS}/{quote(path)}", content=data)
            server.call("POST", f"{API}/runs/log-batch", json=_facts(release.card, run["run_id"]))
            _end(server, run["run_id"], "FINISHED")
            if model:
                _register(server, model, run, release.card)
        except BaseException:
            _undo(server, run["run_id"], sent)
            raise
        return f"{server.url}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}"


def _experiment(server: House, name: str) -> str:
    asked = {"experiment_name": name}
    found = server.call("GET", f"{API}/experiments/get-by-name", params=asked, missing_ok=True)
    if found.status_code == 404:
        return str(server.json("POST", f"{API}/experiments/create", json={"name": name})["experiment_id"])
    return str(found.json()["experiment"]["experiment_id"])


def _start(server: House, experiment_id: str, release: Release) -> dict[str, Any]:
    tags = {
        "mlflow.source.name": "bespoke",
        "mlflow.note.content": made_for(release.card),
        "bespoke.model": release.card["id"],
    }
    asked = {
        "experiment_id": experiment_id,
        "run_name": release.card["id"],
        "start_time": _now(),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    info: dict[str, Any] = server.json("POST", f"{API}/runs/create", json=asked)["run"]["info"]
    return info


def _root_of(run: dict[str, Any]) -> str:
    """Where the run's artifacts are, as the server's own address for them. Raises PushFailed where it does
    not serve them.
    """
    uri = str(run["artifact_uri"])
    if not uri.startswith(PROXIED):
        raise PushFailed(
            "this MLflow server keeps artifacts elsewhere; start it with --serve-artifacts, or use a folder"
        )
    # mlflow-artifacts:/PATH, or mlflow-artifacts://HOST/PATH
    return uri.removeprefix(PROXIED).lstrip("/").rstrip("/")


def mlmodel(card: dict[str, Any], run_id: str) -> bytes:
    """The file that tells MLflow how to load the network. JSON is YAML."""
    opset = card["file"].get("opset")
    described = {
        "artifact_path": FOLDER,
        "run_id": run_id,
        "flavors": {
            "onnx": {
                "data": MODEL,
                "onnx_version": None,
                "providers": ["CPUExecutionProvider"],
                "opset": opset,
                "code": None,
            },
            "python_function": {"loader_module": "mlflow.onnx", "data": MODEL, "env": {}},
        },
        "metadata": {"sha256": card["file"]["sha256"], "input": card.get("input")},
    }
    return json.dumps(described, indent=1).encode()


def _facts(card: dict[str, Any], run_id: str) -> dict[str, Any]:
    moment = _now()
    numbers = {
        "latency_predicted_ms": card["latency"].get("predicted_ms"),
        "latency_upper_ms": card["latency"].get("upper_ms"),
        "latency_measured_ms": card["latency"].get("measured_ms"),
        "budget_ms": card.get("budget_ms"),
        "accuracy": card["accuracy"].get("measured"),
        "size_bytes": card["file"].get("size_bytes"),
        "parameters": card["file"].get("parameters"),
        "macs": card["file"].get("macs"),
    }
    words = {
        "device": card.get("device"),
        "dataset": card["accuracy"].get("dataset"),
        "sha256": card["file"]["sha256"],
    }
    return {
        "run_id": run_id,
        "metrics": [
            {"key": k, "value": v, "timestamp": moment, "step": 0}
            for k, v in numbers.items()
            if v is not None
        ],
        "params": [{"key": k, "value": str(v)} for k, v in words.items() if v is not None],
    }


def _register(server: House, model: str, run: dict[str, Any], card: dict[str, Any]) -> None:
    known = server.call("GET", f"{API}/registered-models/get", params={"name": model}, missing_ok=True)
    if known.status_code == 404:
        server.call("POST", f"{API}/registered-models/create", json={"name": model})
    source = f"{run['artifact_uri']}/{FOLDER}"
    version = {"name": model, "source": source, "run_id": run["run_id"], "description": made_for(card)}
    server.call("POST", f"{API}/model-versions/create", json=version)


def _end(server: House, run_id: str, status: str) -> None:
    server.call("POST", f"{API}/runs/update", json={"run_id": run_id, "status": status, "end_time": _now()})


def _undo(server: House, run_id: str, sent: list[str]) -> None:
    """Take back what a push has left; what cannot be taken back is at least a deleted run."""
    for path in sent:
        with suppress(PushFailed):
            server.call("DELETE", f"{ARTIFACTS}/{quote(path)}", missing_ok=True)
    with suppress(PushFailed):
        _end(server, run_id, "FAILED")
    with suppress(PushFailed):
        server.call("POST", f"{API}/runs/delete", json={"run_id": run_id})


def _now() -> int:
    return int(time.time() * 1000)
