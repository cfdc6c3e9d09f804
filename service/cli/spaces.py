"""`bespoke spaces`: search spaces, and how much of one a data set needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from service.cli.screen import errors, grid, result, say
from service.cli.supernets import local_settings

app = typer.Typer(no_args_is_help=True, help="How deep networks need to be for a data set.")


@app.callback()
def group() -> None:
    """How deep networks need to be for a data set."""


@app.command()
def advise(
    dataset: Annotated[str, typer.Argument(help="Data set, such as digits.")],
    space: Annotated[str, typer.Option(help="Search space, such as digits-mbv3.")],
    recipe: Annotated[
        str, typer.Option(help="Recipe of the comparison; its highest rate is that of growing too.")
    ] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    supernet: Annotated[
        str | None,
        typer.Option(help="A supernet of the space on these data: its predictor is asked what is lost too."),
    ] = None,
) -> None:
    """How deep must networks be for this data set, and what is lost by leaving out deeper ones?

    A network grows from the shallowest of the space, block by block, while accuracy on the validation split
    rises. Then the grown and the deepest network are trained alone with equal steps and tested. Runs on the
    service's own machine, in about the time of training three networks; look at it before a supernet of a
    large space is trained for days.

    Examples:

    [cyan]bespoke spaces advise digits --space digits-mbv3[/]

    [cyan]bespoke spaces advise digits --space digits-mbv3 --supernet sup_5f...[/]  and what its predictor
    says
    """
    from service.local.advising import advise_depth

    found = advise_depth(
        local_settings(),
        dataset,
        space,
        recipe=recipe,
        seed=seed,
        supernet_id=supernet,
        progress=lambda message: errors.print(escape(message)),
    )
    _show(found)
    result(found)


def _show(found: dict[str, Any]) -> None:
    stages = [(name, depth, found["depths"][name]) for name, depth in found["deepest"].items()]
    rows = [(name, str(kept), str(most)) for name, most, kept in stages if most > 1]
    grid("", ("stage", ">worth training", ">deepest"), rows, "")
    error = found["standard_error_points"]
    near = "" if error is None else f", standard error {error:.1f}"
    say(
        f"The grown network tests {abs(found['lost_points']):.1f} points "
        f"{'below' if found['lost_points'] >= 0 else 'above'} the deepest{near}; it takes "
        f"{found['macs']['grown'] / found['macs']['deepest']:.0%} of its multiply-adds."
    )
    if found["predicted_loss_points"] is not None:
        say(f"The supernet's predictor: its best network loses {found['predicted_loss_points']:.1f} points.")
    for name, depths in found["exclude"].items():
        for depth in depths:
            say(f"  to search without deeper ones: --exclude {name}={depth}")
