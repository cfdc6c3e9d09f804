"""The option `--generation`: the sentence that a latency is of, for networks that write sentences."""

from __future__ import annotations

from typing import Annotated

import typer

NAMES = ("source_tokens", "target_tokens", "beam")
Generation = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE,TARGET,BEAM",
        help="Of a space whose networks write sentences: tokens read and written, and beams, of the sentence "
        "that is timed; left out: as the space has it.",
    ),
]


def sentence_of(text: str | None) -> dict[str, int] | None:
    """`30,30,5` as a request has it. Raises BadParameter for another form."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != len(NAMES) or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"--generation {text}: wanted three whole numbers, such as 30,30,5")
    return dict(zip(NAMES, map(int, parts), strict=True))
