"""Exact search next to HAT's evolution on its own space, for `benchmarks.search --space hat-wmt`.

Costs are multiply-accumulates of each layer of a sentence with 10 % noise, scores grow with them and have
noise of their own, as in the rest of that benchmark. The rival is HAT's evolution (Wang et al., ACL 2020) as
published: 30 iterations, 125 networks of which 25 are parents, 50 mutants (each gene drawn again with 0.3)
and 50 crossovers, networks over the budget rejected and drawn again. It works on HAT's genes, one for each
width, head count and so on, priced by the same tables; HAT itself pays for a pass over the validation set
each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer
from supernets.spaces.transformer_space import TransformerSpace

TOKENS = 30
BUDGETS = 10
ITERATIONS, POPULATION, PARENTS, MUTANTS, CROSSOVERS, MUTATION = 30, 125, 25, 50, 50, 0.3
MOST_DRAWS = 2000  # batches before rejection is given up: HAT's loops have no end


def tables_of(space: TransformerSpace, generator: np.random.Generator) -> tuple[DenseTable, DenseTable]:
    """(score, cost): both grow with the size of a layer."""

    def encoder(width: int, layer: EncoderLayer) -> float:
        return _macs(space, Transformer(width, (layer,), width, ())) / 1e7

    def decoder(read: int, width: int, layer: DecoderLayer) -> float:
        return _macs(space, Transformer(read, (), width, (layer,))) / 1e7

    cost = noisy(space.dense(encoder, decoder), generator, 0.1)
    score = space.dense(
        lambda width, layer: float(np.log1p(encoder(width, layer))),
        lambda read, width, layer: float(np.log1p(decoder(read, width, layer))),
    )
    return noisy(score, generator, 0.05), cost


def _macs(space: TransformerSpace, part: Transformer) -> int:
    return part.macs(space.qkv_width, TOKENS, TOKENS)


def noisy(table: DenseTable, generator: np.random.Generator, deviation: float) -> DenseTable:
    """The table with each value scaled by log-normal noise. Cells of the decoder depend on both widths."""
    noise = (np.exp(generator.normal(0, deviation, blocks.shape)) for blocks in table.blocks)
    return replace(table, blocks=tuple(b * n for b, n in zip(table.blocks, noise, strict=True)))


class HatGenes:
    """HAT's genes of a space: what a layer may be is several of them. sizes: number of values of each,
    (genes,)."""

    def __init__(self, space: TransformerSpace) -> None:
        self.chain = space.chain
        encoder = (len(space.feed_forward), len(space.heads))
        decoder = (len(space.feed_forward), len(space.heads), len(space.heads), len(space.attended))
        self._parts = [(1,)]
        for shape, parts in zip(self.chain.stages, (encoder, decoder), strict=True):
            self._parts += [(shape.states,), (len(shape.depths),), *([parts] * shape.blocks)]
        self.sizes = np.array([size for parts in self._parts for size in parts])

    def rows(self, genes: Genes) -> Genes:
        """As rows of the chain, (networks, chain genes)."""
        columns, at = [], 0
        for parts in self._parts:
            columns.append(np.ravel_multi_index(genes[:, at : at + len(parts)].T, parts))
            at += len(parts)
        return self.chain.canonical(np.stack(columns, axis=1).astype(np.int64))


def published_evolution(
    problem: Problem, genes: HatGenes, generator: np.random.Generator
) -> tuple[float, int]:
    """(best score, networks that were drawn)."""
    (constraint,) = problem.constraints
    drawn = 0

    def accepted(draw: Callable[[int], Genes], wanted: int) -> Genes:
        nonlocal drawn
        found = np.empty((0, len(genes.sizes)), dtype=np.int64)
        for _ in range(MOST_DRAWS):
            new = draw(wanted)
            drawn += wanted
            found = np.concatenate([found, new[constraint.table.price(genes.rows(new)) <= constraint.limit]])
            if len(found) >= wanted:
                return found[:wanted]
        raise RuntimeError(f"rejection found {len(found)} of {wanted} networks within the budget")

    def mutant(size: int) -> Genes:
        chosen = population[generator.integers(0, PARENTS, size)]
        again = generator.random(chosen.shape) < MUTATION
        return np.where(again, generator.integers(0, genes.sizes, chosen.shape), chosen)

    def crossover(size: int) -> Genes:
        one, two = (population[generator.integers(0, PARENTS, size)] for _ in range(2))
        return np.where(generator.random(one.shape) < 0.5, one, two)

    population = accepted(
        lambda size: generator.integers(0, genes.sizes, (size, len(genes.sizes))), POPULATION
    )
    for _ in range(ITERATIONS):
        scores: Array = problem.score.price(genes.rows(population))
        population = population[np.argsort(-scores, kind="stable")[:PARENTS]]
        children = [accepted(mutant, MUTANTS), accepted(crossover, CROSSOVERS)]
        population = np.concatenate([population, *children])
    return float(problem.score.price(genes.rows(population)).max()), drawn


def measure(space: TransformerSpace, seed: int, repeats: int) -> dict[str, Any]:
    """Times of the exact front and of one budget; gaps in percent of the range of scores on the front."""
    generator = np.random.default_rng(seed)
    score, cost = tables_of(space, generator)
    least, largest = exact.bounds(cost)

    def problem(limit: float) -> Problem:
        return Problem(space.chain, score, (Constraint("cost", cost, limit),), 5)

    found = exact.front(score, cost)
    scores = score.price(found.genes)
    width = float(scores.max() - scores.min())
    genes, gaps, seconds, drawn = HatGenes(space), [], [], []
    # HAT draws its first networks at random until they fit: where hardly any does, it would never begin.
    for limit in np.linspace(least + 0.15 * (largest - least), least + 0.75 * (largest - least), BUDGETS):
        best = exact.solve(problem(float(limit))).candidates[0].score
        start = time.perf_counter()
        theirs, tries = published_evolution(problem(float(limit)), genes, generator)
        seconds.append(time.perf_counter() - start)
        drawn.append(tries)
        gaps.append(100 * (best - theirs) / width)
    half = (least + largest) / 2
    return {
        "space": space.name,
        "networks": float(space.count()),
        "front_ms": _milliseconds(lambda: exact.front(score, cost), repeats),
        "front_processor_ms": _milliseconds(lambda: exact.front(score, cost), repeats, time.process_time),
        "front_points": len(found.genes),
        "one_budget_ms": _milliseconds(lambda: exact.solve(problem(half)), repeats),
        "hat_evolution_s": float(np.median(seconds)),
        "hat_evolution_gap_percent": gaps,
        "hat_evolution_gap_mean_percent": float(np.mean(gaps)),
        "hat_evolution_networks": float(np.median(drawn)),
        "budgets": BUDGETS,
    }


def _milliseconds(
    call: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = clock()
        call()
        times.append(clock() - start)
    return float(np.median(times)) * 1e3
