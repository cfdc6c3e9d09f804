"""`bespoke apply`: jobs as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from latency_tables.errors import BespokeError
from service.cli.applying import UNCHANGED, Applying, Line
from service.cli.connection import client
from service.cli.jobs_file import read_plan
from service.cli.screen import as_json, errors, follow, grid
from service.client import Job


class PlanRefused(BespokeError):
    """Some of a file cannot be had; the lines above say which and why."""


def apply(
    file: Annotated[
        Path, typer.Option("-f", "--file", help="The YAML file.", exists=True, dir_okay=False, readable=True)
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen and what it would cost; change nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Queue searches once more that failed or were cancelled before.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow every job until it has ended.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Bring the service to what a file says: devices with their tables or profiles, supernets, searches.

    The file is read and checked here; wrong lines are named by their numbers. Applied twice, nothing happens
    the second time: what has the same content is left as it is. Nothing is ever removed.

    Examples:

    [cyan]bespoke apply -f jobs.yaml --dry-run[/]

    [cyan]bespoke apply -f jobs.yaml --wait[/]
    """
    plan = read_plan(file)
    done: list[Line] = []
    jobs: list[Line] = []
    with client() as service:

        def followed(job: Job, title: str) -> Job:
            return follow(service, job, title)

        for line in Applying(service, plan, dry_run, again, followed).run():
            done.append(line)
            if not json_out:
                errors.print(f"{line.kind} {escape(line.name)}: {line.action} [dim]{escape(line.detail)}[/]")
            if line.action != UNCHANGED and line.id is not None and line.id.startswith("job_"):
                jobs.append(line)
        if wait and not dry_run:
            for line in jobs:
                followed(service.job(str(line.id)), f"{line.kind} {line.name}")
    if json_out:
        as_json({"dry_run": dry_run, "entries": [line.to_json() for line in done]})
    else:
        rows = [(line.kind, escape(line.name), line.action, _cost(line), line.id or "-") for line in done]
        grid(
            "would happen" if dry_run else "",
            ("what", "name", "action", ">takes", "id"),
            rows,
            "The file asks for nothing.",
        )
    wrong = [line for line in done if line.wrong]
    if wrong:
        raise PlanRefused("; ".join(f"{line.kind} {line.name}: {line.detail}" for line in wrong))


def _cost(line: Line) -> str:
    """From what such jobs took here before."""
    if line.action == UNCHANGED:
        return ""
    if line.seconds is None:
        return "not known yet" if line.kind in ("profile", "supernet", "search") else "at once"
    return f"about {line.seconds:.0f} s" if line.seconds < 120 else f"about {line.seconds / 60:.0f} min"
