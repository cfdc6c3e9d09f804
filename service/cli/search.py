"""`bespoke search`: a network for a device and a budget, or for many of both in one job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.front import newest_trained
from service.cli.matrix import matrix_of, print_matrix, save_matrix
from service.cli.models import print_card
from service.cli.screen import errors, follow, milliseconds, problem_text, say
from service.client import BespokeClient, ClientError


class SomeFailed(ClientError):
    """Some targets of a job were delivered, others cannot be met."""

    def __init__(self, failures: list[dict[str, Any]]) -> None:
        lines = [f"{_name_of(f)}: {problem_text(f.get('error'))}" for f in failures]
        super().__init__("not every target was met.\n  " + "\n  ".join(lines))


class Suspect(ClientError):
    """Networks were delivered that do not do what was predicted of them."""

    def __init__(self, models: list[dict[str, Any]]) -> None:
        super().__init__(
            f"not to be trusted: {', '.join(m['id'] for m in models)}. Accuracy on the test split lies far "
            "below the prediction; "
            "the card says by how much (`bespoke models show`)"
        )


def search(
    device: Annotated[str | None, typer.Option(help="Name of a registered device.")] = None,
    budget_ms: Annotated[
        float | None, typer.Option(help="Latency budget on that device, in milliseconds.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE=MS",
            help="A device and its budget; several times. DEVICE=MS+DEVICE=MS: one network for all.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A choice that may not be taken, such as kernel=7."),
    ] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(min=1, help="The only input sizes that may be chosen, in pixels.")
    ] = None,
    exclude_missing: Annotated[
        bool, typer.Option("--exclude-missing", help="Leave out what the device's table has no latency for.")
    ] = False,
    p95_ms: Annotated[
        float | None,
        typer.Option(
            help="Budget that 19 runs in 20 keep, in milliseconds, whatever else the device is doing."
        ),
    ] = None,
    energy_mj: Annotated[
        float | None,
        typer.Option(help="Most energy of one run, in millijoules; needs a table with energy_mj."),
    ] = None,
    size_bytes: Annotated[
        int | None, typer.Option(min=1, help="Largest ONNX file, in bytes; holds for every target.")
    ] = None,
    macs: Annotated[int | None, typer.Option(min=1, help="Most multiply-adds of one input.")] = None,
    memory_bytes: Annotated[
        int | None, typer.Option(min=1, help="Largest peak of the activations, in bytes, for one input.")
    ] = None,
    supernet: Annotated[
        str | None,
        typer.Option(
            help="Id of a trained supernet; left out: that of --space and --dataset, else the newest one."
        ),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Search space; its supernet is trained first if there is none.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set to train on.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Training recipe, if it must be trained.")] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="exact, evolution, random, or gradient, which trains for every target (see below)."
        ),
    ] = "exact",
    gate_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="For gradient: epochs it searches for each target, instead of the recipe's."
        ),
    ] = None,
    tune_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Train the chosen network on for so many epochs before it is delivered (see below)."
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Share of networks that keep the budget when measured; needs measured networks."),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Best distinct networks scored on the supernet.")
    ] = 5,
    verify: Annotated[
        bool, typer.Option(help="Measure the network on the device when an agent is there.")
    ] = True,
    measured_candidates: Annotated[
        int,
        typer.Option(
            min=1, max=16, help="Candidates measured at a time; the best that keeps the budget is delivered."
        ),
    ] = 3,
    batch: Annotated[
        str, typer.Option(help="Batch size of the file: device (that of its context) or dynamic.")
    ] = "device",
    preprocessing: Annotated[
        str, typer.Option(help="separate, or embedded: the file takes bytes and normalises them itself.")
    ] = "separate",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="ONNX file to write; with several targets, a folder, which gets matrix.json and "
            "matrix.png too.",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Queue the job, print its id and return.")] = False,
) -> None:
    """Find the most accurate network that keeps a latency budget on a device.

    Examples:

    [cyan]bespoke search --device this-machine --budget-ms 0.5 -o model.onnx[/]

    [cyan]bespoke search --target pixel7=12 --target pi5=30 -o networks/[/]  one job, one supernet, many
    devices

    [cyan]bespoke search --device pixel7 --budget-ms 12 --confidence 0.95 --strategy evolution[/]

    [cyan]bespoke search --device board --budget-ms 20 --size-bytes 1000000 --memory-bytes 262144[/]  all of
    it at once

    [cyan]bespoke search --device board --budget-ms 20 --p95-ms 28 --energy-mj 5[/]  now and then too

    [cyan]bespoke search --size-bytes 250000 --memory-bytes 65536[/]  for a microcontroller: no device, no
    table

    [cyan]bespoke search --target pixel7=12+pi5=30[/]  one network that keeps both budgets

    [cyan]bespoke search --device npu --budget-ms 3 --exclude kernel=7 --exclude squeeze_excite=true[/]

    [cyan]bespoke search --device board --budget-ms 20 --tune-epochs 5[/]  minutes more, for the last points
    of accuracy

    A budget that no network can meet is refused at once, with the range that can be reached;
    [cyan]bespoke front[/] shows that range.

    The strategy exact solves in milliseconds and proves its answer. The strategy gradient (ProxylessNAS)
    trains the supernet's weights together with the probability of every choice, for each target anew: one
    epoch to warm up and one to search where the recipe was trial, 1 and 10 for quick, 2 and 30 for others. It
    takes minutes where exact takes none.

    A network cut out of a supernet shares its weights with all others. With --tune-epochs the chosen one goes
    on training with its own, for every target: small networks gain most. Where it does not help on the
    validation split the network stays as it was, and the card says so.
    """
    given = {"size_bytes": size_bytes, "macs": macs, "memory_bytes": memory_bytes}
    limits = {name: value for name, value in given.items() if value is not None}
    further = {"latency_p95_ms": p95_ms, "energy_mj": energy_mj}
    wanted = _targets(
        device, budget_ms, target or [], limits, {n: v for n, v in further.items() if v is not None}
    )
    narrowed = _narrowed(exclude or [], resolution or [], exclude_missing)
    request: dict[str, Any] = {
        "targets": [{**one, **narrowed} for one in wanted],
        "strategy": strategy,
        "candidates": candidates,
        "verify": verify,
        "measured_candidates": measured_candidates,
        "batch": batch,
        "preprocessing": preprocessing,
    }
    asked = {"confidence": confidence, "gate_epochs": gate_epochs, "tune_epochs": tune_epochs}
    request |= {name: value for name, value in asked.items() if value is not None}
    with client() as service:
        job = service.search({**source_of(service, supernet, space, dataset, recipe), **request})
        if detach:
            say(job.id)
            return
        for note in job.raw.get("remarks", []):
            errors.print(f"[yellow]{escape(note)}[/]")
        done = follow(service, job, f"search {job.id[:12]}")
        deliver(service, done.result.get("models") or [], output)
    show_matrix(done.result, output)
    failures = done.result.get("failures") or []
    if failures:
        raise SomeFailed(failures)
    suspects = [model for model in done.result.get("models") or [] if model.get("state") == "suspect"]
    if suspects:
        raise Suspect(suspects)


def source_of(
    service: BespokeClient, supernet: str | None, space: str | None, dataset: str | None, recipe: str | None
) -> dict[str, str]:
    """What the networks are cut from: as asked for, else the newest trained supernet, else the built-in
    digits."""
    if supernet is not None:
        return {"supernet": supernet}
    if (space, dataset, recipe) == (None, None, None):
        trained = newest_trained(service)
        if trained is not None:
            errors.print(f"from supernet {trained['id']} ({trained['space']} on {trained['dataset']})")
            return {"supernet": trained["id"]}
    source = {"space": space or "digits-mbv3", "dataset": dataset or "digits"}
    return source if recipe is None else {**source, "recipe": recipe}


def deliver(service: BespokeClient, models: list[dict[str, Any]], output: Path | None) -> None:
    """Print the cards and write the files."""
    for model in models:
        card = service.model(model["id"])
        print_card(card)
        if output is not None:
            file = output if len(models) == 1 and not output.is_dir() else output / _file_name(card)
            service.download_model(card["id"], file)
            say(f"  written   {escape(str(file))}")
        else:
            say(f"[dim]  Get the file with `bespoke models download {card['id']} -o model.onnx`.[/]")


def show_matrix(result: dict[str, Any], output: Path | None) -> None:
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


def _file_name(card: dict[str, Any]) -> str:
    if card["device"] is None:
        return "limits.onnx"
    return (
        "+".join(
            f"{one['device']}-{milliseconds(one['budget_ms'])}ms" for one in card.get("devices") or [card]
        )
        + ".onnx"
    )


def _name_of(failure: dict[str, Any]) -> str:
    """The target of a failure as a person reads it."""
    return str(failure.get("target") or f"{failure['device']} within {milliseconds(failure['budget_ms'])} ms")


def _targets(
    device: str | None,
    budget_ms: float | None,
    targets: list[str],
    limits: dict[str, int],
    further: dict[str, float],
) -> list[dict[str, Any]]:
    """All targets as the API takes them; `further` limits every device. Raises a usage error that says how to
    write them."""
    wanted = [_target(text, limits, further) for text in targets]
    timed = budget_ms is not None or "latency_p95_ms" in further
    if (device is None) != (budget_ms is None) and not (device is not None and timed):
        raise typer.BadParameter(
            "--device and --budget-ms belong together: --device this-machine --budget-ms 0.5"
        )
    if device is not None:
        latency = {} if budget_ms is None else {"latency_ms": budget_ms}
        wanted.insert(0, {"device": device, "budget": {**latency, **further, **limits}})
    elif further and not wanted:
        raise typer.BadParameter(
            "--p95-ms and --energy-mj are limits on a device: name it with --device or --target"
        )
    if not wanted and not limits:
        raise typer.BadParameter(
            "name at least one target: --device NAME --budget-ms MS, or --target NAME=MS, or limits alone: "
            "--size-bytes N"
        )
    return wanted or [{"budget": limits}]


def _target(text: str, limits: dict[str, int], further: dict[str, float]) -> dict[str, Any]:
    parts = [_parse(part) for part in text.split("+")]
    if len(parts) == 1:
        return {"device": parts[0][0], "budget": {"latency_ms": parts[0][1], **further, **limits}}
    group = [{"device": name, "budget": {"latency_ms": budget, **further}} for name, budget in parts]
    return {"group": group, **({"budget": limits} if limits else {})}


def _parse(text: str) -> tuple[str, float]:
    name, _, budget = text.rpartition("=")
    try:
        return name, float(budget.removesuffix("ms"))
    except ValueError:
        hint = (
            "a target is DEVICE=MS, such as pixel7=12.5, or several joined by + for one network that "
            "keeps all"
        )
        raise typer.BadParameter(hint, param_hint="--target") from None


def _narrowed(exclude: list[str], resolutions: list[int], missing: bool) -> dict[str, Any]:
    """What every target leaves out."""
    names: dict[str, list[Any]] = {}
    for text in exclude:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(
                "write NAME=VALUE, such as kernel=7 or squeeze_excite=true", param_hint="--exclude"
            )
        names.setdefault(name, []).append(_value(value))
    found = {"exclude": names, "resolutions": resolutions, "missing": "exclude" if missing else None}
    return {name: value for name, value in found.items() if value}


def _value(text: str) -> bool | int | float | str:
    """A value as the space has it: true and false, whole numbers, other numbers, words."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
