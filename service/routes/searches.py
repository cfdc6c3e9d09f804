"""Searches: is the budget reachable, then one transaction that writes the job and hands it over."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_tables.errors import BespokeError, InfeasibleBudget, InvalidDataset, UnknownDataset
from service.datasets import check_trained_on
from service.db import devices as device_rows
from service.db import supernets as supernet_rows
from service.db.models import Device, Job, Supernet
from service.dependencies import Caller, Service, Services
from service.errors import Problem, error, infeasible, problem_of
from service.guard import JSON, GuardedRoute, needs
from service.pricing import Pricing, space_of
from service.routes.jobs import job_view
from service.routes.supernets import IdempotencyKey, remarks_on, wanted_supernet
from service.schemas.jobs import JobView
from service.schemas.searches import SearchIn, Target
from service.submission import once, request_digest, submit
from supernets.search.budgets import limited
from supernets.search.catalog import STRATEGIES
from supernets.search.problem import Constraint
from supernets.search.problem import Problem as SearchProblem
from supernets.search.several import check_pairs

router = APIRouter(route_class=GuardedRoute, tags=["searches"])
PATH: Final = "/v1/searches"
LATENCY: Final = "latency_ms"
WITHOUT_DATA: Final = (
    "the data set of this supernet is not registered here: the strategy gradient trains on it, and exact, evolution and random "
    "need it to score, recalibrate and test what they deliver. Register it (BESPOKE_DATASETS); until then the front is what "
    "can be had from registered accuracies alone (GET /v1/supernets/{id}/front, the strategy exact)"
)


@router.post(PATH, status_code=202, openapi_extra=needs("jobs:write", JSON))
def search(
    body: SearchIn, services: Service, caller: Caller, response: Response, idempotency_key: IdempotencyKey = None
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
        }
        request |= body.model_dump(include={"gate_epochs", "tune_epochs"}, exclude_none=True)
        request["remarks"] = remarks_on(session, caller.tenant_id, supernet)
        return submit(services, session, caller.tenant_id, "search", request)

    job = once(services, caller, idempotency_key, request_digest("POST", PATH, body.model_dump()), action)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_view(job)


def _supernet(session: Session, services: Services, tenant_id: str, body: SearchIn) -> Supernet:
    if body.supernet is None:
        return wanted_supernet(
            session, services, tenant_id, space=str(body.space), dataset=str(body.dataset), recipe=body.recipe, seed=body.seed
        )
    found = supernet_rows.get(session, tenant_id, body.supernet)
    if found is None:
        detail = "no such supernet; GET /v1/supernets lists them"
        raise Problem("unknown_supernet", detail, errors=[error("/supernet", "unknown_supernet", detail)])
    try:
        check_trained_on(services.settings, found)
    except InvalidDataset as changed:
        raise Problem("invalid_dataset", str(changed), errors=[error("/supernet", "invalid_dataset", str(changed))]) from None
    except UnknownDataset:
        raise Problem("unknown_dataset", WITHOUT_DATA, errors=[error("/supernet", "unknown_dataset", WITHOUT_DATA)]) from None
    return found


def _targets(session: Session, services: Services, tenant_id: str, body: SearchIn, supernet: Supernet) -> list[dict[str, Any]]:
    """The targets with their tables pinned. Raises Problem that says which target cannot be."""
    devices = device_rows.all_named(session, tenant_id, [t.device for t in body.targets])
    space = space_of(supernet.space, supernet.classes)
    found = []
    for index, target in enumerate(body.targets):
        device = devices.get(target.device)
        if device is None:
            detail = "no such device; GET /v1/devices lists them"
            raise Problem("unknown_device", detail, errors=[error(f"/targets/{index}/device", "unknown_device", detail)])
        try:
            pricing = services.prices.load(session, device, space, confidence=body.confidence)
        except BespokeError as reason:
            problem = problem_of(reason)
            pointer = "/confidence" if problem.code == "too_few_networks" else f"/targets/{index}/device"
            problem.errors = [error(pointer, problem.code, str(reason))]
            raise problem from None
        _check_reachable(index, target, device, pricing)
        found.append(
            {
                "device": device.name,
                "device_id": device.id,
                "table_id": pricing.table_id,
                "budget": {"latency_ms": target.budget.latency_ms, **target.budget.limits()},
            }
        )
    return found


def _check_reachable(index: int, target: Target, device: Device, pricing: Pricing) -> None:
    """Refuses what no network can keep: each limit alone, the others within the peak memory, and any two together."""
    low, high = pricing.reachable_ms()
    latency_ms = target.budget.latency_ms
    if latency_ms < low:
        bound = "" if pricing.confidence is None else f" with {pricing.confidence:.0%} confidence"
        detail = (
            f"no network of {pricing.space.name} is that fast on {device.name}{bound}: budgets from {low:.4g} ms on can be "
            f"kept, and the slowest network takes {high:.4g} ms"
        )
        raise infeasible(InfeasibleBudget(detail, low, high), index)
    held = pricing.held
    alone = SearchProblem(held.chain, held, (Constraint(LATENCY, held, latency_ms),))
    try:
        check_pairs(limited(pricing.space, alone, target.budget.limits()).constraints)
    except InfeasibleBudget as reason:
        raise infeasible(reason, index) from None
