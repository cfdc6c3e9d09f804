"""`bespoke models push`: a delivered network leaves the house, as files that others can read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from latency_tables.errors import BespokeError
from service.cli.connection import client
from service.cli.screen import as_json, say

GROUP: Final = "bespoke.sinks"
Sink = Callable[[dict[str, Any], Path, str], str]  # (model card, ONNX file, where to) -> where it is now


class PushFailed(BespokeError):
    """A network that could not be handed over; nothing half is left behind."""


def push(
    model_id: Annotated[str, typer.Argument(help="Id of the model, as `bespoke models list` shows it.")],
    to: Annotated[
        str, typer.Option("--to", help="Kind of place: folder, or one that an installed package adds.")
    ] = "folder",
    place: Annotated[str, typer.Option("--place", help="Where: for `folder` the folder to make.")] = "model",
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Hand a delivered network over: its ONNX file, its card as README.md, and config.json for programs.

    Example: [cyan]bespoke models push model_5f... --to folder --place releases/pixel7[/]
    """
    sink = sinks().get(to)
    if sink is None:
        raise PushFailed(f"no such kind of place; known are {', '.join(sorted(sinks()))}")
    with client() as service, tempfile.TemporaryDirectory() as work:
        card, file = service.model(model_id), Path(work) / "model.onnx"
        service.download_model(model_id, file)
        found = sink(card, file, place)
    as_json({"id": model_id, "place": found}) if json_out else say(f"{model_id} is in {found}")


def sinks() -> dict[str, Sink]:
    """Kinds of places by name: ours, and the entry points `bespoke.sinks` of installed packages."""
    found: dict[str, Sink] = {"folder": to_folder}
    for entry in entry_points(group=GROUP):
        found[entry.name] = entry.load()
    return found


def to_folder(card: dict[str, Any], file: Path, place: str) -> str:
    """Write a folder, all of it or nothing. Raises PushFailed where there is one already."""
    target = Path(place)
    if target.exists():
        raise PushFailed(f"{target} is there already; name another folder, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        shutil.copyfile(file, partial / "model.onnx")
        (partial / "README.md").write_text(readme(card), encoding="utf-8")
        (partial / "config.json").write_text(json.dumps(config(card), indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return str(target)


def config(card: dict[str, Any]) -> dict[str, Any]:
    """What a program needs in order to run the file, and the whole card."""
    return {
        "file": "model.onnx",
        "sha256": card["file"]["sha256"],
        "format": "onnx",
        "opset": card["file"].get("opset"),
        "input": card.get("input"),
        "classes": card.get("classes"),
        "card": card,
    }


def readme(card: dict[str, Any]) -> str:
    """The card as Markdown with the head that model hubs read."""
    latency, accuracy, file = card["latency"], card["accuracy"], card["file"]
    measured = latency.get("measured_ms")
    verdict = "not measured" if measured is None else f"measured {measured:g} ms"
    head = {
        "library_name": "onnx",
        "tags": ["onnx", "hardware-aware-nas", "bespoke"],
        "datasets": [accuracy.get("dataset")],
        "model-index": [{"name": card["id"], "results": [_result(accuracy)]}],
    }
    # JSON is YAML, and needs no writer of its own.
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---", ""]
    lines += [
        f"# {card['id']}",
        "",
        f"Made for {card['device']} within {card['budget_ms']:g} ms: {verdict}.",
        "",
    ]
    lines += ["| | |", "|---|---|"]
    facts = {
        "predicted latency": f"{latency['predicted_ms']:g} ms",
        "accuracy": f"{100 * accuracy['measured']:.2f} % of {accuracy.get('samples')} samples "
        f"({accuracy.get('split')})",
        "parameters": f"{file.get('parameters', 0):,}",
        "multiply-adds": f"{file.get('macs', 0):,}",
        "SHA-256 of model.onnx": f"`{file['sha256']}`",
    }
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    if card.get("snippet"):
        lines += [
            "",
            "## Run it",
            "",
            "`python run.py model.onnx PICTURE...`, with `run.py`:",
            "",
            "```python",
            card["snippet"].rstrip(),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _result(accuracy: dict[str, Any]) -> dict[str, Any]:
    dataset = {
        "name": accuracy.get("dataset"),
        "type": accuracy.get("dataset"),
        "split": accuracy.get("split"),
    }
    metric = {"type": "accuracy", "value": accuracy.get("measured")}
    return {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": [metric]}
