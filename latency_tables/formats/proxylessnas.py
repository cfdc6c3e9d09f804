"""Reads the latency table of ProxylessNAS (`mobile_trim.yaml`). Command line only.

Keys are `expanded_conv-input:HxWxC-output:HxWxC-expand:E-kernel:K-stride:S-idskip:0` and a few more; values
are {count, mean, var} in ms. `expand` is the ratio of mid to input channels here (once-for-all's form looks
alike and means the number of mid channels); there is neither squeeze-excite nor h-swish. Means stand in for
the medians.
"""

from __future__ import annotations

import re
from typing import Final

from latency_tables.errors import InvalidTable
from latency_tables.formats.keyed_yaml import (
    MEANS,
    Entry,
    Head,
    collect,
    input_output,
    read_entries,
    stride_of,
)
from latency_tables.measurement import Context
from latency_tables.operators import Operator, make_divisible
from latency_tables.operators.conv import Conv
from latency_tables.operators.mbconv import MBConv
from latency_tables.table import LatencyTable
from latency_tables.units import MS

MAX_RATIO: Final = 16
_BLOCK: Final = re.compile(
    r"expanded_conv-input:(\d+)x(\d+)x(\d+)-output:(\d+)x(\d+)x(\d+)-expand:(\d+)-kernel:(\d+)-stride:(\d+)-idskip:([01])",
    re.ASCII,
)


def read(
    data: bytes | str, context: Context | None, unit: str = MS, notes: list[str] | None = None
) -> LatencyTable:
    """Read a table. Raises InvalidTable with line numbers. unit: what its means are given in; notes: what was
    understood."""
    if context is None:
        raise InvalidTable("a ProxylessNAS table does not hold its context; say which device it belongs to")
    if notes is not None:
        notes.append(MEANS)
    return LatencyTable(
        context, collect(read_entries(data), _operator, Head(activation="none", feature_key=None), unit)
    )


def _operator(entry: Entry) -> Operator | None:
    """The operator of a key; None for the parts of the head. Raises InvalidTable for a key of another
    form."""
    match = _BLOCK.fullmatch(entry.key)
    if match is not None:
        h, w, c, _, _, out, ratio, kernel, stride, skip = (int(v) for v in match.groups())
        if not 1 <= ratio <= MAX_RATIO:
            raise InvalidTable(
                f"expand is the ratio here, 1 to {MAX_RATIO}; is it a once-for-all table, with mid channels?"
            )
        mid = c if ratio == 1 else make_divisible(c * ratio, 8)
        return MBConv(h, w, c, out, kernel, stride, mid, bool(skip), False, "relu6", mid)
    if entry.key.startswith("expanded_conv"):
        raise InvalidTable(
            "a block needs expand (the ratio), kernel, stride and idskip, nothing more; is it a "
            "once-for-all table?"
        )
    name, (h, w, c), (oh, _, out) = input_output(entry.key)
    if name in ("Conv", "Conv_1"):
        kernel = 3 if name == "Conv" else 1
        return Conv(h, w, c, out, kernel, stride_of(h, oh), 0, False, False, "relu6", 1)
    return None
