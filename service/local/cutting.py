"""Networks cut out of transformers that others published. For the command line on any machine; no service is
asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from supernets.data.vocabulary import read_vocabulary


@dataclass(frozen=True)
class CutOut:
    """parameters: of the network's layers; whole: of the super network's layers. read: what of the file."""

    parameters: int
    whole: int
    size_bytes: int
    read: str


def cut_out_published(
    checkpoint: Path,
    architecture: Path,
    output: Path,
    *,
    weights: str | None = None,
    dictionaries: tuple[Path, Path] | None = None,
    uniform: bool = False,
    merged: bool = False,
) -> CutOut:
    """Write one network of a published checkpoint as a file of its own: safetensors, or the archive of ONNX
    graphs where `output` ends in `.zip`.

    dictionaries: of source and target, for the archive's tokenizers. uniform: caches of one shape; merged:
    both decoders as one graph too. Raises
    InvalidCheckpoint, InvalidArchitecture, InvalidDataset, ExportFailed.
    """
    from supernets.delivery.transformer_folder import transformer_archive  # noqa: PLC0415 - torch
    from supernets.encoder_decoder import cut_out_transformer, layer_parameters  # noqa: PLC0415 - torch
    from supernets.published_transformers import load_published_transformer  # noqa: PLC0415
    from supernets.transformer_files import read_architecture, replacing, save_transformer  # noqa: PLC0415

    network = read_architecture(architecture)
    published = load_published_transformer(checkpoint, weights=weights)
    cut = cut_out_transformer(published.module, network)
    if output.suffix == ".zip":
        source, target = (
            ((), ()) if dictionaries is None else (read_vocabulary(path).tokens for path in dictionaries)
        )
        archive = transformer_archive(
            cut, network, source=source, target=target, uniform=uniform, merged=merged
        )
        with replacing(output) as partial:
            partial.write_bytes(archive)
    else:
        save_transformer(output, cut, network)
    return CutOut(
        layer_parameters(cut), layer_parameters(published.module), output.stat().st_size, published.read
    )
