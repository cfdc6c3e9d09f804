"""The whole latency/accuracy front of a supernet on a device, and its networks block by block."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from latency_tables.prediction.calibration import DEFAULT_CONFIDENCE
from service.db.models import Supernet
from service.devices.contexts import generating
from service.devices.network_picture import picture
from service.devices.pricing import Pricing
from service.http.dependencies import (
    Caller,
    Service,
)
from service.http.errors import Problem, invalid
from service.http.guard import GuardedRoute, needs
from service.routes.devices import device_of
from service.routes.supernets import supernet_of
from service.schemas.front_columns import ALPHABET, architecture_of, gene_text, legend
from service.schemas.networks import NetworkPicture
from service.schemas.searches import (
    FrontColumns,
    FrontHead,
    FrontPoint,
    FrontView,
    MetricView,
)
from service.schemas.strict import Name, Whole
from supernets.errors import InvalidArchitecture
from supernets.search.pareto import Front
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space
from supernets.tasks.metric import Metric

router = APIRouter(route_class=GuardedRoute, tags=["supernets"])
GeneText = Annotated[str, Query(pattern="^[0-9a-zA-Z]{1,512}$")]


@router.get(
    "/v1/supernets/{supernet_id}/front",
    response_model=FrontView | FrontColumns,
    openapi_extra=needs("jobs:read"),
)
def front(
    supernet_id: str,
    services: Service,
    caller: Caller,
    device: Name,
    confidence: float | None = None,
    form: Literal["points", "columns"] = "points",
    source_tokens: Whole | None = None,
    target_tokens: Whole | None = None,
    beam: Whole | None = None,
) -> Response:
    """The whole latency/accuracy front on a device, solved while you wait; `form=columns` is a tenth of the
    size. source_tokens, target_tokens, beam: the sentence that latencies are of, as `generation` of a
    search."""
    if confidence is not None and not 0 < confidence < 1:
        raise invalid("query/confidence", "range", "confidence must lie between 0 and 1")
    with services.sessions() as session:
        supernet = supernet_of(session, caller.tenant_id, supernet_id)
        target = device_of(session, caller.tenant_id, device)
        if supernet.predictor is None:
            raise Problem("not_ready", "wait for its job to succeed")
        space = _for_sentence(supernet, source_tokens, target_tokens, beam)
        pricing = services.prices.load(session, target, space, confidence=confidence)
        started = time.perf_counter()
        solved = services.prices.front(supernet, pricing)
        metric = services.prices.predictor(supernet)[0].metric
        elapsed_ms = (time.perf_counter() - started) * 1e3
    low, high = pricing.reachable_ms()
    head = FrontHead(
        optimal=True,  # only the exact strategy gives a front
        device=device,
        supernet_id=supernet_id,
        table_id=pricing.table_id,
        doubt=pricing.doubt,
        confidence=pricing.confidence,
        metric=MetricView(**metric.to_json()),
        missing_networks=pricing.calibration.missing_networks(DEFAULT_CONFIDENCE),
        reachable_ms={"min": low, "max": high},
        solved_in_ms=elapsed_ms,
        generation=None if space.generation is None else space.generation.to_json(),
    )
    form_of = _columns if form == "columns" else _whole
    view = form_of(solved, pricing, metric, head)
    return Response(view.model_dump_json(), media_type="application/json")


@router.get("/v1/supernets/{supernet_id}/network", openapi_extra=needs("jobs:read"))
def network(
    supernet_id: str,
    services: Service,
    caller: Caller,
    device: Name,
    genes: GeneText,
    source_tokens: Whole | None = None,
    target_tokens: Whole | None = None,
    beam: Whole | None = None,
) -> NetworkPicture:
    """A network of the front block by block: kernel, width, expansion, and its milliseconds in the device's
    table."""
    with services.sessions() as session:
        supernet = supernet_of(session, caller.tenant_id, supernet_id)
        target = device_of(session, caller.tenant_id, device)
        space = _for_sentence(supernet, source_tokens, target_tokens, beam)
        pricing = services.prices.load(session, target, space)
        try:
            architecture = architecture_of(pricing.space, genes)
        except InvalidArchitecture:
            detail = "not a network of this front; take one of `genes` of its form=columns"
            raise invalid("query/genes", "genes", detail) from None
        return picture(session, services.prices, target, space, architecture)


def _for_sentence(
    supernet: Supernet, source_tokens: int | None, target_tokens: int | None, beam: int | None
) -> Space:
    asked = {"source_tokens": source_tokens, "target_tokens": target_tokens, "beam": beam}
    space = space_named(supernet.space, supernet.classes)
    named = [name for name, number in asked.items() if number is not None]
    return generating(space, asked if named else None, f"query/{named[0] if named else ''}")


def _columns(solved: Front, pricing: Pricing, metric: Metric, head: FrontHead) -> FrontColumns:
    """Latencies with six digits, more than any measurement has, rounded up: who budgets for them gets the
    network."""

    def short(values: Any) -> list[float]:
        # Rounded up, never to nearest: who takes this number as a budget must get this network.
        steps = [10.0 ** (math.floor(math.log10(value)) - 5) for value in values]
        return [
            float(f"{math.ceil(v / step - 1e-9) * step:.6g}") for v, step in zip(values, steps, strict=True)
        ]

    return FrontColumns(
        **head.model_dump(),
        alphabet=ALPHABET,
        legend=legend(pricing.space),
        latency_ms=short(solved.costs),
        upper_ms=None if pricing.upper is None else short(pricing.upper.price(solved.genes)),
        accuracy=[round(float(value), 6) for value in metric.value(solved.scores)],
        genes=[gene_text(row) for row in solved.genes.tolist()],
    )


def _whole(solved: Front, pricing: Pricing, metric: Metric, head: FrontHead) -> FrontView:
    points = _points(solved, pricing, metric)
    return FrontView(**head.model_dump(), resolutions=list(pricing.space.resolutions), points=points)


def _points(solved: Front, pricing: Pricing, metric: Metric) -> list[FrontPoint]:
    """Latencies ascend, values get better; they stay in the metric's range, where an additive model may
    not."""
    uppers = (
        [None] * len(solved)
        if pricing.upper is None
        else [float(u) for u in pricing.upper.price(solved.genes)]
    )
    space = pricing.space
    return [
        FrontPoint(
            latency_ms=float(cost),
            upper_ms=upper,
            accuracy=float(value),
            architecture=space.to_json(space.architecture(genes)),
        )
        for cost, value, upper, genes in zip(
            solved.costs, metric.value(solved.scores), uppers, solved.genes, strict=True
        )
    ]
