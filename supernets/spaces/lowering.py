"""The one bridge from networks to table keys: architecture -> operators, table -> dense table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

import numpy as np

from latency_tables.dense import DenseTable
from latency_tables.errors import InvalidOperator, MissingLatency
from latency_tables.named import Named
from latency_tables.operators import Operator
from latency_tables.operators.dequantize import Dequantize
from latency_tables.operators.operator import FLOAT
from latency_tables.operators.quantize import Quantize
from latency_tables.table import LatencyTable
from supernets.errors import NoEnergy
from supernets.spaces.architecture import Architecture
from supernets.spaces.choices import Choice
from supernets.spaces.space import LANES, NO_READ, Read, Space, Stage

NOTHING: Final = Named()
"""The state of a network's input."""

_BOUNDARIES: Final[dict[tuple[str, str], type[Quantize]]] = {
    (FLOAT, "int8"): Quantize,
    ("int8", FLOAT): Dequantize,
}


def block_name(space: Space, stage: int, block: int) -> str:
    """Name of a block: in `supernets.network.Supernet.blocks`, and where its precision is told."""
    return f"{space.stages[stage].name}_{block}"


def block_operators(
    stage: Stage,
    number: int,
    shape: tuple[int, ...],
    given: Named,
    state: Named,
    choice: Choice,
    read: Read = NO_READ,
) -> tuple[Operator, ...]:
    """Operators of block `number` of a stage: its own, then what follows it without weights. Empty for Zero.

    shape: of its input, one sample. given: the state of the stage before for block 0 (`NOTHING` for the input
    of a network), the stage's own for later ones; state: the one that the stage is in. read: state and output
    of the stage before, where the stage reads it in every block.
    """
    return stage.operators_of(number, shape, given, state, choice, read)


def boundary_operators(shape: tuple[int, ...], left: str, wanted: str) -> tuple[Operator, ...]:
    """What turns a tensor of that shape from the precision that the block before left into the one that the
    next wants. Raises InvalidOperator where there is no operator for it."""
    if left == wanted:
        return ()
    made = _BOUNDARIES.get((left, wanted))
    if made is None:
        raise InvalidOperator(f"blocks in {left} and in {wanted} cannot follow each other yet")
    return (made.of(shape),)


def input_shapes(space: Space, resolution: int) -> list[list[tuple[int, ...]]]:
    """For every stage the shape of its input (one sample) in each state of the stage before, or the space's
    input alone."""
    found, shapes, before = [], [space.input_shape(resolution)], NOTHING
    for stage in space.stages:
        found.append(shapes)
        # From the first state before alone: what a stage gives has its own state's shape, whatever it read.
        shapes = [_inside(stage, shapes[0], before, state)[-1] for state in stage.states]
        before = stage.states[0]
    return found


def _inside(stage: Stage, shape: tuple[int, ...], given: Named, state: Named) -> list[tuple[int, ...]]:
    """Shapes that every block of a stage is given, and what the stage gives. Choices do not change shapes."""
    shapes, read = [shape], _read(stage, given, shape)
    for number, options in enumerate(stage.choices):
        possible = (block_operators(stage, number, shape, given, state, choice, read) for choice in options)
        operators = next((found for found in possible if found), ())
        shape, given = operators[-1].output_shape if operators else shape, state
        shapes.append(shape)
    return shapes


def _read(stage: Stage, before: Named, shape: tuple[int, ...]) -> Read:
    return (before, shape) if stage.reads else NO_READ


def blocks_of(space: Space, architecture: Architecture) -> Iterator[tuple[int, int, tuple[Operator, ...]]]:
    """(stage, block, operators) of every active block, in order."""
    shape, given = space.input_shape(architecture.resolution), NOTHING
    for index, (stage, chosen) in enumerate(zip(space.stages, architecture.stages, strict=True)):
        number_of_state = stage.number_of(chosen)
        state = chosen.state if number_of_state is None else stage.states[number_of_state]
        read = _read(stage, given, shape)
        for number, choice in enumerate(chosen.blocks):
            operators = block_operators(stage, number, shape, given, state, choice, read)
            yield index, number, operators
            shape, given = operators[-1].output_shape if operators else shape, state


def lower(space: Space, architecture: Architecture) -> list[Operator]:
    """The table keys of a network, in order, changes of precision included. Raises InvalidArchitecture when
    it is not in the space."""
    space.genes(architecture)
    shape, left = space.input_shape(architecture.resolution), FLOAT
    found: list[Operator] = []
    for _, _, operators in blocks_of(space, architecture):
        if operators:
            found += boundary_operators(shape, left, operators[0].precision)
            found += operators
            shape, left = operators[-1].output_shape, operators[-1].precision
    return found


def all_operators(space: Space, resolution: int) -> list[Operator]:
    """Every operator some network of the space has at that resolution, sorted: what its table must hold."""
    found: set[Operator] = set()
    for _, _, _, operators in _cells(space, resolution):
        found.update(operators)
    for _, _, _, operators in _switches(space, resolution):
        found.update(operators)
    return sorted(found)


def block_choices(space: Space) -> dict[tuple[int, int], dict[Operator, set[int]]]:
    """(stage, block) -> every operator a block may be at one resolution (not what follows it without
    weights), in order, each with the numbers of the choices that make it.

    A block that can only be left out (ProxylessNAS's Zero) has none and is not among them.
    """
    found: dict[tuple[int, int], dict[Operator, set[int]]] = {}
    for stage, (_, _, block), choice, operators in _cells(space, space.resolutions[0]):
        for operator in operators[:1]:
            found.setdefault((stage, block), {}).setdefault(operator, set()).add(choice)
    return found


def _switches(space: Space, resolution: int) -> Iterator[_Cell]:
    """(stage, (state in, state out, block, lane before), choice, what changes the precision) of every cell of
    the dense table's switch that has something."""
    if space.precisions == (FLOAT,):
        return
    for stage, (i, o, block), choice, operators in _cells(space, resolution):
        before = space.precisions if stage or block else (FLOAT,)
        for precision in before if operators else ():
            shape = operators[0].inputs[0].shape
            change = boundary_operators(shape, precision, operators[0].precision)
            if change:
                yield stage, (i, o, block, LANES[precision]), choice, change


_Cell = tuple[int, tuple[int, ...], int, tuple[Operator, ...]]


def _cells(space: Space, resolution: int) -> Iterator[_Cell]:
    """(stage, (state in, state out, block), choice, operators) of every cell of the dense table."""
    states_in: tuple[Named, ...] = (NOTHING,)
    for index, (stage, shapes) in enumerate(zip(space.stages, input_shapes(space, resolution), strict=True)):
        inside = [_inside(stage, shapes[0], states_in[0], state) for state in stage.states]
        for i, (given, before) in enumerate(zip(shapes, states_in, strict=True)):
            for o, state in enumerate(stage.states):
                told = _read(stage, before, given)
                for block, options in enumerate(stage.choices):
                    shape, read = (given, before) if block == 0 else (inside[o][block], state)
                    for c, choice in enumerate(options):
                        operators = block_operators(stage, block, shape, read, state, choice, told)
                        yield index, (i, o, block), c, operators
        states_in = stage.states


def dense_from(
    space: Space, value: Callable[[Operator], float], combine: Callable[[list[float]], float] = sum
) -> DenseTable:
    """The dense table of any quantity that adds up over operators, e.g. `lambda op: op.macs`.

    combine: what the operators of one block make together (0 for none of them).
    """
    chain = space.chain
    blocks = []
    before = 1
    for shape in chain.stages:
        blocks.append(
            # Infinite where a block has fewer choices than another: no solver takes what does not exist.
            np.full((chain.resolutions, before, shape.states, shape.blocks, max(shape.choices)), np.inf)
        )
        before = shape.states
    for r, resolution in enumerate(space.resolutions):
        for index, (i, o, block), choice, operators in _cells(space, resolution):
            blocks[index][r, i, o, block, choice] = (
                combine([value(op) for op in operators]) if operators else 0.0
            )
    depth = tuple(np.zeros((chain.resolutions, len(shape.depths))) for shape in chain.stages)
    switch = [np.zeros((*values.shape[:4], chain.lanes, values.shape[4])) for values in blocks]
    for r, resolution in enumerate(space.resolutions):
        for index, at, choice, operators in _switches(space, resolution):
            switch[index][(r, *at, choice)] = combine([value(op) for op in operators])
    switched = tuple(switch) if any(values.any() for values in switch) else ()
    return DenseTable(chain, np.zeros(chain.resolutions), tuple(blocks), depth, switched)


def lifted(dense: DenseTable, space: Space) -> DenseTable:
    """A table of the space in float32 as one of `space`, which is the same with several precisions and
    widths: every choice counts as it does in float32 with all of its channels."""
    blocks = []
    for stage, values in zip(space.stages, dense.blocks, strict=True):
        made = np.full((*values.shape[:-1], max(len(options) for options in stage.choices)), np.inf)
        for block, options in enumerate(stage.choices):
            numbers = {c: n for n, c in enumerate(dict.fromkeys(c.whole.at(FLOAT) for c in options))}
            for c, choice in enumerate(options):
                made[..., block, c] = values[..., block, numbers[choice.whole.at(FLOAT)]]
        blocks.append(made)
    return DenseTable(space.chain, dense.constant, tuple(blocks), dense.depth)


def dense_latency(space: Space, table: LatencyTable) -> DenseTable:
    """Latencies of the table in ms over the whole space. Raises MissingLatency naming every key the table
    lacks.

    Take `space.at(resolutions)` first when the table covers some resolutions only.
    """
    missing: set[str] = set()

    def latency(operator: Operator) -> float:
        row = table.rows.get(operator)
        if row is None:
            # Gathered first: one refusal that names all of them, not one for each attempt.
            missing.add(operator.text)
            return np.inf
        return row.latency_ms

    dense = dense_from(space, latency)
    if missing:
        raise MissingLatency(sorted(missing))
    return dense


def known_latency(space: Space, table: LatencyTable) -> DenseTable:
    """Latencies of the table in ms, infinite where it lacks an operator: networks that need it may not be
    chosen."""

    def latency(operator: Operator) -> float:
        row = table.rows.get(operator)
        return np.inf if row is None else row.latency_ms

    return dense_from(space, latency)


@lru_cache(maxsize=512)
def needed_operators(space: Space, resolution: int) -> frozenset[Operator]:
    """`all_operators` as a set, remembered: every table that comes in is held against every space."""
    return frozenset(all_operators(space, resolution))


def covered_resolutions(space: Space, table: LatencyTable) -> tuple[int, ...]:
    """Resolutions of the space for which the table holds every operator."""
    return tuple(r for r in space.resolutions if needed_operators(space, r) <= table.rows.keys())


def known_energy(space: Space, table: LatencyTable) -> tuple[DenseTable, tuple[str, ...]]:
    """(energy in mJ, infinite where a row of the table has none; operators of rows without any)."""
    known = {op: m.energy_mj for op, m in table.rows.items() if m.energy_mj is not None}
    needed = set().union(*(needed_operators(space, resolution) for resolution in space.resolutions))
    lacking = tuple(sorted(op.text for op in needed if op not in known))
    return dense_from(space, lambda op: known.get(op, np.inf)), lacking


def dense_energy(space: Space, table: LatencyTable) -> DenseTable:
    """Energy in mJ of one run over the whole space, as sums of the table's rows. Raises NoEnergy naming rows
    without any."""
    needed = [needed_operators(space, resolution) for resolution in space.resolutions]
    energies = {op: m.energy_mj for op, m in table.rows.items() if m.energy_mj is not None}
    missing = sorted({op.text for operators in needed for op in operators if op not in energies})
    if missing:
        named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise NoEnergy(
            f"the table has no energy_mj for {len(missing)} operators of {space.name}: {named}. "
            "Import it with the column `energy_mj`, or search without a limit of energy",
            missing,
        )
    return dense_from(space, energies.__getitem__)
