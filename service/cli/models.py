"""`bespoke models`: the delivered networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from service.cli.confusion import classes
from service.cli.connection import client
from service.cli.push import push
from service.cli.run_file import run
from service.cli.screen import age, as_json, grid, milliseconds, percent, result, say
from service.client.jobs import Json

app = typer.Typer(no_args_is_help=True, help="List, show, download and hand over delivered networks.")
app.command()(push)
app.command()(run)
app.command()(classes)

ModelId = Annotated[str, typer.Argument(help="Id of the model, as `bespoke models list` shows it.")]


@app.command("list")
def list_models(
    device: Annotated[str | None, typer.Option(help="Only networks for this device.")] = None,
    supernet: Annotated[str | None, typer.Option(help="Only networks of this supernet.")] = None,
    job: Annotated[str | None, typer.Option(help="Only networks of this job.")] = None,
    text: Annotated[str | None, typer.Option(help="Only networks with this in id, name or note.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List delivered networks, the newest first."""
    with client() as service:
        models = service.models(device=device, supernet=supernet, job=job, text=text)
    if json_out:
        as_json(models)
        return
    rows = [
        (
            m["id"],
            escape(m["device"] or "any"),
            milliseconds(m["budget_ms"]),
            m["sha256"][:12],
            age(m["created_at"]),
        )
        for m in models
    ]
    columns = ("model", "device", ">budget ms", "sha256", "created")
    grid("", columns, rows, "No network was delivered yet. Search for one: `bespoke search --help`.")


@app.command()
def show(
    model_id: ModelId,
    json_out: Annotated[bool, typer.Option("--json", help="Print the whole model card as JSON.")] = False,
) -> None:
    """Show the model card: everything a person needs in order to trust the network."""
    with client() as service:
        card = service.model(model_id)
    if json_out:
        as_json(card)
        return
    print_card(card)


@app.command()
def name(
    model_id: ModelId,
    called: Annotated[
        str | None, typer.Option("--name", help="What to call it; empty takes the name away.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="One line about it; empty takes it away.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Give a model a name and a note; its card stays as it is.

    Example: [cyan]bespoke models name model_5f... --name "pixel, release 3"[/]
    """
    given = {key: value or None for key, value in (("name", called), ("note", note)) if value is not None}
    with client() as service:
        named = service.name_model(model_id, **given)
    as_json(named) if json_out else say(
        f"{named['id']}  {escape(named['name'] or '-')}  {escape(named['note'] or '')}"
    )


@app.command()
def delete(
    model_id: ModelId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Delete a delivered network with its card, and its file where no other model has it.

    Example: [cyan]bespoke models delete model_5f... --yes[/]
    """
    with client() as service:
        service.model(model_id)  # one that is not there needs no question
        if not yes:
            typer.confirm(f"Delete {model_id} for good?", abort=True, err=True)
        service.remove_model(model_id)
    as_json({"id": model_id, "deleted": True}) if json_out else say(f"{model_id} is deleted")


@app.command()
def download(
    model_id: ModelId,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("model.onnx"),
) -> None:
    """Download the ONNX file and check it against the SHA-256 on its card.

    Example: [cyan]bespoke models download model_5f... -o phone.onnx[/]
    """
    with client() as service:
        digest = service.download_model(model_id, output)
    say(f"{output}  {output.stat().st_size:,} bytes  sha256 {digest}")
    result({"id": model_id, "file": str(output), "size_bytes": output.stat().st_size, "sha256": digest})


def latency_cells(card: Json) -> tuple[str, str, str, str]:
    """Budget, predicted, upper and measured latency."""
    latency = card.get("latency") or {}
    return (
        milliseconds(card.get("budget_ms")),
        milliseconds(latency.get("predicted_ms")),
        milliseconds(latency.get("upper_ms")),
        milliseconds(latency.get("measured_ms")),
    )


def accuracy_cells(card: Json) -> tuple[str, str]:
    accuracy = card.get("accuracy") or {}
    return judged(accuracy, "predicted"), judged(accuracy, "measured")


def judged(accuracy: Json, which: str) -> str:
    """A value of the card's metric: a share in percent, anything else as the number it is."""
    metric, value = accuracy.get("metric") or {"lowest": 0.0, "highest": 1.0}, accuracy.get(which)
    if value is None or (metric["lowest"], metric["highest"]) == (0.0, 1.0):
        return percent(value, 2)
    return f"{value:.4g}"


def _sentence(card: Json) -> list[str]:
    """What the latency is of, where the network writes."""
    told = card.get("generation")
    if not told:
        return []
    read, written, beam = told["source_tokens"], told["target_tokens"], told["beam"]
    return [f"sentence  {read} tokens read, {written} written, {beam} beam(s): what the latency is of"]


def _judged_by(accuracy: Json) -> str:
    return escape(str((accuracy.get("metric") or {}).get("name", "accuracy")).replace("_", " "))


def print_card(card: Json) -> None:
    """The card in a few lines."""
    latency, accuracy, search, file = (
        card.get(part) or {} for part in ("latency", "accuracy", "search", "file")
    )
    kept = latency.get("verified") or card["device"] is None
    if card["device"] is None:
        say(f"[bold]{card['id']}[/]  for any device, within its limits")
    for one in card.get("devices", [{**latency, "device": card["device"], "budget_ms": card["budget_ms"]}]):
        budget, predicted, upper, measured = latency_cells({"budget_ms": one["budget_ms"], "latency": one})
        say(f"[bold]{card['id']}[/]  for {escape(one['device'])}, budget {budget} ms")
        say(
            f"  latency   predicted {predicted} ms, upper bound {upper} ms, measured {measured} ms "
            f"({_verdict(one)})"
        )
        if upper == "-" and one.get("missing_networks"):
            say(
                f"[dim]            no bound yet: {one['missing_networks']} more whole networks must be "
                "measured for one[/]"
            )
        for limit in one.get("further") or []:
            say(f"  {limit['name']:<9} {_further(limit)}")
        if one.get("doubt"):
            say(f"[yellow]            predictions may be off: {escape(one['doubt'])}[/]")
    if card.get("left_out"):
        say(f"  left out  {escape(json.dumps(card['left_out']))}")
    say(
        f"  {_judged_by(accuracy)}  predicted {judged(accuracy, 'predicted')}, measured "
        f"{judged(accuracy, 'measured')} on {accuracy.get('samples')} samples of "
        f"{accuracy.get('dataset')} ({accuracy.get('split')})"
    )
    table = (card.get("provenance") or {}).get("table")
    if table:
        say(f"  table     {escape(_table(table))}")
    say(f"  search    {search.get('strategy')}, {_proof(search)}")
    if len(search.get("measured") or []) > 1:
        kept = sum(line["verdict"] == "kept" for line in search["measured"])
        say(f"  choice    the best of {kept} that keep the budget, out of {len(search['measured'])} measured")
    for line in (
        *_precision(card.get("precision") or {}),
        *_pruning(card.get("pruning")),
        *_passes(card),
        *_robust(card),
        *_trained(card),
        *_sentence(card),
    ):
        say(f"  {line}")
    say(
        f"  file      {file.get('size_bytes', 0):,} bytes, {file.get('parameters', 0):,} parameters, "
        f"{file.get('macs', 0):,} MACs, opset {file.get('opset')}"
    )
    for line in delivery_lines(card):
        say(f"  {line}")
    for limit in [
        c for c in card.get("constraints") or [] if not c["name"].startswith(("latency_", "energy_"))
    ]:
        say(f"  {limit['name']:<9} {limit['value']:,} of {limit['limit']:,}")
    say(f"  sha256    {file.get('sha256')}")
    if not kept:
        say(
            "[dim]  Not verified: run `bespoke profile --keep` (or an agent on the device), then search "
            "again.[/]"
        )


def _precision(told: Json) -> list[str]:
    """Which blocks are in int8, and the delivered network beside itself in other precisions."""
    if not told:
        return []
    blocks, rounding = told["blocks"], told.get("rounding") or {}
    count = sum(one == "int8" for one in blocks.values())
    how = f", ranges by {rounding['method']}, weights of {rounding['weight_bits']} bits" if rounding else ""
    lines = [f"precision {told['asked']}: {count} of {len(blocks)} blocks in int8{how}"]
    return [*lines, *_beside(told)]


def _pruning(told: Json | None) -> list[str]:
    """How many blocks were pruned, and the delivered network beside the one that has all channels."""
    if not told:
        return []
    blocks = told["blocks"].values()
    kept, there = (sum(one[name] for one in blocks) for name in ("channels", "of"))
    how = f", {kept} of their {there} channels are kept, refitted by {told['method']}" if blocks else ""
    return [f"pruned    {len(blocks)} blocks{how}", *_beside(told)]


def _beside(told: Json) -> list[str]:
    """The same network in other forms."""
    lines = []
    for name, one in told["beside"].items():
        ms = one["predicted_ms"] if one["measured_ms"] is None else one["measured_ms"]
        which = "predicted" if one["measured_ms"] is None else "measured"
        lines.append(
            f"          {name}: {milliseconds(ms)} ms {which}, {percent(one['test'], 2)} on test, "
            f"{one['size_bytes']:,} bytes"
        )
    return lines


def _passes(card: Json) -> list[str]:
    """What each compression pass brings, or why it is left out, with the network without it."""
    told = card.get("compression") or {}
    lines = []
    for one in told.get("passes") or []:
        kept = "kept" if one["kept"] else "left out"
        lines.append(
            f"pass      {one['name']} ({one['strength']:g}, {one['strength_is']}): {kept}, {one['reason']}"
        )
        for name in ("before", "after"):
            part = one[name]
            ms = milliseconds(part["measured_ms"])
            lines.append(
                f"          {name}: {ms} ms measured, {percent(part['test'], 2)} on test, "
                f"{part['size_bytes']:,} bytes ({part['deflated_bytes']:,} deflated)"
            )
        lines.append(
            f"          control, {one['control']['is']}: {percent(one['control']['test'], 2)} on test"
        )
    return [*lines, *([f"          {told['remark']}"] if told.get("remark") else [])]


def _robust(card: Json) -> list[str]:
    """What the file does on pictures changed to deceive it."""
    told = card.get("robustness") or {}
    if not told:
        return []
    found = ", ".join(f"{percent(value, 2)} at {steps}/255" for steps, value in told["file"].items())
    return [f"deceived  by {told['attack']}, {told['samples']} samples: {found}"]


def _further(limit: Json) -> str:
    """A further limit of a device: predicted, bounded and measured beside what it may be."""
    known = [(word, limit.get(word)) for word in ("predicted", "upper", "measured")]
    return (
        ", ".join(f"{word} {value:.4g}" for word, value in known if value is not None)
        + f" of {limit['limit']:g}"
    )


def _table(table: Json) -> str:
    """Which latency table the network rests on, who brought it and who found it true although it looked
    odd."""
    text = f"version {table['version']}, {table['created_by'] or table['source']} {age(table['created_at'])}"
    if table.get("accepted_by") or table.get("accepted_at"):
        note = f": {table['accepted_note']}" if table.get("accepted_note") else ""
        text += f"; looked odd, accepted by {table['accepted_by']} {age(table['accepted_at'])}{note}"
    return text


def delivery_lines(card: Json) -> list[str]:
    """What the file is for, how it is fed, and what should be doubted. Nothing of cards of earlier
    versions."""
    context, given, accuracy = (card.get(part) or {} for part in ("context", "input", "accuracy"))
    lines = []
    if context:
        lines.append(
            f"for       {escape(str(context['runtime']))} {escape(str(context['runtime_version']))}, "
            f"{escape(str(context['provider']))}, {context['precision']}, batch {context['batch_size']}"
        )
    if given:
        shape = "x".join("N" if size is None else str(size) for size in given["shape"])
        steps = ", ".join(step["step"] for step in given["steps"])
        colours = f", {given['channel_order']}" if "channel_order" in given else ""  # of pictures only
        lines.append(f"input     {given['dtype']} {given['layout']} {shape}{colours}: {steps}")
    lines += [f"[yellow]warning[/]   {escape(text)}" for text in accuracy.get("warnings") or []]
    lines += [
        f"[yellow]remark[/]    {escape(text)}" for text in (card.get("file") or {}).get("remarks") or []
    ]
    if card.get("state") == "suspect":
        lines.append(f"[red]suspect[/]   {escape(str(card['suspect_reason']))}")
    return lines


def _proof(search: Json) -> str:
    """How sure it is that nothing better was to be found."""
    if search.get("optimal"):
        return "proven optimal"
    gates = search.get("gates")
    trained = "" if not gates else f"gates trained for {gates['warmup_epochs']} + {gates['epochs']} epochs, "
    return trained + ("not proven optimal" if search.get("gap") is None else f"gap {search['gap']:.3g}")


def _tuned(tuning: Json) -> str:
    """What training on has brought."""
    if tuning.get("failure"):
        return f"given up, delivered as it was cut out: {escape(str(tuning['failure']))}"
    before, after = (percent(tuning.get(key), 2) for key in ("validation_before", "validation"))
    kept = "" if tuning.get("kept") else ", so it is delivered as it was cut out"
    return (
        f"{tuning.get('epochs')} epochs in {tuning.get('seconds', 0):.0f} s: {before} to {after} on the "
        f"validation split{kept}{_memory_of(tuning)}"
    )


def _memory_of(tuning: Json) -> str:
    """What it took, where that was limited."""
    memory = tuning.get("memory") or {}
    limited = memory.get("limit_mb") is not None
    return (
        f"; {memory['peak_mb']:.0f} of {memory['limit_mb']} MB: {escape(memory['method'])}" if limited else ""
    )


def _trained(card: Json) -> list[str]:
    """What is known of the chosen network's training: its equals, its fine-tuning, its control."""
    equal = (card.get("accuracy") or {}).get("equal")
    tuning, control = card.get("tuning"), card.get("control")
    return [
        *([f"equal     {_equal(equal)}"] if equal else []),
        *([f"tuning    {_tuned(tuning)}"] if tuning else []),
        *([f"control   {_control(control)}"] if control else []),
    ]


def _equal(equal: Json) -> str:
    """That other networks are as good, as far as can be told."""
    return (
        f"{equal['candidates']} candidates differ by less than one standard error on the validation split; "
        f"{equal['taken']} was taken"
    )


def _control(control: Json) -> str:
    """What the given weights brought."""
    error = control.get("standard_error")
    return (
        f"from scratch {percent(control['from_scratch'], 2)} after {control['steps']:,} steps"
        f"{'' if error is None else f', standard error {error:.1f} points'}: {escape(control['said'])}"
    )


def _verdict(latency: Json) -> str:
    if latency.get("verified"):
        return "[green]verified on the device[/]"
    return "[yellow]not measured[/]" if latency.get("measured_ms") is None else "[red]over its budget[/]"
