"""What the command line shows: one console for results, one for errors, tables, ages, progress of a job."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from latency_tables.errors import BespokeError, InvalidTable
from service.client import ApiProblem, BespokeClient, Job, JobUnfinished
from service.client.jobs import Json

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

_FILE_WIDTH: Final = 200  # of tables that go into a file or a pipe
_LINE_EVERY: Final = 0.2  # of a step: how often a line is printed where no bar can move
_LINE_AFTER_S: Final = 30.0
_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "quarantined": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "queued": "dim",
}


@dataclass
class Collected:
    """What a command would have shown, and what it handed over for programs."""

    lines: list[str] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    result: Any = None

    def value(self) -> Any:
        """The result; else the lines and tables as they are."""
        if self.result is not None:
            return self.result
        return {"said": self.lines, **({"tables": self.tables} if self.tables else {})}


_collected: Collected | None = None


@contextmanager
def collecting() -> Iterator[Collected]:
    """Within, nothing is printed on standard output: it is kept."""
    global _collected  # noqa: PLW0603 (one process runs one command)
    _collected = found = Collected()
    try:
        yield found
    finally:
        _collected = None


def result(value: Any) -> None:
    """What a command has to tell a program; printed with `--json` alone."""
    if _collected is not None:
        _collected.result = value


def say(text: str) -> None:
    """A line of result; rich markup allowed, so escape what comes from outside."""
    if _collected is None:
        console.print(text)
    else:
        _collected.lines.append(Text.from_markup(text).plain)


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "") -> None:
    """A table; columns that begin with `>` are numbers and stand right. Without rows, `empty` says what to
    do."""
    if _collected is not None:
        names = [column.removeprefix(">") for column in columns]
        cells = [[Text.from_markup(c).plain if isinstance(c, str) else c for c in row] for row in rows]
        _collected.tables.append(
            {"title": title, "rows": [dict(zip(names, row, strict=True)) for row in cells]}
        )
        return
    if not rows and empty:
        console.print(empty)
        return
    if title:
        console.print(f"[bold]{escape(title)}[/]")
    table = Table(header_style="bold")
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(
            column.removeprefix(">"), justify=justify, overflow="fold", no_wrap=number == 0
        )  # ids are copied
    for row in rows:
        table.add_row(
            *(cell if isinstance(cell, str) else ("-" if cell is None else str(cell)) for cell in row)
        )
    Console(highlight=False, width=None if console.is_terminal else _FILE_WIDTH).print(table)


def as_json(value: object) -> None:
    """Plain JSON on standard output, for programs."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=False, default=str) + "\n")


def as_line(value: object) -> None:
    """One JSON value in a line, for programs that read while it goes on."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


def milliseconds(value: object) -> str:
    """A latency with three significant digits, `-` where there is none."""
    return "-" if not isinstance(value, int | float) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def percent(value: object, digits: int = 1) -> str:
    return "-" if not isinstance(value, int | float) else f"{100 * value:.{digits}f} %"


def state_text(state: str) -> str:
    return f"[{_COLOURS.get(state, 'white')}]{escape(state)}[/]"


def age(moment: object) -> str:
    """How long ago an RFC 3339 time was: `3 min ago`."""
    if not isinstance(moment, str):
        return "-"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name} ago"
    return "just now"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = int(seconds + 0.5)
    return f"{whole // 60}:{whole % 60:02d} left" if whole >= 60 else f"{whole} s left"


def report(error: BespokeError) -> None:
    """An error as a person can use it: what is wrong, where, and what to do next."""
    if isinstance(error, ApiProblem):
        errors.print(f"[bold red]error[/]: {escape(str(error))}")
        for item in [e for e in error.errors if str(e.get("detail")) not in error.detail][:10]:
            place = f"{item['pointer']}: " if item.get("pointer") else ""
            errors.print(f"  {escape(place + str(item.get('detail') or item.get('code')))}")
        if error.reachable_ms:
            low, high = error.reachable_ms.get("min"), error.reachable_ms.get("max")
            errors.print(f"  this device reaches from {milliseconds(low)} ms to {milliseconds(high)} ms")
        hint = _HINTS.get(error.status)
        if error.kind in _LISTED:
            hint = f"List what is there: `bespoke {error.kind}s list`."
        if hint:
            errors.print(f"[dim]{escape(hint)}[/]")
        return
    errors.print(f"[bold red]error[/]: {escape(str(error))}")
    if isinstance(error, InvalidTable):
        for number, reason in error.rows:
            errors.print(f"  row {number}: {escape(reason)}")
    if isinstance(error, JobUnfinished):
        errors.print(f"[dim]See what happened with `bespoke jobs show {error.job.id}`.[/]")


_LISTED: Final = ("device", "supernet", "job", "model", "key")  # kinds whose collections have a command
_HINTS: Final = {
    401: "The key is not one of this server's: check --key or BESPOKE_KEY, or read owner.key in its data "
    "folder.",
    403: "This key may not do that: ask the owner of the server for one with the scope (`bespoke keys "
    "create --scope ...`).",
    404: "List what is there: `bespoke devices list`, `bespoke supernets list`, `bespoke jobs list`, "
    "`bespoke models list`.",
}


class JobProgress(AbstractContextManager["JobProgress"]):
    """A live bar for one job on a terminal; now and then a line where the output is a file or a pipe."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = errors.is_terminal
        self._step: str | None = None  # of the line shown last, with its fraction and time
        self._shown = self._at = 0.0
        self._remark = ""
        self._progress = Progress(
            TextColumn("[bold]{task.description}[/]"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[step]}"),
            TextColumn("[dim]{task.fields[eta]}[/]"),
            TimeElapsedColumn(),
            console=errors,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=1.0, step="", eta="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def update(self, job: Job, remark: str = "") -> None:
        """Show where the job is; a remark stands in the place of its message, and a new one is shown at
        once."""
        step = (
            " ".join(part for part in (job.step.replace("_", " "), remark or job.message) if part)
            or job.state
        )
        told, self._remark = self._remark, remark
        if self._task is not None:
            self._progress.update(
                self._task,
                completed=job.fraction,
                step=escape(step if remark else step[:60]),
                eta=duration(job.eta_s),
            )
        elif (
            job.step != self._step
            or remark not in ("", told)
            or job.fraction >= self._shown + _LINE_EVERY
            or time.monotonic() > self._at + _LINE_AFTER_S
        ):
            errors.print(
                f"{escape(self._title)}: {100 * job.fraction:3.0f} % {escape(step)} {duration(job.eta_s)}"
            )
            self._step, self._shown, self._at = job.step, job.fraction, time.monotonic()


def follow(
    client: BespokeClient,
    job: Job,
    title: str,
    also: Callable[[Job], None] | None = None,
    remark: Callable[[Job], str] | None = None,
) -> Job:
    """Wait for a job with a live bar. Raises JobUnfinished where it ends otherwise than well.

    remark: what this side knows better than the job's own message, shown in its place; empty: nothing.
    """
    with JobProgress(title) as bar:

        def changed(now: Job) -> None:
            bar.update(now, remark(now) if remark is not None else "")
            if also is not None:
                also(now)

        return client.wait(job.id, changed)


def problem_text(error: Json | None) -> str:
    """One line for a problem object, empty where there is none."""
    if not error:
        return ""
    return str(error.get("detail") or error.get("title") or "")
