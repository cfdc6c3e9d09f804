"""Gate training inside a search job: a step for each target, in the child, never done twice."""

import re

import numpy as np
import pytest

from service.db.models import Job, now
from supernets.search.restriction import at_resolutions
from supernets.spaces.lowering import dense_from
from tests.worker.pipelines.search.test_targets import SPACE, target
from tests.worker.runs import events_of, new_run
from worker.compute.torch_child import TorchChild
from worker.errors import JobCancelled
from worker.pipelines.search.gates import Gates
from worker.upkeep import TRAININGS

SCORE = dense_from(SPACE, lambda op: np.log1p(op.macs) / 1000)


def gates(run, ready, targets=1):
    return Gates(run, ready, targets)


def asked(goal, wanted=3):
    space = goal.places[0].pricing.space
    return goal.problem(at_resolutions(SCORE, SPACE, space), space, wanted)


def test_gates_are_trained_once_and_chosen_from_again(context, ready):
    run, goal = new_run(context), target(0.05, resolutions=(8,))
    made = gates(run, ready, targets=2)
    with TorchChild(run) as torch_child:
        first = made.solve(torch_child, goal, asked(goal))
        assert 1 <= len(first.candidates) <= 3 and first.strategy == "gradient" and not first.optimal
        assert all(c.costs[0] <= 0.05 for c in first.candidates)
        goal.limit_ms = 0.03
        second = made.solve(torch_child, goal, asked(goal))
        assert all(c.costs[0] <= goal.limit_ms for c in second.candidates), (
            "a limit that was tightened is kept too"
        )
    happened = events_of(context, run)
    assert [e["step"] for e in happened if e["kind"] == "step_done"] == ["train_gates"], (
        "the choice was made again, the training not"
    )
    said = [e["message"] for e in happened if e["kind"] == "progress"]
    assert all(text.startswith("target 1 of 2, dev within 0.05 ms: ") for text in said)
    ends = [
        text
        for text in said
        if re.search(r"epoch 1 of 1, loss [\d.]+, expected [\d.]+ ms, entropy [\d.]+$", text)
    ]
    assert any("warm-up" in text for text in ends) and any(" search " in text for text in ends)
    summary = made.summary(goal)
    assert (summary["warmup_epochs"], summary["epochs"], summary["weight_steps"]) == (
        1,
        1,
        32,
    ) and 0 < summary["entropy"] < 1
    assert list(context.work_folder(f"{TRAININGS}{run.job_id}").iterdir()) == [], (
        "checkpoints go when the result is there"
    )

    later, same = new_run(context), target(0.05, index=5, resolutions=(8,))
    found = gates(later, ready, targets=6).trained(None, same, asked(same))
    assert found == made.trained(None, goal, asked(goal)), "another job does not do it again"
    assert [e["kind"] for e in events_of(context, later) if e["kind"].startswith("step")] == ["step_reused"]


@pytest.mark.slow
def test_a_cancelled_training_keeps_its_checkpoints_and_no_child(context, ready):
    run, goal = new_run(context), target(0.05, resolutions=(8,))
    made = gates(run, ready)
    report = made._report

    def cancel_in_the_search(*arguments):
        report(*arguments)
        if arguments[-1].training.phase == "search":
            with context.sessions.begin() as session:
                session.get(Job, run.job_id).cancel_asked_at = now()
            run._checked = float("-inf")

    object.__setattr__(made, "_report", cancel_in_the_search)
    with pytest.raises(JobCancelled), TorchChild(run) as torch_child:
        made.solve(torch_child, goal, asked(goal))
    (folder,) = context.work_folder(f"{TRAININGS}{run.job_id}").iterdir()
    assert sorted(p.name for p in folder.glob("checkpoint-*"))[0] == "checkpoint-00000001"
