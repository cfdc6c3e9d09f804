"""What a format of delivered files is: for which contexts, by which passes, written, opened and held
against torch.

Apart from the catalog and free of torch, so that a distribution which adds a format may import this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from latency_tables.inputs import InputSpec
from latency_tables.measurement import Context
from supernets.errors import UnservableContext

if TYPE_CHECKING:
    from torch import nn

    from latency_tables.operators import Operator
    from supernets.data.preprocessing import Preprocessing
    from supernets.delivery.passes import Pass, Source
    from supernets.delivery.pipeline import Written
    from supernets.delivery.testing import Tested
    from supernets.spaces.architecture import Architecture
    from supernets.spaces.space import Space
    from supernets.tasks.data import Data

ONNX: Final = "onnx"
OPSET: Final = 20
"""What networks are exported in; newer runtimes open it too."""
IR_VERSION: Final = 10
BYTES: Final = {"float32": 4, "float16": 2, "int8": 1}
"""Bytes of a value in each precision that a format may deliver."""
SEPARATE, EMBEDDED = "separate", "embedded"


@dataclass(frozen=True)
class Delivery:
    """The form of a file. batch_size: None leaves it open. preprocessing: `embedded` takes bytes and
    normalises inside. opset, ir_version: of the format `onnx`; others leave them as they are."""

    opset: int = OPSET
    ir_version: int = IR_VERSION
    precision: str = "float32"
    batch_size: int | None = 1
    preprocessing: str = SEPARATE
    format: str = ONNX

    @property
    def bytes_per_value(self) -> int:
        """Of a weight, and of an activation between two operators."""
        return BYTES[self.precision]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back. Part of the keys of steps, so `onnx`, which was the only
        format, is not said."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("format", ONNX)}

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Self:
        """None, of jobs that earlier versions wrote, is the form those delivered."""
        return cls() if data is None else cls(**data)

    def asked(self, batch: str, preprocessing: str) -> Delivery:
        """The same with the options of a search: batch `dynamic` or `device`, preprocessing `embedded` or
        `separate`."""
        return replace(
            self,
            batch_size=None if batch == "dynamic" else self.batch_size,
            preprocessing=preprocessing,
        )


@dataclass(frozen=True)
class Content:
    """What goes into a file besides the weights. inputs: of one sample, in the order of the network's
    arguments. described, classes: of the input and the outputs, as the task says them. preprocessing:
    what the file can be told to do inside."""

    inputs: tuple[InputSpec, ...]
    delivery: Delivery
    described: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()
    preprocessing: Preprocessing | None = None


class Opened(Protocol):
    """A file in its runtime. inputs: with the batch in their shapes, 1 where that is open."""

    @property
    def inputs(self) -> Sequence[InputSpec]: ...

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Outputs (B, ...) of one batch of each input (B, ...)."""
        ...


class Format(ABC):
    """One format. Instances have no state and may be used from any thread."""

    name: ClassVar[str]

    def holds(self, space: Space) -> bool:
        """Whether networks of that space are files of this format: here those that run once for an input."""
        return space.generation is None

    @abstractmethod
    def serves(self, context: Context) -> Delivery | None:
        """The form of its files for that context; None where the context is not this format's business.

        Raises UnservableContext, with the reason, where it is and no file can serve it.
        """

    def remark(self, context: Context) -> str | None:
        """What is to be checked before a file is used there; None where what the runtime opens is known."""
        return None

    def check_int8(self, delivery: Delivery) -> None:
        """Raises UnservableContext, with the reason, where files of that form hold no blocks in int8."""
        raise UnservableContext(
            f"files of format {self.name!r} have no blocks in int8: ask for float32 on devices that "
            f"they are for"
        )

    def passes(self) -> tuple[Pass, ...]:
        """What happens to a network, in order, before it is written."""
        from supernets.delivery.passes import PLAIN  # noqa: PLC0415 - torch only where files are made

        return PLAIN

    @abstractmethod
    def tolerance(self, delivery: Delivery) -> float:
        """How far outputs of a file may lie from those of the network, as a share of the largest."""

    @abstractmethod
    def write(self, network: nn.Module, content: Content) -> bytes:
        """The file of a plain network in evaluation mode. Raises ExportFailed."""

    @abstractmethod
    def open(self, file: bytes) -> Opened:
        """The file in a runtime of this machine, on one thread."""

    def deliver(self, source: Source, delivery: Delivery) -> Written:
        """The file of a sub-network, held against torch. Raises ExportFailed, InvalidPrecision."""
        from supernets.delivery.pipeline import deliver  # noqa: PLC0415 - torch

        return deliver(source, delivery)

    def tested(
        self,
        file: bytes,
        data: Data,
        condition: int,
        split: str = "test",
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Tested:
        """What the file does on a split, in its runtime. progress: called with (done, of)."""
        from supernets.delivery.testing import tested  # noqa: PLC0415 - torch

        return tested(self.open(file), data, condition, split, progress)

    def operators(
        self,
        operators: Iterable[Operator],
        delivery: Delivery,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> dict[Operator, bytes]:
        """One file per operator with settled random weights: the micro-benchmarks of a latency table."""
        from supernets.delivery.export import settled_operator  # noqa: PLC0415

        wanted, files = list(dict.fromkeys(operators)), {}
        for number, op in enumerate(wanted, 1):
            files[op] = self.write(settled_operator(op), Content(op.inputs, delivery))
            progress(number, len(wanted))
        return files

    def networks(
        self,
        space: Space,
        architectures: Sequence[Architecture],
        blocks: Mapping[Operator, bytes],
        delivery: Delivery,
    ) -> list[bytes]:
        """Whole networks with the same random weights, to calibrate with. blocks: files of their
        operators."""
        from supernets.delivery.export import random_network  # noqa: PLC0415

        plain = [random_network(space, architecture) for architecture in architectures]
        return [self.write(network, Content(network.inputs, delivery)) for network in plain]


def outputs(opened: Opened, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Outputs (N, ...) of inputs (N, ...) of a file with one input; a last batch that is too small is
    filled up."""
    (given,) = opened.inputs
    size, found = given.shape[0], []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size].astype(given.dtype)
        filled = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])
        found.append(opened.run(filled)[: len(batch)])
    return np.concatenate(found)
