"""`bespoke supernets`: the networks that are trained once and cut many times."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.jobs import print_job
from service.cli.screen import age, as_json, follow, grid, percent, say

app = typer.Typer(no_args_is_help=True, help="Train, import, show and compare supernets.")

SupernetId = Annotated[str, typer.Argument(help="Id of the supernet, as `bespoke supernets list` shows it.")]
JsonOut = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("list")
def list_supernets(json_out: JsonOut = False) -> None:
    """List supernets, the newest first."""
    with client() as service:
        supernets = service.supernets()
    if json_out:
        as_json(supernets)
        return
    rows = [
        (
            s["id"],
            s.get("space"),
            s.get("dataset"),
            s.get("recipe"),
            percent(_accuracy(s, "largest"), 2),
            percent(_accuracy(s, "smallest"), 2),
            age(s.get("created_at")),
        )
        for s in supernets
    ]
    columns = ("supernet", "space", "data set", "recipe", ">largest", ">smallest", "created")
    grid("", columns, rows, "No supernet is trained. Train one: `bespoke supernets train digits-mbv3 digits`.")


@app.command()
def show(supernet_id: SupernetId, json_out: JsonOut = False) -> None:
    """Show a supernet: how it was trained, its accuracies, how well its sub-networks' accuracy is predicted."""
    with client() as service:
        supernet = service.supernet(supernet_id)
    if json_out:
        as_json(supernet)
        return
    say(f"[bold]{supernet['id']}[/]  {supernet.get('space')} on {supernet.get('dataset')}")
    say(f"  recipe     {supernet.get('recipe')}, seed {supernet.get('seed')}")
    say(f"  largest    {percent(_accuracy(supernet, 'largest'), 2)}")
    say(f"  smallest   {percent(_accuracy(supernet, 'smallest'), 2)}")
    predictor = supernet.get("predictor") or supernet.get("accuracy_predictor") or {}
    if predictor:
        rmse, tau = predictor.get("rmse"), predictor.get("kendall_tau")
        shown = "-" if tau is None else f"{tau:.2f}"
        say(f"  predictor  held-out error {percent(rmse, 2)}, Kendall tau {shown}")


@app.command()
def train(
    space: Annotated[str, typer.Argument(help="Search space, such as digits-mbv3.")],
    dataset: Annotated[str, typer.Argument(help="Data set, such as digits.")],
    recipe: Annotated[str | None, typer.Option(help="quick, standard or progressive; left out: the service's choice.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Queue the job, print its id and return.")] = False,
) -> None:
    """Train a supernet, or find the one that was already trained from the same inputs.

    Examples:

    [cyan]bespoke supernets train digits-mbv3 digits[/]

    [cyan]bespoke supernets train digits-mbv3 digits --recipe quick[/]  a trial in about a minute
    """
    with client() as service:
        job = service.train_supernet(space, dataset, recipe, seed)
        if detach:
            say(job.id)
            return
        print_job(follow(service, job, f"train {escape(space)}"))


def _accuracy(supernet: dict[str, Any], which: str) -> Any:
    accuracy = supernet.get("accuracy") or supernet.get("summary") or {}
    value = accuracy.get(which, accuracy.get(f"{which}_accuracy"))
    return value.get("accuracy") if isinstance(value, dict) else value
