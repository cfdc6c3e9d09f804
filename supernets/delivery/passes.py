"""What happens to a network before it is written, as a list: cut out, statistics taken anew, batch-norm
pruned, folded, compressed, rounded.

A pass gets what the one before made and gives a network again; a format lists them (`Format.passes`). Those
that people ask for by name are entries of a catalog of their own (`supernets.delivery.compression`); here
they are one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from torch import nn

from supernets.cut_out import PlainNetwork, cut_out, fold_batch_norm
from supernets.delivery.compression.catalog import AppliedPass
from supernets.delivery.compression.compressed import Fitting, compress
from supernets.delivery.precision import USUAL, PrecisionPlan, Rounding
from supernets.delivery.pruning import Samples as Refitting
from supernets.delivery.pruning import pruned
from supernets.delivery.quantising import Samples, quantise
from supernets.errors import InvalidCompression, InvalidPrecision, InvalidPruning
from supernets.network import Supernet
from supernets.network_form import NetworkForm
from supernets.networks import build_supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import lower
from supernets.tasks.data import Data
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.memory import samples_of_space
from supernets.training.tuning import alone


@dataclass(frozen=True)
class Source:
    """Where a network comes from, and the data that passes may look at (of the training split alone).

    architecture: in float32; with shares of channels that are kept, it is pruned from the network that has
    all. plan: the precision of each of its operators; None: all in float32. rounding: how int8 is rounded.
    compression: passes that were asked for, in order. refit: whether what is left after pruning is fitted to
    what was there.
    """

    supernet: Supernet
    architecture: Architecture
    data: Data
    plan: PrecisionPlan | None = None
    rounding: Rounding = USUAL
    compression: tuple[AppliedPass, ...] = ()
    refit: bool = True

    @property
    def whole(self) -> Architecture:
        """The network of the supernet that this one is cut out of: itself, or what it is pruned from."""
        space = self.supernet.space
        return self.architecture if self.architecture in space else space.unpruned(self.architecture)

    @property
    def in_int8(self) -> bool:
        """Whether any block is."""
        return self.plan is not None and bool(self.plan.int8)


Pass = Callable[[nn.Module, Source], nn.Module]


def cut(network: nn.Module, source: Source) -> nn.Module:
    """The sub-network alone, with a copy of its weights and all of its channels; the first pass of every
    list."""
    return cut_out(source.supernet, source.whole)


def recalibrated(network: nn.Module, source: Source) -> nn.Module:
    """Batch-norm statistics of this network. Before folding: until then they are the supernet's, of all
    networks at once, and folding is final. In batches as in scoring, so they are the statistics that
    were scored."""
    condition = source.architecture.resolution
    at_once = samples_of_space(source.supernet.space, condition)
    recalibrate(network, calibration_batches(source.data, condition, at_once=at_once))
    return network


def narrower(network: nn.Module, source: Source) -> nn.Module:
    """Without the channels that are cut out of it, what reads the others refitted. Before folding, so that it
    can be trained on."""
    if source.whole == source.architecture:
        return network
    if source.supernet.form != NetworkForm():
        raise InvalidPruning(
            "a network with lite residuals, or with group-norm, cannot be pruned: search without"
        )
    if not isinstance(network, PlainNetwork):
        raise InvalidPruning(f"networks of {source.supernet.space.name!r} cannot be pruned")
    space = source.supernet.space.holding(source.architecture)
    operators = lower(space, source.architecture)
    samples = Refitting.of(source.data, source.architecture.resolution, network.operators)
    network = network.cpu()
    return pruned(network, operators, samples, refit=source.refit, eps=space.batch_norm_eps)


def folded(network: nn.Module, source: Source) -> nn.Module:
    """Batch-norm as part of the convolutions, in evaluation mode."""
    return fold_batch_norm(network)


def compressed(network: nn.Module, source: Source) -> nn.Module:
    """What was asked for by name. After folding: the weights that are made smaller are those of the file."""
    if not source.compression:
        return network
    if source.in_int8:
        raise InvalidCompression("compression passes are for networks in float32: leave `precision` out")
    if not isinstance(network, PlainNetwork):
        raise InvalidCompression(f"networks of {source.supernet.space.name!r} have no compression passes")
    if len(network.inputs) != 1:
        raise InvalidCompression("compression passes are for networks with one input")
    names = [name for name, _ in source.supernet.plan(source.architecture)]
    fitting = Fitting.of(network.operators, source.data, source.architecture.resolution)
    return compress(network.cpu(), source.compression, fitting, names)


def rounded(network: nn.Module, source: Source) -> nn.Module:
    """Blocks in int8 as planned, with ranges from training samples. After folding: what is rounded are the
    weights of the file."""
    if source.plan is None or not source.in_int8:
        return network
    if source.supernet.form != NetworkForm():
        raise InvalidPrecision(
            "a network with lite residuals, or with group-norm, has no int8 form: search in float32"
        )
    if not isinstance(network, PlainNetwork) or len(network.inputs) != 1:
        raise InvalidPrecision(f"networks of {source.supernet.space.name!r} have no int8 form here")
    condition = source.architecture.resolution
    samples = Samples.of(source.data, condition, source.rounding, network.operators)
    return quantise(network.cpu(), source.plan, samples, source.rounding)


CUT: Final[tuple[Pass, ...]] = (cut, recalibrated, narrower)
PLAIN: Final[tuple[Pass, ...]] = (*CUT, folded, compressed)
ROUNDED: Final[tuple[Pass, ...]] = (*PLAIN, rounded)


def passed(source: Source, passes: tuple[Pass, ...]) -> nn.Module:
    """What the passes, one after the other, make of a supernet."""
    network: nn.Module = source.supernet
    for one in passes:
        network = one(network, source)
    return network


def supernet_of_pruned(source: Source) -> Supernet:
    """The supernet of a pruned network alone, with its refitted weights: what it is trained on from. The
    given one, where it has the network. Raises InvalidPruning."""
    if source.whole == source.architecture:
        return source.supernet
    network = cast(PlainNetwork, passed(source, CUT))
    own = build_supernet(alone(source.supernet.space, source.architecture))
    for (name, op), layer in zip(own.plan(source.architecture), network.layers, strict=True):
        if name:
            own.take(name, op, layer)
    return own.eval()
