"""Dense tables: an additive quantity of every network of a search space as a few small arrays.

A space is a chain of stages. A stage has a state (what the rest depends on: its output channels, say), a
depth (how many of its blocks are active, the first ones) and one choice per active block. Whatever adds up
over blocks (ms, MACs, bytes, points of accuracy of a linear predictor) is then one array per stage, and a
population of networks is priced by one gather. Nothing here knows what a block is: `supernets.spaces` fills
the arrays.

Some choices leave something behind that the next block has to deal with, whatever it is and wherever it
stands: values of 8 bit that a block in float32 must convert first. That is a lane: every choice leaves one,
and what a choice costs after each lane is a further array, `switch`. A chain with one lane has none of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Genes = npt.NDArray[np.int64]  # (networks, Chain.genes)
Array = npt.NDArray[np.float64]

KEEPS: Final = -1
"""Lane of a choice that leaves the one it was given: a block that is left out."""

_CHUNK: Final = 8192  # networks priced at a time: their genes stay in the processor's cache


@dataclass(frozen=True)
class StageShape:
    """Sizes of one stage: number of states, allowed depths (ascending), number of choices of each block.

    A state is what the rest of a network depends on: the channels that a stage gives, or channels and
    precision. lanes: for every block the lane that each choice leaves, or KEEPS; empty: all leave lane 0.
    Raises ValueError for lanes that are not one for each choice.
    """

    states: int
    depths: tuple[int, ...]
    choices: tuple[int, ...]
    lanes: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.lanes and tuple(len(lanes) for lanes in self.lanes) != self.choices:
            raise ValueError("lanes must name one for every choice of every block")
        if any(lane < KEEPS for lanes in self.lanes for lane in lanes):
            raise ValueError("lanes count from 0, or are KEEPS")

    @cached_property
    def leaves(self) -> npt.NDArray[np.int64]:
        """The lane that each choice leaves or KEEPS, shape (blocks, most choices); 0 where there is none."""
        found = np.zeros((self.blocks, max(self.choices)), dtype=np.int64)
        for row, lanes in zip(found, self.lanes, strict=False):
            row[: len(lanes)] = lanes
        return found

    @property
    def blocks(self) -> int:
        return len(self.choices)

    @property
    def genes(self) -> int:
        return 2 + self.blocks


@dataclass(frozen=True)
class Chain:
    """The index structure of a space.

    A network is a row of genes: index of the resolution, then for each stage: index of the state, index of
    the depth, index of the choice of every block. Genes of inactive blocks are 0 in canonical form, so two
    rows are the same network exactly when they are equal. A network begins in lane 0.
    """

    resolutions: int
    stages: tuple[StageShape, ...]

    @cached_property
    def lanes(self) -> int:
        """How many there are; 1 where nothing is carried from block to block."""
        return 1 + max([0, *(lane for s in self.stages for lanes in s.lanes for lane in lanes)])

    def after(self, stage: int, block: int) -> npt.NDArray[np.int64]:
        """The lane after each choice of a block that is given each lane, shape (lanes, choices)."""
        return self._after[stage][block]

    def ways(self, stage: int, block: int, lane: int) -> tuple[tuple[int, npt.NDArray[np.int64]], ...]:
        """(lane, the choices that leave it) of a block that is given that lane."""
        return self._ways[stage][block][lane]

    @cached_property
    def _after(self) -> tuple[tuple[npt.NDArray[np.int64], ...], ...]:
        return tuple(
            tuple(
                np.where(left[:count] == KEEPS, np.arange(self.lanes)[:, None], left[:count])
                for left, count in zip(shape.leaves, shape.choices, strict=True)
            )
            for shape in self.stages
        )

    @cached_property
    def _ways(self) -> tuple[tuple[tuple[tuple[tuple[int, npt.NDArray[np.int64]], ...], ...], ...], ...]:
        return tuple(
            tuple(
                tuple(
                    tuple((int(one), np.flatnonzero(left == one)) for one in np.unique(left))
                    for left in after
                )
                for after in blocks
            )
            for blocks in self._after
        )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Column of each stage's state gene."""
        columns, at = [], 1
        for stage in self.stages:
            columns.append(at)
            at += stage.genes
        return tuple(columns)

    @cached_property
    def genes(self) -> int:
        return 1 + sum(stage.genes for stage in self.stages)

    @cached_property
    def gene_sizes(self) -> npt.NDArray[np.int64]:
        """Number of values of each gene; shape (genes,)."""
        sizes = [self.resolutions]
        for stage in self.stages:
            sizes += [stage.states, len(stage.depths), *stage.choices]
        return np.array(sizes, dtype=np.int64)

    def count(self) -> int:
        """Distinct networks, over all resolutions."""
        total = self.resolutions
        for stage in self.stages:
            total *= stage.states * sum(math.prod(stage.choices[:depth]) for depth in stage.depths)
        return total

    def active(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which genes take part in each network; shape of `genes`."""
        mask = np.ones_like(genes, dtype=bool)
        for column, stage in zip(self.offsets, self.stages, strict=True):
            if stage.depths[0] == stage.blocks:
                continue
            depth = np.asarray(stage.depths, dtype=np.int64)[genes[:, column + 1]]
            mask[:, column + 2 : column + stage.genes] = np.arange(stage.blocks) < depth[:, None]
        return mask

    def canonical(self, genes: Genes) -> Genes:
        """The same networks with the genes of inactive blocks set to 0."""
        return np.where(self.active(genes), genes, 0)

    def sample(self, generator: np.random.Generator, networks: int) -> Genes:
        """Networks with every gene drawn uniformly and independently (the published sampling), canonical."""
        return self.canonical(generator.integers(0, self.gene_sizes, size=(networks, self.genes)))


class _Gather(NamedTuple):
    """One stage, flattened for pricing: values[((resolution, *states), block, choice)]."""

    column: int
    states: tuple[int, ...]  # states in, states out, depths
    blocks: int
    choices: int
    values: Array
    switch: Array | None
    """[(resolution, state in, state out), block, lane, choice], flattened; None: nothing is carried."""
    leaves: npt.NDArray[np.int64]
    depths: npt.NDArray[np.int64]

    def before(self, chain: Chain) -> int:
        """Column of the state gene of the stage before."""
        return chain.offsets[chain.offsets.index(self.column) - 1]


@dataclass(frozen=True, eq=False)
class DenseTable:
    """An additive quantity over a chain.

    constant: (resolutions,); what every network of that resolution costs.
    blocks: per stage (resolutions, states in, states out, blocks, choices); `states in` are the states of the
        stage before (1 for the first stage). Block 0 reads its input from the stage before; later blocks are
        read at [.., s, s, ..]-independent index `states in`, so their values repeat along that axis.
    depth: per stage (resolutions, depths); what the depth adds beyond its blocks (0 for latencies).
    switch: per stage (resolutions, states in, states out, blocks, lanes, choices); what a choice adds where
        the block before left that lane. Empty: the same after every lane. It repeats along `states in` as
        `blocks` does.
    """

    chain: Chain
    constant: Array
    blocks: tuple[Array, ...]
    depth: tuple[Array, ...]
    switch: tuple[Array, ...] = ()

    def __post_init__(self) -> None:
        for blocks, switch in zip(self.blocks, self.switch, strict=bool(self.switch)):
            if switch.shape != (*blocks.shape[:4], self.chain.lanes, blocks.shape[4]):
                raise ValueError(f"a switch of shape {switch.shape} does not fit blocks {blocks.shape}")
        before = 1
        for shape, blocks, depth in zip(self.chain.stages, self.blocks, self.depth, strict=True):
            wanted = (self.chain.resolutions, before, shape.states, shape.blocks, max(shape.choices))
            if blocks.shape != wanted or depth.shape != (self.chain.resolutions, len(shape.depths)):
                raise ValueError(
                    f"arrays of shape {blocks.shape}, {depth.shape} do not fit the stage; wanted {wanted}"
                )
            before = shape.states

    @cached_property
    def switches(self) -> tuple[Array, ...]:
        """`switch`, zeros where nothing depends on the lane before."""
        return self.switch or tuple(
            np.zeros((*blocks.shape[:4], self.chain.lanes, blocks.shape[4])) for blocks in self.blocks
        )

    def each(self, function: Callable[..., Array], *others: DenseTable) -> DenseTable:
        """The table of `function(values, *values of the others)`, array by array: the constant, the blocks of
        every stage, depths, and the switch wherever one of the tables has one."""
        every = (self, *others)
        switched = any(table.switch for table in every)
        return DenseTable(
            self.chain,
            function(*(table.constant for table in every)),
            tuple(function(*values) for values in zip(*(t.blocks for t in every), strict=True)),
            tuple(function(*values) for values in zip(*(t.depth for t in every), strict=True)),
            tuple(function(*values) for values in zip(*(t.switches for t in every), strict=True))
            if switched
            else (),
        )

    @cached_property
    def _gathers(self) -> tuple[Array, tuple[_Gather, ...]]:
        """What every network of a resolution costs, (resolutions,), and one flat array per stage that varies
        otherwise."""
        fixed, gathers = self.constant.copy(), []
        for number, (column, shape, blocks, depth) in enumerate(
            zip(self.chain.offsets, self.chain.stages, self.blocks, self.depth, strict=True)
        ):
            switch = self.switch[number] if self.switch and self.chain.lanes > 1 else None
            active = np.arange(shape.blocks) < np.asarray(shape.depths)[:, None]  # (depths, blocks)
            # Inactive blocks cost 0 whatever their genes say, so that pricing needs no mask.
            values = np.where(
                active[..., None], blocks[:, :, :, None], 0.0
            )  # (R, in, out, depths, blocks, choices)
            values[..., 0, :] += depth[:, None, None, :, None]
            # Without choices the blocks of a depth are one number: a gather less for each.
            if max(shape.choices) == 1:
                values = values.sum(axis=-2, keepdims=True)
            if math.prod(values.shape[1:]) == 1 and switch is None:
                fixed += values.ravel()
                continue
            gathers.append(
                _Gather(
                    column,
                    values.shape[1:4],
                    values.shape[4],
                    values.shape[5],
                    values.ravel(),
                    None if switch is None else switch.ravel(),
                    shape.leaves,
                    np.asarray(shape.depths, dtype=np.int64),
                )
            )
        return fixed, tuple(gathers)

    def price(self, genes: Genes) -> Array:
        """The quantity of each network, shape (networks,), by gathers. Genes need not be canonical.

        A network's price does not depend on what it is priced with, to the last bit. Fastest where the genes
        of all networks lie next to each other (`order="F"`).
        """
        total: Array = np.empty(len(genes))
        for start in range(0, len(genes), _CHUNK):
            total[start : start + _CHUNK] = self._price(genes[start : start + _CHUNK])
        return total

    def _price(self, genes: Genes) -> Array:
        columns = np.ascontiguousarray(genes.T)
        fixed, gathers = self._gathers
        total: Array = fixed[columns[0]]
        index, found = np.empty_like(columns[0]), np.empty_like(total)
        lane = np.zeros_like(columns[0])
        for gather in gathers:
            ins, outs, depths = gather.states
            row = columns[0].copy()
            if ins > 1:
                row = row * ins + columns[gather.before(self.chain)]
            if outs > 1:
                row = row * outs + columns[gather.column]
            if depths > 1:
                row = row * depths + columns[gather.column + 1]
            row *= gather.blocks * gather.choices
            for block in range(gather.blocks):
                chosen = row
                if gather.choices > 1:
                    chosen = np.add(row, columns[gather.column + 2 + block], out=index)
                # Starting at the block saves an addition each; "clip" skips the check of indices, all valid.
                total += np.take(gather.values[block * gather.choices :], chosen, out=found, mode="clip")
            if gather.switch is not None:
                lane = self._add_switches(total, gather, gather.switch, columns, lane)
        return total

    def _add_switches(
        self, total: Array, gather: _Gather, switch: Array, columns: Genes, lane: Genes
    ) -> Genes:
        """Add what a stage's active blocks cost for the lanes before them to `total`; the lanes that it
        leaves. lane, total (networks,); columns (genes, networks)."""
        ins, outs, _ = gather.states
        read = columns[gather.before(self.chain)] if ins > 1 else 0
        row = (columns[0] * ins + read) * outs + (columns[gather.column] if outs > 1 else 0)
        blocks, choices = gather.leaves.shape
        depth = gather.depths[columns[gather.column + 1]]
        for block in range(blocks):
            chosen, active = columns[gather.column + 2 + block], block < depth
            at = ((row * blocks + block) * self.chain.lanes + lane) * choices + chosen
            total += np.where(active, switch[at], 0.0)
            left = gather.leaves[block, chosen]
            lane = np.where(active & (left != KEEPS), left, lane)
        return lane

    def map(self, constant: Callable[[Array], Array], scale: Sequence[float] | Array) -> DenseTable:
        """A table whose price is `constant(price of the constant) + scale[resolution] * rest`."""
        factor = np.asarray(scale, dtype=np.float64)
        return DenseTable(
            chain=self.chain,
            constant=constant(self.constant),
            blocks=tuple(b * factor[:, None, None, None, None] for b in self.blocks),
            depth=tuple(d * factor[:, None] for d in self.depth),
            switch=tuple(s * factor[:, None, None, None, None, None] for s in self.switch),
        )

    def affine(self, intercept: Sequence[float] | Array, slope: Sequence[float] | Array) -> DenseTable:
        """The table of `intercept[resolution] + slope[resolution] * price`."""
        slope_, intercept_ = np.asarray(slope, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
        return self.map(lambda constant: intercept_ + slope_ * constant, slope_)
