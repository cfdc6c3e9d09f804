"""JSON as the contract has it: UTF-8 without a mark, finite numbers, no key twice, no lone surrogate, no NUL,
not deep."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from service.http.errors import Problem

MAX_DEPTH: Final = 32
MAX_INTEGER: Final = 2**63 - 1


class _Refused(ValueError):
    pass


def loads(data: bytes) -> Any:
    """Parse a body. Raises Problem `malformed_body` that says what is wrong and never shows it."""
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise _Refused("the body begins with a byte-order mark; send plain UTF-8")
        value = json.loads(
            text, parse_constant=_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_pairs
        )
        _check(value, escapes="\\u" in text)
    except UnicodeDecodeError:
        raise Problem("malformed_body", "the body is not UTF-8") from None
    except _Refused as error:
        raise Problem("malformed_body", str(error)) from None
    except (ValueError, RecursionError):
        raise Problem("malformed_body", "the body is not JSON, or nested too deep") from None
    return value


def _constant(_name: str) -> Any:
    raise _Refused("NaN and Infinity are not numbers of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("a number is out of range")
    return value


def _int(text: str) -> int:
    # The length first: very many digits take long to become a number, or end in an error of Python's own.
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise _Refused("a whole number is out of range")
    return int(text)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # Parsers disagree about which of two equal keys counts; what a proxy checked may not be what we read.
    if len(found) != len(pairs):
        raise _Refused("an object has the same key twice")
    return found


def _check(value: Any, escapes: bool) -> None:
    """Depth of the whole; texts only where an escape could have hidden something that UTF-8 cannot hold."""
    # Level by level: recursion would end at the interpreter's limit, not at ours.
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _Refused(f"the body is nested deeper than {MAX_DEPTH} levels")
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
        raise _Refused("a text holds NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("a text holds half of a surrogate pair") from None
