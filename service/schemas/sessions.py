"""Browser sessions and the links that open them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.schemas.strict import Answer, Strict, Time


class SessionIn(Strict):
    """token: of a one-time link; left out, the session is for the key that asks."""

    token: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class SessionView(Answer):
    """Whom a session acts for, and until when; null where a key asks for itself."""

    tenant: str
    key_id: str
    key_name: str
    scopes: list[str]
    expires_at: Time | None
    version: str


class SessionOpened(SessionView):
    """`proof` is one half of the session, shown here and never again; the other is in the cookie."""

    proof: str


class LinkView(Answer):
    """A one-time token for `POST /v1/sessions`; this answer is the only place where it is shown."""

    token: str
    expires_in_s: int
