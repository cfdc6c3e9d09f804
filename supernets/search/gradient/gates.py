"""Binary gates: one path of a supernet runs, the gradient of a second one is measured (torch).

ProxylessNAS (Cai, Zhu, Han, ICLR 2019), section 3.2: dL/dg_j = <dL/d output, output of path j>. The path that
is not active runs without a graph, and only while the gradient comes back: memory is that of one path. Here
depths and widths are gated as well: the second depth is measured where the stage ends, the second width on
the channels both have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from latency_tables.named import Named
from supernets.network import Supernet, block_plan
from supernets.search.gradient.distribution import Pair
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import NOTHING, block_name, block_operators
from supernets.spaces.space import Space


class _Gate(torch.autograd.Function):
    """The active output as it is; its gradient against that of the other path goes to the gates."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, gates: Tensor, active: int, other: Callable[[], Tensor]) -> Tensor:
        ctx.save_for_backward(output)
        ctx.active, ctx.other = active, other
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (output,) = ctx.saved_tensors
        gradient = gradients[0]
        with torch.no_grad():
            other = ctx.other()
            pair = [(gradient * output).sum(), (gradient * other).sum()]
        if ctx.active:
            pair.reverse()
        ctx.other = None
        return gradient, torch.stack(pair), None, None


class GatedPath:
    """Forward of a supernet along the active values of a `Pair`, with a gate at every gene that has two."""

    def __init__(self, supernet: Supernet, space: Space, pair: Pair) -> None:
        self.supernet, self.space = supernet, space
        self.values, self.active = pair.values.tolist(), pair.active.tolist()
        self.gates = torch.zeros((len(self.values), 2), requires_grad=True)

    @property
    def resolution(self) -> int:
        return self.space.resolutions[self._active(0)]

    def _active(self, gene: int) -> int:
        return int(self.values[gene][self.active[gene]])

    def _other(self, gene: int) -> int | None:
        """The second value of a gene, if it has one."""
        value = int(self.values[gene][1 - self.active[gene]])
        return None if value == self._active(gene) else value

    def _gate(self, gene: int, output: Tensor, other: Callable[[], Tensor]) -> Tensor:
        gates = self.gates[gene].to(output.device)
        return cast(Tensor, _Gate.apply(output, gates, self.active[gene], other))  # type: ignore[no-untyped-call]  # torch's own

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, classes). x: (B, C, H, W) at `resolution`."""
        for stage in range(len(self.space.stages)):
            x = self._stage(stage, x)
        return x

    def _stage(self, stage: int, x: Tensor) -> Tensor:
        column, shape = self.space.chain.offsets[stage], self.space.chain.stages[stage]
        width, depth = self._active(column), shape.depths[self._active(column + 1)]
        given, y = x.detach(), x
        ends = {}
        for block in range(depth):
            choice = self._active(column + 2 + block)
            before, y = y.detach(), self._block(stage, block, y, width, choice)
            second = self._other(column + 2 + block)
            if second is not None:
                y = self._gate(
                    column + 2 + block, y, partial(self._block, stage, block, before, width, second)
                )
            ends[block + 1] = y
        deep = self._other(column + 1)
        if deep is not None:
            y = self._gate(
                column + 1,
                y,
                self._other_depth(stage, ends[min(depth, shape.depths[deep])], depth, shape.depths[deep]),
            )
        wide = self._other(column)
        if wide is not None:
            y = self._gate(column, y, self._other_width(stage, given, wide, depth, y.shape[1]))
        return y

    def _other_depth(self, stage: int, x: Tensor, depth: int, wanted: int) -> Callable[[], Tensor]:
        """Output of the stage at another depth: seen on the way, or some blocks more."""
        x = x.detach()
        return lambda: self._blocks(stage, x, self._active(self.space.chain.offsets[stage]), depth, wanted)

    def _other_width(
        self, stage: int, x: Tensor, width: int, depth: int, channels: int
    ) -> Callable[[], Tensor]:
        """Output of the stage at another width, cut or filled with zeros to the channels of the active
        one."""

        def run() -> Tensor:
            y = self._blocks(stage, x, width, 0, depth)
            missing = channels - y.shape[1]
            return F.pad(y, (0, 0) * (y.dim() - 2) + (0, missing))

        return run

    def _before(self, stage: int) -> Named:
        """The state that a stage reads."""
        if stage == 0:
            return NOTHING
        return self.space.stages[stage - 1].states[self._active(self.space.chain.offsets[stage - 1])]

    def _blocks(self, stage: int, x: Tensor, width: int, start: int, stop: int) -> Tensor:
        column = self.space.chain.offsets[stage]
        for block in range(start, stop):
            x = self._block(stage, block, x, width, self._active(column + 2 + block))
        return x

    def _block(self, stage: int, block: int, x: Tensor, width: int, choice: int) -> Tensor:
        """One block; x itself for Zero. What follows it without weights is part of it."""
        data = self.space.stages[stage]
        chosen: Choice = data.choices[block][choice]
        given = data.states[width] if block else self._before(stage)
        operators = block_operators(data, block, tuple(x.shape[1:]), given, data.states[width], chosen)
        return self.supernet.through(x, block_plan(block_name(self.space, stage, block), operators))
