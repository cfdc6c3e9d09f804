"""A search space of networks that hear: 256 or 512 samples of sound, five words."""

from __future__ import annotations

from latency_tables.inputs import SIZE, InputSpec
from supernets.spaces.choices import grid
from supernets.spaces.space import Space, Stage

TONES = Space(
    name="tones",
    description="convolutions over time, elastic in kernel, width and depth",
    resolutions=(256, 512),
    inputs=(InputSpec("input", (1, SIZE)),),
    classes=5,
    stages=(
        Stage("stem", "conv1d", (8,), choices=grid(1, kernel=(5, 9, 17)), settings={"stride": 4}),
        Stage(
            "body", "conv1d", (8, 16), depths=(1, 2), choices=grid(2, kernel=(3, 5)), settings={"stride": 2}
        ),
        Stage("top", "conv1d", (24,), choices=grid(1, kernel=(3, 5)), settings={"stride": 2}),
        Stage("head", "tone_head", (5,)),
    ),
    source="nobody",
)
