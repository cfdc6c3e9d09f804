"""A job as a program sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from service.client.pictures import bar, facts

Json = dict[str, Any]  # an answer of the service as it came, or a part of one
ENDED: Final = ("succeeded", "failed", "cancelled", "quarantined")


@dataclass(frozen=True)
class Job:
    """A job as the service shows it; `raw` is the whole answer."""

    id: str
    kind: str
    state: str
    step: str
    fraction: float
    message: str
    eta_s: float | None
    error: Json | None
    result: Json
    raw: Json

    @classmethod
    def read(cls, raw: Json) -> Job:
        progress = raw.get("progress") or {}
        return cls(
            id=raw["id"],
            kind=raw.get("kind", ""),
            state=raw["state"],
            step=progress.get("step") or "",
            fraction=float(progress.get("fraction") or 0.0),
            message=progress.get("message") or "",
            eta_s=progress.get("eta_s"),
            error=raw.get("error"),
            result=raw.get("result") or {},
            raw=raw,
        )

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def _repr_html_(self) -> str:
        error = self.error or {}
        told = {
            "state": self.state,
            "step": f"{self.step.replace('_', ' ')} {self.message}".strip() or None,
            "left": None if self.ended or self.eta_s is None else f"{self.eta_s:.0f} s",
            "error": error.get("detail") or error.get("title"),
            "networks": ", ".join(str(m["id"]) for m in self.result.get("models") or []) or None,
        }
        share = 1.0 if self.state == "succeeded" else self.fraction
        return facts(f"{self.raw.get('name') or self.kind} {self.id}", told, "" if self.ended else bar(share))
