"""Fine-tuning in a search job: if `tune_epochs` is set, the chosen network is trained alone before it is
delivered.

A network is fine-tuned once, however many targets of however many jobs choose it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final

from service.db.artifacts import register
from service.db.states import ArtifactKind
from supernets.errors import MemoryLimitTooLow, TrainingDiverged
from supernets.search.targets import Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
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


@dataclass(frozen=True)
class FineTuning(TargetTraining):
    """The fine-tunings of one job. epochs: 0 where networks are to be delivered as they are cut out.

    memory_mb: most that a fine-tuning may take. part: what of the network it changes.
    """

    epochs: int = 0
    memory_mb: int | None = None
    part: str = "all"

    def better(
        self, target: Target, cut_out: ExportedNetwork, solving: Solving, files: Files, choosing: Choosing
    ) -> ExportedNetwork:
        """The network fine-tuned and measured; as it was cut out where that diverged, lost accuracy or broke
        the budget."""
        architecture, value = cut_out.architecture, cut_out.metric.value
        before = cut_out.validation_accuracy
        told, better = Tuning(self.epochs, value(cut_out.counted), train=self.part), cut_out
        try:
            tuned, found = self.trained(solving.job.torch_child, target, architecture)
            accuracy = solving.scored([architecture], tuned)[architecture.digest]
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
                better = replace(cut_out, file=file, validation_accuracy=accuracy, scored=scored)
                better = _measured_again(target, cut_out, better, choosing)
                if better is cut_out:
                    told = replace(told, kept=False, failure="its file was measured above the budget")
        except (TrainingDiverged, MemoryLimitTooLow) as error:
            # Fine-tuning is a wish for more: the network that keeps its budget is there without it.
            told = replace(told, failure=str(error))
        place = {"device": target.device, "budget_ms": target.budget_ms}
        self.run.event("fine_tuned", {**place, **asdict(told)})
        return replace(better, tuning=told)

    def trained(
        self, torch_child: TorchChild, target: Target, architecture: Architecture
    ) -> tuple[SupernetRef, TunedWeights]:
        """(the fine-tuned network as a supernet of its own, what the training says). Raises TrainingDiverged,
        MemoryLimitTooLow."""
        ready, device = self.ready, self.run.context.settings.training_device
        inputs = {
            **ready.ref.inputs(),
            "architecture": described(architecture),
            "epochs": self.epochs,
            "recipe": ready.recipe,
            "seed": ready.seed,
            # What is not asked for leaves no trace: steps of before it could be are known still.
            **({} if self.memory_mb is None else {"memory_mb": self.memory_mb}),
            **({} if self.part == "all" else {"train": self.part}),
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
    target: Target, cut_out: ExportedNetwork, better: ExportedNetwork, choosing: Choosing
) -> ExportedNetwork:
    """The fine-tuned network with its own latencies; as it was cut out where its file was measured above the
    budget."""
    if not cut_out.latencies:
        return better
    latencies = choosing.settled([OnFile(better.architecture, better.file)])[0]
    if latencies is None:  # the same operators were measured before, with other weights in them
        return better
    broken = any(one.ms > gauge.budget for one, gauge in zip(latencies, target.gauges, strict=True))
    return cut_out if broken else replace(better, latencies=latencies)
