"""Networks of a search as files: exported in the form their devices open, held against the size, tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

from service.db.documents import Document
from supernets.accuracy.likelihood import equal_to_best
from supernets.delivery.attacks import MOST_SAMPLES, STRENGTHS
from supernets.delivery.catalog import Delivery, common_delivery
from supernets.delivery.compression.catalog import AppliedPass
from supernets.search.limits import SIZE, reachable, unreachable
from supernets.search.targets import Solved, Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from worker.compute.requests import DeliveredFile, FileAccuracy, MeasureRobustness, Robust, SupernetRef
from worker.pipelines.scoring import Scored
from worker.pipelines.search.exported import Equal, ExportedNetwork, compared_with_best
from worker.pipelines.search.gates import Gates
from worker.pipelines.search.job import SearchJob
from worker.pipelines.search.solve import Solving
from worker.steps import StepName

ROUNDS: Final = 5
ATTACK: Final = "FGSM, with the gradient of the network in float32"


class Files:
    """The files of one job."""

    def __init__(self, job: SearchJob, solving: Solving, gates: Gates) -> None:
        self.job, self.solving, self.gates = job, solving, gates

    def exported(self, target: Target, solved: Solved, most: int) -> list[ExportedNetwork]:
        """The candidates that do best on the supernet as files that keep the size, ties to the faster one; at
        least one.

        Where all are too large, the next solution allows for what files hold besides weights. Raises
        InfeasibleBudget.
        """
        limit, found = target.limits.get(SIZE, math.inf), solved
        for _ in range(ROUNDS):
            kept = self._keeping_the_size(target, found, most, limit)
            if kept:
                return kept
            found = self.solving.solved(target)
        raise unreachable(SIZE, limit, *reachable(target.space, SIZE, target.bytes_per_value))

    def file(
        self,
        target: Target,
        architecture: Architecture,
        supernet: SupernetRef,
        compression: Sequence[AppliedPass] = (),
    ) -> DeliveredFile:
        """A network cut out of a supernet (the job's, or a fine-tuned network) as an ONNX file, after
        compression passes."""
        form = self._form(target)
        inputs = {**supernet.inputs(), "architecture": described(architecture), "delivery": form.to_json()}
        if compression:  # files of before there were any stay known by their keys
            inputs["compression"] = [one.to_json() for one in compression]
        return self.job.run.step(
            StepName.EXPORT_NETWORK_FILE,
            inputs,
            DeliveredFile,
            lambda: self.job.torch_child.deliver(supernet, architecture, form, compression),
        )

    def accuracy_of(self, delivered: ExportedNetwork) -> FileAccuracy:
        """What the file itself does on samples that neither training nor search has seen."""
        return self.test_of(delivered.architecture, delivered.file)

    def test_of(self, architecture: Architecture, file: DeliveredFile) -> FileAccuracy:
        """The same of any file of a network of this supernet."""
        supernet, sha256 = self.job.ready.ref, file.onnx_sha256
        form = file.delivery or Delivery()  # files of earlier versions did not say theirs
        inputs: Document = {
            "supernet": supernet.inputs(),
            "architecture": described(architecture),
            "onnx_sha256": sha256,
        }
        return self.job.run.step(
            StepName.TEST_NETWORK_FILE,
            inputs,
            FileAccuracy,
            lambda: self.job.torch_child.measure_accuracy(supernet, architecture, sha256, form),
        )

    def robustness_of(self, network: ExportedNetwork) -> Document:
        """What the file does on pictures changed to deceive it. Raises InvalidSearch for other data."""
        weights, file = network.weights or self.job.ready.ref, network.file
        applied = tuple(
            AppliedPass(str(one["name"]), float(str(one["strength"]))) for one in file.compression
        )
        form = file.delivery or Delivery()
        asked = MeasureRobustness(weights, network.architecture, file.onnx_sha256, form, applied)
        inputs: Document = {
            **weights.inputs(),
            "architecture": described(network.architecture),
            "onnx_sha256": file.onnx_sha256,
            "strengths": list(STRENGTHS),
            "samples": MOST_SAMPLES,
        }

        def report(done: int, total: int) -> None:
            self.job.run.progress("deliver", done / total, f"changed picture {done} of {total}")

        found = self.job.run.step(
            StepName.MEASURE_ROBUSTNESS,
            inputs,
            Robust,
            lambda: self.job.torch_child.measure_robustness(asked, report),
        )
        return {"attack": ATTACK, "unit": "steps of 255", "split": "test", **asdict(found)}

    def _keeping_the_size(
        self, target: Target, solved: Solved, most: int, limit: float
    ) -> list[ExportedNetwork]:
        """Of the best candidates those whose files keep the size; the others are ruled out."""
        kept: list[ExportedNetwork] = []
        accuracies = self.solving.scored(solved.architectures, reduced=target.reduced)
        results = [self.solving.result(one) for one in solved.architectures]
        order, equal = _fastest_of_equals(_best_first(solved, accuracies), solved, results)
        for position in order[: max(most, 1)]:
            # Each file names the others as its runners-up, so that the card shows what it was chosen from.
            others = [i for i in order if i != position]
            file = self.file(target, solved.architectures[position], self.job.ready.ref)
            network = ExportedNetwork.of(
                target,
                solved,
                [position, *others],
                accuracies,
                file,
                self.solving.ranking(target),
                self.gates.summary(target),
            )
            network = replace(network, scored=results[position])
            if equal is not None and position == order[0]:
                network = replace(network, equal=equal)
            if file.size_bytes <= limit:
                kept.append(network)
                continue
            broken = {"device": target.device, "constraint": SIZE, "limit": limit, "value": file.size_bytes}
            self.job.run.event("budget_broken", broken)
            # The next ones are solved for with what this file held besides its weights.
            target.outgrown(network.architecture, file.size_bytes)
        return kept

    def _form(self, target: Target) -> Delivery:
        """The form of the target's files: what its devices open, with the options of the search. Raises
        UnservableContext."""
        contexts = [place.context for place in target.places if place.context is not None]
        form = common_delivery(contexts, target.space)
        return form.asked(self.job.request.batch, self.job.request.preprocessing)


def _fastest_of_equals(
    order: list[int], solved: Solved, results: Sequence[Scored | None]
) -> tuple[list[int], Equal | None]:
    """(the order with the fastest of those before the others that the samples cannot tell from the best, how
    they compare); as it was where networks are ranked by counted answers, or nothing is equal."""
    scored = [results[i] for i in order]
    known = [one for one in scored if one is not None and one.likelihoods]
    costs = [solved.candidates[i].costs for i in order]
    if len(known) < len(order) or len(order) < 2 or not all(costs):
        return order, None
    alike = equal_to_best([one.likelihoods for one in known])
    if len(alike) < 2:
        return order, None
    taken = min(alike, key=lambda place: costs[place][0])
    compared = compared_with_best(known, taken, len(alike))
    return [order[taken], *(i for i in order if i != order[taken])], compared


def _best_first(solved: Solved, accuracies: Mapping[str, float]) -> list[int]:
    """Positions of the candidates, the most accurate first; ties go to the faster one."""

    def rank(i: int) -> tuple[float, float]:
        costs = solved.candidates[i].costs
        return -accuracies[solved.architectures[i].digest], costs[0] if costs else 0.0

    return sorted(range(len(solved.architectures)), key=rank)
