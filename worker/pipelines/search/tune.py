"""Fine-tuning in a search job: if `tune_epochs` is set, the chosen network is trained alone before it is
delivered.

A network is fine-tuned once, however many targets of however many jobs choose it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final

from service.db.artifacts import register
from service.db.states import ArtifactKind
from supernets.errors import InvalidTraining, TrainingDiverged
from supernets.search.targets import Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from supernets.training.recipe import DEFENSIVE
from supernets.training.spec import LITE
from worker.compute.requests import FineTune, SupernetRef, TrainingReport, TunedWeights
from worker.compute.torch_child import Follow, TorchChild
from worker.pipelines.search.choose import Choosing
from worker.pipelines.search.deliver import Files
from worker.pipelines.search.exported import ExportedNetwork, Tuning
from worker.pipelines.search.solve import Solving
from worker.pipelines.search.trainings import TargetTraining
from worker.pipelines.search.verify import OnFile
from worker.steps import StepName

STEP: Final = StepName.FINE_TUNE
MEASURED_WHOLE: Final = (
    "the whole network as a file, measured on its device: predicted_ms is without its lite residuals, which "
    "no latency table has"
)


@dataclass(frozen=True)
class FineTuning(TargetTraining):
    """The fine-tunings of one job. epochs: 0 where networks are to be delivered as they are cut out.

    memory_mb: most that a fine-tuning may take. part: what of the network it changes. defensive: towards
    orthogonal layers.
    """

    epochs: int = 0
    memory_mb: int | None = None
    part: str = "all"
    defensive: bool = False

    def better(
        self, target: Target, cut_out: ExportedNetwork, solving: Solving, files: Files, choosing: Choosing
    ) -> ExportedNetwork:
        """The network fine-tuned and measured; as it was cut out where that diverged, lost accuracy or broke
        the budget."""
        architecture, value = cut_out.architecture, cut_out.metric.value
        before = cut_out.validation_accuracy
        told, better = Tuning(self.epochs, value(cut_out.counted), train=self.part), cut_out
        told = replace(told, defensive=self.defensive)
        whole = self.part == LITE  # what it adds is no operator, so only a measurement prices it
        if whole and not _all_measured(target, cut_out):
            return replace(cut_out, tuning=self._said(target, replace(told, failure=_unpriced(target))))
        try:
            tuned, found = self.trained(solving.job.torch_child, target, architecture)
            accuracy = solving.scored([architecture], tuned, reduced=target.reduced)[architecture.digest]
            scored = solving.result(architecture, tuned)
            counted = accuracy if scored is None else scored.accuracy
            told = replace(
                told,
                seconds=found.seconds,
                validation=value(counted),
                kept=accuracy >= before,
                memory=found.memory,
            )
            if told.kept:
                file = files.file(target, architecture, tuned)
                better = replace(
                    cut_out, file=file, validation_accuracy=accuracy, scored=scored, weights=tuned
                )
                better, failure = _measured_again(target, cut_out, better, choosing, whole=whole)
                told = replace(told, kept=failure is None, failure=failure)
                if whole and told.kept:
                    told = replace(told, priced_by=MEASURED_WHOLE)
        except (TrainingDiverged, InvalidTraining) as error:
            # Fine-tuning is a wish for more: the network that keeps its budget is there without it.
            told = replace(told, failure=str(error))
        return replace(better, tuning=self._said(target, told))

    def _said(self, target: Target, told: Tuning) -> Tuning:
        self.run.event("fine_tuned", {"device": target.device, "budget_ms": target.budget_ms, **asdict(told)})
        return told

    def trained(
        self, torch_child: TorchChild, target: Target, architecture: Architecture
    ) -> tuple[SupernetRef, TunedWeights]:
        """(the fine-tuned network as a supernet of its own, what the training says). Raises TrainingDiverged,
        MemoryLimitTooLow."""
        ready, device = self.ready, self.run.context.settings.training_device
        architecture = ready.space.in_float(architecture)  # what is rounded later is trained in float32
        inputs = {
            **ready.ref.inputs(),
            "architecture": described(architecture),
            "epochs": self.epochs,
            "recipe": ready.recipe,
            "seed": ready.seed,
            # What is not asked for leaves no trace: steps of before it could be are known still.
            **({} if self.memory_mb is None else {"memory_mb": self.memory_mb}),
            **({} if self.part == "all" else {"train": self.part}),
            **({"defensive": DEFENSIVE} if self.defensive else {}),
            **({} if ready.class_weights is None else {"class_weights": ready.class_weights}),
        }

        def begin(folder: str, follow: Follow) -> TunedWeights:
            asked = FineTune(
                ready.ref,
                architecture,
                ready.recipe,
                self.epochs,
                ready.seed,
                device,
                folder,
                self.memory_mb,
                self.part,
                ready.class_weights,
                self.defensive,
            )
            return torch_child.fine_tune(asked, follow)

        found = self.train(STEP, inputs, TunedWeights, target, begin)
        sha256, size_bytes = found.weights_sha256, found.size_bytes
        # Its weights are a file that only a step names; unregistered, the hourly sweep would take it.
        self.run.write(lambda session: register(session, sha256, size_bytes, ArtifactKind.SUBNETWORK))
        return replace(ready.ref, weights_sha256=sha256, alone=architecture), found

    def told(self, said: TrainingReport) -> str:
        """Epoch and loss."""
        return f"epoch {said.epoch} of {said.epochs}, loss {said.loss:.3f}"


def _measured_again(
    target: Target, cut_out: ExportedNetwork, better: ExportedNetwork, choosing: Choosing, *, whole: bool
) -> tuple[ExportedNetwork, str | None]:
    """(the fine-tuned network with its own latencies, None); where its file was measured above the budget, as
    it was cut out, with the reason. whole: nothing but this measurement tells its latency."""
    if not cut_out.latencies:
        return better, None
    latencies = choosing.settled([OnFile(better.architecture, better.file)])[0]
    if latencies is None:
        # Without lite residuals the same operators were measured before, with other weights in them.
        return (cut_out, _unpriced(target)) if whole else (better, None)
    broken = any(one.ms > gauge.budget for one, gauge in zip(latencies, target.gauges, strict=True))
    if broken:
        return cut_out, "its file was measured above the budget"
    return replace(better, latencies=latencies), None


def _all_measured(target: Target, network: ExportedNetwork) -> bool:
    """Whether every limit of the target is one that was measured of the network."""
    gauges = sum(1 + len(place.further) for place in target.places)
    return bool(network.latencies) and not target.limits and len(network.latencies) == gauges


def _unpriced(target: Target) -> str:
    return (
        f"lite residuals are in no latency table, and no agent on {target.device or 'a device'} measured the "
        "whole network: start one there and search again, or fine-tune with train all, bias or last"
    )
