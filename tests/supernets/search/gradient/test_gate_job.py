"""Gate training as a job: it goes on where it was killed, and says where it stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernets.data.catalog import load_dataset
from supernets.data.splits import Dataset
from supernets.errors import InvalidCheckpoint, TrainingDiverged
from supernets.network import Supernet
from supernets.search.gradient.gate_job import GateProgress, gate_settings, steps_per_epoch, train_gates
from supernets.search.gradient.strategy import GateTraining, Settings
from supernets.training.catalog import RECIPES, recipe_named
from tests.supernets.search.gradient.test_strategy import problem_of, small_space, torch_generator

SPACE = small_space()
DIGITS = load_dataset("digits")
RECIPE = replace(recipe_named("trial"), batch_size=256)  # four steps an epoch
SETTINGS = Settings(warmup_epochs=1, epochs=2, every=1, architecture_rate=0.1)


class Killed(Exception):
    pass


def trained(
    folder: Path, *, supernet: Supernet | None = None, dataset: Dataset = DIGITS, **options: Any
) -> GateTraining:
    made = supernet or Supernet(SPACE, generator=torch_generator())
    given = {"seed": 3, "inputs": "a", **options}
    return train_gates(problem_of(SPACE, 0.3), made, SPACE, dataset, RECIPE, SETTINGS, folder=folder, **given)


def kill_at(done: int) -> Any:
    def report(progress: GateProgress) -> None:
        if progress.done >= done:
            raise Killed

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateTraining, list[GateProgress]]:
    said: list[GateProgress] = []
    return trained(tmp_path_factory.mktemp("whole"), report=said.append), said


def same(one: GateTraining, other: GateTraining) -> bool:
    pairs = zip(one.supernet.state_dict().values(), other.supernet.state_dict().values(), strict=True)
    return (
        one.history == other.history
        and np.array_equal(one.search.choices.logs(), other.search.choices.logs())
        and all(torch.equal(a, b) for a, b in pairs)
    )


@pytest.mark.parametrize("done", [5, 12])
def test_a_killed_training_ends_as_one_that_was_not(whole: Any, tmp_path: Path, done: int) -> None:
    with pytest.raises(Killed):
        trained(tmp_path, report=kill_at(done))
    said: list[GateProgress] = []
    assert same(trained(tmp_path, report=said.append), whole[0])
    assert min(p.done for p in said) > (done - 1) // 4 * 4, "no finished epoch was trained again"
    again = trained(tmp_path, report=kill_at(0))
    assert same(again, whole[0]), "what is finished is only read"


def test_progress_says_where_it_stands(whole: Any) -> None:
    training, said = whole
    ends = [p for p in said if p.done % 4 == 0]
    assert [(p.step.phase, p.step.epoch, p.epochs, p.done, p.total) for p in ends] == [
        ("warm-up", 1, 1, 4, 12), ("search", 1, 2, 8, 12), ("search", 2, 2, 12, 12),
    ]  # fmt: skip
    assert ends[-1].eta_s == 0 < ends[0].eta_s < ends[0].whole_s
    assert ends[-1].step.entropy < ends[0].step.entropy and ends[-1].step.expected_cost > 0
    assert training.history[0].loss > training.history[-1].loss


def test_the_supernet_stays_as_it_is(tmp_path: Path) -> None:
    supernet = Supernet(SPACE, generator=torch_generator())
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    with pytest.raises(Killed):
        trained(tmp_path, supernet=supernet, report=kill_at(4))
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_damaged_and_foreign_checkpoints(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(tmp_path, report=kill_at(12))
    newest = max(tmp_path.glob("checkpoint-*")) / "choices.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    assert same(trained(tmp_path), whole[0]), "it goes on at the checkpoint before the damaged one"
    with pytest.raises(InvalidCheckpoint, match="another training"):
        trained(tmp_path, inputs="b")


def test_a_loss_that_is_not_a_number_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(tmp_path, report=kill_at(5))
    broken = Supernet(SPACE, generator=torch_generator())
    data = replace(DIGITS)
    data.__dict__["deviation"] = np.full(1, np.nan, dtype=np.float32)
    with pytest.raises(TrainingDiverged, match="another strategy") as error:
        trained(tmp_path, supernet=broken, dataset=data)
    assert (error.value.phase, error.value.epoch, error.value.step) == ("search", 1, 1)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000001"]


def test_longer_recipes_search_longer_and_surely() -> None:
    found = [gate_settings(recipe, 16) for recipe in RECIPES.values()]
    assert [s.epochs for s in found] == sorted(s.epochs for s in found) and found[0].epochs < found[-1].epochs
    assert all(s.warmup_epochs >= 1 and s.architecture_rate * s.epochs * 16 >= 1 for s in found)
    assert gate_settings(RECIPES["quick"], 5000).architecture_rate == Settings.architecture_rate, (
        "never slower than published"
    )
    assert gate_settings(RECIPES["quick"], 16, epochs=3).epochs == 3
    assert (
        steps_per_epoch(DIGITS, RECIPE) == 4
        and steps_per_epoch(DIGITS, replace(RECIPE, batch_size=5000)) == 1
    )
