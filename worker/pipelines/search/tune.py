"""Fine-tuning in a search job: if `tune_epochs` is set, the chosen network is trained alone before it is
delivered.

A network is fine-tuned once, however many targets of however many jobs choose it.
"""

from __future__ import annotations

from typing import Any, Final

from service.db.artifacts import register
from service.db.states import ArtifactKind
from supernets.spaces.architecture import Architecture
from worker.compute.laboratory import Laboratory
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
    ) -> tuple[dict[str, Any], float]:
        """(the fine-tuned network as operations name a supernet, seconds that took). Raises StepFailed,
        ChildCrashed."""
        asked = {"architecture": self.ready.space.to_json(architecture), "epochs": self.epochs}
        inputs = {**self.loaded, **asked, "recipe": self.ready.recipe, "seed": self.ready.seed}
        found = self.train(STEP, laboratory, target, inputs, asked)
        self.run.write(
            lambda session: register(
                session, found["weights_sha256"], found["size_bytes"], ArtifactKind.SUBNETWORK
            )
        )
        loaded = {**self.loaded, "weights_sha256": found["weights_sha256"], "alone": asked["architecture"]}
        return loaded, float(found["seconds"])

    def told(self, said: dict[str, Any]) -> str:
        """Epoch and loss."""
        return f"epoch {said['epoch']} of {said['epochs']}, loss {said['loss']:.3f}"
