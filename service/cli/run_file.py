"""`bespoke models run`: pictures through a delivered file, fed as the file itself says. No service is needed
for a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.markup import escape

from latency_tables.errors import BespokeError
from service.cli.connection import client
from service.cli.screen import as_json, percent, say
from service.client.jobs import Json

_AT_A_TIME: Final = 64


class RunFailed(BespokeError):
    """A file that cannot be run here, or a picture that cannot be read."""


def run(
    model: Annotated[
        str, typer.Argument(help="An ONNX file, or the id of a model as `bespoke models list` shows it.")
    ],
    pictures: Annotated[list[Path], typer.Argument(help="Pictures to name the class of.")],
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Name the class of pictures with a delivered network, fed by its own metadata.

    Example: [cyan]bespoke models run phone.onnx holiday/*.jpg[/]
    """
    found = run_pictures(_bytes_of(model), pictures)
    if json_out:
        as_json(found)
        return
    for line in found:
        say(f"{escape(line['picture'])}  {escape(line['class'])}  {percent(line['probability'], 1)}")


def run_pictures(onnx: bytes, pictures: list[Path]) -> list[Json]:
    """Class and probability of every picture. Raises RunFailed, InvalidPreprocessing."""
    from supernets.delivery.feeding import Reader

    reader, found = Reader(_session(onnx)), []
    for start in range(0, len(pictures), _AT_A_TIME):
        paths = pictures[start : start + _AT_A_TIME]
        shares = reader.probabilities([_opened(path) for path in paths])
        for path, row in zip(paths, shares, strict=True):
            best = int(np.argmax(row))
            found.append(
                {"picture": str(path), "class": reader.classes[best], "probability": float(row[best])}
            )
    return found


def _bytes_of(model: str) -> bytes:
    if Path(model).is_file():
        return Path(model).read_bytes()
    if model.endswith(".onnx") or "/" in model:
        raise RunFailed(f"there is no file {model}; `bespoke models download ID -o FILE` writes one")
    with client() as service, tempfile.TemporaryDirectory() as work:
        service.download_model(model, Path(work) / "model.onnx")
        return (Path(work) / "model.onnx").read_bytes()


def _session(onnx: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RunFailed("running a file needs ONNX Runtime: pip install 'bespoke-nas[agent]'") from None
    try:
        return onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no common class of their own
        raise RunFailed(
            f"ONNX Runtime {onnxruntime.__version__} does not open the file: {str(error)[:300]}"
        ) from error


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RunFailed(f"{path} cannot be read as a picture: {error}") from error
    return picture
