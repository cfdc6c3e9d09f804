"""What each network of a search would cost on every device of the job: as a table, as JSON, as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from rich.markup import escape

from latency_tables.errors import BespokeError
from service.cli.pictures import draw_matrix
from service.cli.screen import grid, milliseconds
from service.client.jobs import Json


class NoMatrix(BespokeError):
    """A job that has no cross-device matrix, or a file that it cannot be written into."""


def matrix_of(result: Json) -> Json:
    """The matrix of a search's result with its rows by device and budget; no rows where there is none."""
    matrix = result.get("matrix") or {}
    devices = matrix.get("devices") or []
    rows = sorted(matrix.get("networks") or [], key=lambda n: (devices.index(n["device"]), n["budget_ms"]))
    return {"devices": devices, "networks": rows}


def print_matrix(matrix: Json) -> None:
    """A row for each network, a column for each device."""
    rows = [
        (
            f"{escape(n['device'])} {milliseconds(n['budget_ms'])} ms",
            *(milliseconds(n["latency_ms"].get(d)) for d in matrix["devices"]),
        )
        for n in matrix["networks"]
    ]
    columns = ("made for", *(f">{d}" for d in matrix["devices"]))
    grid("predicted latency of each network on each device, in ms", columns, rows)


def save_matrix(matrix: Json, file: Path) -> None:
    """Write a .json or a .png. Raises NoMatrix for any other name."""
    if file.suffix == ".json":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(matrix, indent=1) + "\n", encoding="utf-8")
    elif file.suffix == ".png":
        draw_matrix(file, matrix["devices"], matrix["networks"])
    else:
        raise NoMatrix("write the matrix into a .json or a .png file")
