"""Searches: is the budget reachable, then one transaction that writes the job and hands it over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from latency_tables.errors import BespokeError
from latency_tables.measurement import Context
from service.datasets import check_trained_on
from service.db import agents as agent_rows
from service.db import devices as device_rows
from service.db import jobs as job_rows
from service.db import supernets as supernet_rows
from service.db.documents import part
from service.db.models import Job, Model, Supernet, now
from service.db.session import Session
from service.db.states import JobKind
from service.db.tables import context_of
from service.devices.contexts import generating
from service.devices.costs import asked_for
from service.devices.reachable import PricedDevice, check_reachable, check_resolutions, common_ground
from service.http.dependencies import Caller, IdempotencyKey, Service, Services
from service.http.errors import Problem, error, infeasible, invalid, problem_of
from service.http.guard import JSON, GuardedRoute, needs
from service.jobs.requests import PinnedDevice, SearchRequest, SearchTarget, read, stored
from service.jobs.submission import submit
from service.routes.jobs import handed_in
from service.routes.models import model_of
from service.routes.supernets import remarks_on, wanted_supernet
from service.schemas.jobs import JobView
from service.schemas.searches import Budget, CompressIn, SearchIn, Target
from supernets.delivery.catalog import check_precisions, common_delivery, delivery_of
from supernets.delivery.compression.catalog import ordered
from supernets.delivery.precision import ASKED, FLOAT32, space_in
from supernets.errors import InfeasibleBudget, InvalidCompression, InvalidDataset, UnknownDataset
from supernets.search.catalog import STRATEGIES
from supernets.search.limits import LIMITS
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space
from supernets.training.catalog import IMPORTED, TRANSFER, TUNE_EPOCHS

router = APIRouter(route_class=GuardedRoute, tags=["searches"])
PATH: Final = "/v1/searches"
WITHOUT_DATA: Final = (
    "the data set of this supernet is not registered here: the strategy gradient trains on it, and exact, "
    "evolution and random need it to score, recalibrate and test what they deliver. Register it "
    "(BESPOKE_DATASETS); until then the front is what can be had from registered accuracies alone (GET "
    "/v1/supernets/{id}/front, the strategy exact)"
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
        space = _space(body, supernet)
        robustness = _robustness(body.robustness, space)
        request = SearchRequest(
            supernet_id=supernet.id,
            targets=tuple(_targets(session, services, caller.tenant_id, body, space)),
            strategy=body.strategy,
            confidence=body.confidence,
            candidates=body.candidates,
            verify=body.verify,
            measured_candidates=body.measured_candidates,
            batch=body.batch,
            preprocessing=body.preprocessing,
            gate_epochs=body.gate_epochs,
            tune_epochs=_tune_epochs(body, supernet),
            control=_control(body, supernet) or None,
            memory_mb=body.memory_mb,
            train=None if body.train == "all" else body.train,
            remarks=tuple(remarks_on(session, services, caller.tenant_id, supernet)),
            robustness=robustness or None,
            defensive=body.defensive or None,
            generation=None if space.generation is None else space.generation.to_json(),
        )
        return submit(services, session, caller.tenant_id, JobKind.SEARCH, stored(request))

    return handed_in(services, caller, response, idempotency_key, PATH, body, action)


def _space(body: SearchIn, supernet: Supernet) -> Space:
    """The supernet's space, priced for the sentence that was asked for. Raises Problem for what networks that
    write sentences do not have."""
    asked = None if body.generation is None else body.generation.model_dump()
    space = generating(space_named(supernet.space, supernet.classes), asked)
    if space.generation is None:
        return space
    said = f"networks of {space.name} write sentences: "
    if body.strategy == "gradient":
        raise invalid("/strategy", "strategy", f"{said}search them with exact, evolution or random")
    if body.batch != "device":
        raise invalid("/batch", "batch", f"{said}their archive takes any number of them; leave `batch` out")
    if body.preprocessing != "separate":
        raise invalid("/preprocessing", "preprocessing", f"{said}their vocabularies are in the archive")
    return space


@router.post("/v1/models/{model_id}/compress", status_code=202, openapi_extra=needs("jobs:write", JSON))
def compress(
    model_id: str,
    body: CompressIn,
    services: Service,
    caller: Caller,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Queue a delivered network once more, with the precisions of its blocks chosen for a budget, or put
    through compression passes."""

    def action(session: Session) -> Job:
        origin = model_of(session, caller.tenant_id, model_id)
        supernet = supernet_rows.of_model(session, origin)
        before = _asked_before(session, origin)
        asked = _search_for(session, origin, before, body, supernet)
        _supernet(session, services, caller.tenant_id, asked)  # its data set is as it was
        space = space_named(supernet.space, supernet.classes)
        passes = _passes(body, space)
        _check_whole(body, origin)
        only = space.in_float(space.from_json(part(origin.card, "architecture")))
        robustness = _robustness(body.robustness, space, before.preprocessing)
        request = SearchRequest(
            supernet_id=supernet.id,
            targets=tuple(_targets(session, services, caller.tenant_id, asked, space, only)),
            confidence=asked.confidence,
            candidates=asked.candidates,
            verify=asked.verify,
            measured_candidates=asked.measured_candidates,
            batch=before.batch,
            preprocessing=before.preprocessing,
            # The weights it was delivered with: its fine-tuning is a step that was done.
            tune_epochs=before.tune_epochs,
            memory_mb=before.memory_mb,
            train=before.train,
            origin=origin.id,
            passes=passes,
            robustness=robustness or None,
            defensive=before.defensive,
        )
        return submit(services, session, caller.tenant_id, JobKind.COMPRESS, stored(request))

    path = f"/v1/models/{model_id}/compress"
    return handed_in(services, caller, response, idempotency_key, path, body, action)


def _passes(body: CompressIn, space: Space) -> tuple[str, ...] | None:
    """In the order in which they are applied. Raises Problem for one that is not there, and for networks that
    have none."""
    if body.passes is None:
        return None
    try:
        passes = ordered(body.passes)
    except InvalidCompression as refused:
        raise _refused_passes(str(refused)) from None
    if len(space.inputs) != 1 or space.generation is not None:
        raise _refused_passes(
            f"networks of {space.name} write sentences: compression passes are not for them"
        )
    return passes


def _check_whole(body: CompressIn, origin: Model) -> None:
    """Raises Problem for a network that is to be pruned again."""
    if body.prune and part(origin.card, "architecture").get("pruned"):
        detail = (
            f"channels were cut out of model {origin.id} before, and its weights are refitted to the rest: "
            "prune the network that it came from, or search again with prune"
        )
        raise Problem("invalid_pruning", detail, errors=[error("/prune", "invalid_pruning", detail)])


def _robustness(asked: bool, space: Space, preprocessing: str = "separate") -> bool:
    """Whether the card is to have it. Raises Problem where no picture can be changed."""
    if asked and (len(space.inputs) != 1 or space.generation is not None or not space.image_channels):
        detail = f"networks of {space.name} take no pictures that could be changed: leave robustness out"
        raise invalid("/robustness", "robustness", detail)
    if asked and preprocessing == "embedded":
        detail = "the model takes bytes, and robustness changes normalised pictures: leave robustness out"
        raise invalid("/robustness", "robustness", detail)
    return asked


def _refused_passes(detail: str) -> Problem:
    return Problem("invalid_compression", detail, errors=[error("/passes", "invalid_compression", detail)])


def _budget(origin: Model, body: CompressIn) -> Budget:
    """As it was asked for, else the one that the model was delivered for."""
    if body.budget is not None:
        return body.budget
    kept = {one["name"]: int(one["limit"]) for one in _constraints(origin) if one["name"] in LIMITS}
    device = {} if origin.budget_ms is None else {"latency_ms": origin.budget_ms}
    return Budget.model_validate({**device, **kept})


def _constraints(origin: Model) -> list[dict[str, Any]]:
    found: Any = origin.card.get("constraints") or []
    return list(found)


def _search_for(
    session: Session, origin: Model, before: SearchRequest, body: CompressIn, supernet: Supernet
) -> SearchIn:
    """What is asked of a network, as a search that has no other to choose, fine-tuned as it was before.
    Raises Problem where no search could ask for that, such as int8 beside lite residuals."""
    device, budget = body.device, _budget(origin, body)
    if device is None and origin.device_id is not None and budget.on_device():
        device = device_rows.of_model(session, origin).name
    target = {
        "device": device,
        "budget": budget,
        "exclude": body.exclude,
        "resolutions": [int(part(origin.card, "architecture")["resolution"])],
        "precision": body.precision_asked,
        # What was cut out of it before stays so (`mask_of`); no other width is chosen then.
        "prune": body.prune or bool(part(origin.card, "architecture").get("pruned")),
    }
    wish = {
        "supernet": supernet.id,
        "targets": [{name: value for name, value in target.items() if value is not None}],
        "confidence": body.confidence,
        "candidates": body.candidates,
        "verify": body.verify,
        "measured_candidates": body.measured_candidates,
        "tune_epochs": before.tune_epochs,
        "train": before.train or "all",
    }
    try:
        return SearchIn.model_validate(wish)
    except ValidationError as reason:
        first = reason.errors()[0]
        detail = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            raise invalid("/budget", "budget", detail) from None
        raise invalid(
            "", "fine_tuning", f"the model was fine-tuned with train {before.train}: {detail}"
        ) from None


def _asked_before(session: Session, origin: Model) -> SearchRequest:
    """The request that a model was delivered for."""
    job = job_rows.get(session, origin.tenant_id, origin.job_id)
    return SearchRequest(origin.supernet_id, ()) if job is None else read(SearchRequest, job.request)


def _tune_epochs(body: SearchIn, supernet: Supernet) -> int | None:
    """As asked for; else some where the supernet is one that transfers weights, where they pay."""
    if body.tune_epochs is None and supernet.recipe == TRANSFER:
        return TUNE_EPOCHS
    return body.tune_epochs or None


def _control(body: SearchIn, supernet: Supernet) -> bool:
    """Whether a control is trained. Raises Problem where there are no steps to be equal to."""
    if body.control is None:
        return bool((supernet.options or {}).get("control"))
    if body.control and supernet.recipe == IMPORTED:
        detail = "how many steps an imported supernet was trained for is unknown; train from it, with control"
        raise invalid("/control", "no_steps", detail)
    return body.control


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
    session: Session,
    services: Services,
    tenant_id: str,
    body: SearchIn,
    plain: Space,
    only: Architecture | None = None,
) -> list[SearchTarget]:
    """The targets with their tables pinned. only: the network that all of them are for. Raises Problem that
    says which target cannot be."""
    devices = device_rows.all_named(session, tenant_id, [m.device for t in body.targets for m in t.members()])
    since = now() - timedelta(seconds=services.settings.agent_present_s)
    found = []
    for index, target in enumerate(body.targets):
        members: list[PinnedDevice] = []
        priced: list[PricedDevice] = []
        contexts: list[Context] = []
        with _blaming(f"/targets/{index}/prune"):
            space = space_in(plain, None, target.prune)
        with _blaming(f"/targets/{index}/precision"):
            space = space_in(space, ASKED[target.precision])
        for position, member in enumerate(target.members()):
            pointer = f"/targets/{index}" + ("" if target.group is None else f"/group/{position}") + "/device"
            device = devices.get(member.device)
            if device is None:
                detail = "no such device; GET /v1/devices lists them"
                raise Problem("unknown_device", detail, errors=[error(pointer, "unknown_device", detail)])
            with _blaming(pointer):
                partial = target.missing == "exclude"
                contexts.append(context_of(device))
                delivery_of(contexts[-1], space)
                check_precisions([contexts[-1]], ASKED[target.precision])
                pricing = services.prices.load(
                    session, device, space, confidence=body.confidence, partial=partial
                )
            with _blaming(f"/targets/{index}/exclude"):
                check_resolutions(space, target)
                within = pricing.within(target.resolutions, target.exclusions(), only)
            budget = member.budget.stored()
            for name in asked_for(budget):
                with _blaming(pointer.removesuffix("/device") + f"/budget/{name}", own=True):
                    within = services.prices.with_costs(
                        session,
                        device,
                        pricing,
                        within,
                        [*within.costs, name],
                        confidence=body.confidence,
                        partial=partial,
                    )
            measures = (
                body.verify and body.confidence is None and agent_rows.is_present(session, device.id, since)
            )
            priced.append(PricedDevice(member, within, measures))
            members.append(PinnedDevice(device.name, device.id, pricing.table_id, budget))
        with _blaming(f"/targets/{index}/group"):
            form = common_delivery(contexts, space)
        try:
            with _blaming(f"/targets/{index}/exclude"):
                ground = common_ground(space, target, priced, only)
            check_reachable(ground, target, priced, form.bytes_per_value)
        except InfeasibleBudget as reason:
            raise infeasible(reason, index) from None
        network = None if only is None else plain.to_json(only)
        found.append(replace(_pinned(target, tuple(members)), network=network))
    return found


def _pinned(target: Target, members: tuple[PinnedDevice, ...]) -> SearchTarget:
    """A target as the job keeps it."""
    exclude = {name: tuple(values) for name, values in target.exclusions().items()}
    resolutions = None if target.resolutions is None else tuple(target.resolutions)
    own = {} if target.budget is None else target.budget.stored()
    missing = None if target.missing == "refuse" else target.missing
    kept = SearchTarget(
        budget=own,
        exclude=exclude,
        resolutions=resolutions,
        missing=missing,
        precision=None if target.precision == FLOAT32 else target.precision,
        prune=target.prune or None,
    )
    if target.group is not None or not members:
        return replace(kept, group=members or None)
    (one,) = members
    return replace(kept, device=one.device, device_id=one.device_id, table_id=one.table_id, budget=one.budget)


@contextmanager
def _blaming(pointer: str, own: bool = False) -> Iterator[None]:
    """What is raised within becomes a problem about that part of the request.

    own: too few networks are that part's fault, else that of the confidence.
    """
    try:
        yield
    except InfeasibleBudget:
        raise
    except BespokeError as reason:
        problem = problem_of(reason)
        where = "/confidence" if problem.code == "too_few_networks" and not own else pointer
        problem.errors = [error(where, problem.code, str(reason))]
        raise problem from None
