"""JSON without what parsers disagree about: finite numbers only, and no key twice in an object."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from latency_tables.errors import InvalidJson


def loads(text: str, parse_int: Callable[[str], int] | None = None) -> Any:
    """Parse a text. Raises InvalidJson, ValueError for what is no JSON.

    parse_int: what makes a number of digits, Python's `int` by default.
    """
    try:
        return json.loads(
            text, parse_constant=_constant, parse_float=_float, parse_int=parse_int, object_pairs_hook=_pairs
        )
    except RecursionError:  # no ValueError: whoever reads a user's file would have to think of it
        raise InvalidJson("it is nested too deep") from None


def _constant(_name: str) -> Any:
    raise InvalidJson("NaN and Infinity are not numbers of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidJson("a number is out of range")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # Parsers disagree about which of two equal keys counts; what a proxy checked may not be what we read.
    if len(found) != len(pairs):
        raise InvalidJson("an object has the same key twice")
    return found
