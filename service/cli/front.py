"""`bespoke front`: everything a device can reach, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.pictures import draw_front
from service.cli.screen import as_json, errors, grid, milliseconds, percent, say
from service.client import BespokeClient, ClientError


class NothingTrained(ClientError):
    """There is no supernet to draw a front of, or more than one and none was named."""


def front(
    device: Annotated[str, typer.Option(help="Name of a registered device.")],
    supernet: Annotated[str | None, typer.Option(help="Id of a supernet; left out: the newest one that is trained.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="PNG file to write.")] = None,
    rows: Annotated[int, typer.Option(min=2, help="How many points to print.")] = 12,
    json_out: Annotated[bool, typer.Option("--json", help="Print all points as JSON.")] = False,
) -> None:
    """Show the whole latency/accuracy front of a device: for every budget the most accurate network.

    It is solved exactly while you wait. Use it to choose a budget.

    Examples:

    [cyan]bespoke front --device this-machine[/]

    [cyan]bespoke front --device pixel7 -o front.png[/]  with the delivered networks on it
    """
    with client() as service:
        supernet_id = supernet or newest_supernet(service)
        found = service.front(supernet_id, device)
        models = (
            [m for m in service.models() if m["device"] == device and _supernet_of(m) in (None, supernet_id)] if output else []
        )
    if json_out:
        as_json(found)
    else:
        _print(device, found, rows)
    if output is not None:
        draw_front(output, f"{device}: every budget at once", found["points"], models)
        errors.print(f"{output} is written")


def newest_supernet(service: BespokeClient) -> str:
    """Id of the newest trained supernet. Raises NothingTrained."""
    trained = [s for s in service.supernets() if s.get("ready_at") or s.get("state") == "ready"]
    if not trained:
        raise NothingTrained("no supernet is trained yet; train one with `bespoke supernets train digits-mbv3 digits`")
    return str(max(trained, key=lambda s: s.get("created_at") or "")["id"])


def _print(device: str, found: dict[str, Any], rows: int) -> None:
    points = found["points"]
    chosen = spread(points, rows)
    proof = "proven optimal" if found.get("optimal") else "not proven optimal"
    table = [
        (
            milliseconds(p["latency_ms"]),
            milliseconds(p.get("upper_ms")),
            percent(p["accuracy"], 2),
            escape(_resolution(p["architecture"])),
        )
        for p in chosen
    ]
    grid(f"{device}: {len(points)} networks on the front, {proof}", (">latency ms", ">upper ms", ">accuracy", ">input"), table)
    if points and points[0].get("upper_ms") is None:
        say("[dim]No upper bound yet: too few whole networks were measured on this device. `bespoke profile` measures them.[/]")


def spread(points: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` of them, both ends included, evenly spread."""
    if len(points) <= count:
        return list(points)
    return [points[round(n * (len(points) - 1) / (count - 1))] for n in range(count)]


def _supernet_of(card: dict[str, Any]) -> str | None:
    return (card.get("provenance") or {}).get("supernet_id")


def _resolution(architecture: dict[str, Any]) -> str:
    return f"{architecture['resolution']} px" if "resolution" in architecture else "-"
