"""One contract for every task of the catalog; a task that a distribution adds inherits it, with its data sets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from latency_tables.inputs import SIZE, InputSpec
from supernets.data.catalog import DATASETS
from supernets.data.splits import evenly_spread
from supernets.delivery.catalog import Delivery
from supernets.errors import InvalidTraining
from supernets.spaces.catalog import SPACES
from supernets.tasks.catalog import TASKS, register_task, task_named, task_of
from supernets.tasks.data import Data
from supernets.tasks.info import TaskInfo
from supernets.tasks.metric import ACCURACY, Metric
from supernets.training.batchnorm import calibration_batches, example_bytes
from supernets.training.catalog import recipe_named
from supernets.training.losses import network_loss
from supernets.training.recipe import Augmentation

LARGE = ("glyphs",)  # rendered for a minute; the same task as digits
SETS = [name for name in DATASETS if name not in LARGE]
every_set = pytest.mark.parametrize("name", SETS)
CPU = torch.device("cpu")


@cache
def data_of(name: str) -> Data:
    return DATASETS[name].load(None)


def condition_of(name: str) -> int:
    """The size that the data are kept in: nothing has to be resized."""
    return DATASETS[name].size


def test_every_task_has_a_data_set_and_every_data_set_a_task() -> None:
    assert {info.task for info in DATASETS.values()} == set(TASKS)


@every_set
def test_a_data_set_says_of_itself_what_the_catalog_says(name: str) -> None:
    data, info = data_of(name), DATASETS[name]
    assert (data.name, data.task, len(data.classes)) == (name, info.task, info.classes)
    sizes = [len(data.split(split)) for split in ("train", "validation", "test")]
    assert min(sizes) > 0
    with pytest.raises(ValueError, match="validation"):
        data.split("holdout")


@every_set
def test_what_is_trained_on_is_what_is_evaluated(name: str) -> None:
    """Without augmentation and at the stored size both ways to the data give the same inputs and targets."""
    data, task = data_of(name), task_of(data_of(name))
    batches, rows = task.batches(data, "train", CPU), np.array([3, 0, 1])
    assert len(batches) == len(data.split("train"))
    stored, targets = batches[torch.from_numpy(rows)]
    trained = task.prepare(stored, condition_of(name), Augmentation(), torch.Generator().manual_seed(0))
    inputs, wanted = task.examples(data, "train", condition_of(name), rows)
    assert torch.allclose(trained, inputs, atol=1e-5) and torch.equal(targets, wanted)
    assert example_bytes(data, condition_of(name)) * 3 == inputs.nbytes


@every_set
def test_the_same_generator_gives_the_same_inputs(name: str) -> None:
    data, task = data_of(name), task_of(data_of(name))
    stored, _ = task.batches(data, "train", CPU)[torch.arange(4)]
    every = Augmentation(0.1, 5, 0.1, 0.1, 0.1, 0.1, True, 0.2)
    made = [
        task.prepare(stored, condition_of(name), every, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert made[0].shape == stored.shape


def outputs_like(name: str, samples: int) -> torch.Tensor:
    """Random outputs: of each class, for each target of a sample where it has several."""
    data = data_of(name)
    _, targets = task_of(data).examples(data, "train", condition_of(name), np.arange(1))
    shape = (samples, *targets.shape[1:], DATASETS[name].classes)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@every_set
def test_a_tally_adds_up_over_parts_and_its_quality_lies_in_the_range(name: str) -> None:
    data, task = data_of(name), task_of(data_of(name))
    rows = evenly_spread(len(data.split("validation")), 60)
    _, targets = task.examples(data, "validation", condition_of(name), rows)
    outputs = outputs_like(name, len(rows))
    whole = task.tally(outputs, targets)
    parts = task.tally(outputs[:17], targets[:17]) + task.tally(outputs[17:], targets[17:])
    assert np.allclose(whole, parts)
    metric, quality = TASKS[data.task].metric, task.quality(whole)
    assert metric.quality(metric.value(quality)) == pytest.approx(quality)


@every_set
def test_training_on_the_loss_makes_the_quality_better(name: str) -> None:
    """Outputs that follow the gradient of the loss get better, and an imitation comes nearer to its teacher."""
    data, task, recipe = data_of(name), task_of(data_of(name)), recipe_named("trial")
    _, targets = task.examples(data, "train", condition_of(name), np.arange(40))
    outputs = outputs_like(name, 40).requires_grad_()
    before = task.quality(task.tally(outputs.detach(), targets))
    optimiser = torch.optim.Adam([outputs], 0.2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = network_loss(task, outputs, targets, None, recipe)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    after = task.quality(task.tally(outputs.detach(), targets))
    assert losses[-1] < losses[0] and after > before
    pupil, teacher = outputs_like(name, 40), outputs.detach()
    near, far = (float(task.imitation(one, teacher)) for one in (teacher, pupil))
    assert near < far


@every_set
def test_calibration_samples_are_of_the_training_split_and_bounded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, condition = data_of(name), condition_of(name)
    (found,) = calibration_batches(data, condition, 8, at_once=8)
    rows = evenly_spread(len(data.split("train")), 8)
    assert torch.equal(found, task_of(data).examples(data, "train", condition, rows)[0])
    monkeypatch.setattr("supernets.training.batchnorm.CALIBRATION_BYTES", 3 * example_bytes(data, condition))
    assert [len(batch) for batch in calibration_batches(data, condition, 8, at_once=2)] == [2, 1]


@every_set
def test_a_file_is_described_as_it_is_fed(name: str) -> None:
    data, task, condition = data_of(name), task_of(data_of(name)), condition_of(name)
    said = task.input_of(data, condition, Delivery(batch_size=None), "input")
    assert set(said) >= {"name", "layout", "dtype", "shape", "steps", "inside"}
    inputs, _ = task.examples(data, "test", condition, np.arange(2))
    assert said["name"] == "input" and said["shape"] == [None, *inputs.shape[1:]]
    assert len(said["layout"]) == inputs.ndim and said["inside"] == []


@every_set
def test_by_class_counts_every_sample_once(name: str) -> None:
    data, task = data_of(name), task_of(data_of(name))
    rows = np.arange(len(data.split("test")))
    _, targets = task.examples(data, "test", condition_of(name), rows)
    found = task.by_class(task.tally(outputs_like(name, len(rows)), targets), data)
    if found:
        assert [one["name"] for one in found] == list(data.classes)
        assert sum(one["samples"] for one in found) == len(rows)


@every_set
def test_a_space_of_other_outputs_is_refused(name: str) -> None:
    data = data_of(name)
    for space in SPACES.values():
        with pytest.raises(InvalidTraining):
            task_of(data).check(space.with_classes(len(data.classes) + 1), data)


def test_an_unknown_task_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidTraining, match="images"):
        task_named("divination")


def test_a_name_belongs_to_one_task() -> None:
    known = TASKS["images"]
    register_task(known)
    with pytest.raises(ValueError, match="another name"):
        register_task(TaskInfo("images", "something else", ACCURACY, known.load))
    assert TASKS["images"] is known


ERROR = Metric("mean_error_hz", higher_is_better=False, lowest=0.0, highest=None)
SHARE_WRONG = Metric("error", higher_is_better=False)


@pytest.mark.parametrize("metric", [ACCURACY, ERROR, SHARE_WRONG], ids=lambda m: m.name)
def test_a_better_value_is_a_higher_quality(metric: Metric) -> None:
    better, worse = (0.9, 0.2) if metric.higher_is_better else (0.2, 0.9)
    assert metric.quality(better) > metric.quality(worse)
    assert metric.value(metric.quality(better)) == better
    assert np.array_equal(metric.value(metric.quality(np.array([better, worse]))), [better, worse])
    assert Metric.from_json(metric.to_json()) == metric


def test_a_value_stays_within_the_range_and_an_open_range_has_no_best() -> None:
    assert (ACCURACY.value(1.2), ACCURACY.value(-0.1)) == (1.0, 0.0)
    assert ERROR.value(5.0) == 0.0 and ERROR.value(-700.0) == 700.0
    assert (ERROR.worst, ERROR.best) == (None, 0.0) and (SHARE_WRONG.worst, SHARE_WRONG.best) == (-1.0, 0.0)
    assert SHARE_WRONG.share(-0.25) == 0.75 and ERROR.variance(-3.0, 100) is None
    with pytest.raises(ValueError, match="below the highest"):
        Metric("none", lowest=1.0, highest=1.0)


def test_the_variance_of_right_and_wrong_answers_is_that_of_a_share() -> None:
    assert ACCURACY.variance(0.8, 400) == pytest.approx(0.8 * 0.2 / 400)
    assert ACCURACY.variance(1.0, 20) == pytest.approx(0.25 / 20 / 20), "100 % of few samples promises little"


def test_a_space_that_takes_no_pictures_is_refused_before_anything_is_loaded() -> None:
    space, refusal = SPACES["digits-mbv3"], task_named("images").refusal
    assert refusal(space, (3, 1)) is None and refusal(space, (None,)) is not None
    assert refusal(space, (3,)) == "the space takes 1 channel(s), the data set has 3"
    deaf = replace(space, inputs=(InputSpec("input", (1, SIZE)),))
    assert "take no pictures" in str(refusal(deaf, (1,)))
