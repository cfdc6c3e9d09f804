"""A delivered file, from a supernet to bytes: the format's passes, then written, then held against torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from latency_tables.inputs import InputSpec
from supernets.data.splits import evenly_spread
from supernets.delivery.catalog import format_named
from supernets.delivery.compression.compressed import CompressedNetwork
from supernets.delivery.format import EMBEDDED, Content, Delivery, Opened
from supernets.delivery.parity import Parity, compared, compared_rounded
from supernets.delivery.passes import Source, passed
from supernets.delivery.simulated import QuantisedNetwork
from supernets.errors import ExportFailed, InvalidCompression, InvalidPrecision
from supernets.tasks.catalog import task_of

INPUT: Final = "input"
PARITY_SAMPLES: Final = 16
ROUNDED_SAMPLES: Final = 128


@dataclass(frozen=True)
class Written:
    """A file with the network that it holds, inputs of one sample, the description of its input, and how
    near it comes to torch.

    measured: what is timed in the file's place, where that is another one; fed: what a measurement is fed
    with, with the batch, where the description of the input does not say it. labels: whether outputs are
    the classes of the data.
    """

    file: bytes
    network: nn.Module
    inputs: tuple[InputSpec, ...]
    described: Mapping[str, Any]
    parity: Parity
    measured: bytes | None = None
    fed: tuple[InputSpec, ...] = ()
    labels: bool = True

    @property
    def parameters(self) -> int:
        """Weights and biases of the network after all passes."""
        return sum(p.numel() for p in self.network.parameters())


def deliver(source: Source, delivery: Delivery) -> Written:
    """The file of a sub-network in the form of a delivery.

    Raises ExportFailed where the file computes something else than the network, InvalidPrecision where blocks
    that shall be in int8 cannot be, InvalidCompression where the network cannot be put through its passes.
    """
    form, task, condition = (
        format_named(delivery.format),
        task_of(source.data),
        source.architecture.resolution,
    )
    network = passed(source, form.passes())
    if source.in_int8 and not isinstance(network, QuantisedNetwork):
        raise InvalidPrecision(f"files of format {form.name!r} have no blocks in int8; search in float32")
    if source.compression and not isinstance(network, CompressedNetwork):
        raise InvalidCompression(f"files of format {form.name!r} have no compression passes; leave them out")
    described = task.input_of(source.data, condition, delivery, INPUT)
    preprocessing = task.preprocessing(source.data, condition)
    inputs = source.supernet.space.inputs_at(condition)
    file = form.write(network, Content(inputs, delivery, described, source.data.classes, preprocessing))
    opened = form.open(file)
    if delivery.preprocessing == EMBEDDED and opened.inputs[0].dtype != "uint8":
        raise ExportFailed(
            f"files of format {form.name!r} have no preprocessing inside; ask for `separate`, and "
            "feed them as their card says"
        )
    if isinstance(network, QuantisedNetwork):
        agreement = _rounded_parity(network, opened, source)
    else:
        agreement = compared(
            network,
            opened,
            form.tolerance(delivery),
            samples=PARITY_SAMPLES,
            generator=torch.Generator().manual_seed(0),
            preprocessing=preprocessing,
        )
    if not agreement.holds:
        raise ExportFailed(
            f"the exported file differs from the network by {agreement.max_abs_error:.3g} in logits up to "
            f"{agreement.max_abs_logit:.3g}; it was not delivered"
        )
    return Written(file, network, inputs, described, agreement)


def _rounded_parity(network: QuantisedNetwork, opened: Opened, source: Source) -> Parity:
    """Over training samples, since ranges are those of pictures and not of noise."""
    data, task, condition = source.data, task_of(source.data), source.architecture.resolution
    embedded = opened.inputs[0].dtype == "uint8"
    rows = evenly_spread(len(data.split("train")), ROUNDED_SAMPLES)
    inputs = task.examples(data, "train", condition, rows)[0]
    fed = task.examples(data, "train", condition, rows, embedded=True)[0] if embedded else inputs
    return compared_rounded(network, opened, fed, inputs)
