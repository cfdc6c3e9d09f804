"""The latency table: operator -> measurement in one context. Immutable; a change is a new table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from latency_tables.errors import MissingLatency
from latency_tables.measurement import LATER_FIELDS, Context, Measurement
from latency_tables.operators import Operator


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of one device in one context, in ms."""

    context: Context
    rows: Mapping[Operator, Measurement] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", MappingProxyType(dict(sorted(self.rows.items()))))

    def latency_ms(self, operators: Iterable[Operator]) -> float:
        """Sum of the latencies of these operators, in ms. Raises MissingLatency naming every key that is not
        there."""
        wanted = list(operators)
        missing = {op.text for op in wanted if op not in self.rows}
        if missing:
            raise MissingLatency(sorted(missing))
        return sum(self.rows[op].latency_ms for op in wanted)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over context and rows in canonical order: equal tables have equal digests."""
        rows = [_digested(op, m) for op, m in self.rows.items()]
        text = json.dumps(
            [self.context.as_dict(), rows], sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()


def _digested(operator: Operator, m: Measurement) -> list[object]:
    """A row as it is hashed; fields that came later only where they are known, so that old tables keep their
    digests."""
    later = {name: getattr(m, name) for name in LATER_FIELDS if getattr(m, name) is not None}
    row: list[object] = [operator.text, m.median_ms, m.lower_quartile_ms, m.mad_ms, m.count]
    return [*row, later] if later else row
