"""`bespoke profile`: a latency table of this machine, measured by the same agent as on any device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from latency_tables.agent.runtimes.setup import Setup, options_from
from latency_tables.errors import BespokeError
from latency_tables.trust import Severity
from service.cli.connection import client
from service.cli.generations import Generation, sentence_of
from service.cli.local_agent import LocalAgent, ensure_device
from service.cli.runtimes import (
    BatchSize,
    Precision,
    Provider,
    ProviderOptions,
    Runtime,
    Threads,
    of_blocks,
)
from service.cli.screen import errors, follow, result, say
from service.client import ApiProblem, BespokeClient, Job
from service.client.jobs import Json

THIS_MACHINE = "this-machine"
NAMED = 3


def profile(
    device: Annotated[str, typer.Option(help="Name under which this machine is registered.")] = THIS_MACHINE,
    space: Annotated[str, typer.Option(help="Search space whose operators are measured.")] = "digits-mbv3",
    resolution: Annotated[
        list[int] | None, typer.Option(help="Only this input size; give it several times.")
    ] = None,
    runtime: Runtime = Setup.runtime,
    provider: Provider = None,
    provider_option: ProviderOptions = None,
    threads: Threads = 1,
    precision: Precision = Setup.precision,
    batch_size: BatchSize = 1,
    prune: Annotated[
        bool, typer.Option("--prune", help="The widths that pruned blocks may have, too.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="Data set whose classes, or words, the networks have.")
    ] = None,
    generation: Generation = None,
    networks: Annotated[
        int | None, typer.Option(min=0, max=500, help="Whole networks to measure for the calibration.")
    ] = None,
    elsewhere: Annotated[
        bool,
        typer.Option(
            "--elsewhere",
            help="The device is another machine, where an agent runs: queue the job and follow it.",
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay and measure delivered networks, until Ctrl-C.")
    ] = False,
) -> None:
    """Measure this machine: its operators one by one, then whole networks to calibrate their sum.

    Only what the table lacks is measured, so a second run returns at once. A busy machine only takes longer.

    Examples:

    [cyan]bespoke profile[/]  this machine, for the built-in digits space

    [cyan]bespoke profile --space ofa-mbv3 --resolution 160 --keep[/]  and verify what is delivered later

    [cyan]bespoke profile --device this-machine-ov --runtime openvino[/]  the same machine, another runtime:
    another device

    [cyan]bespoke profile --space hat-small --dataset pronunciations --generation 8,8,1[/]  networks that
    write: the time of one sentence

    [cyan]bespoke profile --precision mixed[/]  rows of blocks in int8 too, for [cyan]bespoke search
    --precision mixed[/]

    [cyan]bespoke profile --device pi5 --elsewhere[/]  a device on which an agent runs: see [cyan]bespoke
    devices enrol[/]
    """
    context_precision, precisions = of_blocks(precision)
    setup = Setup(
        runtime, provider, options_from(provider_option or ()), threads, context_precision, batch_size
    )
    further: Any = {"dataset": dataset, "generation": generation, "precisions": precisions, "prune": prune}
    with client() as service:
        if elsewhere:
            done = measure(service, None, device, space, resolution, networks, **further)
            say_measured(service, device, done)
            say(
                f"{device} is measured for {space}. Next: `bespoke front --device {device}` shows what can "
                "be reached."
            )
            return
        if ensure_device(service, device, setup):
            errors.print(f"{escape(device)} is registered")
        with LocalAgent(service, device) as agent:
            done = measure(service, agent, device, space, resolution, networks, **further)
            say_measured(service, device, done)
            if keep:
                errors.print("measured; staying to verify delivered networks. Ctrl-C ends it.")
                agent.wait()
    say(
        f"{device} is measured for {space}. Next: `bespoke front --device {device}` shows what can be "
        "reached."
    )


class TableInReview(BespokeError):
    """A table was measured that somebody has to look at before it is used."""


def measure(
    service: BespokeClient,
    agent: LocalAgent | None,
    device: str,
    space: str,
    resolutions: Sequence[int] | None = None,
    networks: int | None = None,
    *,
    dataset: str | None = None,
    generation: str | None = None,
    precisions: Sequence[str] | None = None,
    prune: bool = False,
) -> Job:
    """Queue the profile job and follow it while the agent answers. Raises AgentStopped when the agent ends
    early.

    precisions: of the blocks, left out: float32. prune: with the widths of pruned blocks.

    A job that was interrupted is taken up again: the same wish on the same table has the same
    Idempotency-Key.
    """

    def alive(job: Job) -> None:
        if agent is not None and not job.ended:
            agent.check()

    seen = service.device(device)
    # The table is part of it: once it has changed, the same words are another wish.
    wish = [device, seen["created_at"], seen["table_id"], space, sorted(resolutions or ()), networks]
    wish += [dataset, generation] if dataset or generation else []
    wish += [list(precisions)] if precisions else []
    wish += ["prune"] if prune else []
    further: Any = {
        "dataset": dataset,
        "generation": sentence_of(generation),
        "precisions": precisions,
        "prune": prune,
    }
    key = hashlib.sha256(json.dumps(wish).encode()).hexdigest()
    job = _earlier(lambda: service.profile(device, space, resolutions, networks, key, **further))
    if job is not None and job.state == "succeeded" and seen["table_id"] is None:
        job = None  # it measured, but its table needs a review: only new measurements help
    return follow(
        service,
        job or service.profile(device, space, resolutions, networks, **further),
        f"profile {device}",
        alive,
        agent.remark if agent else None,
    )


def _earlier(ask: Callable[[], Job]) -> Job | None:
    """The job of that key; None where it ended badly, or where another version of the service understood the
    wish otherwise."""
    try:
        job = ask()
    except ApiProblem as problem:
        if "Idempotency-Key" in problem.title:
            return None
        raise
    return None if job.ended and job.state != "succeeded" else job


def say_unable(device: str, unable: Sequence[Json]) -> None:
    """What the device cannot run, with why, and what to do about it."""
    name_unable(unable)
    rows = [one for one in unable if one["operator"] is not None]
    if rows:
        errors.print(
            escape(
                f"the table of {device} lacks {len(rows)} rows for it; `bespoke search --exclude-missing` "
                "chooses among the networks that do without them"
            )
        )


def name_unable(unable: Sequence[Json]) -> None:
    """What a device cannot run, with why; a long list is cut."""
    for one in unable[:NAMED]:
        errors.print(escape(f"cannot run {one['operator'] or 'a whole network'}: {one['reason']}"))
    if len(unable) > NAMED:
        errors.print(f"and {len(unable) - NAMED} more, under `cannot_run` of the job")


def say_measured(service: BespokeClient, device: str, job: Job) -> None:
    """What the table is worth and where the time went. Raises TableInReview, before anything rests on the
    table."""
    told = job.result or {}
    result(job.raw)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in (told.get("seconds") or {}).items())
    seen = service.device(device)
    found = [
        f"{entry['error']:.1%}" for entry in seen.get("calibration") or () if entry.get("error") is not None
    ]
    parts = [
        f"{told.get('rows', 0)} rows and {told.get('networks', 0)} whole networks measured",
        *([f"predictions {found[0]} off on networks held out"] if found else []),
        *([seconds] if seconds else []),
    ]
    errors.print(escape("; ".join(parts)))
    say_unable(device, told.get("cannot_run") or ())
    if told.get("state") == "needs_review":
        table: Json = next(
            (t for t in seen["tables"] if t["id"] == told["table_id"]), {"version": "", "reasons": []}
        )
        reasons = "; ".join(r["message"] for r in table["reasons"] if r["severity"] == Severity.REVIEW)
        raise TableInReview(
            f"the table of {device} is not used yet: {reasons}. If it is true as it stands: `bespoke tables "
            f"accept {device} {table['version']}`"
        )
