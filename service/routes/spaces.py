"""Search spaces, their operators, data sets and limits: what can be named in a request."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter

from latency_tables.inputs import SIZE, InputSpec
from latency_tables.named import Value
from latency_tables.operators import ImageOperator, Operator
from service.datasets import Known, listed, trained_on_fingerprint
from service.db.models import Supernet
from service.db.supernets import of_dataset
from service.http.auth import SCOPES
from service.http.dependencies import Caller, Service
from service.http.errors import invalid, not_found
from service.http.guard import GuardedRoute, needs
from service.http.limits import published
from service.schemas.catalog import (
    DatasetList,
    DatasetVersion,
    DatasetView,
    InputView,
    Limits,
    OperatorList,
    OperatorView,
    SpaceList,
    SpaceView,
    StageView,
)
from service.schemas.strict import Whole
from supernets.errors import UnknownSpace
from supernets.search.catalog import STRATEGIES
from supernets.spaces.catalog import SPACES, space_named
from supernets.spaces.lowering import all_operators
from supernets.spaces.space import Space
from supernets.training.catalog import recipe_names

router = APIRouter(route_class=GuardedRoute, tags=["catalog"])


@router.get("/v1/spaces", openapi_extra=needs("catalog:read"))
def spaces() -> SpaceList:
    """Built-in search spaces."""
    return SpaceList(items=[_space_view(name) for name in SPACES])


@router.get("/v1/spaces/{name}", openapi_extra=needs("catalog:read"))
def space(name: str) -> SpaceView:
    """One search space."""
    if name not in SPACES:
        raise not_found("search space")
    return _space_view(name)


@router.get("/v1/spaces/{name}/operators", openapi_extra=needs("catalog:read"))
def operators(name: str, resolution: Whole | None = None, classes: Whole | None = None) -> OperatorList:
    """What a latency table for this space must hold, at one resolution or at all."""
    try:
        wanted = space_named(name, classes or None)
    except UnknownSpace:
        raise not_found("search space") from None
    if resolution is not None and resolution not in wanted.resolutions:
        raise invalid(
            "query/resolution", "resolution", f"the space has the resolutions {list(wanted.resolutions)}"
        )
    sizes = wanted.resolutions if resolution is None else (resolution,)
    found = sorted({op for size in sizes for op in all_operators(wanted, size)})
    return OperatorList(items=[_operator_view(op) for op in found])


@router.get("/v1/datasets", openapi_extra=needs("catalog:read"))
def datasets(services: Service, caller: Caller) -> DatasetList:
    """Data sets the operator has registered with what was known under their names before, and the built-in
    ones."""
    found = listed(services.settings)
    with services.sessions() as session:
        trained = {d.name: of_dataset(session, caller.tenant_id, d.name) for d in found}
    return DatasetList(items=[_dataset_view(d, trained[d.name]) for d in found])


def _dataset_view(found: Known, trained: Sequence[Supernet]) -> DatasetView:
    own = [found.fingerprint] if found.fingerprint else []
    theirs = [(trained_on_fingerprint(found, row), row) for row in trained]
    versions = [
        DatasetVersion(
            fingerprint=fingerprint,
            current=fingerprint is not None and fingerprint == found.fingerprint,
            supernets=len(rows),
            first_used_at=rows[0].created_at if rows else None,
        )
        for fingerprint in dict.fromkeys([*own, *(one for one, _ in reversed(theirs))])
        for rows in [[row for one, row in theirs if one == fingerprint]]
    ]
    return DatasetView(
        name=found.name,
        description=found.description,
        classes=found.classes,
        channels=found.channels,
        size=found.size,
        class_names=None if found.class_names is None else list(found.class_names),
        fingerprint=found.fingerprint,
        fault=found.fault or None,
        versions=versions,
    )


@router.get("/v1/limits", openapi_extra=needs("catalog:read"))
def limits(services: Service) -> Limits:
    """The bounds of everything, the strategies, recipes and scopes, and which runtime version an agent
    installed here would time."""
    return Limits(
        limits=published(services.settings),
        strategies=sorted(STRATEGIES),
        recipes=recipe_names(),
        scopes=SCOPES,
        runtime_version=_runtime_version(),
    )


@cache
def _runtime_version() -> str | None:
    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=64)
def _space_view(name: str) -> SpaceView:
    found = SPACES[name]
    elastic = [stage for stage in found.stages if stage.elastic]
    return SpaceView(
        name=found.name,
        description=found.description,
        resolutions=list(found.resolutions),
        in_channels=found.image_channels,
        inputs=[_input_view(spec) for spec in found.inputs],
        classes=found.classes,
        choices=_choices(found),
        subnetworks=found.count(),
        subnetworks_text=f"{found.count():.3g}",
        stages=[
            StageView(
                name=stage.name,
                family=stage.family,
                widths=list(stage.widths),
                states=[state.as_dict() for state in stage.states],
                depths=list(stage.depths),
                choices=[[choice.as_dict() for choice in options] for options in stage.choices],
            )
            for stage in elastic
        ],
        source=found.source,
    )


def _input_view(spec: InputSpec) -> InputView:
    shape = [None if size == SIZE else size for size in spec.shape]
    return InputView(name=spec.name, shape=shape, dtype=spec.dtype, below=spec.below)


def _choices(found: Space) -> dict[str, list[float | str]]:
    """Every value of the elastic dimensions, over all stages."""
    elastic = [stage for stage in found.stages if stage.elastic]
    blocks = [
        choice for stage in elastic for options in stage.choices for choice in options if not choice.zero
    ]
    names = dict.fromkeys(name for choice in blocks for name in choice)
    return {
        "resolution": [float(r) for r in found.resolutions],
        **{name: _in_order({c[name] for c in blocks if name in c}) for name in names},
        "depth": sorted({float(d) for stage in elastic for d in stage.depths}),
        "width": sorted({float(w) for stage in elastic for w in stage.widths}),
    }


def _in_order(values: set[Value]) -> list[float | str]:
    words = sorted(value for value in values if isinstance(value, str))
    return [*sorted(float(value) for value in values if not isinstance(value, str)), *words]


def _operator_view(op: Operator) -> OperatorView:
    """Fields of image operators stand by themselves as well, for clients of before there were other
    families."""
    return OperatorView(
        **(op.values if isinstance(op, ImageOperator) else {}),
        operator=op.text,
        family=op.family,
        values=op.values,
        macs=op.macs,
        parameters=op.parameters,
        bytes=op.bytes_moved,
    )
