"""A latency table as a heat map: what each choice of each block takes, at one resolution of a space."""

from __future__ import annotations

from collections.abc import Collection

from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from service.schemas.networks import CellView, TableCells
from supernets.spaces.architecture import Choice
from supernets.spaces.lowering import block_operators, stage_sizes
from supernets.spaces.space import Space


def cells_of(
    space: Space, resolution: int, table: LatencyTable, table_id: str, flagged: Collection[str]
) -> TableCells:
    """Rows are blocks at their widest, columns the choices that some block has. flagged: operators that were
    found odd.
    """
    sizes, before = stage_sizes(space, resolution), space.in_channels
    columns: dict[str, None] = {}
    names: list[str] = []
    found: list[dict[str, CellView]] = []
    for index, stage in enumerate(space.stages):
        width, size = max(stage.widths), sizes[index]
        for block, options in enumerate(stage.choices):
            row: dict[str, CellView] = {}
            for choice in options:
                operators = block_operators(stage, block, size, before, width, choice)
                if operators:
                    row[_named(choice)] = _cell(operators, table, flagged)
            if row:
                columns |= dict.fromkeys(row)
                names.append(f"{stage.name} {block + 1}: {size} px, {before} to {width}")
                found.append(row)
            size, before = (size - 1) // (stage.stride if block == 0 else 1) + 1, width
    return TableCells(
        space=space.name,
        resolution=resolution,
        resolutions=list(space.resolutions),
        table_id=table_id,
        columns=list(columns),
        rows=names,
        cells=[[row.get(column) for column in columns] for row in found],
    )


def _named(choice: Choice) -> str:
    return f"{choice.kernel}x{choice.kernel}" + (f" e{choice.expand:g}" if choice.expand != 1 else "")


def _cell(operators: tuple[Operator, ...], table: LatencyTable, flagged: Collection[str]) -> CellView:
    known = [table.rows.get(operator) for operator in operators]
    whole = all(m is not None for m in known)
    spreads = [m.mad_ms for m in known if m is not None and m.mad_ms is not None]
    return CellView(
        ms=sum(m.latency_ms for m in known if m is not None) if whole else None,
        spread_ms=sum(spreads) if spreads else None,
        count=min((m.count for m in known if m is not None and m.count is not None), default=None),
        odd=any(operator.text in flagged for operator in operators),
    )
