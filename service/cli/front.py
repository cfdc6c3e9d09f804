"""`bespoke front`: everything a device can reach, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.generations import Generation, sentence_of
from service.cli.pictures import draw_front
from service.cli.screen import as_json, errors, grid, milliseconds, percent, say
from service.client import BespokeClient, ClientError
from service.client.jobs import Json


class NothingTrained(ClientError):
    """There is no supernet to draw a front of, or more than one and none was named."""


def front(
    device: Annotated[str, typer.Option(help="Name of a registered device.")],
    supernet: Annotated[
        str | None, typer.Option(help="Id of a supernet; left out: the newest one that is trained.")
    ] = None,
    generation: Generation = None,
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
        found = service.front(supernet_id, device, sentence_of(generation))
        models = delivered(service, supernet_id, device) if output else []
    if json_out:
        as_json(found)
    else:
        _print(device, found, rows)
    if output is not None:
        draw_front(output, f"{device}: every budget at once", found["points"], models)
        errors.print(f"{output} is written")


def delivered(service: BespokeClient, supernet_id: str, device: str, most: int = 12) -> list[Json]:
    """Cards of the newest networks that were cut from a supernet for a device, one for each budget."""
    newest: dict[float, str] = {}
    for summary in service.models():
        if (summary["supernet_id"], summary["device"]) == (supernet_id, device) and len(newest) < most:
            newest.setdefault(summary["budget_ms"], summary["id"])
    return [service.model(model_id) for model_id in newest.values()]


def newest_supernet(service: BespokeClient) -> str:
    """Id of the newest trained supernet. Raises NothingTrained."""
    found = newest_trained(service)
    if found is None:
        raise NothingTrained(
            "no supernet is trained yet; train one with `bespoke supernets train digits-mbv3 digits`"
        )
    return str(found["id"])


def newest_trained(service: BespokeClient) -> Json | None:
    trained = [s for s in service.supernets() if s["ready_at"]]
    return max(trained, key=lambda s: str(s["ready_at"]), default=None)


def _print(device: str, found: Json, rows: int) -> None:
    points = found["points"]
    chosen = spread(points, rows)
    proof = "proven optimal" if found.get("optimal") else "not proven optimal"
    table = [
        (
            milliseconds(p["latency_ms"]),
            milliseconds(p.get("upper_ms")),
            percent(p["accuracy"], 2),
            escape(_resolution(p["architecture"], "tokens" if found.get("generation") else "px")),
        )
        for p in chosen
    ]
    grid(
        f"{device}: {len(points)} networks on the front, {proof}",
        (">latency ms", ">upper ms", ">accuracy", ">input"),
        table,
    )
    low, high = found["reachable_ms"]["min"], found["reachable_ms"]["max"]
    say(f"The fastest network needs a budget of {milliseconds(low)} ms, the slowest {milliseconds(high)} ms.")
    if found["confidence"] is None:
        say(
            f"[dim]No upper bound yet: {found['missing_networks']} more whole networks must be measured "
            "(`bespoke profile`).[/]"
        )


def spread(points: Sequence[Json], count: int) -> list[Json]:
    """At most `count` of them, both ends included, evenly spread."""
    if len(points) <= count:
        return list(points)
    return [points[round(n * (len(points) - 1) / (count - 1))] for n in range(count)]


def _resolution(architecture: Json, unit: str) -> str:
    return f"{architecture['resolution']} {unit}" if "resolution" in architecture else "-"
