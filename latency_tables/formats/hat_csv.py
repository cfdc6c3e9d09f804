"""Reads HAT's latency CSV (whole transformers: features, encoder and decoder latency in ms) as probes.
Command line only."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from latency_tables.errors import InvalidTable

FORM: Final = "hat"
"""How commands name it."""
FEATURES: Final = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)
LATENCIES: Final = (
    "latency_mean_encoder",
    "latency_mean_decoder",
    "latency_std_encoder",
    "latency_std_decoder",
)
MAX_ROWS: Final = 1_000_000
_NUMBER: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_SHOWN: Final = 20


@dataclass(frozen=True)
class TransformerProbe:
    """One measured transformer: its features in the order of FEATURES, latencies in ms."""

    features: tuple[float, ...]
    encoder_ms: float
    decoder_ms: float

    @property
    def latency_ms(self) -> float:
        return self.encoder_ms + self.decoder_ms


def read(data: bytes | str) -> list[TransformerProbe]:
    """All probes of the file. Raises InvalidTable with row numbers: the first row below the header is 1, on
    line 2."""
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise InvalidTable("the text is not UTF-8") from None
    except csv.Error:
        raise InvalidTable("the text is not CSV: a quotation mark is open, or a cell is too long") from None
    header = lines[0] if lines else []
    needed = (*FEATURES, *LATENCIES[:2])
    if not set(needed) <= set(header) <= set(FEATURES + LATENCIES) or len(set(header)) != len(header):
        raise InvalidTable(
            f"the first line must hold {', '.join(needed)} and, if known, {', '.join(LATENCIES[2:])}"
        )
    if len(lines) - 1 > MAX_ROWS:
        raise InvalidTable(f"a file has at most {MAX_ROWS} rows")
    found, wrong = [], []
    for number, cells in enumerate(lines[1:], 1):
        probe = _probe(header, cells)
        if isinstance(probe, str):
            wrong.append((number, probe))
        else:
            found.append(probe)
    if wrong:
        number, reason = wrong[0]
        message = (
            f"{len(wrong)} row(s) are wrong, nothing was taken; first, row {number} (line "
            f"{number + 1}): {reason}"
        )
        raise InvalidTable(message, wrong[:_SHOWN])
    return found


def _probe(header: Sequence[str], cells: Sequence[str]) -> TransformerProbe | str:
    if len(cells) != len(header):
        return f"{len(header)} cells are wanted, as in the header"
    if any(_NUMBER.fullmatch(cell) is None for cell in cells):
        return "every cell must be a number that is not negative"
    row = {name: float(cell) for name, cell in zip(header, cells, strict=True)}
    times = (row["latency_mean_encoder"], row["latency_mean_decoder"])
    if not all(math.isfinite(v) for v in row.values()) or not all(0 < t <= 1e6 for t in times):
        return "latencies must lie in (0, 1e6] ms"
    return TransformerProbe(tuple(row[name] for name in FEATURES), *times)


def write(probes: Sequence[TransformerProbe]) -> bytes:
    """The probes as CSV without deviations; `read` gives them back, equal probes give equal bytes."""
    lines = [",".join((*FEATURES, *LATENCIES[:2]))]
    lines += [",".join(repr(float(v)) for v in (*p.features, p.encoder_ms, p.decoder_ms)) for p in probes]
    return ("\n".join(lines) + "\n").encode("ascii")
