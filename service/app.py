"""The API: one application, made from settings. Nothing is built at import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import is_dataclass
from importlib.metadata import version
from typing import Any, Final, get_args, get_type_hints, is_typeddict

from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from latency_tables.errors import BespokeError
from service.http.compression import CompressedReads
from service.http.errors import on_error, register_names
from service.http.gateway import Gateway
from service.http.guard import GuardedRoute
from service.routes.catalog import ROUTERS
from service.schemas.problem import ProblemDocument
from service.settings import Settings
from service.startup import close_services, open_services

THREADS: Final = 32
DESCRIPTION: Final = (
    "Networks made to measure: a device and a latency budget in, a measured ONNX network out."
)


def create_app(settings: Settings) -> FastAPI:
    """The application. It opens the database when it starts, not before; refuses unsafe settings then."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # As many as SQLite connections are kept open: a thread more would open one for each request.
        current_default_thread_limiter().total_tokens = THREADS
        app.state.services = await run_sync(open_services, settings)
        try:
            yield
        finally:
            await run_sync(close_services, app.state.services)

    app = FastAPI(
        title="bespoke",
        version=version("bespoke-nas"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # A redirect would answer before the guard, and tell which paths exist.
        redirect_slashes=False,
        # paths are understood with this prefix and without it: gateways differ in what they send
        root_path=settings.root_path,
    )
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    _check_guarded(app)
    for kind in (RequestValidationError, HTTPException, BespokeError):
        app.add_exception_handler(kind, on_error)
    register_names(sorted(_field_names(app)))
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.add_middleware(CompressedReads)
    app.add_middleware(Gateway, settings=settings)
    return app


def _check_guarded(app: FastAPI) -> None:
    """Deny by default: no route of any other kind may be there."""
    loose = [getattr(route, "path", "?") for route in app.routes if not isinstance(route, GuardedRoute)]
    if loose:
        raise RuntimeError(f"routes without a guard: {', '.join(loose)}")


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: every operation answers errors as problem+json and names its scope."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["ProblemDocument"] = problem
    if app.root_path:
        document["servers"] = [{"url": app.root_path}]
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    answer = {
        "description": "An error",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = answer
    app.openapi_schema = document
    return document


def _field_names(app: FastAPI) -> set[str]:
    """Names of the fields and parameters that we declare; only these may stand in an error's pointer.

    Read from the classes: making the OpenAPI document for them would take a second of each start.
    """
    names, models = set[str](), set[type]()
    _add_models(ProblemDocument, models)
    for route in app.routes:
        if isinstance(route, GuardedRoute):
            dependant = route.dependant
            names.update(
                p.alias for p in (*dependant.query_params, *dependant.path_params, *dependant.header_params)
            )
            given = [parameter.field_info.annotation for parameter in dependant.body_params]
            answered = [route.response_model, *(one.get("model") for one in route.responses.values())]
            for annotation in (*given, *answered):
                _add_models(annotation, models)
    for model in models:
        if issubclass(model, BaseModel):
            names.update(field.alias or name for name, field in model.model_fields.items())
            names.update(model.model_computed_fields)
        else:
            names.update(get_type_hints(model))
    return names


def _add_models(annotation: Any, found: set[type]) -> None:
    """Every class with declared fields in an annotation: models, dataclasses, typed dictionaries."""
    for part in get_args(annotation):
        _add_models(part, found)
    if annotation in found or not isinstance(annotation, type) or get_args(annotation):
        return
    if issubclass(annotation, BaseModel):
        found.add(annotation)
        parts = [field.annotation for field in annotation.model_fields.values()]
        parts += [field.return_type for field in annotation.model_computed_fields.values()]
    elif is_dataclass(annotation) or is_typeddict(annotation):
        found.add(annotation)
        parts = list(get_type_hints(annotation).values())
    else:
        return
    for part in parts:
        _add_models(part, found)
