"""Networks cut out of transformers that others published. For the command line on any machine; no service is
asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CutOut:
    """parameters: of the network's layers; whole: of the super network's layers. read: what of the file."""

    parameters: int
    whole: int
    size_bytes: int
    read: str


def cut_out_published(
    checkpoint: Path, architecture: Path, output: Path, *, weights: str | None = None
) -> CutOut:
    """Write one network of a published checkpoint as a file of its own.

    Raises InvalidCheckpoint, InvalidArchitecture.
    """
    from supernets.encoder_decoder import cut_out_transformer, layer_parameters  # noqa: PLC0415 - torch
    from supernets.published_transformers import load_published_transformer  # noqa: PLC0415
    from supernets.transformer_files import read_architecture, save_transformer  # noqa: PLC0415

    network = read_architecture(architecture)
    published = load_published_transformer(checkpoint, weights=weights)
    cut = cut_out_transformer(published.module, network)
    save_transformer(output, cut, network)
    return CutOut(
        layer_parameters(cut), layer_parameters(published.module), output.stat().st_size, published.read
    )
