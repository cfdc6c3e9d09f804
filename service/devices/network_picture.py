"""A network block by block, each with its milliseconds in a device's table."""

from __future__ import annotations

from collections.abc import Sequence

from latency_tables.errors import PoorCalibration
from latency_tables.operators import Operator
from latency_tables.operators.operator import FLOAT
from latency_tables.table import LatencyTable
from service.db import tables as table_rows
from service.db.models import Device
from service.db.session import Session
from service.devices.price_book import PriceBook
from service.devices.pricing import Pricing
from service.schemas.networks import BlockView, NetworkPicture
from supernets.errors import NoTable
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import blocks_of, boundary_operators
from supernets.spaces.space import Space


def picture(
    session: Session, prices: PriceBook, device: Device, space: Space, architecture: Architecture
) -> NetworkPicture:
    """The blocks of a network; without milliseconds where the device has no table for them."""
    pricing, table = _priced(session, prices, device, space)
    rows, shape, left = [], space.input_shape(architecture.resolution), FLOAT
    for stage, block, own in blocks_of(space, architecture):
        # What turns the values before a block into its precision counts with the block.
        change = boundary_operators(shape, left, own[0].precision) if own else ()
        operators = (*change, *own)
        rows.append(_block(space, architecture, stage, block, operators, shape, table))
        shape, left = (own[-1].output_shape, own[-1].precision) if own else (shape, left)
    known = [row.ms for row in rows if row.ms is not None]
    total = sum(known) if len(known) == len(rows) else None
    shared = [
        row if total is None else row.model_copy(update={"share": (row.ms or 0.0) / total}) for row in rows
    ]
    covered = pricing is not None and architecture in pricing.space
    predicted, upper = _held(pricing, architecture) if covered and pricing is not None else (None, None)
    return NetworkPicture(
        space=space.name,
        device=device.name,
        table_id=None if pricing is None else pricing.table_id,
        resolution=architecture.resolution,
        blocks=shared,
        macs=sum(row.macs for row in rows),
        parameters=sum(row.parameters for row in rows),
        rows_ms=total,
        predicted_ms=predicted,
        upper_ms=upper,
        architecture=space.to_json(architecture),
    )


def _priced(
    session: Session, prices: PriceBook, device: Device, space: Space
) -> tuple[Pricing | None, LatencyTable | None]:
    try:
        pricing = prices.load(session, device, space)
    except (NoTable, PoorCalibration):
        return None, None
    row = table_rows.of_device(session, device.id, pricing.table_id)
    return pricing, None if row is None else prices.table(session, row, device)


def _held(pricing: Pricing, architecture: Architecture) -> tuple[float, float | None]:
    genes = pricing.space.genes(architecture)[None]
    upper = None if pricing.upper is None else float(pricing.upper.price(genes)[0])
    return float(pricing.predicted.price(genes)[0]), upper


def _block(
    space: Space,
    architecture: Architecture,
    index: int,
    block: int,
    operators: Sequence[Operator],
    shape: tuple[int, ...],
    table: LatencyTable | None,
) -> BlockView:
    stage, chosen = space.stages[index], architecture.stages[index]
    choice = chosen.blocks[block]
    medians = [None if table is None else table.rows.get(operator) for operator in operators]
    priced = table is not None and all(m is not None for m in medians)
    named = {**{d.name: d.default for d in stage.operators.dimensions}, **stage.settings, **choice}
    return BlockView(
        stage=stage.name,
        block=block,
        family=stage.family,
        precision=choice.precision,
        values={name: value for name, value in choice.items() if name != "zero"},
        kernel=named.get("kernel"),
        expand=named.get("expand"),
        width=chosen.width,
        stride=named.get("stride", 1) if block == 0 else 1,
        input_shape=list(shape),
        in_channels=shape[0],
        size=shape[min(1, len(shape) - 1)],
        left_out=choice.zero,
        squeeze_excite=named.get("squeeze_excite", False),
        activation=named.get("activation", "none"),
        macs=sum(operator.macs for operator in operators),
        parameters=sum(operator.parameters for operator in operators),
        ms=sum(m.latency_ms for m in medians if m is not None) if priced else None,
        share=None,
        operators=[operator.text for operator in operators],
    )
