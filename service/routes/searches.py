"""Searches: is the budget reachable, then one transaction that writes the job and hands it over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_tables.errors import BespokeError
from service.datasets import check_trained_on
from service.db import devices as device_rows
from service.db import supernets as supernet_rows
from service.db.models import Job, Supernet
from service.db.states import JobKind
from service.db.tables import context_of
from service.devices.pricing import Pricing, at_resolutions, space_of
from service.http.dependencies import Caller, Service, Services
from service.http.errors import Problem, error, infeasible, problem_of
from service.http.guard import JSON, GuardedRoute, needs
from service.jobs.submission import once, request_digest, submit
from service.routes.jobs import job_view
from service.routes.supernets import IdempotencyKey, remarks_on, wanted_supernet
from service.schemas.jobs import JobView
from service.schemas.searches import Member, SearchIn, Target
from supernets.delivery.catalog import common_delivery, delivery_of
from supernets.errors import InfeasibleBudget, InvalidDataset, InvalidSearch, NoTable, UnknownDataset
from supernets.search.catalog import STRATEGIES
from supernets.search.limits import check_limits
from supernets.search.problem import Constraint
from supernets.search.restriction import excluded
from supernets.spaces.space import Space

router = APIRouter(route_class=GuardedRoute, tags=["searches"])
PATH: Final = "/v1/searches"
LATENCY: Final = "latency_ms"
WITHOUT_DATA: Final = (
    "the data set of this supernet is not registered here: the strategy gradient trains on it, and exact, "
    "evolution and random "
    "need it to score, recalibrate and test what they deliver. Register it (BESPOKE_DATASETS); until then "
    "the front is what "
    "can be had from registered accuracies alone (GET /v1/supernets/{id}/front, the strategy exact)"
)


@router.post(PATH, status_code=202, openapi_extra=needs("jobs:write", JSON))
def search(
    body: SearchIn,
    services: Service,
    caller: Caller,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Queue a search. An unreachable budget is refused at once, with the range that can be reached."""
    if body.strategy not in STRATEGIES:
        raise Problem("validation", f"this server has the strategies {', '.join(sorted(STRATEGIES))}")

    def action(session: Session) -> Job:
        supernet = _supernet(session, services, caller.tenant_id, body)
        request: dict[str, Any] = {
            "supernet_id": supernet.id,
            "targets": _targets(session, services, caller.tenant_id, body, supernet),
            "strategy": body.strategy,
            "confidence": body.confidence,
            "candidates": body.candidates,
            "verify": body.verify,
            "measured_candidates": body.measured_candidates,
            "batch": body.batch,
            "preprocessing": body.preprocessing,
        }
        request |= body.model_dump(include={"gate_epochs", "tune_epochs"}, exclude_none=True)
        request["remarks"] = remarks_on(session, caller.tenant_id, supernet)
        return submit(services, session, caller.tenant_id, JobKind.SEARCH, request)

    job = once(services, caller, idempotency_key, request_digest("POST", PATH, body.model_dump()), action)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_view(job)


def _supernet(session: Session, services: Services, tenant_id: str, body: SearchIn) -> Supernet:
    if body.supernet is None:
        return wanted_supernet(
            session,
            services,
            tenant_id,
            space=str(body.space),
            dataset=str(body.dataset),
            recipe=body.recipe,
            seed=body.seed,
        )
    found = supernet_rows.get(session, tenant_id, body.supernet)
    if found is None:
        detail = "no such supernet; GET /v1/supernets lists them"
        raise Problem("unknown_supernet", detail, errors=[error("/supernet", "unknown_supernet", detail)])
    try:
        check_trained_on(services.settings, found)
    except InvalidDataset as changed:
        raise Problem(
            "invalid_dataset", str(changed), errors=[error("/supernet", "invalid_dataset", str(changed))]
        ) from None
    except UnknownDataset:
        raise Problem(
            "unknown_dataset", WITHOUT_DATA, errors=[error("/supernet", "unknown_dataset", WITHOUT_DATA)]
        ) from None
    return found


def _targets(
    session: Session, services: Services, tenant_id: str, body: SearchIn, supernet: Supernet
) -> list[dict[str, Any]]:
    """The targets with their tables pinned. Raises Problem that says which target cannot be."""
    devices = device_rows.all_named(session, tenant_id, [m.device for t in body.targets for m in t.members()])
    space = space_of(supernet.space, supernet.classes)
    found = []
    for index, target in enumerate(body.targets):
        members, priced, contexts = [], [], []
        for position, member in enumerate(target.members()):
            pointer = f"/targets/{index}" + ("" if target.group is None else f"/group/{position}") + "/device"
            device = devices.get(member.device)
            if device is None:
                detail = "no such device; GET /v1/devices lists them"
                raise Problem("unknown_device", detail, errors=[error(pointer, "unknown_device", detail)])
            with _blaming(pointer):
                partial = target.missing == "exclude"
                contexts.append(context_of(device))
                delivery_of(contexts[-1])
                pricing = services.prices.load(
                    session, device, space, confidence=body.confidence, partial=partial
                )
            with _blaming(f"/targets/{index}/exclude"):
                _known_resolutions(space, target)
                priced.append(pricing.within(target.resolutions, target.exclusions()))
            pinned = {"device": device.name, "device_id": device.id, "table_id": pricing.table_id}
            members.append({**pinned, "budget": member.budget.stored()})
        if target.group is not None:
            with _blaming(f"/targets/{index}/group"):
                common_delivery(contexts)
        _check_reachable(index, target, space, priced)
        found.append(_stored(target, members))
    return found


def _stored(target: Target, members: list[dict[str, Any]]) -> dict[str, Any]:
    """A target as the job keeps it."""
    kept = target.model_dump(include={"exclude", "resolutions"}, exclude_none=True)
    if "exclude" in kept:
        kept["exclude"] = target.exclusions()
    if target.missing != "refuse":
        kept["missing"] = target.missing
    if target.group is None and members:
        return {**members[0], **kept}
    own = {} if target.budget is None else {"budget": target.budget.stored()}
    return {**({"group": members} if members else {}), **own, **kept}


@contextmanager
def _blaming(pointer: str) -> Iterator[None]:
    """What is raised within becomes a problem about that part of the request."""
    try:
        yield
    except InfeasibleBudget:
        raise
    except BespokeError as reason:
        problem = problem_of(reason)
        where = "/confidence" if problem.code == "too_few_networks" else pointer
        problem.errors = [error(where, problem.code, str(reason))]
        raise problem from None


def _known_resolutions(space: Space, target: Target) -> None:
    """Raises InvalidSearch for resolutions that the space does not have."""
    if not set(target.resolutions or ()) <= set(space.resolutions):
        raise InvalidSearch(f"resolutions of {space.name} are {', '.join(map(str, space.resolutions))}")


def _check_reachable(index: int, target: Target, space: Space, priced: list[Pricing]) -> None:
    """Refuses what no network can keep: each limit alone, the others within the peak memory, and any two
    together."""
    try:
        with _blaming(f"/targets/{index}/exclude"):
            _known_resolutions(space, target)
            shared = _shared(space, target, priced)
            mask = excluded(shared, target.exclusions()) if target.exclude else None
        constraints = []
        for member, pricing in zip(target.members(), priced, strict=True):
            low, high = pricing.reachable_ms()
            latency_ms = float(member.budget.latency_ms or 0.0)
            if latency_ms < low:
                raise InfeasibleBudget(_too_fast(member, pricing, low, high), low, high)
            name = LATENCY if target.group is None else f"{LATENCY} on {member.device}"
            constraints.append(
                Constraint(name, at_resolutions(pricing.held, pricing.space, shared), latency_ms)
            )
        check_limits(shared, constraints, target.limits(), mask)
    except InfeasibleBudget as reason:
        raise infeasible(reason, index) from None


def _shared(space: Space, target: Target, priced: list[Pricing]) -> Space:
    """The space at the resolutions that may be chosen on every device. Raises NoTable where there is none."""
    allowed = [r for r in space.resolutions if target.resolutions is None or r in target.resolutions]
    kept = [r for r in allowed if all(r in pricing.space.resolutions for pricing in priced)]
    if not kept:
        raise NoTable(
            f"the tables of these devices have no resolution of {space.name} in common that may be chosen"
        )
    return space.at(kept)


def _too_fast(member: Member, pricing: Pricing, low: float, high: float) -> str:
    bound = "" if pricing.confidence is None else f" with {pricing.confidence:.0%} confidence"
    return (
        f"no network of {pricing.space.name} is that fast on {member.device}{bound}: budgets from "
        f"{low:.4g} ms on can be "
        f"kept, and the slowest network takes {high:.4g} ms"
    )
