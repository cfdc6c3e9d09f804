"""HTTP to other houses: every refusal becomes a sentence, and no token reaches a message."""

from __future__ import annotations

from typing import Any, Final

import httpx

from latency_tables.agent.connection import is_loopback
from service.sinks.errors import PushFailed

_TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)


class House:
    """A server that networks are handed to. Use it in a `with`. name: as messages call it."""

    def __init__(
        self, name: str, url: str, token: str | None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.name, self.url = name, url.rstrip("/")
        headers = {"User-Agent": "bespoke"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=_TIMEOUT,
                transport=transport,
                trust_env=not is_loopback(url),
            )
        except (httpx.InvalidURL, ValueError):
            raise PushFailed(f"that is not the address of {name}") from None

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, *, missing_ok: bool = False, **options: Any) -> httpx.Response:
        """One request; with missing_ok a 404 comes back as it is. Raises PushFailed for any other refusal."""
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise PushFailed(f"{self.name} at {self.url} does not answer ({type(error).__name__})") from None
        if answer.is_error and not (missing_ok and answer.status_code == 404):
            raise PushFailed(
                f"{self.name} refused {method} {answer.url.path}: {answer.status_code} {_reason(answer)}"
            )
        return answer

    def json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON object of an answer. Raises PushFailed where it is none."""
        answer = self.call(method, path, **options)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise PushFailed(f"{self.url} does not answer as {self.name} does; is another program there?")
        return body


def _reason(answer: httpx.Response) -> str:
    hints = {401: "(no token, or a wrong one)", 403: "(the token may not do that)"}
    try:
        body = answer.json()
        text = body.get("error") or body.get("message") or ""
    except (ValueError, AttributeError):
        text = ""
    return f"{str(text)[:300]} {hints.get(answer.status_code, '')}".strip()
