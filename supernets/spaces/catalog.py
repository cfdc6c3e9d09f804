"""Every built-in search space, by name. `docs/add_a_space.md` says how to add one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from latency_tables.errors import UnknownSpace
from latency_tables.operators import make_divisible
from supernets.spaces.architecture import Choice
from supernets.spaces.space import Space, Stage

_OFA = "Once-for-All (Cai et al., ICLR 2020)"


def kernel_expand(kernels: Sequence[int], expands: Sequence[float], blocks: int) -> tuple[tuple[Choice, ...], ...]:
    """The same kernel x expand choices for every block of a stage."""
    options = tuple(Choice(k, e) for k, e in product(kernels, expands))
    return (options,) * blocks


def _mbv3(name: str, description: str, resolutions: tuple[int, ...], width: float, source: str = _OFA) -> Space:
    """MobileNetV3 with elastic depth, kernel size and expand ratio (once-for-all, `ofa_mbv3`)."""
    rows = (
        (24, 2, "relu", False),
        (40, 2, "relu", True),
        (80, 2, "hswish", False),
        (112, 1, "hswish", True),
        (160, 2, "hswish", True),
    )
    first = make_divisible(16 * width)
    stages = [
        Stage("stem", "conv", (first,), choices=((Choice(3),),), stride=2, activation="hswish"),
        Stage("first", "mbconv", (first,), choices=((Choice(3),),)),
    ]
    for number, (channels, stride, activation, squeeze_excite) in enumerate(rows, 1):
        stages.append(
            Stage(
                f"stage{number}",
                "mbconv",
                (make_divisible(channels * width),),
                depths=(2, 3, 4),
                choices=kernel_expand((3, 5, 7), (3, 4, 6), 4),
                stride=stride,
                activation=activation,
                squeeze_excite=squeeze_excite,
            )
        )
    stages.append(Stage("final", "conv", (make_divisible(960 * width),), activation="hswish", residual=False))
    stages.append(Stage("head", "head", (1000,), activation="hswish", feature_channels=make_divisible(1280 * width)))
    return Space(name, description, resolutions, 3, 1000, tuple(stages), source)


def _digits_mbv3() -> Space:
    """A MobileNetV3-like space for 8 to 16 pixels: small enough to train in minutes on two cores."""
    rows = ((16, 1, "relu", False), (32, 2, "hswish", True), (48, 2, "hswish", True))
    stages = [Stage("stem", "conv", (16,), choices=((Choice(3),),), activation="hswish", residual=False)]
    for number, (channels, stride, activation, squeeze_excite) in enumerate(rows, 1):
        stages.append(
            Stage(
                f"stage{number}",
                "mbconv",
                (channels,),
                depths=(1, 2, 3),
                choices=kernel_expand((3, 5, 7), (2, 3, 4), 3),
                stride=stride,
                activation=activation,
                squeeze_excite=squeeze_excite,
            )
        )
    stages.append(Stage("final", "conv", (96,), activation="hswish", residual=False))
    stages.append(Stage("head", "head", (10,), activation="hswish", feature_channels=128))
    return Space(
        "digits-mbv3", "MobileNetV3-like, 8 to 16 px, one channel", (8, 12, 16), 1, 10, tuple(stages), _OFA + ", scaled down"
    )


_OFA_RESOLUTIONS = tuple(range(128, 225, 4))

SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        _digits_mbv3(),
        _mbv3("ofa-mbv3", "MobileNetV3, width 1.0, ImageNet sizes", _OFA_RESOLUTIONS, 1.0),
        _mbv3("ofa-mbv3-w1.2", "MobileNetV3, width 1.2, ImageNet sizes", _OFA_RESOLUTIONS, 1.2),
    )
}


def space_named(name: str) -> Space:
    """The space of that name. Raises UnknownSpace that lists the known ones."""
    try:
        return SPACES[name]
    except KeyError:
        raise UnknownSpace(f"unknown search space; known are {', '.join(sorted(SPACES))}") from None
