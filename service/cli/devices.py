"""`bespoke devices`: what networks are made for."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from latency_tables import strict_json
from latency_tables.agent.errors import UnusableRuntime
from latency_tables.agent.runtimes.catalog import RUNTIMES
from latency_tables.agent.runtimes.setup import Setup, options_from, provider_text, split_provider
from latency_tables.errors import BespokeError, InvalidTable
from latency_tables.formats import hat_csv
from latency_tables.measurement import Context
from service.cli.connection import client
from service.cli.generations import Generation, sentence_of
from service.cli.local_agent import LocalAgent
from service.cli.profile import name_unable
from service.cli.runtimes import ProviderOptions, agent_arguments, this_context
from service.cli.screen import age, as_json, errors, follow, grid, percent, result, say
from service.cli.table_files import unpacked
from service.cli.tables import coverage_text
from service.client import BespokeClient
from service.client.jobs import Json

app = typer.Typer(no_args_is_help=True, help="Register devices, measure them, look at what is known of them.")

Name = Annotated[str, typer.Argument(help="Name of the device: small letters, digits, `.`, `_` and `-`.")]
JsonOut = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("list")
def list_devices(json_out: JsonOut = False) -> None:
    """List registered devices."""
    with client() as service:
        devices = service.devices()
    if json_out:
        as_json(devices)
        return
    rows = [
        (
            d["name"],
            escape(_runtime(d)),
            len(d["tables"]),
            percent(d["prediction_error"]),
            _agent(d),
            escape(d["description"]),
        )
        for d in devices
    ]
    grid(
        "",
        ("device", "context", ">tables", ">error", "agent", "description"),
        rows,
        "No device is registered. This machine: `bespoke profile`. Another: `bespoke devices add --help`.",
    )


@app.command()
def show(name: Name, json_out: JsonOut = False) -> None:
    """Show a device: context, tables, coverage, calibration, prediction error."""
    with client() as service:
        device = service.device(name)
    if json_out:
        as_json(device)
        return
    say(f"[bold]{device['name']}[/]  {escape(device['description'])}")
    say(f"  context   {escape(_runtime(device))}")
    nodes = nodes_line(device)
    if nodes is not None:
        say(f"  nodes     {nodes}")
    for covered in device["coverage"]:
        say(f"  coverage  {coverage_text(covered)}")
    for line in calibration_lines(device):
        say(f"  networks  {escape(line)}")
    agent = device["agent"]
    if agent is not None:
        say(
            f"  agent     {_agent(device)}, heard of {age(agent['seen_at'])}, {agent['open_tasks']} task(s) "
            "open"
        )
    repeated = device["replication"]
    if repeated is not None:
        verdict = "reproducible" if repeated["reproducible"] else "[red]not reproducible[/]"
        say(
            f"  repeated  newest two tables differ by {percent(repeated['median_difference'])} (median), "
            f"{verdict}"
        )
    rows = [
        (
            t["id"],
            t["version"],
            f"{t['rows']:,}",
            t["source"],
            _table_state(t),
            t["created_by"],
            age(t["created_at"]),
        )
        for t in device["tables"]
    ]
    grid("", ("table", ">version", ">rows", "source", "state", "by", "when"), rows, "  no table yet")
    for table in device["tables"]:
        for reason in table["reasons"][:5]:
            say(f"  version {table['version']}: {reason['severity']}: {escape(reason['message'])}")


@app.command()
def add(
    name: Name,
    context: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of the context; left out: that of this machine.", exists=True, dir_okay=False
        ),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Runtime: onnxruntime or openvino; any other one by tables alone.")
    ] = None,
    runtime_version: Annotated[
        str | None, typer.Option(help="Version of the runtime; left out: the one here.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="What computes, such as CPUExecutionProvider.")] = None,
    provider_option: ProviderOptions = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, float16 or int8.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Inputs at once.")] = None,
    description: Annotated[str, typer.Option(help="What a colleague should know of it.")] = "",
) -> None:
    """Register a device. What is not said of its context is that of an agent on this machine, tried out here.

    With `--runtime-version` nothing is tried out: the device is another machine.

    Examples:

    [cyan]bespoke devices add pi5 --description "Raspberry Pi 5, active cooler"[/]

    [cyan]bespoke devices add here-ov --runtime openvino[/]  this machine with OpenVINO

    [cyan]bespoke devices add server --runtime-version 1.31.1 --provider CUDAExecutionProvider
    --provider-option device_id=0[/]

    [cyan]bespoke devices add pixel7 --runtime tflite --runtime-version 2.19 --provider xnnpack --threads 4[/]
    """
    given = {
        "runtime": runtime,
        "runtime_version": runtime_version,
        "provider": provider,
        "threads": threads,
        "precision": precision,
        "batch_size": batch_size,
    }
    known = _context_of(context) if context else {}
    fields = completed(
        known | {k: v for k, v in given.items() if v is not None}, options_from(provider_option or ())
    )
    with client() as service:
        made = service.add_device(name, fields, description)
    result(made)
    say(f"{name} is registered: {', '.join(f'{k} {v}' for k, v in fields.items())}")
    for text in made.get("remarks") or []:
        errors.print(f"[yellow]remark: {escape(text)}[/]")
    say(
        "Next: a latency table. From the device itself: `bespoke devices enrol "
        + name
        + "`; from a file: `bespoke tables import`."
    )


def completed(given: Json, options: tuple[tuple[str, str], ...]) -> Json:
    """A whole context from what is known of it. Raises UnusableRuntime where this machine is meant and cannot
    do that."""
    default = Setup()
    runtime = RUNTIMES.get(given.get("runtime", default.runtime))
    # Without a version this machine is meant, so what is said of it can be tried out.
    if runtime is not None and "runtime_version" not in given:
        wish = {field: given[field] for field in ("threads", "precision", "batch_size") if field in given}
        try:
            return this_context(Setup(runtime.name, given.get("provider"), options, **wish)).as_dict()
        except UnusableRuntime as error:
            raise UnusableRuntime(f"{error}. For another machine give its --runtime-version") from None
    if runtime is None and not {"runtime_version", "provider"} <= given.keys():
        raise UnusableRuntime("a runtime that the agent does not have needs --runtime-version and --provider")
    provider = given.get("provider") or (runtime.default_provider if runtime else "")
    usual = {"runtime": default.runtime, "threads": 1, "precision": default.precision, "batch_size": 1}
    return usual | given | {"provider": provider_text(provider, options)}


@app.command()
def remove(name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove a device and its tables. Refused while jobs or delivered networks rest on it."""
    with client() as service:
        service.device(name)  # one that is not there needs no question
        if not yes:
            typer.confirm(f"Remove {name} with all its tables?", abort=True, err=True)
        service.remove_device(name)
    say(f"{name} is removed")
    result({"name": name, "removed": True})


@app.command()
def enrol(name: Name) -> None:
    """Print the command that starts the measuring agent on the device. Its token works once, for a short
    time.

    Example: [cyan]bespoke devices enrol pi5[/]
    """
    with client() as service:
        context = Context(**service.device(name)["context"])
        arguments = agent_arguments(context)
        made = service.enrol(name)
        url = service.url
    errors.print("On the device, with Python 3.11 or newer:")
    say(f"pip install 'bespoke-nas[{'agent,openvino' if context.runtime == 'openvino' else 'agent'}]'")
    say(
        " ".join(
            ["bespoke agent", f"--server {url}", f"--token {made['token']}", *map(shlex.quote, arguments)]
        )
    )
    errors.print(f"[dim]The token works once and ends {made.get('expires_at', 'soon')}.[/]")
    if "127.0.0.1" in url:
        errors.print(
            "[dim]Replace 127.0.0.1 by an address at which the device reaches this server "
            "(docs/operations.md).[/]"
        )


@app.command()
def probe(
    name: Name,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="JSON file of measured networks: [{space, architecture, latency_ms}, ...].",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="hat: the file is a latency data set of HAT, a CSV, packed or not."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Without a file: the space to pick networks from (digits-mbv3); with --format hat: the one "
            "whose latency table is made (hat-wmt)."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=10, max=50, help="Without a file: how many networks to pick.")
    ] = 20,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Without a file: where the picked networks go.")
    ] = None,
    forget: Annotated[
        str | None, typer.Option(help="Delete the networks of this session, which were measured wrongly.")
    ] = None,
    rows: Annotated[
        int,
        typer.Option(
            min=20,
            max=2000,
            help="With --format hat: networks that the table is fitted to; the rest test it.",
        ),
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="With --format hat: draws those networks.")] = 0,
    generation: Generation = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="With --format hat: words of the vocabularies; left out: the space's."),
    ] = None,
) -> None:
    """Register a device from a few measured whole networks instead of a full table.

    First without a file: the service picks the networks worth measuring. Fill in their latencies, then give
    the file: the tables of the known devices are mixed so that they explain what was measured.

    A latency data set of HAT makes a table by itself: additive rows are fitted to some of its networks, the
    others say how far off they are.

    Examples:

    [cyan]bespoke devices probe board --space ofa-mbv3 --samples 20 -o probes.json[/]

    [cyan]bespoke devices probe board probes.json[/]

    [cyan]bespoke devices probe xeon wmt14ende_cpu_xeon_all.csv.gz --format hat --rows 50[/]
    """
    if form is not None:
        wish: Json = {"space": space or "hat-wmt", "fitted_to": rows, "seed": seed, "classes": classes}
        _transformers(name, file, form, {**wish, "generation": sentence_of(generation)})
        return
    with client() as service:
        if forget is not None:
            service.forget_networks(name, forget)
            say(f"{name}: the networks of session {escape(forget)} are deleted")
            return
        if file is None:
            picked = service.probe_plan(name, space or "digits-mbv3", samples)
            text = json.dumps(
                [
                    {"space": i["space"], "architecture": i["architecture"], "latency_ms": None}
                    for i in picked["items"]
                ],
                indent=1,
            )
            if output is None:
                say(escape(text))
                return
            output.write_text(text + "\n")
            say(f"{output}: measure these networks, write latency_ms into each,")
            say(f"then `bespoke devices probe {name} {output}`")
            return
        made = service.probes(name, read_samples(file))
    say(
        f"{name}: {made['accepted']} networks taken, by {made['method']}, held-out error "
        f"{percent(made['error'])}"
    )
    for item in made["calibration"]:
        say(f"  {escape(_calibration(item))}")
    if made["method"] == "refused":
        say(
            f"  session {made['session']}; were they measured wrongly, `bespoke devices probe {name} "
            f"--forget {made['session']}`"
        )
        raise NetworksDoNotFit(f"{name}: {made['warnings'][0]}")
    for warning in made["warnings"]:
        errors.print(f"[yellow]warning[/]: {escape(warning)}")


def _transformers(name: str, file: Path | None, form: str, wish: Json) -> None:
    """A device from a latency data set of HAT."""
    if form != hat_csv.FORM or file is None:
        raise InvalidTable(
            "--format is hat, and takes a file: a latency data set of HAT. Probes in JSON need no --format"
        )
    probes = hat_csv.read(unpacked(file))
    networks = [
        {"features": list(p.features), "encoder_ms": p.encoder_ms, "decoder_ms": p.decoder_ms} for p in probes
    ]
    with client() as service:
        made = service.transformers(name, networks, **wish)
    result(made)
    used = len(probes) - made["held_out"]
    tested = f"{made['held_out']:,} others" if made["held_out"] else "each of them, left out once"
    said = f"a table of {wish['space']} from {used:,} of {len(probes):,} transformers, tested on {tested}"
    say(f"{name}: {said}")
    for item in made["calibration"]:
        say(f"  {escape(_calibration(item))}")


class NetworksDoNotFit(BespokeError):
    """Measured networks and the device's table contradict each other."""


@app.command()
def check(
    name: Name,
    here: Annotated[
        bool, typer.Option("--here", help="The device is this machine: run the agent for it.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Where the table does not hold, measure what moved again.")
    ] = False,
    space: Annotated[
        str, typer.Option(help="With --repair: the space whose operators are measured again.")
    ] = "digits-mbv3",
) -> None:
    """Re-measure a few operators and say whether the table still holds (a median change of at most 5 %).

    The device's agent must be running; for this machine, `--here` runs it. Exit status 1 where the table does
    not hold.

    Examples:

    [cyan]bespoke devices check this-machine --here[/]

    [cyan]bespoke devices check pi5 --repair[/]  measure what moved again and publish a new table
    """
    with client() as service, _agent_of(service, name) if here else nullcontext():
        found = follow(service, service.check(name), f"check {name}").result
        name_unable(found.get("cannot_run") or ())
        say(f"{found['operators']} operators measured again: median change {percent(found['change'])}")
        if found["holds"]:
            say(f"[green]The table of {name} still holds.[/]")
            return
        moved = found["remeasure"]
        if not repair:
            raise TableMoved(
                f"the table of {name} does not hold any more: {len(moved)} operators are to be measured "
                f"again. Do so with `bespoke devices check {name} --repair{' --here' if here else ''}`."
            )
        unable = follow(service, service.remeasure(name, space, moved), f"measure {name}").result.get(
            "cannot_run"
        )
        name_unable(unable or ())
    failed = sum(one["operator"] in moved for one in unable or ())
    say(f"{len(moved) - failed} operators were measured again; {name} has a new table.")


class TableMoved(BespokeError):
    """A device is not as fast, or as slow, as its table says."""


def _agent_of(service: BespokeClient, name: str) -> LocalAgent:
    return LocalAgent(service, name)


@app.command()
def plot(
    name: Name,
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")],
    other: Annotated[str | None, typer.Option(help="A second device, drawn beside the first.")] = None,
    space: Annotated[str, typer.Option(help="Space whose operators the heat map shows.")] = "digits-mbv3",
) -> None:
    """Draw a device: predicted against measured networks, and its table by what is chosen in each block.

    With `--other` also the operators of two devices against each other: where they lie off the line, networks
    made for one do not suit the other.

    Example: [cyan]bespoke devices plot this-machine -o device.png --other pi5[/]
    """
    from service.cli.device_pictures import draw_device, load_table

    with client() as service:
        tables = {device: load_table(service, device) for device in (name, other) if device is not None}
        networks = service.networks(name)
    draw_device(output, name, tables, networks, space)
    say(f"{output} is written")


def read_samples(file: Path) -> list[Json]:
    """The measured networks of a probe file. Raises InvalidTable that says how one looks."""
    if file.name.lower().endswith((".csv", ".csv.gz")):
        raise InvalidTable(
            f"{file.name}: probes are JSON, a list of {{space, architecture, latency_ms}}. Rows of operators "
            "are read by `bespoke tables import`; HAT's transformers by `bespoke devices probe --format hat`"
        )
    try:
        data = strict_json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidTable(f"{file.name} is not JSON: {error}") from None
    samples = data.get("samples") if isinstance(data, dict) else data
    if not isinstance(samples, list) or not all(isinstance(s, dict) for s in samples):
        raise InvalidTable(
            f"{file.name}: probes are a list of objects with space, architecture and latency_ms"
        )
    unmeasured = sum(s.get("latency_ms") is None for s in samples)
    if unmeasured:
        raise InvalidTable(
            f"{file.name}: {unmeasured} of {len(samples)} networks have no latency_ms yet; measure them first"
        )
    return samples


def nodes_line(device: Json) -> str | None:
    """Nodes of measured networks by provider; those that fell back to another than the context's stand
    out."""
    nodes, provider = device.get("nodes_by_provider"), split_provider(device["context"]["provider"])[0]
    if not nodes:
        return None
    text = ", ".join(
        f"{count:,} on {escape(name)}" for name, count in sorted(nodes.items(), key=lambda item: -item[1])
    )
    fallen = sum(count for name, count in nodes.items() if name != provider)
    return f"{text}; [yellow]{fallen / sum(nodes.values()):.0%} fell back[/]" if fallen else text


def calibration_lines(device: Json) -> list[str]:
    """What is known of how well the table predicts whole networks, one line for each space."""
    return [_calibration(item) for item in device["calibration"]]


@app.command("export")
def export_file(
    name: Name, output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="File to write.")]
) -> None:
    """Write a device with all its tables and measured networks into one file."""
    with client() as service:
        output.write_bytes(service.export_device(name))
    say(f"{name} is in {escape(str(output))}; `bespoke devices import` reads it")


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A file of `bespoke devices export`.")
    ],
    name: Annotated[str | None, typer.Option(help="Register it under another name.")] = None,
) -> None:
    """Register the device of a file with its tables and measured networks: all of it or nothing."""
    with client() as service:
        done = service.import_device(file.read_bytes(), name)
    held = json.loads(file.read_bytes())
    say(
        f"{done['name']} is registered with {len(held['tables'])} table(s) and {len(held['networks'])} "
        "measured network(s)"
    )


def _context_of(file: Path) -> Json:
    """The fields of a context in a JSON file."""
    try:
        found = strict_json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"{file.name} is not JSON: {error}", param_hint="--context") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(
            f"{file.name} must hold an object with the fields of a context, such as "
            '{"runtime": "onnxruntime", "threads": 1}',
            param_hint="--context",
        )
    return found


def _calibration(item: Json) -> str:
    parts = [f"{item['space']}: {item['state']}", f"{item['networks']} whole networks measured"]
    if item["error"] is not None:
        parts.append(f"held-out error {percent(item['error'])} mean, {percent(item['worst'])} worst")
    if item["interval"] is not None:
        parts.append(
            f"{percent(item['interval']['confidence'], 0)} stay below {item['interval']['factor']:.3f} x "
            "predicted"
        )
    elif item["missing_networks"] and item["state"] != "refused":
        parts.append(f"a 95 % bound needs {item['missing_networks']} more")
    if item["reason"]:
        parts.append(item["reason"])
    return ", ".join(parts)


def _runtime(device: Json) -> str:
    c = device["context"]
    threads = f"{c['threads']} thread" + ("s" if c["threads"] != 1 else "")
    return (
        f"{c['runtime']} {c['runtime_version']}, {c['provider']}, {threads}, {c['precision']}, batch "
        f"{c['batch_size']}"
    )


def _agent(device: Json) -> str:
    agent = device["agent"]
    return "-" if agent is None else "present" if agent["present"] else "away"


def _table_state(table: Json) -> str:
    if table["accepted_at"]:
        by = f"accepted by {escape(str(table['accepted_by']))} {age(table['accepted_at'])}"
        return f"{by}, in use" if table["in_use"] else by
    state = (
        str(table["state"]) if table["state"] == "ready" else f"[yellow]{table['state'].replace('_', ' ')}[/]"
    )
    return f"{state}, in use" if table["in_use"] else state
