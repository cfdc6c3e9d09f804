"""Controls and their report, run in full on a tiny space."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from supernets.accuracy.predictor import QualityPredictor
from supernets.cut_out import cut_out
from supernets.data.splits import Dataset, Split
from supernets.errors import InvalidCheckpoint, InvalidTraining
from supernets.experiments.controls import alone_recipe, budget_networks, run_controls, unshrunk_recipe
from supernets.experiments.report import as_json, as_markdown, write_report
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES, space_named
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space, Stage, pictures
from supernets.training.catalog import recipe_named
from supernets.training.recipe import Phase, Recipe, tune_recipe
from supernets.training.tuning import alone, specialised, tuned

OPTIONS = tuple(Choice(kernel=k, expand=e) for k in (3, 5) for e in (2, 3))
STAGES = (
    Stage(
        "stem",
        "conv",
        (8,),
        choices=((Choice(kernel=3),),),
        settings={"activation": "hswish", "residual": False},
    ),
    Stage("body", "mbconv", (8,), depths=(1, 2), choices=(OPTIONS, OPTIONS), settings={"stride": 2}),
    Stage("head", "head", (2,), settings={"activation": "hswish", "feature_channels": 16}),
)
TINY = Space("tiny", "for tests", (8,), pictures(1), 2, STAGES, "none")
RECIPE = Recipe(
    "short",
    "for tests",
    (
        Phase("full", 1, 0.05, limits={"kernel": 1, "depth": 1, "expand": 1}),
        Phase("all", 2, 0.02, networks=2, teacher="frozen", sort_channels=True),
    ),
    batch_size=16,
)


def dataset():
    generator = np.random.default_rng(0)

    def split(size):
        labels = np.arange(size) % 2
        images = (
            generator.integers(0, 100, size=(size, 1, 8, 8)) + 4 * labels[:, None, None, None]
        )  # hard to tell
        return Split(images.astype(np.uint8), labels)

    return Dataset("light and dark", ("dark", "light"), split(48), split(20), split(20))


def test_controls_and_report(tmp_path):
    torch.set_num_threads(1)
    said = []
    found = run_controls(
        TINY, dataset(), RECIPE, 0, tmp_path / "work", networks=2, scored=12, progress=said.append
    )
    assert len(found.networks) == 2 and found.networks[0].macs < found.networks[1].macs
    assert all(
        0 <= value <= 1 for c in found.networks for value in (c.supernet, c.alone, c.without_shrinking)
    )
    mean = np.mean([c.alone - c.supernet for c in found.networks])
    assert found.loss_points == pytest.approx(100 * mean) and found.steps == 9
    assert "training without shrinking" in said
    paths = write_report(found, tmp_path / "report")
    assert json.loads(paths[0].read_text()) == as_json(found)
    read_back = [TINY.from_json(network["architecture"]) for network in as_json(found)["networks"]]
    assert read_back == [network.architecture for network in found.networks]
    assert as_markdown(found).count("\n| ") == 3 and paths[1].read_text() == as_markdown(found)
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_trains_nothing_twice(tmp_path):
    torch.set_num_threads(1)
    options = {"networks": [TINY.largest()], "scored": 10, "without_shrinking": False}
    first = run_controls(TINY, dataset(), RECIPE, 0, tmp_path, **options)
    again = run_controls(TINY, dataset(), RECIPE, 0, tmp_path, **options)
    assert again.networks == first.networks and again.supernet_seconds == first.supernet_seconds
    assert first.shrinking_gain_points is None and "not run" in as_markdown(first)
    assert "| million MACs | px | predicted % | sub-network % | alone % |\n" in as_markdown(
        first
    )  # no column without a figure


@pytest.mark.parametrize("name", SPACES)
def test_a_network_alone_is_the_same_network(name):
    space = space_named(name)
    (architecture,) = space.at(space.resolutions[:1]).sample(np.random.default_rng(0), 1)
    single = alone(space, architecture)
    assert single.count() == 1 and lower(single, architecture) == lower(space, architecture)


def test_a_network_alone_has_no_weights_to_spare():
    (architecture,) = TINY.sample(np.random.default_rng(3), 1)
    own = Supernet(alone(TINY, architecture))
    plain = cut_out(Supernet(TINY), architecture)
    assert sum(p.numel() for p in own.parameters()) == plain.parameter_count()


def test_controls_with_fine_tuning(tmp_path):
    torch.set_num_threads(1)
    options = {"networks": 2, "scored": 10, "without_shrinking": False, "tune_epochs": 2}
    found = run_controls(TINY, dataset(), RECIPE, 0, tmp_path / "work", **options)
    assert all(0 <= c.tuned <= 1 and c.tuned_seconds > 0 for c in found.networks)
    assert found.tuned_loss_points == pytest.approx(
        100 * np.mean([c.alone - c.tuned for c in found.networks])
    )
    assert "after fine-tuning" in as_markdown(found) and "adds 2 epochs" in as_markdown(found)
    assert "| sub-network % | fine-tuned % | alone % |\n" in as_markdown(found)
    assert write_report(found, tmp_path / "report")[2].read_bytes().startswith(b"\x89PNG")
    again = run_controls(TINY, dataset(), RECIPE, 0, tmp_path / "work", **options)
    assert again.networks == found.networks


@pytest.mark.parametrize("name", [name for name in SPACES if SPACES[name].generation is None])
def test_a_specialised_network_is_the_one_of_the_supernet(name):
    space = space_named(name)
    (architecture,) = space.at(space.resolutions[:1]).sample(np.random.default_rng(1), 1)
    supernet = Supernet(space, generator=torch.Generator().manual_seed(0)).eval()
    images = torch.randn(2, *space.input_shape(architecture.resolution))
    with torch.no_grad():
        expected = supernet(images, architecture)
        torch.testing.assert_close(specialised(supernet, architecture).eval()(images, architecture), expected)


def test_fine_tuning_starts_where_the_sub_network_is(tmp_path):
    torch.set_num_threads(1)
    supernet, architecture = Supernet(TINY), TINY.largest()
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    gentle = replace(
        tune_recipe(RECIPE, 1), phases=(replace(tune_recipe(RECIPE, 1).phases[0], learning_rate=1e-9),)
    )
    own, *_ = tuned(supernet, architecture, dataset(), gentle, 1, 0, tmp_path)
    start = specialised(supernet, architecture)
    for (key, after), first in zip(own.named_parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(after, first, msg=key)
    assert all(
        torch.equal(value, before[key]) for key, value in supernet.state_dict().items()
    )  # the supernet is left alone


def test_fine_tuning_of_other_weights_is_another_training(tmp_path):
    torch.set_num_threads(1)
    architecture = TINY.largest()
    own, *_ = tuned(
        Supernet(TINY, generator=torch.Generator().manual_seed(0)),
        architecture,
        dataset(),
        RECIPE,
        1,
        0,
        tmp_path,
    )
    again, *_ = tuned(
        Supernet(TINY, generator=torch.Generator().manual_seed(0)),
        architecture,
        dataset(),
        RECIPE,
        1,
        0,
        tmp_path,
    )
    for first, second in zip(own.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)
    with pytest.raises(InvalidCheckpoint, match="another training"):
        tuned(
            Supernet(TINY, generator=torch.Generator().manual_seed(1)),
            architecture,
            dataset(),
            RECIPE,
            1,
            0,
            tmp_path,
        )


@pytest.mark.parametrize("name", ["quick", "progressive"])
def test_controls_have_equal_steps(name):
    recipe = recipe_named(name)
    assert alone_recipe(recipe).epochs == unshrunk_recipe(recipe).epochs == recipe.epochs
    assert replace(alone_recipe(recipe), name=recipe.name, phases=recipe.phases) == recipe


def test_budgets_are_spread_over_the_front():
    genes = TINY.chain.sample(np.random.default_rng(0), 40)
    values = 0.9 + 0.01 * genes.sum(axis=1)
    chosen, seconds = budget_networks(TINY, QualityPredictor.fit(TINY, genes, values, folds=0), 3)
    macs = [sum(op.macs for op in lower(TINY, a)) for a in chosen]
    assert macs == sorted(set(macs)) and seconds >= 0


def test_nothing_asked(tmp_path):
    with pytest.raises(InvalidTraining):
        run_controls(TINY, dataset(), RECIPE, 0, tmp_path, networks=0)


def test_fine_tuning_for_no_epochs(tmp_path):
    with pytest.raises(InvalidTraining, match="at least one epoch"):
        tuned(Supernet(TINY), TINY.largest(), dataset(), RECIPE, 0, 0, tmp_path)
    with pytest.raises(InvalidTraining, match="fine-tuning"):
        run_controls(TINY, dataset(), RECIPE, 0, tmp_path, tune_epochs=-1)
