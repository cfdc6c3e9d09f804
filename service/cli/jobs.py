"""`bespoke jobs`: what runs, what ran, and why something did not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from service.cli.connection import client
from service.cli.matrix import NoMatrix, matrix_of, print_matrix, save_matrix
from service.cli.screen import (
    age,
    as_json,
    as_line,
    follow,
    grid,
    percent,
    problem_text,
    result,
    say,
    state_text,
)
from service.client import Job
from service.db.states import JobKind, JobState

app = typer.Typer(no_args_is_help=True, help="List, show, compare, watch and cancel jobs.")

JobId = Annotated[str, typer.Argument(help="Id of the job, as `bespoke jobs list` shows it.")]
JsonOut = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("list")
def list_jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[JobKind | None, typer.Option(help="Only jobs of this kind.")] = None,
    device: Annotated[str | None, typer.Option(help="Only jobs for this device.")] = None,
    supernet: Annotated[str | None, typer.Option(help="Only jobs with this supernet.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only jobs with this in id, name, note or request.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    json_out: JsonOut = False,
) -> None:
    """List jobs, the newest first.

    Example: [cyan]bespoke jobs list --state running[/]
    """
    with client() as service:
        jobs = list(service.jobs(state, kind, limit, device=device, supernet=supernet, text=text))
    if json_out:
        as_json([job.raw for job in jobs])
        return
    rows = [
        (
            job.id,
            job.kind,
            state_text(job.state),
            _done(job),
            escape(job.step),
            age(job.raw.get("created_at")),
            _called(job),
        )
        for job in jobs
    ]
    grid(
        "",
        ("job", "kind", "state", ">done", "step", "created", "name"),
        rows,
        "There are no jobs. Start one with `bespoke search --help`.",
    )


@app.command()
def show(job_id: JobId, json_out: JsonOut = False) -> None:
    """Show one job: its state, what it delivered or why it failed, and what happened in which order."""
    with client() as service:
        job = service.job(job_id)
        events = service.events(job_id)
    if json_out:
        as_json({**job.raw, "events": events})
        return
    print_job(job)
    rows = [
        (e.get("sequence"), e.get("at"), e.get("kind"), escape(_detail(e.get("data") or {}))) for e in events
    ]
    grid("what happened", (">n", "at", "event", "detail"), rows)


@app.command()
def matrix(
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .json or a .png file to write.")
    ] = None,
    json_out: JsonOut = False,
) -> None:
    """Show what each network of a search would cost on every device of the job: why specialising pays.

    Example: [cyan]bespoke jobs matrix job_5f... -o matrix.png[/]
    """
    with client() as service:
        found = matrix_of(service.job(job_id).result)
    if not found["networks"]:
        raise NoMatrix("this job has no such matrix; a search has one when it has succeeded")
    if output is not None:
        save_matrix(found, output)
    as_json(found) if json_out else print_matrix(found)


@app.command("log")
def show_log(
    job_id: JobId,
    follow_it: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Go on until the job has ended. Ctrl-C stops the watching alone."
        ),
    ] = False,
    json_out: JsonOut = False,
) -> None:
    """Print what a job's worker and its child said, step by step; the last 2,000 lines.

    Example: [cyan]bespoke jobs log job_5f... --follow[/]
    """
    with client() as service:
        position = 0
        while True:
            ended = service.job(job_id).ended  # asked first: what is said until its end is then read below
            lines = service.job_log(job_id, position)
            if json_out and not follow_it:
                as_json(lines)
                return
            for line in lines:
                position = line["position"]
                said = f"{line['at']} {line['step'] or '-'} {line['source']}: {line['text']}"
                as_line(line) if json_out else say(escape(said))
            if ended or not follow_it:
                return
            time.sleep(1.0)


@app.command()
def watch(job_id: JobId) -> None:
    """Follow a job with a live progress bar until it ends. Exit status 0 only if it succeeds.

    Ctrl-C stops the watching, not the job.
    """
    with client() as service:
        done = follow(service, service.job(job_id), job_id[:12])
        print_job(done)
        result(done.raw)


@app.command()
def name(
    job_id: JobId,
    called: Annotated[
        str | None, typer.Option("--name", help="What to call it; empty takes the name away.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="One line about it; empty takes it away.")] = None,
    json_out: JsonOut = False,
) -> None:
    """Give a job a name and a note.

    Example: [cyan]bespoke jobs name job_5f... --name "all phones" --note "for the release"[/]
    """
    given = {key: value or None for key, value in (("name", called), ("note", note)) if value is not None}
    with client() as service:
        job = service.name_job(job_id, **given)
    as_json(job.raw) if json_out else print_job(job)


@app.command()
def cancel(job_id: JobId) -> None:
    """Ask a job to stop; it ends `cancelled` within seconds. A supernet that other jobs wait for goes on
    training."""
    with client() as service:
        job = service.cancel(job_id)
    say(f"{job.id}: asked to stop (now {job.state})")
    result(job.raw)


def print_job(job: Job) -> None:
    """State, result and error of a job."""
    say(f"{job.id}  {job.kind}  {state_text(job.state)}  attempts {job.raw.get('attempts', 0)}")
    if not job.ended and job.step:
        say(f"  at {escape(job.step)} {percent(job.fraction, 0)} {escape(job.message)}")
    if job.error:
        say(f"  [red]{escape(problem_text(job.error))}[/]")
    for model in job.result.get("models") or []:
        say(f"  model {model['id']} for {escape(model['device'])}, budget {model['budget_ms']:g} ms")
    for name in ("supernet_id", "table_id"):
        if job.result.get(name):
            say(f"  {name.removesuffix('_id')} {job.result[name]}")


def _called(job: Job) -> str:
    return escape(str(job.raw.get("name") or ""))


def _done(job: Job) -> str:
    return percent(1.0 if job.state == "succeeded" else job.fraction, 0)


def _detail(data: dict[str, object]) -> str:
    error = data.get("error")
    if isinstance(error, dict):
        return problem_text(error)
    return ", ".join(f"{k} {v}" for k, v in data.items() if v is not None and not isinstance(v, dict | list))[
        :160
    ]
