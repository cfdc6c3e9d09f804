"""JSON as the contract has it: UTF-8 without a mark, finite numbers, no key twice, no lone surrogate, no NUL,
not deep."""

from __future__ import annotations

from typing import Any, Final

from latency_tables.errors import InvalidJson
from latency_tables.strict_json import loads as loads_strictly
from service.http.errors import Problem

MAX_DEPTH: Final = 32
MAX_INTEGER: Final = 2**63 - 1


def loads(data: bytes) -> Any:
    """Parse a body. Raises Problem `malformed_body` that says what is wrong and never shows it."""
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise InvalidJson("the body begins with a byte-order mark; send plain UTF-8")
        value = loads_strictly(text, parse_int=_int)
        _check(value, escapes="\\u" in text)
    except UnicodeDecodeError:
        raise Problem("malformed_body", "the body is not UTF-8") from None
    except InvalidJson as error:
        raise Problem("malformed_body", str(error)) from None
    except ValueError:
        raise Problem("malformed_body", "the body is not JSON") from None
    return value


def _int(text: str) -> int:
    # The length first: very many digits take long to become a number, or end in an error of Python's own.
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise InvalidJson("a whole number is out of range")
    return int(text)


def _check(value: Any, escapes: bool) -> None:
    """Depth of the whole; texts only where an escape could have hidden something that UTF-8 cannot hold."""
    # Level by level: recursion would end at the interpreter's limit, not at ours.
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidJson(f"the body is nested deeper than {MAX_DEPTH} levels")
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
                if escapes:
                    deeper.extend(item.keys())
            elif isinstance(item, list):
                deeper.extend(item)
            elif escapes and isinstance(item, str):
                _check_text(item)
        level = deeper


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise InvalidJson("a text holds NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidJson("a text holds half of a surrogate pair") from None
