"""A probability for every choice of a space, and expectations of dense tables under it (torch).

Source: ProxylessNAS (Cai, Zhu, Han, ICLR 2019), equations 2 to 4, for blocks; here widths, depths and
resolutions have architecture parameters too, and every expectation is a constant tensor times the
probabilities, over all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latency_tables.dense import Array, Chain, DenseTable, Genes


class Pair(NamedTuple):
    """Two values of every gene, shape (genes, 2), and which of the two is active, (genes,). One value only:
    twice the same."""

    values: Tensor
    active: Tensor

    @property
    def path(self) -> Tensor:
        return self.values.gather(1, self.active[:, None])[:, 0]


class Distribution:
    """Independent softmax over the values of each gene; `alphas` (genes, most values) are the architecture
    parameters."""

    def __init__(self, chain: Chain, generator: torch.Generator, deviation: float = 1e-3) -> None:
        sizes = torch.from_numpy(chain.gene_sizes)
        self.chain, self.sizes = chain, sizes
        self.allowed = torch.arange(int(sizes.max())) < sizes[:, None]  # (genes, values)
        self.alphas = torch.randn(self.allowed.shape, generator=generator) * deviation
        self.alphas.requires_grad_(True)

    def log_probabilities(self) -> Tensor:
        """(genes, values); minus infinity where a gene has no such value."""
        return self.alphas.masked_fill(~self.allowed, -torch.inf).log_softmax(dim=1)

    def probabilities(self) -> Tensor:
        return self.log_probabilities().exp()

    def entropy(self) -> float:
        """Mean entropy of the genes that can vary, in shares of the largest possible."""
        p = self.probabilities().detach()[self.sizes > 1]
        entropy = -(p * p.clamp_min(1e-30).log()).sum(dim=1) / self.sizes[self.sizes > 1].log()
        return float(entropy.mean()) if len(entropy) else 0.0

    def sample(self, generator: torch.Generator, networks: int = 1, *, uniform: bool = False) -> Genes:
        """Canonical genes of sampled paths, (networks, genes)."""
        weights = self.allowed.float() if uniform else self.probabilities().detach()
        drawn = torch.multinomial(weights, networks, replacement=True, generator=generator).T
        return self.chain.canonical(drawn.contiguous().numpy())

    def sample_pair(self, generator: torch.Generator) -> Pair:
        """Two distinct values of each gene, drawn without replacement; one of them active by their own
        softmax."""
        p = self.probabilities().detach()
        values = torch.zeros((len(p), 2), dtype=torch.int64)
        free = self.sizes > 1
        # A probability that underflows must not leave a gene without a second value.
        weights = torch.where(self.allowed, p.clamp_min(1e-20), 0.0)[free]
        if len(weights):
            values[free] = torch.multinomial(weights, 2, replacement=False, generator=generator)
        chosen = torch.multinomial(self.pair_probabilities(values), 1, generator=generator)[:, 0]
        return Pair(values, chosen)

    def pair_probabilities(self, values: Tensor) -> Tensor:
        """Softmax over the pair alone, (genes, 2)."""
        return self.alphas.detach().gather(1, values).softmax(dim=1)

    def logs(self) -> Array:
        """`log_probabilities` as numbers, for `likely`."""
        return self.log_probabilities().detach().double().numpy()

    def log_probability(self, genes: Genes) -> Tensor:
        """Differentiable log-probability of sampled networks, (networks,): of their active genes."""
        logs = self.log_probabilities().T.expand(len(genes), -1, -1)  # (networks, values, genes)
        taken = logs.gather(1, torch.from_numpy(genes)[:, None])[:, 0]
        return torch.where(torch.from_numpy(self.chain.active(genes)), taken, 0.0).sum(dim=1)


class Expectation:
    """E[price] of a dense table, differentiable in the architecture parameters.

    Forbidden choices (infinite cost) count as the dearest allowed one: the constrained choice at the end
    forbids them.
    """

    def __init__(self, table: DenseTable) -> None:
        self.chain = table.chain
        finite = np.concatenate([b[np.isfinite(b)] for b in table.blocks])
        most, least = (float(finite.max()), float(finite.min())) if len(finite) else (0.0, 0.0)

        def constant(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
            return torch.from_numpy(np.nan_to_num(values, posinf=most, neginf=least)).float()

        self.constant = constant(table.constant)
        self.blocks = [
            constant(_unpadded(b, s.choices)) for b, s in zip(table.blocks, table.chain.stages, strict=True)
        ]
        self.depth = [constant(d) for d in table.depth]
        self.switch = [
            constant(np.moveaxis(_unpadded(np.moveaxis(w, 4, 3), s.choices), 3, 4))
            for w, s in zip(table.switch, table.chain.stages, strict=False)
        ]
        self.leads = [
            [
                torch.nn.functional.one_hot(
                    torch.from_numpy(table.chain.after(number, block)), table.chain.lanes
                ).float()
                for block in range(s.blocks)
            ]
            for number, s in enumerate(table.chain.stages)
        ]
        self.reaches = [
            torch.tensor([[float(block < depth) for block in range(s.blocks)] for depth in s.depths])
            for s in table.chain.stages
        ]

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Scalar; probabilities (genes, values) as `Distribution.probabilities` gives them."""
        p_r = probabilities[0, : self.chain.resolutions]
        total = p_r @ self.constant
        read = torch.ones(1)
        lane = torch.zeros(self.chain.lanes)
        lane[0] = 1.0
        for stage, (column, shape) in enumerate(zip(self.chain.offsets, self.chain.stages, strict=True)):
            written = probabilities[column, : shape.states]
            deep = probabilities[column + 1, : len(shape.depths)]
            chosen = probabilities[column + 2 : column + 2 + shape.blocks, : max(shape.choices)]
            active = deep @ self.reaches[stage]  # (blocks,): probability that the block is used
            total = total + torch.einsum(
                "riobc,r,i,o,b,bc->", self.blocks[stage], p_r, read, written, active, chosen
            )
            total = total + p_r @ self.depth[stage] @ deep
            if self.switch:
                lanes = self._lanes(stage, lane, chosen)  # (blocks + 1, lanes)
                total = total + torch.einsum(
                    "rioblc,r,i,o,b,bl,bc->",
                    self.switch[stage],
                    p_r,
                    read,
                    written,
                    active,
                    lanes[:-1],
                    chosen,
                )
                lane = deep @ lanes[list(shape.depths)]
            read = written
        return total

    def _lanes(self, stage: int, lane: Tensor, chosen: Tensor) -> Tensor:
        """Probability of each lane after so many blocks, given that they are active, (blocks + 1, lanes).
        lane: before the stage."""
        found = [lane]
        for block, leads in enumerate(self.leads[stage]):
            found.append(torch.einsum("l,c,lck->k", found[-1], chosen[block, : leads.shape[1]], leads))
        return torch.stack(found)


def _unpadded(
    blocks: np.ndarray[tuple[int, ...], np.dtype[np.float64]], choices: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The table with 0 where a block has no such choice."""
    exists = np.arange(blocks.shape[-1]) < np.asarray(choices)[:, None]
    return np.where(exists, blocks, 0.0)
