"""Between dense tables and plain vectors: which cells a network uses, which cells belong together, and
back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array, Chain, DenseTable, Genes

Labels = npt.NDArray[np.int64]


def cell_count(chain: Chain) -> int:
    """Number of cells of a dense table of this chain."""
    total, ins = chain.resolutions, 1
    for shape in chain.stages:
        total += chain.resolutions * (
            ins * shape.states * shape.blocks * max(shape.choices) + len(shape.depths)
        )
        ins = shape.states
    return total


def cell_index(chain: Chain, genes: Genes) -> Genes:
    """Which cells of a dense table each network adds up, shape of `genes`; cell 0 is a zero, the constant
    follows.

    Cells are numbered in the order constant, then every stage's blocks and depth, flattened.
    """
    resolution = genes[:, 0]
    index = np.zeros((len(genes), chain.genes), dtype=np.int64)
    index[:, 0] = 1 + resolution
    base = 1 + chain.resolutions
    width_in: Genes = np.zeros(len(genes), dtype=np.int64)
    ins = 1
    for column, shape in zip(chain.offsets, chain.stages, strict=True):
        width, deep = genes[:, column], genes[:, column + 1]
        count, choices = shape.blocks, max(shape.choices)
        row = ((resolution * ins + width_in) * shape.states + width) * count
        active = np.asarray(shape.depths, dtype=np.int64)[deep]
        for block in range(count):
            at = base + (row + block) * choices + genes[:, column + 2 + block]
            index[:, column + 2 + block] = at if block < shape.depths[0] else np.where(block < active, at, 0)
        base += chain.resolutions * ins * shape.states * count * choices
        index[:, column + 1] = base + resolution * len(shape.depths) + deep
        base += chain.resolutions * len(shape.depths)
        width_in, ins = width, shape.states
    return index


def cell_uses(chain: Chain, genes: Genes) -> Array:
    """How often each network uses each cell: shape (networks, cells), zeros and ones."""
    uses = np.zeros((len(genes), cell_count(chain) + 1))
    np.put_along_axis(uses, cell_index(chain, genes), 1.0, axis=1)
    return uses[:, 1:]


def cell_vector(table: DenseTable) -> Array:
    """The cells of a dense table, shape (cells,). Padding, which no network uses, counts as 0."""
    parts = [table.constant]
    for blocks, depth in zip(table.blocks, table.depth, strict=True):
        parts += [blocks.ravel(), depth.ravel()]
    vector = np.concatenate(parts)
    return np.where(np.isfinite(vector), vector, 0.0)


def dense_from_cells(
    chain: Chain, cells: Array, offset: float = 0.0, like: DenseTable | None = None
) -> DenseTable:
    """The dense table of these cells; `offset` is added to every network. Cells that are infinite in `like`
    stay so."""
    constant, at = cells[: chain.resolutions] + offset, chain.resolutions
    blocks, depths, ins = [], [], 1
    for number, shape in enumerate(chain.stages):
        form = (chain.resolutions, ins, shape.states, shape.blocks, max(shape.choices))
        size = int(np.prod(form))
        block = cells[at : at + size].reshape(form)
        blocks.append(block if like is None else np.where(np.isfinite(like.blocks[number]), block, np.inf))
        at += size
        size = chain.resolutions * len(shape.depths)
        depths.append(cells[at : at + size].reshape(chain.resolutions, len(shape.depths)))
        at += size
        ins = shape.states
    return DenseTable(chain, constant, tuple(blocks), tuple(depths))


def cell_groups(chain: Chain) -> list[Labels]:
    """Cells that tend to become dearer or cheaper together on another device: by choice, by stage, by
    resolution."""
    choice, stage, resolution = (
        [np.full(chain.resolutions, -1)],
        [np.full(chain.resolutions, -1)],
        [np.arange(chain.resolutions)],
    )
    ins = 1
    for number, shape in enumerate(chain.stages):
        form = (chain.resolutions, ins, shape.states, shape.blocks, max(shape.choices))
        index = np.indices(form)
        shared = len(shape.choices) > 0 and max(shape.choices) > 1
        choice.append((index[4] if shared else np.full(form, 1000 + number)).ravel())
        stage.append(np.full(int(np.prod(form)), number))
        resolution.append(index[0].ravel())
        size = chain.resolutions * len(shape.depths)
        choice.append(np.full(size, -2))
        stage.append(np.full(size, number))
        resolution.append(np.repeat(np.arange(chain.resolutions), len(shape.depths)))
        ins = shape.states
    return [np.concatenate(parts).astype(np.int64) for parts in (choice, stage, resolution)]


def cell_tables(tables: Sequence[DenseTable]) -> Array:
    """Dense tables of one chain as columns, shape (cells, tables)."""
    return np.stack([cell_vector(table) for table in tables], axis=1)
