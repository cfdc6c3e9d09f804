"""What the blocks of a network are besides what their operators say: lite residuals beside them, another
normalisation inside.

It travels with the weights, in the header of their file, so that whoever reads them builds the network that
they are of. Both are of TinyTL (Cai et al., NeurIPS 2020). No operator of a latency table has them: networks
with either are priced by measuring them whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

BATCH: Final = "batch"
GROUP: Final = "group"
KEY: Final = "form"  # in the header of a safetensors file


@dataclass(frozen=True)
class NetworkForm:
    """lite: a lite residual module beside every block of a family that has one (`supernets.layers.lite`).
    norm: `batch`; or `group`, GroupNorm after convolutions whose weights are standardised, for weights that
    were trained so (`supernets.layers.group_norm`). Raises ValueError for another norm."""

    lite: bool = False
    norm: str = BATCH

    def __post_init__(self) -> None:
        if self.norm not in (BATCH, GROUP):
            raise ValueError(f"norm is {BATCH} or {GROUP}, not {self.norm!r}")

    def header(self) -> dict[str, str]:
        """What the header of a file of weights says; nothing of the usual form."""
        return {} if self == USUAL else {KEY: json.dumps(asdict(self))}

    @classmethod
    def of_header(cls, header: Mapping[str, str] | None) -> NetworkForm:
        """The form that a file of weights says. Raises ValueError, TypeError for one that says nonsense."""
        text = (header or {}).get(KEY)
        return USUAL if text is None else cls(**json.loads(text))


USUAL: Final = NetworkForm()
