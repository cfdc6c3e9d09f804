"""The command line as a whole: root options, commands, and how errors are shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.main import get_command

from latency_tables.errors import BespokeError
from service import posix
from service.cli import datasets, devices, jobs, keys, models, quarantine, spaces, supernets, tables
from service.cli.apply import apply
from service.cli.compress import compress
from service.cli.connection import Connection, choose
from service.cli.demo import demo
from service.cli.doctor import doctor
from service.cli.front import front
from service.cli.json_mode import with_json
from service.cli.open import open_page
from service.cli.profile import profile
from service.cli.screen import errors, report
from service.cli.search import search
from service.cli.serve import serve

app = typer.Typer(
    name="bespoke",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
)

_INTERRUPTED = 130
_START, _WORK, _LOOK, _RUN = "Start here", "Make networks", "Look", "Run the service"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version("bespoke-nas"))
        raise typer.Exit


@app.callback()
def root(
    url: Annotated[str | None, typer.Option(envvar="BESPOKE_URL", help="Address of the service.")] = None,
    key: Annotated[
        str | None, typer.Option(envvar="BESPOKE_KEY", help="Key to ask it with.", show_envvar=True)
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(envvar="BESPOKE_DATA_DIR", help="Data folder of a service on this machine.")
    ] = Path("bespoke-data"),
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Neural networks made to measure: name a device and a latency budget, get an ONNX network that keeps it.

    On one machine no address and no key are needed: they are read from the data folder of `bespoke serve`.

    First steps: [cyan]bespoke demo[/] does everything once, in a folder. Then [cyan]bespoke serve[/] and, in
    another terminal, [cyan]bespoke profile[/] and [cyan]bespoke search --device this-machine --budget-ms 0.5
    -o model.onnx[/].
    """
    choose(Connection(url, key, data_dir))


app.command(rich_help_panel=_START)(demo)
app.command(rich_help_panel=_START)(serve)
app.command("open", rich_help_panel=_START)(open_page)
app.command(rich_help_panel=_START)(profile)
app.command(rich_help_panel=_START)(search)
app.command(rich_help_panel=_WORK)(compress)
app.command(rich_help_panel=_WORK)(apply)
app.add_typer(devices.app, name="devices", rich_help_panel=_WORK)
app.add_typer(tables.app, name="tables", rich_help_panel=_WORK)
app.add_typer(datasets.app, name="datasets", rich_help_panel=_WORK)
app.add_typer(spaces.app, name="spaces", rich_help_panel=_WORK)
app.add_typer(supernets.app, name="supernets", rich_help_panel=_WORK)
app.command(rich_help_panel=_LOOK)(front)
app.add_typer(jobs.app, name="jobs", rich_help_panel=_LOOK)
app.add_typer(models.app, name="models", rich_help_panel=_LOOK)
app.add_typer(keys.app, name="keys", rich_help_panel=_RUN)
app.command(rich_help_panel=_RUN)(doctor)
app.add_typer(quarantine.app, name="quarantine", rich_help_panel=_RUN)


@app.command(
    rich_help_panel=_RUN,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def agent(context: typer.Context) -> None:
    """Measure on this device for a service elsewhere (needs only the `agent` extra)."""
    from latency_tables.agent import main

    raise typer.Exit(main(context.args))


@cache
def command_tree() -> Any:
    """Every command, each with `--json`; a quarter of a second's work, so once a process."""
    return get_command(with_json(app))


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status: 0 done, 1 an error that was explained, 2 wrong usage, 130
    interrupted."""
    try:
        command_tree()(list(arguments), prog_name="bespoke")
    except SystemExit as end:  # typer's own way to end: it has shown wrong usage already
        if end.code == _INTERRUPTED:
            errors.print("stopped")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BespokeError as error:
        report(error)
    except KeyboardInterrupt:
        errors.print("stopped")
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("service", "supernets", "latency_tables", "worker"):
            raise  # a fault of this installation, not a missing extra
        if error.name in posix.NEEDED:
            errors.print(f"[bold red]error[/]: {posix.sentence(error.name)}")
            return 1
        errors.print(
            f"[bold red]error[/]: this command needs {error.name}; install it with `pip install "
            "'bespoke-nas\\[worker]'`"
        )
    except OSError as error:
        errors.print(
            "[bold red]error[/]: "
            f"{escape(f'{error.filename}: {error.strerror}' if error.filename else str(error))}"
        )
    return 1
