"""A search space as data: a chain of stages, each with widths, depths and choices per block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Self, cast

import numpy as np

from latency_tables.dense import KEEPS, Chain, Genes, StageShape
from latency_tables.inputs import SIZE, InputSpec
from latency_tables.named import Named, Value
from latency_tables.operators import Block, Operator
from latency_tables.operators.catalog import family_named
from latency_tables.operators.operator import FLOAT
from supernets.errors import InvalidArchitecture
from supernets.spaces.architecture import Architecture, SpaceRef, StageChoice
from supernets.spaces.choices import KEPT, PRECISION, Choice

if TYPE_CHECKING:
    from supernets.spaces.transformer_space import Sentence

MOST_WIDTHS: Final = 8
"""Inside a block, with those that its own choices have."""
LANES: Final = {FLOAT: 0, "int8": 1, "float16": 2}
"""Precisions in the order of the lanes of a chain (`latency_tables.dense`); what goes in is float32."""

Read = tuple[Named, tuple[int, ...]]
"""State and output shape (one sample) of the stage before, for the blocks of a stage that reads it."""
NO_READ: Final[Read] = (Named(), ())


@dataclass(frozen=True)
class Stage:
    """One stage of a space.

    family: operator family of its blocks (see `latency_tables.operators.catalog.FAMILIES`).
    widths: of its output, to choose from: channels of an image. depths: numbers of active blocks to choose
    from, ascending.
    choices: for every block (as many as the largest depth) what it may be; dimensions that are left out have
    the family's default. settings: of the family, such as `{"stride": 2, "activation": "relu6"}`; the rest as
    it has them.
    boundary: what else the rest of a network depends on, names with the values to choose from, such as
    `(("precision", ("float32", "int8")),)`; the state of the stage is a width with one value of each.
    shared: whether the choices of a block share one set of weights (once-for-all) or have their own
    (ProxylessNAS).
    reads: whether every block, not the first alone, is told state and output of the stage before: a
    decoder's layers read the encoder's output.
    """

    name: str
    family: str
    widths: tuple[int, ...]
    depths: tuple[int, ...] = (1,)
    choices: tuple[tuple[Choice, ...], ...] = ((Choice(),),)
    settings: Mapping[str, Value] = Named()
    shared: bool = True
    boundary: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    reads: bool = False

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
        if not {name for name, _ in self.boundary} <= set(self.operators.boundaries):
            known = ", ".join(self.operators.boundaries) or "nothing"
            raise ValueError(f"stage {self.name}: beside the width, a block of {self.family} leaves {known}")
        possible = self.operators.settings
        if not set(self.settings) <= set(possible):
            raise ValueError(
                f"stage {self.name}: settings of {self.family} are {', '.join(possible) or 'none'}"
            )
        defaults = {dimension.name: dimension.default for dimension in self.operators.dimensions}
        allowed = {*defaults, PRECISION, *((KEPT,) if self.operators.prunes else ())}
        if any(not set(c) <= allowed for options in self.choices for c in options if not c.zero):
            raise ValueError(
                f"stage {self.name}: choices of {self.family} are of {', '.join(defaults) or 'nothing'}"
            )
        computed = self.operators.precisions
        if any(c.precision not in computed for options in self.choices for c in options):
            raise ValueError(f"stage {self.name}: {self.family} is computed in {' or '.join(computed)}")
        # Choices are compared by value: one that leaves out a default must equal one that writes it.
        whole = tuple(
            tuple(
                c
                if c.zero
                else Choice({**c.at(FLOAT), **{n: v for n, v in defaults.items() if n not in c}}).at(
                    c.precision
                )
                for c in options
            )
            for options in self.choices
        )
        object.__setattr__(self, "choices", whole)
        object.__setattr__(self, "settings", Named({**possible, **self.settings}))

    @property
    def operators(self) -> type[Operator]:
        """The family of its blocks. Raises InvalidOperator for one that is not in the catalog."""
        return family_named(self.family)

    @cached_property
    def states(self) -> tuple[Named, ...]:
        """What the rest of a network may depend on: every width with every value of the boundary, which
        changes faster."""
        names = [name for name, _ in self.boundary]
        others = [dict(zip(names, values, strict=True)) for values in product(*(v for _, v in self.boundary))]
        return tuple(Named({"width": width, **other}) for width in self.widths for other in others)

    def block(
        self, number: int, shape: tuple[int, ...], given: Named, state: Named, choice: Choice, read: Read
    ) -> Block:
        """Block `number` of the stage with an input of that shape (one sample) and state, leaving a state."""
        settings = cast(Named, self.settings)
        last = number == len(self.choices) - 1
        return Block(shape, given, state, number == 0, last, choice, settings, *read)

    def only(self, state: Named) -> Stage:
        """The stage in that state alone."""
        boundary = tuple((name, (state[name],)) for name, _ in self.boundary)
        return replace(self, widths=(cast(int, state["width"]),), boundary=boundary)

    @cached_property
    def _parts(self) -> tuple[tuple[int, Named], ...]:
        """(width, what else) of every state; they are asked for with every network."""
        return tuple(
            (cast(int, state["width"]), Named({name: state[name] for name, _ in self.boundary}))
            for state in self.states
        )

    @cached_property
    def _numbers(self) -> tuple[dict[tuple[int, Named], int], tuple[dict[Choice, int], ...]]:
        """(number of every state by its parts, number of every choice of each block)."""
        blocks = tuple({choice: c for c, choice in enumerate(options)} for options in self.choices)
        return {parts: number for number, parts in enumerate(self._parts)}, blocks

    @cached_property
    def _made(self) -> dict[tuple[Any, ...], tuple[Operator, ...]]:
        return {}

    def number_of(self, chosen: StageChoice) -> int | None:
        """Which of `states` the stage of an architecture is in; None for none of them."""
        return self._numbers[0].get((chosen.width, chosen.boundary))

    def choice_number(self, block: int, choice: Choice) -> int | None:
        """Which of `choices[block]` it is; None for none of them."""
        return self._numbers[1][block].get(choice)

    def operators_of(
        self,
        number: int,
        shape: tuple[int, ...],
        given: Named,
        state: Named,
        choice: Choice,
        read: Read = NO_READ,
    ) -> tuple[Operator, ...]:
        """Operators of block `number`, made once; none where it is left out. read: of a stage that reads."""
        key = (number, shape, given, state, choice, read)
        found = self._made.get(key)
        if found is None:
            block = self.block(number, shape, given, state, choice.at(FLOAT), read)
            made = () if choice.zero else self.operators.of_block(block)
            found = self._made[key] = tuple(op.at(choice.precision) for op in made)
        return found

    def chosen(self, number: int, blocks: tuple[Choice, ...]) -> StageChoice:
        """The stage of an architecture in state `number`, with these active blocks."""
        width, boundary = self._parts[number]
        return StageChoice(width, blocks, boundary)

    def ordered(self, number: int, name: str) -> list[Value]:
        """Values of a dimension among what block `number` may be, from least to most: numbers as they ascend,
        others in the order in which the space names them."""
        values = list(dict.fromkeys(c[name] for c in self.choices[number] if not c.zero))
        return values if any(isinstance(value, str) for value in values) else sorted(values)

    def rank(self, number: int, choice: Choice) -> tuple[float, ...]:
        """How much a choice of block `number` is: left out least, then by the family's dimensions, the last
        above all, then by the share of channels that it keeps."""
        if choice.zero:
            return (0,)
        names = [dimension.name for dimension in reversed(self.operators.dimensions)]
        return (1, *(self.ordered(number, name).index(choice[name]) for name in names), choice.kept)

    @property
    def elastic(self) -> bool:
        """Whether anything can be chosen here."""
        return len(self.states) > 1 or len(self.depths) > 1 or any(len(c) > 1 for c in self.choices)

    @property
    def shape(self) -> StageShape:
        """Its sizes where every block of the space is in float32."""
        return StageShape(len(self.states), self.depths, tuple(len(c) for c in self.choices))

    @property
    def carrying(self) -> StageShape:
        """Its sizes where blocks differ in precision: the lane of a choice is the precision it leaves."""
        lanes = tuple(tuple(KEEPS if c.zero else LANES[c.precision] for c in o) for o in self.choices)
        return replace(self.shape, lanes=lanes)

    @cached_property
    def precisions(self) -> tuple[str, ...]:
        """Those that some block may be computed in."""
        found = {c.precision for options in self.choices for c in options if not c.zero}
        return tuple(precision for precision in LANES if precision in found)

    def in_precisions(self, precisions: Sequence[str]) -> Stage:
        """The stage with every choice in each of these precisions that its family can be computed in."""
        possible = [p for p in precisions if p in self.operators.precisions]
        choices = tuple(
            tuple(dict.fromkeys(c.at(p) for p in possible or [FLOAT] for c in o)) for o in self.choices
        )
        return replace(self, choices=choices)

    @cached_property
    def pruned(self) -> bool:
        """Whether some block may keep a share of its middle channels."""
        return any(KEPT in c for options in self.choices for c in options)

    def with_all_channels(self) -> Stage:
        """The stage without the choices that keep a share of their channels."""
        return replace(self, choices=tuple(tuple(dict.fromkeys(c.whole for c in o)) for o in self.choices))

    def with_pruning(self, widths_before: Sequence[int]) -> Stage:
        """The stage with further widths inside its blocks, each a share of the next wider one.

        widths_before: channels that the stage before may give. Multiples of 8 from half the least width to
        the greatest, `MOST_WIDTHS` with those there are: each is rows to measure. After its own choices, in
        each precision.
        """
        if not self.operators.prunes:
            return self
        plain = self.with_all_channels().in_precisions((FLOAT,))
        choices = tuple(
            (*options, *plain._narrower(number, self.widths if number else widths_before))
            for number, options in enumerate(plain.choices)
        )
        return replace(plain, choices=choices).in_precisions(self.precisions)

    def _narrower(self, number: int, widths_in: Sequence[int]) -> list[Choice]:
        """What keeps a share of the channels of what block `number` may be."""
        pairs = list(product(widths_in, self.states))

        def channels(choice: Choice) -> list[int]:
            """Its prunable channels behind every width and in every state, the widest last."""
            made = (self.operators_of(number, (w, 1, 1), Named(), s, choice) for w, s in pairs)
            return [operators[0].prunable_channels if operators else 0 for operators in made]

        options = self.choices[number]
        given = {choice: channels(choice) for choice in options if not choice.zero}
        known = sorted({found[-1] for found in given.values()} - {0})
        if not known:
            return []
        between = [n for n in range(8, known[-1], 8) if 2 * n >= known[0] and n not in known]
        chosen: list[int] = []
        # One by one the width that is furthest, as a ratio, from those there are.
        while between and len(known) + len(chosen) < MOST_WIDTHS:
            there = np.log([*known, *chosen])
            chosen.append(max(between, key=lambda n: float(np.abs(np.log(n) - there).min())))
            between.remove(chosen[-1])
        made = []
        for choice, whole in given.items():
            below = max((n for n in known if n < whole[-1]), default=0)
            for kept in sorted(chosen):
                if not below < kept < whole[-1]:
                    continue
                narrow = Choice({**choice, KEPT: round(kept / whole[-1], 3)})
                # Where it would be as wide as the input, a block of the family has no expansion.
                if all(0 < n < w for n, w in zip(channels(narrow), whole, strict=True)):
                    made.append(narrow)
        return made


@dataclass(frozen=True)
class Space:
    """A search space. `classes` is the size of the last stage's output; another data set gives another one.

    resolutions: sizes of the input to choose from: the side of a picture in pixels, samples of a sound,
    tokens of a sentence. inputs: what its networks are fed with, `SIZE` in a shape standing for that size;
    the first stage reads the first one. batch_norm_eps: of every batch-norm of its networks. network: the
    class of its supernet, `module:name` (`supernets.networks.build_supernet`). generation: what a latency is
    of where networks write sentences; None where it is of one run.
    """

    name: str
    description: str
    resolutions: tuple[int, ...]
    inputs: tuple[InputSpec, ...]
    classes: int
    stages: tuple[Stage, ...]
    source: str
    batch_norm_eps: float = 1e-5
    network: str = "supernets.network:Supernet"
    generation: Sentence | None = None

    def __post_init__(self) -> None:
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise ValueError(f"space {self.name}: stages need names of their own")
        if not self.inputs or len({spec.name for spec in self.inputs}) != len(self.inputs):
            raise ValueError(f"space {self.name}: networks need inputs, each with a name of its own")
        if not self.resolutions or list(self.resolutions) != sorted(set(self.resolutions)):
            raise ValueError(f"space {self.name}: resolutions must ascend")
        if (
            not self.stages
            or not self.stages[-1].operators.closes
            or self.stages[-1].widths != (self.classes,)
        ):
            raise ValueError(f"space {self.name}: the last stage must be a head as wide as there are classes")
        before: tuple[Named, ...] = ()
        for stage in self.stages:
            strange = {name for state in before for name in state} - {"width", *stage.operators.boundaries}
            if strange:
                raise ValueError(
                    f"stage {stage.name}: a block of {stage.family} does not know "
                    f"{', '.join(sorted(strange))} of the stage before"
                )
            for number, options in enumerate(stage.choices):
                # A first block may have to turn one state into another, which a block left out cannot.
                keeps = number > 0 or (len(before) == 1 and before == stage.states)
                passes = keeps and stage.operators.optional(number == 0, cast(Named, stage.settings))
                if any(choice.zero for choice in options) and not passes:
                    raise ValueError(
                        f"stage {stage.name}: Zero needs a block that keeps shape and width and "
                        "has a residual connection"
                    )
            before = stage.states

    def inputs_at(self, resolution: int) -> tuple[InputSpec, ...]:
        """What a network of that resolution is fed with, one sample."""
        return tuple(spec.at(resolution) for spec in self.inputs)

    def input_shape(self, resolution: int) -> tuple[int, ...]:
        """Of the input that its first stage reads, one sample at that resolution."""
        return self.inputs[0].at(resolution).shape

    @property
    def image_channels(self) -> int | None:
        """Channels of its pictures; None where its input is no picture."""
        shape = self.inputs[0].shape
        return shape[0] if len(self.inputs) == 1 and shape[1:] == (SIZE, SIZE) else None

    @cached_property
    def chain(self) -> Chain:
        carrying = self.precisions != (FLOAT,)
        stages = tuple(stage.carrying if carrying else stage.shape for stage in self.stages)
        return Chain(len(self.resolutions), stages)

    @cached_property
    def precisions(self) -> tuple[str, ...]:
        """Those that some of its blocks may be computed in."""
        found = {precision for stage in self.stages for precision in stage.precisions}
        return tuple(precision for precision in LANES if precision in found)

    def with_precisions(self, precisions: Sequence[str]) -> Space:
        """The same networks with the precision of every block to choose: each choice in each of these.

        The first choices of a block are those in the first of the precisions, in their order here; a block
        that is left out has none. Raises InvalidArchitecture for precisions that do not exist, and where the
        last stage, which gives float32 whatever it is computed in, has several blocks.
        """
        if not precisions or not set(precisions) <= set(LANES):
            raise InvalidArchitecture(f"precisions are {', '.join(LANES)}, one of them at least")
        if len(self.stages[-1].choices) > 1:
            raise InvalidArchitecture(f"{self.name}: a last stage of several blocks is in float32 only")
        return replace(self, stages=tuple(stage.in_precisions(precisions) for stage in self.stages))

    @cached_property
    def pruned(self) -> bool:
        """Whether some of its blocks may keep a share of their middle channels."""
        return any(stage.pruned for stage in self.stages)

    def with_pruning(self) -> Space:
        """The same networks with the width inside every block to choose: choices that keep a share (`kept`)
        of their middle channels, in multiples of 8.

        A block's own choices stay the first ones. Raises InvalidArchitecture where no block has channels that
        can be cut out.
        """
        return self._with_pruning

    @cached_property
    def _with_pruning(self) -> Space:
        widths: Sequence[int] = (self.image_channels or 0,)
        stages = []
        for stage in self.stages:
            stages.append(stage.with_pruning(widths))
            widths = stage.widths
        found = replace(self, stages=tuple(stages))
        if not found.pruned:
            raise InvalidArchitecture(f"{self.name}: no block has channels that can be cut out")
        return found

    def with_all_channels(self) -> Space:
        """The same without networks that channels are cut out of."""
        return replace(self, stages=tuple(stage.with_all_channels() for stage in self.stages))

    def unpruned(self, architecture: Architecture) -> Architecture:
        """The network that another is pruned from: with all channels of its blocks."""
        stages = tuple(
            replace(stage, blocks=tuple(choice.whole for choice in stage.blocks))
            for stage in architecture.stages
        )
        return replace(architecture, stages=stages)

    def in_float(self, architecture: Architecture) -> Architecture:
        """The same network with every block in float32."""
        stages = tuple(
            replace(stage, blocks=tuple(choice.at(FLOAT) for choice in stage.blocks))
            for stage in architecture.stages
        )
        return replace(architecture, stages=stages)

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

    def generating(self, asked: Mapping[str, int | None]) -> Space:
        """The space priced for another sentence. Raises InvalidArchitecture where networks write none."""
        raise InvalidArchitecture(f"networks of {self.name} write no sentences: leave `generation` out")

    def variant(self, text: str) -> Space | None:
        """The space that is named after this one with a point and that text; None where there is none."""
        return None

    def at(self, resolutions: Sequence[int]) -> Self:
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
        end = -1 if pick is max else 0
        stages = tuple(s.chosen(end, _picked(pick, s, pick(s.depths))) for s in self.stages)
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
            stages.append(stage.chosen(row[column], blocks))
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
            state = stage.number_of(chosen)
            if state is None or chosen.depth not in stage.depths:
                others = "".join(f", {name} of {list(values)}" for name, values in stage.boundary)
                raise InvalidArchitecture(
                    f"stage {stage.name}: width must be one of {list(stage.widths)}{others}, "
                    f"number of blocks one of {list(stage.depths)}"
                )
            row += [state, stage.depths.index(chosen.depth)]
            for block, choice in enumerate(chosen.blocks):
                number = stage.choice_number(block, choice)
                if number is None:
                    options = [c.as_dict() for c in stage.choices[block]]
                    raise InvalidArchitecture(f"stage {stage.name}: a block must be one of {options}")
                row.append(number)
            # Genes of blocks beyond the depth are 0, so that a network has one row and is not scored twice.
            row += [0] * (len(stage.choices) - chosen.depth)
        return np.array(row, dtype=np.int64)

    def to_json(self, architecture: Architecture) -> dict[str, Any]:
        """Plain values of the elastic stages, with space and classes; `from_json` reads them back. One
        network has one form, whatever precisions and widths this space has to choose from."""
        own = self.holding(architecture)
        own.genes(architecture)
        stages = [
            {
                "name": stage.name,
                "width": chosen.width,
                **chosen.boundary,
                "blocks": [c.as_dict() for c in chosen.blocks],
            }
            for stage, chosen in zip(own.stages, architecture.stages, strict=True)
            if stage.elastic
        ]
        return {
            "space": self.name,
            "classes": self.classes,
            "resolution": architecture.resolution,
            **({} if own.precisions == (FLOAT,) else {"precisions": list(own.precisions)}),
            **({"pruned": True} if own.pruned else {}),
            "stages": stages,
        }

    def holding(self, *architectures: Architecture) -> Space:
        """The space in float32 and the precisions that these networks have beside it; with the widths of
        pruned blocks where one of them has any."""
        choices = [c for a in architectures for stage in a.stages for c in stage.blocks if not c.zero]
        used = {choice.precision for choice in choices}
        names = (FLOAT, *(name for name in LANES if name in used - {FLOAT}))
        return self._variant(names, any(KEPT in choice for choice in choices))

    def _variant(self, precisions: tuple[str, ...], pruned: bool) -> Space:
        """The same with those precisions to choose from, and with pruned blocks or without."""
        key = (precisions, pruned)
        if key not in self._variants:
            found = self if precisions == self.precisions else self.with_precisions(precisions)
            if pruned != self.pruned:
                found = found.with_pruning() if pruned else found.with_all_channels()
            self._variants[key] = found
        return self._variants[key]

    @cached_property
    def _variants(self) -> dict[tuple[tuple[str, ...], bool], Space]:
        return {}

    def __contains__(self, architecture: Architecture) -> bool:
        """Whether it is one of these networks."""
        try:
            self.genes(architecture)
        except InvalidArchitecture:
            return False
        return True

    def from_json(self, data: Mapping[str, Any]) -> Architecture:
        """Read `to_json`'s form. Raises InvalidArchitecture that says which stage is wrong.

        Without `classes`, as versions before 0.2 wrote it, it is taken to be of as many classes as this
        space.
        """
        precisions, pruned = data.get("precisions", [FLOAT]), data.get("pruned", False)
        told = isinstance(precisions, list) and isinstance(pruned, bool)
        if told and (precisions, pruned) != (list(self.precisions), self.pruned):
            if not set(map(str, precisions)) <= set(LANES):
                raise InvalidArchitecture(f"precisions are {', '.join(LANES)}, one of them at least")
            return self._variant(tuple(map(str, precisions)), pruned).from_json(data)
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
        # Not isinstance: JSON's `true` would pass for resolution 1.
        if type(resolution) is not int:
            raise InvalidArchitecture(f"resolution must be one of {list(self.resolutions)}")
        chosen = iter(given)
        stages = []
        for stage in self.stages:
            if stage.elastic:
                stages.append(_stage_from_json(stage, next(chosen)))
            else:
                stages.append(stage.chosen(0, tuple(c[0] for c in stage.choices)))
        architecture = Architecture(self.name, resolution, tuple(stages))
        self.genes(architecture)
        return architecture


def pictures(channels: int) -> tuple[InputSpec, ...]:
    """The input of an image space: one square picture, float32, channels first."""
    return (InputSpec("input", (channels, SIZE, SIZE)),)


def _picked(pick: Any, stage: Stage, depth: int) -> tuple[Choice, ...]:
    return tuple(pick(stage.choices[b], key=partial(stage.rank, b)) for b in range(depth))


def _stage_from_json(stage: Stage, data: Any) -> StageChoice:
    others = "".join(f', "{name}"' for name, _ in stage.boundary)
    names = ", ".join(f'"{dimension.name}"' for dimension in stage.operators.dimensions)
    others_than_float = [precision for precision in stage.precisions if precision != FLOAT]
    if others_than_float:
        names += f', where not float32 "precision" of {others_than_float}'
    if stage.pruned:
        names += ', where channels are cut out the share "kept"'
    wrong = InvalidArchitecture(
        f'stage {stage.name}: wanted {{"name", "width"{others}, "blocks": [{{{names}}} or {{"zero": true}}]}}'
    )
    beside = [name for name, _ in stage.boundary]
    if not isinstance(data, dict) or set(data) != {"name", "width", "blocks", *beside}:
        raise wrong
    width, blocks = data["width"], data["blocks"]
    if (
        data["name"] != stage.name
        or type(width) is not int
        or not isinstance(blocks, list)
        or not all(isinstance(b, dict) for b in blocks)
    ):
        raise wrong
    known = {c: c for options in stage.choices for c in options}
    try:
        boundary = Named({name: data[name] for name in beside})
        given = (Choice(b) for b in blocks)
        return StageChoice(width, tuple(known[c.at(c.precision)] for c in given), boundary)
    except (KeyError, TypeError) as error:
        raise wrong from error


def alike(one: Space, other: Space) -> bool:
    """Whether weights of one space fit the other but for the colours of its pictures: all else is the same,
    whatever the classes."""
    if None in (one.image_channels, other.image_channels):
        return False
    return one.with_classes(other.classes).stages == other.stages
