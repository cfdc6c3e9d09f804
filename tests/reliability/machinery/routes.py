"""The route table as data: what every matrix of calls is generated from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from service.http.guard import GuardedRoute

EXAMPLES = {
    "job_id": "job_" + "0" * 32,
    "model_id": "mod_" + "0" * 32,
    "supernet_id": "sup_" + "0" * 32,
    "key_id": "key_" + "0" * 32,
}
EXAMPLES |= {
    "table_id": "tab_" + "0" * 32,
    "name": "nobody",
    "sha256": "0" * 64,
    "digest": "0" * 64,
    "path": "app.js",
}


@dataclass(frozen=True)
class Call:
    """One route and method. `body` is the kind of body it reads, None for none."""

    method: str
    template: str
    scope: str
    body: str | None

    def path(self, **values: str) -> str:
        """The path with example values, or those given."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: {**EXAMPLES, **values}[match[1]], self.template)

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\{(\w+)(?::\w+)?\}", self.template))


def calls(app: Any) -> list[Call]:
    """Every call that the application knows."""
    found = [
        Call(method, route.path, route.scope_needed, route.body_kind)
        for route in app.routes
        if isinstance(route, GuardedRoute)
        for method in sorted(route.methods - {"HEAD"})
    ]
    return sorted(found, key=lambda call: (call.template, call.method))
