"""Fine-tuning in a search job: if `tune_epochs` is set, the chosen network is trained alone before it is
delivered.

A network is fine-tuned once, however many targets of however many jobs choose it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from service.db.artifacts import register
from service.db.states import ArtifactKind
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from worker.compute.laboratory import Follow, Laboratory
from worker.compute.requests import FineTune, SupernetRef, TrainingReport, TunedWeights
from worker.pipelines.search.targets import Target
from worker.pipelines.search.trainings import TargetTraining
from worker.steps import StepName

STEP: Final = StepName.FINE_TUNE


class FineTuning(TargetTraining):
    """The fine-tunings of one job."""

    @property
    def epochs(self) -> int:
        """How many epochs were asked for; 0 where the network is to be delivered as it is cut out."""
        return int(self.run.request.get("tune_epochs") or 0)

    def trained(
        self, laboratory: Laboratory, target: Target, architecture: Architecture
    ) -> tuple[SupernetRef, float]:
        """(the fine-tuned network as a supernet of its own, seconds that took). Raises TrainingDiverged."""
        ready, device = self.ready, self.run.context.settings.training_device
        inputs = {
            **ready.ref.inputs(),
            "architecture": described(architecture),
            "epochs": self.epochs,
            "recipe": ready.recipe,
            "seed": ready.seed,
        }

        def begin(folder: str, follow: Follow) -> TunedWeights:
            asked = FineTune(ready.ref, architecture, ready.recipe, self.epochs, ready.seed, device, folder)
            return laboratory.fine_tune(asked, follow)

        found = self.train(STEP, inputs, TunedWeights, target, begin)
        sha256, size_bytes = found.weights_sha256, found.size_bytes
        self.run.write(lambda session: register(session, sha256, size_bytes, ArtifactKind.SUBNETWORK))
        return replace(ready.ref, weights_sha256=sha256, alone=architecture), found.seconds

    def told(self, said: TrainingReport) -> str:
        """Epoch and loss."""
        return f"epoch {said.epoch} of {said.epochs}, loss {said.loss:.3f}"
