"""Servers that speak the protocols of a hub and of MLflow as far as a push needs them, on real sockets.

The hub's answers are those of `huggingface_hub`'s own protocol (`/api/repos/create`, `preupload`, the LFS
batch call, `commit`), MLflow's those of its REST API 2.0; written by us from their documentation, since
neither house can be reached from a test. `break_at` ends the connection in the middle of a request, as a
broken line does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]


@dataclass
class House:
    """What a server knows. seen: every request as (method, path, its Authorization)."""

    url: str = ""
    token: str | None = "secret-token"
    break_at: str | None = None
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    answer: Callable[[House, str, str, dict[str, list[str]], bytes], Answer] = field(repr=False, default=None)  # type: ignore[assignment]
    state: dict[str, Any] = field(default_factory=dict)


@contextmanager
def open_house(answer: Callable[..., Answer], **options: Any) -> Iterator[House]:
    house = House(answer=answer, **options)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            house.seen.append((self.command, parts.path, self.headers.get("Authorization")))
            if house.break_at is not None and house.break_at in f"{self.command} {parts.path}":
                self.close_connection = True
                self.connection.close()
                return
            storage = parts.path.startswith("/storage/")  # signed addresses: a token there would be a leak
            if not storage and house.token and self.headers.get("Authorization") != f"Bearer {house.token}":
                status, found = 401, {"error": "Invalid username or password."}
            elif storage and self.headers.get("Authorization"):
                status, found = 400, {"error": "only one auth mechanism allowed"}
            else:
                status, found = house.answer(
                    house, self.command, unquote(parts.path), parse_qs(parts.query), body
                )
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # the broken lines are ours

    server = Quiet(("127.0.0.1", 0), Handler)
    house.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield house
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# -- the hub ---------------------------------------------------------------------------------------


def hub(house: House, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
    repositories: dict[str, dict[str, bytes]] = house.state.setdefault("repositories", {})
    blobs: dict[str, bytes] = house.state.setdefault("blobs", {})
    if path.startswith("/storage/"):
        oid = path.rsplit("/", 1)[1]
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "digest differs"}
        blobs[oid] = body
        return 200, {}
    asked = json.loads(body) if body and not path.endswith("/commit/main") else {}
    if (method, path) == ("POST", "/api/repos/create"):
        name = f"{asked['organization']}/{asked['name']}"
        if name in repositories:
            return 409, {"error": "You already created this model repo"}
        repositories[name] = {}
        house.state["private"] = asked["private"]
        return 200, {"url": f"{house.url}/{name}"}
    if (method, path) == ("DELETE", "/api/repos/delete"):
        repositories.pop(f"{asked['organization']}/{asked['name']}")
        return 200, {}
    if path.endswith(".git/info/lfs/objects/batch"):
        objects = []
        for one in asked["objects"]:
            there = one["oid"] in blobs
            upload = {"upload": {"href": f"{house.url}/storage/{one['oid']}", "header": {"X-Signed": "yes"}}}
            objects.append({**one, **({} if there else {"actions": upload})})
        return 200, {"transfer": "basic", "objects": objects}
    owner, name, *rest = path.removeprefix("/api/models/").split("/")
    place = f"{owner}/{name}"
    if place not in repositories:
        return 404, {"error": "Repository not found"}
    if rest[:1] == ["preupload"]:
        mode = {True: "lfs", False: "regular"}
        return 200, {
            "files": [
                {"path": f["path"], "uploadMode": mode[f["path"].endswith(".onnx")]} for f in asked["files"]
            ]
        }
    if rest[:1] == ["commit"]:
        files = {}
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = blobs[value["oid"]]
        repositories[place] |= files
        return 200, {"commitUrl": f"{house.url}/{place}/commit/1"}
    return 200, {"id": place}


# -- MLflow ----------------------------------------------------------------------------------------


def mlflow(house: House, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
    state = house.state
    experiments, runs = state.setdefault("experiments", {}), state.setdefault("runs", {})
    artifacts, models = state.setdefault("artifacts", {}), state.setdefault("models", {})
    missing = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"})
    if path.startswith("/api/2.0/mlflow-artifacts/artifacts/"):
        name = path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")
        if method == "PUT":
            artifacts[name] = body
        else:
            artifacts.pop(name, None)
        return 200, {}
    call, asked = path.removeprefix("/api/2.0/mlflow/"), json.loads(body) if body else {}
    if call == "experiments/get-by-name":
        found = experiments.get(query["experiment_name"][0])
        return missing if found is None else (200, {"experiment": {"experiment_id": found}})
    if call == "experiments/create":
        experiments[asked["name"]] = str(len(experiments) + 1)
        return 200, {"experiment_id": experiments[asked["name"]]}
    if call == "runs/create":
        run_id, experiment = f"{len(runs):032x}", asked["experiment_id"]
        root = state.get("root", "mlflow-artifacts:/")
        info = {
            "run_id": run_id,
            "experiment_id": experiment,
            "artifact_uri": f"{root}{experiment}/{run_id}/artifacts",
        }
        runs[run_id] = {"info": info, "status": "RUNNING", "stage": "active", "tags": asked["tags"]}
        return 200, {"run": {"info": info}}
    if call == "runs/log-batch":
        runs[asked["run_id"]] |= {"metrics": asked["metrics"], "params": asked["params"]}
        return 200, {}
    if call == "runs/update":
        runs[asked["run_id"]]["status"] = asked["status"]
        return 200, {}
    if call == "runs/delete":
        runs[asked["run_id"]]["stage"] = "deleted"
        return 200, {}
    if call == "registered-models/get":
        return (200, {"registered_model": {}}) if query["name"][0] in models else missing
    if call == "registered-models/create":
        models[asked["name"]] = []
        return 200, {}
    if call == "model-versions/create":
        models[asked["name"]].append(asked)
        return 200, {}
    return missing
