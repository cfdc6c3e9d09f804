"""The files that a delivered network leaves the house as: ONNX, its card as README.md, config.json for
programs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MODEL: Final = "model.onnx"
README: Final = "README.md"
CONFIG: Final = "config.json"


@dataclass(frozen=True)
class Release:
    """A delivered network on its way out. card: as `GET /v1/models/{id}` gives it; onnx: the file, checked
    against it.
    """

    card: dict[str, Any]
    onnx: Path

    def files(self) -> dict[str, bytes]:
        """Every file by its name."""
        texts = {README: readme(self.card), CONFIG: json.dumps(config(self.card), indent=2) + "\n"}
        return {MODEL: self.onnx.read_bytes(), **{name: text.encode() for name, text in texts.items()}}


def config(card: dict[str, Any]) -> dict[str, Any]:
    """What a program needs in order to run the file, and the whole card."""
    return {
        "file": MODEL,
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
    head = {
        "library_name": "onnx",
        "tags": ["onnx", "hardware-aware-nas", "bespoke"],
        "datasets": [accuracy.get("dataset")],
        "model-index": [{"name": card["id"], "results": [_result(accuracy)]}],
    }
    # JSON is YAML, and needs no writer of its own.
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---", ""]
    lines += [f"# {card['id']}", "", made_for(card), "", "| | |", "|---|---|"]
    predicted, measured = latency.get("predicted_ms"), accuracy.get("measured")
    facts = {
        "predicted latency": None if predicted is None else f"{predicted:g} ms",
        "accuracy": None
        if measured is None
        else f"{100 * measured:.2f} % of {accuracy.get('samples')} samples ({accuracy.get('split')})",
        "parameters": f"{file.get('parameters', 0):,}",
        "multiply-adds": f"{file.get('macs', 0):,}",
        f"SHA-256 of {MODEL}": f"`{file['sha256']}`",
    }
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    if card.get("snippet"):
        lines += ["", "## Run it", "", f"`python run.py {MODEL} PICTURE...`, with `run.py`:", ""]
        lines += ["```python", card["snippet"].rstrip(), "```"]
    return "\n".join(lines) + "\n"


def made_for(card: dict[str, Any]) -> str:
    """One sentence: for which device, within what, and whether that was kept."""
    if card.get("device") is None or card.get("budget_ms") is None:
        return "Made within limits of size, memory or multiply-adds; for no device alone."
    measured = card["latency"].get("measured_ms")
    verdict = "not measured" if measured is None else f"measured {measured:g} ms"
    return f"Made for {card['device']} within {card['budget_ms']:g} ms: {verdict}."


def _result(accuracy: dict[str, Any]) -> dict[str, Any]:
    dataset = {
        "name": accuracy.get("dataset"),
        "type": accuracy.get("dataset"),
        "split": accuracy.get("split"),
    }
    metric = {"type": "accuracy", "value": accuracy.get("measured")}
    return {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": [metric]}
