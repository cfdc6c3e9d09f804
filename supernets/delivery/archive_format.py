"""The format `archive`: networks that write sentences, as one zip of graphs, settings and vocabularies.

Source of the form: `supernets.delivery.transformer_folder`. Operators are measured as the ONNX files that
they are of any other network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from latency_tables.agent.runtimes.catalog import RUNTIMES
from latency_tables.measurement import Context
from supernets.delivery.format import ONNX, OPSET, Delivery
from supernets.delivery.onnx_format import READERS, OnnxFormat
from supernets.errors import ExportFailed, InvalidCompression, UnservableContext
from supernets.spaces.transformer_space import SentenceSpace

if TYPE_CHECKING:
    from latency_tables.operators import Operator
    from supernets.delivery.format import Opened
    from supernets.delivery.passes import Source
    from supernets.delivery.pipeline import Written
    from supernets.delivery.testing import Tested
    from supernets.spaces.architecture import Architecture
    from supernets.spaces.space import Space
    from supernets.tasks.data import Data

ARCHIVE: Final = "archive"


class ArchiveFormat(OnnxFormat):
    """Graphs of ONNX in float32 for one sentence at a time. Whoever measures or runs one holds the loop of
    generation itself, which is here for ONNX Runtime; a runtime that nothing is known of gets the same file
    with a remark."""

    name: ClassVar[str] = ARCHIVE

    def holds(self, space: Space) -> bool:
        return isinstance(space, SentenceSpace)

    def serves(self, context: Context) -> Delivery:
        usual = (context.precision, context.batch_size) == ("float32", 1)
        measurable = context.runtime in READERS or context.runtime not in RUNTIMES
        if not (usual and measurable):
            raise UnservableContext(
                "networks that write sentences are measured and delivered for onnxruntime, in float32, one "
                "sentence at a time; register the device with such a context"
            )
        found = super().serves(context)
        if found.opset < OPSET:
            raise UnservableContext(
                f"networks that write sentences are written in opset {OPSET}, and {context.runtime} "
                f"{context.runtime_version[:64]} opens opset {found.opset} at most; update it"
            )
        return found

    def deliver(self, source: Source, delivery: Delivery) -> Written:
        from supernets.data.text.sentences import Sentences  # noqa: PLC0415 - torch beside it
        from supernets.delivery.parity import Parity  # noqa: PLC0415 - torch
        from supernets.delivery.pipeline import Written  # noqa: PLC0415
        from supernets.delivery.sentences import deliver_sentences  # noqa: PLC0415
        from supernets.sentence_supernet import SentenceSupernet  # noqa: PLC0415

        supernet, data = source.supernet, source.data
        if not (isinstance(supernet, SentenceSupernet) and isinstance(data, Sentences)):
            raise ExportFailed(f"networks of {supernet.space.name} write no sentences")
        if source.compression:
            raise InvalidCompression(
                f"networks of {supernet.space.name} write sentences: no pass is for them"
            )
        made = deliver_sentences(supernet, source.architecture, data, delivery)
        parity = Parity(made.parity, 0.0, self.tolerance(delivery))
        return Written(
            made.file,
            made.network,
            made.inputs,
            made.described,
            parity,
            made.measured,
            made.inputs,
            labels=False,
        )

    def tested(
        self,
        file: bytes,
        data: Data,
        condition: int,
        split: str = "test",
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Tested:
        from supernets.data.text.sentences import Sentences  # noqa: PLC0415
        from supernets.delivery.sentences import tested_sentences  # noqa: PLC0415 - torch

        if not isinstance(data, Sentences):
            raise ExportFailed(f"data set {data.name!r} is not made of sentences")
        return tested_sentences(file, data, split, progress)

    def open(self, file: bytes) -> Opened:
        raise ExportFailed("an archive is no single graph: generate with latency_tables.text_network")

    def operators(
        self,
        operators: Iterable[Operator],
        delivery: Delivery,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> dict[Operator, bytes]:
        return super().operators(operators, replace(delivery, format=ONNX), progress)

    def networks(
        self,
        space: Space,
        architectures: Sequence[Architecture],
        blocks: Mapping[Operator, bytes],
        delivery: Delivery,
    ) -> list[bytes]:
        from supernets.delivery.transformer_folder import measured_archive  # noqa: PLC0415 - torch

        if not isinstance(space, SentenceSpace):
            raise ExportFailed(f"networks of {space.name} write no sentences")
        return [
            measured_archive(space.described, one, space.generation, space.classes, seed)
            for seed, one in enumerate(architectures)
        ]
