"""The recipe `transfer` and what comes with it: enough steps, inherited normalisation, class weights, likelihoods, the control."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from supernets.accuracy.likelihood import GROUPS, Scale, equal_to_best, standard_error
from supernets.data.catalog import load_digits, load_for
from supernets.data.normalisation import IMAGENET, KEY, Normalisation, header_of, normalisation_in
from supernets.data.splits import Dataset
from supernets.errors import InvalidCheckpoint, InvalidPreprocessing, InvalidTraining
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.spaces.space import pictures
from supernets.tasks.catalog import task_of
from supernets.tasks.task import Task
from supernets.training.catalog import RECIPES, TRANSFER, recipe_named
from supernets.training.control import control_recipe, from_scratch
from supernets.training.evaluation import Evaluator
from supernets.training.job import Job, said_of, train
from supernets.training.loop import Trainer
from supernets.training.recipe import Recipe, tuning_steps
from supernets.training.start import begin_with

RECIPE = recipe_named(TRANSFER)


@pytest.mark.parametrize(("samples", "epochs"), [(200, 34), (520, 13), (6400, 10), (40, 100)])
def test_few_data_get_as_many_steps_as_many(samples: int, epochs: int) -> None:
    steps = max(1, samples // RECIPE.batch_size)
    grown = RECIPE.for_steps_per_epoch(steps)
    assert grown.epochs == epochs and grown.epochs * steps >= 100
    assert grown.phases[0].warmup_epochs == 2 and grown.highest_rate == 1e-2 and grown.phases[0].networks == 3


def test_the_trainer_grows_its_recipe(space, dataset) -> None:
    trainer = Trainer(space, dataset, replace(RECIPE, batch_size=32), 0)
    assert trainer.recipe.epochs * trainer.steps_per_epoch >= 100 > RECIPE.epochs * trainer.steps_per_epoch


def test_recipes_of_before_are_written_as_before_and_new_fields_are_read_back() -> None:
    assert not {"least_steps", "scoring", "class_weights"} & set(RECIPES["quick"].to_json())
    weighted = replace(RECIPE, class_weights="auto")
    assert Recipe.from_json(weighted.to_json()) == weighted and Recipe.from_json(RECIPE.to_json()) == RECIPE
    assert weighted.of_weights() != RECIPE.of_weights()
    assert replace(RECIPE, scoring="quality").of_weights() == RECIPE.of_weights(), (
        "scoring follows the training"
    )


@pytest.mark.parametrize("wrong", [{"scoring": "loud"}, {"class_weights": "some"}])
def test_a_recipe_with_unknown_words_is_refused(wrong) -> None:
    with pytest.raises(InvalidTraining, match="scoring is one of"):
        replace(RECIPE, **wrong)


def rare(dataset):
    """Class d ten times rarer than the others."""
    rows = np.flatnonzero((dataset.train.labels != 3) | (np.arange(len(dataset.train)) < 12))
    return Dataset("rare", dataset.classes, dataset.train.take(rows), dataset.validation, dataset.test)


def test_under_class_weights_every_class_weighs_the_same(dataset) -> None:
    data = rare(dataset)
    task, labels = task_of(data), torch.from_numpy(data.train.labels)
    weights = task.class_weights(data)
    assert weights[3] > 5 * weights[0] and weights[labels].mean() == pytest.approx(1, abs=1e-6)
    summed = [float(weights[labels][labels == c].sum()) for c in range(4)]
    assert summed == pytest.approx([len(labels) / 4] * 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_under_class_weights_a_network_that_knows_nothing_best_finds_all_classes_alike(
    dataset, smoothing: float
) -> None:
    data = rare(dataset)
    task, labels = task_of(data), torch.from_numpy(data.train.labels)
    slopes = []
    for weights in (task.class_weights(data), torch.ones(4)):
        same = torch.zeros(4, requires_grad=True)
        task.weighted_loss(same.expand(len(labels), 4), labels, weights, smoothing=smoothing).backward()
        assert same.grad is not None
        slopes.append(same.grad)
    assert slopes[0] == pytest.approx([0.0] * 4, abs=1e-6)
    assert slopes[1][3] > 0.1, "plainly, the rare class is made less likely"


def test_equal_classes_are_the_plain_loss(dataset) -> None:
    task, labels = task_of(dataset), torch.arange(12) % 4
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    weighted = task.weighted_loss(logits, labels, torch.ones(4), smoothing=0.1)
    assert float(weighted) == pytest.approx(float(task.loss(logits, labels, smoothing=0.1)), abs=1e-6)


def test_the_trainer_takes_the_weights_of_the_recipe(space, dataset, sandwich) -> None:
    data = rare(dataset)
    plain, weighted = (Trainer(space, data, replace(sandwich, class_weights=w), 0) for w in (None, "auto"))
    batch = torch.arange(32)
    first, second = (float(one.backward(one.recipe.phases[0], batch, 0)) for one in (plain, weighted))
    assert plain.class_weights is None and first != second


def test_log_likelihoods_are_those_of_the_outputs_in_groups_of_the_same_samples(space, dataset) -> None:
    supernet = Supernet(space, generator=torch.Generator().manual_seed(1)).eval()
    networks = [space.largest(), space.smallest()]
    evaluator = Evaluator(supernet, dataset, likelihoods=True)
    plain = Evaluator(supernet, dataset).qualities(networks)
    assert (evaluator.qualities(networks) == plain).all()
    groups = evaluator.likelihoods(networks[0])
    assert (
        groups is not None and groups.shape == (min(GROUPS, len(dataset.validation)),) and (groups < 0).all()
    )
    assert Evaluator(supernet, dataset).likelihoods(networks[0]) is None
    inputs, targets = evaluator.samples(networks[0].resolution, evaluator.rows)
    from supernets.cut_out import cut_out
    from supernets.training.batchnorm import calibration_batches, recalibrate

    network = cut_out(supernet, networks[0])
    recalibrate(network, calibration_batches(dataset, networks[0].resolution, at_once=1000))
    with torch.no_grad():
        right = torch.log_softmax(network(inputs), 1)[torch.arange(len(targets)), targets]
    assert float(groups.mean()) == pytest.approx(float(right.mean()), abs=1e-4)


def test_many_samples_make_64_groups(space, dataset) -> None:
    split = dataset.validation.take(np.arange(130) % 40)
    data = Dataset("more", dataset.classes, dataset.train, split, dataset.test)
    evaluator = Evaluator(Supernet(space).eval(), data, likelihoods=True)
    evaluator.qualities([space.smallest()])
    groups = evaluator.likelihoods(space.smallest())
    whole = Evaluator(Supernet(space).eval(), data, likelihoods=True)
    assert groups is not None and groups.shape == (GROUPS,) and whole.likelihoods(space.smallest()) is None


def test_a_log_likelihood_is_read_as_the_accuracy_of_networks_with_it() -> None:
    scale = Scale.fit([0.5, 0.6, 0.7], [-1.5, -1.2, -0.9])
    assert scale is not None and scale.quality(-1.0) == pytest.approx(2 / 3)
    assert Scale.fit([0.7, 0.6, 0.5], [-1.5, -1.2, -0.9]) is None, (
        "likelier and worse: counted answers decide"
    )
    assert Scale.fit([0.7, 0.6], [-1.0, -1.0]) is None and Scale.fit([0.7], [-1.0]) is None
    assert Scale.fit([0.7, 0.6], [-1.0, -np.inf]) is None


def test_networks_within_one_standard_error_of_the_best_are_equal_to_it() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(-1, 1, 64)  # hard and easy ones, for every network alike
    best, near, far = samples, samples - generator.normal(0.001, 0.02, 64), samples - 0.1
    assert standard_error(best, far) == pytest.approx(0) and standard_error(best, near) < 0.01
    assert equal_to_best([far, best, near]) in ([1, 2], [1], [2])
    assert 0 not in equal_to_best([far, best, near]), "0.1 nats behind on every sample"
    assert equal_to_best([best, samples - generator.normal(0.0001, 0.5, 64)]) == [0, 1]
    assert equal_to_best([[-1.0], [-2.0]]) == [0, 1], "of one group nothing can be told"


def test_what_weights_expect_travels_in_their_file(tmp_path) -> None:
    own = Normalisation((10.5, 0.1, 3.0), (20.0, 1.0, 7.25))
    save_file({"a": torch.zeros(2)}, tmp_path / "with", own.header())
    save_file({"a": torch.zeros(2)}, tmp_path / "without")
    assert said_of(tmp_path / "with") == own and said_of(tmp_path / "without") is None
    assert own.with_channels(1) == Normalisation((13.6 / 3,), (28.25 / 3,))
    assert Normalisation((4.0,), (8.0,), 16).in_range(255) == Normalisation((63.75,), (127.5,), 255)
    assert (
        IMAGENET.in_range(255) is IMAGENET
        and IMAGENET.with_channels(3) is IMAGENET
        and normalisation_in(None) is None
    )


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        '{"mean": [1]}',
        '{"mean": [1], "deviation": [0]}',
        '{"mean": [NaN], "deviation": [1]}',
        "[]",
    ],
    ids=["text", "half", "zero", "nan", "list"],
)
def test_a_header_that_says_nonsense_is_refused(tmp_path, said) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "weights", {KEY: said})
    with pytest.raises(InvalidCheckpoint, match="header of the weights"):
        said_of(tmp_path / "weights")


def test_a_file_that_is_no_safetensors_has_no_header(tmp_path) -> None:
    (tmp_path / "weights").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="header"):
        header_of(tmp_path / "weights")
    with pytest.raises(InvalidPreprocessing):
        Normalisation((1.0,), (1.0, 2.0))


def test_a_training_from_weights_takes_their_normalisation_and_hands_it_on(tmp_path) -> None:
    space = space_named("digits-mbv3")
    weights = Supernet(space).state_dict()
    expects = Normalisation((3.0,), (9.0,), 16.0)
    file = tmp_path / "source.safetensors"
    save_file({n: v.contiguous() for n, v in weights.items()}, file, expects.header())
    import hashlib

    short = replace(RECIPE, batch_size=512, least_steps=0, phases=(replace(RECIPE.phases[0], epochs=2),))
    job = Job(
        space="digits-mbv3",
        dataset="digits",
        recipe=short.to_json(),
        out_dir=str(tmp_path / "out"),
        start=hashlib.sha256(file.read_bytes()).hexdigest(),
        start_file=str(file),
        threads=1,
    )
    description = train(job)
    assert said_of(tmp_path / "out" / "supernet.safetensors") == expects and description["epochs"] == 2
    data = job.as_start_expects(job.load_dataset())
    assert data.preprocessing(8).mean == (3.0,) and data.preprocessing(8).deviation == (9.0,)
    assert load_digits().preprocessing(8).mean != (3.0,), "the data set itself is as it was"


def test_a_stem_for_colours_is_summed_for_grey_pictures_and_shared_out_the_other_way(space) -> None:
    grey, colour = space, replace(space, name="tiny-colour", inputs=pictures(3))
    given = Supernet(colour, generator=torch.Generator().manual_seed(2)).eval()
    own = Supernet(grey).eval()
    begin_with(own, given.state_dict(), None)
    picture = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        first, second = given(picture.repeat(1, 3, 1, 1), colour.largest(8)), own(picture, grey.largest(8))
        assert torch.allclose(first, second, atol=1e-5)
        back = Supernet(colour).eval()
        begin_with(back, own.state_dict(), None)
        assert torch.allclose(back(picture.repeat(1, 3, 1, 1), colour.largest(8)), first, atol=1e-5)


def test_grey_arrays_are_repeated_for_a_space_of_colours() -> None:
    grey = load_digits()
    data = load_for(space_named("cifar-mbv3"), "digits")
    assert data.channels == 3 and (data.test.images[:, 2] == grey.test.images[:, 0]).all()
    assert data.mean.tolist() == grey.mean.tolist() * 3 and data.preprocessing(20).channel_order == "RGB"


def test_the_control_takes_as_many_steps_from_random_weights(space, dataset, tmp_path) -> None:
    recipe = replace(RECIPE, batch_size=32)
    own, steps = from_scratch(space, space.smallest(), dataset, recipe, 7, 0, tmp_path)
    assert steps == 9, "whole epochs of three steps"
    assert Evaluator(own, dataset, "test").qualities([space.smallest()]).shape == (1,)
    whole = control_recipe(recipe, 7, 3)
    assert whole.highest_rate == 1e-2 and whole.phases[0].teacher == "none" and whole.least_steps == 0


def test_a_task_without_classes_weighs_none(dataset) -> None:
    with pytest.raises(InvalidTraining, match="no classes to weigh"):
        Task.class_weights(task_of(dataset), dataset)
    with pytest.raises(InvalidTraining, match="no classes to weigh"):
        Task.weighted_loss(task_of(dataset), torch.zeros(1, 2), torch.zeros(1), torch.ones(2))
    assert Task.log_likelihoods(task_of(dataset), torch.zeros(1, 2), torch.zeros(1)) is None
    assert Task.expected(task_of(dataset), dataset) is None
    assert Task.as_expected(task_of(dataset), dataset, IMAGENET) is dataset


def test_images_must_be_split_into_what_the_space_has(space, dataset) -> None:
    with pytest.raises(InvalidTraining, match="choose another space"):
        Trainer(replace(space, name="c", inputs=pictures(3)), dataset, RECIPE, 0)


@pytest.mark.parametrize(("per_epoch", "steps"), [(3, 51), (8, 56), (200, 1000)])
def test_few_data_lengthen_a_fine_tuning_as_they_lengthen_the_training(per_epoch: int, steps: int) -> None:
    """100 steps at least for ten epochs are 50 for five, in whole epochs; the control has as many."""
    assert tuning_steps(recipe_named("transfer"), 5, per_epoch) == steps
    assert tuning_steps(recipe_named("standard"), 5, per_epoch) == 5 * per_epoch
