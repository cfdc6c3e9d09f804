"""Mean and deviation that weights expect of their inputs.

They travel with the weights, in the header of their file: batch-norm statistics that are computed again
absorb a shift, but no scale of single channels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from latency_tables import strict_json
from supernets.data.steps import Floats, Normalise

KEY: Final = "normalisation"  # in the header of a safetensors file
_LONGEST: Final = 100_000_000  # bytes of a header, as safetensors has it


@dataclass(frozen=True)
class Normalisation:
    """One mean and one deviation for each channel, in raw values 0 to `highest`. Raises InvalidPreprocessing
    for others than finite ones, and for a deviation or a highest value of 0."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    highest: float = 255.0

    def __post_init__(self) -> None:
        Normalise((*self.mean, 0.0), (*self.deviation, self.highest))

    @property
    def values(self) -> tuple[Floats, Floats]:
        """(mean, deviation), (C,) each."""
        return np.array(self.mean, dtype=np.float32), np.array(self.deviation, dtype=np.float32)

    def in_range(self, highest: float) -> Normalisation:
        """The same for pictures whose white is another number: the digits of scikit-learn end at 16."""
        scale = highest / self.highest
        mean, deviation = (tuple(scale * one for one in values) for values in (self.mean, self.deviation))
        return self if scale == 1 else Normalisation(mean, deviation, highest)

    def with_channels(self, channels: int) -> Normalisation:
        """For inputs of so many channels: a grey picture has the mean of the colours', three grey channels
        have it each."""
        if len(self.mean) == channels:
            return self
        mean, deviation = float(np.mean(self.mean)), float(np.mean(self.deviation))
        return Normalisation((mean,) * channels, (deviation,) * channels, self.highest)

    def header(self) -> dict[str, str]:
        """What the header of a file of weights says."""
        return {KEY: json.dumps(asdict(self))}


IMAGENET: Final = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""What published checkpoints of ImageNet expect: 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 of 255."""


def normalisation_in(header: Mapping[str, str] | None) -> Normalisation | None:
    """What the header of a file of weights says; None for a file that says nothing, as those of before do.
    Raises ValueError, InvalidPreprocessing for one that says nonsense."""
    text = (header or {}).get(KEY)
    if text is None:
        return None
    said = strict_json.loads(text)
    mean, deviation = (tuple(map(float, said[name])) for name in ("mean", "deviation"))
    return Normalisation(mean, deviation, float(said["highest"]))


def header_of(weights: Path | bytes) -> dict[str, str]:
    """What a safetensors file says of itself, without its tensors. Raises OSError, ValueError."""
    with io.BytesIO(weights) if isinstance(weights, bytes) else weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST:
            raise ValueError(f"its header is said to have {length} bytes")
        said = json.loads(file.read(length)).get("__metadata__") or {}
    return {str(name): str(value) for name, value in said.items()}
