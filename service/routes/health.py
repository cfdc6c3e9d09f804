"""Alive, ready, figures, and the contract itself."""

from __future__ import annotations

from html import escape
from importlib.metadata import version

from fastapi import APIRouter
from prometheus_client import generate_latest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from service.db import figures
from service.http.auth import PUBLIC
from service.http.dependencies import Caller, Service
from service.http.guard import GuardedRoute, needs
from service.schemas.catalog import Health, Readiness, Status
from service.schemas.strict import JsonObject
from service.startup import ready_checks

router = APIRouter(route_class=GuardedRoute, tags=["service"])


@router.get("/healthz", openapi_extra=needs(PUBLIC))
def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok", version=version("bespoke-nas"))


@router.get(
    "/readyz", response_model=Readiness, responses={503: {"model": Readiness}}, openapi_extra=needs(PUBLIC)
)
def readyz(services: Service) -> Response:
    """Whether database and artifact store can be reached."""
    checks = ready_checks(services.sessions, services.store)
    good = all(value == "ok" for value in checks.values())
    body = {"status": "ok" if good else "unavailable", "checks": checks}
    return JSONResponse(body, 200 if good else 503, headers={} if good else {"Retry-After": "2"})


@router.get("/v1/status", openapi_extra=needs("jobs:read"))
def status(services: Service, caller: Caller) -> Status:
    """Whether anybody works: living workers, and the tenant's jobs by state."""
    with services.sessions() as session:
        workers = figures.living_workers(session, services.settings.dead_after_s)
        return Status(
            workers=workers, jobs=figures.jobs_of(session, caller.tenant_id), version=version("bespoke-nas")
        )


@router.get("/openapi.json", openapi_extra=needs(PUBLIC))
def openapi(request: Request) -> JsonObject:
    """The contract as OpenAPI 3.1."""
    document: JsonObject = request.app.openapi()
    return document


@router.get("/docs", response_class=HTMLResponse, openapi_extra=needs(PUBLIC))
def docs(request: Request) -> HTMLResponse:
    """Every call on one page; no script, nothing from elsewhere."""
    rows = []
    for path, operations in request.app.openapi()["paths"].items():
        for method, operation in operations.items():
            call, text = (
                f"{method.upper()} {path}",
                operation.get("description") or operation.get("summary", ""),
            )
            cells = (f"<code>{escape(call)}</code>", escape(text), escape(operation.get("x-scope", "")))
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    style = (
        "body{font:16px sans-serif;margin:2em}td,th{padding:.3em 1em .3em "
        "0;text-align:left;vertical-align:top}"
    )
    head = (
        "<!doctype html><html lang=en><meta "
        f"charset=utf-8><title>bespoke</title><style>{style}</style><h1>bespoke</h1>"
    )
    note = (
        f"<p>The machine-readable contract is <code>{request.app.root_path}/openapi.json</code>. A key goes "
        "into <code>Authorization: Bearer</code>.</p>"
    )
    table = f"<table><tr><th>call</th><th>does</th><th>scope</th></tr>{''.join(rows)}</table></html>"
    return HTMLResponse(head + note + table)


@router.get("/metrics", response_class=Response, openapi_extra=needs("metrics:read"))
def metrics(services: Service, caller: Caller) -> Response:
    """Figures of this process and of the whole database, for Prometheus."""
    with services.sessions() as session:
        found = figures.read(session, services.settings.dead_after_s, services.settings.agent_present_s)
    services.telemetry.show(found)
    return Response(
        generate_latest(services.telemetry.registry), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
