"""What happens to a network before it is written, as a list: cut out, statistics taken anew, batch-norm
folded.

A pass gets what the one before made and gives a network again, so pruning or quantising is one more entry
of a format's list (`Format.passes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import nn

from supernets.cut_out import cut_out, fold_batch_norm
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.tasks.data import Data
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.memory import samples_of_space


@dataclass(frozen=True)
class Source:
    """Where a network comes from, and the data that passes may look at (of the training split alone)."""

    supernet: Supernet
    architecture: Architecture
    data: Data


Pass = Callable[[nn.Module, Source], nn.Module]


def cut(network: nn.Module, source: Source) -> nn.Module:
    """The sub-network alone, with a copy of its weights; the first pass of every list."""
    return cut_out(source.supernet, source.architecture)


def recalibrated(network: nn.Module, source: Source) -> nn.Module:
    """Batch-norm statistics of this network. Before folding: until then they are the supernet's, of all
    networks at once, and folding is final. In batches as in scoring, so they are the statistics that
    were scored."""
    condition = source.architecture.resolution
    at_once = samples_of_space(source.supernet.space, condition)
    recalibrate(network, calibration_batches(source.data, condition, at_once=at_once))
    return network


def folded(network: nn.Module, source: Source) -> nn.Module:
    """Batch-norm as part of the convolutions, in evaluation mode."""
    return fold_batch_norm(network)


PLAIN: Final[tuple[Pass, ...]] = (cut, recalibrated, folded)


def passed(source: Source, passes: tuple[Pass, ...]) -> nn.Module:
    """What the passes, one after the other, make of a supernet."""
    network: nn.Module = source.supernet
    for one in passes:
        network = one(network, source)
    return network
