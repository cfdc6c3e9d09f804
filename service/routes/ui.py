"""The web UI's own files. Nothing of a tenant is in them; the pages ask `/v1` like any other client."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header
from starlette.responses import Response

from service.http.auth import PUBLIC
from service.http.errors import not_found
from service.http.guard import GuardedRoute, needs
from service.http.ui_files import POLICY, ui_files

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@router.get("/", openapi_extra=needs(PUBLIC))
def root() -> Response:
    """To the web UI."""
    return Response(status_code=307, headers={"Location": "ui/"})


@router.get("/ui", openapi_extra=needs(PUBLIC))
def without_slash() -> Response:
    """To the web UI."""
    return Response(status_code=307, headers={"Location": "ui/"})


@router.get("/ui/", openapi_extra=needs(PUBLIC))
def shell() -> Response:
    """The web UI's one page; everything else is loaded by it."""
    return Response(ui_files().shell, media_type="text/html; charset=utf-8", headers=_HEADERS)


@router.get("/ui/{digest}/{path:path}", openapi_extra=needs(PUBLIC))
def file(digest: str, path: str, accept_encoding: Annotated[str, Header(max_length=1000)] = "") -> Response:
    """A file of the web UI; its address holds the hash of them all, so it may be kept for ever."""
    known = ui_files()
    found = known.files.get(path) if digest == known.digest else None
    if found is None:
        raise not_found("file of the web UI; load the page again")
    zipped = "gzip" in accept_encoding
    headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(found.zipped if zipped else found.data, media_type=found.media_type, headers=headers)
