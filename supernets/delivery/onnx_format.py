"""The format `onnx`: which runtimes open it in which form, and how files of it are written and opened.

Which opset and which IR version a runtime opens is a property of its version; a file for an old runtime is
written in the words of its time (`supernets.delivery.onnx_passes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from latency_tables.measurement import Context
from supernets.delivery.format import IR_VERSION, ONNX, OPSET, Content, Delivery, Format, Opened
from supernets.delivery.precision import INT8, OLDEST_OPSET_INT8
from supernets.errors import UnservableContext

if TYPE_CHECKING:
    from torch import nn

    from latency_tables.operators import Operator
    from supernets.delivery.passes import Pass
    from supernets.spaces.architecture import Architecture
    from supernets.spaces.space import Space

OLDEST_OPSET: Final = 11
PRECISIONS: Final = ("float32", "float16")
TOLERANCES: Final = {"float32": 1e-4, "float16": 2e-2}
"""Float16 has 11 bits: every layer rounds by up to 1/2048 of its values, and a network has a few dozen."""
_VERSION: Final = re.compile(r"v?(\d{1,5})(?:\.(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True)
class Reader:
    """A runtime that opens ONNX. since: (major, minor) with the greatest opset and IR version from then on,
    the oldest first."""

    runtime: str
    since: tuple[tuple[tuple[int, int], int, int], ...]
    source: str


READERS: Final[dict[str, Reader]] = {
    reader.runtime: reader
    for reader in (
        Reader(
            "onnxruntime",
            (
                ((1, 3), 12, 6),
                ((1, 7), 13, 7),
                ((1, 8), 14, 7),
                ((1, 9), 15, 7),
                ((1, 11), 16, 8),
                ((1, 12), 17, 8),
                ((1, 14), 18, 8),
                ((1, 15), 18, 8),  # opset 19 is half there: it has no Cast
                ((1, 16), 19, 9),
                ((1, 17), 20, 9),
                ((1, 18), 20, 10),
            ),
            (
                "ONNX Runtime's table of compatible ONNX versions, the lower where its editions differ; "
                "tried: "
                "1.15 to 1.18, 1.31"
            ),
        ),
    )
}
"""Of a runtime that is not here it is not known what its versions open: it is delivered today's form, and its
card says so."""


def check_int8(delivery: Delivery) -> None:
    """Raises UnservableContext where a file of that form cannot hold blocks in int8."""
    if delivery.precision != "float32":
        raise UnservableContext(
            f"blocks in int8 stand beside blocks in float32, not in {delivery.precision}: register "
            f"the device "
            "once more in float32, or ask for networks without int8"
        )
    if delivery.opset < OLDEST_OPSET_INT8:
        raise UnservableContext(
            f"opset {delivery.opset} has no weights with a scale for each channel, which int8 needs: it "
            f"takes a runtime that opens opset {OLDEST_OPSET_INT8} (ONNX Runtime from 1.7 on)"
        )


class OnnxFormat(Format):
    """ONNX with standard operators and the weights inside: what is delivered to every runtime that no other
    format claims, with a remark where it is not known whether that opens it."""

    name: ClassVar[str] = ONNX

    def serves(self, context: Context) -> Delivery:
        if context.precision not in PRECISIONS:
            raise UnservableContext(
                f"networks are delivered in {' or '.join(PRECISIONS)}, not in {context.precision[:64]}: "
                "latencies measured in that precision would be those of another file. Blocks in int8 are "
                "asked for with the precision of a profile and of a search, on a device in float32"
            )
        reader = READERS.get(context.runtime)
        if reader is None:
            return Delivery(precision=context.precision, batch_size=context.batch_size)
        opset, ir_version = _opened_by(reader, context.runtime_version)
        return Delivery(min(opset, OPSET), min(ir_version, IR_VERSION), context.precision, context.batch_size)

    def remark(self, context: Context) -> str | None:
        if context.runtime in READERS:
            return None
        return (
            f"files are ONNX, opset {OPSET}, IR version {IR_VERSION}; whether {context.runtime[:64]} "
            f"{context.runtime_version[:64]} opens or converts those is not known here: try one before you "
            "rely on it"
        )

    def check_int8(self, delivery: Delivery) -> None:
        check_int8(delivery)

    def passes(self) -> tuple[Pass, ...]:
        from supernets.delivery.passes import ROUNDED  # noqa: PLC0415 - torch

        return ROUNDED

    def tolerance(self, delivery: Delivery) -> float:
        return TOLERANCES[delivery.precision]

    def write(self, network: nn.Module, content: Content) -> bytes:
        from supernets.delivery.export import export_delivered  # noqa: PLC0415 - torch, onnx

        return export_delivered(network, content)

    def open(self, file: bytes) -> Opened:
        from supernets.delivery.export import onnx_session  # noqa: PLC0415 - onnxruntime
        from supernets.delivery.feeding import OnnxFile  # noqa: PLC0415

        return OnnxFile(onnx_session(file))

    def operators(
        self,
        operators: Iterable[Operator],
        delivery: Delivery,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> dict[Operator, bytes]:
        from supernets.delivery.export import export_operators  # noqa: PLC0415

        return export_operators(operators, delivery=delivery, progress=progress)

    def networks(
        self,
        space: Space,
        architectures: Sequence[Architecture],
        blocks: Mapping[Operator, bytes],
        delivery: Delivery,
    ) -> list[bytes]:
        from supernets.delivery.export import join_networks  # noqa: PLC0415
        from supernets.delivery.int8_export import chosen_network  # noqa: PLC0415
        from supernets.spaces.lowering import lower  # noqa: PLC0415

        # Blocks in int8 are rounded together: what one gives and the next one takes has one scale.
        return [
            chosen_network(operators, delivery, eps=space.batch_norm_eps)
            if any(op.precision == INT8 for op in operators)
            else join_networks(space, [architecture], blocks)[0]
            for architecture, operators in ((one, lower(space, one)) for one in architectures)
        ]


def _opened_by(reader: Reader, version: str) -> tuple[int, int]:
    """Greatest opset and IR version."""
    match = _VERSION.match(version)
    if match is None:
        raise UnservableContext(
            f"the version of {reader.runtime} says which ONNX opset it opens, and {version[:64]!r} is no "
            "version; "
            "give it as 1.16 or 1.16.3"
        )
    known = (int(match[1]), int(match[2] or 0))
    fitting = [(opset, ir) for since, opset, ir in reader.since if since <= known]
    if not fitting:
        oldest = ".".join(map(str, reader.since[0][0]))
        raise UnservableContext(
            f"files for {reader.runtime} {version[:64]} cannot be written; they can from {oldest} on "
            f"(opset {OLDEST_OPSET})"
        )
    return fitting[-1]
