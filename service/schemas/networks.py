"""A network block by block: what a picture of it shows."""

from __future__ import annotations

from service.schemas.strict import Answer, JsonObject


class BlockView(Answer):
    """One block. ms: sum of its rows in the device's table; share: of all rows; null where the table lacks
    one.

    operators: keys of those rows, with what changes the precision before the block. macs: multiply-adds of
    one input. values: what was chosen, by the names that its family has for it; kernel, expand: null for a
    family without. input_shape: of one sample.
    """

    stage: str
    block: int
    family: str
    precision: str = "float32"
    values: JsonObject
    kernel: int | None
    expand: float | None
    width: int
    stride: int
    input_shape: list[int]
    in_channels: int
    size: int
    left_out: bool
    squeeze_excite: bool
    activation: str
    macs: int
    parameters: int
    ms: float | None
    share: float | None
    operators: list[str]


class NetworkPicture(Answer):
    """The blocks of a network in order, priced by a device's table.

    rows_ms: sum of the table's rows. predicted_ms, upper_ms: after calibration with whole networks; null
    without it.
    """

    space: str
    device: str
    table_id: str | None
    resolution: int
    blocks: list[BlockView]
    macs: int
    parameters: int
    rows_ms: float | None
    predicted_ms: float | None
    upper_ms: float | None
    architecture: JsonObject


class CellView(Answer):
    """What one choice of a block takes. ms: null where the table lacks it; spread_ms: median absolute
    deviation. odd: something was found about one of its rows.
    """

    ms: float | None
    spread_ms: float | None
    count: int | None
    odd: bool


class TableCells(Answer):
    """A table as a heat map: `cells[row][column]`, null where a block has no such choice. Blocks are at their
    widest.
    """

    space: str
    resolution: int
    resolutions: list[int]
    table_id: str
    columns: list[str]
    rows: list[str]
    cells: list[list[CellView | None]]
