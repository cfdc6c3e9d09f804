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
from latency_tables.prediction.transformers import TransformerTable, fit_transformers
from latency_tables.table import LatencyTable
from service.db import tables as table_rows
from service.db.documents import Document
from service.db.models import Device, now
from service.db.session import Session
from service.db.states import TableSource
from service.devices.calibrate import Learnt, Method
from service.devices.fitting import Fit
from supernets.spaces.lowering import all_operators
from supernets.spaces.space import Space
from supernets.spaces.transformer_space import SentenceSpace

LEAST_HELD_OUT: Final = 20
"""Networks beyond those that the table is fitted to, from which error and bound are taken; with fewer of them
each network is left out of the fit once."""


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
    rows = {
        op: row
        for size in space.resolutions
        for op, row in table.rows(all_operators(space, size), _layers(space), size).items()
    }
    held = LatencyTable(table_rows.context_of(device), rows)
    provenance = _provenance(space, table, len(others), seed)
    made = table_rows.publish(
        session, device, held, source=TableSource.TRANSFER, provenance=provenance, by=by
    )
    return Learnt(Method.TRANSFER, space, made.id, Fit(table.calibration, now())), len(others)


def _layers(space: SentenceSpace) -> int:
    """Of every encoder. Raises InvalidTable where networks of a space differ in it: the files' do not."""
    found = space.described.encoder_layers
    if len(found) != 1:
        raise InvalidTable(f"networks of {space.name} differ in the layers of their encoder")
    return found[0]


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
