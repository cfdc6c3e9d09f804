"""A real fake of the service's side of the agent protocol, behind httpx's transport seam. Faults are injected
by hooks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import httpx

KEY = "agent-key-0123456789abcdef"


def problem(status, kind, detail="no"):
    return httpx.Response(
        status,
        json={
            "type": f"https://bespoke.example/problems/{kind}",
            "title": kind,
            "status": status,
            "detail": detail,
        },
    )


class FakeService:
    """Tasks over some files; keeps what it was told. `fault(request)` may raise a transport error or return a
    response."""

    def __init__(
        self,
        files,
        kinds=None,
        sentinel=True,
        fault: Callable[[httpx.Request], httpx.Response | None] = lambda request: None,
        shape=(1, 3, 8, 8),
    ):
        self.files = {hashlib.sha256(data).hexdigest(): data for data in files}
        self.tokens = {"token-1"}
        self.session_id, self.closed = "session-1", False
        self.sentinel = (
            {"sha256": next(iter(self.files)), "size_bytes": len(next(iter(self.files.values())))}
            if sentinel
            else None
        )
        self.tasks = {
            f"task-{i}": {
                "id": f"task-{i}",
                "kind": (kinds or ["operator"] * len(files))[i],
                "sha256": sha,
                "size_bytes": len(data),
                "nonce": f"nonce-{i}",
                "operator": None,
                "input_shape": list(shape),
            }
            for i, (sha, data) in enumerate(self.files.items())
        }
        self.failures: dict[str, str] = {}
        self.answers, self.posts, self.enrolled, self.heartbeats = {}, {}, [], 0
        self.fault, self.received = fault, []
        self.transport = httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.received.append(f"{request.method} {request.url.path}")
        answer = self.fault(request)
        return answer if answer is not None else self.route(request)

    def route(self, request):
        path = request.url.path
        if path == "/v1/agent/enrol":
            return self.enrol(json.loads(request.content))
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return problem(401, "unauthenticated")
        if self.closed:
            return problem(409, "session_closed")
        if path == "/v1/agent/tasks":
            self.heartbeats += 1
            limit = int(request.url.params["limit"])
            left = [t for t in self.tasks.values() if t["id"] not in {**self.answers, **self.failures}]
            body = {
                "session_id": self.session_id,
                "context": self.enrolled[-1]["context"] if self.enrolled else None,
                "sentinel": self.sentinel,
                "items": left[:limit],
                "remaining": len(left),
                "poll_s": 2.0,
            }
            return httpx.Response(200, json=body)
        if path.startswith("/v1/agent/files/"):
            data = self.files.get(path.rsplit("/", 1)[1])
            return problem(404, "not_found") if data is None else httpx.Response(200, content=data)
        if path == "/v1/agent/measurements":
            return self.post(json.loads(request.content))
        return problem(404, "not_found")

    def enrol(self, body):
        if body["token"] not in self.tokens:
            return problem(401, "unauthenticated", "the token was used or has expired")
        self.tokens.remove(body["token"])
        self.enrolled.append(body)
        return httpx.Response(
            201,
            json={
                "device": "board",
                "session_id": self.session_id,
                "agent_key": KEY,
                "expires_at": "2099-01-01T00:00:00Z",
            },
        )

    def post(self, body):
        key = (body["session_id"], body["sequence"])
        if key in self.posts:
            return (
                httpx.Response(200, json={"accepted": len(body["items"]) + len(body.get("failures", []))})
                if self.posts[key] == body
                else problem(409, "conflict")
            )
        failures = body.get("failures", [])
        for item in [*body["items"], *failures]:
            if self.tasks[item["task_id"]]["nonce"] != item["nonce"]:
                return problem(422, "nonce")
        self.posts[key] = body
        self.failures |= {one["task_id"]: one["reason"] for one in failures}
        for item in body["items"]:
            assert item["task_id"] not in self.answers, "a task was answered twice"
            self.answers[item["task_id"]] = item
        return httpx.Response(200, json={"accepted": len(body["items"]) + len(body.get("failures", []))})
