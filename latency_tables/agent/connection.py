"""HTTP clients that a proxy of the environment cannot lead astray. Shared by the agent and the service's
client.

`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` hold for services on other machines. A service on this
machine is always reached directly: a company's proxy cannot reach the loopback of whoever asks it.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from latency_tables.agent.errors import Refused


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine: `localhost`, 127.0.0.0/8, ::1. False where it has none."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_client(url: str, **options: Any) -> httpx.Client:
    """A client of the service at `url`, with httpx's options. Raises Refused for a URL or a proxy that cannot
    be used."""
    try:
        return httpx.Client(base_url=url, trust_env=not is_loopback(url), **options)
    except httpx.InvalidURL:
        raise Refused("that is not the URL of a service") from None
    # What httpx raises for a SOCKS proxy without its extra, and for a proxy of a scheme that it does not
    # know.
    except (ImportError, ValueError):
        raise Refused(
            "the proxy of this environment cannot be used: only http:// and https:// proxies are "
            "supported. Change "
            "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or add the service's host to NO_PROXY"
        ) from None


def by_proxy(url: str) -> str:
    """` through the proxy of ...` where calls to `url` take one, else empty: what to add when nothing
    answered."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return ""
    proxies = getproxies()
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    return (
        ""
        if scheme is None
        else f" through the proxy of {scheme.upper()}_PROXY (NO_PROXY names hosts to reach without)"
    )
