"""Long JSON answers to reads are sent compressed where the caller takes it.

Reads alone: what a write answers may hold a secret, and the length of a compressed secret tells about it.
Files are left as they are, since their ETag and digest are those of the bytes.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_FILES: Final = re.compile(r"/onnx$|/files/|/tables/|/bundle$|^/ui/|/events$")
_LEAST_BYTES: Final = 2048


class CompressedReads:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain = app
        self._zipped = GZipMiddleware(app, minimum_size=_LEAST_BYTES, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Streams too are left alone: zipping would hold events back until a block is full.
        reads = scope["type"] == "http" and scope["method"] == "GET" and not _FILES.search(scope["path"])
        await (self._zipped if reads else self._plain)(scope, receive, send)
