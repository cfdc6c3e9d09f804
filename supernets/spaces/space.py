"""A search space as data: a chain of stages, each with widths, depths and choices per block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from latency_tables.dense import Chain, Genes, StageShape
from supernets.errors import InvalidArchitecture
from supernets.spaces.architecture import Architecture, Choice, SpaceRef, StageChoice


@dataclass(frozen=True)
class Stage:
    """One stage of a space.

    family: operator family of its blocks (see `latency_tables.operators.FAMILIES`).
    widths: output channels to choose from. depths: numbers of active blocks to choose from, ascending.
    choices: for every block (as many as the largest depth) what it may be.
    stride: of the first block. residual: whether blocks that keep shape and stride 1 add their input.
    feature_channels: of the feature layer in a `head`, 0 for none. pooled: a 3x3 stride-2 max-pool follows.
    shared: whether the choices of a block share one set of weights (once-for-all) or have their own
    (ProxylessNAS).
    """

    name: str
    family: str
    widths: tuple[int, ...]
    depths: tuple[int, ...] = (1,)
    choices: tuple[tuple[Choice, ...], ...] = ((Choice(1),),)
    stride: int = 1
    activation: str = "relu"
    squeeze_excite: bool = False
    residual: bool = True
    feature_channels: int = 0
    pooled: bool = False
    shared: bool = True

    def __post_init__(self) -> None:
        if (
            len(self.choices) != self.depths[-1]
            or list(self.depths) != sorted(set(self.depths))
            or self.depths[0] < 1
        ):
            raise ValueError(
                f"stage {self.name}: depths must ascend from 1 on and choices must name every block"
            )
        if list(self.widths) != sorted(set(self.widths)):
            raise ValueError(f"stage {self.name}: widths must ascend")

    @property
    def elastic(self) -> bool:
        """Whether anything can be chosen here."""
        return len(self.widths) > 1 or len(self.depths) > 1 or any(len(c) > 1 for c in self.choices)

    @property
    def shape(self) -> StageShape:
        return StageShape(len(self.widths), self.depths, tuple(len(c) for c in self.choices))


@dataclass(frozen=True)
class Space:
    """A search space. `classes` is the size of the last stage's output; another data set gives another one.

    batch_norm_eps: of every batch-norm of its networks.
    """

    name: str
    description: str
    resolutions: tuple[int, ...]
    in_channels: int
    classes: int
    stages: tuple[Stage, ...]
    source: str
    batch_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise ValueError(f"space {self.name}: stages need names of their own")
        if not self.resolutions or list(self.resolutions) != sorted(set(self.resolutions)):
            raise ValueError(f"space {self.name}: resolutions must ascend")
        if not self.stages or self.stages[-1].family != "head" or self.stages[-1].widths != (self.classes,):
            raise ValueError(f"space {self.name}: the last stage must be a head as wide as there are classes")
        before: tuple[int, ...] = (self.in_channels,)
        for stage in self.stages:
            for number, options in enumerate(stage.choices):
                passes = number > 0 or (stage.stride == 1 and before == stage.widths and len(before) == 1)
                if any(choice.zero for choice in options) and not (passes and stage.residual):
                    raise ValueError(
                        f"stage {stage.name}: Zero needs a block of stride 1 that keeps the number of "
                        "channels"
                    )
            before = stage.widths

    @cached_property
    def chain(self) -> Chain:
        return Chain(len(self.resolutions), tuple(stage.shape for stage in self.stages))

    @property
    def ref(self) -> SpaceRef:
        return SpaceRef(self.name, self.classes)

    def count(self) -> int:
        """Distinct sub-networks over all resolutions."""
        return self.chain.count()

    def with_classes(self, classes: int) -> Space:
        """The same space for a data set with that many classes (the head's operator differs)."""
        head = replace(self.stages[-1], widths=(classes,))
        return replace(self, classes=classes, stages=(*self.stages[:-1], head))

    def at(self, resolutions: Sequence[int]) -> Space:
        """The same space with fewer resolutions (those a table covers, say)."""
        if not resolutions or not set(resolutions) <= set(self.resolutions):
            raise InvalidArchitecture(f"resolutions must be some of {list(self.resolutions)}")
        return replace(self, resolutions=tuple(r for r in self.resolutions if r in set(resolutions)))

    def sample(self, generator: np.random.Generator, networks: int) -> list[Architecture]:
        """Architectures with every choice drawn uniformly and independently."""
        return [self.architecture(row) for row in self.chain.sample(generator, networks)]

    def largest(self, resolution: int | None = None) -> Architecture:
        """Most of everything: widest, deepest, last choice of every block."""
        return self._extreme(max, max(self.resolutions) if resolution is None else resolution)

    def smallest(self, resolution: int | None = None) -> Architecture:
        """Least of everything, Zero where a block may be left out."""
        return self._extreme(min, min(self.resolutions) if resolution is None else resolution)

    def _extreme(self, pick: Any, resolution: int) -> Architecture:
        def size(choice: Choice) -> tuple[bool, float, int]:
            return (not choice.zero, choice.expand, choice.kernel)

        stages = tuple(
            StageChoice(pick(s.widths), tuple(pick(c, key=size) for c in s.choices[: pick(s.depths)]))
            for s in self.stages
        )
        return Architecture(self.name, resolution, stages)

    def architecture(self, genes: Sequence[int] | Genes) -> Architecture:
        """The architecture of one row of genes (see `Chain`). Raises InvalidArchitecture."""
        row = [int(g) for g in genes]
        if len(row) != self.chain.genes or any(
            not 0 <= g < n for g, n in zip(row, self.chain.gene_sizes, strict=True)
        ):
            raise InvalidArchitecture(f"not a row of genes of {self.name}")
        stages = []
        for column, stage in zip(self.chain.offsets, self.stages, strict=True):
            depth = stage.depths[row[column + 1]]
            blocks = tuple(stage.choices[b][row[column + 2 + b]] for b in range(depth))
            stages.append(StageChoice(stage.widths[row[column]], blocks))
        return Architecture(self.name, self.resolutions[row[0]], tuple(stages))

    def genes(self, architecture: Architecture) -> Genes:
        """Canonical genes of an architecture, shape (genes,). Raises InvalidArchitecture when it is not in
        this space."""
        if architecture.space != self.name:
            raise InvalidArchitecture(
                f"an architecture of space {architecture.space!r} was given to space {self.name!r}"
            )
        if architecture.resolution not in self.resolutions:
            raise InvalidArchitecture(f"resolution must be one of {list(self.resolutions)}")
        if len(architecture.stages) != len(self.stages):
            raise InvalidArchitecture(f"{self.name} has {len(self.stages)} stages")
        row = [self.resolutions.index(architecture.resolution)]
        for stage, chosen in zip(self.stages, architecture.stages, strict=True):
            if chosen.width not in stage.widths or chosen.depth not in stage.depths:
                raise InvalidArchitecture(
                    f"stage {stage.name}: width must be one of {list(stage.widths)}, number of blocks one "
                    f"of {list(stage.depths)}"
                )
            row += [stage.widths.index(chosen.width), stage.depths.index(chosen.depth)]
            for options, choice in zip(stage.choices, chosen.blocks, strict=False):
                if choice not in options:
                    raise InvalidArchitecture(
                        f"stage {stage.name}: a block must be one of {[c.as_dict() for c in options]}"
                    )
                row.append(options.index(choice))
            row += [0] * (len(stage.choices) - chosen.depth)
        return np.array(row, dtype=np.int64)

    def to_json(self, architecture: Architecture) -> dict[str, Any]:
        """Plain values of the elastic stages, with space and classes; `from_json` reads them back."""
        self.genes(architecture)
        stages = [
            {"name": stage.name, "width": chosen.width, "blocks": [c.as_dict() for c in chosen.blocks]}
            for stage, chosen in zip(self.stages, architecture.stages, strict=True)
            if stage.elastic
        ]
        return {
            "space": self.name,
            "classes": self.classes,
            "resolution": architecture.resolution,
            "stages": stages,
        }

    def from_json(self, data: Mapping[str, Any]) -> Architecture:
        """Read `to_json`'s form. Raises InvalidArchitecture that says which stage is wrong.

        Without `classes`, as versions before 0.2 wrote it, it is taken to be of as many classes as this
        space.
        """
        elastic = [stage for stage in self.stages if stage.elastic]
        if data.get("classes", self.classes) != self.classes:
            raise InvalidArchitecture(
                f"an architecture of other classes was given; {self.name} has {self.classes} here"
            )
        given = data.get("stages")
        if data.get("space") != self.name or not isinstance(given, list) or len(given) != len(elastic):
            raise InvalidArchitecture(
                f"wanted space {self.name!r} and its stages {[s.name for s in elastic]}, in that order"
            )
        resolution = data.get("resolution")
        if type(resolution) is not int:
            raise InvalidArchitecture(f"resolution must be one of {list(self.resolutions)}")
        chosen = iter(given)
        stages = []
        for stage in self.stages:
            if stage.elastic:
                stages.append(_stage_from_json(stage, next(chosen)))
            else:
                stages.append(StageChoice(stage.widths[0], tuple(c[0] for c in stage.choices)))
        architecture = Architecture(self.name, resolution, tuple(stages))
        self.genes(architecture)
        return architecture


def _stage_from_json(stage: Stage, data: Any) -> StageChoice:
    wrong = InvalidArchitecture(
        f"stage {stage.name}: wanted "
        f'{{"name", "width", "blocks": [{{"kernel", "expand"}} or {{"zero": true}}]}}'
    )
    if not isinstance(data, dict) or set(data) != {"name", "width", "blocks"} or data["name"] != stage.name:
        raise wrong
    width, blocks = data["width"], data["blocks"]
    if type(width) is not int or not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise wrong
    known = {tuple(sorted(c.as_dict().items())): c for options in stage.choices for c in options}
    try:
        return StageChoice(width, tuple(known[tuple(sorted(b.items()))] for b in blocks))
    except (KeyError, TypeError) as error:
        raise wrong from error
