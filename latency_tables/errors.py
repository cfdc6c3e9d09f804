"""What latency tables, measurements and predictions raise on purpose. Each room draws its own tree.

BespokeError
├── InvalidOperator        text or fields that do not describe an operator
├── InvalidMeasurement     a number that cannot be a latency
├── InvalidTable           rows that do not make a table (carries row numbers)
├── ContextMismatch        two measuring contexts were about to be mixed
├── MissingLatency         the table lacks operators (carries their keys)
├── TooFewNetworks         a calibration or bound needs more whole networks (says how many)
├── PoorCalibration        the table does not explain the device's whole networks
├── InvalidForm            JSON that is not of the form that was declared
├── InvalidJson            JSON that parsers do not agree about
└── InvalidTextNetwork     files that are no transformer to generate with, or a text that is none

What stops the agent is in `latency_tables/agent/errors.py`. Each message tells the reader what to do next.
The annotated fields of an error go with its message into a problem document, and to another process.
"""

from __future__ import annotations

from collections.abc import Sequence


class BespokeError(Exception):
    """Root of every error this project raises on purpose."""


class InvalidOperator(BespokeError, ValueError):
    """A text or a set of fields that does not describe an operator."""


class InvalidMeasurement(BespokeError, ValueError):
    """A number that cannot be a latency in milliseconds."""


class InvalidTable(BespokeError, ValueError):
    """Rows that do not make a latency table.

    `rows` holds (row number, what is wrong), at most the first 20.
    """

    rows: tuple[tuple[int, str], ...]

    def __init__(self, message: str, rows: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows[:20])


class ContextMismatch(BespokeError, ValueError):
    """Two measuring contexts were about to be mixed."""


class MissingLatency(BespokeError, LookupError):
    """The table has no latency for some operators; `operators` holds their canonical texts."""

    operators: tuple[str, ...]

    def __init__(self, operators: Sequence[str]) -> None:
        self.operators = tuple(sorted(operators))
        shown = ", ".join(self.operators[:3]) + (", ..." if len(self.operators) > 3 else "")
        super().__init__(
            f"the table lacks {len(self.operators)} operator(s): {shown}. "
            "Measure them on the device (`bespoke profile` or `bespoke agent`) and register a new table."
        )


class TooFewNetworks(BespokeError):
    """More whole networks must be measured; `missing` says how many."""

    missing: int

    def __init__(self, message: str, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


class PoorCalibration(BespokeError):
    """The sum of the table's rows does not explain the device's whole networks."""


class InvalidForm(BespokeError, ValueError):
    """JSON that is not of the form that was declared for it, or a value that has none."""


class InvalidJson(BespokeError, ValueError):
    """A text that most parsers would read as JSON and ours does not; the message never shows the text."""


class InvalidTextNetwork(BespokeError, ValueError):
    """Files that are no transformer to generate with, or a text that it cannot be given."""
