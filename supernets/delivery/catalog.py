"""What is delivered for which context: one catalog of the runtimes that open our files. No torch here: the service asks it too.

Files are ONNX. Which opset and which IR version a runtime opens is a property of its version; a file for an old runtime is
written in the words of its time (`supernets.delivery.passes`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from latency_tables.errors import UnservableContext
from latency_tables.measurement import Context

OPSET: Final = 20
"""What networks are exported in; newer runtimes open it too."""
IR_VERSION: Final = 10
OLDEST_OPSET: Final = 11
PRECISIONS: Final = ("float32", "float16")
SEPARATE, EMBEDDED = "separate", "embedded"
_VERSION: Final = re.compile(r"v?(\d{1,5})(?:\.(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True)
class Reader:
    """A runtime that opens ONNX. since: (major, minor) with the greatest opset and IR version from then on, the oldest first."""

    runtime: str
    since: tuple[tuple[tuple[int, int], int, int], ...]
    source: str


READERS: Final[dict[str, Reader]] = {
    reader.runtime: reader
    for reader in (
        Reader(
            "onnxruntime",
            (
                ((1, 3), 12, 7),
                ((1, 7), 13, 7),
                ((1, 8), 14, 7),
                ((1, 9), 15, 8),
                ((1, 11), 16, 8),
                ((1, 12), 17, 8),
                ((1, 14), 18, 8),
                ((1, 15), 19, 9),
                ((1, 17), 20, 9),
                ((1, 18), 20, 10),
            ),
            "ONNX Runtime's table of compatible ONNX versions",
        ),
        Reader("openvino", (((2022, 1), 14, 8), ((2024, 0), 20, 10)), "OpenVINO's list of supported ONNX operators"),
        Reader("tensorrt", (((8, 4), 13, 8), ((8, 6), 17, 8), ((10, 0), 20, 10)), "the release notes of TensorRT's ONNX parser"),
    )
}


@dataclass(frozen=True)
class Delivery:
    """The form of a file. batch_size: None leaves it open. preprocessing: `embedded` takes bytes and normalises inside."""

    opset: int = OPSET
    ir_version: int = IR_VERSION
    precision: str = "float32"
    batch_size: int | None = 1
    preprocessing: str = SEPARATE

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Self:
        """None, of jobs that earlier versions wrote, is the form those delivered."""
        return cls() if data is None else cls(**data)

    def asked(self, batch: str, preprocessing: str) -> Delivery:
        """The same with the options of a search: batch `dynamic` or `device`, preprocessing `embedded` or `separate`."""
        return replace(self, batch_size=None if batch == "dynamic" else self.batch_size, preprocessing=preprocessing)


def delivery_of(context: Context) -> Delivery:
    """The form of files for that context. Raises UnservableContext, with the reason, where none can be delivered."""
    reader = READERS.get(context.runtime)
    if reader is None:
        raise UnservableContext(
            f"networks are delivered as ONNX files, and nothing is known of {context.runtime[:64]} opening those; runtimes that "
            f"do are {', '.join(READERS)}"
        )
    if context.precision not in PRECISIONS:
        raise UnservableContext(
            f"networks are delivered in {' or '.join(PRECISIONS)}, not in {context.precision[:64]}: latencies measured in that "
            "precision would be those of another file"
        )
    opset, ir_version = _opened_by(reader, context.runtime_version)
    return Delivery(min(opset, OPSET), min(ir_version, IR_VERSION), context.precision, context.batch_size)


def refusal(context: Context) -> str | None:
    """Why no file can be delivered for that context; None where one can."""
    try:
        delivery_of(context)
    except UnservableContext as error:
        return str(error)
    return None


def common_delivery(contexts: Sequence[Context]) -> Delivery:
    """The form that all these contexts open: one network for several devices. Raises UnservableContext."""
    found = [delivery_of(context) for context in contexts]
    if len({(one.precision, one.batch_size) for one in found}) > 1:
        told = ", ".join(sorted({f"{one.precision} with batch {one.batch_size}" for one in found}))
        raise UnservableContext(f"one file cannot serve devices of different precision or batch size ({told}); search for each")
    return replace(found[0], opset=min(d.opset for d in found), ir_version=min(d.ir_version for d in found))


def _opened_by(reader: Reader, version: str) -> tuple[int, int]:
    """Greatest opset and IR version."""
    match = _VERSION.match(version)
    if match is None:
        raise UnservableContext(
            f"the version of {reader.runtime} says which ONNX opset it opens, and {version[:64]!r} is no version; "
            "give it as 1.16 or 1.16.3"
        )
    known = (int(match[1]), int(match[2] or 0))
    fitting = [(opset, ir) for since, opset, ir in reader.since if since <= known]
    if not fitting:
        oldest = ".".join(map(str, reader.since[0][0]))
        raise UnservableContext(
            f"files for {reader.runtime} {version[:64]} cannot be written; they can from {oldest} on (opset {OLDEST_OPSET})"
        )
    return fitting[-1]
