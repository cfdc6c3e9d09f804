"""`bespoke compress`: a delivered network once more, with blocks in int8 where the device does them faster,
with channels cut out of them, or after compression passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli import search_options as option
from service.cli.connection import client
from service.cli.deliveries import deliver
from service.cli.screen import follow, result, say
from service.cli.search import check_delivered
from service.cli.targets import narrowing_of
from service.client.jobs import Json
from supernets.delivery.compression.catalog import PASSES
from supernets.delivery.precision import FLOAT32


def compress(
    model_id: Annotated[str, typer.Argument(metavar="MODEL", help="Id of a delivered network.")],
    budget_ms: option.BudgetMs = None,
    size_bytes: option.SizeBytes = None,
    device: Annotated[str | None, typer.Option(help="Another device than the network was made for.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="mixed chooses for each block what the device does faster, as where nothing is said; int8: "
            "all of them; float32, as with --prune alone."
        ),
    ] = None,
    prune: option.Prune = False,
    passes: Annotated[
        list[str] | None,
        typer.Option(
            "--pass",
            help=f"A compression pass instead, in float32 ({', '.join(PASSES)}); may be repeated.",
        ),
    ] = None,
    exclude: option.Exclude = None,
    confidence: option.Confidence = None,
    candidates: option.Candidates = 5,
    verify: option.Verify = True,
    robustness: option.Robustness = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="ONNX file to write.")] = None,
    detach: option.Detach = False,
) -> None:
    """Make a delivered network faster or smaller: the same network with blocks in int8, as a new model.

    The device's table needs rows of blocks in int8: [cyan]bespoke profile --precision mixed[/]. Of all mixes
    that keep the budget the most accurate ones are counted and measured; the card has the new network beside
    itself in float32 and all in int8.

    Examples:

    [cyan]bespoke compress model_5f... --budget-ms 8 -o smaller.onnx[/]

    [cyan]bespoke compress model_5f... --size-bytes 300000 --precision int8[/]

    [cyan]bespoke compress model_5f... --budget-ms 8 --prune -o pruned.onnx[/]

    With [cyan]--prune[/] channels are cut out of its blocks, as few as the budget allows (rows by
    [cyan]bespoke profile --prune[/]), in float32; [cyan]--precision mixed[/] beside it chooses both at once.

    With [cyan]--pass[/] the network stays in float32. A pass is kept where it loses at most a point on
    validation data and pays: is measured faster by the device's agent, or makes the file smaller. The card
    has each beside the network without it.

    [cyan]bespoke compress model_5f... --pass low-rank --pass shared-weights -o smaller.onnx[/]
    """
    budget = {"latency_ms": budget_ms, "size_bytes": size_bytes}
    asked: Json = {
        "budget": {name: value for name, value in budget.items() if value is not None},
        "candidates": candidates,
        "verify": verify,
        **{name: value for name, value in (("device", device), ("confidence", confidence)) if value},
        **({"robustness": True} if robustness else {}),
        **({"passes": passes} if passes else {}),
        **narrowing_of(exclude or [], [], missing=False, precision=precision or FLOAT32, prune=prune),
        **({} if precision is None else {"precision": precision}),
    }
    for name in set(passes or ()) - PASSES.keys():
        raise typer.BadParameter(
            f"no compression pass {name[:40]!r}; there are {', '.join(PASSES)}", param_hint="--pass"
        )
    if not asked["budget"]:
        if not passes:
            raise typer.BadParameter("name what it has to keep: --budget-ms MS, --size-bytes N, or both")
        del asked["budget"]  # that of the model
    with client() as service:
        job = service.compress(model_id, asked)
        if detach:
            say(job.id)
            result(job.raw)
            return
        done = follow(service, job, f"compress {job.id[:12]}")
        deliver(service, done.result.get("models") or [], output)
        result({**done.raw, "cards": [service.model(one["id"]) for one in done.result.get("models") or []]})
    check_delivered(done.result)
