"""What is delivered for which context: one catalog of the runtimes that open our files. No torch here: the
service asks it too.

Files are ONNX. Which opset and which IR version a runtime opens is a property of its version; a file for an
old runtime is written in the words of its time (`supernets.delivery.passes`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from latency_tables.measurement import Context
from supernets.errors import UnservableContext

OPSET: Final = 20
"""What networks are exported in; newer runtimes open it too."""
IR_VERSION: Final = 10
OLDEST_OPSET: Final = 11
PRECISIONS: Final[dict[str, int]] = {"float32": 4, "float16": 2}
"""Precisions that are delivered, with the bytes of a value."""
SEPARATE, EMBEDDED = "separate", "embedded"
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


@dataclass(frozen=True)
class Delivery:
    """The form of a file. batch_size: None leaves it open. preprocessing: `embedded` takes bytes and
    normalises inside."""

    opset: int = OPSET
    ir_version: int = IR_VERSION
    precision: str = "float32"
    batch_size: int | None = 1
    preprocessing: str = SEPARATE

    @property
    def bytes_per_value(self) -> int:
        """Of a weight, and of an activation between two operators."""
        return PRECISIONS[self.precision]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Self:
        """None, of jobs that earlier versions wrote, is the form those delivered."""
        return cls() if data is None else cls(**data)

    def asked(self, batch: str, preprocessing: str) -> Delivery:
        """The same with the options of a search: batch `dynamic` or `device`, preprocessing `embedded` or
        `separate`."""
        return replace(
            self, batch_size=None if batch == "dynamic" else self.batch_size, preprocessing=preprocessing
        )


def delivery_of(context: Context) -> Delivery:
    """The form of files for that context. Raises UnservableContext, with the reason, where none can be
    delivered."""
    if context.precision not in PRECISIONS:
        raise UnservableContext(
            f"networks are delivered in {' or '.join(PRECISIONS)}, not in {context.precision[:64]}: "
            "latencies measured in that "
            "precision would be those of another file"
        )
    reader = READERS.get(context.runtime)
    if reader is None:
        return Delivery(precision=context.precision, batch_size=context.batch_size)
    opset, ir_version = _opened_by(reader, context.runtime_version)
    return Delivery(min(opset, OPSET), min(ir_version, IR_VERSION), context.precision, context.batch_size)


def remark(context: Context) -> str | None:
    """What is to be checked before a file is used there; None where what the runtime opens is known."""
    if context.runtime in READERS:
        return None
    return (
        f"files are ONNX, opset {OPSET}, IR version {IR_VERSION}; whether {context.runtime[:64]} "
        f"{context.runtime_version[:64]} "
        "opens or converts those is not known here: try one before you rely on it"
    )


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
        raise UnservableContext(
            f"one file cannot serve devices of different precision or batch size ({told}); search for each"
        )
    return replace(found[0], opset=min(d.opset for d in found), ir_version=min(d.ir_version for d in found))


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
