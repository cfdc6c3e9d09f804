"""Compression passes of a job `compress`: each is tried at its strengths, made a file, measured beside the
network without it, and kept where it pays.

A pass that costs too much accuracy, or brings nothing, is left out and the card says so.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

from service.db.documents import Document
from supernets.delivery.compression.catalog import LATENCY, MOST_LOST, PASSES, AppliedPass, CompressionPass
from supernets.search.measured import Latency
from supernets.search.targets import Target
from supernets.spaces.catalog import described
from worker.compute.requests import DeliveredFile, SupernetRef, TriedPass, TryPass
from worker.pipelines.search.choose import Choosing
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.exported import CompressedAs, ExportedNetwork, PassReport
from worker.pipelines.search.job import SearchJob
from worker.pipelines.search.verify import OnFile
from worker.steps import StepName

LEAST_GAIN: Final = 0.01
"""Of the latency: devices repeat a measurement to half of that."""
UNPRICED: Final = (
    "predicted_ms and upper_ms are of the network before its passes: no latency table has its split layers"
)


@dataclass(frozen=True)
class Compressing:
    """Of one job."""

    job: SearchJob
    files: Files

    def of(self, target: Target, network: ExportedNetwork, choosing: Choosing) -> ExportedNetwork:
        """The network after the passes that pay. Raises InvalidCompression."""
        applied: tuple[AppliedPass, ...] = ()
        reports: list[PassReport] = []
        for name in self.job.request.passes or ():
            network, applied, said = self._after(target, network, applied, PASSES[name], choosing)
            reports.append(said)
            told = {"device": target.device, "pass": name, "kept": said.kept, "reason": said.reason}
            self.job.run.event("compressed", told)
        split = any(one.kept and PASSES[one.name].gains == LATENCY for one in reports)
        return replace(network, compression=CompressedAs(tuple(reports), UNPRICED if split else None))

    def _after(
        self,
        target: Target,
        network: ExportedNetwork,
        applied: tuple[AppliedPass, ...],
        wanted: CompressionPass,
        choosing: Choosing,
    ) -> tuple[ExportedNetwork, tuple[AppliedPass, ...], PassReport]:
        """(the network, what was applied to it, what is said of the pass)."""
        weights = network.weights or self.job.ready.ref
        tried = self._tried(network, weights, applied, wanted.name)
        strength = wanted.strengths[0] if tried.taken is None else tried.taken
        further = (*applied, AppliedPass(wanted.name, strength))
        self.job.run.progress("deliver", 0.9, f"{wanted.name} of {strength:g}", always=True)
        file = self.files.file(target, network.architecture, weights, further)
        found = choosing.settled([OnFile(network.architecture, one) for one in (network.file, file)])
        before, after = found if target.measured else (None, None)
        deflated = [self._deflated(one) for one in (network.file, file)]
        reason = _not_kept(target, wanted, tried, before, after, deflated)
        value = dict(tried.validation)[strength]
        report = PassReport(
            name=wanted.name,
            does=wanted.does,
            kept=reason is None,
            reason=reason or _gain(wanted, before, after, deflated),
            strength=strength,
            strength_is=wanted.strength_is,
            fitted_on=wanted.fitted_on,
            tried={f"{one:g}": counted for one, counted in tried.validation},
            before=self._line(network, network.file, tried.before, deflated[0], before),
            after=self._line(network, file, value, deflated[1], after),
            control={
                "is": wanted.control,
                "validation": tried.control_validation,
                "test": tried.control_test,
            },
            detail={
                k: v for k, v in file.compression[-1].items() if k not in ("name", "strength", "control")
            },
        )
        if reason is not None:
            return network, applied, report
        quality = network.metric.quality(value)
        scored = None if network.scored is None else replace(network.scored, accuracy=quality)
        kept = replace(network, file=file, validation_accuracy=quality, scored=scored)
        return (kept if after is None else replace(kept, latencies=after)), further, report

    def _tried(
        self, network: ExportedNetwork, weights: SupernetRef, applied: tuple[AppliedPass, ...], name: str
    ) -> TriedPass:
        asked = TryPass(weights, network.architecture, applied, name)
        inputs: Document = {
            **weights.inputs(),
            "architecture": described(network.architecture),
            "before": [one.to_json() for one in applied],
            "pass": name,
            "strengths": list(PASSES[name].strengths),
            "most_lost": MOST_LOST,
        }

        def report(done: int, total: int) -> None:
            self.job.run.progress("deliver", done / total, f"{name}: {done} of {total}")

        return self.job.run.step(
            StepName.TRY_COMPRESSION, inputs, TriedPass, lambda: self.job.torch_child.try_pass(asked, report)
        )

    def _line(
        self,
        network: ExportedNetwork,
        file: DeliveredFile,
        validation: float,
        deflated_bytes: int,
        latencies: tuple[Latency, ...] | None,
    ) -> Document:
        return {
            "size_bytes": file.size_bytes,
            "deflated_bytes": deflated_bytes,
            "parameters": file.parameters,
            "macs": file.macs,
            "validation": validation,
            "test": self.files.test_of(network.architecture, file).accuracy,
            "parity_max_abs_error": file.parity_max_abs_error,
            "measured_ms": None if not latencies else latencies[0].ms,
            "uncertainty": None if not latencies else latencies[0].uncertainty,
        }

    def _deflated(self, file: DeliveredFile) -> int:
        """Bytes of a file as archives and downloads hold it."""
        return len(zlib.compress(self.job.run.context.store.read(file.onnx_sha256), 9))


def _not_kept(
    target: Target,
    wanted: CompressionPass,
    tried: TriedPass,
    before: tuple[Latency, ...] | None,
    after: tuple[Latency, ...] | None,
    deflated: list[int],
) -> str | None:
    """Why the network is delivered without the pass; None where it pays."""
    if tried.taken is None:
        return f"even the weakest of its strengths costs more than {MOST_LOST:.0%} on validation data"
    if after is not None and any(
        one.ms > gauge.budget for one, gauge in zip(after, target.gauges, strict=True)
    ):
        return "its file was measured above the budget"
    if wanted.gains != LATENCY:
        return None if deflated[1] < deflated[0] else "the file becomes no smaller"
    if before is None or after is None:
        return (
            "nobody measured whether it is faster, and no latency table tells: start an agent on the device "
            "and compress again"
        )
    if after[0].ms > (1 - LEAST_GAIN) * before[0].ms:
        return f"measured {after[0].ms:.4g} ms, {before[0].ms:.4g} ms without it: it does not pay here"
    return None


def _gain(
    wanted: CompressionPass,
    before: tuple[Latency, ...] | None,
    after: tuple[Latency, ...] | None,
    deflated: list[int],
) -> str:
    if wanted.gains == LATENCY and before is not None and after is not None:
        return f"measured {before[0].ms / after[0].ms:.3g} times as fast"
    return f"for size only, {deflated[0] / deflated[1]:.3g} times smaller deflated; it is no faster"
