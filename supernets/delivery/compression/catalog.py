"""Which compression passes there are, what each is for, and in which order they are applied.

No torch here: the service asks it too. What a pass does to a network stands in
`supernets.delivery.compression.compressed`. See `docs/compression.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from supernets.errors import InvalidCompression

LATENCY, SIZE = "latency", "size"
MOST_LOST: Final = 0.01
"""Of the metric's range on validation data: what a pass may cost before it is left out."""


@dataclass(frozen=True)
class CompressionPass:
    """One pass. does, fitted_on, control: sentences for the card. gains: `latency` (kept where the network is
    measured faster) or `size` (kept where the deflated file is smaller). strength_is: what a strength says;
    strengths: those that are tried, the weakest first. gives_levels: leaves weights with few values, so two
    such passes have nothing to do for each other."""

    name: str
    does: str
    gains: str
    strength_is: str
    strengths: tuple[float, ...]
    fitted_on: str
    control: str
    gives_levels: bool = False


PASSES: Final[dict[str, CompressionPass]] = {
    one.name: one
    for one in (
        CompressionPass(
            name="low-rank",
            does=(
                "1x1 convolutions and linear layers are split in two through fewer channels, where their "
                "outputs vary in few directions"
            ),
            gains=LATENCY,
            strength_is="share of the multiply-adds of these layers that is kept",
            strengths=(0.85, 0.7, 0.55),
            fitted_on="outputs of each layer on samples of the train split",
            control="the same ranks from the weights alone (truncated singular value decomposition)",
        ),
        CompressionPass(
            name="shared-weights",
            does="the weights of a layer share a codebook, which the file holds with a byte for each weight",
            gains=SIZE,
            strength_is="bits of a codebook's index",
            strengths=(8, 6, 5, 4),
            fitted_on="the weights, each by the curvature of the loss on samples of the train split",
            control="as many levels at equal distances",
            gives_levels=True,
        ),
        CompressionPass(
            name="mixed-bits",
            does=(
                "weights of each layer lie on levels at equal distances, with as many bits as it needs; bits "
                "are simulated, the file holds a byte for each weight"
            ),
            gains=SIZE,
            strength_is="mean bits of a weight",
            strengths=(6, 5, 4, 3),
            fitted_on="the curvature of the loss by each weight on samples of the train split",
            control="the same bits for every layer",
            gives_levels=True,
        ),
    )
}
"""In the order in which they are applied, whatever the order they are asked for in."""


@dataclass(frozen=True)
class AppliedPass:
    """A pass with its strength. control: what is put beside the pass, instead of it."""

    name: str
    strength: float
    control: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values; part of the keys of steps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError for other fields."""
        return cls(**data)


def ordered(names: Sequence[str]) -> tuple[str, ...]:
    """The passes of these names as they are applied. Raises InvalidCompression for one that is not there, is
    named twice, or has nothing to do beside another."""
    if not set(names) <= PASSES.keys():
        raise InvalidCompression(f"there is no such compression pass; there are {', '.join(PASSES)}")
    if len(set(names)) < len(names):
        raise InvalidCompression("each compression pass is named once: its strength is found by trial")
    levels = [name for name in names if PASSES[name].gives_levels]
    if len(levels) > 1:
        raise InvalidCompression(
            f"{' and '.join(sorted(levels))} each leave a layer's weights few values: ask for one of them"
        )
    return tuple(name for name in PASSES if name in names)
