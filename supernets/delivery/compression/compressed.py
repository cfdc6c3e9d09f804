"""A folded network after compression passes, and what each of them did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self, cast

import torch
from torch import Tensor, nn

from latency_tables.operators import Operator
from supernets.cut_out import PlainNetwork
from supernets.data.splits import evenly_spread
from supernets.delivery.compression.bits import mixed_bits
from supernets.delivery.compression.catalog import PASSES, AppliedPass
from supernets.delivery.compression.codebooks import shared_weights
from supernets.delivery.compression.low_rank import low_rank
from supernets.errors import InvalidCompression
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.memory import samples_at_once

SAMPLES: Final = 256
_BATCH: Final = 4
FEWEST_SAMPLES: Final = 32
"""Of the training split: below, what a layer's outputs vary in depends on which samples were drawn."""

Report = dict[str, Any]


class CompressedNetwork(nn.Module):
    """plain: the network, whose layers are no longer those of its operators. reports: of each pass, in order.
    codebooks: whether weights have few values, so that the file holds codebooks."""

    def __init__(self, plain: PlainNetwork, reports: Sequence[Report], codebooks: bool) -> None:
        super().__init__()
        self.plain, self.reports, self.codebooks = plain, tuple(reports), codebooks

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.plain(x))


@dataclass(frozen=True, eq=False)
class Fitting:
    """What passes may look at: samples of the train split, inputs (n, ...) and targets."""

    inputs: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def of(cls, operators: Sequence[Operator], data: Data, condition: int) -> Self:
        """Evenly spread. Raises InvalidCompression where there are too few."""
        there = len(data.split("train"))
        if there < FEWEST_SAMPLES:
            raise InvalidCompression(
                f"data set {data.name!r} has {there} training samples, too few to fit a compression pass to: "
                f"{FEWEST_SAMPLES} are the least"
            )
        most = max(FEWEST_SAMPLES, min(SAMPLES, samples_at_once(operators)))
        task = task_of(data)
        return cls(*task.examples(data, "train", condition, evenly_spread(there, most)), task.loss)

    def losses(self) -> list[Callable[[nn.Module], Tensor]]:
        """Of a network on small batches: of large ones gradients cancel out."""
        return [
            partial(self._loss, inputs=x, targets=y)
            for x, y in zip(torch.split(self.inputs, _BATCH), torch.split(self.targets, _BATCH), strict=True)
        ]

    def _loss(self, network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(network(inputs), targets)


def compress(
    network: PlainNetwork, passes: Sequence[AppliedPass], fitting: Fitting, names: Sequence[str]
) -> CompressedNetwork:
    """The network after these passes. network: folded, in evaluation mode, on the CPU. names: of its
    layers."""
    reports: list[Report] = []
    compressed: nn.Module = network
    for one in passes:
        compressed, said = APPLY[one.name](compressed, fitting, one)
        for line in said.get("layers", ()):
            line["layer"] = _named(line["layer"], names)
        reports.append({**one.to_json(), "samples": len(fitting.inputs), **said})
    few = any(PASSES[one.name].gives_levels for one in passes)
    return CompressedNetwork(cast(PlainNetwork, compressed), reports, few)


def _named(path: str, names: Sequence[str]) -> str:
    """A layer by its block: `stage1_0.expand` instead of `layers.2.expand.conv`."""
    _, number, *rest = path.split(".")
    block = names[int(number)] or f"layer{number}"
    return ".".join([block, *(part for part in rest if part != "conv")])


def _low_rank(network: nn.Module, fitting: Fitting, asked: AppliedPass) -> tuple[nn.Module, Report]:
    return low_rank(network, fitting.inputs, asked.strength, control=asked.control)


def _shared(network: nn.Module, fitting: Fitting, asked: AppliedPass) -> tuple[nn.Module, Report]:
    return shared_weights(network, int(asked.strength), fitting.losses(), control=asked.control)


def _mixed_bits(network: nn.Module, fitting: Fitting, asked: AppliedPass) -> tuple[nn.Module, Report]:
    return mixed_bits(network, asked.strength, fitting.losses(), control=asked.control)


APPLY: Final[Mapping[str, Callable[[nn.Module, Fitting, AppliedPass], tuple[nn.Module, Report]]]] = {
    "low-rank": _low_rank,
    "shared-weights": _shared,
    "mixed-bits": _mixed_bits,
}
"""What each pass of the catalog does."""
