"""Delivered networks: cards and ONNX files. A file is hashed before it is served."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Final

from fastapi import APIRouter, Header
from starlette.responses import Response

from service.db import devices as device_rows
from service.db import jobs as job_rows
from service.db import supernets as supernet_rows
from service.db.documents import Document, part
from service.db.happenings import tell
from service.db.jobs import ModelFilter
from service.db.models import Model
from service.db.session import Session
from service.db.states import HappeningKind
from service.devices.network_picture import picture
from service.errors import ArtifactCorrupt
from service.http.dependencies import Caller, Service, decode_cursor, encode_cursor, page
from service.http.errors import Problem, invalid, not_found
from service.http.guard import JSON, GuardedRoute, needs
from service.routes.devices import device_of
from service.schemas.jobs import ModelList, ModelNamed, ModelSummary, Naming
from service.schemas.networks import NetworkPicture
from service.schemas.strict import Id, Name, PageSize, Short
from service.telemetry import log
from supernets.delivery.precision import ASKED, FLOAT32, space_in
from supernets.spaces.architecture import SpaceRef
from supernets.spaces.catalog import ref_in, space_at

router = APIRouter(route_class=GuardedRoute, tags=["models"])
ONNX: Final = "application/onnx"
ZIP: Final = "application/zip"
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


def model_of(session: Session, tenant_id: str, model_id: str) -> Model:
    """Raises Problem `not_found`, the same for another tenant's model."""
    found = job_rows.model(session, tenant_id, model_id)
    if found is None:
        raise not_found("model")
    return found


@router.get("/v1/models", openapi_extra=needs("models:read"))
def listed(
    services: Service,
    caller: Caller,
    device: Name | None = None,
    supernet: Id | None = None,
    job: Id | None = None,
    text: Short | None = None,
    after: str | None = None,
    limit: PageSize = 50,
) -> ModelList:
    """Delivered networks, the newest first."""
    cursor, wanted = decode_cursor(after), ModelFilter(device, supernet, job, text)
    with services.sessions() as session:
        found = job_rows.models(session, caller.tenant_id, wanted, cursor, limit + 1)
    rows, further = page(found, limit, lambda row: encode_cursor(row[0].created_at, row[0].id))
    return ModelList(items=[_summary(model, name) for model, name in rows], next=further)


def _summary(m: Model, device: str | None) -> ModelSummary:
    latency, accuracy, file = (part(m.card, name) for name in ("latency", "accuracy", "file"))
    return ModelSummary(
        id=m.id,
        job_id=m.job_id,
        device=device,
        supernet_id=m.supernet_id,
        budget_ms=m.budget_ms,
        sha256=m.onnx_sha256,
        created_at=m.created_at,
        predicted_ms=latency.get("predicted_ms"),
        upper_ms=latency.get("upper_ms"),
        measured_ms=latency.get("measured_ms"),
        verified=bool(latency.get("verified")),
        accuracy=accuracy.get("measured"),
        predicted_accuracy=accuracy.get("predicted"),
        size_bytes=file.get("size_bytes"),
        name=m.name,
        note=m.note,
    )


@router.patch("/v1/models/{model_id}", openapi_extra=needs("jobs:write", JSON))
def name_it(model_id: str, body: Naming, services: Service, caller: Caller) -> ModelNamed:
    """Give a model a name and a note; its card stays as it is."""
    with services.sessions.begin() as session:
        found = model_of(session, caller.tenant_id, model_id)
        job_rows.rename(session, found, body.model_dump(exclude_unset=True))
        return ModelNamed(id=found.id, name=found.name, note=found.note)


@router.delete(
    "/v1/models/{model_id}", status_code=204, response_class=Response, openapi_extra=needs("jobs:write")
)
def remove(model_id: str, services: Service, caller: Caller) -> Response:
    """Delete a delivered network with its card; the file goes too where no other model has it."""
    with services.sessions.begin() as session:
        job_rows.remove_model(session, model_of(session, caller.tenant_id, model_id))
        tell(session, caller.tenant_id, HappeningKind.MODEL, model_id, {"deleted": True})
    return Response(status_code=204)


@router.get("/v1/models/{model_id}", openapi_extra=needs("models:read"))
def card(model_id: str, services: Service, caller: Caller) -> Document:
    """The model card: everything a person needs in order to trust the network."""
    with services.sessions() as session:
        found: Document = model_of(session, caller.tenant_id, model_id).card
    return found


@router.get("/v1/models/{model_id}/network", openapi_extra=needs("models:read"))
def network(model_id: str, services: Service, caller: Caller, device: Name | None = None) -> NetworkPicture:
    """The network block by block with its milliseconds in its device's table, or in that of another
    device."""
    with services.sessions() as session:
        found = model_of(session, caller.tenant_id, model_id)
        supernet = supernet_rows.of_model(session, found)
        if device is None and found.device_id is None:
            raise invalid(
                "query/device",
                "device",
                "this model was made for limits alone; name a device to see its latencies",
            )
        target = (
            device_rows.of_model(session, found)
            if device is None
            else device_of(session, caller.tenant_id, device)
        )
        told = part(found.card, "architecture")
        # By the space that the card names: latencies may be of another sentence than the supernet's.
        plain = space_at(ref_in(told) or SpaceRef(supernet.space, supernet.classes))
        asked = ASKED[part(found.card, "precision").get("asked") or FLOAT32]
        space = space_in(plain, asked, bool(told.get("pruned")))
        return picture(session, services.prices, target, space, space.from_json(told))


@router.get(
    "/v1/models/{model_id}/onnx",
    response_class=Response,
    responses={
        200: {"content": {ONNX: {}, ZIP: {}}},
        206: {"content": {ONNX: {}, ZIP: {}}},
        304: {"description": "not modified"},
    },
    openapi_extra=needs("models:read"),
)
def onnx(
    model_id: str,
    services: Service,
    caller: Caller,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
    range_: Annotated[str | None, Header(alias="range", max_length=1000)] = None,
    if_range: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """The network as ONNX, or, where it writes sentences, an archive (zip) of its graphs and vocabularies.

    `ETag` and `Repr-Digest` are its SHA-256; a single range of bytes may be asked for.
    """
    with services.sessions() as session:
        found = model_of(session, caller.tenant_id, model_id)
        sha256, archive = found.onnx_sha256, bool(part(found.card, "file").get("archive"))
    media_type, ending = (ZIP, "zip") if archive else (ONNX, "onnx")
    etag = f'"{sha256}"'
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
    }
    if if_none_match is not None and _matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    try:
        data = services.store.read(sha256)
    except ArtifactCorrupt:
        services.telemetry.corrupt.inc()
        log().error("artifact_corrupt", sha256=sha256, model=model_id)
        raise
    headers["Content-Disposition"] = f'attachment; filename="{model_id}.{ending}"'
    if range_ is None or (if_range is not None and if_range != etag):
        return Response(data, media_type=media_type, headers=headers)
    return _part(data, range_, headers, media_type)


def _matches(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def _part(data: bytes, wanted: str, headers: dict[str, str], media_type: str) -> Response:
    """One range of bytes as 206; several ranges at once get the whole, as RFC 9110 allows."""
    # What is no range is ignored, as the standard has it: the whole file is always a right answer.
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return Response(data, media_type=media_type, headers=headers)
    size = len(data)
    if match[1] == "":
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
    if first >= size or first > last:
        raise Problem(
            "range_not_satisfiable", "the file is shorter", headers={"Content-Range": f"bytes */{size}"}
        )
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Response(data[first : last + 1], 206, headers, media_type)
