"""`bespoke models run`: pictures or sentences through a delivered file, fed as the file itself says. No
service is needed for a file."""

from __future__ import annotations

import tempfile
from dataclasses import replace
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
        str,
        typer.Argument(
            help="An ONNX file, a transformer's archive or folder, or the id of a model as `bespoke models "
            "list` shows it."
        ),
    ],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures to name the class of.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A sentence for a transformer; may be given several times.")
    ] = None,
    beam: Annotated[
        int | None, typer.Option(min=1, max=64, help="Beams, 1 for greedy; else as the network says.")
    ] = None,
    longest: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Most tokens of an answer; else as the network says.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Name the class of pictures, or write the sentences that a transformer makes of yours.

    Example: [cyan]bespoke models run phone.onnx holiday/*.jpg[/]

    Example: [cyan]bespoke models run hat.zip --text "wie geht es ih@@ nen ?" --beam 4[/]
    """
    if pictures and text:
        raise typer.BadParameter("give pictures, or --text for a transformer")
    if text:
        written = run_text(model, text, beam, longest)
        if json_out:
            as_json(written)
            return
        for line in written:
            say(escape(line["answer"]))
        return
    data = _bytes_of(model)
    if not pictures:
        raise typer.BadParameter("give pictures, or --text for a transformer")
    found = run_pictures(data, pictures)
    if json_out:
        as_json(found)
        return
    for line in found:
        say(f"{escape(line['picture'])}  {escape(line['class'])}  {percent(line['probability'], 1)}")


def run_text(model: str, text: list[str], beam: int | None, longest: int | None) -> list[Json]:
    """The best answer to every sentence. Raises RunFailed, InvalidTextNetwork."""
    from latency_tables.text_network import TextNetwork, files_of, on_cpu

    if Path(model).is_dir():
        network = TextNetwork.open(model)
    else:
        network = TextNetwork(files_of(_bytes_of(model)), on_cpu())
    how = network.generation
    if longest is not None:
        how = replace(how, longest=longest, shortest=min(how.shortest, longest))
    if beam is not None:
        how = replace(how, beam=beam)
    answers = network.translate(text, how)
    return [{"text": given, "answer": answer} for given, answer in zip(text, answers, strict=True)]


def run_pictures(onnx: bytes, pictures: list[Path]) -> list[Json]:
    """Class and probability of every picture. Raises RunFailed, InvalidPreprocessing."""
    from latency_tables.text_network import is_archive
    from supernets.delivery.feeding import Reader

    if is_archive(onnx):
        raise RunFailed("the file is a transformer's archive; give it sentences with --text")
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
