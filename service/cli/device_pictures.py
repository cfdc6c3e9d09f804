"""Pictures of a device: how well its table predicts, what the table looks like, how two devices differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_tables.formats.native_json import read
from latency_tables.table import LatencyTable
from service.cli.pictures import BLUE, GREY, INK, ORANGE, new_figure, save
from service.cli.tables import table_in_use
from service.client import BespokeClient
from service.devices.table_cells import cells_of
from service.schemas.networks import CellView
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def load_table(service: BespokeClient, device: str) -> LatencyTable:
    """The newest table of a device. Raises InvalidTable where it has none."""
    return read(service.table(device, table_in_use(service.device(device))))


def draw_device(
    file: Path,
    name: str,
    tables: Mapping[str, LatencyTable],
    networks: Sequence[Mapping[str, Any]],
    space_name: str,
) -> None:
    """One panel for the networks, one for the table, one for a second device where there is one."""
    space = space_named(space_name)
    others = [device for device in tables if device != name]
    figure, axes = new_figure(5.2 * (2 + len(others)), 4.6, 2 + len(others))
    _networks(axes[0], networks)
    _heat_map(axes[1], tables[name], space)
    for ax, other in zip(axes[2:], others, strict=True):
        _side_by_side(ax, name, tables[name], other, tables[other])
    figure.suptitle(
        f"{name}: {', '.join(str(v) for v in tables[name].context.as_dict().values())}",
        color=INK,
        x=0.01,
        ha="left",
    )
    save(figure, file)


def _networks(ax: Axes, networks: Sequence[Mapping[str, Any]]) -> None:
    """Measured over predicted latency of whole networks, with the line on which both are equal and the 10 %
    band."""
    ax.set_title("whole networks", loc="left", fontsize=10)
    ax.set_xlabel("predicted (ms)")
    ax.set_ylabel("measured (ms)")
    known = [n for n in networks if n["predicted_ms"] is not None]
    if not known:
        ax.text(0.5, 0.5, "none measured yet", transform=ax.transAxes, ha="center", color=GREY)
        return
    ends = np.array(
        [min(n["predicted_ms"] for n in known) * 0.9, max(n["predicted_ms"] for n in known) * 1.1]
    )
    ax.fill_between(ends, ends * 0.9, ends * 1.1, color=GREY, alpha=0.15, label="within 10 %")
    ax.plot(ends, ends, color=GREY, linewidth=1)
    for source, colour in (("agent", BLUE), ("probe", "#4fb286"), ("verify", ORANGE)):
        chosen = [n for n in known if n["source"] == source]
        if chosen:
            points = [n["predicted_ms"] for n in chosen], [n["measured_ms"] for n in chosen]
            ax.plot(*points, "o", color=colour, markersize=5, alpha=0.8, label=_SOURCES[source])
    errors = [abs(n["measured_ms"] / n["predicted_ms"] - 1) for n in known]
    ax.set_title(
        f"{len(known)} whole networks, mean difference {100 * float(np.mean(errors)):.1f} %",
        loc="left",
        fontsize=10,
    )
    ax.legend(frameon=False, loc="upper left")


_SOURCES = {"agent": "for calibration", "probe": "posted", "verify": "delivered"}


def _heat_map(ax: Axes, table: LatencyTable, space: Space) -> None:
    """What each choice of each block takes, at the input size that the table knows most of."""
    ax.grid(visible=False)
    maps = [cells_of(space, size, table, "", ()) for size in space.resolutions]
    # The largest of several: there the blocks differ most.
    found = max(reversed(maps), key=lambda one: sum(map(_known, one.cells)))
    # A head of other classes than the space's own, say, has a row without a number.
    known = [(name, row) for name, row in zip(found.rows, found.cells, strict=True) if _known(row)]
    if not known:
        ax.text(0.5, 0.5, f"no blocks of {space.name}", transform=ax.transAxes, ha="center", color=GREY)
        return
    values = np.array(
        [[np.nan if c is None or c.ms is None else 1000 * c.ms for c in row] for _, row in known]
    )
    image = ax.imshow(values, cmap="viridis", aspect="auto")
    ax.set_xticks(range(len(found.columns)), found.columns, rotation=60, ha="right", fontsize=7)
    ax.set_yticks(range(len(known)), [name for name, _ in known], fontsize=7)
    ax.set_title(
        f"blocks of {space.name} at {found.resolution} by what is chosen (µs)", loc="left", fontsize=10
    )
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def _known(row: Sequence[CellView | None]) -> int:
    return sum(cell is not None and cell.ms is not None for cell in row)


def _side_by_side(ax: Axes, name: str, table: LatencyTable, other: str, other_table: LatencyTable) -> None:
    """Operators that both tables have, one device over the other."""
    shared = [op for op in table.rows if op in other_table.rows]
    ax.set(xscale="log", yscale="log", xlabel=f"{name} (ms)", ylabel=f"{other} (ms)")
    if not shared:
        ax.set_title("no operator in common", loc="left", fontsize=10)
        return
    first = np.array([table.rows[op].latency_ms for op in shared])
    second = np.array([other_table.rows[op].latency_ms for op in shared])
    ratio = float(np.median(second / first))
    ends = np.array([first.min(), first.max()])
    ax.plot(ends, ratio * ends, color=GREY, linewidth=1)
    ax.plot(first, second, "o", color=BLUE, markersize=4, alpha=0.6)
    ax.set_title(
        f"{len(shared)} operators, {other} takes {ratio:.2f} x as long (median)", loc="left", fontsize=10
    )
