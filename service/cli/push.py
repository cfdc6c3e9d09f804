"""`bespoke models push`: a delivered network leaves the house, as files that others can read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import client
from service.cli.screen import as_json, say
from service.sinks.catalog import sink_named
from service.sinks.files import Release


def push(
    model_id: Annotated[str, typer.Argument(help="Id of the model, as `bespoke models list` shows it.")],
    to: Annotated[
        str,
        typer.Option("--to", help="folder, huggingface, mlflow, or what an installed package adds."),
    ] = "folder",
    place: Annotated[
        str,
        typer.Option(
            "--place", help="A folder to make, OWNER/NAME of a hub, EXPERIMENT or EXPERIMENT/MODEL of MLflow."
        ),
    ] = "model",
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Hand a delivered network over: its ONNX file, its card as README.md, and config.json for programs.

    All of it or nothing: a push that breaks off leaves nothing half. A hub takes its token from HF_TOKEN and
    its address from HF_ENDPOINT, MLflow from MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN.

    Examples:

    [cyan]bespoke models push model_5f... --place releases/pixel7[/]

    [cyan]bespoke models push model_5f... --to huggingface --place my-team/pixel7-12ms[/]

    [cyan]bespoke models push model_5f... --to mlflow --place phones/pixel7[/]
    """
    sink = sink_named(to)
    with client() as service, tempfile.TemporaryDirectory() as work:
        card, file = service.model(model_id), Path(work) / "model.onnx"
        service.download_model(model_id, file)
        found = sink(Release(card, file), place)
    as_json({"id": model_id, "place": found}) if json_out else say(f"{model_id} is in {found}")
