"""Architectures the way the published code and its data sets write them: lists of depths, kernel sizes,
expand ratios.

Once-for-all writes `d` per stage and `ks`, `e` per block, blocks that are not active included. For
ResNet50-D, `d` counts blocks beyond the least of each stage and begins with the stem (2 keeps its skippable
convolution), and `w` holds indices of width multipliers: inside the stem, after the stem, then per stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from supernets.errors import InvalidArchitecture
from supernets.spaces.architecture import Architecture, StageChoice
from supernets.spaces.catalog import RESNET_WIDTHS
from supernets.spaces.choices import Choice
from supernets.spaces.space import Space, Stage


@dataclass(frozen=True)
class Lists:
    """depth: per stage. kernel, expand: per block, stage by stage. width: ResNet50-D only, indices of
    multipliers."""

    depth: tuple[int, ...]
    kernel: tuple[int, ...]
    expand: tuple[float, ...]
    width: tuple[int, ...] = ()


def architecture_from_lists(
    space: Space,
    depth: Sequence[int],
    kernel: Sequence[int] | None,
    expand: Sequence[float],
    resolution: int,
    width: Sequence[int] = (),
) -> Architecture:
    """The architecture that published lists describe. Raises InvalidArchitecture.

    kernel: None where the space has one kernel size only. width: given for ResNet50-D.
    """
    searched = searched_stages(space)
    blocks = sum(len(stage.choices) for stage in searched)
    resnet = searched[0].family == "bottleneck"
    kernel = [3] * blocks if kernel is None else kernel
    if len(depth) != len(searched) + resnet or len(kernel) != blocks or len(expand) != blocks:
        raise InvalidArchitecture(
            f"{space.name} wants {len(searched) + resnet} depths and {blocks} kernel sizes and expand ratios "
            f"(inactive blocks included), not {len(depth)}, {len(kernel)} and {len(expand)}"
        )
    if len(width) != (len(searched) + 2 if resnet else 0) or any(
        not 0 <= w < len(RESNET_WIDTHS) for w in width
    ):
        raise InvalidArchitecture(
            f"{space.name} wants {len(searched) + 2 if resnet else 0} width indices from 0 to 2"
        )
    given = iter(zip(kernel, expand, strict=True))
    depths = iter(depth[1:] if resnet else depth)
    stages = []
    for stage in space.stages:
        if stage in searched:
            deep = next(depths) + (stage.depths[0] if resnet else 0)
            blocks_given = [next(given) for _ in stage.choices]
            stages.append(StageChoice(stage.widths[0], _chosen(stage, blocks_given[:deep], deep)))
        else:
            stages.append(StageChoice(stage.widths[0], tuple(options[0] for options in stage.choices)))
    if resnet:
        stages = _with_widths(space, stages, depth[0], width)
    architecture = Architecture(space.name, resolution, tuple(stages))
    space.genes(architecture)
    return architecture


def lists_of(space: Space, architecture: Architecture) -> Lists:
    """The published lists of an architecture; blocks that are not active are written as the first choice."""
    space.genes(architecture)
    resnet = searched_stages(space)[0].family == "bottleneck"
    depth: list[int] = []
    blocks: list[Choice] = []
    for stage, chosen in _pairs(space, architecture):
        depth.append(chosen.depth - (stage.depths[0] if resnet else 0))
        blocks += chosen.blocks
        blocks += [options[0] for options in stage.choices[chosen.depth :]]
    width: tuple[int, ...] = ()
    if resnet:
        depth.insert(0, 2 if architecture.stages[0].depth == 2 else 0)
        stem = space.stages[0].widths
        inside = 2 if architecture.stages[0].width == stem[-1] else 0
        rest = zip(space.stages[1:-1], architecture.stages[1:-1], strict=True)
        width = (inside, *(stage.widths.index(chosen.width) for stage, chosen in rest))
    kernels = tuple(cast(int, c["kernel"]) for c in blocks)
    expands = tuple(cast(float, c["expand"]) for c in blocks)
    return Lists(tuple(depth), kernels, expands, width)


def searched_stages(space: Space) -> tuple[Stage, ...]:
    """The stages the published lists speak of. Raises InvalidArchitecture for a space they cannot
    describe."""
    found = tuple(stage for stage in space.stages if any(len(options) > 1 for options in stage.choices))
    if not found or any(choice.zero for stage in found for options in stage.choices for choice in options):
        raise InvalidArchitecture(
            f"{space.name} cannot be written as lists of depths, kernel sizes and expand ratios"
        )
    return found


def _pairs(space: Space, architecture: Architecture) -> Iterator[tuple[Stage, StageChoice]]:
    searched = searched_stages(space)
    for stage, chosen in zip(space.stages, architecture.stages, strict=True):
        if stage in searched:
            yield stage, chosen


def _chosen(stage: Stage, blocks: Sequence[tuple[int, float]], depth: int) -> tuple[Choice, ...]:
    """The stage's own choices that these (kernel, expand) pairs name."""
    if depth not in stage.depths:
        raise InvalidArchitecture(f"stage {stage.name}: number of blocks must be one of {list(stage.depths)}")
    chosen = tuple(Choice(kernel=kernel, expand=expand) for kernel, expand in blocks)
    for options, choice in zip(stage.choices, chosen, strict=False):
        if choice not in options:
            raise InvalidArchitecture(
                f"stage {stage.name}: a block must be one of {[c.as_dict() for c in options]}"
            )
    return chosen


def _with_widths(
    space: Space, stages: Sequence[StageChoice], stem_depth: int, width: Sequence[int]
) -> list[StageChoice]:
    """Widths of ResNet50-D by multiplier; the two multipliers that round to one width inside the stem are one
    choice."""
    stem, rest = space.stages[0], space.stages[1:-1]
    if stem_depth not in (0, 1, 2):
        raise InvalidArchitecture(
            "the depth of the stem must be 0, 1 or 2; 2 keeps its skippable convolution"
        )
    inside = StageChoice(
        stem.widths[-1 if width[0] == 2 else 0],
        tuple(c[0] for c in stem.choices[: 2 if stem_depth == 2 else 1]),
    )
    after = [
        StageChoice(stage.widths[w], chosen.blocks)
        for stage, chosen, w in zip(rest, stages[1:-1], width[1:], strict=True)
    ]
    return [inside, *after, stages[-1]]
