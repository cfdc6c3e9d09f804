"""Reads the latency table of once-for-all (`RES_lookup_table.yaml`, or the same as JSON). Command line only.

Keys are `expanded_conv-input:HxWxC-output:HxWxC-expand:M-kernel:K-stride:S-idskip:0-se:0-hs:0` and a few
more; values are {count, mean, std} in ms. `expand` is the number of mid channels here, not the ratio
(ProxylessNAS's form looks alike and means the ratio). The file gives means only, so they stand in for the
medians. The head's three rows (pooling, feature layer, linear layer) are one operator with us: their sum.
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
from latency_tables.operators import Operator
from latency_tables.operators.conv import Conv
from latency_tables.operators.mbconv import MBConv
from latency_tables.table import LatencyTable
from latency_tables.units import MS

_BLOCK: Final = re.compile(
    r"expanded_conv-input:(\d+)x(\d+)x(\d+)-output:(\d+)x(\d+)x(\d+)-expand:(\d+)-kernel:(\d+)-stride:(\d+)"
    r"-idskip:([01])-se:([01])-hs:([01])",
    re.ASCII,
)


def read(
    data: bytes | str, context: Context | None, unit: str = MS, notes: list[str] | None = None
) -> LatencyTable:
    """Read a table. Raises InvalidTable with line numbers. unit: what its means are given in; notes: what was
    understood."""
    if context is None:
        raise InvalidTable("a once-for-all table does not hold its context; say which device it belongs to")
    if notes is not None:
        notes.append(MEANS)
    return LatencyTable(
        context, collect(read_entries(data), _operator, Head(activation="hswish", feature_key="Conv_2"), unit)
    )


def _operator(entry: Entry) -> Operator | None:
    """The operator of a key; None for the parts of the head. Raises InvalidTable for a key of another
    form."""
    match = _BLOCK.fullmatch(entry.key)
    if match is not None:
        h, w, c, _, _, out, mid, kernel, stride, skip, se, hs = (int(v) for v in match.groups())
        activation = "hswish" if hs else "relu"
        return MBConv(h, w, c, out, kernel, stride, mid, bool(skip), bool(se), activation, mid)
    if entry.key.startswith("expanded_conv"):
        raise InvalidTable(
            "a block needs expand (mid channels), kernel, stride, idskip, se and hs; is it a ProxylessNAS "
            "table?"
        )
    name, (h, w, c), (oh, _, out) = input_output(entry.key)
    if name in ("Conv", "Conv_1"):
        kernel = 3 if name == "Conv" else 1
        return Conv(h, w, c, out, kernel, stride_of(h, oh), 0, False, False, "hswish", 1)
    return None
