"""An architecture: one sub-network of a search space, as plain values.

Only what is active is listed, so an architecture is canonical by construction: inactive blocks do not count.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from latency_tables.named import Named
from supernets.spaces.choices import Choice


class SpaceRef(NamedTuple):
    """Which networks an architecture is one of: a search space by name, with the number of classes of its
    head."""

    name: str
    classes: int


@dataclass(frozen=True, order=True)
class StageChoice:
    """One stage of an architecture: its output channels and its active blocks, first to last."""

    width: int
    blocks: tuple[Choice, ...]
    boundary: Named = Named()  # noqa: RUF009 - it never changes

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def state(self) -> Named:
        """What the rest of the network depends on: the width, and what else the stage's boundary names."""
        return Named({"width": self.width, **self.boundary})


@dataclass(frozen=True, order=True)
class Architecture:
    """A sub-network: input resolution in pixels and every stage of its space, fixed ones included."""

    space: str
    resolution: int
    stages: tuple[StageChoice, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical form; equal sub-networks have equal digests."""
        stages = [
            [s.width, [c.as_dict() for c in s.blocks], *([s.boundary.as_dict()] if s.boundary else [])]
            for s in self.stages
        ]
        text = json.dumps([self.space, self.resolution, stages], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
