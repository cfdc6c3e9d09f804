"""What a search delivers: cards on the screen, files in their place, the matrix of several devices."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from service.cli.matrix import matrix_of, print_matrix, save_matrix
from service.cli.models import print_card
from service.cli.screen import milliseconds, say
from service.client import BespokeClient
from service.client.jobs import Json


def deliver(service: BespokeClient, models: list[Json], output: Path | None) -> None:
    """Print the cards and write the files."""
    for model in models:
        card = service.model(model["id"])
        print_card(card)
        if output is not None:
            file = output if len(models) == 1 and not output.is_dir() else output / _file_name(card)
            service.download_model(card["id"], file)
            say(f"  written   {escape(str(file))}")
        else:
            name = f"model{ending(card)}"
            say(f"[dim]  Get the file with `bespoke models download {card['id']} -o {name}`.[/]")


def show_matrix(result: Json, output: Path | None) -> None:
    """What each network would cost on every device of the job; into the folder of the files too: why
    specialising pays."""
    matrix = matrix_of(result)
    if len(matrix["devices"]) < 2 or not matrix["networks"]:
        return
    print_matrix(matrix)
    if output is not None and output.is_dir():
        for name in ("matrix.json", "matrix.png"):
            save_matrix(matrix, output / name)
            say(f"  written   {escape(str(output / name))}")


def ending(card: Json) -> str:
    """Of the file's name: what writes sentences is an archive."""
    return ".zip" if (card.get("file") or {}).get("archive") else ".onnx"


def _file_name(card: Json) -> str:
    if card["device"] is None:
        return f"limits{ending(card)}"
    return "+".join(
        f"{one['device']}-{milliseconds(one['budget_ms'])}ms" for one in card.get("devices") or [card]
    ) + ending(card)
