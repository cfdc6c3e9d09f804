"""Pictures of latency tables as PNG bytes. Needs matplotlib (the service's extra), imported only when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency_tables.dense import Array
from latency_tables.errors import InvalidTable
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable

_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#718096")


def predicted_against_measured(
    predicted_ms: Sequence[float] | Array,
    measured_ms: Sequence[float] | Array,
    title: str,
    upper_ms: Sequence[float] | Array | None = None,
) -> bytes:
    """Whole networks: prediction across, measurement up, the diagonal and +-5 % around it; upper bounds as ticks."""
    predicted, measured = np.asarray(predicted_ms, dtype=np.float64), np.asarray(measured_ms, dtype=np.float64)
    if len(predicted) == 0:
        raise InvalidTable("no whole network was measured on this device; profile it (`bespoke profile`) first")
    figure, axes = _figure(1)
    ax = axes[0]
    ends = np.array([min(predicted.min(), measured.min()) * 0.95, max(predicted.max(), measured.max()) * 1.05])
    ax.fill_between(ends, 0.95 * ends, 1.05 * ends, color="#e2e8f0", label="within 5 %")
    ax.plot(ends, ends, color="#718096", linewidth=1)
    if upper_ms is not None:
        ax.plot(predicted, upper_ms, "_", color=_COLOURS[1], label="upper bound")
    ax.plot(predicted, measured, "o", color=_COLOURS[0], markersize=5, label="networks")
    error = float(np.abs(predicted / measured - 1).mean())
    ax.set(xlabel="predicted, ms", ylabel="measured, ms", title=f"{title}: {error:.1%} mean error, {len(predicted)} networks")
    ax.legend(frameon=False)
    return _png(figure)


def heat_map(table: LatencyTable, title: str) -> bytes:
    """Blocks by kernel and expand ratio (rows) and by input size and width (columns), one picture; colour is log ms."""
    blocks = {op: m.median_ms for op, m in table.rows.items() if op.family in ("mbconv", "bottleneck")}
    if not blocks:
        raise InvalidTable("the table holds no blocks to draw")
    rows = sorted({_row(op) for op in blocks})
    columns = sorted({_column(op) for op in blocks}, key=lambda c: (-c[0], *c[1:]))
    sums, counts = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    for op, ms in blocks.items():
        at = rows.index(_row(op)), columns.index(_column(op))
        sums[at] += ms
        counts[at] += 1
    values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    figure, axes = _figure(1, width=max(7.0, 1.5 + 0.42 * len(columns)), height=max(3.5, 1.8 + 0.32 * len(rows)))
    image = axes[0].imshow(np.log10(values), aspect="auto", cmap="viridis")
    axes[0].set_yticks(range(len(rows)), [f"k{k} e{e:g}" for k, e in rows])
    axes[0].set_xticks(
        range(len(columns)), [f"{size}px {i}-{o}" + ("/2" if s > 1 else "") for size, i, o, s in columns], rotation=90
    )
    axes[0].set_title(f"{title}: latency of blocks")
    bar = figure.colorbar(image, ax=axes[0])
    bar.set_label("log10 ms")
    return _png(figure)


def _row(op: Operator) -> tuple[int, float]:
    base = op.in_channels if op.family == "mbconv" else op.out_channels
    return op.kernel, round(op.mid_channels / base, 2)


def _column(op: Operator) -> tuple[int, int, int, int]:
    return op.in_height, op.in_channels, op.out_channels, op.stride


def side_by_side(tables: Mapping[str, LatencyTable], title: str) -> bytes:
    """Two devices: each operator of both, one device across and the other up, by kernel; and the ratio by operator."""
    if len(tables) != 2:
        raise InvalidTable("two devices are compared; name two")
    (first, a), (second, b) = tables.items()
    shared = [op for op in a.rows if op in b.rows]
    if not shared:
        raise InvalidTable(f"the tables of {first} and {second} have no operator in common")
    figure, axes = _figure(2)
    x, y = (np.array([t.rows[op].median_ms for op in shared]) for t in (a, b))
    kinds = sorted({_kind(op) for op in shared})
    for colour, kind in zip(_COLOURS, kinds, strict=False):
        index = [i for i, op in enumerate(shared) if _kind(op) == kind]
        axes[0].loglog(x[index], y[index], "o", color=colour, markersize=4, label=kind)
    axes[0].set(xlabel=f"{first}, ms", ylabel=f"{second}, ms", title=f"{title}: {len(shared)} operators")
    axes[0].legend(frameon=False)
    ratios = [
        y[[i for i, op in enumerate(shared) if _kind(op) == kind]] / x[[i for i, op in enumerate(shared) if _kind(op) == kind]]
        for kind in kinds
    ]
    axes[1].boxplot(ratios, orientation="vertical", tick_labels=kinds)
    axes[1].set(ylabel=f"{second} / {first}", title="ratio by kind of operator")
    axes[1].tick_params(axis="x", rotation=45)
    return _png(figure)


def _kind(op: Operator) -> str:
    return f"{op.family} k{op.kernel}" if op.family in ("mbconv", "bottleneck") else op.family


def _figure(panels: int, width: float = 6.5, height: float = 5.0) -> tuple[Any, Sequence[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (the agent has no matplotlib)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width * panels if panels > 1 else width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(1, panels)).tolist()


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
