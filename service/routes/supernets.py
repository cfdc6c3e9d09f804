"""Supernets: train, look at, how the training went and how well accuracy is predicted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from service.datasets import known, remark_on_change, trained_on_fingerprint
from service.db import jobs as job_rows
from service.db import supernets as supernet_rows
from service.db.documents import Document, Fields, part
from service.db.models import Job, Supernet
from service.db.session import Session
from service.db.states import JobKind
from service.http.dependencies import (
    Caller,
    IdempotencyKey,
    Service,
    Services,
    decode_cursor,
    encode_cursor,
    page,
)
from service.http.errors import Problem, error, invalid, not_found
from service.http.guard import JSON, GuardedRoute, needs
from service.jobs.requests import SupernetRequest, stored
from service.jobs.submission import submit
from service.routes.jobs import handed_in
from service.schemas.jobs import JobView
from service.schemas.searches import (
    History,
    HistoryPoint,
    MemoryView,
    PredictorPairs,
    PredictorView,
    Scored,
    SupernetIn,
    SupernetList,
    SupernetView,
)
from service.schemas.strict import PageSize
from supernets.accuracy.predictor import HeldOut
from supernets.accuracy.refinement import from_json, summary
from supernets.data.catalog import task_for
from supernets.errors import InvalidTraining, UnknownRecipe, UnknownSpace
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space, alike
from supernets.tasks.info import IMAGES
from supernets.training.catalog import TRANSFER, recipe_named
from supernets.training.recipe import Recipe
from supernets.training.sharing import Sharing, check_recipe

router = APIRouter(route_class=GuardedRoute, tags=["supernets"])
PATH: Final = "/v1/supernets"


def supernet_of(session: Session, tenant_id: str, supernet_id: str) -> Supernet:
    """Raises Problem `not_found`, the same for another tenant's supernet."""
    found = supernet_rows.get(session, tenant_id, supernet_id)
    if found is None:
        raise not_found("supernet")
    return found


def wanted_supernet(
    session: Session,
    services: Services,
    tenant_id: str,
    *,
    space: str,
    dataset: str,
    recipe: str | None,
    seed: int,
    parent: str | None = None,
    memory_mb: int | None = None,
    distributed: Fields | None = None,
    class_weights: str | None = None,
    control: bool = False,
) -> Supernet:
    """The row of the supernet of these inputs, made if there is none. parent: whose weights it begins with.

    memory_mb: of its training, which computes something else within a limit. class_weights, control: see
    `SupernetIn`. Raises Problem for unknown names or a bad match.
    """
    recipe = recipe or ("standard" if parent is None else TRANSFER)
    try:
        found = space_named(space)
    except UnknownSpace as unknown:
        raise Problem(
            "unknown_space", str(unknown), errors=[error("/space", "unknown_space", str(unknown))]
        ) from None
    try:
        chosen = replace(recipe_named(recipe, found), class_weights=class_weights)
    except UnknownRecipe as unknown:
        raise invalid("/recipe", "unknown_recipe", str(unknown)) from None
    if recipe == TRANSFER and parent is None:
        detail = "it begins with the weights of another supernet: name it in `from`, or take `standard`"
        raise invalid("/recipe", "needs_from", detail)
    if class_weights is not None and task_for(dataset, services.settings.datasets).name != IMAGES:
        raise invalid("/class_weights", "no_classes", "only pictures have classes to weigh; leave it out")
    data = known(services.settings, dataset)
    if data.classes is None:
        raise Problem("unknown_dataset", "the operator's data set is not there; ask who runs the service")
    refusal = task_for(dataset, services.settings.datasets).refusal(found, (data.channels, *data.also))
    if refusal is not None:
        raise invalid("/dataset", "channels", refusal)
    inputs = {
        "space": space,
        "dataset": dataset,
        "classes": data.classes,
        "recipe": {
            **chosen.of_weights(),
            "description": "",
        },  # what follows a training makes no other supernet
        "seed": seed,
    }
    options: Document = {} if memory_mb is None else {"memory_mb": memory_mb}
    if distributed is not None:
        options["distributed"] = _sharing(services, chosen, distributed).to_json()
    inputs |= options
    if parent is not None:
        inputs["start"] = _start(session, tenant_id, parent, found)
    elif (
        data.fingerprint == data.before
    ):  # trained before built-in sets had fingerprints, on what is here now
        older = supernet_rows.with_digest(session, tenant_id, supernet_rows.digest_of(inputs))
        if older is not None:
            return _with_control(older, control)
    asked = {} if class_weights is None else {"class_weights": class_weights}
    row = supernet_rows.find_or_add(
        session,
        tenant_id,
        supernet_rows.digest_of({**inputs, "fingerprint": data.fingerprint}),
        space=space,
        dataset=dataset,
        recipe=recipe,
        seed=seed,
        classes=data.classes,
        dataset_fingerprint=data.fingerprint,
        parent_id=parent,
        options={**options, **asked},
    )
    return _with_control(row, control)


def _with_control(row: Supernet, control: bool) -> Supernet:
    """The row, from which searches train a control too once anybody has asked for it: other weights it is
    not."""
    if control and not (row.options or {}).get("control"):
        row.options = {**(row.options or {}), "control": True}
    return row


def _sharing(services: Services, recipe: Recipe, asked: Fields) -> Sharing:
    """How several processes share a training. Raises Problem where they do not here, or not by that
    recipe."""
    if services.settings.training_processes == 1:
        detail = "this service trains with one process; its operator sets BESPOKE_TRAINING_PROCESSES"
        raise invalid("/distributed", "processes", detail)
    try:
        found = Sharing.from_json(asked)
        check_recipe(found, recipe.name, recipe.optimiser)
    except InvalidTraining as refused:
        raise invalid("/distributed", "distributed", str(refused)) from None
    return found


def _start(session: Session, tenant_id: str, parent: str, space: Space) -> str:
    """SHA-256 of the weights of a supernet. Raises Problem where it cannot be the beginning of one of
    that space."""
    found = supernet_rows.get(session, tenant_id, parent)
    if found is None:
        detail = "no such supernet; GET /v1/supernets lists them"
        raise Problem("unknown_supernet", detail, errors=[error("/from", "unknown_supernet", detail)])
    if found.space != space.name and not alike(space_named(found.space), space):
        detail = (
            f"it is of space {found.space}, and weights of one space are none of another; train {found.space}"
        )
        raise invalid("/from", "space", detail)
    if found.weights_sha256 is None:
        raise Problem("not_ready", "it has no weights to begin with yet; wait for its job to succeed")
    return found.weights_sha256


def remarks_on(session: Session, services: Services, tenant_id: str, row: Supernet) -> list[str]:
    """What to say to who asked for that supernet: whether its data set is another one than under that name
    before."""
    found = known(services.settings, row.dataset)
    own, trained = (
        trained_on_fingerprint(found, row),
        supernet_rows.of_dataset(session, tenant_id, row.dataset),
    )
    said = remark_on_change(found, own, trained)
    return [] if said is None else [said]


@router.post(PATH, status_code=202, openapi_extra=needs("jobs:write", JSON))
def train(
    body: SupernetIn,
    services: Service,
    caller: Caller,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Train a supernet, or get the job that trained it from the same inputs."""

    def action(session: Session) -> Job:
        row = wanted_supernet(session, services, caller.tenant_id, **body.model_dump())
        # One training for all who ask for the same: it may take days.
        under_way = job_rows.of_supernet(session, caller.tenant_id, row.id)
        remarks = tuple(remarks_on(session, services, caller.tenant_id, row))
        request = stored(SupernetRequest(row.id, remarks))
        return under_way or submit(services, session, caller.tenant_id, JobKind.SUPERNET, request)

    return handed_in(services, caller, response, idempotency_key, PATH, body, action)


@router.get("/v1/supernets", openapi_extra=needs("jobs:read"))
def listed(services: Service, caller: Caller, after: str | None = None, limit: PageSize = 50) -> SupernetList:
    """Supernets, the newest first."""
    cursor = decode_cursor(after)
    with services.sessions() as session:
        found = supernet_rows.listed(session, caller.tenant_id, cursor, limit + 1)
        rows, further = page(found, limit, lambda row: encode_cursor(row.created_at, row.id))
        return SupernetList(items=[_view(session, row) for row in rows], next=further)


@router.get("/v1/supernets/{supernet_id}", openapi_extra=needs("jobs:read"))
def one(supernet_id: str, services: Service, caller: Caller) -> SupernetView:
    """A supernet with the accuracy of its largest and smallest sub-network and its predictor's held-out
    error."""
    with services.sessions() as session:
        return _view(session, supernet_of(session, caller.tenant_id, supernet_id))


@router.get("/v1/supernets/{supernet_id}/history", openapi_extra=needs("jobs:read"))
def history(supernet_id: str, services: Service, caller: Caller) -> History:
    """How its training went: loss, learning rate and validation accuracy by epoch and phase, in order."""
    with services.sessions() as session:
        row = supernet_of(session, caller.tenant_id, supernet_id)
        reports = supernet_rows.history(session, caller.tenant_id, row.id)
    items = [
        HistoryPoint(
            at=report.at,
            fraction=report.fraction,
            **{name: report.metrics[name] for name in ("phase", "epoch", "epochs", "loss")},
            **{name: report.metrics.get(name) for name in ("rate", "validation")},
        )
        for report in reports
    ]
    return History(items=items)


@router.get("/v1/supernets/{supernet_id}/predictor", openapi_extra=needs("jobs:read"))
def predictor(supernet_id: str, services: Service, caller: Caller) -> PredictorPairs:
    """Predicted against measured accuracy, each network predicted by a fit that had not seen it."""
    with services.sessions() as session:
        row = supernet_of(session, caller.tenant_id, supernet_id)
    if row.predictor is None:
        raise Problem("not_ready", "wait for its job to succeed")
    fitted = services.prices.predictor(row)[0]
    predicted, measured = fitted.pairs()  # qualities
    held_out = HeldOut.of(predicted, measured, 5)
    return PredictorPairs(
        name="additive",
        predicted=[float(fitted.metric.quality(p)) for p in predicted],
        measured=[float(fitted.metric.quality(m)) for m in measured],
        rmse=held_out.rmse,
        kendall_tau=held_out.kendall_tau,
    )


def _view(session: Session, row: Supernet) -> SupernetView:
    job = job_rows.of_supernet(session, row.tenant_id, row.id)
    return SupernetView(
        id=row.id,
        space=row.space,
        dataset=row.dataset,
        dataset_fingerprint=row.dataset_fingerprint,
        recipe=row.recipe,
        seed=row.seed,
        classes=row.classes,
        parent=row.parent_id,
        memory_mb=(row.options or {}).get("memory_mb"),
        distributed=(row.options or {}).get("distributed"),
        class_weights=(row.options or {}).get("class_weights"),
        control=bool((row.options or {}).get("control")),
        normalisation=part(row.summary, "normalisation") or None,
        state="ready" if row.ready_at is not None else "training" if job is not None else "waiting",
        largest=_scored(row.summary, "largest"),
        smallest=_scored(row.summary, "smallest"),
        predictor=None if row.predictor is None else _predictor(row.predictor),
        memory=_memory(row.summary),
        job_id=None if job is None else job.id,
        created_at=row.created_at,
        ready_at=row.ready_at,
    )


def _scored(summary: Fields | None, which: str) -> Scored | None:
    found = part(summary, which)
    return Scored(accuracy=found["accuracy"], architecture=found["architecture"]) if found else None


def _memory(summary: Fields | None) -> MemoryView | None:
    found = part(summary, "memory")
    return MemoryView(**found) if found else None


def _predictor(data: Fields) -> PredictorView:
    predictor, refinement = from_json(data)
    return PredictorView(**summary(refinement or predictor))
