"""The native JSON form of a latency table (docs/api.md): strict to read, byte-stable to write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from latency_tables import strict_json
from latency_tables.errors import (
    ContextMismatch,
    InvalidJson,
    InvalidMeasurement,
    InvalidOperator,
    InvalidTable,
)
from latency_tables.measurement import LATER_FIELDS, Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from latency_tables.units import MS, to_ms

MAX_ROWS: Final = 1_000_000
REQUIRED: Final = ("operator", "median_ms")
OPTIONAL: Final = ("lower_quartile_ms", "mad_ms", "count", *LATER_FIELDS)
_COLUMNS: Final = frozenset(REQUIRED + OPTIONAL)
_CONTEXT: Final[dict[str, Any]] = {
    "runtime": str,
    "runtime_version": str,
    "provider": str,
    "threads": int,
    "precision": str,
    "batch_size": int,
}
_SHOWN: Final = 20


def loads(data: bytes | str) -> Any:
    """Parse JSON strictly: UTF-8, no NaN or Infinity, no number out of range, no duplicate key. Raises
    InvalidTable."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return strict_json.loads(text)
    except UnicodeDecodeError:
        raise InvalidTable("the text is not UTF-8") from None
    except InvalidJson as error:
        raise InvalidTable(str(error)) from None
    except ValueError:  # a number of thousands of digits is a ValueError too
        raise InvalidTable("the text is not JSON") from None


def read(
    data: bytes | str, context: Context | None = None, unit: str = MS, notes: list[str] | None = None
) -> LatencyTable:
    """Read a table. Raises InvalidTable with row numbers from 1 on; ContextMismatch where `context` is given
    and differs.

    unit: what its latencies are given in. notes: nothing is read otherwise than it is written, so nothing is
    added.
    """
    document = loads(data)
    if not isinstance(document, dict) or set(document) != {"context", "rows"}:
        foreign = isinstance(document, dict) and any(
            key.partition(":")[0].endswith("-input") for key in document
        )
        hint = (
            "; this looks like a table of once-for-all or ProxylessNAS: use `bespoke tables convert`"
            if foreign
            else ""
        )
        raise InvalidTable('a latency table is {"context": {...}, "rows": [...]} and nothing else' + hint)
    own = context_from(document["context"])
    if context is not None and own != context:
        raise ContextMismatch(
            "the table was measured in another context than the device's; register a device of that context"
        )
    if not isinstance(document["rows"], list):
        raise InvalidTable("rows must be a list")
    return LatencyTable(own, rows_from(document["rows"], unit))


def context_from(data: Any) -> Context:
    """A context from plain values, strictly typed. Raises InvalidTable."""
    if not isinstance(data, dict) or set(data) != set(_CONTEXT):
        raise InvalidTable(f"a context has exactly the fields {', '.join(_CONTEXT)}")
    for name, kind in _CONTEXT.items():
        value = data[name]
        good = type(value) is kind and (1 <= value <= 65_536 if isinstance(value, int) else _plain(value))
        if not good:
            wanted = (
                "a whole number from 1 to 65536" if kind is int else "printable text of 1 to 128 characters"
            )
            raise InvalidTable(f"context: {name} must be {wanted}")
    return Context(**data)


def _plain(text: str) -> bool:
    return 1 <= len(text) <= 128 and text.isprintable()


def rows_from(rows: Sequence[Any], unit: str = MS) -> dict[Operator, Measurement]:
    """Rows from plain values (parsed JSON), all or nothing. Raises InvalidTable with row numbers."""
    if len(rows) > MAX_ROWS:
        raise InvalidTable(f"a table has at most {MAX_ROWS} rows")
    collector = RowCollector(unit=unit)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row.keys() <= _COLUMNS or not row.keys() >= set(REQUIRED):
            collector.wrong(
                number, f"a row is an object with {', '.join(REQUIRED)} and, if known, {', '.join(OPTIONAL)}"
            )
        else:
            collector.add(number, row)
    return collector.finish()


class RowCollector:
    """Gathers rows of any format, their errors with row numbers, and refuses duplicates.

    place: how an error says where it is. header_line: the line above row 1. unit: of the latencies as they
    are added.
    """

    def __init__(self, place: str = "row {row}", header_line: int = 1, unit: str = MS) -> None:
        self._header_line, self._unit = header_line, unit
        self._rows: dict[Operator, Measurement] = {}
        self._first: dict[Operator, int] = {}
        self._wrong: list[tuple[int, str]] = []
        self._count = 0
        self._place = place

    def wrong(self, number: int, reason: str) -> None:
        """Note that row `number` (from 1 on) is wrong."""
        self._count += 1
        if len(self._wrong) < _SHOWN:
            self._wrong.append((number, reason))

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Add a row of `operator` text and numbers, or note what is wrong with it."""
        text = row["operator"]
        if not isinstance(text, str):
            self.wrong(number, "operator must be text")
            return
        numbers = {name: row.get(name) for name in ("median_ms", *OPTIONAL)}
        for name, value in numbers.items():
            if value is None and name != "median_ms":
                continue
            if type(value) is not int and (name == "count" or type(value) is not float):
                self.wrong(number, f"{name} must be a {'whole ' if name == 'count' else ''}number")
                return
        try:
            self.put(number, Operator.parse(text), _measurement(numbers, self._unit))
        except (InvalidOperator, InvalidMeasurement) as error:
            self.wrong(number, str(error))

    def put(self, number: int, operator: Operator, measurement: Measurement) -> None:
        """Add a row that is known to be good, unless its operator was there before."""
        if operator in self._first:
            self.wrong(number, f"the operator of row {self._first[operator]} again")
            return
        self._first[operator] = number
        self._rows[operator] = measurement

    def finish(self) -> dict[Operator, Measurement]:
        """All rows, or InvalidTable that lists the first wrong ones."""
        if self._wrong:
            number, reason = self._wrong[0]
            place = self._place.format(row=number, line=number + self._header_line)
            raise InvalidTable(
                f"{self._count} row(s) are wrong, nothing was taken; first, {place}: {reason}", self._wrong
            )
        if not self._rows:
            raise InvalidTable("the table has no rows")
        return self._rows


def _measurement(numbers: Mapping[str, Any], unit: str) -> Measurement:
    try:
        values = {
            name: None if value is None else float(value)
            for name, value in numbers.items()
            if name != "count"
        }
        values |= {
            name: to_ms(value, unit)
            for name, value in values.items()
            if value is not None and name.endswith("_ms")
        }
    except OverflowError:
        raise InvalidMeasurement("a number is out of range") from None
    count = numbers["count"]
    if count is not None and count > 2**31 - 1:
        raise InvalidMeasurement("count must be below 2147483648")
    return Measurement(count=count, **values)  # type: ignore[arg-type]  # median_ms is never None here


def write(table: LatencyTable) -> bytes:
    """The table as JSON, one row a line; equal tables give equal bytes, and `read` gives the table back."""
    context = json.dumps(table.context.as_dict(), separators=(",", ":"), ensure_ascii=True)
    rows = ",\n".join(_row_text(op, m) for op, m in table.rows.items())
    return f'{{"context":{context},"rows":[\n{rows}\n]}}\n'.encode("ascii")


def _row_text(operator: Operator, m: Measurement) -> str:
    parts = [f'"operator":"{operator.text}"', f'"median_ms":{float(m.median_ms)!r}']
    for name in OPTIONAL:
        value = getattr(m, name)
        if value is not None:
            parts.append(f'"{name}":{value if name == "count" else float(value)!r}')
    return "{" + ",".join(parts) + "}"
