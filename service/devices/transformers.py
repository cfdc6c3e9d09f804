"""A device from whole transformers that HAT's own protocol measured: an additive table of its layers.

Their files say of a network's lists the averages alone, so the networks are none of a space and no ordinary
probes; what is fitted to them (`latency_tables.prediction.transformers`) is a table like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from latency_tables.errors import InvalidTable
from latency_tables.formats.hat_csv import TransformerProbe
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.prediction.least_squares import nonnegative
from latency_tables.prediction.transformers import TransformerTable, fit_transformers
from latency_tables.prediction.uses import uses_of
from latency_tables.table import LatencyTable
from service.db import tables as table_rows
from service.db.documents import Document
from service.db.models import Device, now
from service.db.session import Session
from service.db.states import TableSource
from service.devices.calibrate import Learnt, Method
from service.devices.fitting import Fit
from supernets.spaces.lowering import all_operators, lower
from supernets.spaces.space import Space
from supernets.spaces.transformer_space import SentenceSpace

LEAST_HELD_OUT: Final = 20
"""Networks beyond those that the table is fitted to, from which error and bound are taken; with fewer of them
each network is left out of the fit once."""

_SAMPLED: Final = 512
_RIDGE: Final = 1e-9
_EXACT: Final = 1e-3
_LEAST_MS: Final = 1e-6


def device_from_transformers(
    session: Session,
    device: Device,
    space: Space,
    probes: Sequence[TransformerProbe],
    fitted_to: int,
    seed: int,
    by: str | None,
) -> tuple[Learnt, int]:
    """(what the networks gave, how many of them were held out).

    fitted_to: of the networks, drawn by the seed. by: the name of the caller's key. Raises InvalidTable,
    TooFewNetworks, PoorCalibration.
    """
    if not isinstance(space, SentenceSpace):
        raise InvalidTable(f"networks of {space.name} write no sentences: name a space of transformers")
    order = np.random.default_rng(seed).permutation(len(probes))
    known, others = ([probes[i] for i in part] for part in (order[:fitted_to], order[fitted_to:]))
    if len(others) < LEAST_HELD_OUT:
        known, others = list(probes), []
    table = fit_transformers(known)
    if others:
        table = table.held_out(others)
    held = LatencyTable(table_rows.context_of(device), rows_of(table, space))
    provenance = _provenance(space, table, len(others), seed)
    made = table_rows.publish(
        session, device, held, source=TableSource.TRANSFER, provenance=provenance, by=by
    )
    return Learnt(Method.TRANSFER, space, made.id, Fit(table.calibration, now())), len(others)


def rows_of(table: TransformerTable, space: SentenceSpace) -> dict[Operator, Measurement]:
    """Rows of all operators of a space that add up, over any of its networks, to what is predicted of it.

    What no row can be told from another by (an offset, a layer) is shared as the work is. Raises InvalidTable
    for widths and numbers of encoder layers that were not measured.
    """
    layers = {table.encoder_layers or 0}
    if set(space.described.encoder_layers) != layers:
        raise InvalidTable(
            f"the measured transformers have {sorted(layers)} encoder layers, those of {space.name} "
            f"{list(space.described.encoder_layers)}: measure networks of the space"
        )
    operators = all_operators(space, space.resolutions[0])
    networks = space.sample(np.random.default_rng(0), _SAMPLED)
    probes = [TransformerProbe(space.described.of(one).features(), 1.0, 1.0) for one in networks]
    wanted = table.predict(probes)
    uses = uses_of(operators, [lower(space, one) for one in networks])
    work = np.array([float(op.macs) for op in operators])
    usual = work * wanted.mean() / (uses @ work).mean()
    # In shares of what each row would be if time followed the work, so that none weighs by its size.
    scaled = uses * usual / wanted[:, None]
    gram, moment = scaled.T @ scaled, scaled.sum(axis=0)
    found = usual * nonnegative(
        gram + _RIDGE * len(networks) * np.eye(len(work)), moment + _RIDGE * len(networks)
    )
    worst = float(np.abs(uses @ found / wanted - 1).max())
    if worst > _EXACT:
        raise InvalidTable(f"no rows of {space.name} add up to these transformers ({worst:.1%} off)")
    return {op: Measurement(max(float(ms), _LEAST_MS)) for op, ms in zip(operators, found, strict=True)}


def _provenance(space: SentenceSpace, table: TransformerTable, held_out: int, seed: int) -> Document:
    return {
        "form": "hat",
        "space": space.name,
        "classes": space.classes,
        "networks": table.calibration.networks,
        "held_out": held_out or None,
        "seed": seed,
        "error": table.calibration.error,
        "calibration": table.calibration.to_json(),
    }
