"""A latency table as a heat map: what each choice of each block takes, at one resolution of a space."""

from __future__ import annotations

from collections.abc import Collection

from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from service.schemas.networks import CellView, TableCells
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import NOTHING, block_operators, input_shapes
from supernets.spaces.space import Space


def cells_of(
    space: Space, resolution: int, table: LatencyTable, table_id: str, flagged: Collection[str]
) -> TableCells:
    """Rows are blocks at their widest, columns the choices that some block has. flagged: operators that were
    found odd.
    """
    columns: dict[str, None] = {}
    names: list[str] = []
    cells: list[dict[str, CellView]] = []
    given = NOTHING
    for stage, shapes in zip(space.stages, input_shapes(space, resolution), strict=True):
        shape, state = shapes[-1], stage.states[-1]
        for block, options in enumerate(stage.choices):
            choices = {c: block_operators(stage, block, shape, given, state, c) for c in options}
            row = {
                _named(c): _cell(operators, table, flagged) for c, operators in choices.items() if operators
            }
            if row:
                columns |= dict.fromkeys(row)
                names.append(f"{stage.name} {block + 1}: {' x '.join(map(str, shape))} to {state['width']}")
                cells.append(row)
            shape, given = next((o[-1].output_shape for o in choices.values() if o), shape), state
    return TableCells(
        space=space.name,
        resolution=resolution,
        resolutions=list(space.resolutions),
        table_id=table_id,
        columns=list(columns),
        rows=names,
        cells=[[row.get(column) for column in columns] for row in cells],
    )


def _named(choice: Choice) -> str:
    """`3x3 e4`: what is chosen, in few characters; the only choice of a block has no name of its own."""
    forms = {"kernel": "{0}x{0}", "expand": "e{0:g}"}
    known = [(name, value) for name, value in choice.items() if name != "zero"]
    return (
        " ".join(forms.get(name, name.replace("_", " ") + " {0}").format(value) for name, value in known)
        or "fixed"
    )


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
