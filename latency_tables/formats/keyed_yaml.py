"""What the tables of once-for-all and ProxylessNAS share: YAML (or JSON) from a key text to {count, mean,
...}.

Read from PyYAML's stream of parse events: no object is ever built, no alias followed, nothing nests deeper
than a table does (the composer recurses in C and a file of brackets ends the process), and events know their
line, so errors do too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from latency_tables.errors import InvalidMeasurement, InvalidOperator, InvalidTable
from latency_tables.formats.native_json import MAX_ROWS
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.operators.head import Head as NetworkHead
from latency_tables.units import MS, to_ms

MAX_BYTES: Final = 64 * 2**20
MEANS: Final = "the file gives means only; they stand in for medians"
_NUMBER: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_SHAPES: Final = re.compile(
    r"(Conv|Conv_1|Conv_2|AvgPool2D|Logits)-input:(\d+)x(\d+)x(\d+)-output:(?:(\d+)x(\d+)x)?(\d+)", re.ASCII
)
_SHOWN: Final = 20


@dataclass(frozen=True)
class Entry:
    """One row of the file. line: from 1 on. mean, count: as written."""

    line: int
    key: str
    mean: float
    count: int | None


@dataclass(frozen=True)
class Head:
    """How the rows of the head become one operator. feature_key: the row of the feature layer, if the network
    has one."""

    activation: str
    feature_key: str | None


def read_entries(data: bytes | str) -> list[Entry]:
    """Entries of the file in order. Raises InvalidTable with line numbers."""
    wrong: list[tuple[int, str]] = []
    found, seen = [], dict[str, int]()
    for line, key, fields in _rows(data):
        try:
            entry = _entry(line, key, fields)
            if entry.key in seen:
                raise InvalidTable(f"the key of line {seen[entry.key]} again")
            seen[entry.key] = line
            found.append(entry)
        except InvalidTable as error:
            wrong.append((line, str(error)))
        if len(found) > MAX_ROWS:
            raise InvalidTable(f"a table has at most {MAX_ROWS} rows")
    _refuse(wrong)
    if not found:
        raise InvalidTable("the table has no rows")
    return found


_Row = tuple[int, str, list[tuple[str, str]]]


def _rows(data: bytes | str) -> Iterator[_Row]:
    """(line, key, fields) of every row of one mapping of mappings of scalars. Raises InvalidTable for any
    other structure."""
    events = _events(data)
    for wanted in ("StreamStart", "DocumentStart", "MappingStart"):
        _expect(next(events), wanted)
    while (key := next(events)).kind == "Scalar":
        _expect(next(events), "MappingStart")
        fields = []
        while (name := next(events)).kind == "Scalar":
            value = next(events)
            _expect(value, "Scalar")
            fields.append((name.value, value.value))
        _expect(name, "MappingEnd")
        yield key.line, key.value, fields
    for event, wanted in ((key, "MappingEnd"), (next(events), "DocumentEnd"), (next(events), "StreamEnd")):
        _expect(event, wanted)


@dataclass(frozen=True)
class _Event:
    kind: str
    line: int
    value: str


def _expect(event: _Event, kind: str) -> None:
    if event.kind != kind:
        raise InvalidTable(
            f"the file must map operator keys to {{count, mean, ...}}; line {event.line} does not"
        )


def _events(data: bytes | str) -> Iterator[_Event]:
    try:
        import yaml  # noqa: PLC0415 (the service's extra, not the agent's)
    except ImportError:
        raise InvalidTable("reading this form needs PyYAML: pip install 'bespoke-nas[service]'") from None
    if len(data) > MAX_BYTES:
        raise InvalidTable(f"the file is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            line = 0 if event.start_mark is None else event.start_mark.line
            yield _Event(type(event).__name__.removesuffix("Event"), line + 1, getattr(event, "value", ""))
    except UnicodeDecodeError:
        raise InvalidTable("the text is not UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidTable("the text is not YAML" + (f", line {mark.line + 1}" if mark else "")) from None


def _entry(line: int, key: str, pairs: Sequence[tuple[str, str]]) -> Entry:
    fields = dict(pairs)
    if (
        len(fields) != len(pairs)
        or "mean" not in fields
        or not set(fields) <= {"count", "mean", "std", "var"}
    ):
        raise InvalidTable("a row holds mean and, if known, count, std or var, each once")
    if any(_NUMBER.fullmatch(v) is None for v in fields.values()):
        raise InvalidTable("mean, count, std and var must be numbers")
    count = float(fields["count"]) if "count" in fields else None
    if count is not None and not (count.is_integer() and 1 <= count < 2**31):
        raise InvalidTable("count must be a whole number from 1 on")
    return Entry(line, key, float(fields["mean"]), None if count is None else int(count))


def collect(
    entries: Sequence[Entry], operator_of: Callable[[Entry], Operator | None], head: Head, unit: str = MS
) -> dict[Operator, Measurement]:
    """Rows by operator; `operator_of` returns None for the parts of the head. Raises InvalidTable with line
    numbers.

    unit: what the means are given in.
    """
    rows: dict[Operator, Measurement] = {}
    parts: dict[str, Entry] = {}
    wrong: list[tuple[int, str]] = []
    for entry in entries:
        try:
            operator = operator_of(entry)
            if operator is None:
                parts[input_output(entry.key)[0]] = entry
            elif operator in rows:
                raise InvalidTable("another row describes the same operator")
            else:
                rows[operator] = Measurement(to_ms(entry.mean, unit), count=entry.count)
        except (InvalidTable, InvalidOperator, InvalidMeasurement) as error:
            wrong.append((entry.line, str(error)))
    _refuse(wrong)
    if parts:
        rows.update(_head(parts, head, unit))
    return rows


def _head(parts: dict[str, Entry], head: Head, unit: str) -> dict[Operator, Measurement]:
    wanted = {"AvgPool2D", "Logits"} | ({head.feature_key} if head.feature_key else set())
    lines = sorted(entry.line for entry in parts.values())
    if set(parts) != wanted:
        raise InvalidTable(
            f"the head needs exactly the rows {', '.join(sorted(wanted))}; it begins on line {lines[0]}"
        )
    _, (h, w, c), _ = input_output(parts["AvgPool2D"].key)
    _, (_, _, features), (_, _, classes) = input_output(parts["Logits"].key)
    mid = features if head.feature_key else 0
    operator = NetworkHead(h, w, c, classes, 1, 1, mid, False, False, head.activation, 1)
    counts = [entry.count for entry in parts.values() if entry.count is not None]
    total = sum(entry.mean for entry in parts.values())
    return {operator: Measurement(to_ms(total, unit), count=min(counts) if counts else None)}


def input_output(key: str) -> tuple[str, tuple[int, int, int], tuple[int, int, int]]:
    """(name, input H W C, output H W C) of a key that is no block. Raises InvalidTable."""
    match = _SHAPES.fullmatch(key)
    if match is None:
        raise InvalidTable("not a key of this form, such as Conv_1-input:7x7x160-output:7x7x960")
    name, *sizes = match.groups(default="1")
    h, w, c, oh, ow, oc = (int(s) for s in sizes)
    return name, (h, w, c), (oh, ow, oc)


def stride_of(in_size: int, out_size: int) -> int:
    """The stride that takes one size to the other. Raises InvalidTable."""
    for stride in (1, 2, 4):
        if (in_size - 1) // stride + 1 == out_size:
            return stride
    raise InvalidTable("no stride leads from that input size to that output size")


def _refuse(wrong: Sequence[tuple[int, str]]) -> None:
    if wrong:
        line, reason = wrong[0]
        raise InvalidTable(
            f"{len(wrong)} row(s) are wrong, nothing was taken; first, line {line}: {reason}", wrong[:_SHOWN]
        )
