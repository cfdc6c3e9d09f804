"""`bespoke models classes`: what a delivered network takes for what, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from latency_tables.errors import BespokeError
from service.cli.connection import client
from service.cli.screen import as_json, grid, percent, say
from service.client.jobs import Json

_MOST_CONFUSIONS: Final = 5
_WRITTEN: Final = 25  # classes up to which the cells hold numbers


class NoClasses(BespokeError):
    """A model whose card knows no classes: of another task, or of a version before they were counted."""


def classes(
    model_id: Annotated[str, typer.Argument(help="Id of the model, as `bespoke models list` shows it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw the confusion matrix into this PNG file.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the recall of each class on the test split, and which classes are taken for each other.

    Accuracy counts samples and hides rare classes; balanced accuracy is the mean recall of all classes.

    Example: [cyan]bespoke models classes model_5f... -o confusion.png[/]
    """
    with client() as service:
        card = service.model(model_id)
    accuracy = card.get("accuracy") or {}
    recalls, matrix = accuracy.get("by_class") or [], accuracy.get("confusion") or []
    if not recalls:
        raise NoClasses("its card knows no classes; search again to have them counted")
    names = [str(one["name"]) for one in recalls]
    confused = most_confused(names, matrix)
    if output is not None:
        if not matrix:
            raise NoClasses("its card has no confusions: over 100 classes, or of an earlier version")
        draw_confusion(output, names, matrix)
    if json_out:
        told = {"balanced": accuracy.get("balanced"), "by_class": recalls, "confused": confused}
        as_json({**told, "confusion": matrix or None})
        return
    rows = [
        (escape(name), percent(one["recall"], 1), one["samples"])
        for name, one in zip(names, recalls, strict=True)
    ]
    grid("", ("class", ">recall", ">test samples"), rows)
    balanced, counted = (percent(accuracy.get(name), 2) for name in ("balanced", "measured"))
    say(f"  balanced accuracy {balanced}, accuracy {counted}")
    for one in confused:
        say(f"  {one['samples']} of {escape(one['class'])} taken for {escape(one['taken_for'])}")
    for warning in accuracy.get("warnings") or []:
        say(f"  [yellow]warning[/] {escape(warning)}")
    if output is not None:
        say(f"{output} is drawn")


def most_confused(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[Json]:
    """The pairs of classes that most samples fell into, the most first; right answers left out."""
    pairs = [
        {"class": names[row], "taken_for": names[column], "samples": count}
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda one: -int(str(one["samples"])))[:_MOST_CONFUSIONS]


def draw_confusion(file: Path, names: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
    """Shares of each class's test samples by what they were taken for; the diagonal is right."""
    from service.cli.pictures import INK, new_figure, save

    side = max(4.0, 1.6 + 0.32 * len(names))
    figure, (ax,) = new_figure(side + 0.8, side)
    ax.grid(visible=False)
    shares = [[count / max(1, sum(counts)) for count in counts] for counts in matrix]
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_xlabel("taken for")
    ax.set_ylabel("class")
    ax.set_title("test samples, shares of each class", color=INK, loc="left", fontsize=10)
    for row, counts in enumerate(matrix):
        for column, count in enumerate(counts):
            if count and len(names) <= _WRITTEN:
                colour = "white" if shares[row][column] > 0.5 else INK
                ax.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    save(figure, file)
