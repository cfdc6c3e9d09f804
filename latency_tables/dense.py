"""Dense tables: an additive quantity of every network of a search space as a few small arrays.

A space is a chain of stages. A stage has a width (output channels), a depth (how many of its blocks are
active, the first ones) and one choice per active block. Whatever adds up over blocks (ms, MACs, bytes,
points of accuracy of a linear predictor) is then one array per stage, and a population of networks is
priced by one gather. Nothing here knows what a block is: `supernets.spaces` fills the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Genes = npt.NDArray[np.int64]  # (networks, Chain.genes)
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StageShape:
    """Sizes of one stage: number of widths, allowed depths (ascending), number of choices of each block."""

    widths: int
    depths: tuple[int, ...]
    choices: tuple[int, ...]

    @property
    def blocks(self) -> int:
        return len(self.choices)

    @property
    def genes(self) -> int:
        return 2 + self.blocks


@dataclass(frozen=True)
class Chain:
    """The index structure of a space.

    A network is a row of genes: index of the resolution, then for each stage: index of the width, index of
    the depth, index of the choice of every block. Genes of inactive blocks are 0 in canonical form, so two
    rows are the same network exactly when they are equal.
    """

    resolutions: int
    stages: tuple[StageShape, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Column of each stage's width gene."""
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
            sizes += [stage.widths, len(stage.depths), *stage.choices]
        return np.array(sizes, dtype=np.int64)

    def count(self) -> int:
        """Distinct networks, over all resolutions."""
        total = self.resolutions
        for stage in self.stages:
            total *= stage.widths * sum(math.prod(stage.choices[:depth]) for depth in stage.depths)
        return total

    def active(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which genes take part in each network; shape of `genes`."""
        mask = np.ones(genes.shape, dtype=bool)
        for column, stage in zip(self.offsets, self.stages, strict=True):
            depth = np.asarray(stage.depths, dtype=np.int64)[genes[:, column + 1]]
            mask[:, column + 2 : column + stage.genes] = np.arange(stage.blocks) < depth[:, None]
        return mask

    def canonical(self, genes: Genes) -> Genes:
        """The same networks with the genes of inactive blocks set to 0."""
        return np.where(self.active(genes), genes, 0)

    def sample(self, generator: np.random.Generator, networks: int) -> Genes:
        """Networks with every gene drawn uniformly and independently (the published sampling), canonical."""
        return self.canonical(generator.integers(0, self.gene_sizes, size=(networks, self.genes)))


@dataclass(frozen=True, eq=False)
class DenseTable:
    """An additive quantity over a chain.

    constant: (resolutions,); what every network of that resolution costs.
    blocks: per stage (resolutions, widths in, widths out, blocks, choices); `widths in` are the widths of the
        stage before (1 for the first stage). Block 0 reads its input from the stage before; later blocks are
        read at [.., w, w, ..]-independent index `widths in`, so their values repeat along that axis.
    depth: per stage (resolutions, depths); what the depth adds beyond its blocks (0 for latencies).
    """

    chain: Chain
    constant: Array
    blocks: tuple[Array, ...]
    depth: tuple[Array, ...]

    def __post_init__(self) -> None:
        before = 1
        for shape, blocks, depth in zip(self.chain.stages, self.blocks, self.depth, strict=True):
            wanted = (self.chain.resolutions, before, shape.widths, shape.blocks, max(shape.choices))
            if blocks.shape != wanted or depth.shape != (self.chain.resolutions, len(shape.depths)):
                raise ValueError(f"arrays of shape {blocks.shape}, {depth.shape} do not fit the stage; wanted {wanted}")
            before = shape.widths

    @cached_property
    def _flat(self) -> Array:
        """One zero, then the constant, then every stage's blocks and depth, flattened."""
        parts = [np.zeros(1), self.constant]
        for blocks, depth in zip(self.blocks, self.depth, strict=True):
            parts += [blocks.ravel(), depth.ravel()]
        return np.concatenate(parts)

    def price(self, genes: Genes) -> Array:
        """The quantity of each network, shape (networks,), by one gather. Genes need not be canonical."""
        resolution = genes[:, 0]
        index = np.zeros((len(genes), self.chain.genes), dtype=np.int64)  # 0 points at the zero
        index[:, 0] = 1 + resolution
        base = 1 + self.chain.resolutions
        width_in: Genes = np.zeros(len(genes), dtype=np.int64)
        for column, shape, blocks, depth in zip(self.chain.offsets, self.chain.stages, self.blocks, self.depth, strict=True):
            width, deep = genes[:, column], genes[:, column + 1]
            _, ins, outs, count, choices = blocks.shape
            row = ((resolution * ins + width_in) * outs + width) * count
            active = np.asarray(shape.depths, dtype=np.int64)[deep]
            for block in range(count):
                at = base + (row + block) * choices + genes[:, column + 2 + block]
                index[:, column + 2 + block] = at if block < shape.depths[0] else np.where(block < active, at, 0)
            base += blocks.size
            index[:, column + 1] = base + resolution * len(shape.depths) + deep
            base += depth.size
            width_in = width
        total: Array = self._flat[index].sum(axis=1)
        return total

    def map(self, constant: Callable[[Array], Array], scale: Sequence[float] | Array) -> DenseTable:
        """A table whose price is `constant(price of the constant) + scale[resolution] * rest`."""
        factor = np.asarray(scale, dtype=np.float64)
        return DenseTable(
            chain=self.chain,
            constant=constant(self.constant),
            blocks=tuple(b * factor[:, None, None, None, None] for b in self.blocks),
            depth=tuple(d * factor[:, None] for d in self.depth),
        )

    def affine(self, intercept: Sequence[float] | Array, slope: Sequence[float] | Array) -> DenseTable:
        """The table of `intercept[resolution] + slope[resolution] * price`."""
        slope_, intercept_ = np.asarray(slope, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
        return self.map(lambda constant: intercept_ + slope_ * constant, slope_)
